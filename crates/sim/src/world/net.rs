//! The network between members: who can reach whom, and how messages fare.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use env::SplitMix64;
use store::NodeId;

use crate::climate::Climate;

/// From one member to another.
pub(crate) type Link = (NodeId, NodeId);

/// The links between members, one for each direction.
pub(crate) struct Network {
    seed: u64,
    blocked: BTreeSet<Link>,
    /// Each link's own stream of chance, and when the last message on it arrives.
    links: BTreeMap<Link, (SplitMix64, Duration)>,
    dice: SplitMix64,
}

/// What becomes of a message: when it arrives, once, twice or not at all.
pub(crate) struct Fate {
    pub(crate) arrivals: Vec<Duration>,
    /// When it would arrive if it were not lost.
    pub(crate) due: Duration,
    pub(crate) lost: bool,
    pub(crate) late: bool,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            blocked: BTreeSet::new(),
            links: BTreeMap::new(),
            dice: SplitMix64::new(seed ^ 0x2e7),
        }
    }

    pub(crate) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        !self.blocked.contains(&(from, to))
    }

    pub(crate) fn block(&mut self, from: NodeId, to: NodeId) {
        if from != to {
            self.blocked.insert((from, to));
        }
    }

    /// A member can be reached again, and can reach the others.
    pub(crate) fn rejoin(&mut self, id: NodeId) {
        self.blocked.retain(|&(from, to)| from != id && to != id);
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    /// The links on which nothing gets through.
    pub(crate) fn blocked(&self) -> &BTreeSet<Link> {
        &self.blocked
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.blocked.is_empty()
    }

    /// Something drawn that belongs to no link.
    pub(crate) fn draw(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.dice.below(below) }
    }

    /// Decides about a message; `once`: it must not come twice.
    pub(crate) fn send(
        &mut self,
        now: Duration,
        (from, to): Link,
        climate: &Climate,
        once: bool,
    ) -> Fate {
        let seed = self.seed ^ from.0.rotate_left(17) ^ to.0.rotate_left(43);
        let (dice, last) =
            self.links.entry((from, to)).or_insert_with(|| (SplitMix64::new(seed), Duration::ZERO));
        let mut one_in = |chance: u64| chance > 0 && dice.below(chance) == 0;
        let (lost, twice, late) = (
            one_in(climate.loss_one_in),
            one_in(climate.duplicate_one_in),
            one_in(climate.late_one_in),
        );
        let (least, more) = climate.delay_us;
        let mut arrival = |late: bool| {
            let mut delay = least + dice.below(more + 1);
            if late {
                delay += dice.below(10_000_000);
            }
            now + Duration::from_micros(delay)
        };
        let mut arrivals = vec![arrival(late)];
        if twice && !once {
            arrivals.push(arrival(true));
        }
        if climate.in_order && !late {
            arrivals[0] = arrivals[0].max(*last + Duration::from_nanos(1));
            *last = arrivals[0];
        }
        let lost = lost || self.blocked.contains(&(from, to));
        let due = arrivals[0];
        if lost {
            arrivals.clear();
        }
        Fate { arrivals, due, lost, late: late && !lost }
    }
}
