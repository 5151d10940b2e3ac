//! What voters say, what they keep, and how they are set up.

use std::fmt;
use std::time::Duration;

use crate::process::{NodeId, RequestId};
use crate::protocol::Setup;
use crate::protocols::kafka::{Epoch, EpochEnd, Log, Record};

/// What voters say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// A candidate asks for a vote.
    Vote {
        /// The epoch that it wants to lead.
        epoch: Epoch,
        /// The epoch of its last record.
        last_epoch: Option<Epoch>,
        /// The end of its log.
        end: u64,
    },
    /// The answer.
    Voted {
        /// The candidate's epoch.
        epoch: Epoch,
        /// Whether it has the vote.
        granted: bool,
    },
    /// The sender leads: fetch from it.
    BeginQuorumEpoch(Epoch),
    /// The sender does not lead its epoch any more.
    EndQuorumEpoch(Epoch),
    /// A follower asks for records. It has all before.
    Fetch {
        /// The epoch that it follows.
        epoch: Epoch,
        /// The end of its log.
        offset: u64,
        /// The epoch of its last record.
        last_epoch: Option<Epoch>,
    },
    /// Records for a follower.
    Records {
        /// The epoch that the leader leads.
        epoch: Epoch,
        /// Where they begin.
        offset: u64,
        /// What follows in the leader's log.
        records: Vec<Record>,
        /// The leader's high watermark.
        high_watermark: u64,
    },
    /// The follower's log is not a beginning of the leader's.
    Diverging {
        /// The epoch that the leader leads.
        epoch: Epoch,
        /// What the follower's fetch said: offset and last epoch.
        asked: (u64, Option<Epoch>),
        /// Where that epoch, or the one before it, ends in the leader's log.
        end: EpochEnd,
    },
    /// What was asked was of an earlier epoch, or of one that does not lead.
    Fenced {
        /// The sender's epoch.
        epoch: Epoch,
        /// Who leads it, if the sender knows.
        leader: Option<NodeId>,
    },
    /// What a client asked of a voter that does not lead.
    Forward {
        /// The client's request.
        id: RequestId,
        /// What it wants written.
        value: u64,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |offset: &u64, last: &Option<Epoch>| match last {
            Some(epoch) => format!("{offset}, after a record of epoch {epoch}"),
            None => format!("{offset}, after nothing"),
        };
        match self {
            Self::Vote { epoch, last_epoch, end: offset } => {
                write!(f, "Vote, epoch {epoch}: the log ends at {}", end(offset, last_epoch))
            }
            Self::Voted { epoch, granted: true } => write!(f, "Vote granted, epoch {epoch}"),
            Self::Voted { epoch, granted: false } => write!(f, "Vote refused, epoch {epoch}"),
            Self::BeginQuorumEpoch(epoch) => write!(f, "BeginQuorumEpoch {epoch}"),
            Self::EndQuorumEpoch(epoch) => write!(f, "EndQuorumEpoch {epoch}"),
            Self::Fetch { epoch, offset, last_epoch } => {
                write!(f, "Fetch, epoch {epoch}: from {}", end(offset, last_epoch))
            }
            Self::Records { offset, records, high_watermark, .. } => {
                let records: Vec<String> = records.iter().map(Record::to_string).collect();
                write!(
                    f,
                    "Records from {offset}: {}; high watermark {high_watermark}",
                    if records.is_empty() { "none".to_owned() } else { records.join(" ") }
                )
            }
            Self::Diverging { end, .. } => write!(f, "DivergingEpoch: {end}"),
            Self::Fenced { epoch, leader: Some(leader) } => {
                write!(f, "FencedLeaderEpoch, {leader} leads epoch {epoch}")
            }
            Self::Fenced { epoch, leader: None } => write!(f, "FencedLeaderEpoch, epoch {epoch}"),
            Self::Forward { value, .. } => write!(f, "Append v{value}"),
        }
    }
}

