//! Three cores on a table: every frame is delivered, held or lost by hand.

mod chance;
mod hung_disk;
mod large_entries;
mod long;
mod pins;
mod range_snapshots;
mod range_work;
mod refusals;
mod versions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, FoundingMember, Machine, Request, Response};
use mvcc::engine::mem::MemEngine;
use prost::Message as _;
use proto::etcdserverpb as ep;
use raft::{Membership, Raft, ReplicaId, Restored};
use store::{NodeId, RangeId};

use super::{
    Core, CoreConfig, Input, RangesConfig, Reads, Scan, SnapshotOut, Token, Work, membership_row,
    snapshot_message,
};
use crate::wire::pb;

const NODES: [u64; 3] = [1, 2, 3];

/// The numbers of the processes: that of the node, and some.
const PROCESS: u32 = 70;

/// Entries kept in the log of a range beside the dense one.
const RANGE_CATCHUP: u64 = 5;

/// Entries kept in the log of the dense one.
const CATCHUP: u64 = 100;

/// Bytes of log kept behind snapshots on their way.
const PINNED_BYTES_MAX: usize = 16 << 10;

struct Table {
    now: Duration,
    cores: BTreeMap<u64, Core<MemEngine>>,
    /// On their way: from, to, what.
    frames: Vec<(u64, u64, Bytes)>,
    replies: BTreeMap<u64, Result<Response, Error>>,
    points: BTreeMap<u64, Result<(), Error>>,
    /// Whose, and what is to be evaluated.
    scans: Vec<(u64, Scan)>,
    /// Whose, and what takes long, if it is not done at once.
    work: Vec<(u64, Work)>,
    holds_work: bool,
}

fn replica(node: u64) -> ReplicaId {
    ReplicaId::new(node).unwrap()
}

fn core(node: u64) -> Core<MemEngine> {
    core_with(node, etcd::Limits::default(), storage::log::Options::default().entry_bytes_max())
}

fn core_with(node: u64, limits: etcd::Limits, entry_bytes_max: usize) -> Core<MemEngine> {
    let raft = raft::Config::new(replica(node), 11 * node);
    let (config, raft, machine) = parts(node, raft, limits);
    Core::new(CoreConfig { entry_bytes_max, ..config }, raft, machine)
}

/// What a member is made of, just founded.
fn parts(
    node: u64,
    raft: raft::Config,
    limits: etcd::Limits,
) -> (CoreConfig, Raft, Machine<MemEngine>) {
    let state = mvcc::State::open(Arc::new(MemEngine::new())).unwrap();
    let config = etcd::Config { member_id: node, limits, seed: 7 * node };
    let mut machine = Machine::open(state, config);
    let members = NODES.map(|id| FoundingMember {
        id,
        name: format!("n{id}"),
        peer_urls: vec![format!("http://n{id}:1")],
    });
    let at = Restored::FOUNDED_AT;
    let effects = Machine::<MemEngine>::founding(at.term.0, &members);
    let membership = Membership::of_voters(NODES.map(replica));
    let row = membership_row(&membership);
    machine.apply_with(Duration::ZERO, at.index.0, at.term.0, &effects, Some(row)).unwrap();
    let raft = Raft::new(Duration::ZERO, raft, Restored::founding(membership)).unwrap();
    let config = CoreConfig {
        node: NodeId(node),
        request_timeout: Duration::from_secs(7),
        catchup_entries: CATCHUP,
        range_catchup_entries: RANGE_CATCHUP,
        pinned_bytes_max: PINNED_BYTES_MAX,
        process: PROCESS + u32::try_from(node).unwrap(),
        entry_bytes_max: storage::log::Options::default().entry_bytes_max(),
        apply_at_once: 4096,
        reads: Reads::Quorum,
    };
    (config, raft, machine)
}

impl Table {
    fn new() -> Table {
        Table::with(NODES.map(|node| (node, core(node))).into())
    }

    /// Where a request looks at no more than so many rows before it takes long.
    fn with_rows_at_once(rows_at_once: usize) -> Table {
        let limits = etcd::Limits { rows_at_once, ..etcd::Limits::default() };
        let entry_bytes_max = storage::log::Options::default().entry_bytes_max();
        Table { holds_work: true, ..Table::with_limits(&limits, entry_bytes_max) }
    }

    fn with(cores: BTreeMap<u64, Core<MemEngine>>) -> Table {
        Table {
            now: Duration::ZERO,
            cores,
            frames: Vec::new(),
            replies: BTreeMap::new(),
            points: BTreeMap::new(),
            scans: Vec::new(),
            work: Vec::new(),
            holds_work: false,
        }
    }

    fn step(&mut self, node: u64, input: Input<MemEngine>) {
        self.cores.get_mut(&node).unwrap().step(self.now, input).unwrap();
    }

