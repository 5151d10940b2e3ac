//! From a request's path to whoever answers it.
//!
//! What every call goes through is here, in etcd's order: the metadata, the rules for learners
//! and for those who require a leader, the message; then the answer is counted, and logged if it
//! took long or failed by a fault of ours.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use etcd::{Code, Error, Request as Ask};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use prost::Message;

use crate::backend::Backend;
use crate::call::{Call, Kind, unknown};
use crate::door::{Door, Purpose};
use crate::grpc::metadata::{deadline_exceeded, is_grpc};
use crate::grpc::{Body, Messages, Metadata, Outlet, Status, answer, encode, stream};
use crate::http as pages;
use crate::service::{ask, auth, election, health, lease, lock, maintenance, range_stream, watch};

/// A call under way.
pub(crate) struct Context<B> {
    pub(crate) door: Rc<Door<B>>,
    pub(crate) call: Call,
    peer: SocketAddr,
    began: Instant,
    require_leader: bool,
}

/// Answers a request.
pub(crate) async fn serve<B: Backend>(
    door: Rc<Door<B>>,
    peer: SocketAddr,
    purpose: Purpose,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let grpc = request.version() == Version::HTTP_2 && is_grpc(request.headers());
    if !grpc && purpose == Purpose::Grpc {
        return Ok(pages::elsewhere());
    }
    if !grpc || matches!(purpose, Purpose::Http | Purpose::Metrics) {
        return Ok(pages::serve(&door, &request).await);
    }
    if request.method() != Method::POST {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(response);
    }
    let (head, body) = request.into_parts();
    let Some(call) = Call::of(head.uri.path()) else {
        return Ok(answer(Err(Status::unimplemented(unknown(head.uri.path())))));
    };
    door.metrics.started(call);
    let mut context =
        Rc::new(Context { door, call, peer, began: Instant::now(), require_leader: false });
    let outcome = match Metadata::read(&head.headers) {
        Ok(metadata) => {
            if let Some(context) = Rc::get_mut(&mut context) {
                context.require_leader = metadata.require_leader;
            }
            context.admitted(&metadata, body).await
        }
        Err(status) => Err(status),
    };
    // A stream that has begun is counted when it ends.
    if call.kind() == Kind::Unary || outcome.is_err() {
        context.finish(outcome.as_ref().err());
    }
    Ok(answer(outcome))
}

impl<B: Backend> Context<B> {
    async fn admitted(
        self: &Rc<Self>,
        metadata: &Metadata,
        body: Incoming,
    ) -> Result<Body, Status> {
        let door = &self.door;
        door.metrics.client(self.call, metadata.client_api_version.as_deref());
        let standing = door.backend.standing();
        if standing.is_learner && !self.call.is_for_learners() {
            return Err(Error::NotSupportedForLearner.into());
        }
        if self.require_leader && standing.leader.is_none() {
            return Err(Error::NoLeader.into());
        }
        let messages = Messages::new(body, metadata.encoding, door.config.message_bytes_max());
        let running = dispatch(self, messages);
        match metadata.timeout.filter(|_| self.call.kind() == Kind::Unary) {
            None => running.await,
            Some(timeout) => tokio::time::timeout(timeout, running)
                .await
                .unwrap_or_else(|_| Err(deadline_exceeded())),
        }
    }

    /// Counts the call as ended, and logs what is worth it.
    fn finish(&self, failed: Option<&Status>) {
        let took = self.began.elapsed();
        self.door.metrics.handled(self.call, failed, took);
        if let Some(status) = failed
            && matches!(status.code, Code::Internal | Code::DataLoss | Code::Unknown)
        {
            let (path, peer) = (self.call.path(), self.peer);
            tracing::warn!(path, %peer, code = ?status.code, message = %status.message, "call failed");
        }
        if took > self.door.config.slow_request && !self.call.may_wait() {
            self.slow(took, failed);
        }
    }

    fn slow(&self, took: Duration, failed: Option<&Status>) {
        self.door.metrics.slow_requests.inc();
        tracing::warn!(
            path = self.call.path(),
            peer = %self.peer,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            limit_ms = u64::try_from(self.door.config.slow_request.as_millis()).unwrap_or(u64::MAX),
            code = crate::grpc::status::code_name(failed.map(|status| status.code)),
            "slow request"
        );
    }

