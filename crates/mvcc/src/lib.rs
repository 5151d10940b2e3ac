//! Keys, versions and revisions: the multi-version state.

pub mod engine;
mod types;

pub use types::{Change, Commit, KeySpan, LeaseId, Record, Revision};
