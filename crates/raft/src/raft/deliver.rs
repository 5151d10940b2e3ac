//! Handing committed entries to the application, in order and once.
//!
//! Bounded twice: by what one [`Ready`](crate::Ready) carries and by what is out to be applied.
//! Entries that have left memory are read from the stored log first.

use crate::error::Stopped;
use crate::types::{Entry, FetchRequest, Payload};

use super::{Raft, Role};

impl Raft {
    pub(super) fn deliver(&mut self) {
        let (delivered, committed) = (self.log.delivered(), self.log.committed());
        let applying_max = self.config.applying_bytes_max;
        let applying = self.applying.bytes;
        let held_back = applying >= applying_max && !self.applying.batches.is_empty();
        if delivered == committed || held_back {
            return;
        }
        let first = delivered.next();
        let bytes_max = self.config.committed_bytes_max.min(applying_max.saturating_sub(applying));
        let entries = if let Some(entries) = self.log.recent(first, committed, bytes_max) {
            entries
        } else if !self.delivery_fetched.is_empty() {
            std::mem::take(&mut self.delivery_fetched)
        } else {
            self.fetch_for_delivery();
            return;
        };
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        assert_eq!(Some(first), entries.first().map(|entry| entry.index), "delivery has no gap");
        self.log.delivered_to(last);
        let bytes = entries.iter().map(Entry::size_bytes).sum();
        self.applying.batches.push_back((last, bytes));
        self.applying.bytes += bytes;
        for entry in &entries {
            if let Role::Leader(leader) = &mut self.role {
                leader.delivered(entry);
            }
            if let Payload::Membership(change) = &entry.payload {
                self.take_effect(entry.index, change);
            }
        }
        assert!(self.out.committed.is_empty(), "one batch for each ready");
        self.out.committed = entries;
    }

    fn fetch_for_delivery(&mut self) {
        if self.delivery_fetch.is_some() {
            return;
        }
        let id = self.new_fetch();
        self.delivery_fetch = Some(id);
        self.out.fetch.push(FetchRequest {
            id,
            peer: None,
            first: self.log.delivered().next(),
            last: self.log.committed().min(self.log.last_before_recent()),
            bytes_max: self.config.committed_bytes_max,
        });
    }

    /// What is committed and not applied is never truncated, so it must be there.
    pub(super) fn fetched_for_delivery(&mut self, entries: Vec<Entry>) -> Result<(), Stopped> {
        let mut expected = self.log.delivered().next();
        let first = expected;
        for entry in &entries {
            let committed = expected <= self.log.committed();
            if entry.index != expected || !committed || !self.log.holds(entry.position()) {
                return Err(Stopped::LogCorrupt { index: expected });
            }
            expected = expected.next();
        }
        if expected == first {
            return Err(Stopped::LogCorrupt { index: first });
        }
        self.delivery_fetched = entries;
        Ok(())
    }
}
