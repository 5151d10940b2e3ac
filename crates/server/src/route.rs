//! From a request's path to whoever answers it.
//!
//! What every call goes through is here, in etcd's order: the metadata, the rules for learners
//! and for those who require a leader, the message; then the answer is counted, and logged if it
//! took long or failed by a fault of ours.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd::{Code, Error, Request as Ask};
use http2::{Head, Method, StreamId};
use node::RangeId;
use prost::Message;

use crate::backend::Backend;
use crate::call::{Call, Kind, unknown};
use crate::door::{Door, Purpose};
use crate::grpc::frame::Source as _;
use crate::grpc::metadata::{ACCEPT, deadline_exceeded, is_grpc};
use crate::grpc::{Messages, Metadata, Status, encode};
use crate::http as pages;
use crate::link::{Incoming, Link, Outlet};
use crate::service::{ask, auth, election, health, lease, lock, maintenance, range_stream, watch};

/// A call under way.
pub(crate) struct Context<B: Backend> {
    pub(crate) door: Rc<Door<B>>,
    pub(crate) call: Call,
    link: Rc<Link>,
    stream: StreamId,
    peer: SocketAddr,
    began: Instant,
    require_leader: bool,
    /// The range that is asked, if not the one that holds all keys.
    range: Option<RangeId>,
    is_finished: Cell<bool>,
}

/// A request, as its connection has it.
pub(crate) struct Asked<'a> {
    pub(crate) peer: SocketAddr,
    pub(crate) purpose: Purpose,
    pub(crate) stream: StreamId,
    pub(crate) head: &'a Head,
    pub(crate) incoming: Incoming,
}

/// Answers a request, on the stream it came on.
pub(crate) fn serve<B: Backend>(
    door: &Rc<Door<B>>,
    link: &Rc<Link>,
    asked: Asked<'_>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let Asked { peer, purpose, stream, head, incoming } = asked;
    let is_grpc = is_grpc(head);
    if !is_grpc && purpose == Purpose::Grpc {
        link.page(stream, &pages::elsewhere());
        return Box::pin(std::future::ready(()));
    }
    if !is_grpc || matches!(purpose, Purpose::Http | Purpose::Metrics) {
        let accept = head.word(ACCEPT).map(Bytes::as_ref);
        let wanted = pages::Wanted::new(head.method == Method::Get, &head.path, accept);
        let (door, link) = (Rc::clone(door), Rc::clone(link));
        let mut incoming = incoming;
        return Box::pin(async move {
            // What is wrong with a request may show at its end only.
            while incoming.chunk().await.is_some() {}
            let page = pages::serve(&door, wanted).await;
            link.page(stream, &page);
        });
    }
    if head.method != Method::Post {
        link.page(stream, &pages::not_allowed());
        return Box::pin(std::future::ready(()));
    }
    let path = std::str::from_utf8(&head.path).unwrap_or("");
    let Some(call) = Call::of(path) else {
        link.answer(stream, Err(&Status::unimplemented(unknown(path))));
        return Box::pin(std::future::ready(()));
    };
    door.metrics.started(call);
    let metadata = Metadata::read(head);
    let context = Rc::new(Context {
        door: Rc::clone(door),
        call,
        link: Rc::clone(link),
        stream,
        peer,
        began: Instant::now(),
        require_leader: metadata.as_ref().is_ok_and(|metadata| metadata.require_leader),
        range: metadata.as_ref().ok().and_then(|metadata| metadata.range).map(RangeId),
        is_finished: Cell::new(false),
    });
    Box::pin(context.run(metadata, incoming))
}

impl<B: Backend> Context<B> {
    async fn run(self: Rc<Self>, metadata: Result<Metadata, Status>, incoming: Incoming) {
        let outcome = match metadata {
            Ok(metadata) => self.admitted(&metadata, incoming).await,
            Err(status) => Err(status),
        };
        match outcome {
            Ok(Done::Message(message)) => {
                self.finish(None);
                self.link.answer(self.stream, Ok(message));
            }
            Ok(Done::Stream(outlet, outcome)) => {
                self.finish(outcome.as_ref().err());
                outlet.end(&outcome);
            }
            Err(status) => {
                self.finish(Some(&status));
                self.link.answer(self.stream, Err(&status));
            }
        }
    }

    async fn admitted(
        self: &Rc<Self>,
        metadata: &Metadata,
        incoming: Incoming,
    ) -> Result<Done, Status> {
        let door = &self.door;
        let version = metadata.client_api_version.as_deref();
        door.metrics.client(self.call, version.and_then(|version| str::from_utf8(version).ok()));
        let standing = door.backend.standing();
        if standing.is_learner && !self.call.is_for_learners() {
            return Err(Error::NotSupportedForLearner.into());
        }
        if self.require_leader && standing.leader.is_none() {
            return Err(Error::NoLeader.into());
        }
        if self.range.is_some() && !self.call.is_for_one_range() {
            return Err(Status::unimplemented("this call cannot be asked of one range alone"));
        }
        let messages = Messages::new(incoming, metadata.encoding, door.config.message_bytes_max());
        if self.call.kind() != Kind::Unary {
            return Box::pin(dispatch_stream(self, messages)).await;
        }
        let running = dispatch(self, messages);
        match metadata.timeout {
            None => running.await,
            Some(timeout) => tokio::time::timeout(timeout, running)
                .await
                .unwrap_or_else(|_| Err(deadline_exceeded())),
        }
        .map(Done::Message)
    }

