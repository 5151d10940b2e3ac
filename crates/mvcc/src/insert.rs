//! From a batch to memory: at once, or in a thread where it may take its time.
//!
//! Versions go into the active memtable under a stamp that no reader looks at before it is
//! published (see [`crate::chain`]). So a batch of a million changes can be put there by another
//! thread, beside readers; what has to be done at once is only to publish it.

use std::sync::Arc;

use crate::state::{AppliedMark, Batch, Ticket};
use crate::view::Published;

/// Puts one batch into memory. See [`State::inserter`](crate::State::inserter).
pub struct Inserter {
    ticket: Ticket,
    now: Arc<Published>,
}

/// A batch that is in memory, and that nobody sees yet.
pub struct Inserted {
    ticket: Ticket,
    published: Published,
}

impl Inserter {
    pub(crate) fn new(ticket: Ticket, now: Arc<Published>) -> Self {
        Self { ticket, now }
    }

    /// The last entry applied before the batch.
    #[must_use]
    pub fn applied(&self) -> AppliedMark {
        self.now.applied
    }

    /// The newest revision before the batch.
    #[must_use]
    pub fn revision(&self) -> crate::Revision {
        self.now.revision
    }

    /// Puts it there. As long as it takes to write so many keys.
    ///
    /// # Panics
    /// As [`State::apply`](crate::State::apply).
    #[must_use]
    pub fn insert(self, batch: Batch) -> Inserted {
        Inserted { ticket: self.ticket, published: insert(&self.now, batch) }
    }
}

impl Inserted {
    pub(crate) fn into_parts(self) -> (Ticket, Published) {
        (self.ticket, self.published)
    }
}

/// Writes a batch to the active memtable; gives back what is to be published.
pub(crate) fn insert(now: &Published, batch: Batch) -> Published {
    assert!(batch.index > now.applied.index, "entry applied twice");
    assert!(batch.term >= now.applied.term, "terms never go back");
    let sequence = now.sequence + 1;
    let mut revision = now.revision;
    let mut live_keys = now.live_keys;
    if let Some(commit) = &batch.commit {
        assert!(commit.revision > revision, "revisions only rise");
        revision = commit.revision;
        let grown = now.levels.active.insert(commit);
        live_keys = live_keys.saturating_add_signed(grown);
    }
    for (key, value) in batch.meta {
        now.levels.active.insert_meta(key, sequence, value);
    }
    let mut compacted = now.compacted;
    if let Some(to) = batch.compact {
        assert!(to <= revision, "the future cannot be compacted");
        compacted = compacted.max(to);
    }
    Published {
        levels: Arc::clone(&now.levels),
        revision,
        compacted,
        sequence,
        applied: AppliedMark { index: batch.index, term: batch.term },
        live_keys,
    }
}
