//! What concerns many replicas at once is done in waves.
//!
//! When a store goes, a third of all replicas must hear of it, and then campaign; when it comes
//! back, as many are to be fortified again; when a whole cluster starts, every replica's election
//! timeout ends in the same second. Done at once, each would stop everything else, here and at
//! the peers. So this is a queue of two kinds of work, and a rhythm:
//!
//! - *sweeps*: one event between stores, to be told to the replicas that it concerns, in order of
//!   their ranges, lowest (system) ranges first. Two sweeps never overtake each other, so a replica
//!   hears of what happened in the order in which it happened;
//! - *campaigns* that are due, the longest due first and among them the lowest ranges, so that a
//!   range that fails again and again does not hold others back.
//!
//! Nothing safe depends on when a wave comes: a lease looks at stores, and a bound replica that is
//! asked for its vote asks its store first.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::liveness::Epoch;
use crate::types::{NodeId, RangeId};

/// What happened between this store and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// This store has withdrawn from it.
    Withdrawn(NodeId, Epoch),
    /// Its support for this one has run out.
    Lapsed(NodeId),
    /// It supports this one.
    Gained(NodeId, Epoch),
}

/// News, and the first range that has not heard them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub(crate) news: News,
    pub(crate) next: RangeId,
}

#[derive(Debug, Default)]
pub(crate) struct Waves {
    pub(crate) sweeps: VecDeque<Sweep>,
    /// Campaigns by the second in which they became due.
    due: BTreeSet<(u64, RangeId)>,
    /// Campaigns to be tried again; ascending in time.
    retries: VecDeque<(Duration, RangeId, u8)>,
    /// Ranges that could win no election, as the stores of a quorum are gone.
    parked: BTreeSet<RangeId>,
    next_wave: Duration,
    waves: u64,
}

impl Waves {
    pub(crate) fn tell(&mut self, news: News) {
        self.sweeps.push_back(Sweep { news, next: RangeId(0) });
    }

    pub(crate) fn campaign_due(&mut self, since: Duration, range: RangeId) {
        self.due.insert((since.as_secs(), range));
    }

    pub(crate) fn next_due(&mut self) -> Option<RangeId> {
        self.due.pop_first().map(|(_, range)| range)
    }

    pub(crate) fn retry_at(&mut self, at: Duration, range: RangeId, left: u8) {
        self.retries.push_back((at, range, left));
    }

    pub(crate) fn next_retry(&mut self, now: Duration) -> Option<(RangeId, u8)> {
        let &(at, range, left) = self.retries.front()?;
        if at > now {
            return None;
        }
        self.retries.pop_front();
        Some((range, left))
    }

    pub(crate) fn park(&mut self, range: RangeId) {
        self.parked.insert(range);
    }

    /// A store is there again: whoever could not win an election may now.
    pub(crate) fn unpark(&mut self, now: Duration) {
        let parked = std::mem::take(&mut self.parked);
        self.due.extend(parked.into_iter().map(|range| (now.as_secs(), range)));
    }

    /// When the next wave is to be, if there is work for one.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let work = !self.sweeps.is_empty() || !self.due.is_empty();
        let retry = self.retries.front().map(|&(at, ..)| at.max(self.next_wave));
        work.then_some(self.next_wave).into_iter().chain(retry).min()
    }

    /// Whether a wave begins now; then the next is an interval away, give or take a quarter, lest
    /// stores that were woken together go on together.
    pub(crate) fn begin(&mut self, now: Duration, interval: Duration, node: NodeId) -> bool {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.waves += 1;
        let jitter = mixed(node.0, self.waves) % 512;
        let per_1024 = u32::try_from(768 + jitter).unwrap_or(1_024);
        self.next_wave = now + interval * per_1024 / 1_024;
        true
    }
}

/// Two numbers stirred into one, the same everywhere (the finalizer of `SplitMix64`).
pub(crate) fn mixed(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(1);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_longest_due_come_first_and_then_the_lowest_ranges() {
        let mut waves = Waves::default();
        for (since, range) in [(2, 1), (1, 9), (1, 4), (3, 2)] {
            waves.campaign_due(SECOND * since, RangeId(range));
        }
        let order: Vec<u64> =
            std::iter::from_fn(|| waves.next_due()).map(|range| range.0).collect();
        assert_eq!(vec![4, 9, 1, 2], order);
    }

    #[test]
    fn waves_keep_their_distance_and_need_work() {
        let mut waves = Waves::default();
        assert!(!waves.begin(SECOND, SECOND, NodeId(1)), "nothing to do");
        for round in 0..100 {
            waves.campaign_due(SECOND, RangeId(round));
            let now = waves.next_deadline().unwrap().max(SECOND);
            assert!(waves.begin(now, SECOND, NodeId(1)));
            let distance = waves.next_wave - now;
            assert!((SECOND * 3 / 4..SECOND * 5 / 4).contains(&distance), "{distance:?}");
            assert!(!waves.begin(now, SECOND, NodeId(1)), "not yet");
        }
    }

    #[test]
    fn a_retry_waits_for_its_time() {
        let mut waves = Waves::default();
        waves.retry_at(SECOND * 2, RangeId(7), 3);
        assert_eq!(Some(SECOND * 2), waves.next_deadline());
        assert_eq!(None, waves.next_retry(SECOND));
        assert_eq!(Some((RangeId(7), 3)), waves.next_retry(SECOND * 2));
        assert_eq!(None, waves.next_deadline());
    }
}