impl Message {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Vote { .. } => "Vote",
            Self::Voted { .. } => "Voted",
            Self::BeginQuorumEpoch(_) => "BeginQuorumEpoch",
            Self::EndQuorumEpoch(_) => "EndQuorumEpoch",
            Self::Fetch { .. } => "Fetch",
            Self::Records { .. } => "Records",
            Self::Diverging { .. } => "DivergingEpoch",
            Self::Fenced { .. } => "FencedLeaderEpoch",
            Self::Forward { .. } => "Forward",
        }
    }

    /// The epoch that its sender is in; `None` of what clients say.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match self {
            Self::Vote { epoch, .. }
            | Self::Voted { epoch, .. }
            | Self::BeginQuorumEpoch(epoch)
            | Self::EndQuorumEpoch(epoch)
            | Self::Fetch { epoch, .. }
            | Self::Records { epoch, .. }
            | Self::Diverging { epoch, .. }
            | Self::Fenced { epoch, .. } => Some(*epoch),
            Self::Forward { .. } => None,
        }
    }
}

/// Timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// No leader was heard of for too long, or an election took too long.
    Election,
    /// A follower: nothing came, ask again.
    Fetch,
    /// A leader: answer fetches that have waited, and look who still fetches.
    Lead,
}

/// What comes of a request, and what is applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Applied to the state machine.
    Applied {
        /// The record's offset.
        offset: u64,
        /// The record.
        record: Record,
    },
    /// Committed.
    Acknowledged {
        /// The record's offset.
        offset: u64,
        /// The record.
        record: Record,
    },
    /// The voter does not lead, or not any more: nothing is promised.
    NotLeader,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { offset, record } => write!(f, "{record} at {offset}"),
            Self::Acknowledged { offset, record } => write!(f, "committed: {record} at {offset}"),
            Self::NotLeader => f.write_str("NotLeaderOrFollower"),
        }
    }
}

/// What survives a crash: the log, and the file `quorum-state`. Both are flushed before anything is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The latest epoch heard of.
    pub epoch: Epoch,
    /// Who has its vote in that epoch.
    pub voted: Option<NodeId>,
    /// The log.
    pub log: Log,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    pub(super) n: usize,
    pub(super) fetch_timeout: Duration,
    pub(super) election_timeout_ms: u64,
    pub(super) fetch_max: usize,
    pub(super) count_old_epochs: bool,
    pub(super) forget_vote: bool,
    pub(super) vote_twice: bool,
    pub(super) vote_without_log_check: bool,
    pub(super) keep_diverging: bool,
    pub(super) believe_late_answers: bool,
    pub(super) count_connected: bool,
    pub(super) count_older_fetches: bool,
    pub(super) lead_into_next_epoch: bool,
    pub(super) apply_at_fetch: bool,
    pub(super) answer_at_append: bool,
    pub(super) begin_at_watermark: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            n: setup.n,
            fetch_timeout: Duration::from_millis(setup.knob("fetch_timeout_ms")),
            election_timeout_ms: setup.knob("election_timeout_ms"),
            fetch_max: usize::try_from(setup.knob("fetch_max")).unwrap_or(usize::MAX),
            count_old_epochs: setup.broken("count-old-epochs"),
            forget_vote: setup.broken("forget-vote"),
            vote_twice: setup.broken("vote-twice"),
            vote_without_log_check: setup.broken("vote-without-log-check"),
            keep_diverging: setup.broken("keep-diverging"),
            believe_late_answers: setup.broken("believe-late-answers"),
            count_connected: setup.broken("count-connected"),
            count_older_fetches: setup.broken("count-older-fetches"),
            lead_into_next_epoch: setup.broken("lead-into-next-epoch"),
            apply_at_fetch: setup.broken("apply-at-fetch"),
            answer_at_append: setup.broken("answer-at-append"),
            begin_at_watermark: setup.broken("begin-at-watermark"),
        }
    }

    pub(super) fn majority(&self) -> usize {
        self.n / 2 + 1
    }
}
