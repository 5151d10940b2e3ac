//! What clients are told.

use serde::{Deserialize, Serialize};

use super::{Key, LeaseId, Revision, Value};

/// A key with its value and history's numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Key,
    /// The value.
    pub value: Value,
    /// The revision at which the key was created.
    pub create: Revision,
    /// The revision at which it was last put.
    pub modified: Revision,
    /// How often it was put since it was created; 1 at creation.
    pub version: i64,
    /// The lease it is attached to.
    pub lease: Option<LeaseId>,
}

/// An answer, without its header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Answer {
    /// To a put.
    Put {
        /// What was there before, if it was asked for.
        prev: Option<KeyValue>,
    },
    /// To a get.
    Get {
        /// The pairs, in key order.
        kvs: Vec<KeyValue>,
        /// Whether the limit cut some off.
        more: bool,
        /// How many keys there are, whatever the limit.
        count: u64,
    },
    /// To a delete.
    Delete {
        /// How many keys were deleted.
        deleted: u64,
        /// What they were, if it was asked for, in key order.
        prev: Vec<KeyValue>,
    },
    /// To a transaction.
    Txn {
        /// Which branch was taken.
        succeeded: bool,
        /// The answers of that branch's steps.
        answers: Vec<Answer>,
    },
    /// To a compaction.
    Compact,
    /// To a grant.
    LeaseGrant {
        /// The lease's name.
        id: LeaseId,
        /// Its time to live, in seconds.
        ttl_s: i64,
    },
    /// To a revoke.
    LeaseRevoke,
    /// To a keepalive.
    LeaseKeepAlive {
        /// The time to live, in seconds; `None` if there is no such lease (etcd says 0).
        ttl_s: Option<i64>,
    },
}

impl Answer {
    /// Whether the answer says that a key was changed. For a revoke nothing can be said.
    #[must_use]
    pub fn says_written(&self) -> bool {
        match self {
            Self::Put { .. } => true,
            Self::Delete { deleted, .. } => *deleted > 0,
            Self::Txn { answers, .. } => answers.iter().any(Self::says_written),
            _ => false,
        }
    }
}
