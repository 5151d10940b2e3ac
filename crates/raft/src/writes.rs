//! Which writes are under way, and what is durable once they are done.
//!
//! Writes complete in order, but what they wrote may have been overwritten in the meantime.
//! Comparing terms on completion is not enough:
//!
//! 1. Entries 5..=7 of term 2 are being written (write 1).
//! 2. A leader of term 3 replaces 6 by its own (write 2): 7 is gone.
//! 3. A leader of term 4, whose log still has 6 and 7 of term 2, replaces 6 again (write 3).
//! 4. Write 1 completes. The log holds 7 of term 2, which write 1 wrote: but write 2 will drop
//!    it from the disk before write 3 brings it back, and a crash in between loses it.
//!
//! So each write remembers how far its entries still stand, and is clamped when they are cut.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{HardState, LogIndex, ReplicaId, Term, WriteToken};

#[derive(Debug)]
struct Write {
    token: WriteToken,
    begun: Duration,
    /// The last entry it makes durable, if it still stands.
    entries_to: Option<LogIndex>,
    /// Term and vote on disk after it.
    ballot: (Term, Option<ReplicaId>),
}

#[derive(Debug)]
pub(crate) struct Writes {
    next: WriteToken,
    under_way: VecDeque<Write>,
    /// As last handed out.
    hard_state: HardState,
    /// Term and vote on disk.
    durable_ballot: (Term, Option<ReplicaId>),
}

impl Writes {
    pub(crate) fn new(hard_state: HardState) -> Self {
        Self {
            next: WriteToken(1),
            under_way: VecDeque::new(),
            hard_state,
            durable_ballot: (hard_state.term, hard_state.vote),
        }
    }

    /// The hard state as last handed out to be written.
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Whether this term and vote are on disk.
    pub(crate) fn is_durable(&self, term: Term, vote: Option<ReplicaId>) -> bool {
        self.durable_ballot == (term, vote)
    }

    /// Whether this term, or a later one, is on disk.
    pub(crate) fn is_term_durable(&self, term: Term) -> bool {
        self.durable_ballot.0 >= term
    }

    /// When the oldest write that is under way began.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.under_way.front().map(|write| write.begun)
    }

    pub(crate) fn begin(
        &mut self,
        begun: Duration,
        hard_state: Option<HardState>,
        entries_to: Option<LogIndex>,
    ) -> WriteToken {
        let token = self.next;
        self.next = WriteToken(token.0 + 1);
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        let ballot = (self.hard_state.term, self.hard_state.vote);
        self.under_way.push_back(Write { token, begun, entries_to, ballot });
        token
    }

    /// Entries from `first` on were dropped from the log.
    pub(crate) fn cut_from(&mut self, first: LogIndex) {
        let stands = first.prev().unwrap_or_default();
        for write in &mut self.under_way {
            write.entries_to = write.entries_to.map(|to| to.min(stands));
        }
    }

    /// The log was replaced by a snapshot.
    pub(crate) fn reset(&mut self) {
        for write in &mut self.under_way {
            write.entries_to = None;
        }
    }

    /// Gives back capacity that is not used.
    pub(crate) fn shrink(&mut self) {
        self.under_way.shrink_to_fit();
    }

    /// Takes note of a completion; says up to where entries are durable by it.
    ///
    /// # Panics
    /// If no such write was ever begun.
    pub(crate) fn complete(&mut self, token: WriteToken) -> Option<LogIndex> {
        assert!(token < self.next, "a write completes that was not begun");
        let mut durable_to = None;
        while self.under_way.front().is_some_and(|write| write.token <= token) {
            if let Some(write) = self.under_way.pop_front() {
                durable_to = durable_to.max(write.entries_to);
                self.durable_ballot = write.ballot;
            }
        }
        durable_to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes() -> Writes {
        Writes::new(HardState::default())
    }

    #[test]
    fn a_completion_covers_what_came_before() {
        let mut writes = writes();
        let first = writes.begin(Duration::ZERO, None, Some(LogIndex(3)));
        let barrier = writes.begin(Duration::ZERO, None, None);
        let ballot = HardState { term: Term(2), ..HardState::default() };
        let last = writes.begin(Duration::ZERO, Some(ballot), Some(LogIndex(5)));
        assert!(first < barrier && barrier < last);
        assert_eq!(Some(LogIndex(3)), writes.complete(barrier));
        assert!(!writes.is_durable(Term(2), None));
        assert_eq!(Some(LogIndex(5)), writes.complete(last));
        assert!(writes.is_durable(Term(2), None));
        assert_eq!(None, writes.complete(last), "completing twice changes nothing");
    }

    #[test]
    fn what_is_cut_is_not_made_durable_by_an_earlier_write() {
        let mut writes = writes();
        let before = writes.begin(Duration::ZERO, None, Some(LogIndex(7)));
        writes.cut_from(LogIndex(6));
        let after = writes.begin(Duration::ZERO, None, Some(LogIndex(8)));
        assert_eq!(Some(LogIndex(5)), writes.complete(before));
        assert_eq!(Some(LogIndex(8)), writes.complete(after));
    }

    #[test]
    #[should_panic(expected = "a write completes that was not begun")]
    fn a_write_that_was_not_begun_cannot_complete() {
        writes().complete(WriteToken(1));
    }
}
