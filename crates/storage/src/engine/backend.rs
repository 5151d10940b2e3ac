//! What redb stores its pages in: a file of the disk port.
//!
//! This is what lets the engine run over a simulated disk, and be crashed at every write.

use std::fmt;
use std::io;
use std::path::PathBuf;

use env::{Disk, DiskFile};

/// A file as redb wants it.
pub(super) struct Backend<D: Disk> {
    pub file: D::File,
    pub disk: D,
    /// Where the file is.
    pub dir: PathBuf,
}

impl<D: Disk> fmt::Debug for Backend<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl<D: Disk> redb::StorageBackend for Backend<D> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.file.read_at(out, offset)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // redb doubles its file, most of which it may never use. That is reserved, in one piece, only
        // if it leaves as much to others; on a disk that is nearly full each page is paid for when it
        // is written, and `RedbEngine` sees to it that there is room before a batch begins.
        let growth = len.saturating_sub(self.file.len()?);
        if growth > 0 && self.disk.free_bytes(&self.dir)? / 2 >= growth {
            self.file.allocate(len)
        } else {
            self.file.set_len(len)
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
