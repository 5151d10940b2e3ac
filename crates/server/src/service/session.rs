//! What locks and elections are made of: keys in the order of their creation, each held by a
//! lease.
//!
//! Who wants a turn creates a key under a common prefix, named by its lease, and waits until no
//! key with a smaller creation revision is left. The key vanishes with the lease, so nobody can
//! hold a turn and be gone for longer than the lease's TTL. etcd's clients do the same from
//! outside; keys and order are the same here, so that both kinds of client take turns together.
//!
//! Waiting costs nothing while nothing happens: the door's feed of changes wakes who waits for
//! a key.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::{Error, Request, Response};
use mvcc::{KeySpan, Record, Revision};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;
use proto::wire;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::ask::{answered, wrong_kind};
use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::Status;

/// A place in the queue.
pub(crate) struct Place {
    pub(crate) key: Bytes,
    /// The revision at which its key was created.
    pub(crate) revision: i64,
    /// The value the key has.
    pub(crate) value: Bytes,
    /// Header of the answer that gave it.
    pub(crate) header: Option<pb::ResponseHeader>,
    /// The oldest key of the queue; `None` if that is this one.
    pub(crate) behind: Option<Record>,
}

/// `requested`, or a new lease if that is 0.
pub(crate) async fn lease<B: Backend>(door: &Rc<Door<B>>, requested: i64) -> Result<i64, Status> {
    if requested != 0 {
        return Ok(requested);
    }
    let request = pb::LeaseGrantRequest { ttl: door.config.session_ttl_s, id: 0 };
    match answered(door, Request::LeaseGrant(request)).await? {
        Response::LeaseGrant(granted) => Ok(granted.id),
        _ => Err(wrong_kind()),
    }
}

/// The prefix of a queue, and what comes after all keys with it.
fn span(name: &[u8]) -> (Bytes, Bytes) {
    let prefix = Bytes::from([name, b"/"].concat());
    let end = KeySpan::prefix(&prefix).end.unwrap_or(Bytes::from_static(b"\0"));
    (prefix, end)
}

/// The oldest key of the queue `name`, as a request.
pub(crate) fn oldest(name: &[u8]) -> pb::RangeRequest {
    let (key, range_end) = span(name);
    pb::RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// Enters the queue `name` with a key for `lease`, or finds the place it has already.
pub(crate) async fn enter<B: Backend>(
    door: &Rc<Door<B>>,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<Place, Status> {
    let key = Bytes::from([name, b"/", format!("{lease:x}").as_bytes()].concat());
    let put =
        pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![op(Op::RequestPut(put)), op(Op::RequestRange(oldest(name)))],
        failure: vec![op(Op::RequestRange(get)), op(Op::RequestRange(oldest(name)))],
    };
    let response = txn(door, request).await?;
    let header = response.header;
    let mut found = response.responses.into_iter().map(|answer| match answer.response {
        Some(wire::Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    let own = found.next().flatten();
    let first = found.next().flatten();
    let decode = |kv: Bytes| {
        Record::decode(kv).map_err(|error| Status::internal(format!("a stored key: {error}")))
    };
    let (revision, value) = if response.succeeded {
        (header.map_or(0, |header| header.revision), value)
    } else {
        let own = decode(own.ok_or_else(wrong_kind)?)?;
        (own.create_revision.0, own.value())
    };
    let first = first.map(decode).transpose()?;
    let behind = first.filter(|first| first.create_revision.0 != revision);
    Ok(Place { key, revision, value, header, behind })
}

/// Waits until nobody in the queue `name` is before `revision`.
pub(crate) async fn turn<B: Backend>(
    door: &Rc<Door<B>>,
    name: &[u8],
    revision: i64,
) -> Result<(), Status> {
    let before = pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        max_create_revision: revision - 1,
        ..oldest(name)
    };
    loop {
        // The queue is watched from before it is read, so that nothing is missed in between.
        let mut changes = door.changes.subscribe();
        let Some(last) = range(door, before.clone()).await?.kvs.into_iter().next() else {
            return Ok(());
        };
        let last = Record::decode(last)
            .map_err(|error| Status::internal(format!("a stored key: {error}")))?;
        let key = last.key();
        loop {
            match changes.recv().await {
                Ok(Some(commit)) => {
                    let gone = |change: &mvcc::Change| change.key == key && change.record.is_none();
                    if commit.changes.iter().any(gone) {
                        break;
                    }
                }
                // What was missed is in the state.
                Ok(None) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Err(Error::Stopped.into()),
            }
        }
    }
}

/// Runs `work`; if it fails, or if whoever waits for it goes away before it is done, runs `undo`:
/// who is told that he does not get a turn, or hears nothing, is in nobody's way. A failure is told
/// when that is done, and until then `undo` is tried again for a while. Not for one who is gone: he may
/// come again, and find the place that he had.
pub(crate) async fn or_undo<T: 'static, U: Future<Output = Result<(), Status>>>(
    work: impl Future<Output = Result<T, Status>> + 'static,
    undo: impl Fn() -> U + 'static,
) -> Result<T, Status> {
    let (mut sender, receiver) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let outcome = tokio::select! {
            outcome = work => Some(outcome),
            () = sender.closed() => None,
        };
        let undone = match outcome {
            Some(Ok(done)) => sender.send(Ok(done)).is_ok(),
            Some(Err(status)) => {
                undo_while_awaited(undo, &sender).await;
                let _ = sender.send(Err(status));
                return;
            }
            None => false,
        };
        if !undone && let Err(status) = undo().await {
            // The key goes with its lease.
            tracing::debug!(message = %status.message, "a place in a queue was not given up");
        }
    });
    receiver.await.unwrap_or_else(|_| Err(Error::Stopped.into()))
}

