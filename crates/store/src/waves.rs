//! What concerns many replicas at once is done in waves.
//!
//! When a store goes, a third of all replicas must hear of it, and then campaign; when it comes
//! back, as many are to be fortified again; when a whole cluster starts, every replica's election
//! timeout ends in the same second. Done at once, each would stop everything else, here and at
//! the peers. So this is a queue of two kinds of work, and a rhythm:
//!
//! - *sweeps*: what is the case between this store and another, to be told to the replicas that it
//!   concerns, in order of their ranges, lowest (system) ranges first. There are two of a store at
//!   most: whether it supports this one, and up to which epoch this one has withdrawn from it. News
//!   take the place of older ones that are still being told, and go round from there; so a peer
//!   that comes and goes costs no more than the telling, and the waves take turns between sweeps, so
//!   that it does not hold up the news of another that is gone for good, which come first;
//! - *campaigns* that are due, the longest due first and among them the lowest ranges, so that a
//!   range that fails again and again does not hold others back;
//! - *releases* of ended leaderships that were not answered, where no election could be won either.
//!
//! Nothing safe depends on when a wave comes: a lease looks at stores, and a bound replica that is
//! asked for its vote asks its store first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft::Term;

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

impl News {
    /// Whether these are about the same thing, of which only the newest matters.
    fn replaces(self, older: News) -> bool {
        match (self, older) {
            (News::Withdrawn(node, _), News::Withdrawn(other, _)) => node == other,
            (News::Withdrawn(..), _) | (_, News::Withdrawn(..)) => false,
            _ => self.node() == older.node(),
        }
    }

    fn node(self) -> NodeId {
        let (News::Withdrawn(node, _) | News::Lapsed(node) | News::Gained(node, _)) = self;
        node
    }
}

/// News on their way through all ranges, once around.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub(crate) news: News,
    /// The last range that was looked at.
    at: Option<RangeId>,
    /// The range after which the way began; it ends there.
    from: Option<RangeId>,
    /// It has been at the last range, and goes on from the first.
    around: bool,
}

impl Sweep {
    /// The next range to look at, of those that `next_after` knows; `None` if all have heard.
    pub(crate) fn advance(
        &mut self,
        next_after: impl Fn(Option<RangeId>) -> Option<RangeId>,
    ) -> Option<RangeId> {
        let mut next = next_after(self.at);
        if next.is_none() && !self.around {
            self.around = true;
            next = next_after(None);
        }
        if self.around && next > self.from {
            return None;
        }
        self.at = next;
        next
    }
}

/// A campaign that waits for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Of one that lost, which tries again so often after this.
    Again(u8),
    /// Of one that leaves it to another first; moot if the term is not this one any more, for then that
    /// one has begun.
    Next(Term),
}

#[derive(Debug, Default)]
pub(crate) struct Waves {
    /// The next in turn first. `INVARIANT:` two for each other store at most.
    sweeps: VecDeque<Sweep>,
    /// Campaigns by the second in which they became due.
    due: BTreeSet<(u64, RangeId)>,
    /// Campaigns to be tried again, or for the first time if nobody has won by then. `INVARIANT:` one of a
    /// range at most, which `retry` has.
    retries: BTreeSet<(Duration, RangeId)>,
    retry: BTreeMap<RangeId, (Duration, Retry)>,
    /// Ranges that could win no election, as the stores of a quorum are gone.
    parked: BTreeSet<RangeId>,
    /// When parked ranges repeat their release.
    releases: BTreeSet<(Duration, RangeId)>,
    next_wave: Duration,
    waves: u64,
}

impl Waves {
    pub(crate) fn tell(&mut self, news: News) {
        let older = self.sweeps.iter_mut().find(|sweep| news.replaces(sweep.news));
        let Some(older) = older else {
            self.sweeps.push_back(Sweep { news, at: None, from: None, around: false });
            return;
        };
        let news = match (older.news, news) {
            (News::Withdrawn(_, before), News::Withdrawn(node, epoch)) => {
                News::Withdrawn(node, before.max(epoch))
            }
            _ => news,
        };
        *older = Sweep { news, at: older.at, from: older.at, around: false };
    }

    /// The sweep whose turn it is. Whoever stood by a leader that is gone has no leader until it
    /// hears so; what a leader hears of its followers' stores saves heartbeats. So three waves of
    /// four are for the first.
    pub(crate) fn next_sweep(&mut self) -> Option<Sweep> {
        let urgent = |sweep: &Sweep| matches!(sweep.news, News::Withdrawn(..));
        let first = self.sweeps.iter().position(urgent).filter(|_| !self.waves.is_multiple_of(4));
        self.sweeps.remove(first.unwrap_or(0))
    }

    /// Others have their turn before this one goes on.
    pub(crate) fn sweep_again(&mut self, sweep: Sweep) {
        self.sweeps.push_back(sweep);
    }

    pub(crate) fn release_at(&mut self, at: Duration, range: RangeId) {
        self.releases.insert((at, range));
    }

    pub(crate) fn next_release(&mut self, now: Duration) -> Option<RangeId> {
        let &(at, range) = self.releases.first()?;
        if at > now {
            return None;
        }
        self.releases.pop_first();
        Some(range)
    }

    pub(crate) fn campaign_due(&mut self, since: Duration, range: RangeId) {
        self.due.insert((since.as_secs(), range));
    }

