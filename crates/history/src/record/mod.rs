//! What is written down: calls with their outcomes, watches, commits.
//!
//! The types speak of what etcd's API means, not of its messages: absence is `Option`, a `range_end` is a [`Span`], an
//! error with a meaning is a [`Failure`]. All can be stored with serde, so that a history that failed can be kept.
//!
//! Source for the meaning of each field: etcd's API reference, `rpc.proto` and `kv.proto`.

mod answer;
mod call;
mod commits;
mod show;
mod span;
mod watch;

pub use answer::{Answer, KeyValue};
pub use call::{
    Call, Compact, Compare, Delete, Get, LeaseGrant, LeaseKeepAlive, LeaseRevoke, Put, Relation,
    Step, Target, Txn,
};
pub use commits::{Change, Commit, Commits, Event};
pub use span::Span;
pub use watch::{Connection, Filters, Said, Told, Watch, WatchEvent};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds since some start: virtual in a simulation, monotonic otherwise.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time(pub u64);

/// Who asked. One client may have several operations under way.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ClientId(pub u32);

/// Which member was asked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeId(pub u32);

/// Which life of a member's process, counted by the recorder.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Incarnation(pub u32);

/// A revision of the store. A fresh store is at 1; its first commit is 2.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl Revision {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The name of an etcd lease.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LeaseId(pub i64);

/// A user's key.
pub type Key = Bytes;
/// A user's value.
pub type Value = Bytes;

/// One request of a client and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked.
    pub client: ClientId,
    /// Who was asked.
    pub node: NodeId,
    /// Which life of that member answered, where the recorder knows. With it, serializable reads of one life must
    /// not go back.
    pub incarnation: Option<Incarnation>,
    /// Before the request left.
    pub invoked: Time,
    /// After the answer came; `None` if none did. For an unknown outcome it says when the client gave up, and
    /// nothing about the effect.
    pub returned: Option<Time>,
    /// What was asked.
    pub call: Call,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a client knows of its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was answered.
    Ok {
        /// The revision of the answer's header.
        revision: Revision,
        /// The rest.
        answer: Answer,
    },
    /// It was refused, and certainly had no effect.
    Failed(Failure),
    /// Nobody knows: it may have had its effect, may have it later, or never.
    Unknown,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// "required revision has been compacted".
    Compacted,
    /// "required revision is a future revision".
    FutureRevision,
    /// The lease does not exist.
    LeaseNotFound,
    /// A lease with this id exists already.
    LeaseExists,
    /// The key whose value or lease was to be kept does not exist.
    KeyNotFound,
    /// Anything else that is known to have had no effect.
    Other(String),
}

/// All that was recorded of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// In any order.
    pub operations: Vec<Operation>,
    /// In any order.
    pub watches: Vec<Watch>,
    /// What the store did.
    pub commits: Commits,
}
