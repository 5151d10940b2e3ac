//! Keys, versions and revisions: the multi-version state.

mod chain;
pub mod engine;
mod error;
mod memtable;
mod record;
mod scan;
mod span;
mod state;
mod types;
mod view;

pub use error::ReadError;
pub use record::RecordError;
pub use scan::Scan;
pub use state::{AppliedMark, Batch, OpenError, State};
pub use types::{Change, Commit, KeySpan, LeaseId, Record, Revision};
pub use view::{Events, MetaScan, Reader, View};