/// How long, and how often, a place in a queue is given up in vain. Then it goes with its lease.
const UNDO_FOR: Duration = Duration::from_secs(60);
const UNDO_AGAIN: Duration = Duration::from_millis(200);

async fn undo_while_awaited<T, U: Future<Output = Result<(), Status>>>(
    undo: impl Fn() -> U,
    sender: &oneshot::Sender<T>,
) {
    let until = Instant::now() + UNDO_FOR;
    while let Err(status) = undo().await {
        if sender.is_closed() || Instant::now() >= until {
            tracing::warn!(message = %status.message, "a place in a queue was not given up");
            return;
        }
        tokio::time::sleep(UNDO_AGAIN).await;
    }
}

/// Gives up a place: its key, if it is still the one that was created at that revision.
pub(crate) async fn give_up<B: Backend>(
    door: &Rc<Door<B>>,
    key: Bytes,
    revision: i64,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![created_at(&key, revision)],
        success: vec![op(Op::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    Ok(txn(door, request).await?.header)
}

/// The key was created at this revision; 0 if it does not exist.
pub(crate) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Create.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
    }
}

pub(crate) fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

pub(crate) async fn txn<B: Backend>(
    door: &Rc<Door<B>>,
    request: pb::TxnRequest,
) -> Result<wire::TxnResponse, Status> {
    match answered(door, Request::Txn(request)).await? {
        Response::Txn(response) => Ok(response),
        _ => Err(wrong_kind()),
    }
}

pub(crate) async fn range<B: Backend>(
    door: &Rc<Door<B>>,
    request: pb::RangeRequest,
) -> Result<wire::RangeResponse, Status> {
    match answered(door, Request::Range(request)).await? {
        Response::Range(response) => Ok(response),
        _ => Err(wrong_kind()),
    }
}

pub(crate) async fn delete<B: Backend>(
    door: &Rc<Door<B>>,
    key: Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let request = pb::DeleteRangeRequest { key, ..Default::default() };
    match answered(door, Request::DeleteRange(request)).await? {
        Response::DeleteRange(response) => Ok(response.header),
        _ => Err(wrong_kind()),
    }
}

/// What a waiter for the key at `revision` has to see: every later change of it.
pub(crate) fn revision_of(header: Option<pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}
