//! Names for numbers, and the message as it travels.

use raft::{GroupId, Message};

/// A node: one process with one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// A range: a span of keys with its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeId(pub u64);

impl RangeId {
    /// The one data range of a cluster in dense mode.
    pub const DENSE: RangeId = RangeId(1);

    /// The Raft group of the range, as log and transport know it.
    #[must_use]
    pub fn group(self) -> GroupId {
        GroupId(self.0)
    }
}

impl From<GroupId> for RangeId {
    fn from(group: GroupId) -> RangeId {
        RangeId(group.0)
    }
}

/// One write to the log. Later writes have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// A message and the range it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The range.
    pub range: RangeId,
    /// The message.
    pub message: Message,
}
