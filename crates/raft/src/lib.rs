//! The Raft consensus core: sans-io, deterministic, asynchronous storage.

mod config;
mod error;
mod log;
mod membership;
mod mutants;
mod pcg;
mod progress;
mod raft;
mod types;
mod writes;

pub use config::Config;
pub use error::{MembershipRefused, Refused, RestoreError, Stopped};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use raft::{PeerFlow, PeerStatus, Proposed, Raft};
pub use types::*;
