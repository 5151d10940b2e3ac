//! A cluster of state machines without a network, and words to ask it things.
#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(unreachable_pub, reason = "shared by several test crates")]

pub mod leases;
pub mod model;
pub mod random;
pub mod run;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Config, Error, Evaluated, Limits, Machine, Request, Response};
use mvcc::State;
use mvcc::engine::mem::MemEngine;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;

pub const LEADER: u64 = 7;

pub fn machine(limits: Limits) -> Machine<MemEngine> {
    let state = State::open(Arc::new(MemEngine::new())).unwrap();
    Machine::open(state, Config { member_id: LEADER, limits, seed: 42 })
}

/// One member that leads, applies everything at once and keeps the log.
pub struct Solo {
    pub machine: Machine<MemEngine>,
    pub now: Duration,
    pub term: u64,
    pub index: u64,
    /// The effects of every entry, from index 2 on (the first is the term's own).
    pub log: Vec<Bytes>,
    /// Evaluations that took long.
    pub long: usize,
}

/// Applies an entry: one of many changes in two steps.
pub fn apply(
    machine: &mut Machine<MemEngine>,
    now: Duration,
    (index, term): (u64, u64),
    effects: &Bytes,
) -> etcd::Applied {
    if !machine.is_long(effects) {
        return machine.apply(now, index, term, effects).unwrap();
    }
    let done = machine.begin_apply(index, term, effects.clone(), None).run();
    assert!(machine.applied().index < index, "nobody sees it yet");
    machine.end_apply(now, done).unwrap().expect("of this state")
}

impl Solo {
    pub fn new() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        let mut machine = machine(limits);
        machine.skip(1, 1);
        machine.lead(Duration::ZERO, 1).unwrap();
        Self { machine, now: Duration::ZERO, term: 1, index: 1, log: Vec::new(), long: 0 }
    }

    pub fn apply(&mut self, effects: Bytes) -> etcd::Applied {
        self.index += 1;
        self.log.push(effects.clone());
        apply(&mut self.machine, self.now, (self.index, self.term), &effects)
    }

    pub fn ask(&mut self, request: Request) -> Result<Response, Error> {
        let evaluated = self.machine.evaluate(self.now, request);
        self.outcome(evaluated)
    }

    fn outcome(&mut self, evaluated: Evaluated) -> Result<Response, Error> {
        match evaluated {
            Evaluated::Long(long) => {
                self.long += 1;
                let done = self.machine.begin_long(self.now, long).run();
                let evaluated = self.machine.end_long(self.now, done);
                self.outcome(evaluated)
            }
            Evaluated::Refused(error) => Err(error),
            Evaluated::Read(outcome) => *outcome,
            Evaluated::Propose { effects, outcome }
            | Evaluated::Membership { effects, outcome, .. } => {
                self.apply(effects);
                *outcome
            }
        }
    }

    pub fn revision(&self) -> i64 {
        self.machine.view().revision().0
    }

    pub fn put(&mut self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        match self.ask(Request::Put(request))? {
            Response::Put(response) => Ok(twin(&response)),
            other => panic!("{other:?}"),
        }
    }

    pub fn range(&mut self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        match self.ask(Request::Range(request))? {
            Response::Range(response) => Ok(twin(&response)),
            other => panic!("{other:?}"),
        }
    }

    pub fn delete(
        &mut self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        match self.ask(Request::DeleteRange(request))? {
            Response::DeleteRange(response) => Ok(twin(&response)),
            other => panic!("{other:?}"),
        }
    }

    pub fn txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        match self.ask(Request::Txn(request))? {
            Response::Txn(response) => Ok(twin(&response)),
            other => panic!("{other:?}"),
        }
    }

    pub fn compact(&mut self, revision: i64) -> Result<i64, Error> {
        match self.ask(Request::Compact(pb::CompactionRequest { revision, physical: false }))? {
            Response::Compact(response) => Ok(response.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Error> {
        match self.ask(Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id }))? {
            Response::LeaseGrant(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub fn revoke(&mut self, id: i64) -> Result<i64, Error> {
        match self.ask(Request::LeaseRevoke(pb::LeaseRevokeRequest { id }))? {
            Response::LeaseRevoke(response) => Ok(response.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    pub fn keep_alive(&mut self, id: i64) -> i64 {
        match self.ask(Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id })).unwrap() {
            Response::LeaseKeepAlive(response) => response.ttl,
            other => panic!("{other:?}"),
        }
    }

    pub fn time_to_live(&mut self, id: i64) -> pb::LeaseTimeToLiveResponse {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        match self.ask(Request::LeaseTimeToLive(request)).unwrap() {
            Response::LeaseTimeToLive(response) => response,
            other => panic!("{other:?}"),
        }
    }

    pub fn leases(&mut self) -> Vec<i64> {
        match self.ask(Request::LeaseLeases(pb::LeaseLeasesRequest {})).unwrap() {
            Response::LeaseLeases(response) => {
                response.leases.iter().map(|lease| lease.id).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn leases_in_order(&mut self) -> Vec<i64> {
        let mut leases = self.leases();
        leases.sort_unstable();
        leases
    }

    /// Ends what is due, and returns how many leases that were.
    pub fn expire(&mut self) -> usize {
        let due = self.machine.expire(self.now).unwrap();
        let count = due.effects.len();
        for effects in due.effects {
            self.apply(effects);
        }
        let Some(long) = due.long else { return count };
        assert_eq!(count, 0, "it waits until nothing is in flight");
        self.outcome(Evaluated::Long(long)).unwrap();
        1
    }
}

/// The message of the API that has the same bytes.
pub fn twin<T: Message, U: Message + Default>(message: &T) -> U {
    U::decode(&message.encode_to_vec()[..]).unwrap()
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    }
}

pub fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

pub fn span(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { range_end: end.to_owned().into(), ..get(key) }
}

pub fn del(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: false,
    }
}

pub fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

pub fn put_op(key: &str, value: &str) -> pb::RequestOp {
    op(Op::RequestPut(put(key, value)))
}

pub fn get_op(key: &str) -> pb::RequestOp {
    op(Op::RequestRange(get(key)))
}

pub fn del_op(key: &str, end: &str) -> pb::RequestOp {
    op(Op::RequestDeleteRange(pb::DeleteRangeRequest { prev_kv: true, ..del(key, end) }))
}

pub fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { compare: vec![], success, failure: vec![] }
}

pub fn keys(response: &pb::RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}
