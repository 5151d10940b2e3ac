//! v3electionpb.Election: who leads is whose turn it is, and says something.

use std::rc::Rc;

use bytes::Bytes;
use etcd::{Code, Error};
use mvcc::{Change, KeySpan};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use proto::wire;
use tokio::sync::broadcast::error::RecvError;

use super::session::{self, op};
use crate::backend::Backend;
use crate::door::Door;
use crate::grpc::Status;
use crate::link::Outlet;
use crate::route::Context;

fn missing_leader_key() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

pub(crate) async fn campaign<B: Backend>(
    context: Rc<Context<B>>,
    request: CampaignRequest,
) -> Result<CampaignResponse, Status> {
    let door = &context.door;
    let lease = session::lease(door, request.lease).await?;
    let place = session::enter(door, &request.name, lease, request.value.clone()).await?;
    let leader =
        LeaderKey { name: request.name.clone(), key: place.key, rev: place.revision, lease };
    // A candidate of before may have something new to say.
    let news = (place.value != request.value).then_some(request.value);
    if news.is_none() && place.behind.is_none() {
        return Ok(CampaignResponse { header: place.header, leader: Some(leader) });
    }
    let (working, candidate) = (Rc::clone(door), leader.clone());
    let work = async move {
        let mut header = place.header;
        if let Some(value) = news {
            header = say(&working, &candidate, value).await?;
        }
        if place.behind.is_some() {
            session::turn(&working, &request.name, candidate.rev).await?;
        }
        Ok(header)
    };
    let (undoing, withdrawn) = (Rc::clone(door), leader.clone());
    let undo = move || {
        let (door, leader) = (Rc::clone(&undoing), withdrawn.clone());
        async move { give_up(&door, &leader).await.map(|_| ()) }
    };
    let header = session::or_undo(work, undo).await?;
    Ok(CampaignResponse { header, leader: Some(leader) })
}

pub(crate) async fn proclaim<B: Backend>(
    context: Rc<Context<B>>,
    request: ProclaimRequest,
) -> Result<ProclaimResponse, Status> {
    let leader = request.leader.ok_or_else(missing_leader_key)?;
    let header = say(&context.door, &leader, request.value).await?;
    Ok(ProclaimResponse { header })
}

async fn say<B: Backend>(
    door: &Rc<Door<B>>,
    leader: &LeaderKey,
    value: Bytes,
) -> Result<Option<pb::ResponseHeader>, Status> {
    let put = pb::PutRequest {
        key: leader.key.clone(),
        value,
        lease: leader.lease,
        ..Default::default()
    };
    let response = session::txn(
        door,
        pb::TxnRequest {
            compare: vec![session::created_at(&leader.key, leader.rev)],
            success: vec![op(Op::RequestPut(put))],
            failure: Vec::new(),
        },
    )
    .await?;
    if response.succeeded {
        Ok(response.header)
    } else {
        Err(Status::new(Code::Unknown, "election: not leader"))
    }
}

pub(crate) async fn resign<B: Backend>(
    context: Rc<Context<B>>,
    request: ResignRequest,
) -> Result<ResignResponse, Status> {
    let leader = request.leader.ok_or_else(missing_leader_key)?;
    let header = give_up(&context.door, &leader).await?;
    Ok(ResignResponse { header })
}

async fn give_up<B: Backend>(
    door: &Rc<Door<B>>,
    leader: &LeaderKey,
) -> Result<Option<pb::ResponseHeader>, Status> {
    session::give_up(door, leader.key.clone(), leader.rev).await
}

pub(crate) async fn leader<B: Backend>(
    context: Rc<Context<B>>,
    request: LeaderRequest,
) -> Result<wire::LeaderResponse, Status> {
    let found = session::range(&context.door, session::oldest(&request.name)).await?;
    match found.kvs.into_iter().next() {
        Some(kv) => Ok(wire::LeaderResponse { header: found.header, kv: Some(kv) }),
        None => Err(Status::new(Code::Unknown, "election: no leader")),
    }
}

/// Sends who leads and what it says, again whenever one of them changes. What happens while the
/// client does not read may be left out, but not the last of it.
pub(crate) async fn observe<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    request: LeaderRequest,
) -> Result<(), Status> {
    let door = &context.door;
    let prefix = Bytes::from([&request.name[..], b"/"].concat());
    let span = KeySpan::prefix(&prefix);
    let mut told: Option<Bytes> = None;
    loop {
        let mut changes = door.changes.subscribe();
        let found = session::range(door, session::oldest(&request.name)).await?;
        let seen = session::revision_of(found.header);
        let mut leader = None;
        if let Some(kv) = found.kvs.into_iter().next() {
            let record = mvcc::Record::decode(kv.clone())
                .map_err(|error| Status::internal(format!("a stored key: {error}")))?;
            leader = Some(record.key());
            if told.as_ref() != Some(&kv) {
                told = Some(kv.clone());
                let response = wire::LeaderResponse { header: found.header, kv: Some(kv) };
                outlet.send(context.encode(&response)?).await;
            }
        }
        // Until something happens that may change the answer.
        loop {
            match changes.recv().await {
                Ok(Some(commit)) if commit.revision <= seen => {}
                Ok(Some(commit)) => {
                    if let Some(kv) = said(&commit.changes, leader.as_ref()) {
                        told = Some(kv.clone());
                        let response = wire::LeaderResponse {
                            header: door.header(commit.revision),
                            kv: Some(kv),
                        };
                        outlet.send(context.encode(&response)?).await;
                    } else if concerns(&commit.changes, leader.as_ref(), &span) {
                        break;
                    }
                }
                Ok(None) | Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Err(Error::Stopped.into()),
            }
        }
    }
}

/// What the leader has newly to say.
fn said(changes: &[Change], leader: Option<&Bytes>) -> Option<Bytes> {
    let leader = leader?;
    let change = changes.iter().find(|change| change.key == *leader)?;
    change.record.as_ref().map(|record| record.encoded.clone())
}

/// Whether the changes can make another one lead: the leader is gone, or there was none and
/// somebody came.
fn concerns(changes: &[Change], leader: Option<&Bytes>, span: &KeySpan) -> bool {
    match leader {
        Some(leader) => changes.iter().any(|change| change.key == *leader),
        None => changes.iter().any(|change| span.contains(&change.key)),
    }
}
