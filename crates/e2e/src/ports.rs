//! Free ports on loopback, from a fixed range of our own.
//!
//! A server is stopped and started again on its port, so a port belongs to the process that handed it out until that
//! process ends: a lock on a file named after the port says so to the other suites on the machine.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

const FIRST: u16 = 12_480;
const COUNT: u16 = 120;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// The ports of this process, with their locks.
static OWNED: Mutex<BTreeMap<u16, File>> = Mutex::new(BTreeMap::new());

/// Makes `port` this process's own; false if it is another's.
fn own(port: u16) -> Result<bool> {
    let mut owned = OWNED.lock().unwrap_or_else(PoisonError::into_inner);
    if owned.contains_key(&port) {
        return Ok(true);
    }
    let dir = std::env::temp_dir().join("quorate-e2e-ports");
    std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
    let path = dir.join(port.to_string());
    let file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            owned.insert(port, file);
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{}", path.display()))
        }
    }
}

/// A port that nothing listens on now, and that this process has not handed out lately.
///
/// # Errors
/// When all of the range is taken, or the temporary directory refuses the locks.
pub fn free() -> Result<u16> {
    // Two processes of this suite start at different places, so that they rarely probe the same port.
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        if own(port)? && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port in {FIRST}..{}", FIRST + COUNT)
}