    /// Flushes until the node has nothing more to do; its writes are durable at once.
    fn flush(&mut self, node: u64) {
        loop {
            let effects = self.cores.get_mut(&node).unwrap().flush(self.now).unwrap();
            self.replies.extend(effects.replies.into_iter().map(|(token, reply)| (token.0, reply)));
            self.points.extend(effects.points.into_iter().map(|(token, point)| (token.0, point)));
            self.scans.extend(effects.scans.into_iter().map(|scan| (node, scan)));
            self.work.extend(effects.work.into_iter().map(|work| (node, work)));
            let mut send = effects.send;
            let mut written = None;
            for write in effects.writes {
                send.extend(write.then);
                written = Some(write.id);
            }
            self.frames.extend(send.into_iter().map(|out| (node, out.to.0, out.bytes)));
            match written {
                Some(id) => self.step(node, Input::LogWritten(id)),
                None if !self.holds_work && self.step_work(node) => {}
                None => break,
            }
        }
    }

    /// Has the oldest work of a node done, if there is some.
    fn step_work(&mut self, node: u64) -> bool {
        let Some(at) = self.work.iter().position(|(of, _)| *of == node) else { return false };
        let (_, work) = self.work.remove(at);
        self.step(node, Input::Worked(work.run()));
        true
    }

    /// The same, and what follows from it.
    fn work(&mut self, node: u64) -> bool {
        let worked = self.step_work(node);
        self.flush(node);
        worked
    }

    fn does(&mut self, node: u64, input: Input<MemEngine>) {
        self.step(node, input);
        self.flush(node);
    }

    /// Delivers frames between these nodes until there are none; others stay on their way.
    fn settle(&mut self, nodes: &[u64]) {
        let between =
            |(from, to, _): &mut (u64, u64, Bytes)| nodes.contains(from) && nodes.contains(to);
        loop {
            let due: Vec<_> = self.frames.extract_if(.., between).collect();
            if due.is_empty() {
                break;
            }
            for (from, to, frame) in due {
                self.does(to, Input::Frame(NodeId(from), frame));
            }
        }
    }

    /// Has `node` elected by `nodes`, which have not heard of a leader for long.
    fn elect(&mut self, node: u64, nodes: &[u64]) {
        self.now += Duration::from_secs(3);
        for _ in 0..3 {
            self.does(node, Input::Tick);
            self.settle(nodes);
            if self.cores[&node].standing().serving {
                return;
            }
            self.now += Duration::from_secs(3);
        }
        panic!("{node} is not elected");
    }

    fn put(&mut self, node: u64, token: u64, key: &str) {
        let put =
            ep::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() };
        self.does(node, Input::Client(Token(token), Request::Put(put)));
    }

    /// The frames from one node to another, taken off the table.
    fn take(&mut self, from: u64, to: u64) -> Vec<Bytes> {
        let taken = self.frames.extract_if(.., |(f, t, _)| (*f, *t) == (from, to));
        taken.map(|(_, _, frame)| frame).collect()
    }
}

/// The numbers of the ranges beside the dense one.
const RANGES: [u64; 3] = [2, 3, 4];

/// Requests that may wait in one of them.
const RANGE_REQUESTS_MAX: usize = 10;

impl Table {
    /// The same cores, with ranges beside the dense one.
    fn with_ranges() -> Table {
        Table::new().and_ranges()
    }

    fn and_ranges(self) -> Table {
        let mut table = self;
        for (&node, core) in &mut table.cores {
            let config = RangesConfig {
                engine: Arc::new(MemEngine::new()),
                limits: mvcc::Limits { front_root_bits: 4, ..mvcc::Limits::default() },
                machine: core.machine().config().clone(),
                requests_max: RANGE_REQUESTS_MAX,
            };
            let rafts = RANGES.map(|range| {
                let config = raft::Config::new(replica(node), 11 * node + range);
                let restored = Restored::founding(Membership::of_voters(NODES.map(replica)));
                (RangeId(range), Raft::new(Duration::ZERO, config, restored).unwrap())
            });
            core.host(config, rafts).unwrap();
        }
        table
    }

    fn put_in(&mut self, node: u64, range: u64, token: u64) {
        let put = ep::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        self.does(node, Input::ClientOf(RangeId(range), Token(token), Request::Put(put)));
    }

    /// Delivers everything but what concerns one range, which is lost.
    fn settle_without(&mut self, lost: u64) {
        while !self.frames.is_empty() {
            for (from, to, bytes) in std::mem::take(&mut self.frames) {
                let mut frame = pb::Frame::decode(bytes).unwrap();
                frame.messages.retain(|message| message.range != lost);
                let frame = frame.encode_to_vec().into();
                self.does(to, Input::Frame(NodeId(from), frame));
            }
        }
    }
}

