//! What ranges cost that sleep: three stores in one process, with N ranges replicated on all three.
//! Elects all leaders, waits until nothing moves, and shows memory for each replica, what still
//! moves, and how long it takes until every range is led again after a store is gone.
//!
//! `cargo run --release -p quorate-store --example idle -- 100000`

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raft::{Input, Membership, Raft, ReplicaId, Restored};
use store::{Config, Envelope, NodeId, Output, RangeId, Store, WriteId, liveness};

/// Counts the bytes that are allocated.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts is the way to see what is allocated")]
// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

enum Parcel {
    Raft(NodeId, Vec<Envelope>),
    Liveness(NodeId, liveness::Message),
    Written(WriteId),
}

struct World {
    now: Duration,
    stores: BTreeMap<NodeId, Store>,
    /// Arrives after a millisecond.
    queue: VecDeque<(Duration, NodeId, Parcel)>,
    raft_messages: usize,
    liveness_messages: u64,
}

impl World {
    fn new(ranges: u64) -> World {
        let ids: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let config = Config { liveness: Some(liveness::Config::default()), ..Config::default() };
        let members: BTreeMap<ReplicaId, NodeId> =
            ids.iter().map(|&node| (ReplicaId::new(node.0).expect("not zero"), node)).collect();
        let mut stores = BTreeMap::new();
        for &node in &ids {
            let store = Store::open(Duration::ZERO, node, config.clone(), None);
            let mut store = store.expect("the settings work");
            let own = ReplicaId::new(node.0).expect("not zero");
            for range in (1..=ranges).map(RangeId) {
                let mut config = raft::Config::new(own, range.0 * 3 + node.0);
                config.fortify = true;
                let founding = Restored::founding(Membership::of_voters(members.keys().copied()));
                let raft = Raft::new(Duration::ZERO, config, founding).expect("it is sound");
                store.add(range, raft, members.clone());
            }
            let peers: BTreeSet<NodeId> = ids.iter().copied().filter(|&id| id != node).collect();
            store.set_peers(Duration::ZERO, peers);
            stores.insert(node, store);
        }
        let (raft_messages, liveness_messages) = (0, 0);
        let queue = VecDeque::new();
        let mut world =
            World { now: Duration::ZERO, stores, queue, raft_messages, liveness_messages };
        for node in ids {
            world.flush(node);
        }
        world
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            let parcel = self.queue.front().map(|&(at, ..)| at);
            let timers = self.stores.iter().filter_map(|(&id, s)| Some((s.next_deadline()?, id)));
            let timer = timers.min();
            let next = parcel.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|&next| next < end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if parcel == Some(next) {
                let (_, to, parcel) = self.queue.pop_front().expect("it is there");
                self.deliver(to, parcel);
            } else if let Some((_, id)) = timer {
                let store = self.stores.get_mut(&id).expect("it is there");
                store.timeout(self.now).expect("nothing is broken");
                self.flush(id);
            }
        }
    }

    fn deliver(&mut self, to: NodeId, parcel: Parcel) {
        let Some(store) = self.stores.get_mut(&to) else { return };
        match parcel {
            Parcel::Raft(from, envelopes) => {
                for envelope in envelopes {
                    store.receive(self.now, from, envelope).expect("nothing is broken");
                }
            }
            Parcel::Liveness(from, message) => store.receive_liveness(self.now, from, message),
            Parcel::Written(write) => store.log_written(self.now, write).expect("sound"),
        }
        self.flush(to);
    }

    fn flush(&mut self, id: NodeId) {
        let at = self.now + Duration::from_millis(1);
        loop {
            let store = self.stores.get_mut(&id).expect("it is there");
            let output = store.flush();
            if output == Output::default() {
                return;
            }
            for (range, entries) in &output.committed {
                let last = entries.last().expect("not empty").index;
                let raft = store.raft_mut(*range).expect("it is here");
                raft.step(self.now, Input::Applied(last)).expect("nothing is broken");
                raft.release_recent();
            }
            let mut outbox = vec![output.messages];
            if let Some(write) = output.write {
                outbox.push(write.then);
                for (to, message) in write.support {
                    self.liveness_messages += 1;
                    self.queue.push_back((at, to, Parcel::Liveness(id, message)));
                }
                self.queue.push_back((at, id, Parcel::Written(write.id)));
            }
            for (to, envelopes) in outbox.into_iter().flatten() {
                self.raft_messages += envelopes.len();
                self.queue.push_back((at, to, Parcel::Raft(id, envelopes)));
            }
        }
    }

    /// How many ranges each store holds the lease of.
    fn leases(&mut self) -> Vec<usize> {
        let now = self.now;
        let count = |store: &mut Store| {
            let leads = store.replicas().filter(|(_, replica)| replica.raft().is_leader());
            let ranges: Vec<RangeId> = leads.map(|(range, _)| range).collect();
            ranges.into_iter().filter(|&range| store.lease(range, now).is_some()).count()
        };
        self.stores.values_mut().map(count).collect()
    }
}

fn main() {
    let ranges: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    let start = Instant::now();
    let mut world = World::new(u64::try_from(ranges).expect("a number of ranges"));
    let built = LIVE_BYTES.load(Ordering::Relaxed) - before;
    println!("{ranges} ranges, fresh: {} B a replica", built / (3 * ranges));

    world.run_until(Duration::from_secs(60));
    println!("led and leased after 60 s: {:?}, {:?} of CPU", world.leases(), start.elapsed());
    let idle = LIVE_BYTES.load(Ordering::Relaxed) - before;
    println!("at rest: {} B a replica", idle / (3 * ranges));

    let (raft, liveness, cpu) = (world.raft_messages, world.liveness_messages, Instant::now());
    world.run_until(Duration::from_secs(160));
    println!(
        "100 s at rest: {} messages of groups, {} of liveness, {:?} of CPU for three stores",
        world.raft_messages - raft,
        world.liveness_messages - liveness,
        cpu.elapsed()
    );

    world.stores.remove(&NodeId(3));
    let (lost_at, cpu) = (world.now, Instant::now());
    for round in 1..=200 {
        world.run_until(lost_at + round * Duration::from_millis(50));
        let leases = world.leases();
        if leases.iter().sum::<usize>() == ranges {
            let took = world.now - lost_at;
            println!("a store gone: all leased again after {took:?}: {leases:?}");
            println!("{:?} of CPU for that", cpu.elapsed());
            return;
        }
    }
    println!("a store gone: not all are leased after 10 s: {:?}", world.leases());
}