    pub(crate) fn next_due(&mut self) -> Option<RangeId> {
        self.due.pop_first().map(|(_, range)| range)
    }

    /// Has a range campaign then; it takes the place of what waits there already.
    pub(crate) fn retry_at(&mut self, at: Duration, range: RangeId, retry: Retry) {
        if let Some((before, _)) = self.retry.insert(range, (at, retry)) {
            self.retries.remove(&(before, range));
        }
        self.retries.insert((at, range));
    }

    pub(crate) fn next_retry(&mut self, now: Duration) -> Option<(RangeId, Retry)> {
        let &(at, range) = self.retries.first()?;
        if at > now {
            return None;
        }
        self.retries.pop_first();
        let (_, retry) = self.retry.remove(&range)?;
        Some((range, retry))
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
        let retry = self.retries.first().map(|&(at, _)| at.max(self.next_wave));
        let release = self.releases.first().map(|&(at, _)| at.max(self.next_wave));
        work.then_some(self.next_wave).into_iter().chain(retry).chain(release).min()
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
        waves.retry_at(SECOND * 2, RangeId(7), Retry::Again(3));
        assert_eq!(Some(SECOND * 2), waves.next_deadline());
        assert_eq!(None, waves.next_retry(SECOND));
        assert_eq!(Some((RangeId(7), Retry::Again(3))), waves.next_retry(SECOND * 2));
        assert_eq!(None, waves.next_deadline());
    }

    #[test]
    fn the_newest_retry_of_a_range_is_the_one() {
        let mut waves = Waves::default();
        waves.retry_at(SECOND * 9, RangeId(7), Retry::Next(Term(4)));
        waves.retry_at(SECOND * 2, RangeId(7), Retry::Again(1));
        assert_eq!(Some((RangeId(7), Retry::Again(1))), waves.next_retry(SECOND * 10));
        assert_eq!(None, waves.next_retry(SECOND * 10));
        assert!(waves.retry.is_empty());
    }

    /// Who is told in one turn of so many ranges, of those from 1 to 10.
    fn turn(waves: &mut Waves, ranges: usize) -> Vec<(News, u64)> {
        let mut told = Vec::new();
        let next = |after: Option<RangeId>| {
            let next = after.map_or(1, |after| after.0 + 1);
            (next <= 10).then_some(RangeId(next))
        };
        waves.waves += 1;
        while let Some(mut sweep) = waves.next_sweep() {
            while let Some(range) = sweep.advance(next) {
                told.push((sweep.news, range.0));
                if told.len() == ranges {
                    waves.sweep_again(sweep);
                    return told;
                }
            }
        }
        told
    }

    const FLAPS: NodeId = NodeId(2);
    const DIES: NodeId = NodeId(3);

    #[test]
    fn newer_news_take_the_place_of_older_ones_and_everybody_hears_them() {
        let mut waves = Waves::default();
        waves.tell(News::Lapsed(FLAPS));
        let ranges = |told: Vec<(News, u64)>| told.into_iter().map(|(_, range)| range).collect();
        let heard: Vec<u64> = ranges(turn(&mut waves, 4));
        assert_eq!(heard, [1, 2, 3, 4]);
        let news = News::Gained(FLAPS, Epoch(5));
        waves.tell(news);
        waves.tell(News::Lapsed(FLAPS));
        waves.tell(news);
        let told = turn(&mut waves, usize::MAX);
        assert!(told.iter().all(|&(what, _)| what == news));
        let heard: Vec<u64> = ranges(told);
        assert_eq!(heard, [5, 6, 7, 8, 9, 10, 1, 2, 3, 4]);
        assert!(waves.next_sweep().is_none());
    }

    /// News come faster than they can be told, for ever: yet every range hears some, the queue does not grow, and a
    /// store that dies meanwhile is known of soon.
    #[test]
    fn a_peer_that_comes_and_goes_starves_nobody() {
        let mut waves = Waves::default();
        let mut heard = [0_u32; 11];
        for round in 0..100 {
            let epoch = Epoch(round + 1);
            let news =
                if round % 2 == 0 { News::Lapsed(FLAPS) } else { News::Gained(FLAPS, epoch) };
            waves.tell(news);
            waves.tell(News::Withdrawn(FLAPS, epoch));
            for (_, range) in turn(&mut waves, 3) {
                heard[usize::try_from(range).unwrap()] += 1;
            }
            assert!(waves.sweeps.len() <= 2);
        }
        assert!(heard[1..].iter().all(|&times| times >= 20), "{heard:?}");
        let dead = News::Withdrawn(DIES, Epoch(1));
        waves.tell(dead);
        let told: Vec<_> = (0..15).flat_map(|_| turn(&mut waves, 3)).collect();
        let of_the_dead = told.iter().filter(|&&(news, _)| news == dead).count();
        assert_eq!(of_the_dead, 10, "everybody knows within as many turns as there are sweeps");
    }

    #[test]
    fn a_withdrawal_stands_for_all_before_it() {
        let mut waves = Waves::default();
        waves.tell(News::Withdrawn(DIES, Epoch(7)));
        waves.tell(News::Withdrawn(DIES, Epoch(6)));
        assert_eq!(turn(&mut waves, 1), [(News::Withdrawn(DIES, Epoch(7)), 1)]);
    }
}