/// A range that can agree on nothing delays no other, takes no more than its part of the requests, and
/// answers those in the end.
#[test]
fn a_blocked_range_delays_no_other() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    assert_eq!(table.cores[&1].standing().ranges_led, 1 + RANGES.len());
    assert_eq!(table.cores[&1].ranges_awake(), 0, "nobody has asked them anything");
    let [blocked, others @ ..] = RANGES;
    let many = 2 * RANGE_REQUESTS_MAX as u64;
    for token in 0..many {
        table.put_in(1, blocked, token);
    }
    for (token, range) in (100..).zip(others) {
        table.put_in(2, range, token);
    }
    table.put(3, 200, "k");
    table.settle_without(blocked);
    for token in [100, 101, 200] {
        assert!(is_put(table.replies.get(&token)), "{token}: {:?}", table.replies.get(&token));
    }
    let refused = |(token, reply): (&u64, &Result<Response, Error>)| {
        (*token < many && reply == &Err(Error::TooManyRequests)).then_some(*token)
    };
    let refused: Vec<u64> = table.replies.iter().filter_map(refused).collect();
    assert_eq!(refused, (many / 2..many).collect::<Vec<_>>());
    table.now += Duration::from_secs(8);
    table.does(1, Input::Tick);
    for token in 0..many / 2 {
        assert_eq!(table.replies.get(&token), Some(&Err(Error::Timeout)), "{token}");
    }
}

/// What a range has to write goes down together with what the others have, and its log is cut behind it.
#[test]
fn checkpoints_of_ranges_are_one_write() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    for (token, range) in (0..).zip(RANGES) {
        table.put_in(1, range, token);
        table.settle(&NODES);
    }
    let core = table.cores.get_mut(&1).unwrap();
    assert_eq!(core.ranges_awake(), RANGES.len());
    assert!(core.ranges_front_bytes() > 0);
    let jobs = core.freeze_ranges(true).unwrap();
    assert!(core.freeze_ranges(true).is_none(), "one at a time");
    let done = jobs.run().unwrap();
    table.does(1, Input::RangesWritten(done));
    let core = table.cores.get_mut(&1).unwrap();
    assert_eq!(core.ranges_front_bytes(), 0);
    assert!(core.freeze_ranges(true).is_none(), "there is nothing new");
    for range in RANGES {
        let state = core.machine_of(RangeId(range)).unwrap().state();
        assert_eq!(state.durable(), state.applied());
    }
}

fn is_put(reply: Option<&Result<Response, Error>>) -> bool {
    matches!(reply, Some(Ok(Response::Put(_))))
}

/// What was proposed in a term that is over and was cut off the log holds up nobody when the
/// member leads again.
#[test]
fn a_leader_again_answers_at_once() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    for number in 0..50 {
        table.put(1, number, "lost");
    }
    table.frames.clear();
    table.elect(2, &[2, 3]);
    table.settle(&NODES);
    assert_eq!(table.cores[&1].standing().leader, Some(NodeId(2)));
    table.put(2, 100, "kept");
    table.settle(&NODES);
    table.elect(1, &NODES);
    assert!(table.cores[&1].standing().last.0 < 50, "the lost ones are cut off");
    table.put(1, 101, "new");
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&100)) && is_put(table.replies.get(&101)));
    for number in 0..50 {
        assert!(!is_put(table.replies.get(&number)), "{number}: {:?}", table.replies[&number]);
    }
    assert_eq!(table.cores[&1].standing().proposals_in_flight, 0);
}

/// An answer that was meant for an earlier process of this member, or that comes from somebody
/// who was not asked, finds nobody.
#[test]
fn answers_reach_only_those_who_asked() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    table.put(2, 1, "k");
    table.does(2, Input::ReadPoint(Token(2)));
    let asked: Vec<pb::Frame> =
        table.take(2, 1).into_iter().map(|frame| pb::Frame::decode(frame).unwrap()).collect();
    let forward = asked.iter().flat_map(|frame| &frame.forwards).next().unwrap();
    let point = asked.iter().flat_map(|frame| &frame.read_points).next().unwrap();
    assert_eq!([forward.id >> 32, point.id >> 32], [u64::from(PROCESS) + 2; 2]);
    let (kind, bytes) =
        crate::wire::request::encode_response(&Response::Put(proto::wire::PutResponse::default()));
    let answer = |put: u64, read: u64| {
        let reply = pb::ForwardReply {
            range: None,
            id: put,
            kind,
            response: Some(bytes.clone()),
            error: None,
            applied: 1,
        };
        let point = pb::ReadPointReply { id: read, index: Some(1) };
        let frame = pb::Frame {
            forward_replies: vec![reply],
            read_point_replies: vec![point],
            ..Default::default()
        };
        Bytes::from(frame.encode_to_vec())
    };
    // To the process before: the same numbers within it.
    let before = |id: u64| id - (1 << 32);
    let stale = answer(before(forward.id), before(point.id));
    table.does(2, Input::Frame(NodeId(1), stale));
    // From one who was not asked.
    table.does(2, Input::Frame(NodeId(3), answer(forward.id, point.id)));
    assert!(table.replies.is_empty() && table.points.is_empty());
    table.does(2, Input::Frame(NodeId(1), answer(forward.id, point.id)));
    assert!(is_put(table.replies.get(&1)));
    assert_eq!(table.points.get(&2), Some(&Ok(())));
}

