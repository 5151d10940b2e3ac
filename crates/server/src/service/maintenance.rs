//! Maintenance: what a member says of itself, and what an operator asks of it.

use std::rc::Rc;

use etcd::{Error, Request, Response};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::downgrade_request::DowngradeAction;

use super::ask;
use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::{Status, encode};
use crate::link::{Feeder, Outlet};
use crate::route::Context;
use crate::scratch::Scratch;
use crate::snapshot;

pub(crate) async fn status<B: Backend>(
    context: Rc<Context<B>>,
    _: pb::StatusRequest,
) -> Result<pb::StatusResponse, Status> {
    let door = &context.door;
    let (standing, status) = (door.backend.standing(), door.backend.status());
    let header = door.header(door.backend.view().revision());
    let mut errors = Vec::new();
    if standing.leader.is_none() {
        errors.push(Error::NoLeader.to_string());
    }
    for alarm in alarms(door)? {
        errors.push(format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name()));
    }
    Ok(pb::StatusResponse {
        header,
        version: status.version,
        db_size: signed(status.db_size_bytes),
        leader: standing.leader.unwrap_or(0),
        raft_index: status.committed,
        raft_term: standing.term,
        raft_applied_index: status.applied,
        errors,
        db_size_in_use: signed(status.db_in_use_bytes),
        is_learner: standing.is_learner,
        storage_version: status.storage_version.unwrap_or_default(),
        db_size_quota: status.quota_bytes.map_or(0, signed),
        downgrade_info: Some(pb::DowngradeInfo::default()),
    })
}

/// The alarms that this member knows of.
pub(crate) fn alarms<B: Backend>(door: &Door<B>) -> Result<Vec<pb::AlarmMember>, Error> {
    let request = Request::Alarm(pb::AlarmRequest::default());
    match etcd::read(&door.backend.view(), &request, &door.config.limits)? {
        Response::Alarm(response) => Ok(response.alarms),
        _ => Ok(Vec::new()),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(crate) async fn defragment<B: Backend>(
    context: Rc<Context<B>>,
    _: pb::DefragmentRequest,
) -> Result<pb::DefragmentResponse, Status> {
    context.door.backend.defragment().await?;
    Ok(pb::DefragmentResponse::default())
}

pub(crate) async fn move_leader<B: Backend>(
    context: Rc<Context<B>>,
    request: pb::MoveLeaderRequest,
) -> Result<pb::MoveLeaderResponse, Status> {
    let backend = &context.door.backend;
    let standing = backend.standing();
    if standing.leader != Some(standing.member_id) {
        return Err(Error::NotLeader.into());
    }
    backend.move_leader(request.target_id).await?;
    Ok(pb::MoveLeaderResponse::default())
}

/// There is no older version to go to: a request is refused as etcd refuses such a target.
pub(crate) async fn downgrade<B: Backend>(
    context: Rc<Context<B>>,
    request: pb::DowngradeRequest,
) -> Result<pb::DowngradeResponse, Status> {
    let action = DowngradeAction::try_from(request.action)
        .map_err(|_| Status::new(etcd::Code::Unknown, "etcdserver: unknown method"))?;
    if action == DowngradeAction::Cancel {
        return Err(Error::NoInflightDowngrade.into());
    }
    if !is_version(&request.version) {
        return Err(Error::WrongDowngradeVersionFormat.into());
    }
    if context.door.backend.status().cluster_version.is_none() {
        return Err(Error::ClusterVersionUnavailable.into());
    }
    Err(Error::InvalidDowngradeTargetVersion.into())
}

/// `X.Y` or `X.Y.Z`.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    matches!(parts.len(), 2 | 3) && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

/// Sends the state as an etcd database. The file is made on a thread of its own, and needs about
/// as much room as the state, in the directory for snapshots.
pub(crate) async fn snapshot<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    _: pb::SnapshotRequest,
) -> Result<(), Status> {
    let door = &context.door;
    let view = door.backend.view();
    let header = door.header(view.revision());
    let status = door.backend.status();
    let request = Request::MemberList(pb::MemberListRequest::default());
    let members = match ask::answered(&context.door, request).await? {
        Response::MemberList(response) => response.members,
        _ => return Err(ask::wrong_kind()),
    };
    let version = status.storage_version.clone().unwrap_or_default();
    let config = std::sync::Arc::clone(&door.config);
    let metrics = std::sync::Arc::clone(&door.metrics);
    let call = context.call;
    let work = move |feeder: Feeder| {
        let scratch = Scratch {
            dir: &config.snapshot_dir,
            reserve_bytes: config.snapshot_reserve_bytes,
            is_gone: &|| feeder.is_closed(),
        };
        let chunk_bytes = config.snapshot_chunk_bytes;
        let chunks = snapshot::chunks(&view, &members, &status, chunk_bytes, scratch)?;
        // What it pins on disk is no longer needed.
        drop(view);
        for chunk in chunks {
            let chunk = chunk.map_err(snapshot::SnapshotError::from)?;
            let bytes = encode(&pb::SnapshotResponse {
                header,
                remaining_bytes: chunk.remaining_bytes,
                blob: chunk.blob,
                version: version.clone(),
            })?;
            metrics.sent(call, bytes.len());
            if feeder.send(bytes).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    outlet.feed(door.config.stream_queue_len, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_recognised() {
        for good in ["3.5", "3.5.0"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "3", "3.", "3.5.0.1", "x.y", "3.-5"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
