//! Between the record's words and etcd's messages.

use bytes::Bytes;
use history::record::{
    Answer, Call, Change, Compare, Delete, Failure, Get, Key, KeyValue, LeaseId, Put, Relation,
    Revision, Span, Step, Target, Txn, WatchEvent,
};
use proto::{etcdserverpb as pb, mvccpb};

/// `key` and `range_end`.
#[must_use]
pub fn span(span: &Span) -> (Bytes, Bytes) {
    match span {
        Span::One(key) => (key.clone(), Bytes::new()),
        Span::Range { from, to } => (from.clone(), to.clone()),
        // etcd refuses an empty key, and means the first one by a zero byte.
        Span::From(key) if key.is_empty() => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        Span::From(key) => (key.clone(), Bytes::from_static(b"\0")),
    }
}

fn lease(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

fn lease_number(id: Option<LeaseId>) -> i64 {
    id.map_or(0, |id| id.0)
}

pub(super) fn put(put: &Put) -> pb::PutRequest {
    pb::PutRequest {
        key: put.key.clone(),
        value: put.value.clone(),
        lease: lease_number(put.lease),
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

pub(super) fn get(get: &Get) -> pb::RangeRequest {
    let (key, range_end) = span(&get.span);
    pb::RangeRequest {
        key,
        range_end,
        limit: get.limit.and_then(|limit| limit.try_into().ok()).unwrap_or_default(),
        revision: get.revision.map_or(0, |revision| revision.0),
        serializable: get.serializable,
        keys_only: get.keys_only,
        count_only: get.count_only,
        ..Default::default()
    }
}

pub(super) fn delete(delete: &Delete) -> pb::DeleteRangeRequest {
    let (key, range_end) = span(&delete.span);
    pb::DeleteRangeRequest { key, range_end, prev_kv: delete.prev_kv }
}

pub(super) fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(step).collect(),
        failure: txn.failure.iter().map(step).collect(),
    }
}

fn compare(one: &Compare) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (key, range_end) = span(&one.span);
    let result = match one.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::NotEqual => CompareResult::NotEqual,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
    };
    let (target, union) = match &one.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Create(revision) => {
            (CompareTarget::Create, TargetUnion::CreateRevision(revision.0))
        }
        Target::Mod(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision.0)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(value.clone())),
        Target::Lease(id) => (CompareTarget::Lease, TargetUnion::Lease(id.0)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key,
        range_end,
        target_union: Some(union),
    }
}

fn step(step: &Step) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match step {
        Step::Put(one) => Request::RequestPut(put(one)),
        Step::Get(one) => Request::RequestRange(get(one)),
        Step::Delete(one) => Request::RequestDeleteRange(delete(one)),
        Step::Txn(one) => Request::RequestTxn(txn(one)),
    };
    pb::RequestOp { request: Some(request) }
}

/// A pair as it came.
#[must_use]
pub fn pair(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create: Revision(kv.create_revision),
        modified: Revision(kv.mod_revision),
        version: kv.version,
        lease: lease(kv.lease),
    }
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(super) fn put_answer(answer: pb::PutResponse) -> Answer {
    Answer::Put { prev: answer.prev_kv.map(pair) }
}

pub(super) fn get_answer(answer: pb::RangeResponse) -> Answer {
    Answer::Get {
        kvs: answer.kvs.into_iter().map(pair).collect(),
        more: answer.more,
        count: number(answer.count),
    }
}

pub(super) fn delete_answer(answer: pb::DeleteRangeResponse) -> Answer {
    Answer::Delete {
        deleted: number(answer.deleted),
        prev: answer.prev_kvs.into_iter().map(pair).collect(),
    }
}

/// `None` if a step's answer is missing.
pub(super) fn txn_answer(answer: pb::TxnResponse) -> Option<Answer> {
    use pb::response_op::Response;
    let one = |op: pb::ResponseOp| {
        Some(match op.response? {
            Response::ResponseRange(one) => get_answer(one),
            Response::ResponsePut(one) => put_answer(one),
            Response::ResponseDeleteRange(one) => delete_answer(one),
            Response::ResponseTxn(one) => txn_answer(one)?,
        })
    };
    let answers = answer.responses.into_iter().map(one).collect::<Option<Vec<_>>>()?;
    Some(Answer::Txn { succeeded: answer.succeeded, answers })
}

/// An event as it came; `None` if it has no pair.
#[must_use]
pub fn event(event: mvccpb::Event) -> Option<WatchEvent> {
    let is_put = event.r#type == i32::from(mvccpb::event::EventType::Put);
    let kv = event.kv?;
    let (revision, key): (Revision, Key) = (Revision(kv.mod_revision), kv.key.clone());
    let change = if is_put {
        let KeyValue { value, create, version, lease, .. } = pair(kv);
        Change::Put { value, create, version, lease }
    } else {
        Change::Delete
    };
    Some(WatchEvent { revision, key, change, prev: event.prev_kv.map(pair) })
}

/// What a refusal means, if it says for certain that nothing was done.
///
/// Everything that is not known to be without effect is unknown: a lost connection, no leader, a timeout.
#[must_use]
pub fn failure(message: &str) -> Option<Failure> {
    Some(match message {
        "etcdserver: mvcc: required revision has been compacted" => Failure::Compacted,
        "etcdserver: mvcc: required revision is a future revision" => Failure::FutureRevision,
        "etcdserver: requested lease not found" => Failure::LeaseNotFound,
        "etcdserver: lease already exists" => Failure::LeaseExists,
        "etcdserver: key not found" => Failure::KeyNotFound,
        "etcdserver: mvcc: database space exceeded"
        | "etcdserver: too many requests"
        | "etcdserver: rpc not supported for learner" => Failure::Other(message.to_owned()),
        // There was nobody to send it to.
        _ if message.contains("tcp connect error") => Failure::Other(message.to_owned()),
        _ => return None,
    })
}

/// The call's name, for tables.
#[must_use]
pub fn name(call: &Call) -> &'static str {
    match call {
        Call::Put(_) => "put",
        Call::Get(get) if get.revision.is_some() => "get at a revision",
        Call::Get(get) if get.serializable => "get, serializable",
        Call::Get(_) => "get",
        Call::Delete(_) => "delete",
        Call::Txn(_) => "txn",
        Call::Compact(_) => "compact",
        Call::LeaseGrant(_) => "lease grant",
        Call::LeaseRevoke(_) => "lease revoke",
        Call::LeaseKeepAlive(_) => "lease keepalive",
        _ => "other",
    }
}
