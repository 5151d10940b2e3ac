//! Threads, files and sockets around the [core](crate::core). They take no decision.
//!
//! | thread | does |
//! |---|---|
//! | core | steps the core with what has come in, hands out its effects |
//! | log | appends and syncs: one `fdatasync` for all that has come meanwhile; releases the frames that waited for it |
//! | log reader | reads entries for followers that lag |
//! | checkpoint | writes what was applied into the state engine; drops memory |
//! | peers | one tokio runtime: connections to and from peers |
//! | scan, a few | read many keys of a range |
//! | snapshot, one each | streams the state to a peer, or receives it from one |
//!
//! All of them talk to the core through one [`Inbox`]; the core's answers go straight to whoever
//! waits. An error that a thread cannot live with, or a panic, reaches the core as [`Event::Fatal`],
//! which stops the node.

mod aside;
mod checkpoint;
mod clock;
mod core_thread;
mod force;
mod guard;
mod log_thread;
mod peers;
mod queue;
mod ranges;
mod restore;
mod snapshots;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Request, Response};
use mvcc::engine::partition::Partition;
use raft::{Entry, FetchId, SnapshotOutcome};
use store::{Envelope, NodeId, RangeId, WriteId};
use tokio::sync::oneshot;

pub(crate) use ranges::RANGES_MAX;
pub use restore::{Restore, RestoreError, RestoredRevisions, restore};
pub use start::{Node, Outcome, StartError};

use crate::Engine;
use crate::core::{RangesWritten, Scanned, SnapshotOut, Worked};
use clock::Clock;
use queue::{Receiver, Sender, queue};

/// Peers' frames are not taken while more events than this wait: they wait in their sockets.
const INBOX_PEERS_MAX: usize = 1 << 14;

/// Nor while frames of so many bytes do.
const INBOX_PEERS_BYTES_MAX: usize = 256 << 20;

/// Whom to tell the outcome of a request.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What comes in to the core thread.
pub(crate) enum Event {
    Client(Request, Reply<Response>),
    /// The same, of a range beside the dense one.
    ClientOf(RangeId, Request, Reply<Response>),
    ReadPoint(Reply<()>),
    MoveLeader(NodeId, Reply<Response>),
    /// And when it came.
    Frame(NodeId, Bytes, Duration),
    Unreachable(NodeId),
    /// A peer says that this member was removed.
    Removed(NodeId),
    /// All writes up to this one are durable.
    Written(WriteId),
    /// The log has no room for entries, or has room again.
    LogFull(bool),
    Scanned(Scanned),
    /// What takes long is done.
    Worked(Worked),
    Fetched(RangeId, FetchId, Vec<Entry>),
    SnapshotSent(SnapshotOut, SnapshotOutcome),
    SnapshotStaged(NodeId, Envelope, Box<mvcc::State<Engine>>),
    /// The same, of a range beside the dense one.
    RangeSnapshotStaged(NodeId, Envelope, Box<mvcc::State<Partition<Engine>>>),
    /// Where the snapshot of such a range may be received.
    RangeTarget(RangeId, oneshot::Sender<Option<Partition<Engine>>>),
    /// What was received into this partition is of no use.
    RangeImportFailed(u64),
    JobDone(mvcc::Done),
    RangesDone(RangesWritten),
    /// Write what is in memory to the state engine now, and tell when it is done.
    Checkpoint(oneshot::Sender<Result<(), Error>>),
    /// The state engine has moved to another file: the old one is to be let go.
    Reload,
    /// The state engine has no room for what is in memory; it is tried again.
    StateFull(String),
    Fatal(String),
    Stop,
}

/// The way to the core thread. The queue has no capacity of its own; each who sends has a limit:
/// clients have theirs ([`Config::requests_in_flight_max`](crate::Config)), peers
/// [`INBOX_PEERS_MAX`] and [`INBOX_PEERS_BYTES_MAX`], and the node's own threads answer one event with one.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: Sender<Event>,
    /// Of peers' frames that the core has not taken.
    frame_bytes: Arc<AtomicUsize>,
    /// That of the core.
    clock: Clock,
}

impl Inbox {
    fn new(clock: Clock) -> (Inbox, Receiver<Event>) {
        let (sender, receiver) = queue();
        (Inbox { sender, frame_bytes: Arc::default(), clock }, receiver)
    }

    /// For the node's own threads, and for clients within their limit. The event is dropped if
    /// the core has stopped.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.sender.send(event);
    }

    /// Whether nobody will take what is sent: the core has ended.
    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The core has taken a frame of so many bytes.
    fn took(&self, bytes: usize) {
        self.frame_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// For peers: gives the frame back if the core is too far behind.
    pub(crate) fn offer(&self, from: NodeId, frame: Bytes) -> Result<(), Bytes> {
        let bytes = self.frame_bytes.load(Ordering::Relaxed);
        if self.sender.len() >= INBOX_PEERS_MAX || bytes >= INBOX_PEERS_BYTES_MAX {
            return Err(frame);
        }
        self.frame_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        self.send(Event::Frame(from, frame, self.clock.now()));
        Ok(())
    }
}

/// Counts what is under way, up to a limit.
pub(crate) struct Limit {
    used: AtomicUsize,
    max: usize,
}

impl Limit {
    pub(crate) fn new(max: usize) -> Arc<Limit> {
        Arc::new(Limit { used: AtomicUsize::new(0), max })
    }

    /// Takes one place, until the permit is dropped; `None` if there is none.
    pub(crate) fn acquire(self: &Arc<Limit>) -> Option<Permit> {
        let before = self.used.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { limit: Arc::clone(self) };
        (before < self.max).then_some(permit)
    }
}

/// One place of a [`Limit`].
pub(crate) struct Permit {
    limit: Arc<Limit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.used.fetch_sub(1, Ordering::Relaxed);
    }
}
