//! The terms of a log, as runs.
//!
//! A log's terms never fall, so a log of millions of entries has as few runs as it has seen
//! leaders. Kept for the whole retained log, they answer every question of the protocol that is
//! not about payloads (does this prefix match? where may two logs agree?) without reading the
//! disk.

use std::collections::VecDeque;

use crate::types::{LogIndex, LogPosition, Term};

/// The bounds of the retained log and the terms in it.
///
/// INVARIANT: `runs` ascends strictly in index and in term; a run lasts to the next one or to
/// `last`; the first begins at `truncated.index + 1`; there is none iff the log is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TermRuns {
    truncated: LogPosition,
    runs: VecDeque<(LogIndex, Term)>,
    last: LogIndex,
}

impl TermRuns {
    /// An empty log that starts after `truncated`.
    pub(crate) fn starting_after(truncated: LogPosition) -> Self {
        Self { truncated, runs: VecDeque::new(), last: truncated.index }
    }

    /// A restored log.
    ///
    /// # Errors
    /// The index at which the runs break the invariant.
    pub(crate) fn restore(
        truncated: LogPosition,
        runs: Vec<(LogIndex, Term)>,
        last: LogIndex,
    ) -> Result<Self, LogIndex> {
        if runs.is_empty() {
            if last != truncated.index {
                return Err(last);
            }
            return Ok(Self::starting_after(truncated));
        }
        if runs[0].0 != truncated.index.next() || runs[0].1 < truncated.term {
            return Err(runs[0].0);
        }
        if let Some(broken) = runs.windows(2).find(|w| w[0].0 >= w[1].0 || w[0].1 >= w[1].1) {
            return Err(broken[1].0);
        }
        match runs.last() {
            Some(&(first, _)) if first > last => Err(first),
            _ => Ok(Self { truncated, runs: runs.into(), last }),
        }
    }

    /// Gives back capacity that is not used.
    pub(crate) fn shrink(&mut self) {
        self.runs.shrink_to_fit();
    }

    pub(crate) fn truncated(&self) -> LogPosition {
        self.truncated
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        self.last
    }

    pub(crate) fn last(&self) -> LogPosition {
        let term = self.runs.back().map_or(self.truncated.term, |&(_, term)| term);
        LogPosition { index: self.last, term }
    }

    /// The term of the entry at `index`; `None` outside the log. The position before the first
    /// entry still counts as in it.
    pub(crate) fn term(&self, index: LogIndex) -> Option<Term> {
        if index > self.last || index < self.truncated.index {
            return None;
        }
        // Nearly every question is about the current term.
        match self.runs.back() {
            Some(&(first, term)) if index >= first => return Some(term),
            _ => {}
        }
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        let run = self.runs.partition_point(|&(first, _)| first <= index) - 1;
        Some(self.runs[run].1)
    }

    /// The log has this very entry, and so (Log Matching) agrees with every log that has it.
    pub(crate) fn holds(&self, position: LogPosition) -> bool {
        self.term(position.index) == Some(position.term)
    }

    /// The latest position of this log that is after `bound` neither in index nor in term:
    /// a log that ends with or contains `bound` can agree with this one there or earlier,
    /// nowhere later. `None` if every such position is truncated away.
    pub(crate) fn latest_not_after(&self, bound: LogPosition) -> Option<LogPosition> {
        let index = bound.index.min(self.last);
        let term = self.term(index)?;
        if term <= bound.term {
            return Some(LogPosition { index, term });
        }
        if index == self.truncated.index {
            return None;
        }
        // The last run whose term is not above the bound ends where the next run begins.
        let above = self.runs.partition_point(|&(_, term)| term <= bound.term);
        let end = self.runs[above].0.prev()?;
        let term = self.term(end)?;
        (term <= bound.term).then_some(LogPosition { index: end, term })
    }

    /// An entry of `term` is appended.
    pub(crate) fn push(&mut self, term: Term) {
        assert!(term >= self.last().term, "terms never fall along a log");
        self.last = self.last.next();
        if self.runs.back().is_none_or(|&(_, latest)| latest < term) {
            self.runs.push_back((self.last, term));
        }
    }

