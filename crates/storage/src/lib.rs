//! The shared log and the state engine: what a store keeps on disk.
//!
//! - [`log`] is the one log of all Raft groups of a store.
//! - [`engine`] is the state engine behind the port of `mvcc`, on redb.

pub mod engine;
pub mod log;

pub use engine::{EngineOptions, RedbEngine};
