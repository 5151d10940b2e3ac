//! Requests, answers, commits and messages to watchers, as `history` has them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Effect, Error, Request, Response};
use history::record::{
    Answer, Call, Change, Commit, Compact, Compare, Delete, Event, Failure, Get, KeyValue,
    LeaseGrant, LeaseId, LeaseKeepAlive, LeaseRevoke, Outcome, Put, Relation, Revision, Said, Span,
    Step, Target, Time, Txn, WatchEvent,
};
use prost::Message as _;
use proto::{etcdserverpb as pb, mvccpb, wire};

pub(crate) fn time(at: Duration) -> Time {
    Time(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
}

fn lease(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

/// A request; nothing for those that are not about keys.
pub(crate) fn call(request: &Request) -> Option<Call> {
    Some(match request {
        Request::Range(range) => Call::Get(get(range)),
        Request::Put(request) => Call::Put(put(request)),
        Request::DeleteRange(request) => Call::Delete(delete(request)),
        Request::Txn(request) => Call::Txn(txn(request)),
        Request::Compact(request) => {
            Call::Compact(Compact { revision: Revision(request.revision) })
        }
        Request::LeaseGrant(request) => {
            Call::LeaseGrant(LeaseGrant { id: lease(request.id), ttl_s: request.ttl })
        }
        Request::LeaseRevoke(request) => Call::LeaseRevoke(LeaseRevoke { id: LeaseId(request.id) }),
        Request::LeaseKeepAlive(request) => {
            Call::LeaseKeepAlive(LeaseKeepAlive { id: LeaseId(request.id) })
        }
        _ => return None,
    })
}

fn get(request: &pb::RangeRequest) -> Get {
    Get {
        span: Span::decode(request.key.clone(), request.range_end.clone()),
        revision: (request.revision > 0).then_some(Revision(request.revision)),
        serializable: request.serializable,
        limit: u64::try_from(request.limit).ok().filter(|&limit| limit > 0),
        count_only: request.count_only,
        keys_only: request.keys_only,
    }
}

fn put(request: &pb::PutRequest) -> Put {
    Put {
        key: request.key.clone(),
        value: request.value.clone(),
        lease: lease(request.lease),
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

fn delete(request: &pb::DeleteRangeRequest) -> Delete {
    Delete {
        span: Span::decode(request.key.clone(), request.range_end.clone()),
        prev_kv: request.prev_kv,
    }
}

fn txn(request: &pb::TxnRequest) -> Txn {
    let steps = |ops: &[pb::RequestOp]| ops.iter().filter_map(step).collect();
    Txn {
        compares: request.compare.iter().map(compare).collect(),
        success: steps(&request.success),
        failure: steps(&request.failure),
    }
}

fn step(op: &pb::RequestOp) -> Option<Step> {
    Some(match op.request.as_ref()? {
        pb::request_op::Request::RequestRange(range) => Step::Get(get(range)),
        pb::request_op::Request::RequestPut(request) => Step::Put(put(request)),
        pb::request_op::Request::RequestDeleteRange(request) => Step::Delete(delete(request)),
        pb::request_op::Request::RequestTxn(request) => Step::Txn(txn(request)),
    })
}

fn compare(compare: &pb::Compare) -> Compare {
    let target = match compare.target_union.clone() {
        Some(pb::compare::TargetUnion::Version(version)) => Target::Version(version),
        Some(pb::compare::TargetUnion::CreateRevision(at)) => Target::Create(Revision(at)),
        Some(pb::compare::TargetUnion::ModRevision(at)) => Target::Mod(Revision(at)),
        Some(pb::compare::TargetUnion::Value(value)) => Target::Value(value),
        Some(pb::compare::TargetUnion::Lease(id)) => Target::Lease(LeaseId(id)),
        None => Target::Version(0),
    };
    Compare {
        span: Span::decode(compare.key.clone(), compare.range_end.clone()),
        relation: match compare.result() {
            pb::compare::CompareResult::Equal => Relation::Equal,
            pb::compare::CompareResult::NotEqual => Relation::NotEqual,
            pb::compare::CompareResult::Greater => Relation::Greater,
            pb::compare::CompareResult::Less => Relation::Less,
        },
        target,
    }
}

/// What a client makes of an answer, or of none.
///
/// # Panics
/// If an answer about keys makes no sense.
pub(crate) fn outcome(reply: Option<&Result<Response, Error>>) -> Outcome {
    match reply {
        None => Outcome::Unknown,
        Some(Ok(response)) => {
            let mut response = response.clone();
            let revision = response.header_mut().map_or(0, |header| header.revision);
            match answer(&response) {
                Some(answer) => Outcome::Ok { revision: Revision(revision), answer },
                None => panic!("an answer that makes no sense: {response:?}"),
            }
        }
        Some(Err(error)) if error.effect() == Effect::Unknown => Outcome::Unknown,
        Some(Err(error)) => Outcome::Failed(match error {
            Error::Compacted => Failure::Compacted,
            Error::FutureRev => Failure::FutureRevision,
            Error::LeaseNotFound => Failure::LeaseNotFound,
            Error::LeaseExist => Failure::LeaseExists,
            Error::KeyNotFound => Failure::KeyNotFound,
            error => Failure::Other(error.to_string()),
        }),
    }
}

/// An answer; nothing for those that are not about keys, and for one that makes no sense.
fn answer(response: &Response) -> Option<Answer> {
    Some(match response {
        Response::Range(response) => range_answer(response)?,
        Response::Put(response) => put_answer(response)?,
        Response::DeleteRange(response) => delete_answer(response)?,
        Response::Txn(response) => txn_answer(response)?,
        Response::Compact(_) => Answer::Compact,
        Response::LeaseGrant(response) => {
            Answer::LeaseGrant { id: LeaseId(response.id), ttl_s: response.ttl }
        }
        Response::LeaseRevoke(_) => Answer::LeaseRevoke,
        Response::LeaseKeepAlive(response) => {
            Answer::LeaseKeepAlive { ttl_s: (response.ttl > 0).then_some(response.ttl) }
        }
        _ => return None,
    })
}

fn range_answer(response: &wire::RangeResponse) -> Option<Answer> {
    let kvs = response.kvs.iter().map(pair).collect::<Option<Vec<_>>>()?;
    Some(Answer::Get { kvs, more: response.more, count: u64::try_from(response.count).ok()? })
}

fn put_answer(response: &wire::PutResponse) -> Option<Answer> {
    Some(Answer::Put { prev: maybe_pair(response.prev_kv.as_ref())? })
}

fn delete_answer(response: &wire::DeleteRangeResponse) -> Option<Answer> {
    let prev = response.prev_kvs.iter().map(pair).collect::<Option<Vec<_>>>()?;
    Some(Answer::Delete { deleted: u64::try_from(response.deleted).ok()?, prev })
}

fn txn_answer(response: &wire::TxnResponse) -> Option<Answer> {
    let answers = response.responses.iter().map(|op| {
        Some(match op.response.as_ref()? {
            wire::Response::ResponseRange(response) => range_answer(response)?,
            wire::Response::ResponsePut(response) => put_answer(response)?,
            wire::Response::ResponseDeleteRange(response) => delete_answer(response)?,
            wire::Response::ResponseTxn(response) => txn_answer(response)?,
        })
    });
    Some(Answer::Txn {
        succeeded: response.succeeded,
        answers: answers.collect::<Option<Vec<_>>>()?,
    })
}

fn decode(encoded: &Bytes) -> Option<mvccpb::KeyValue> {
    mvccpb::KeyValue::decode(encoded.clone()).ok()
}

fn pair(encoded: &Bytes) -> Option<KeyValue> {
    let kv = decode(encoded)?;
    Some(KeyValue {
        key: kv.key,
        value: kv.value,
        create: Revision(kv.create_revision),
        modified: Revision(kv.mod_revision),
        version: kv.version,
        lease: lease(kv.lease),
    })
}

/// The outer nothing: what is there makes no sense.
#[expect(clippy::option_option, reason = "absent, present, or not to be understood")]
fn maybe_pair(encoded: Option<&Bytes>) -> Option<Option<KeyValue>> {
    match encoded {
        None => Some(None),
        Some(encoded) => pair(encoded).map(Some),
    }
}

/// A commit, and when the first member had applied it.
pub(crate) fn commit(commit: &Arc<mvcc::Commit>, seen: Duration) -> Commit {
    let event = |change: &mvcc::Change| Event {
        key: change.key.clone(),
        change: change.record.as_ref().map_or(Change::Delete, |record| Change::Put {
            value: decode(&record.encoded).map(|kv| kv.value).unwrap_or_default(),
            create: Revision(record.create_revision.0),
            version: record.version,
            lease: record.lease.and_then(|id| lease(id.0)),
        }),
    };
    Commit {
        revision: Revision(commit.revision.0),
        events: commit.changes.iter().map(event).collect(),
        seen: Some(time(seen)),
    }
}

/// A message to a watcher, its header's revision and what it says; nothing if it makes no sense.
pub(crate) fn told(message: &wire::WatchResponse) -> Option<(Revision, Said)> {
    let header = Revision(message.header?.revision);
    let said = if message.canceled {
        let compacted = message.compact_revision;
        Said::Canceled {
            compacted: (compacted > 0).then_some(Revision(compacted)),
            reason: message.cancel_reason.clone(),
        }
    } else if message.created {
        Said::Created
    } else if message.events.is_empty() {
        Said::Progress
    } else {
        let events = message.events.iter().map(watch_event).collect::<Option<Vec<_>>>()?;
        Said::Events { events, fragment: message.fragment }
    };
    Some((header, said))
}

fn watch_event(event: &wire::Event) -> Option<WatchEvent> {
    let kv = decode(event.kv.as_ref()?)?;
    let change = match event.r#type() {
        mvccpb::event::EventType::Put => Change::Put {
            value: kv.value,
            create: Revision(kv.create_revision),
            version: kv.version,
            lease: lease(kv.lease),
        },
        mvccpb::event::EventType::Delete => Change::Delete,
    };
    Some(WatchEvent {
        revision: Revision(kv.mod_revision),
        key: kv.key,
        change,
        prev: maybe_pair(event.prev_kv.as_ref())?,
    })
}