/// A leader that slept through its end is asked for a read: it learns of the next leader by the very message that
/// makes the read fail, and nothing else will tell it.
#[test]
fn a_read_at_a_deposed_leader_goes_to_the_next_one() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    table.elect(2, &[2, 3]);
    table.does(1, Input::ReadPoint(Token(1)));
    assert!(table.cores[&1].standing().serving && table.points.is_empty());
    table.settle(&NODES);
    assert_eq!(table.points.get(&1), Some(&Ok(())));
}

/// A question for a read is lost with the connection, and the leader is the same: it is asked again.
#[test]
fn a_lost_question_for_a_read_is_asked_again() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    table.does(2, Input::ReadPoint(Token(1)));
    assert_eq!(table.take(2, 1).len(), 1);
    table.does(2, Input::Unreachable(NodeId(1)));
    table.settle(&NODES);
    assert!(table.points.is_empty());
    table.now += Duration::from_millis(500);
    table.does(2, Input::Tick);
    table.settle(&NODES);
    assert_eq!(table.points.get(&1), Some(&Ok(())));
    // However often it is asked, it ends with the time that it has.
    table.does(2, Input::ReadPoint(Token(2)));
    for _ in 0..13 {
        table.take(2, 1);
        table.does(2, Input::Unreachable(NodeId(1)));
        assert!(!table.points.contains_key(&2));
        table.now += Duration::from_millis(500);
        table.does(1, Input::Tick);
        table.settle(&[1, 3]);
        table.does(2, Input::Tick);
    }
    table.now += Duration::from_millis(500);
    table.does(2, Input::Tick);
    assert_eq!(table.points.get(&2), Some(&Err(Error::Timeout)));
}

/// Leadership is confirmed and lost before anyone looks: an answer that was read from proposals
/// which are lost with it is not given.
#[test]
fn an_answer_from_lost_proposals_is_not_given() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    // Not a read for the follower's view: a transaction that could write, and does not.
    let compare = ep::Compare {
        result: ep::compare::CompareResult::Greater as i32,
        target: ep::compare::CompareTarget::Version as i32,
        key: Bytes::from_static(b"dirty"),
        target_union: Some(ep::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    let put = ep::PutRequest { key: Bytes::from_static(b"other"), ..Default::default() };
    let txn = ep::TxnRequest {
        compare: vec![compare],
        success: Vec::new(),
        failure: vec![ep::RequestOp { request: Some(ep::request_op::Request::RequestPut(put)) }],
    };
    table.put(1, 1, "dirty");
    table.frames.clear();
    table.does(1, Input::Client(Token(2), Request::Txn(txn)));
    // The question goes out, and one answer comes back, which waits on the table.
    let question = table.take(1, 2);
    assert!(!question.is_empty());
    for frame in question {
        let mut only_beats = pb::Frame::decode(frame).unwrap();
        only_beats.messages.retain(is_heartbeat);
        let frame = only_beats.encode_to_vec().into();
        table.does(2, Input::Frame(NodeId(1), frame));
    }
    let confirmation = table.take(2, 1);
    assert!(!confirmation.is_empty());
    table.frames.clear();
    table.elect(3, &[2, 3]);
    let news = table.take(3, 1);
    for frame in confirmation {
        table.step(1, Input::Frame(NodeId(2), frame));
    }
    for frame in news {
        table.step(1, Input::Frame(NodeId(3), frame));
    }
    table.flush(1);
    table.settle(&NODES);
    for number in 10..20 {
        table.put(3, number, "clean");
        table.settle(&NODES);
    }
    assert!(is_put(table.replies.get(&19)));
    assert_eq!(table.replies.get(&2), Some(&Err(Error::LeaderChanged)));
}

fn is_heartbeat(message: &pb::GroupMessage) -> bool {
    let decoded = crate::wire::message::decode(message.clone()).unwrap();
    matches!(decoded.message.body, raft::Body::Heartbeat { .. })
}
