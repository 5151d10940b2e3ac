//! The table under chance: who asks, what is delivered, what is lost and who campaigns is drawn from
//! a seed. What clients were told is held against what in the end every member has.
//!
//! Every put has a value of its own, so a value says which put it is. Asked for is:
//! - *once*: no value is in the history twice;
//! - *answers*: who was told that a put is done finds it at the revision that they were told, at the
//!   member that told them, at once;
//! - *read points*: a state that may be read has what anybody was told of before it was asked for;
//! - *no dirty reads*: what a transaction read stays in the history where it was read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use env::SplitMix64;
use etcd::{Error, Request, Response};
use hunt::Hunt;
use mvcc::Revision;
use prost::Message as _;
use proto::etcdserverpb as ep;
use store::NodeId;

use super::{NODES, Table};
use crate::core::{Input, Token};
use crate::mutants::{Mutant, switch};

const KEYS: [&[u8]; 3] = [b"a", b"b", b"c"];

/// Things that happen before the faults end.
const STEPS: u32 = 400;

/// What somebody waits for.
enum Asked {
    Put { node: u64 },
    Txn,
    Point { node: u64, floor: i64 },
}

/// What happened how often; what never happens proves nothing.
#[derive(Debug, Default)]
struct Seen {
    done: u64,
    unknown: u64,
    read: u64,
    points: u64,
    lost: u64,
    leaders: u64,
}

struct Chance {
    table: Table,
    random: SplitMix64,
    /// A member that hears and reaches nobody.
    alone: Option<u64>,
    next: u64,
    asked: BTreeMap<u64, Asked>,
    /// The highest revision that anybody was told of.
    told: i64,
    /// Puts that are done, by their value: at which revision.
    done: BTreeMap<u64, i64>,
    /// Values that transactions read, and at which revision they had been written.
    read: Vec<(u64, i64)>,
    seen: Seen,
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value.try_into().unwrap())
}

