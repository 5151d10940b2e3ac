//! The shared log and the state engine: what a store keeps on disk.
//!
//! - [`log`] is the one log of all Raft groups of a store.
//! - [`engine`] is the state engine behind the port of `mvcc`, on redb.
//! - [`data_dir`] is the directory both live in, locked and labelled.

pub mod data_dir;
pub mod engine;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod log;
mod mutants;

pub use data_dir::{DataDir, DataDirError, Identity};
pub use engine::{EngineOptions, RedbEngine};
pub use log::{GroupWrite, Log, LogReader};
#[cfg(feature = "mutants")]
pub use mutants::{Mutant, switch as switch_mutant};
