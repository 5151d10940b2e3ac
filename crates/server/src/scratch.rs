//! The file in which a snapshot is made, and the room it may take.
//!
//! It has no name: it is gone with its last handle, however the call or the process ends. Where a
//! file system cannot make such a file it has a name for a moment, and a crash in that moment
//! leaves it behind, empty; the directory is therefore cleared at each start.
//!
//! The snapshot must not take the room that the log and the state live from. So before each piece
//! of it is written the file system is asked what is left, and below the reserve the snapshot is
//! given up, with an error that says so, while everybody else has room still. The same place is
//! where a client that has gone away is noticed.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// So much is written between two looks at the free space.
const LOOK_BYTES: u64 = 4 << 20;

/// Makes the directory if need be, and removes what is in it.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Why a snapshot is not made to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRoom {
    /// The file system has less than what is kept for others.
    #[error(
        "no room for a snapshot in {}: {free_bytes} bytes are free, {wanted_bytes} are needed \
         (--snapshot-dir puts it elsewhere)",
        .dir.display()
    )]
    Space {
        /// Where.
        dir: PathBuf,
        /// What there is.
        free_bytes: u64,
        /// What there should be.
        wanted_bytes: u64,
    },
    /// Nobody waits for it any more.
    #[error("the client is gone")]
    Gone,
}

/// Who a snapshot is for, and where it may be made.
pub(crate) struct Scratch<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) reserve_bytes: u64,
    pub(crate) is_gone: &'a dyn Fn() -> bool,
}

impl<'a> Scratch<'a> {
    /// An empty file, if about `bytes` fit.
    pub(crate) fn file(self, bytes: u64) -> io::Result<ScratchFile<'a>> {
        self.look(bytes)?;
        let file = tempfile::tempfile_in(self.dir)?;
        Ok(ScratchFile { file, scratch: self, unlooked: 0 })
    }

    /// An empty file for what does not fit into memory on the way.
    pub(crate) fn side_file(&self) -> io::Result<File> {
        self.look(LOOK_BYTES)?;
        tempfile::tempfile_in(self.dir)
    }

    fn look(&self, bytes: u64) -> io::Result<()> {
        if (self.is_gone)() {
            return Err(io::Error::other(NoRoom::Gone));
        }
        let free_bytes = node::free_bytes(self.dir)?;
        let wanted_bytes = self.reserve_bytes.saturating_add(bytes);
        if free_bytes >= wanted_bytes {
            return Ok(());
        }
        let dir = self.dir.to_owned();
        let full = NoRoom::Space { dir, free_bytes, wanted_bytes };
        Err(io::Error::new(io::ErrorKind::StorageFull, full))
    }
}

/// A file without a name that leaves room for others.
pub(crate) struct ScratchFile<'a> {
    file: File,
    scratch: Scratch<'a>,
    /// Bytes written since the last look.
    unlooked: u64,
}

impl<'a> ScratchFile<'a> {
    /// Where it is, for files beside it.
    pub(crate) fn scratch(&self) -> &Scratch<'a> {
        &self.scratch
    }

    /// The file, once it is whole.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl Write for ScratchFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unlooked >= LOOK_BYTES {
            self.scratch.look(LOOK_BYTES)?;
            self.unlooked = 0;
        }
        let written = self.file.write(bytes)?;
        self.unlooked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for ScratchFile<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn scratch<'a>(
        dir: &'a Path,
        reserve_bytes: u64,
        is_gone: &'a dyn Fn() -> bool,
    ) -> Scratch<'a> {
        Scratch { dir, reserve_bytes, is_gone }
    }

    #[test]
    fn what_a_crash_has_left_is_removed_and_directories_are_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        clear(&dir).unwrap();
        fs::write(dir.join("left"), b"x").unwrap();
        fs::create_dir(dir.join("strange")).unwrap();
        clear(&dir).unwrap();
        assert!(!dir.join("left").exists() && dir.join("strange").exists());
    }

    #[test]
    fn a_file_has_no_name_and_stops_while_there_is_room_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let here = || false;
        let free = node::free_bytes(dir.path()).unwrap();
        let refused = scratch(dir.path(), 0, &here).file(free * 2).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(refused.to_string().contains("--snapshot-dir"), "{refused}");
        assert!(scratch(dir.path(), u64::MAX, &here).file(0).is_err());
        let mut file = scratch(dir.path(), 0, &here).file(1).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // Others have taken the room meanwhile.
        file.scratch.reserve_bytes = u64::MAX;
        let piece = vec![0; 1 << 20];
        let failed = (0..16).find_map(|_| file.write_all(&piece).err());
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_client_that_goes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Cell::new(false);
        let is_gone = || gone.get();
        let mut file = scratch(dir.path(), 0, &is_gone).file(1).unwrap();
        gone.set(true);
        let piece = vec![0; 1 << 20];
        let failed = (0..16).find_map(|_| file.write_all(&piece).err()).unwrap();
        assert!(failed.to_string().contains("gone"), "{failed}");
    }
}