    /// Encodes an answer, and counts it as sent.
    pub(crate) fn encode(&self, message: &impl Message) -> Result<bytes::Bytes, Status> {
        let bytes = encode(message)?;
        self.door.metrics.sent(self.call, bytes.len());
        Ok(bytes)
    }

    /// The one message of the call.
    async fn only<Q: Message + Default>(&self, mut messages: Messages) -> Result<Q, Status> {
        let (request, size) = messages.only().await?;
        self.door.metrics.received(self.call, size);
        Ok(request)
    }

    /// The next message of a stream, counted as received.
    pub(crate) async fn next<Q: Message + Default>(
        &self,
        messages: &mut Messages,
    ) -> Result<Option<Q>, Status> {
        let request: Option<Q> = messages.next().await?;
        if let Some(request) = &request {
            self.door.metrics.received(self.call, request.encoded_len());
        }
        Ok(request)
    }

    /// Runs the handler of a stream in a task of its own, until it ends, the client leaves, the
    /// server stops, or the leader that the client requires is gone for too long.
    fn spawn<F>(self: &Rc<Self>, handler: impl FnOnce(Rc<Self>, Outlet) -> F) -> Body
    where
        F: Future<Output = Result<(), Status>> + 'static,
    {
        let (outlet, body) = stream(self.door.config.stream_queue_len);
        let running = handler(Rc::clone(self), outlet.clone());
        let context = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = tokio::select! {
                biased;
                () = outlet.closed() => Err(Status::new(Code::Canceled, "the client is gone")),
                () = context.door.draining() => Err(Error::Stopped.into()),
                () = context.door.leaderless(), if context.require_leader => {
                    Err(Error::NoLeader.into())
                }
                outcome = running => outcome,
            };
            context.finish(outcome.as_ref().err());
            outlet.end(outcome).await;
        });
        body
    }
}

/// A call with one message and one answer, done by `handler`.
async fn unary<B, Q, A, F>(
    context: &Rc<Context<B>>,
    messages: Messages,
    handler: impl FnOnce(Rc<Context<B>>, Q) -> F,
) -> Result<Body, Status>
where
    B: Backend,
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let request = context.only(messages).await?;
    let response = if context.call.may_wait() {
        tokio::select! {
            response = handler(Rc::clone(context), request) => response?,
            () = context.door.draining() => return Err(Error::Stopped.into()),
        }
    } else {
        handler(Rc::clone(context), request).await?
    };
    Ok(Body::Message(context.encode(&response)?))
}

/// A call that is a request to the state machine.
async fn state<B: Backend, Q: Message + Default>(
    context: &Rc<Context<B>>,
    messages: Messages,
    wrap: impl FnOnce(Q) -> Ask,
) -> Result<Body, Status> {
    let request = wrap(context.only(messages).await?);
    let bytes = ask::encoded(&context.door, request).await?;
    context.door.metrics.sent(context.call, bytes.len());
    Ok(Body::Message(bytes))
}

/// A call about users and roles.
async fn refused<B: Backend, Q: Message + Default>(
    context: &Rc<Context<B>>,
    messages: Messages,
    refuse: impl FnOnce(Q) -> Status,
) -> Result<Body, Status> {
    Err(refuse(context.only(messages).await?))
}

