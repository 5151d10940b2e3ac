//! The shared log and the state engine: what a store keeps on disk.
//!
//! - [`log`] is the one log of all Raft groups of a store.

pub mod log;
