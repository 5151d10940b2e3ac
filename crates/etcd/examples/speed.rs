//! How long the state machine takes for a request, without log, network or disk:
//! `cargo run --release -p quorate-etcd --example speed`

#![expect(clippy::unwrap_used, reason = "an example stops when something is wrong")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::{Config, Evaluated, Limits, Machine, Request};
use mvcc::State;
use mvcc::engine::mem::MemEngine;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as Op;

const KEYS: u64 = 200_000;
const VALUE_BYTES: usize = 256;
/// Proposals evaluated before the first of them is applied.
const IN_FLIGHT: usize = 64;

struct Leader {
    machine: Machine<MemEngine>,
    index: u64,
    flight: Vec<Bytes>,
}

impl Leader {
    fn new() -> Self {
        let state = State::open(Arc::new(MemEngine::new())).unwrap();
        let config = Config { member_id: 1, limits: Limits::default(), seed: 1 };
        let mut machine = Machine::open(state, config);
        machine.skip(1, 1);
        machine.lead(Duration::ZERO, 1).unwrap();
        Self { machine, index: 1, flight: Vec::new() }
    }

    fn ask(&mut self, request: Request) {
        match self.machine.evaluate(Duration::ZERO, request) {
            Evaluated::Propose { effects, outcome } => {
                black_box(outcome.unwrap());
                self.flight.push(effects);
            }
            Evaluated::Read(outcome) => drop(black_box(outcome.unwrap())),
            other => panic!("{other:?}"),
        }
        if self.flight.len() == IN_FLIGHT {
            self.drain();
        }
    }

    fn drain(&mut self) {
        for effects in std::mem::take(&mut self.flight) {
            self.index += 1;
            self.machine.apply(Duration::ZERO, self.index, 1, &effects).unwrap();
        }
    }
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/pod-{:08}", number.wrapping_mul(7_919) % KEYS).into()
}

fn measure(name: &str, count: u64, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    (0..count).for_each(&mut work);
    let each = start.elapsed().as_nanos() / u128::from(count);
    println!("{name:<44} {each:>8} ns");
}

fn put(number: u64, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key(number), value: value.clone(), ..Default::default() }
}

fn main() {
    let mut leader = Leader::new();
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    measure("put of a new key, evaluated and applied", KEYS, |n| {
        leader.ask(Request::Put(put(n, &value)));
    });
    measure("put over a key, evaluated and applied", KEYS, |n| {
        leader.ask(Request::Put(put(n * 3, &value)));
    });
    leader.drain();
    measure("Kubernetes' update, evaluated and applied", KEYS, |n| {
        let compare = pb::Compare {
            result: 3,
            target: 2,
            key: key(n),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(0)),
        };
        let op = |request| vec![pb::RequestOp { request: Some(request) }];
        let read = pb::RangeRequest { key: key(n), ..Default::default() };
        leader.ask(Request::Txn(pb::TxnRequest {
            compare: vec![compare],
            success: op(Op::RequestPut(put(n, &value))),
            failure: op(Op::RequestRange(read)),
        }));
    });
    leader.drain();
    let limits = Limits::default();
    let view = leader.machine.view();
    measure("get from a view", KEYS, |n| {
        let request = pb::RangeRequest { key: key(n), ..Default::default() };
        black_box(etcd::read(&view, &Request::Range(request), &limits).unwrap());
    });
    measure("list of 500 in 200,000 from a view", 200, |n| {
        let request = pb::RangeRequest {
            key: key(n),
            range_end: Bytes::from_static(b"\0"),
            limit: 500,
            ..Default::default()
        };
        black_box(etcd::read(&view, &Request::Range(request), &limits).unwrap());
    });
}