async fn dispatch<B: Backend>(
    context: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Body, Status> {
    let cx = context;
    match cx.call {
        Call::Range => state(cx, messages, Ask::Range).await,
        Call::Put => state(cx, messages, Ask::Put).await,
        Call::Txn => state(cx, messages, Ask::Txn).await,
        Call::DeleteRange => state(cx, messages, Ask::DeleteRange).await,
        Call::Compact => state(cx, messages, Ask::Compact).await,
        Call::LeaseGrant => state(cx, messages, Ask::LeaseGrant).await,
        Call::LeaseRevoke => state(cx, messages, Ask::LeaseRevoke).await,
        Call::LeaseTimeToLive => state(cx, messages, Ask::LeaseTimeToLive).await,
        Call::LeaseLeases => state(cx, messages, Ask::LeaseLeases).await,
        Call::MemberAdd => state(cx, messages, Ask::MemberAdd).await,
        Call::MemberRemove => state(cx, messages, Ask::MemberRemove).await,
        Call::MemberUpdate => state(cx, messages, Ask::MemberUpdate).await,
        Call::MemberList => state(cx, messages, Ask::MemberList).await,
        Call::MemberPromote => state(cx, messages, Ask::MemberPromote).await,
        Call::Alarm => state(cx, messages, Ask::Alarm).await,
        Call::Hash => state(cx, messages, Ask::Hash).await,
        Call::HashKv => state(cx, messages, Ask::HashKv).await,
        Call::AuthStatus => state(cx, messages, Ask::AuthStatus).await,
        Call::RangeStream => {
            let request = cx.only(messages).await?;
            range_stream::check(&request)?;
            Ok(cx.spawn(|cx, outlet| range_stream::run(cx, outlet, request)))
        }
        Call::Watch => Ok(cx.spawn(|cx, outlet| watch::run(cx, outlet, messages))),
        Call::LeaseKeepAlive => Ok(cx.spawn(|cx, outlet| lease::keep_alive(cx, outlet, messages))),
        Call::Status => unary(cx, messages, maintenance::status).await,
        Call::Defragment => unary(cx, messages, maintenance::defragment).await,
        Call::MoveLeader => unary(cx, messages, maintenance::move_leader).await,
        Call::Downgrade => unary(cx, messages, maintenance::downgrade).await,
        Call::Snapshot => {
            let request = cx.only(messages).await?;
            Ok(cx.spawn(|cx, outlet| maintenance::snapshot(cx, outlet, request)))
        }
        Call::Lock => unary(cx, messages, lock::lock).await,
        Call::Unlock => unary(cx, messages, lock::unlock).await,
        Call::Campaign => unary(cx, messages, election::campaign).await,
        Call::Proclaim => unary(cx, messages, election::proclaim).await,
        Call::Leader => unary(cx, messages, election::leader).await,
        Call::Resign => unary(cx, messages, election::resign).await,
        Call::Observe => {
            let request = cx.only(messages).await?;
            Ok(cx.spawn(|cx, outlet| election::observe(cx, outlet, request)))
        }
        Call::HealthCheck => unary(cx, messages, health::check).await,
        Call::HealthWatch => {
            let request = cx.only(messages).await?;
            Ok(cx.spawn(|cx, outlet| health::watch(cx, outlet, request)))
        }
        _ => dispatch_auth(cx, messages).await,
    }
}

async fn dispatch_auth<B: Backend>(
    cx: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Body, Status> {
    match cx.call {
        Call::AuthEnable => refused(cx, messages, auth::enable).await,
        Call::AuthDisable => unary(cx, messages, auth::disable).await,
        Call::Authenticate => refused(cx, messages, auth::authenticate).await,
        Call::UserAdd => refused(cx, messages, auth::user_add).await,
        Call::UserGet => refused(cx, messages, auth::user_get).await,
        Call::UserList => unary(cx, messages, auth::user_list).await,
        Call::UserDelete => refused(cx, messages, auth::user_delete).await,
        Call::UserChangePassword => refused(cx, messages, auth::user_change_password).await,
        Call::UserGrantRole => refused(cx, messages, auth::user_grant_role).await,
        Call::UserRevokeRole => refused(cx, messages, auth::user_revoke_role).await,
        Call::RoleAdd => refused(cx, messages, auth::role_add).await,
        Call::RoleGet => refused(cx, messages, auth::role_get).await,
        Call::RoleList => unary(cx, messages, auth::role_list).await,
        Call::RoleDelete => refused(cx, messages, auth::role_delete).await,
        Call::RoleGrantPermission => refused(cx, messages, auth::role_grant_permission).await,
        Call::RoleRevokePermission => refused(cx, messages, auth::role_revoke_permission).await,
        other => Err(Status::unimplemented(unknown(other.path()))),
    }
}
