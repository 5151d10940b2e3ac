//! The runtime of a member.
//!
//! [`Node::start`] makes a running member from a [`Config`]; [`Handle`] is what its door holds.
//! [`restore`] makes a member's data directory from a backup.
//! Everything that decides is in [`core`], which is deterministic; everything that waits, for a
//! disk, a peer or the clock, is in `runtime`, which decides nothing.

pub mod boot;
mod config;
pub mod core;
mod engines;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod handle;
mod metrics;
mod mutants;
mod runtime;
mod transport;
#[cfg(any(test, feature = "versions"))]
pub mod versions;
mod wire;

pub use config::{Config, InitialState};
pub use core::Reads;
pub use engines::EnginesError;
pub use handle::{FEED_COMMITS_MAX, Handle};
#[cfg(feature = "mutants")]
pub use mutants::{Mutant, switch as switch_mutant};
pub use runtime::{Node, Outcome, Restore, RestoreError, RestoredRevisions, StartError, restore};
pub use store::{NodeId, RangeId};
pub use transport::{address_of, bind};

/// Bytes that may still be written to the file system of `dir`.
///
/// # Errors
/// The file system's.
pub fn free_bytes(dir: &std::path::Path) -> std::io::Result<u64> {
    env::Disk::free_bytes(&env::RealDisk, dir)
}

/// The state engine that nodes use.
pub type Engine = storage::RedbEngine<env::RealDisk>;
