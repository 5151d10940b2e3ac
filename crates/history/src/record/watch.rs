//! What watchers ask and are told.
//!
//! A [`Watch`] is what a client library calls a watch: one interest in some keys, kept up over several
//! [`Connection`]s. On each it says where to begin, and remembers everything that it is told, in order. The events of
//! one message stand together, because what a message holds is part of the contract.

use serde::{Deserialize, Serialize};

use super::{Change, ClientId, Incarnation, Key, KeyValue, NodeId, Revision, Span, Time};

/// One watcher, over all its connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Whose.
    pub client: ClientId,
    /// Which keys.
    pub span: Span,
    /// Whether previous pairs are asked for.
    pub prev_kv: bool,
    /// Whether progress is to be told now and then.
    pub progress_notify: bool,
    /// What is left out.
    pub filters: Filters,
    /// In the order in which they were made. Each but the first resumes after what was told.
    pub connections: Vec<Connection>,
    /// A revision up to which everything must have been told by the end, if the recorder has waited for it.
    pub told_up_to: Option<Revision>,
}

/// Which sorts of events a watcher does not want.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filters {
    /// No puts.
    pub no_put: bool,
    /// No deletes.
    pub no_delete: bool,
}

impl Filters {
    /// Whether events of this sort are told.
    #[must_use]
    pub fn lets_through(self, change: &Change) -> bool {
        match change {
            Change::Put { .. } => !self.no_put,
            Change::Delete => !self.no_delete,
        }
    }
}

/// One stream of a watcher.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// With whom.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Option<Incarnation>,
    /// Before the request left.
    pub opened: Time,
    /// The first revision asked for; `None` for what comes after the watch is made.
    pub start: Option<Revision>,
    /// Everything that was told, in order.
    pub told: Vec<Told>,
}

/// One message to a watcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When it came.
    pub at: Time,
    /// The revision of its header.
    pub header: Revision,
    /// The rest.
    pub said: Said,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The watch is made.
    Created,
    /// Events.
    Events {
        /// In order.
        events: Vec<WatchEvent>,
        /// Whether the next message continues this one.
        fragment: bool,
    },
    /// Nothing new up to the header's revision.
    Progress,
    /// The end.
    Canceled {
        /// The compact revision, if that is why.
        compacted: Option<Revision>,
        /// The words.
        reason: String,
    },
}

/// One event as it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// The key's mod revision.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// What happened.
    pub change: Change,
    /// What was there before, if it was asked for.
    pub prev: Option<KeyValue>,
}
