//! The replica's view of its log.
//!
//! The log itself is the driver's. What is here: its bounds and terms in full ([`TermRuns`]), a
//! recent tail of entries in memory, and the pointers into it:
//!
//! ```text
//!   truncated    the entry before the first one retained
//!   applied   <= delivered                reported applied / handed out to be applied
//!   delivered <= committed <= last
//!   durable   <= last                     known to be on this replica's disk
//!   durable   <= handed_out <= last       written or being written
//! ```
//!
//! All are inclusive. `committed` may run ahead of `durable`: a quorum elsewhere is enough.
//!
//! The tail always ends with `last` and holds everything that is not durable or not committed;
//! before that it is a cache, bounded by `Config::recent_bytes_max`. Whoever needs an entry
//! before it has to fetch it.

mod terms;

use std::collections::VecDeque;

use crate::error::RestoreError;
use crate::types::{Entry, LogIndex, LogPosition, Restored, Term};

pub(crate) use terms::TermRuns;

#[derive(Debug)]
pub(crate) struct Log {
    terms: TermRuns,
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    handed_out: LogIndex,
    durable: LogIndex,
    committed: LogIndex,
    delivered: LogIndex,
    applied: LogIndex,
}

impl Log {
    pub(crate) fn restore(restored: Restored) -> Result<Self, RestoreError> {
        let Restored { hard_state, truncated, terms, last_index: last, applied, entries, .. } =
            restored;
        if truncated.index > applied || applied > last {
            return Err(RestoreError::Bounds { truncated: truncated.index, applied, last });
        }
        if hard_state.commit > last {
            return Err(RestoreError::CommittedLost { commit: hard_state.commit, last });
        }
        let terms = TermRuns::restore(truncated, terms, last).map_err(RestoreError::Terms)?;
        if terms.last().term > hard_state.term {
            return Err(RestoreError::Terms(last));
        }
        let mut expected = last;
        for entry in entries.iter().rev() {
            let known = entry.index > truncated.index && terms.holds(entry.position());
            if entry.index != expected || !known {
                return Err(RestoreError::Entries(entry.index));
            }
            expected = expected.prev().unwrap_or_default();
        }
        let tail_bytes = entries.iter().map(Entry::size_bytes).sum();
        Ok(Self {
            terms,
            tail: entries.into(),
            tail_bytes,
            handed_out: last,
            durable: last,
            committed: hard_state.commit.max(applied),
            delivered: applied,
            applied,
        })
    }

    pub(crate) fn truncated(&self) -> LogPosition {
        self.terms.truncated()
    }

