//! What clients ask.
//!
//! Every request is a struct with defaults, so that `Get { span, ..Get::default() }` stays right when fields are added.

use serde::{Deserialize, Serialize};

use super::{Key, LeaseId, Revision, Span, Value};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Call {
    /// KV.Put
    Put(Put),
    /// KV.Range
    Get(Get),
    /// KV.DeleteRange
    Delete(Delete),
    /// KV.Txn
    Txn(Txn),
    /// KV.Compact
    Compact(Compact),
    /// Lease.LeaseGrant
    LeaseGrant(LeaseGrant),
    /// Lease.LeaseRevoke
    LeaseRevoke(LeaseRevoke),
    /// One message of Lease.LeaseKeepAlive
    LeaseKeepAlive(LeaseKeepAlive),
}

/// Sets a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// Its value, which no other operation of the history carries. Not looked at with `ignore_value`.
    pub value: Value,
    /// The lease it is attached to; `None` detaches it.
    pub lease: Option<LeaseId>,
    /// Whether the previous pair is asked for.
    pub prev_kv: bool,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
}

/// Reads keys, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// Which.
    pub span: Span,
    /// At which revision; the newest if `None`.
    pub revision: Option<Revision>,
    /// Whether any member's state will do.
    pub serializable: bool,
    /// At most so many pairs.
    pub limit: Option<u64>,
    /// Only the number of keys.
    pub count_only: bool,
    /// Without values.
    pub keys_only: bool,
}

/// Deletes keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Which.
    pub span: Span,
    /// Whether the deleted pairs are asked for.
    pub prev_kv: bool,
}

/// A transaction: if all compares hold the one list of steps, else the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold. None: they do.
    pub compares: Vec<Compare>,
    /// Then.
    pub success: Vec<Step>,
    /// Else.
    pub failure: Vec<Step>,
}

/// A step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A put.
    Put(Put),
    /// A read; it sees what the steps before it did.
    Get(Get),
    /// A delete.
    Delete(Delete),
    /// A transaction inside; its compares see the state before the outermost one.
    Txn(Txn),
}

/// A condition on every key of a span, or on an absent one if there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys.
    pub span: Span,
    /// How the key's side stands to the target's.
    pub relation: Relation,
    /// What is compared, and with what.
    pub target: Target,
}

/// `found RELATION given`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// =
    Equal,
    /// !=
    NotEqual,
    /// >
    Greater,
    /// <
    Less,
}

/// What a compare looks at. An absent key has 0 everywhere; its value compares false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(Revision),
    /// The mod revision.
    Mod(Revision),
    /// The value.
    Value(Value),
    /// The lease; 0 for none.
    Lease(LeaseId),
}

/// Gives up what is below a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// The oldest revision that can still be read afterwards.
    pub revision: Revision,
}

/// Makes a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// Its name; `None` leaves it to the server.
    pub id: Option<LeaseId>,
    /// Time to live, in seconds. The server may give more.
    pub ttl_s: i64,
}

/// Ends a lease and deletes its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRevoke {
    /// Which.
    pub id: LeaseId,
}

/// Starts a lease's time anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseKeepAlive {
    /// Which.
    pub id: LeaseId,
}

impl Call {
    /// Whether any member may answer it from its own state, however old: a serializable get, or a transaction that
    /// consists of such (an empty one does).
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        match self {
            Self::Get(get) => get.serializable,
            Self::Txn(txn) => txn.steps().all(|step| match step {
                Step::Get(get) => get.serializable,
                Step::Put(_) | Step::Delete(_) | Step::Txn(_) => false,
            }),
            // A keepalive's header is that of whoever passed it on.
            Self::LeaseKeepAlive(_) => true,
            Self::Put(_)
            | Self::Delete(_)
            | Self::Compact(_)
            | Self::LeaseGrant(_)
            | Self::LeaseRevoke(_) => false,
        }
    }

    /// Every put in it, of both branches and all depths.
    pub(crate) fn puts(&self) -> Vec<&Put> {
        let mut found = Vec::new();
        match self {
            Self::Put(put) => found.push(put),
            Self::Txn(txn) => txn.collect_puts(&mut found),
            _ => {}
        }
        found
    }
}

impl Txn {
    /// The steps of both branches, not of those inside.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.success.iter().chain(&self.failure)
    }

    fn collect_puts<'a>(&'a self, found: &mut Vec<&'a Put>) {
        for step in self.steps() {
            match step {
                Step::Put(put) => found.push(put),
                Step::Txn(inner) => inner.collect_puts(found),
                Step::Get(_) | Step::Delete(_) => {}
            }
        }
    }
}
