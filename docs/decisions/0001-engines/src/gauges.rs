//! What the kernel says of this process: CPU, bytes written, memory; and of a directory: its size.

use std::io;
use std::ops::Sub;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// CPU time of all threads, also of those that have ended.
pub(crate) fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// CPU time of the thread that asks.
pub(crate) fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Bytes that the process has written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Handed to the system in calls that write.
    pub(crate) calls: u64,
    /// Of pages of files that became dirty by it (`write_bytes`). With large folios the kernel counts a
    /// whole folio where a page of it was written.
    pub(crate) pages: u64,
}

impl Sub for Written {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { calls: self.calls - before.calls, pages: self.pages - before.pages }
    }
}

/// See [`Written`].
pub(crate) fn written() -> io::Result<Written> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    Ok(Written { calls: field(&text, "wchar:")?, pages: field(&text, "write_bytes:")? })
}

/// Resident memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// The process's own.
    pub(crate) anonymous: u64,
    /// Mapped from files.
    pub(crate) file: u64,
}

/// See [`Memory`].
pub(crate) fn memory() -> io::Result<Memory> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let bytes = |name| Ok::<_, io::Error>(field(&text, name)? * 1024);
    Ok(Memory { anonymous: bytes("RssAnon:")?, file: bytes("RssFile:")? })
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("no {name} in /proc")))
}

/// What the files below `dir` take of the disk.
pub(crate) fn disk_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may vanish meanwhile: fjall removes its own in the background.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += disk_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// What the file system of `dir` has left.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail * stat.f_frsize)
}
