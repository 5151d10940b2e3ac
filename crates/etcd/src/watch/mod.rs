//! Watches: who is told what, in what order, and how far each has come.
//!
//! A [`Hub`] serves the watch streams of one thread. It is a state machine without clock, thread
//! or I/O: requests and applied commits go in, encoded answers come out.
//!
//! ```text
//!   requests ----> Hub ----> next_ready() which streams have something
//!   commits  ----> Hub ----> take(stream) one answer, ready for the wire
//!   views    ----> Hub.catch_up() reads history, a bounded step at a time
//!   time     ----> Hub.tick(), at next_deadline()
//! ```
//!
//! # A watcher is synced or behind
//!
//! *Synced* watchers have been told everything up to [`Hub::revision`]; a commit reaches them as
//! it is published. A watcher that starts in the past, or whose stream is full, is *behind*: it
//! knows the next revision it has to be told, and reads from there on in [`Hub::catch_up`] until
//! there is nothing left below the hub's revision, at which moment it is synced. Both sides of
//! that moment are one number, so there is no gap and no duplicate:
//!
//! INVARIANT: a synced watcher has been told all commits at or below `Hub::revision`, a watcher
//! behind at `n` all commits below `n`, and none has been told any other.
//!
//! A stream holds a bounded number of bytes. When it is full, its watchers are not told more
//! but fall behind, and rest there (*stalled*) until half of the stream has drained. A slow
//! client costs its own stream's bound and nothing else.
//!
//! # What is told once, and to how many
//!
//! Watchers that want the same of the same keys (span, filters, with or without the version
//! before) are one *topic*. A commit finds its topics by exact key and by range, not by scanning
//! them. Each change is encoded once as an event, each topic's events are put together once, and
//! every watcher of the topic gets a reference to those bytes and a head of its own.
//!
//! Catching up shares as well: watchers at the same revision form a *cohort*, which reads a
//! window of history once for all of them. The window ends where the next cohort stands, if that
//! comes first, and the two are one from there on. Cohorts take turns, a window each, so neither
//! a long history nor a stream of newcomers holds up anyone.
//!
//! # How far a stream has come
//!
//! Clients resume at the revision of a header plus one. So a header never carries a revision
//! above what its watcher has been told, not in the answer to its creation and not in the middle
//! of catching up either; etcd puts its own newest revision there in both cases.
//!
//! # Where this differs from etcd 3.5 to 3.7 otherwise
//!
//! - A watcher that was ended by a compaction is gone: its id is free, and it does not keep
//!   progress requests of its stream from being answered.
//! - A stream has at most [`Limits::watchers_per_stream_max`] watchers.
//!
//! Sources: etcd-io/etcd `server/etcdserver/api/v3rpc/watch.go`,
//! `server/storage/mvcc/watchable_store.go`, `watcher.go`, `watcher_group.go` (3.5.1, 3.7), and
//! answers of 3.5.1 itself.
//!
//! # Caveats
//!
//! - The version before a change (`prev_kv`) is looked up when the change is told. For a watcher
//!   that is behind, a compaction may have taken it by then; it is left out, as etcd does.
//! - A revision that alone is larger than a stream's bound is sent whole: a bound of `n` bytes
//!   means at most `n` and one answer.

mod catch_up;
mod encode;
mod hub;
mod index;
mod interval;
mod message;
mod mutant;
mod publish;
mod slab;
mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use hub::{Counts, Hub, RequestError};
pub use message::{Kind, Message};
pub use stream::StreamId;

/// The bounds within which a hub works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A stream that holds this many bytes is full: its watchers fall behind until half of it
    /// has drained.
    pub stream_bytes_max: usize,
    /// How many watchers a stream may have.
    pub watchers_per_stream_max: usize,
    /// A window of catching up ends after this many commits.
    pub window_commits_max: usize,
    /// A window of catching up ends with the commit that makes it this large, in bytes read or
    /// collected for topics.
    pub window_bytes_max: usize,
    /// An answer to a watcher that allows fragments is split if it has this many bytes.
    pub fragment_bytes: usize,
    /// How often a watcher that asks for progress is told of it while nothing happens. Up to a
    /// tenth is added, different for each stream.
    pub progress_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stream_bytes_max: 4 << 20,
            watchers_per_stream_max: 1 << 20,
            window_commits_max: 1000,
            window_bytes_max: 1 << 20,
            fragment_bytes: 2 << 20,
            progress_interval: Duration::from_secs(600),
        }
    }
}

/// What a hub is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Goes into every header.
    pub cluster_id: u64,
    /// Goes into every header.
    pub member_id: u64,
    /// The bounds.
    pub limits: Limits,
    /// Where jitter and the balance of trees come from.
    pub seed: u64,
}
