//! Keys, versions and revisions: the multi-version state.

mod chain;
mod checkpoint;
mod collect;
mod counts;
mod disk;
pub mod engine;
mod error;
mod events;
mod export;
mod hash;
mod history;
mod import;
mod layout;
mod memtable;
mod meta;
#[cfg(test)]
mod model;
mod mutant;
mod record;
mod scan;
mod span;
mod state;
mod types;
mod view;

pub use checkpoint::{CheckpointJob, Done};
pub use collect::CollectJob;
pub use error::ReadError;
pub use events::Events;
pub use export::{CHUNK_BYTES_MAX, Export};
pub use hash::KvHash;
pub use import::{Import, ImportError};
pub use meta::MetaScan;
pub use record::RecordError;
pub use scan::Scan;
pub use state::{AppliedMark, Batch, Limits, OpenError, Retired, State};
pub use types::{Change, Commit, KeySpan, LeaseId, Record, Revision};
pub use view::{Page, Reader, View};
