//! Free ports on loopback, from a fixed range of our own.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 12_480;
const COUNT: u16 = 120;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nothing listens on now, and that this process has not handed out lately.
///
/// # Errors
/// When all of the range is taken.
pub fn free() -> Result<u16> {
    // Two processes of this suite start at different places, so that they rarely probe the same port.
    let offset = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST + (offset + step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port in {FIRST}..{}", FIRST + COUNT)
}
