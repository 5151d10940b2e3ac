//! Three stores or five, and one range or many; links that break one way or both, or are slow. What it costs, and who
//! leads then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use raft::{Body, Membership, Raft, ReplicaId, Restored};
use store::liveness;
use store::{Config, Envelope, NodeId, RangeId, Store};

const RANGE: RangeId = RangeId(1);
const NODES: std::ops::RangeInclusive<u64> = 1..=3;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn id(n: u64) -> ReplicaId {
    ReplicaId::new(n).expect("not zero")
}

enum Sent {
    Raft(Envelope),
    Liveness(liveness::Message),
}

/// Messages take a millisecond unless more is said, and disks are fast.
struct World {
    now: Duration,
    latency: Duration,
    stores: BTreeMap<u64, Store>,
    /// When it arrives, from, to, what.
    on_their_way: Vec<(Duration, u64, u64, Sent)>,
    /// From, to: nothing gets through.
    cut: BTreeSet<(u64, u64)>,
    releases_are_lost: bool,
    /// Processes that are no more.
    dead: BTreeSet<u64>,
    pre_votes: usize,
    fortified: usize,
}

impl World {
    fn new() -> World {
        let mut world = World::of(1);
        world.run(ms(10_000));
        world
    }

    /// Stores that begin, with so many ranges.
    fn of(ranges: u64) -> World {
        World::with(3, ranges, ms(1))
    }

    fn with(stores: u64, ranges: u64, latency: Duration) -> World {
        let nodes = || 1..=stores;
        let mut world = World {
            now: Duration::ZERO,
            latency,
            stores: BTreeMap::new(),
            on_their_way: Vec::new(),
            cut: BTreeSet::new(),
            releases_are_lost: false,
            dead: BTreeSet::new(),
            pre_votes: 0,
            fortified: 0,
        };
        for n in nodes() {
            let liveness = liveness::Config {
                heartbeat_interval: ms(100),
                support_duration: ms(700),
                drift_margin: ms(7),
                ..liveness::Config::default()
            };
            let config = Config { liveness: Some(liveness), ..Config::default() };
            let mut store = Store::open(world.now, NodeId(n), config, None).expect("good settings");
            for range in 1..=ranges {
                let seed = n + 10 * range;
                let config = raft::Config { fortify: true, ..raft::Config::new(id(n), seed) };
                let founded = Restored::founding(Membership::of_voters(nodes().map(id)));
                let raft = Raft::new(world.now, config, founded).expect("consistent");
                store.add(RangeId(range), raft, nodes().map(|n| (id(n), NodeId(n))).collect());
            }
            store.begin(world.now);
            store.set_peers(world.now, nodes().filter(|&other| other != n).map(NodeId).collect());
            world.stores.insert(n, store);
            world.flush(n);
        }
        world
    }

    /// How many ranges each store leads.
    fn led(&self) -> Vec<usize> {
        let leads =
            |store: &Store| store.replicas().filter(|(_, one)| one.raft().is_leader()).count();
        self.stores.values().map(leads).collect()
    }

    fn flush(&mut self, n: u64) {
        loop {
            let store = self.stores.get_mut(&n).expect("a store");
            let output = store.flush();
            if output == store::Output::default() {
                break;
            }
            let mut sent: Vec<(NodeId, Sent)> = Vec::new();
            let mut post = |messages: store::Outbox| {
                for (to, envelopes) in messages {
                    sent.extend(envelopes.into_iter().map(|one| (to, Sent::Raft(one))));
                }
            };
            post(output.messages);
            for (range, entries) in output.committed {
                let last = entries.last().expect("not empty").index;
                let raft = store.raft_mut(range).expect("a replica");
                raft.step(self.now, raft::Input::Applied(last)).expect("nothing is broken");
            }
            if let Some(write) = output.write {
                store.log_written(self.now, write.id).expect("nothing is broken");
                post(write.then);
                sent.extend(write.support.into_iter().map(|(to, one)| (to, Sent::Liveness(one))));
            }
            for (to, what) in sent {
                self.post(n, to.0, what);
            }
        }
    }

    fn post(&mut self, from: u64, to: u64, what: Sent) {
        if let Sent::Raft(envelope) = &what {
            match envelope.message.body {
                Body::PreVote { .. } => self.pre_votes += 1,
                Body::Fortified { .. } => self.fortified += 1,
                Body::Release if self.releases_are_lost => return,
                _ => {}
            }
        }
        if !self.cut.contains(&(from, to)) {
            self.on_their_way.push((self.now + self.latency, from, to, what));
        }
    }

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() {
            self.now += ms(1);
            let now = self.now;
            let arrive = self.on_their_way.extract_if(.., |(at, ..)| *at <= now);
            for (_, from, to, what) in arrive.collect::<Vec<_>>() {
                let store = self.stores.get_mut(&to).expect("a store");
                match what {
                    _ if self.dead.contains(&to) => continue,
                    Sent::Raft(envelope) => {
                        store.receive(self.now, NodeId(from), envelope).expect("nothing is broken")
                    }
                    Sent::Liveness(one) => store.receive_liveness(self.now, NodeId(from), one),
                }
                self.flush(to);
            }
            let alive = self.stores.keys().copied().filter(|n| !self.dead.contains(n));
            for n in alive.collect::<Vec<_>>() {
                let store = self.stores.get_mut(&n).expect("a store");
                if store.next_deadline().is_some_and(|deadline| deadline <= self.now) {
                    store.timeout(self.now).expect("nothing is broken");
                    self.flush(n);
                }
            }
        }
    }

    fn raft(&self, n: u64) -> &Raft {
        self.stores[&n].replica(RANGE).expect("a replica").raft()
    }

    fn leader(&self) -> Option<u64> {
        NODES.filter(|n| !self.dead.contains(n)).find(|&n| self.raft(n).is_leader())
    }

    /// The one that leads, and the others.
    fn roles(&self) -> (u64, [u64; 2]) {
        let leader = self.leader().expect("a leader");
        let others: Vec<u64> = NODES.filter(|&n| n != leader).collect();
        (leader, others.try_into().expect("two"))
    }

    /// Neither hears the other.
    fn cut(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }
}

