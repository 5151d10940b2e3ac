//! What the core wants done.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use etcd::{Error, Response};
use raft::{FetchRequest, LogIndex, LogPosition, Term};
use store::{GroupWrite, NodeId, RangeId, WriteId};

use super::long::Work;
use super::reads::Scan;
use crate::boot::LivenessLog;

/// Names a request of a local client, as the driver gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The way that a frame takes to a peer. What goes one way keeps its order there, and does not wait for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What is small, and by which stores and leaders know of each other.
    First,
    /// Entries, and requests and answers that are passed on: any of them may take a slow link seconds.
    Bulk,
}

/// A frame for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameOut {
    /// Whom for.
    pub to: NodeId,
    /// Which way.
    pub lane: Lane,
    /// The frame.
    pub bytes: Bytes,
}

/// Frames for peers, in order.
pub type Frames = Vec<FrameOut>;

/// One write to the log, and the frames that may leave once it is durable.
#[derive(Clone, Debug)]
pub struct DurableWrite {
    /// To be confirmed by [`Input::LogWritten`](super::Input::LogWritten).
    pub id: WriteId,
    /// What each group writes.
    pub groups: Vec<GroupWrite>,
    /// The store's liveness record ([`LivenessLog`](crate::boot::LivenessLog)): it has to reach the
    /// disk even if nothing in it has changed.
    pub liveness: Option<Bytes>,
    /// Frames that may leave once the write is durable, not before.
    pub then: Frames,
}

impl DurableWrite {
    /// What the log is to append, as one unit; nothing for a mere barrier for frames.
    #[must_use]
    pub fn log_writes(
        groups: Vec<GroupWrite>,
        liveness: Option<Bytes>,
        record: &mut LivenessLog,
    ) -> Vec<storage::log::GroupWrite> {
        let write = |group: GroupWrite| storage::log::GroupWrite {
            reset: group.snapshot.map(|snapshot| snapshot.position),
            entries: group.entries,
            hard_state: group.hard_state,
            ..storage::log::GroupWrite::new(group.range.group())
        };
        let groups = groups.into_iter().filter(|group| !group.is_empty()).map(write);
        groups.chain(liveness.map(|bytes| record.write(bytes))).collect()
    }
}

/// A snapshot to be streamed to a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotOut {
    /// The range.
    pub range: RangeId,
    /// Which node.
    pub node: NodeId,
    /// What the core said of it.
    pub send: raft::SendSnapshot,
    /// Who sends.
    pub from: raft::ReplicaId,
}

/// What the core wants done. Parts may be carried out side by side and in any order, except that
/// writes are made in the order of their ids.
#[derive(Default)]
pub struct Effects {
    /// A write to the log.
    pub writes: Vec<DurableWrite>,
    /// Frames that are free to go.
    pub send: Frames,
    /// Answers to requests.
    pub replies: Vec<(Token, Result<Response, Error>)>,
    /// Answers to linearizable reads: the state as of now, or later, may be read.
    pub points: Vec<(Token, Result<(), Error>)>,
    /// What was applied, in order, for those who watch.
    pub published: Vec<Arc<mvcc::Commit>>,
    /// Reads that may take long, each to be run in a thread of its own ([`Scan::run`]).
    pub scans: Vec<Scan>,
    /// What takes long, each to be done in a thread of its own ([`Work::run`]).
    pub work: Vec<Work>,
    /// Reads of the stored log.
    pub fetch: Vec<(RangeId, FetchRequest)>,
    /// Snapshots to be streamed.
    pub snapshots: Vec<SnapshotOut>,
    /// Log prefixes that nobody needs any more.
    pub truncate: Vec<(RangeId, LogPosition)>,
    /// The members' addresses, when they have changed: all nodes, this one included.
    pub peers: Option<BTreeMap<NodeId, Vec<String>>>,
    /// The state was replaced by a snapshot's: readers must be taken anew.
    pub installed: bool,
    /// Memory that readers no longer need; dropping it takes time.
    pub retired: Vec<mvcc::Retired>,
    /// A staged snapshot is not wanted.
    pub discarded: bool,
    /// The staged snapshot of a range beside the dense one is its state now.
    pub range_installed: bool,
    /// It is not wanted.
    pub range_discarded: bool,
    /// This member was removed from the cluster.
    pub removed: bool,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// The last entry known to be committed.
    pub committed: LogIndex,
    /// The last entry in the log.
    pub last: LogIndex,
    /// The last entry applied.
    pub applied: LogIndex,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Whether this member leads and serves.
    pub serving: bool,
    /// How often the leader has changed since the start.
    pub leader_changes: u64,
    /// Proposals under way.
    pub proposals_in_flight: usize,
    /// Ranges that this member leads.
    pub ranges_led: usize,
    /// Times that reads were confirmed by a range lease.
    pub confirmed_by_lease: u64,
    /// The same by asking a quorum.
    pub confirmed_by_quorum: u64,
}