    pub(crate) fn last(&self) -> LogPosition {
        self.terms.last()
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.terms.last_index()
    }

    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        self.terms.term(index)
    }

    pub(crate) fn holds(&self, position: LogPosition) -> bool {
        self.terms.holds(position)
    }

    pub(crate) fn latest_not_after(&self, bound: LogPosition) -> Option<LogPosition> {
        self.terms.latest_not_after(bound)
    }

    pub(crate) fn durable(&self) -> LogIndex {
        self.durable
    }

    pub(crate) fn committed(&self) -> LogIndex {
        self.committed
    }

    /// The committed index with its term, for others to compare with their log.
    pub(crate) fn committed_position(&self) -> LogPosition {
        let term = self.terms.term(self.committed).expect("what is committed is in the log");
        LogPosition { index: self.committed, term }
    }

    pub(crate) fn delivered(&self) -> LogIndex {
        self.delivered
    }

    pub(crate) fn applied(&self) -> LogIndex {
        self.applied
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.index, self.last_index().next(), "entries are consecutive");
        self.terms.push(entry.term);
        self.tail_bytes += entry.size_bytes();
        self.tail.push_back(entry);
    }

    /// Drops the entries from `first` on, which contradict a leader's.
    pub(crate) fn cut_from(&mut self, first: LogIndex) {
        assert!(first > self.committed, "a committed entry is never dropped");
        self.terms.cut_from(first);
        while self.tail.back().is_some_and(|entry| entry.index >= first) {
            self.tail_bytes -= self.tail.pop_back().map_or(0, |entry| entry.size_bytes());
        }
        let last = self.last_index();
        self.handed_out = self.handed_out.min(last);
        self.durable = self.durable.min(last);
    }

    /// Replaces everything by a snapshot that ends at `position`.
    pub(crate) fn reset(&mut self, position: LogPosition) {
        assert!(position.index > self.committed, "a snapshot never takes anything back");
        self.terms = TermRuns::starting_after(position);
        self.tail.clear();
        self.tail_bytes = 0;
        self.handed_out = position.index;
        // Nothing of the new log is durable before the snapshot is; the position before its
        // first entry is all there is to be durable.
        self.durable = self.durable.min(self.committed);
        self.committed = position.index;
        self.delivered = position.index;
        self.applied = position.index;
    }

    /// Forgets the entries up to and including `position`.
    pub(crate) fn truncate_to(&mut self, position: LogPosition) {
        if position.index <= self.truncated().index {
            return;
        }
        assert!(position.index <= self.applied, "{position} is truncated before it is applied");
        assert!(position.index <= self.durable, "{position} is truncated before it is durable");
        self.terms.truncate_to(position);
        while self.tail.front().is_some_and(|entry| entry.index <= position.index) {
            self.pop_front();
        }
    }

    pub(crate) fn commit_to(&mut self, index: LogIndex) {
        assert!(index <= self.last_index(), "only what is in the log can be committed");
        assert!(index >= self.committed, "the commit index never falls");
        self.committed = index;
    }

    pub(crate) fn durable_to(&mut self, index: LogIndex) {
        assert!(index <= self.handed_out, "durable before it was written");
        self.durable = self.durable.max(index);
    }

    pub(crate) fn delivered_to(&mut self, index: LogIndex) {
        assert!(self.delivered <= index && index <= self.committed, "delivery is of the committed");
        self.delivered = index;
    }

    pub(crate) fn applied_to(&mut self, index: LogIndex) {
        assert!(index <= self.delivered, "{index} is applied before it is delivered");
        self.applied = self.applied.max(index);
    }

    /// The entries to be written next, if any.
    pub(crate) fn hand_out(&mut self) -> Vec<Entry> {
        let first = self.handed_out.next();
        self.handed_out = self.last_index();
        self.recent(first, self.last_index(), usize::MAX).unwrap_or_default()
    }

    /// Whether there is anything to be written.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed_out < self.last_index()
    }

    /// The entries `first..=last` as far as `bytes_max` allows and at least one; `None` if the
    /// first is not in memory.
    pub(crate) fn recent(
        &self,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Option<Vec<Entry>> {
        let start = self.tail.front()?.index;
        if first < start || first > last {
            return None;
        }
        let from = offset(start, first);
        let upto = offset(start, last.min(self.last_index())) + 1;
        let mut entries = Vec::with_capacity(upto - from);
        let mut bytes = 0usize;
        for entry in self.tail.range(from..upto) {
            bytes = bytes.saturating_add(entry.size_bytes());
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Some(entries)
    }

    /// The last entry that is not in memory; the last of the log if none is.
    pub(crate) fn last_before_recent(&self) -> LogIndex {
        match self.tail.front() {
            Some(first) => first.index.prev().unwrap_or_default(),
            None => self.last_index(),
        }
    }

    /// Shrinks the tail towards `bytes_max`, keeping what is not durable or not committed.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        let keep_after = self.durable.min(self.committed);
        while self.tail_bytes > bytes_max
            && self.tail.front().is_some_and(|entry| entry.index <= keep_after)
        {
            self.pop_front();
        }
    }

    /// Gives back capacity that is not used.
    pub(crate) fn shrink(&mut self) {
        self.tail.shrink_to_fit();
        self.terms.shrink();
    }

    fn pop_front(&mut self) {
        self.tail_bytes -= self.tail.pop_front().map_or(0, |entry| entry.size_bytes());
    }

    /// Bytes of entries in memory.
    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }
}

fn offset(start: LogIndex, index: LogIndex) -> usize {
    usize::try_from(index.0 - start.0).expect("the tail is in memory")
}
