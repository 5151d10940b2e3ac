//! What replicas of one group say to each other.
//!
//! A message names its sender, its addressee and the term its sender was in. The store adds the
//! group, the transport adds the framing. Nothing in a message needs to be decoded by the core.

use super::entry::Entry;
use super::ids::{Epoch, LogIndex, LogPosition, ReplicaId, Session, Term};
use super::membership::Membership;

/// A message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: ReplicaId,
    /// Whom it is for.
    pub to: ReplicaId,
    /// The term the sender was in. A pre-vote's campaign term is in its body.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me in `campaign_term`?" Changes nothing at the receiver
    /// (thesis §9.6).
    PreVote {
        /// The term the sender would campaign in: its own plus one.
        campaign_term: Term,
        /// The end of the sender's log.
        last: LogPosition,
    },
    /// The answer to a pre-vote.
    PreVoteResponse {
        /// Of the request.
        campaign_term: Term,
        /// Whether the vote would be given.
        granted: bool,
        /// The last position its sender knows to be committed. The asker may be the only one
        /// not to know that a membership change is committed, and be unable to win any election
        /// by the old membership: those that know may no longer vote for it nor campaign.
        commit: LogPosition,
    },
    /// "Vote for me in this message's term." (Raft §5.2)
    Vote {
        /// The end of the sender's log.
        last: LogPosition,
        /// The present leader asked for this election (thesis §3.10), so a receiver does not
        /// stand by that leader.
        transfer: bool,
    },
    /// The answer to a vote.
    VoteResponse {
        /// Whether the vote is given; it is durable by then.
        granted: bool,
        /// As in the answer to a pre-vote.
        commit: LogPosition,
    },
    /// Entries to append after `prev` (Raft §5.3); none in a probe.
    Append {
        /// To be echoed.
        session: Session,
        /// What must precede the entries.
        prev: LogPosition,
        /// The entries, consecutive from `prev.index + 1`.
        entries: Vec<Entry>,
        /// The sender's commit index; may lie beyond these entries.
        commit: LogIndex,
    },
    /// The receiver's log equals the leader's up to and including `matched`, durably.
    AppendAccepted {
        /// Of the request.
        session: Session,
        /// Everything up to here is durable at the sender of this answer.
        matched: LogIndex,
    },
    /// The receiver's log has no entry at the request's `prev`, or one of another term.
    AppendRejected {
        /// Of the request.
        session: Session,
        /// `prev.index` of the request.
        rejected: LogIndex,
        /// The receiver's latest position not after `prev` in index or term: the logs cannot
        /// agree anywhere after it (Raft §5.3, the optimization by term).
        hint: LogPosition,
    },
    /// "I lead." Also carries what is committed and the round that confirms reads.
    Heartbeat {
        /// The leader's last committed position. Since index *and* term are given, a receiver
        /// whose log holds it knows that its log agrees up to there.
        commit: LogPosition,
        /// Read-confirmation round (thesis §6.4); rises within a term.
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatResponse {
        /// Of the request.
        round: u64,
        /// What its sender knows to be committed.
        commit: LogIndex,
    },
    /// "This much is committed." Not answered.
    Commit {
        /// As in a heartbeat.
        commit: LogPosition,
    },
    /// The data of a snapshot has arrived in full; take it (Raft §7). Made by the driver of the
    /// sender from a [`SendSnapshot`](crate::SendSnapshot), shown to the receiver's core when
    /// its driver has staged the data. Answered like an append.
    InstallSnapshot {
        /// From the [`SendSnapshot`](crate::SendSnapshot).
        session: Session,
        /// What the data is. Boxed: it is rare and large.
        snapshot: Box<SnapshotMeta>,
    },
    /// "Campaign at once": the last step of a leadership transfer (thesis §3.10).
    TimeoutNow,
    /// "Your term has passed": answers a leader's message of an earlier term, so that a replica
    /// that is ahead in term is not cut off for ever (thesis §9.6 and CheckQuorum).
    StaleTerm,
    /// "I lead: stand by me for as long as your store supports mine."
    Fortify,
    /// "I do, while my store supports yours under this epoch." The binding is durable by then.
    Fortified {
        /// The epoch.
        epoch: Epoch,
    },
    /// "I lead and count on you under this epoch." Answers [`Body::Fortified`].
    Counted {
        /// The epoch.
        epoch: Epoch,
        /// As in a heartbeat.
        commit: LogPosition,
    },
    /// "I do not lead any more, in no term up to this message's: stand by me no longer."
    Release,
    /// The answer to a release.
    Released,
}

/// What a snapshot holds: the state after applying everything up to `position`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that is in it.
    pub position: LogPosition,
    /// The membership as of that entry.
    pub membership: Membership,
}
