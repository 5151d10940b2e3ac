//! Transactions, and what processes say.

use std::fmt;

use super::link::Frame;
use crate::process::{NodeId, RequestId};

/// The identifier of a transaction: zxids are compared by epoch, then by counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid {
    /// The epoch of the primary that broadcast it.
    pub epoch: u64,
    /// Counts from 1 in each epoch.
    pub counter: u64,
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}

/// A state change as the primary computed it: it only makes sense in the state that it was computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// The primary's state before.
    pub from: u64,
    /// The state after: what a backup sets its own to.
    pub to: u64,
}

/// A transaction: the paper's pair of a value and a zxid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txn {
    /// Its identifier.
    pub zxid: Zxid,
    /// Its value.
    pub change: Change,
    /// The client's request that it answers.
    pub request: RequestId,
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}->{}, {}>", self.change.from, self.change.to, self.zxid)
    }
}

/// The zxids of a history.
pub(super) struct Zxids<'a>(pub(super) &'a [Txn]);

impl fmt::Display for Zxids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zxids: Vec<String> = self.0.iter().map(|txn| txn.zxid.to_string()).collect();
        write!(f, "[{}]", zxids.join(" "))
    }
}

/// What a follower and its leader say to each other, over a FIFO link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Phase 1, to the prospective leader: the last epoch that I promised.
    CEpoch(u64),
    /// Phase 1, from the leader: will you promise this one? It is later than any that a quorum has promised.
    NewEpoch(u64),
    /// Phase 1: I do, and follow no earlier leader from now on.
    AckEpoch {
        /// The epoch promised.
        epoch: u64,
        /// The epoch of the last leader whose history I took.
        current: u64,
        /// My history.
        history: Vec<Txn>,
        /// I had promised it before, so do not count me.
        again: bool,
    },
    /// Phase 2, from the leader: take this history for your own.
    NewLeader {
        /// The leader's epoch.
        epoch: u64,
        /// The initial history of the epoch, and what has been broadcast in it so far.
        history: Vec<Txn>,
    },
    /// Phase 2: I have.
    AckLeader {
        /// The leader's epoch.
        epoch: u64,
        /// The last transaction of that history.
        last: Option<Zxid>,
    },
    /// Phase 2, from the leader: a quorum has. Deliver it.
    CommitLeader {
        /// The leader's epoch.
        epoch: u64,
        /// The last transaction that is committed.
        up_to: Option<Zxid>,
    },
    /// Phase 3, from the leader: accept this.
    Propose(Txn),
    /// Phase 3: I did.
    Ack(Zxid),
    /// Phase 3, from the leader: a quorum did. Deliver it.
    Commit(Zxid),
    /// To the leader: a client asks for this.
    Request {
        /// The client's request.
        id: RequestId,
        /// What to add to the state.
        value: u64,
    },
}

impl Body {
    /// What sort of message it is.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CEpoch(_) => "CEPOCH",
            Self::NewEpoch(_) => "NEWEPOCH",
            Self::AckEpoch { .. } => "ACK-E",
            Self::NewLeader { .. } => "NEWLEADER",
            Self::AckLeader { .. } => "ACK-LD",
            Self::CommitLeader { .. } => "COMMIT-LD",
            Self::Propose(_) => "PROPOSE",
            Self::Ack(_) => "ACK",
            Self::Commit(_) => "COMMIT",
            Self::Request { .. } => "REQUEST",
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::CEpoch(epoch) | Self::NewEpoch(epoch) => write!(f, "{kind}({epoch})"),
            Self::AckEpoch { current, history, again, .. } => {
                let again = if *again { ", again" } else { "" };
                write!(f, "{kind}({current}, {}{again})", Zxids(history))
            }
            Self::NewLeader { epoch, history } => write!(f, "{kind}({epoch}, {})", Zxids(history)),
            Self::AckLeader { epoch, .. } => write!(f, "{kind}({epoch})"),
            Self::CommitLeader { epoch, up_to: None } => write!(f, "{kind}({epoch})"),
            Self::CommitLeader { epoch, up_to: Some(up_to) } => {
                write!(f, "{kind}({epoch}) up to {up_to}")
            }
            Self::Propose(txn) => write!(f, "{kind} {txn}"),
            Self::Ack(zxid) | Self::Commit(zxid) => write!(f, "{kind} {zxid}"),
            Self::Request { id, value } => write!(f, "{kind} {id}: add {value}"),
        }
    }
}

/// Whom a process would have for a leader, and how recent that one's history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// The candidate's currentEpoch.
    pub epoch: u64,
    /// Its last zxid.
    pub zxid: Zxid,
    /// The candidate.
    pub leader: NodeId,
}

/// What a process is doing, as it tells others in elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// It looks for a leader.
    Looking,
    /// It follows one.
    Following,
    /// It leads.
    Leading,
}

/// What a process says in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// Its vote.
    pub vote: Vote,
    /// The round of elections that it is in, or was elected or elected its leader in.
    pub round: u64,
    /// What it is doing.
    pub doing: Doing,
}

/// What processes send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// In an election.
    Notification(Notification),
    /// A follower to its leader.
    Up(Frame),
    /// A leader to a follower.
    Down(Frame),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notification(Notification { vote, round, doing }) => match doing {
                Doing::Looking => write!(
                    f,
                    "Vote for {} ({}, {}), round {round}",
                    vote.leader, vote.epoch, vote.zxid
                ),
                Doing::Following => write!(f, "I follow {}, round {round}", vote.leader),
                Doing::Leading => write!(f, "I lead, round {round}"),
            },
            Self::Up(frame) | Self::Down(frame) => match &frame.data {
                Some((_, body)) => body.fmt(f),
                None => write!(f, "PING"),
            },
        }
    }
}
