//! What the store did, revision by revision.

use serde::{Deserialize, Serialize};

use super::{Key, LeaseId, Revision, Time, Value};

/// The authoritative list of commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// The revision of the empty store before the first commit: 1 in a fresh one.
    pub base: Revision,
    /// By rising revision, without gaps; the first is `base + 1`.
    pub list: Vec<Commit>,
}

impl Default for Commits {
    fn default() -> Self {
        Self { base: Revision(1), list: Vec::new() }
    }
}

/// One revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Which.
    pub revision: Revision,
    /// What it changed, in the order of the sub-revisions. Never empty.
    pub events: Vec<Event>,
    /// A moment by which it had certainly happened, if the recorder knows one.
    pub seen: Option<Time>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The key.
    pub key: Key,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It was set.
    Put {
        /// The value.
        value: Value,
        /// The create revision after it.
        create: Revision,
        /// The version after it.
        version: i64,
        /// The lease after it.
        lease: Option<LeaseId>,
    },
    /// It was deleted.
    Delete,
}

impl Commits {
    /// The commits of a fresh store.
    #[must_use]
    pub fn of_fresh_store(list: Vec<Commit>) -> Self {
        Self { list, ..Self::default() }
    }

    /// The last revision.
    #[must_use]
    pub fn last(&self) -> Revision {
        self.list.last().map_or(self.base, |commit| commit.revision)
    }
}
