//! Majority and joint quorum arithmetic.
//!
//! Two questions are all that consensus asks of a set of voters. *How far has a quorum come?*
//! ([`Majority::reached`], [`Joint::reached`]: the commit index, a confirmed read round.) *Is the
//! vote won, lost, or still open?* ([`Majority::verdict`], [`Joint::verdict`].) Both are asked of
//! one set, or of two sets at once while membership changes through a joint configuration, where
//! a decision needs a majority of each (Raft §6). Whoever asks passes a function from voter to
//! answer; nothing is stored here and nothing is allocated for up to [`INLINE_VOTERS`] voters.
//!
//! The empty set decides nothing and so forbids nothing: it has reached everything and its vote
//! is won. This makes a plain configuration a joint one with an empty second half. A group
//! without any voter must therefore be kept from asking; the callers see to that.
//!
//! Caveats. *How far* is an order statistic and it is easy to be off by one, or to take the
//! answers of those that have answered for the answers of all: an absent answer counts as
//! behind everything, it does not shrink the set. `tests/oracle.rs` compares every function with
//! one that tries all subsets.
//!
//! Sources: Ongaro & Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended
//! version), §5 and §6. The same arithmetic is a package of its own in etcd-io/raft (`quorum`).

use std::collections::BTreeSet;

/// Sets of up to this many voters are evaluated without allocating.
pub const INLINE_VOTERS: usize = 16;

/// How far a quorum has come, ordered from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reached<T> {
    /// There is no quorum that has reached anything.
    Nothing,
    /// Every member of some quorum has reached this, and of no quorum more.
    UpTo(T),
    /// There are no voters, so nothing holds back.
    Everything,
}

impl<T> Reached<T> {
    /// What was reached, if it is a definite something.
    pub fn definite(self) -> Option<T> {
        match self {
            Self::UpTo(value) => Some(value),
            Self::Nothing | Self::Everything => None,
        }
    }
}

/// The state of a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A quorum said yes.
    Won,
    /// No quorum can say yes any more.
    Lost,
    /// It depends on those that have not answered.
    Open,
}

/// How many of `voters` make a majority.
///
/// ```
/// assert_eq!([1, 2, 2, 3, 3], [1, 2, 3, 4, 5].map(quorum::majority_of));
/// ```
pub const fn majority_of(voters: usize) -> usize {
    voters / 2 + 1
}

/// The majorities of one set of voters.
#[derive(Clone, Copy, Debug)]
pub struct Majority<'a, I>(pub &'a BTreeSet<I>);

impl<I: Copy + Ord> Majority<'_, I> {
    /// The greatest value that a majority has reached, where `of` gives each voter's value or
    /// `None` for nothing.
    ///
    /// ```
    /// use quorum::{Majority, Reached};
    /// let voters = [1, 2, 3].into();
    /// let matched = |voter| match voter { 1 => Some(9), 2 => Some(4), _ => None };
    /// assert_eq!(Reached::UpTo(4), Majority(&voters).reached(matched));
    /// ```
    pub fn reached<T: Copy + Ord>(&self, of: impl Fn(I) -> Option<T>) -> Reached<T> {
        let count = self.0.len();
        if count == 0 {
            return Reached::Everything;
        }
        if count <= INLINE_VOTERS {
            let mut values = [None; INLINE_VOTERS];
            for (slot, &voter) in values.iter_mut().zip(self.0) {
                *slot = of(voter);
            }
            reached_by_majority(&mut values[..count])
        } else {
            let mut values: Vec<Option<T>> = self.0.iter().map(|&voter| of(voter)).collect();
            reached_by_majority(&mut values)
        }
    }

    /// The state of a vote in which `of` gives each voter's answer, or `None` if it is out.
    pub fn verdict(&self, of: impl Fn(I) -> Option<bool>) -> Verdict {
        if self.0.is_empty() {
            return Verdict::Won;
        }
        let (mut yes, mut out) = (0, 0);
        for &voter in self.0 {
            match of(voter) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => out += 1,
            }
        }
        let needed = majority_of(self.0.len());
        if yes >= needed {
            Verdict::Won
        } else if yes + out >= needed {
            Verdict::Open
        } else {
            Verdict::Lost
        }
    }
}

/// The value that a majority of these voters has reached. Absent values sort first, so after an
/// ascending sort of `n` values exactly `majority_of(n)` of them are at or after the place
/// `n - majority_of(n)`.
fn reached_by_majority<T: Copy + Ord>(values: &mut [Option<T>]) -> Reached<T> {
    let place = values.len() - majority_of(values.len());
    values.sort_unstable();
    debug_assert!(values.iter().filter(|&&v| v >= values[place]).count() > values.len() / 2);
    match values[place] {
        Some(value) => Reached::UpTo(value),
        None => Reached::Nothing,
    }
}

/// The quorums of a configuration that may be joint: a majority of each half.
#[derive(Clone, Copy, Debug)]
pub struct Joint<'a, I> {
    /// The voters; of a joint configuration, the new ones.
    pub incoming: &'a BTreeSet<I>,
    /// The old voters of a joint configuration; else empty.
    pub outgoing: &'a BTreeSet<I>,
}

impl<I: Copy + Ord> Joint<'_, I> {
    /// The greatest value that a majority of both halves has reached.
    pub fn reached<T: Copy + Ord>(&self, of: impl Fn(I) -> Option<T>) -> Reached<T> {
        Majority(self.incoming).reached(&of).min(Majority(self.outgoing).reached(&of))
    }

    /// The state of a vote that has to be won in both halves.
    pub fn verdict(&self, of: impl Fn(I) -> Option<bool>) -> Verdict {
        let halves = [Majority(self.incoming).verdict(&of), Majority(self.outgoing).verdict(&of)];
        match halves {
            [Verdict::Lost, _] | [_, Verdict::Lost] => Verdict::Lost,
            [Verdict::Won, Verdict::Won] => Verdict::Won,
            _ => Verdict::Open,
        }
    }
}
