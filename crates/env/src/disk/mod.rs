//! The disk port: files, and what is left of them after a crash.
//!
//! The calls are blocking and few; whoever must not block calls them from a thread of its own.
//! What each call promises *after a crash* is the point of the trait, and the simulated disk
//! takes every liberty these sentences leave:
//!
//! - [`DiskFile::write_at`] promises nothing. Any subset of the sectors ([`SECTOR_BYTES`]) written
//!   since the last successful `sync` may survive, in any order. One sector is old or new, never
//!   a mixture.
//! - [`DiskFile::sync`] that returned `Ok` promises all writes and the length of that file. One
//!   that returned an error promises nothing, then and for ever: the next sync of the same data
//!   may "succeed" without it (Rebello et al., "Can Applications Recover from fsync Failures?",
//!   ATC 2020). The only sound answer is to stop.
//! - [`Disk::create`], [`Disk::rename`] and [`Disk::remove`] change the directory; the change
//!   survives only after [`Disk::sync_dir`]. A rename is atomic: one name or the other.
//! - [`DiskFile::allocate`] that returned `Ok` promises that writes into the allocated length do
//!   not run out of space.
//!
//! Caveat: a copy-on-write file system (btrfs, ZFS) does not keep the promise of `allocate`, and
//! some virtual disks lie about `sync`. Neither can be seen from here.

mod real;
mod sim;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

pub use real::RealDisk;
pub use sim::{FaultCounts, Misread, SimDisk};

/// What a crash writes whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A file system, or a part of one. Clones share it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// A lock on a file, released when dropped (and by the end of the process).
    type Lock: Send + Sync + 'static;

    /// Creates a file that does not exist, for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` if it exists; `StorageFull`; any other of the file system.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that exists, for reading and writing.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; any other of the file system.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Makes a directory and those above it that do not exist yet, durably.
    ///
    /// # Errors
    /// Any of the file system.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same directory, replacing what had that name.
    ///
    /// # Errors
    /// `NotFound` if `from` does not exist; any other of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Open handles keep its contents readable.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; any other of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted bytewise. Names that are not UTF-8 are
    /// left out: nothing here makes such names.
    ///
    /// # Errors
    /// `NotFound` if the directory does not exist; any other of the file system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes all creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// Any of the file system; the state of the directory after a crash is then unknown.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that unprivileged users may still allocate on the file system of `dir`.
    ///
    /// # Errors
    /// Any of the file system.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Takes an exclusive lock on the file `path`, created if need be, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if someone else, in this process or another, holds it; any other of the
    /// file system.
    fn lock(&self, path: &Path) -> io::Result<Self::Lock>;
}

/// An open file. Reads and writes name their offset, so that threads may share it.
pub trait DiskFile: Send + Sync + 'static {
    /// Fills `buffer` from `offset` on and returns how much of it was filled; less than all
    /// only at the end of the file.
    ///
    /// # Errors
    /// Any of the file system. An error is never the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data` at `offset`, growing the file if need be. Not durable.
    ///
    /// # Errors
    /// `StorageFull`, or any other of the file system; part of the data may then be there.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written, and the length, durable.
    ///
    /// # Errors
    /// Any of the file system. What was not durable before may never be: do not try again.
    fn sync(&self) -> io::Result<()>;

    /// Reserves space for the first `bytes` of the file; a file that is shorter grows with
    /// zeros to that length.
    ///
    /// # Errors
    /// `StorageFull` if there is no room; any other of the file system.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Makes the file exactly `bytes` long: cuts it, or grows it with zeros.
    ///
    /// # Errors
    /// `StorageFull`, or any other of the file system.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// The bytes that the file takes on disk: fewer than its length where nothing was ever written.
    ///
    /// # Errors
    /// Any of the file system.
    fn allocated_bytes(&self) -> io::Result<u64>;

    /// The length in bytes.
    ///
    /// # Errors
    /// Any of the file system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    ///
    /// # Errors
    /// Any of the file system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
