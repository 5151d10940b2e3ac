//! How the replicas of a run are set up, and how they are broken.

use std::time::Duration;

use crate::protocol::Setup;

/// How the replicas of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    pub(super) n: usize,
    /// How many slots at most a leader proposes in beyond the first that is not chosen, that one included.
    pub(super) alpha: u64,
    pub(super) election_ms: u64,
    pub(super) heartbeat: Duration,
    pub(super) snapshot_slots: u64,
    pub(super) commonest_value: bool,
    pub(super) own_values: bool,
    pub(super) skip_gaps: bool,
    pub(super) forget_promise: bool,
    pub(super) forget_accepted: bool,
    pub(super) reuse_ballot: bool,
    pub(super) apply_out_of_order: bool,
    pub(super) apply_when_accepted: bool,
    pub(super) commit_any_ballot: bool,
    pub(super) apply_twice: bool,
    pub(super) answer_early: bool,
    pub(super) snapshot_beyond: bool,
    pub(super) forget_below_snapshot: bool,
    pub(super) prepare_each_slot: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        Self {
            n: setup.n,
            alpha: setup.knob("alpha"),
            election_ms: setup.knob("election_ms"),
            heartbeat: Duration::from_millis(setup.knob("heartbeat_ms")),
            snapshot_slots: setup.knob("snapshot_slots"),
            commonest_value: setup.broken("commonest-value"),
            own_values: setup.broken("own-values"),
            skip_gaps: setup.broken("skip-gaps"),
            forget_promise: setup.broken("forget-promise"),
            forget_accepted: setup.broken("forget-accepted"),
            reuse_ballot: setup.broken("reuse-ballot"),
            apply_out_of_order: setup.broken("apply-out-of-order"),
            apply_when_accepted: setup.broken("apply-when-accepted"),
            commit_any_ballot: setup.broken("commit-any-ballot"),
            apply_twice: setup.broken("apply-twice"),
            answer_early: setup.broken("answer-early"),
            snapshot_beyond: setup.broken("snapshot-beyond"),
            forget_below_snapshot: setup.broken("forget-below-snapshot"),
            prepare_each_slot: setup.broken("prepare-each-slot"),
        }
    }

    pub(super) fn majority(&self) -> usize {
        self.n / 2 + 1
    }
}
