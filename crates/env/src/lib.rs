//! Ports to the outside: what the deterministic crates may ask of the machine they run on.
//!
//! Below `node` nothing opens a file, reads a clock or draws a random number by itself: it asks
//! a port, and a port has two sides. [`RealDisk`] is the machine's file system; [`SimDisk`] keeps
//! everything in memory, forgets at a crash what a real disk may forget, and fails on request,
//! all of it decided by a seed. Time and randomness need no trait: they are passed in as plain
//! values (`now: Duration`, `seed: u64`); [`SplitMix64`] turns a seed into a stream.

pub mod disk;
mod seed;

pub use disk::{Disk, DiskFile, Misread, RealDisk, SimDisk};
pub use seed::SplitMix64;