impl Chance {
    fn new(seed: u64) -> Self {
        Self {
            // In half of the seeds nearly everything takes long, and some of it very long.
            table: if seed % 2 == 1 { Table::with_rows_at_once(0) } else { Table::new() },
            random: SplitMix64::new(seed),
            alone: None,
            next: 1,
            asked: BTreeMap::new(),
            told: 0,
            done: BTreeMap::new(),
            read: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn node(&mut self) -> u64 {
        NODES[usize::try_from(self.random.below(3)).unwrap()]
    }

    fn step(&mut self) {
        let node = self.node();
        match self.random.below(100) {
            0..20 => self.ask(node, |key, value| Request::Put(put(key, value))),
            20..30 => self.ask(node, |key, value| Request::Txn(read_or_put(key, value))),
            30..40 => self.ask_point(node),
            40..80 => self.deliver(),
            80..83 => self.lose(node),
            83..85 => self.alone = if self.alone.is_some() { None } else { Some(node) },
            85..95 if self.table.holds_work => drop(self.table.work(node)),
            _ => self.pass(),
        }
        self.drop_what_cannot_arrive();
        self.hear();
    }

    /// Asks for something with a value of its own.
    fn ask(&mut self, node: u64, request: impl Fn(Bytes, Bytes) -> Request) {
        let key = KEYS[usize::try_from(self.random.below(3)).unwrap()];
        let value = self.next;
        self.next += 1;
        let request =
            request(Bytes::from_static(key), Bytes::copy_from_slice(&value.to_be_bytes()));
        let asked = match request {
            Request::Put(_) => Asked::Put { node },
            _ => Asked::Txn,
        };
        self.asked.insert(value, asked);
        self.table.does(node, Input::Client(Token(value), request));
    }

    fn ask_point(&mut self, node: u64) {
        let token = self.next;
        self.next += 1;
        self.asked.insert(token, Asked::Point { node, floor: self.told });
        self.table.does(node, Input::ReadPoint(Token(token)));
    }

    /// The oldest frames between two members arrive.
    fn deliver(&mut self) {
        for _ in 0..=self.random.below(6) {
            let Some(&(from, to, _)) = self.some_frame() else { return };
            let oldest =
                self.table.frames.iter().position(|(f, t, _)| (*f, *t) == (from, to)).unwrap();
            let (_, _, frame) = self.table.frames.remove(oldest);
            self.table.does(to, Input::Frame(NodeId(from), frame));
            self.drop_what_cannot_arrive();
            self.hear();
        }
    }

    fn some_frame(&mut self) -> Option<&(u64, u64, Bytes)> {
        let count = self.table.frames.len() as u64;
        let at = if count == 0 { 0 } else { self.random.below(count) };
        self.table.frames.get(usize::try_from(at).unwrap())
    }

    /// The connection from `from` to another member breaks: what is on its way is lost.
    fn lose(&mut self, from: u64) {
        let to = self.node();
        if from != to {
            self.seen.lost += self.table.take(from, to).len() as u64;
            self.table.does(from, Input::Unreachable(NodeId(to)));
        }
    }

    fn drop_what_cannot_arrive(&mut self) {
        let Some(alone) = self.alone else { return };
        let cut = |(from, to, _): &mut (u64, u64, Bytes)| *from == alone || *to == alone;
        let cut: BTreeSet<(u64, u64)> =
            self.table.frames.extract_if(.., cut).map(|(from, to, _)| (from, to)).collect();
        for (from, to) in cut {
            self.seen.lost += 1;
            self.table.step(from, Input::Unreachable(NodeId(to)));
        }
    }

    fn pass(&mut self) {
        self.table.now += Duration::from_millis(10 + self.random.below(400));
        for node in NODES {
            let due = self.table.cores[&node].next_deadline();
            if due.is_some_and(|due| due <= self.table.now) {
                self.table.does(node, Input::Tick);
            }
        }
    }

    /// What was answered meanwhile.
    fn hear(&mut self) {
        for (token, point) in std::mem::take(&mut self.table.points) {
            let Some(Asked::Point { node, floor }) = self.asked.remove(&token) else {
                panic!("read point {token} was not asked for, or twice answered");
            };
            if point.is_ok() {
                self.seen.points += 1;
                let revision = self.table.cores[&node].machine().view().revision().0;
                assert!(revision >= floor, "{node} may read at {revision}, after {floor} was told");
            }
        }
        for (token, reply) in std::mem::take(&mut self.table.replies) {
            let asked = self.asked.remove(&token);
            match asked.unwrap_or_else(|| panic!("{token} was not asked for, or twice answered")) {
                Asked::Put { node } => self.hear_put(node, token, reply),
                Asked::Txn => self.hear_txn(token, reply),
                Asked::Point { .. } => panic!("a read point is no request"),
            }
        }
    }

    fn hear_put(&mut self, node: u64, value: u64, reply: Result<Response, Error>) {
        match reply {
            Ok(Response::Put(response)) => {
                let revision = response.header.expect("a header").revision;
                let applied = self.table.cores[&node].machine().view().revision().0;
                assert!(applied >= revision, "{node} tells of {revision}, and has {applied}");
                self.done.insert(value, revision);
                self.told = self.told.max(revision);
                self.seen.done += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => self.seen.unknown += 1,
        }
    }

    fn hear_txn(&mut self, value: u64, reply: Result<Response, Error>) {
        let response = match reply {
            Ok(Response::Txn(response)) => response,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                self.seen.unknown += 1;
                return;
            }
        };
        let response = ep::TxnResponse::decode(&response.encode_to_vec()[..]).unwrap();
        let revision = response.header.expect("a header").revision;
        if !response.succeeded {
            self.done.insert(value, revision);
            self.told = self.told.max(revision);
            return;
        }
        for op in response.responses {
            let Some(ep::response_op::Response::ResponseRange(range)) = op.response else {
                panic!("it only reads")
            };
            for kv in range.kvs {
                self.seen.read += 1;
                self.read.push((number(&kv.value), kv.mod_revision));
            }
        }
    }

    /// The faults end; then all members have the same, and nobody waits any more.
    fn heal(&mut self) {
        self.alone = None;
        self.table.holds_work = false;
        NODES.iter().for_each(|&node| self.table.flush(node));
        for _ in 0..300 {
            self.table.settle(&NODES);
            self.hear();
            self.pass();
            let standings = NODES.map(|node| self.table.cores[&node].standing());
            let last = standings[0].last;
            let same = standings.iter().all(|s| s.applied == last && s.last == last);
            let served = standings.iter().any(|standing| standing.serving);
            if same && served && self.asked.is_empty() && self.table.frames.is_empty() {
                self.seen.leaders += standings[0].leader_changes;
                return;
            }
        }
        let standings = NODES.map(|node| self.table.cores[&node].standing());
        panic!("not healed: {standings:?}, {} wait", self.asked.len());
    }

    fn judge(&self) {
        let history = self.history(1);
        for node in [2, 3] {
            assert_eq!(history, self.history(node), "{node} has another history");
        }
        let mut once = BTreeMap::new();
        for (&revision, &value) in &history {
            let before = once.insert(value, revision);
            assert_eq!(before, None, "{value} is done twice, the second time at {revision}");
        }
        for (value, revision) in &self.done {
            assert_eq!(history.get(revision), Some(value), "{value} was told to be done");
        }
        for (value, revision) in &self.read {
            assert_eq!(history.get(revision), Some(value), "{value} was read");
        }
    }

    /// Which put each revision is.
    fn history(&self, node: u64) -> BTreeMap<i64, u64> {
        let view = self.table.cores[&node].machine().view();
        let at = |revision: i64| {
            KEYS.into_iter()
                .filter_map(|key| view.get(key, Revision(revision)).unwrap())
                .find(|record| record.mod_revision == Revision(revision))
                .map(|record| (revision, number(&record.value())))
        };
        (2..=view.revision().0)
            .map(|revision| at(revision).unwrap_or_else(|| panic!("{revision} is nobody's")))
            .collect()
    }
}

fn put(key: Bytes, value: Bytes) -> ep::PutRequest {
    ep::PutRequest { key, value, ..Default::default() }
}

/// Reads the key if there is one in its span, and puts it otherwise: no mere read, so the leader evaluates it.
fn read_or_put(key: Bytes, value: Bytes) -> ep::TxnRequest {
    use ep::request_op::Request as Op;
    let op = |request| vec![ep::RequestOp { request: Some(request) }];
    let compare = ep::Compare {
        result: ep::compare::CompareResult::Greater as i32,
        target: ep::compare::CompareTarget::Version as i32,
        key: key.clone(),
        range_end: [&key[..], b"\0"].concat().into(),
        target_union: Some(ep::compare::TargetUnion::Version(0)),
    };
    let range = ep::RangeRequest { key: key.clone(), ..Default::default() };
    ep::TxnRequest {
        compare: vec![compare],
        success: op(Op::RequestRange(range)),
        failure: op(Op::RequestPut(put(key, value))),
    }
}

fn live(seed: u64) -> Seen {
    let mut chance = Chance::new(seed);
    chance.table.elect(1, &NODES);
    for _ in 0..STEPS {
        chance.step();
    }
    chance.heal();
    chance.judge();
    chance.seen
}

#[test]
fn clients_are_told_what_happened() {
    let mut all = [0; 6];
    for seed in 0..60 {
        let Seen { done, unknown, read, points, lost, leaders } = live(seed);
        let seen = [done, unknown, read, points, lost, leaders];
        all.iter_mut().zip(seen).for_each(|(sum, seen)| *sum += seen);
    }
    println!("done, unknown, read, points, lost, leaders: {all:?}");
    assert!(all.iter().all(|&count| count > 50), "what never happens proves nothing: {all:?}");
}

/// Seeds a mutant may live through.
const SEEDS: u64 = 300;

/// The known way to get it wrong that a mutant stands for.
fn way(mutant: Mutant) -> Option<u8> {
    match mutant {
        Mutant::ServeEarly | Mutant::PointFromAnybody => Some(9),
        Mutant::ReadUnapplied
        | Mutant::AnswerWhateverStands
        | Mutant::SpeculationKept
        | Mutant::ForwardedAgain
        | Mutant::AnswerUnapplied
        | Mutant::MembersEvaluatedEarly
        | Mutant::LongTooEarly
        | Mutant::EvaluatedBesideLong
        | Mutant::AppliedOutOfTurn
        | Mutant::LeasesOutliveLeaders
        | Mutant::UnknownSinksFrame => None,
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("node");
    for &mutant in Mutant::ALL {
        hunt.mutant(mutant, way(mutant), 0..SEEDS, |seed, mutant| {
            let _off = switch(mutant);
            if seed == 0 {
                // What needs more coincidences than a seed is likely to bring.
                super::answers_reach_only_those_who_asked();
                super::an_answer_from_lost_proposals_is_not_given();
                super::refusals::a_refused_put_before_a_member_is_added_leaves_nothing_behind();
                super::versions::members_of_three_versions_agree();
                super::long::a_lease_ends_under_the_next_leader();
            }
            live(seed);
            Ok(())
        });
    }
    hunt.end();
}
