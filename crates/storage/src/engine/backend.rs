//! What redb stores its pages in: a file of the disk port.
//!
//! This is what lets the engine run over a simulated disk, and be crashed at every write.

use std::fmt;
use std::io;

use env::DiskFile;

/// A file as redb wants it.
pub(super) struct Backend<F>(pub F);

impl<F> fmt::Debug for Backend<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl<F: DiskFile> redb::StorageBackend for Backend<F> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // Reserved where the file system can, so that a full disk is met here and not later.
        if len > self.0.len()? { self.0.allocate(len) } else { self.0.set_len(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