    /// Entries from `first` on are dropped.
    pub(crate) fn cut_from(&mut self, first: LogIndex) {
        assert!(first > self.truncated.index, "cannot cut into what is truncated");
        while self.runs.back().is_some_and(|&(start, _)| start >= first) {
            self.runs.pop_back();
        }
        self.last = self.last.min(first.prev().unwrap_or_default());
    }

    /// Entries up to and including `position`, which the log holds, are dropped.
    pub(crate) fn truncate_to(&mut self, position: LogPosition) {
        assert!(self.holds(position), "the log does not hold {position}");
        while self.runs.get(1).is_some_and(|&(start, _)| start <= position.index.next()) {
            self.runs.pop_front();
        }
        if position.index == self.last {
            self.runs.clear();
        } else if let Some(first) = self.runs.front_mut() {
            first.0 = position.index.next();
        }
        self.truncated = position;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The terms of entries 1.. after ORIGIN, entry by entry: what the runs abbreviate.
    fn runs_of(terms: &[u64]) -> TermRuns {
        let mut runs = TermRuns::starting_after(LogPosition::ORIGIN);
        for &term in terms {
            runs.push(Term(term));
        }
        runs
    }

    fn check_against(runs: &TermRuns, truncated: usize, terms: &[u64]) {
        let last = terms.len();
        let at = |n: usize| if n == 0 { Term::ZERO } else { Term(terms[n - 1]) };
        for n in 0..last + 3 {
            let expected = (truncated..=last).contains(&n).then(|| at(n));
            assert_eq!(expected, runs.term(LogIndex(n as u64)), "term of {n} in {runs:?}");
        }
        assert_eq!(LogPosition { index: LogIndex(last as u64), term: at(last) }, runs.last());
        for index in 0..last + 2 {
            for term in 0..6 {
                let expected = (0..=index.min(last))
                    .rev()
                    .find(|&n| at(n) <= Term(term))
                    .filter(|&n| n >= truncated)
                    .map(|n| LogPosition { index: LogIndex(n as u64), term: at(n) });
                let bound = LogPosition::new(index as u64, term);
                assert_eq!(expected, runs.latest_not_after(bound), "{bound} in {runs:?}");
            }
        }
    }

    #[test]
    fn every_small_log_equals_its_entries_one_by_one() {
        for code in 0..4u32.pow(5) {
            let terms: Vec<u64> = (0..5).map(|n| u64::from(code / 4u32.pow(n) % 4) + 1).collect();
            if terms.windows(2).any(|w| w[0] > w[1]) {
                continue;
            }
            let runs = runs_of(&terms);
            check_against(&runs, 0, &terms);
            for cut in 0..=5usize {
                let position = LogPosition {
                    index: LogIndex(cut as u64),
                    term: runs.term(LogIndex(cut as u64)).unwrap(),
                };
                let mut shorter = runs.clone();
                shorter.truncate_to(position);
                check_against(&shorter, cut, &terms);
                for first in cut + 1..=5 {
                    let mut cut_off = shorter.clone();
                    cut_off.cut_from(LogIndex(first as u64));
                    check_against(&cut_off, cut, &terms[..first - 1]);
                    let again =
                        TermRuns::restore(position, cut_off.runs.clone().into(), cut_off.last);
                    assert_eq!(Ok(cut_off), again);
                }
            }
        }
    }

    #[test]
    fn inconsistent_runs_are_refused() {
        let at = |index, term| (LogIndex(index), Term(term));
        let restore = |runs: &[_], last| {
            TermRuns::restore(LogPosition::new(4, 2), runs.to_vec(), LogIndex(last))
        };
        assert!(restore(&[at(5, 2), at(7, 3)], 9).is_ok());
        assert!(restore(&[], 4).is_ok());
        assert_eq!(Err(LogIndex(9)), restore(&[], 9), "entries without a term");
        assert_eq!(Err(LogIndex(6)), restore(&[at(6, 2)], 9), "a gap");
        assert_eq!(Err(LogIndex(5)), restore(&[at(5, 1)], 9), "a term below the truncated one");
        assert_eq!(Err(LogIndex(7)), restore(&[at(5, 3), at(7, 3)], 9), "no rise in term");
        assert_eq!(Err(LogIndex(5)), restore(&[at(5, 2), at(5, 3)], 9), "no rise in index");
        assert_eq!(Err(LogIndex(7)), restore(&[at(5, 2), at(7, 3)], 6), "a run after the end");
    }
}
