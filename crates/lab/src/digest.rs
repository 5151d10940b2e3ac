//! The running hash of a run.
//!
//! Two runs with equal digests went through the same events, in the same order, at the same times. FNV-1a
//! over what is fed in, numbers always as eight little-endian bytes, so that the digest in a test is the
//! same on every platform. Not for keeping adversaries out.

use std::fmt;
use std::hash::{Hash, Hasher};

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Takes something in.
    pub fn absorb(&mut self, what: &(impl Hash + ?Sized)) {
        what.hash(self);
    }

    /// The digest of one thing.
    #[must_use]
    pub fn of(what: &(impl Hash + ?Sized)) -> u64 {
        let mut digest = Self::default();
        digest.absorb(what);
        digest.finish()
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        // FNV's last byte hardly reaches the upper bits; one round of mixing spreads it.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write(&[n]);
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write(&(n as i64).to_le_bytes());
    }

    fn write_i64(&mut self, n: i64) {
        self.write(&n.to_le_bytes());
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.finish())
    }
}