/// A store that cannot reach a leader that others stand by asks them ever more rarely: for each of thousands of ranges
/// each attempt would cost them a write.
#[test]
fn whoever_is_cut_off_from_a_leader_with_a_quorum_comes_to_rest() {
    let mut world = World::new();
    let (leader, [cut_off, _]) = world.roles();
    world.cut(leader, cut_off);
    world.run(ms(60_000));
    let before = (world.pre_votes, world.fortified);
    world.run(ms(120_000));
    assert_eq!(world.leader(), Some(leader));
    let (pre_votes, fortified) = (world.pre_votes - before.0, world.fortified - before.1);
    // To two voters each, every 32 to 64 election timeouts of a second.
    assert!(pre_votes <= 8 && fortified <= 4, "{pre_votes} pre-votes, {fortified} bindings told");
    world.cut.clear();
    world.run(ms(5_000));
    assert!(world.raft(cut_off).binding().is_some(), "and stands by the leader when it hears it");
}

/// Its rest is not to be paid for when the leader dies: whoever stood by that campaigns in its own time.
#[test]
fn a_leader_that_dies_while_one_is_cut_off_from_it_is_replaced_soon() {
    let mut world = World::new();
    let (leader, [cut_off, _]) = world.roles();
    world.cut(leader, cut_off);
    world.run(ms(300_000));
    world.dead.insert(leader);
    // Support runs out after 0.7 s, an election timeout is two seconds at most, and its vote may be split once.
    world.run(ms(5_000));
    assert!(world.leader().is_some(), "nobody leads");
}

/// The others stand by it, as their stores hear of its own; it hears nothing, and has ended its leadership; and the
/// one word that would have set them free is lost.
#[test]
fn a_lost_release_is_repeated_by_a_leader_that_hears_nobody() {
    let mut world = World::new();
    let (leader, others) = world.roles();
    for other in others {
        assert!(world.raft(other).binding().is_some());
        world.cut.insert((other, leader));
    }
    world.releases_are_lost = true;
    while world.raft(leader).is_leader() {
        world.run(ms(1));
    }
    world.run(ms(50));
    world.releases_are_lost = false;
    world.run(ms(10_000));
    assert!(world.leader().is_some(), "two of three see each other, and nobody leads");
}

/// Nobody knows anybody: leaders spread all the same, and no election has a rival.
#[test]
fn leaders_of_stores_that_begin_together_lie_evenly() {
    const RANGES: u64 = 300;
    let mut world = World::of(RANGES);
    // The first rank campaigns within one and a quarter election timeouts.
    world.run(ms(1_500));
    let led = world.led();
    assert_eq!(led.iter().sum::<usize>(), 300, "{led:?}");
    assert!(led.iter().all(|one| (80..=120).contains(one)), "{led:?}");
    let terms: Vec<u64> = world.stores[&1].replicas().map(|(_, one)| one.raft().term().0).collect();
    assert!(terms.iter().all(|&term| term == terms[0]), "one election each: {terms:?}");
}

/// The store that ranks first for a range is not there: the next has its turn.
#[test]
fn a_store_that_does_not_begin_is_not_waited_for() {
    let mut world = World::of(30);
    world.dead.insert(2);
    world.run(ms(3_000));
    let led = world.led();
    assert_eq!(led[0] + led[2], 30, "{led:?}");
}

/// The store that ranks first for a range has just come back and stands by nobody yet, so no support of its own runs
/// out with which it would campaign: the next does not wait for an election timeout.
#[test]
fn a_store_that_stands_by_nobody_yet_is_not_waited_for() {
    let mut world = World::of(30);
    world.run(ms(10_000));
    let before = world.led();
    world.cut(3, 1);
    world.cut(3, 2);
    world.run(ms(1_500));
    assert!(before[0] > 0 && world.led()[0] > before[0], "some of the third's are the first's now");
    world.cut.clear();
    world.dead.insert(1);
    // Support runs out after 0.7 s.
    world.run(ms(700 + 400));
    let led = world.led();
    assert_eq!(led[1] + led[2], 30, "{led:?}");
}

/// Four are left, whose stores withdraw their support at nearly the same moment. Each has its turn, and whoever has seen
/// another begin leaves it at that: one election for each range, also where a round trip takes a good part of a turn.
#[test]
fn turns_after_a_loss_do_not_meet() {
    for latency in [1, 20, 50, 100] {
        let mut world = World::with(5, 60, ms(latency));
        world.run(ms(15_000));
        let lost: Vec<(RangeId, u64)> = world.stores[&1]
            .replicas()
            .filter(|(_, one)| one.raft().is_leader())
            .map(|(range, one)| (range, one.raft().term().0))
            .collect();
        assert!(lost.len() > 5, "{latency} ms: it led {}", lost.len());
        world.dead.insert(1);
        // Support runs out after 0.7 s and a heartbeat; two round trips elect.
        world.run(ms(700 + 100 + 300 + 5 * latency));
        for (range, term) in lost {
            let led = world.stores.iter().filter(|(n, _)| **n != 1).filter_map(|(_, store)| {
                let raft = store.replica(range)?.raft();
                raft.is_leader().then_some(raft.term().0)
            });
            assert_eq!(led.collect::<Vec<_>>(), [term + 1], "{range:?}, {latency} ms");
        }
    }
}
