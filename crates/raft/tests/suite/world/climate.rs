//! What a seed draws, and what came of it.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// How this seed's world treats its inhabitants. Probabilities are per mille.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Climate {
    pub(crate) founders: u64,
    pub(crate) drop: u64,
    pub(crate) duplicate: u64,
    pub(crate) latency_ms_max: u64,
    pub(crate) straggler: u64,
    pub(crate) disk_ms_max: u64,
    pub(crate) election_ms: u64,
    pub(crate) crash: u64,
    pub(crate) partition: u64,
    pub(crate) membership: u64,
    pub(crate) transfer: u64,
    pub(crate) truncate: u64,
    pub(crate) campaign: u64,
    pub(crate) client_ms_max: u64,
    pub(crate) rejoin_wiped: bool,
    pub(crate) pre_vote: bool,
    pub(crate) check_quorum: bool,
    pub(crate) small_limits: bool,
    /// One entry to an append, one append at a time.
    pub(crate) one_by_one: bool,
    /// Leaders ask to be stood by; and how often support lapses: 0 if there is none at all.
    pub(crate) fortify: bool,
    pub(crate) lapse: u64,
    /// Founders, by bit, of a version that knows of no support; and how often one that restarts is upgraded.
    pub(crate) classical: u64,
    pub(crate) upgrade: u64,
    pub(crate) mutant: Option<raft::Mutant>,
}

impl Climate {
    /// Each seed draws its own mix; some faults are off in many seeds, so that others come
    /// through undisturbed.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut some = |high| if dice.chance(400) { 0 } else { dice.within(1, high) };
        Self {
            drop: some(150),
            duplicate: some(100),
            straggler: some(60),
            crash: some(150),
            partition: some(200),
            membership: some(200),
            transfer: some(100),
            truncate: some(150),
            campaign: some(150),
            founders: dice.of([1, 2, 3, 3, 3, 4, 5, 5]),
            latency_ms_max: dice.of([2, 20, 120, 400]),
            disk_ms_max: dice.of([1, 10, 60, 300]),
            election_ms: dice.of([100, 200, 1_000]),
            client_ms_max: dice.of([10, 40, 200]),
            rejoin_wiped: dice.chance(600),
            pre_vote: dice.chance(700),
            check_quorum: dice.chance(700),
            small_limits: dice.chance(600),
            one_by_one: dice.chance(100),
            fortify: dice.chance(600),
            lapse: dice.of([0, 30, 200, 600]),
            classical: 0,
            upgrade: 0,
            mutant: None,
        }
    }

    /// Some groups are of two versions, as while a cluster is upgraded.
    pub(crate) fn draw_versions(&mut self, dice: &mut Dice) {
        if self.fortify && dice.chance(250) {
            self.classical = dice.within(1, 127);
            self.upgrade = dice.of([0, 200, 700]);
        }
    }
}

/// How often each kind of thing happened, over many worlds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(pub(crate) BTreeMap<&'static str, u64>);

impl Tally {
    pub(super) fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}