    /// Counts the call as ended, and logs what is worth it.
    fn finish(&self, failed: Option<&Status>) {
        self.is_finished.set(true);
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
    pub(crate) fn encode(&self, message: &impl Message) -> Result<Bytes, Status> {
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

    /// Runs the handler of a stream, until it ends, the client leaves (which drops all of this),
    /// the server stops, or the leader that the client requires is gone for too long.
    async fn stream<F>(
        self: &Rc<Self>,
        handler: impl FnOnce(Rc<Self>, Rc<Outlet>) -> F,
    ) -> Result<Done, Status>
    where
        F: Future<Output = Result<(), Status>>,
    {
        let outlet = Rc::new(Outlet::open(&self.link, self.stream));
        let outcome = tokio::select! {
            biased;
            outcome = handler(Rc::clone(self), Rc::clone(&outlet)) => outcome,
            status = self.link.interrupted(self.require_leader) => Err(status),
        };
        Ok(Done::Stream(outlet, outcome))
    }
}

impl<B: Backend> Drop for Context<B> {
    fn drop(&mut self) {
        if !self.is_finished.get() {
            self.finish(Some(&Status::new(Code::Canceled, "the client is gone")));
        }
    }
}

/// How a call ended that could begin.
enum Done {
    /// With its one message.
    Message(Bytes),
    /// With what its stream is to end with.
    Stream(Rc<Outlet>, Result<(), Status>),
}

/// A call with one message and one answer, done by `handler`.
async fn unary<B, Q, A, F>(
    context: &Rc<Context<B>>,
    messages: Messages,
    handler: impl FnOnce(Rc<Context<B>>, Q) -> F,
) -> Result<Bytes, Status>
where
    B: Backend,
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let request = context.only(messages).await?;
    let response = if context.call.may_wait() {
        tokio::select! {
            biased;
            response = handler(Rc::clone(context), request) => response?,
            status = context.link.interrupted(false) => return Err(status),
        }
    } else {
        handler(Rc::clone(context), request).await?
    };
    context.encode(&response)
}

/// A call that is a request to the state machine.
async fn state<B: Backend, Q: Message + Default>(
    context: &Rc<Context<B>>,
    messages: Messages,
    wrap: impl FnOnce(Q) -> Ask,
) -> Result<Bytes, Status> {
    let request = wrap(context.only(messages).await?);
    let bytes = match context.range {
        None => ask::encoded(&context.door, request).await?,
        Some(range) => ask::in_range(&context.door, range, request).await?,
    };
    context.door.metrics.sent(context.call, bytes.len());
    Ok(bytes)
}

/// A call about users and roles.
async fn refused<B: Backend, Q: Message + Default>(
    context: &Rc<Context<B>>,
    messages: Messages,
    refuse: impl FnOnce(Q) -> Status,
) -> Result<Bytes, Status> {
    Err(refuse(context.only(messages).await?))
}

async fn dispatch<B: Backend>(
    context: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Bytes, Status> {
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
        // What is rare stays out of the future that every call pays for.
        _ => Box::pin(dispatch_rare(cx, messages)).await,
    }
}

async fn dispatch_rare<B: Backend>(
    cx: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Bytes, Status> {
    match cx.call {
        Call::Status => unary(cx, messages, maintenance::status).await,
        Call::Defragment => unary(cx, messages, maintenance::defragment).await,
        Call::MoveLeader => unary(cx, messages, maintenance::move_leader).await,
        Call::Downgrade => unary(cx, messages, maintenance::downgrade).await,
        Call::Lock => unary(cx, messages, lock::lock).await,
        Call::Unlock => unary(cx, messages, lock::unlock).await,
        Call::Campaign => unary(cx, messages, election::campaign).await,
        Call::Proclaim => unary(cx, messages, election::proclaim).await,
        Call::Leader => unary(cx, messages, election::leader).await,
        Call::Resign => unary(cx, messages, election::resign).await,
        Call::HealthCheck => unary(cx, messages, health::check).await,
        _ => dispatch_auth(cx, messages).await,
    }
}

async fn dispatch_stream<B: Backend>(
    cx: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Done, Status> {
    match cx.call {
        Call::RangeStream => {
            let request = cx.only(messages).await?;
            range_stream::check(&request)?;
            cx.stream(|cx, outlet| range_stream::run(cx, outlet, request)).await
        }
        Call::Watch => cx.stream(|cx, outlet| watch::run(cx, outlet, messages)).await,
        Call::LeaseKeepAlive => {
            cx.stream(|cx, outlet| lease::keep_alive(cx, outlet, messages)).await
        }
        Call::Snapshot => {
            let request = cx.only(messages).await?;
            cx.stream(|cx, outlet| maintenance::snapshot(cx, outlet, request)).await
        }
        Call::Observe => {
            let request = cx.only(messages).await?;
            cx.stream(|cx, outlet| election::observe(cx, outlet, request)).await
        }
        Call::HealthWatch => {
            let request = cx.only(messages).await?;
            cx.stream(|cx, outlet| health::watch(cx, outlet, request)).await
        }
        other => Err(Status::unimplemented(unknown(other.path()))),
    }
}

async fn dispatch_auth<B: Backend>(
    cx: &Rc<Context<B>>,
    messages: Messages,
) -> Result<Bytes, Status> {
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
