//! Requests to the state machine: who answers them, and where the work is done.
//!
//! What only reads is answered from a view, by this door; the member is asked for no more than a
//! read point, or nothing at all. Reading many keys takes long (a hundred thousand take tens of
//! milliseconds, and as much again to encode), and a door has one thread for all its clients:
//! so a read is looked at first, and goes to a thread of its own when it is large.

use std::rc::Rc;

use bytes::Bytes;
use etcd::{Error, Request, Response, Route};
use mvcc::{KeySpan, Revision, View};
use node::RangeId;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;

use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::{Status, encode};
use crate::read_points::read_point;

/// Has `request` answered.
pub(crate) async fn answered<B: Backend>(
    door: &Rc<Door<B>>,
    request: Request,
) -> Result<Response, Status> {
    let view = match route(door, &request)? {
        Route::Leader => return Ok(stamped(door, door.backend.execute(request).await?)),
        Route::Here => door.backend.view(),
        Route::ReadPoint => read_point(door).await?,
    };
    if !is_large(&view, &request, door.config.inline_range_keys) {
        return Ok(stamped(door, etcd::read(&view, &request, &door.config.limits)?));
    }
    let limits = door.config.limits.clone();
    let response = blocking(move || etcd::read(&view, &request, &limits)).await??;
    Ok(stamped(door, response))
}

/// Has `request` answered, and the answer encoded.
pub(crate) async fn encoded<B: Backend>(
    door: &Rc<Door<B>>,
    request: Request,
) -> Result<Bytes, Status> {
    let view = match route(door, &request)? {
        Route::Leader => {
            return encode_response(&stamped(door, door.backend.execute(request).await?));
        }
        Route::Here => door.backend.view(),
        Route::ReadPoint => read_point(door).await?,
    };
    if !is_large(&view, &request, door.config.inline_range_keys) {
        let response = etcd::read(&view, &request, &door.config.limits)?;
        return encode_response(&stamped(door, response));
    }
    let limits = door.config.limits.clone();
    let mut stamp = pb::ResponseHeader::default();
    door.stamp(&mut stamp);
    blocking(move || {
        let mut response = etcd::read(&view, &request, &limits)?;
        if let Some(header) = response.header_mut() {
            *header = pb::ResponseHeader { revision: header.revision, ..stamp };
        }
        encode_response(&response)
    })
    .await?
}

/// Has `request` answered by one range, and the answer encoded.
pub(crate) async fn in_range<B: Backend>(
    door: &Rc<Door<B>>,
    range: RangeId,
    request: Request,
) -> Result<Bytes, Status> {
    encode_response(&stamped(door, door.backend.execute_in(range, request).await?))
}

/// From where the request is answered; a learner answers only what is serializable.
fn route<B: Backend>(door: &Door<B>, request: &Request) -> Result<Route, Status> {
    let route = request.route();
    if route != Route::Here && door.backend.standing().is_learner {
        return Err(Error::NotSupportedForLearner.into());
    }
    Ok(route)
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(format!("a read broke off: {error}")))
}

fn stamped<B: Backend>(door: &Door<B>, mut response: Response) -> Response {
    if let Some(header) = response.header_mut() {
        door.stamp(header);
    }
    response
}

/// Whether answering takes more than `keys_max` steps through the keys.
fn is_large(view: &View, request: &Request, keys_max: usize) -> bool {
    match request {
        Request::Range(range) => keys_seen(view, range, keys_max) >= keys_max,
        Request::Txn(txn) => txn_is_large(view, txn, keys_max),
        Request::Hash(_) | Request::HashKv(_) => true,
        _ => false,
    }
}

fn txn_is_large(view: &View, txn: &pb::TxnRequest, keys_max: usize) -> bool {
    let mut left = keys_max;
    let mut inner = vec![txn];
    while let Some(txn) = inner.pop() {
        if txn.compare.iter().any(|compare| !compare.range_end.is_empty()) {
            return true;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => {
                    left = left.saturating_sub(keys_seen(view, range, left));
                }
                Some(Op::RequestTxn(txn)) => inner.push(txn),
                _ => {}
            }
        }
        if left == 0 {
            return true;
        }
    }
    false
}

/// How many keys the range walks over, counted no further than `keys_max`.
fn keys_seen(view: &View, range: &pb::RangeRequest, keys_max: usize) -> usize {
    let span = match &range.range_end[..] {
        [] => return 1,
        [0] => KeySpan { start: range.key.clone(), end: None },
        _ => KeySpan { start: range.key.clone(), end: Some(range.range_end.clone()) },
    };
    let at = if range.revision > 0 { Revision(range.revision) } else { view.revision() };
    // What is wrong with the request is said when it is answered.
    view.scan(&span, at).map_or(0, |records| records.take(keys_max).count())
}

macro_rules! encode_kinds {
    ($response:expr, $($kind:ident),*) => {
        match $response {
            $(Response::$kind(message) => encode(message),)*
            Response::Published => Err(Status::internal("an answer that no client may see")),
        }
    };
}

fn encode_response(response: &Response) -> Result<Bytes, Status> {
    encode_kinds!(
        response,
        Range,
        Put,
        DeleteRange,
        Txn,
        Compact,
        LeaseGrant,
        LeaseRevoke,
        LeaseKeepAlive,
        LeaseTimeToLive,
        LeaseLeases,
        MemberAdd,
        MemberRemove,
        MemberUpdate,
        MemberList,
        MemberPromote,
        Alarm,
        Hash,
        HashKv,
        AuthStatus
    )
}

/// An answer of another kind than the request: a fault of ours.
pub(crate) fn wrong_kind() -> Status {
    Status::internal("an answer of another kind than the request")
}
