//! What the store wants done.

use std::collections::BTreeMap;

use raft::{
    Entry, Event, FetchRequest, HardState, Message, Persist, ReadFailed, ReadReady, Ready,
    SendSnapshot, SnapshotMeta,
};

use crate::liveness;
use crate::replica::Replica;
use crate::types::{Envelope, NodeId, RangeId, WriteId};

/// Messages, gathered by the node they are for.
pub type Outbox = BTreeMap<NodeId, Vec<Envelope>>;

/// One group's part in a [`LogWrite`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWrite {
    /// The range.
    pub range: RangeId,
    /// Its term, vote and commit index, if they changed.
    pub hard_state: Option<HardState>,
    /// A snapshot to install: the log starts after its position. Comes before `entries`.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries to append; the first one's index overwrites the log from there on.
    pub entries: Vec<Entry>,
}

impl GroupWrite {
    /// Whether there is nothing to write: a mere barrier for messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none() && self.snapshot.is_none() && self.entries.is_empty()
    }
}

/// One write to the shared log: all of it or nothing, after every earlier one. Confirmed by
/// [`Store::log_written`](crate::Store::log_written).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWrite {
    /// Its name.
    pub id: WriteId,
    /// What each group writes.
    pub groups: Vec<GroupWrite>,
    /// The store's liveness record, which takes the place of the one before. A write with one has
    /// to reach the disk, even if the record is the same: what it proves is that the disk works.
    pub liveness: Option<Vec<u8>>,
    /// Messages that may leave once the write is durable, not before.
    pub then: Outbox,
    /// Messages between stores that may leave once the write is durable, not before.
    pub support: Vec<(NodeId, liveness::Message)>,
}

impl LogWrite {
    pub(crate) fn new(id: WriteId) -> LogWrite {
        LogWrite {
            id,
            groups: Vec::new(),
            liveness: None,
            then: Outbox::new(),
            support: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, range: RangeId, replica: &Replica, persist: Persist) {
        let Persist { token: _, hard_state, snapshot, entries, then } = persist;
        self.groups.push(GroupWrite { range, hard_state, snapshot, entries });
        post(&mut self.then, range, replica, then);
    }
}

/// What the store wants done. Parts may be carried out side by side, except that writes are made
/// in the order of their ids and `committed` is applied in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// A write to the log, one for all groups.
    pub write: Option<LogWrite>,
    /// Messages that are free to go.
    pub messages: Outbox,
    /// Entries to apply.
    pub committed: Vec<(RangeId, Vec<Entry>)>,
    /// Confirmed reads.
    pub reads: Vec<(RangeId, ReadReady)>,
    /// Reads that will not be confirmed.
    pub failed_reads: Vec<(RangeId, ReadFailed)>,
    /// Reads of the stored log.
    pub fetch: Vec<(RangeId, FetchRequest)>,
    /// Snapshots to be streamed.
    pub snapshots: Vec<(RangeId, SendSnapshot)>,
    /// What happened, in order.
    pub events: Vec<(RangeId, Event)>,
}

impl Output {
    pub(crate) fn add(&mut self, range: RangeId, replica: &Replica, ready: Ready) {
        post(&mut self.messages, range, replica, ready.messages);
        if !ready.committed.is_empty() {
            self.committed.push((range, ready.committed));
        }
        self.reads.extend(ready.reads.into_iter().map(|read| (range, read)));
        self.failed_reads.extend(ready.failed_reads.into_iter().map(|read| (range, read)));
        self.fetch.extend(ready.fetch.into_iter().map(|fetch| (range, fetch)));
        self.snapshots.extend(ready.snapshots.into_iter().map(|send| (range, send)));
        self.events.extend(ready.events.into_iter().map(|event| (range, event)));
    }
}

/// Addresses messages. One for a replica whose node is not known is dropped: it was removed, or
/// its address has not been applied here yet, and the protocol tries again.
fn post(outbox: &mut Outbox, range: RangeId, replica: &Replica, messages: Vec<Message>) {
    for message in messages {
        if let Some(node) = replica.node_of(message.to) {
            outbox.entry(node).or_default().push(Envelope { range, message });
        }
    }
}
