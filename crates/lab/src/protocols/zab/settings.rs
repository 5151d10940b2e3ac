//! How the processes of a run are set up, and how they are broken.

use std::time::Duration;

use super::message::Body;
use crate::protocol::Setup;

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    pub(super) n: usize,
    /// How often a leader pings.
    pub(super) ping: Duration,
    /// How long a follower or a leader goes on without hearing from the other side.
    pub(super) timeout: Duration,
    /// Votes are compared by place alone.
    pub(super) elect_by_place: bool,
    pub(super) skip_discovery: bool,
    pub(super) longest_history: bool,
    pub(super) slot_by_slot: bool,
    pub(super) forget_accepted_epoch: bool,
    pub(super) accept_old_epoch: bool,
    pub(super) same_epoch: bool,
    pub(super) skip_synchronization: bool,
    pub(super) commit_initial_at_once: bool,
    pub(super) ack_before_persisting: bool,
    pub(super) epoch_before_history: bool,
    pub(super) commit_without_quorum: bool,
    pub(super) ready_too_soon: bool,
    commits_overtake: bool,
    not_fifo: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            n: setup.n,
            ping: Duration::from_millis(setup.knob("ping_ms")),
            timeout: Duration::from_millis(setup.knob("timeout_ms")),
            elect_by_place: setup.knob("election") == 1,
            skip_discovery: setup.broken("skip-discovery"),
            longest_history: setup.broken("longest-history"),
            slot_by_slot: setup.broken("slot-by-slot"),
            forget_accepted_epoch: setup.broken("forget-accepted-epoch"),
            accept_old_epoch: setup.broken("accept-old-epoch"),
            same_epoch: setup.broken("same-epoch"),
            skip_synchronization: setup.broken("skip-synchronization"),
            commit_initial_at_once: setup.broken("commit-initial-at-once"),
            ack_before_persisting: setup.broken("ack-before-persisting"),
            epoch_before_history: setup.broken("epoch-before-history"),
            commit_without_quorum: setup.broken("commit-without-quorum"),
            ready_too_soon: setup.broken("ready-too-soon"),
            commits_overtake: setup.broken("commits-overtake"),
            not_fifo: setup.broken("not-fifo"),
        }
    }

    pub(super) fn quorum(&self) -> usize {
        self.n / 2 + 1
    }

    /// How many acks commit a proposal.
    pub(super) fn enough_to_commit(&self) -> usize {
        if self.commit_without_quorum { (self.quorum() - 1).max(1) } else { self.quorum() }
    }

    /// What does not wait for its turn on a link.
    pub(super) fn overtakes(&self, body: &Body) -> bool {
        self.not_fifo || self.commits_overtake && matches!(body, Body::Commit(_))
    }

    /// A commit delivers its transaction, whatever came or did not come before.
    pub(super) fn delivers_alone(&self) -> bool {
        self.commits_overtake
    }
}
