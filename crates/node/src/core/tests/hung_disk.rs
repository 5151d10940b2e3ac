//! The disk of a leader hangs: it goes on hearing and speaking, and nothing that it writes is ever done.

use super::*;
use crate::core::WriteId;

/// Bytes that a replica may keep in memory of its log: recent ones, and ones that wait.
const HELD_MAX: usize = 1 << 20;
/// From when the disk hangs to when another has to lead: the support of the stores runs out, and elections.
const PATIENCE: Duration = Duration::from_secs(6);
const STEP: Duration = Duration::from_millis(5);
const IDLE_RANGES: u64 = 60;

/// Whose disk hangs, and what it is to write: each with what is to be sent then.
struct Hung {
    node: u64,
    writes: Vec<(WriteId, crate::core::Frames)>,
}

impl Hung {
    fn disk_of(node: u64) -> Option<Self> {
        Some(Self { node, writes: Vec::new() })
    }
}

/// Three members whose stores support each other.
fn supported() -> Table {
    let core = |node| {
        let raft = raft::Config {
            fortify: true,
            recent_bytes_max: HELD_MAX,
            uncommitted_bytes_max: HELD_MAX,
            ..raft::Config::new(replica(node), 11 * node)
        };
        let (config, raft, machine) = parts(node, raft, etcd::Limits::default());
        let config = CoreConfig { reads: Reads::Lease, ..config };
        let liveness = store::liveness::Config {
            heartbeat_interval: Duration::from_millis(100),
            support_duration: Duration::from_millis(700),
            drift_margin: Duration::from_millis(7),
            ..store::liveness::Config::default()
        };
        let store = store::Config { liveness: Some(liveness), ..store::Config::default() };
        let store = store::Store::open(Duration::ZERO, NodeId(node), store, None).unwrap();
        (node, Core::on(store, config, raft, machine))
    };
    Table { cores: NODES.map(core).into(), ..Table::new() }
}

impl Table {
    fn begin(&mut self) {
        for core in self.cores.values_mut() {
            core.begin(self.now).unwrap();
        }
    }

    /// A step of time: what was sent in the one before arrives. Writes of the node whose disk hangs are never
    /// done; gives back what it holds of its log.
    fn go_on(&mut self, hung: &mut Option<Hung>) {
        self.now += STEP;
        for (from, to, frame) in std::mem::take(&mut self.frames) {
            self.step(to, Input::Frame(NodeId(from), frame));
        }
        for node in NODES {
            if self.cores[&node].next_deadline().is_some_and(|deadline| deadline <= self.now) {
                self.step(node, Input::Tick);
            }
            match hung {
                Some(hung) if hung.node == node => self.flush_in_vain(hung),
                _ => self.flush(node),
            }
        }
    }

    fn flush_in_vain(&mut self, hung: &mut Hung) {
        let node = hung.node;
        let effects = self.cores.get_mut(&node).unwrap().flush(self.now).unwrap();
        self.replies.extend(effects.replies.into_iter().map(|(token, reply)| (token.0, reply)));
        self.frames.extend(effects.send.into_iter().map(|out| (node, out.to.0, out.bytes)));
        hung.writes.extend(effects.writes.into_iter().map(|write| (write.id, write.then)));
    }

    /// All that was written meanwhile is done at last.
    fn recover(&mut self, hung: Hung) {
        let Hung { node, writes } = hung;
        for (id, then) in writes {
            self.frames.extend(then.into_iter().map(|out| (node, out.to.0, out.bytes)));
            self.step(node, Input::LogWritten(id));
        }
        self.flush(node);
    }

    /// Everybody has bound itself to a leader, in every range.
    fn all_stand_by(&self) -> bool {
        let stands_by = |(_, replica): (RangeId, &store::Replica)| {
            replica.raft().is_leader() || replica.raft().binding().is_some()
        };
        self.cores.values().all(|core| core.store().replicas().all(stands_by))
    }

    fn go_on_until(&mut self, what: &str, hung: &mut Option<Hung>, is: impl Fn(&Table) -> bool) {
        let limit = self.now + PATIENCE;
        while !is(self) {
            assert!(self.now < limit, "{what}: not within {PATIENCE:?}");
            self.go_on(hung);
        }
    }

    fn serves(&self, node: u64) -> bool {
        self.cores[&node].standing().serving
    }

    fn led(&self, node: u64) -> usize {
        self.cores[&node].standing().ranges_led
    }

