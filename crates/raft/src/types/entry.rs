//! Entries of the log and what they carry.

use std::sync::Arc;

use bytes::Bytes;

use super::ids::{LogIndex, LogPosition, Term};
use super::membership::MembershipChange;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place; consecutive entries have consecutive indexes.
    pub index: LogIndex,
    /// The term of the leader that created it; never falls along a log.
    pub term: Term,
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    /// Index and term.
    pub fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term }
    }

    /// What the entry counts for against limits in bytes: its payload and a fixed overhead.
    pub fn size_bytes(&self) -> usize {
        self.payload.size_bytes()
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the entry with which a leader begins its term (Raft §8).
    Empty,
    /// The application's data, opaque to the core.
    Data(Bytes),
    /// A change of the group's membership. It takes effect when the entry is committed and the
    /// replica delivers it. Shared, because it is rare and would double the size of every entry.
    Membership(Arc<MembershipChange>),
}

impl Payload {
    /// Bytes that every entry counts for besides its data: a stand-in for what indexes, terms
    /// and framing take in memory, on disk and on the wire.
    pub const OVERHEAD_BYTES: usize = 32;

    /// A membership change as a payload.
    pub fn membership(change: MembershipChange) -> Self {
        Self::Membership(Arc::new(change))
    }

    /// What the payload counts for against limits in bytes, overhead included.
    pub fn size_bytes(&self) -> usize {
        Self::OVERHEAD_BYTES
            + match self {
                Self::Empty => 0,
                Self::Data(data) => data.len(),
                Self::Membership(change) => change.size_bytes(),
            }
    }
}
