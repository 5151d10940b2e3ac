//! Keys, versions and revisions: the multi-version state.
//!
//! A [`State`] is what a log of [`Batch`]es makes: keys with every version that can still be
//! read, what each revision changed, and meta keys that are no user's. One owner applies, in
//! memory and in a microsecond or two; readers on any thread take a [`View`] and read without a
//! lock; the engine on disk is written behind both of them.
//!
//! ```text
//!   apply(batch) ──> active memtable ──freeze──> frozen memtable ──CheckpointJob──> engine
//!        │                  │                         │                               │
//!        └─ publishes ──> View { active, frozen, snapshot of the engine, revision, ... }
//! ```
//!
//! - Nothing that has been published changes. A view is one pointer to the levels and the point
//!   up to which they may be read; the active memtable grows under it with versions that the
//!   view does not look at.
//! - The engine is off the path. What is applied is durable by the log; a checkpoint writes the
//!   newest version of each key, the superseded ones, the keys of each revision, and how far in
//!   the log all that reaches ([`State::durable`]), in one atomic write or in several that may
//!   break off anywhere. A restart opens the engine and applies the log from there.
//! - `Latest` has one row for each live key, however often it was overwritten, so that a list
//!   meets nothing but what it returns. Values are stored once, in the shape that goes on the
//!   wire.
//! - A compaction is a number, published with its batch. Rows go later, step by step
//!   ([`State::collect`]), and no hash, export or read can tell whether they have gone yet.
//!
//! ```
//! use std::sync::Arc;
//! use mvcc::engine::mem::MemEngine;
//! use mvcc::{Batch, Change, Commit, KeySpan, Record, Revision, State};
//!
//! let mut state = State::open(Arc::new(MemEngine::new()))?;
//! let reader = state.reader();
//! let (key, revision) = (b"name", Revision(2));
//! let record = Record::new(key, revision, revision, 1, b"value", None);
//! let changes = vec![Change { key: record.key(), record: Some(record) }];
//! let commit = Some(Arc::new(Commit { revision, changes }));
//! state.apply(Batch { index: 1, term: 1, commit, ..Batch::default() });
//!
//! let view = reader.view();
//! assert_eq!(view.get(key, view.revision())?.unwrap().value(), "value");
//! assert_eq!(view.count(&KeySpan::all(), Revision(1))?, 0);
//!
//! if let Some(job) = state.freeze() {
//!     // In a thread of its own, usually.
//!     let done = job.run()?;
//!     drop(state.finish(done));
//! }
//! assert_eq!(state.durable().index, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where things are: [`types`](Record), `record` and `span` are the words; `chain`, `index` and
//! `memtable` the front; `engine` the port, its twin in memory and its conformance suite;
//! `layout` the rows, `disk` reading them; `scan`, `events`, `meta`, `history` merge the levels
//! for `view`; `checkpoint` and `collect` write; `hash`, `export` and `import` compare and move
//! whole states, `load` makes one out of a foreign history; `model` is the main test, and `mutant` the test of that.
//!
//! Caveats. The front is bounded by its owner, who sees [`State::front_bytes`] and decides when
//! to freeze. A view that is kept pins memory and pages of the engine. [`State::live_keys`]
//! believes what commits say: that a version 1 creates its key, and that only live keys are
//! deleted. Below the compacted revision nothing is promised, at it everything is.

mod chain;
mod checkpoint;
mod collect;
mod counts;
mod disk;
pub mod engine;
mod error;
mod events;
mod export;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod history;
mod import;
mod index;
mod insert;
mod layout;
mod load;
mod memtable;
mod meta;
#[cfg(test)]
mod model;
mod mutant;
mod name;
mod record;
mod reload;
mod scan;
mod span;
mod state;
mod types;
mod view;

pub use checkpoint::{CheckpointJob, Done, run_together};
pub use collect::CollectJob;
pub use error::ReadError;
pub use events::Events;
pub use export::{CHUNK_BYTES_MAX, Export};
pub use hash::KvHash;
pub use import::{Import, ImportError, clear};
pub use insert::{Inserted, Inserter};
pub use load::{Load, version_place};
pub use meta::MetaScan;
pub use record::RecordError;
pub use reload::ReloadJob;
pub use scan::Scan;
pub use state::{AppliedMark, Batch, Limits, OpenError, Retired, State};
pub use types::{Change, Commit, KeySpan, LeaseId, Record, Revision};
pub use view::{Page, Reader, View};