    /// Messages between replicas that are sent within a second.
    fn messages_of_a_second(&mut self, hung: &mut Option<Hung>) -> usize {
        let second = self.now + Duration::from_secs(1);
        let mut messages = 0;
        while self.now < second {
            self.go_on(hung);
            let frames = self.frames.iter().map(|(_, _, frame)| pb::Frame::decode(frame.clone()));
            messages += frames.map(|frame| frame.unwrap().messages.len()).sum::<usize>();
        }
        messages
    }
}

/// A put of 16 KiB, or nothing, in every so many steps; the disk hangs at once, or after three seconds.
fn another_leads(load_every: Option<u32>, peace: Duration) {
    let mut table = supported();
    table.begin();
    table.go_on_until("somebody leads", &mut None, |table| {
        NODES.iter().any(|&node| table.serves(node))
    });
    let old = NODES.into_iter().find(|&node| table.serves(node)).unwrap();
    let hangs_at = table.now + peace;
    while table.now < hangs_at {
        table.go_on(&mut None);
    }
    let limit = table.now + PATIENCE;
    let mut hung = Hung::disk_of(old);
    let mut steps = 0;
    while !NODES.iter().any(|&node| node != old && table.serves(node)) {
        assert!(table.now < limit, "node {old} leads for ever");
        steps += 1;
        if load_every.is_some_and(|every| steps % every == 0) {
            let value = Bytes::from(vec![0; 16 << 10]);
            let key = Bytes::from_static(b"k");
            let put = ep::PutRequest { key, value, ..Default::default() };
            table.step(old, Input::Client(Token(steps.into()), Request::Put(put)));
            table.flush_in_vain(hung.as_mut().unwrap());
        }
        table.go_on(&mut hung);
        let raft = table.cores[&old].store().replica(RangeId::DENSE).unwrap().raft();
        assert!(raft.recent_bytes() <= 2 * HELD_MAX, "{} bytes are held", raft.recent_bytes());
    }
    // The disk is there again, and so is the member.
    table.recover(hung.unwrap());
    table.go_on_until("it stands by the new leader", &mut None, Table::all_stand_by);
}

#[test]
fn under_load_another_leads() {
    another_leads(Some(2), Duration::from_secs(3));
}

#[test]
fn with_a_request_now_and_then_another_leads() {
    another_leads(Some(40), Duration::from_secs(3));
}

#[test]
fn at_rest_another_leads() {
    another_leads(None, Duration::from_secs(3));
}

/// Nobody has bound itself yet, so no support is withdrawn.
#[test]
fn right_after_its_election_another_leads() {
    another_leads(None, Duration::ZERO);
}

/// All ranges that it led are led by others, and are at rest again.
#[test]
fn its_ranges_come_to_rest_elsewhere() {
    let mut table = supported();
    for (&node, core) in &mut table.cores {
        let config = RangesConfig {
            engine: Arc::new(MemEngine::new()),
            limits: mvcc::Limits { front_root_bits: 4, ..mvcc::Limits::default() },
            machine: core.machine().config().clone(),
            requests_max: super::RANGE_REQUESTS_MAX,
        };
        let rafts = (2..2 + IDLE_RANGES).map(|range| {
            let config = raft::Config {
                fortify: true,
                ..raft::Config::new(replica(node), 11 * node + range)
            };
            let restored = Restored::founding(Membership::of_voters(NODES.map(replica)));
            (RangeId(range), Raft::new(Duration::ZERO, config, restored).unwrap())
        });
        core.host(config, rafts).unwrap();
    }
    table.begin();
    let all = usize::try_from(IDLE_RANGES).unwrap();
    let led =
        |table: &Table, nodes: &[u64]| nodes.iter().map(|&node| table.led(node)).sum::<usize>();
    table.go_on_until("all are led", &mut None, |table| led(table, &NODES) > all);
    let rest = table.now + Duration::from_secs(10);
    while table.now < rest {
        table.go_on(&mut None);
    }
    assert!(table.led(1) > 0 && table.messages_of_a_second(&mut None) == 0);
    let mut hung = Hung::disk_of(1);
    table.go_on_until("others lead them all", &mut hung, |table| led(table, &[2, 3]) > all);
    let rest = table.now + Duration::from_secs(4);
    while table.now < rest {
        table.go_on(&mut hung);
    }
    assert_eq!(table.messages_of_a_second(&mut hung), 0, "messages of ranges at rest");
    table.recover(hung.unwrap());
    table.go_on_until("it stands by all of them", &mut None, Table::all_stand_by);
    let rest = table.now + Duration::from_secs(10);
    while table.now < rest {
        table.go_on(&mut None);
    }
    assert_eq!(table.messages_of_a_second(&mut None), 0, "all is at rest");
}
