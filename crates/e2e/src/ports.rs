//! Free ports on loopback, from a fixed range.
//!
//! Between the moment at which a port is found free and the one at which a server listens there, another process of
//! these suites could find it too, and the clients of one would write to the servers of the other. So each process
//! takes one block of the range for itself, by a lock on a file that the system drops with the process.
//! `QUORATE_PORTS` moves the range: it is the first of its 120 ports.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 12_480;
/// Enough for two clusters of five and their successors.
const BLOCK: u16 = 30;
const BLOCKS: u16 = 4;

#[derive(Debug)]
struct Block {
    first: u16,
    next: AtomicU16,
    /// Held until the process ends.
    _lock: File,
}

impl Block {
    fn take(range: u16, locks: &Path) -> Result<Self> {
        for first in (0..BLOCKS).map(|number| range + number * BLOCK) {
            let path = locks.join(format!("quorate-e2e-ports-{first}.lock"));
            let file =
                File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => return Ok(Self { first, next: AtomicU16::new(0), _lock: file }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        bail!("{BLOCKS} processes of these suites run already: no ports are left for one more")
    }

    fn free(&self) -> Result<u16> {
        for _ in 0..BLOCK {
            let port = self.first + self.next.fetch_add(1, Ordering::Relaxed) % BLOCK;
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(port);
            }
        }
        bail!("no free port in {}..{}", self.first, self.first + BLOCK)
    }
}

/// A port that nothing listens on now, that no other process of these suites is given, and that this one has not
/// handed out lately.
///
/// # Errors
/// When all of the range is taken.
pub fn free() -> Result<u16> {
    static OWN: OnceLock<Result<Block, String>> = OnceLock::new();
    let take = || Block::take(range()?, &std::env::temp_dir());
    match OWN.get_or_init(|| take().map_err(|error| format!("{error:#}"))) {
        Ok(block) => block.free(),
        Err(error) => bail!("{error}"),
    }
}

fn range() -> Result<u16> {
    let Ok(text) = std::env::var("QUORATE_PORTS") else { return Ok(FIRST) };
    let first = text.parse().ok().filter(|first: &u16| first.checked_add(BLOCK * BLOCKS).is_some());
    first
        .filter(|first| *first >= 1024)
        .with_context(|| format!("QUORATE_PORTS={text}: not a port for 120"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_disjoint() {
        // Two files in one process exclude each other as those of two processes do.
        let locks = tempfile::tempdir().unwrap();
        let mut blocks: Vec<Block> =
            (0..BLOCKS).map(|_| Block::take(FIRST, locks.path()).unwrap()).collect();
        let full = Block::take(FIRST, locks.path()).unwrap_err();
        assert!(full.to_string().contains("no ports are left"), "{full}");
        let mut firsts: Vec<u16> = blocks.iter().map(|block| block.first).collect();
        firsts.dedup();
        assert_eq!(firsts.len(), usize::from(BLOCKS));
        let freed = blocks.remove(1).first;
        assert_eq!(Block::take(FIRST, locks.path()).unwrap().first, freed);
    }
}
