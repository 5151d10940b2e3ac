//! Why something was not done.

use thiserror::Error;

use crate::types::{LogIndex, LogPosition, ReplicaId, Term};

/// A proposal or a read was not accepted. Nothing was appended; it is safe to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// This replica does not lead; try the one named.
    #[error("not the leader")]
    NotLeader {
        /// Who leads this replica's term, if known.
        leader: Option<ReplicaId>,
    },
    /// `Config::uncommitted_bytes_max` is reached; try again when something is committed.
    #[error("too many uncommitted bytes")]
    TooManyUncommitted,
    /// `Config::reads_pending_max` is reached; try again when some are answered.
    #[error("too many pending reads")]
    TooManyReads,
    /// Leadership is being handed over; try again in a moment, probably there.
    #[error("leadership is being transferred to {to}")]
    Transferring {
        /// To whom.
        to: ReplicaId,
    },
    /// An earlier change may still be uncommitted, or the leader has not yet committed an entry
    /// of its own term; try again in a moment.
    #[error("another membership change is pending")]
    MembershipPending,
    /// The change makes no sense in the present configuration; trying again will not help.
    #[error("membership change refused: {0}")]
    Membership(#[from] MembershipRefused),
    /// The replica has stopped, see [`Stopped`].
    #[error("the replica has stopped")]
    Stopped,
}

/// Why a membership change makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MembershipRefused {
    /// A joint configuration has to be left first.
    #[error("the configuration is joint and has to be left first")]
    Joint,
    /// There is no joint configuration to leave.
    #[error("the configuration is not joint")]
    NotJoint,
    /// Leaving a joint configuration carries no steps.
    #[error("leaving a joint configuration carries no steps")]
    StepsInLeave,
    /// There must be a voter.
    #[error("no voter would remain")]
    NoVoters,
    /// A batch of proposals may hold one change.
    #[error("more than one membership change in a batch")]
    SeveralInBatch,
}

/// The replica has seen evidence that safety is broken, here or elsewhere, and does nothing any
/// more. Every later call returns the same error. An operator has to look at it; the usual cause
/// is a disk that lost acknowledged writes or two replicas under one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Stopped {
    /// Two replicas lead in one term (Election Safety, Raft §5.2).
    #[error("two leaders in term {term}: {known} and {other}")]
    TwoLeaders {
        /// The term.
        term: Term,
        /// The one known before.
        known: ReplicaId,
        /// The one that claims it too.
        other: ReplicaId,
    },
    /// A leader's log differs from what is committed here (Leader Completeness, Raft §5.4).
    #[error("a committed entry is contradicted: {committed} here, {other} at the leader")]
    CommittedConflict {
        /// What is committed here.
        committed: LogPosition,
        /// What the leader has in its place.
        other: LogPosition,
    },
    /// The stored log does not hold what this replica wrote to it.
    #[error("the stored log lacks or contradicts entry {index}")]
    LogCorrupt {
        /// The entry.
        index: LogIndex,
    },
}

/// What a replica was to start from contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// Indexes are not in the order truncated <= applied <= last.
    #[error("log ({truncated}, {last}] does not reach the applied index {applied}")]
    Bounds {
        /// Where the log starts.
        truncated: LogIndex,
        /// The applied index.
        applied: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// The committed index lies after the log's end: acknowledged entries were lost.
    #[error("the log ends at {last}, but {commit} was known to be committed")]
    CommittedLost {
        /// Known to be committed.
        commit: LogIndex,
        /// Where the log ends.
        last: LogIndex,
    },
    /// The term runs are not ascending, do not begin after `truncated`, or pass the hard
    /// state's term.
    #[error("the log's term runs are inconsistent at {0}")]
    Terms(LogIndex),
    /// The recent entries do not end the log or contradict the term runs.
    #[error("the recent entries do not fit the log at {0}")]
    Entries(LogIndex),
    /// The membership breaks its invariant.
    #[error("invalid membership: {0}")]
    Membership(&'static str),
    /// The configuration is unusable.
    #[error("invalid configuration: {0}")]
    Config(&'static str),
}
