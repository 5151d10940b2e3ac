//! Names for numbers: groups, replicas, terms, indexes and positions in a log.

use std::fmt;
use std::num::NonZeroU64;

/// One Raft group among the many that share a store's log and transport.
///
/// The core never looks at it; it is defined here so that log, transport and store agree on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// One replica of a group. Unique within the group, and best never reused.
///
/// If an id is used again after its replica was removed and lost its log, then the hard state
/// (term and vote) must outlive the log, and the new replica must not be started before the
/// change that adds it is committed: an empty log that votes too early speaks for what it has
/// forgotten. For the same reason it must not be added before every replica that is or may come
/// back has applied the removal, durably: one that was cut off all the time still counts it among
/// its voters, and its vote might elect a leader that lacks what is committed.
/// [`Session`] takes care of the acknowledgements of the earlier stay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub NonZeroU64);

impl ReplicaId {
    /// The replica with this number; `None` for zero.
    pub const fn new(id: u64) -> Option<Self> {
        match NonZeroU64::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({})", self.0)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A term: Raft's logical clock (Raft §5.1). A fresh replica is in term 0, in which nobody
/// leads and nothing is voted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The term before every election.
    pub const ZERO: Self = Self(0);

    /// The following term.
    ///
    /// # Panics
    /// After 2^64 - 1 elections.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("terms are exhausted"))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of an entry in the log. The first entry has index 1; index 0 is the place before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one.
    ///
    /// # Panics
    /// At the end of the number space.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The index before this one; `None` at the origin.
    #[must_use]
    pub fn prev(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    /// The index `count` further.
    ///
    /// # Panics
    /// At the end of the number space.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0.checked_add(count).expect("log indexes are exhausted"))
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An entry's index and term, which together identify it and everything before it
/// (the Log Matching Property, Raft §5.3).
///
/// The derived order compares terms only between equal indexes; whether a *log* is up to date is
/// asked with [`LogPosition::at_least_as_up_to_date_as`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// The index.
    pub index: LogIndex,
    /// The term of the entry at that index.
    pub term: Term,
}

impl LogPosition {
    /// The place before the first entry of an untruncated log.
    pub const ORIGIN: Self = Self { index: LogIndex::ZERO, term: Term::ZERO };

    /// A position from plain numbers.
    pub const fn new(index: u64, term: u64) -> Self {
        Self { index: LogIndex(index), term: Term(term) }
    }

    /// Whether a log that ends here is at least as up to date as one that ends at `other`: the
    /// later last term wins, and between equal last terms the longer log (Raft §5.4.1).
    #[must_use]
    pub fn at_least_as_up_to_date_as(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// Which of the promises of support between two stores: the later one has the higher number, and
/// what was withdrawn is never given again under its number. The core compares them and no more;
/// the store makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The following epoch.
    ///
    /// # Panics
    /// After 2^64 - 1 of them.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("epochs are exhausted"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which stay of a replica in the group a leader's message speaks to.
///
/// A replica that is removed and added again under the same id, in one term, may have lost its
/// disk in between; an acknowledgement of its earlier stay that arrives late must not count. The
/// leader stamps what it sends with the session, the follower echoes it. Unique within one term:
/// it is the index of the entry that made the replica a member, or of the leader's first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub LogIndex);
