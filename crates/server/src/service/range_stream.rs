//! KV.RangeStream: a range in parts, all at one revision.
//!
//! Parts are read on a thread of their own, and only as fast as the client takes them: what a
//! list costs in memory is a few parts, however long it is. Header, more and count come with the
//! last part, as etcd sends them.

use std::rc::Rc;

use bytes::Bytes;
use etcd::{Error, Request, Response};
use mvcc::{KeySpan, ReadError, Record, Revision, View};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::wire;

use super::ask::wrong_kind;
use crate::backend::Backend;
use crate::grpc::{Status, encode};
use crate::link::{Feeder, Outlet};
use crate::route::Context;

/// What cannot be asked for in parts.
pub(crate) fn check(request: &pb::RangeRequest) -> Result<(), Status> {
    let order = SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
    let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    if request.key.is_empty() {
        return Err(Error::EmptyKey.into());
    }
    if target != SortTarget::Key || order == SortOrder::Descend {
        return Err(Error::StreamSort.into());
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(Error::StreamFilter.into());
    }
    Ok(())
}

pub(crate) async fn run<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    request: pb::RangeRequest,
) -> Result<(), Status> {
    let door = &context.door;
    let view =
        if request.serializable { door.backend.view() } else { door.backend.read_point().await? };
    let header = door.header(view.revision());
    let limits = door.config.limits.clone();
    let metrics = std::sync::Arc::clone(&door.metrics);
    let call = context.call;
    let work = move |feeder: Feeder| {
        let mut send = |part: wire::RangeResponse| {
            let bytes = encode(&wire::RangeStreamResponse { range_response: Some(part) })?;
            metrics.sent(call, bytes.len());
            Ok::<bool, Status>(feeder.send(bytes).is_ok())
        };
        let last = if request.range_end.is_empty() || request.count_only {
            whole(&view, request, &limits)?
        } else {
            match parts(&view, &request, limits.stream_chunk_bytes, &mut send)? {
                Some(last) => last,
                None => return Ok(()),
            }
        };
        send(wire::RangeResponse { header, ..last })?;
        Ok(())
    };
    outlet.feed(door.config.stream_queue_len, work).await
}

/// What needs no parts.
fn whole(
    view: &View,
    request: pb::RangeRequest,
    limits: &etcd::Limits,
) -> Result<wire::RangeResponse, Status> {
    match etcd::read(
        view,
        &Request::Range(pb::RangeRequest { serializable: true, ..request }),
        limits,
    )? {
        Response::Range(response) => Ok(response),
        _ => Err(wrong_kind()),
    }
}

/// Sends all parts but the last, which is returned; `None` if the client is gone.
fn parts(
    view: &View,
    request: &pb::RangeRequest,
    chunk_bytes: usize,
    send: &mut impl FnMut(wire::RangeResponse) -> Result<bool, Status>,
) -> Result<Option<wire::RangeResponse>, Status> {
    let end = (request.range_end != [0][..]).then(|| request.range_end.clone());
    let span = KeySpan { start: request.key.clone(), end };
    let at = match request.revision {
        revision if revision > view.revision().0 => return Err(Error::FutureRev.into()),
        revision if revision > 0 => Revision(revision),
        _ => view.revision(),
    };
    let limit = u64::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    let mut part = wire::RangeResponse::default();
    let (mut bytes, mut seen) = (0, 0_u64);
    for record in view.scan(&span, at).map_err(failed)? {
        let record = record.map_err(failed)?;
        seen += 1;
        if seen > limit {
            // The rest is only counted.
            continue;
        }
        let kv = if request.keys_only { without_value(&record) } else { record.encoded };
        bytes += kv.len();
        part.kvs.push(kv);
        if bytes >= chunk_bytes {
            bytes = 0;
            if !send(std::mem::take(&mut part))? {
                return Ok(None);
            }
        }
    }
    part.more = seen > limit;
    part.count = i64::try_from(seen).unwrap_or(i64::MAX);
    Ok(Some(part))
}

fn without_value(record: &Record) -> Bytes {
    let Record { create_revision, mod_revision, version, .. } = *record;
    Record::new(&record.key(), create_revision, mod_revision, version, b"", None).encoded
}

fn failed(error: ReadError) -> Error {
    match error {
        ReadError::Compacted { .. } => Error::Compacted,
        ReadError::Future { .. } => Error::FutureRev,
        other => Error::Storage(other.to_string()),
    }
}
