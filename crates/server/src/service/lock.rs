//! v3lockpb.Lock: turns at a name, one at a time.

use std::rc::Rc;

use etcd::Code;
use proto::etcdserverpb as pb;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::session;
use crate::backend::Backend;
use crate::grpc::Status;
use crate::route::Context;

pub(crate) async fn lock<B: Backend>(
    context: Rc<Context<B>>,
    request: LockRequest,
) -> Result<LockResponse, Status> {
    let door = &context.door;
    let lease = session::lease(door, request.lease).await?;
    let place = session::enter(door, &request.name, lease, bytes::Bytes::new()).await?;
    let key = place.key;
    if place.behind.is_none() {
        return Ok(LockResponse { header: place.header, key });
    }
    let (working, undoing) = (Rc::clone(door), Rc::clone(door));
    let (held, withdrawn) = (key.clone(), key.clone());
    let work = async move {
        session::turn(&working, &request.name, place.revision).await?;
        // The lease may have ended while its key waited.
        let get = pb::RangeRequest { key: held, ..Default::default() };
        let own = session::range(&working, get).await?;
        if own.kvs.is_empty() {
            return Err(Status::new(Code::Unknown, "mutex: session is expired"));
        }
        Ok(own.header)
    };
    let undo = move || {
        let (door, key) = (Rc::clone(&undoing), withdrawn.clone());
        async move { session::give_up(&door, key, place.revision).await.map(|_| ()) }
    };
    let header = session::or_undo(work, undo).await?;
    Ok(LockResponse { header, key })
}

pub(crate) async fn unlock<B: Backend>(
    context: Rc<Context<B>>,
    request: UnlockRequest,
) -> Result<UnlockResponse, Status> {
    let header = session::delete(&context.door, request.key).await?;
    Ok(UnlockResponse { header })
}
