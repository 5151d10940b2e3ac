//! Lease.LeaseKeepAlive: signs of life, one after the other.

use std::rc::Rc;

use etcd::{Request, Response};
use proto::etcdserverpb as pb;

use super::ask;
use crate::backend::Backend;
use crate::grpc::{Messages, Status};
use crate::link::Outlet;
use crate::route::Context;

pub(crate) async fn keep_alive<B: Backend>(
    context: Rc<Context<B>>,
    outlet: Rc<Outlet>,
    mut messages: Messages,
) -> Result<(), Status> {
    while let Some(request) = context.next::<pb::LeaseKeepAliveRequest>(&mut messages).await? {
        // The revision is taken before: if the lease ends at a later one, the client must not
        // see a sign of life that claims to be newer.
        let revision = context.door.backend.view().revision();
        let answer = ask::answered(&context.door, Request::LeaseKeepAlive(request)).await?;
        let Response::LeaseKeepAlive(mut answer) = answer else { return Err(ask::wrong_kind()) };
        answer.header.get_or_insert_default().revision = revision.0;
        outlet.send(context.encode(&answer)?).await;
    }
    Ok(())
}
