//! The Raft consensus core: sans-io, deterministic, asynchronous storage.

mod config;
mod error;
mod types;

pub use config::Config;
pub use error::{MembershipRefused, Refused, RestoreError, Stopped};
pub use types::*;

/// Where accepted proposals will be in the log, if they are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Index of the first; the others follow.
    pub first_index: LogIndex,
    /// Their term. An entry of another term at that index is somebody else's.
    pub term: Term,
}
