//! Clients: what they ask, what they are told, and what they make of it.
//!
//! A client has one request under way at most. It asks one member and takes that one's answer; if
//! the member ends, or takes too long, the client does not know what became of its request. Values
//! are never written twice: each says who wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Request, Response, Route};
use history::record::{ClientId, Incarnation, Operation};
use node::core::{Input, Token};
use proto::etcdserverpb as pb;
use store::NodeId;

use super::{Happening, World};
use crate::check::Fault;
use crate::judge::record;
use crate::plan::{Ask, Place};

/// Clients that are not in the plan.
const OPERATOR: u64 = u64::MAX;
const PROBE: u64 = u64::MAX - 1;
/// With its member's id, each member as its own client.
const PUBLISHERS: u64 = 0x5000_0000_0000_0000;

/// A request and what became of it.
pub(crate) struct Op {
    pub(crate) client: u64,
    pub(crate) at: NodeId,
    /// Which process of that member was asked.
    incarnation: u64,
    pub(crate) request: Request,
    pub(crate) invoked: Duration,
    /// When the client heard, and what; nothing: it will never know.
    pub(crate) outcome: Option<(Duration, Option<Result<Response, Error>>)>,
    /// On its way to the client.
    reply: Option<Result<Response, Error>>,
}

/// All clients.
#[derive(Default)]
pub(crate) struct Clients {
    ops: Vec<Op>,
    busy: BTreeSet<u64>,
    /// The newest revision that any client has seen.
    newest: i64,
    /// At what revision clients have seen each key last.
    seen: BTreeMap<u64, i64>,
}

impl Clients {
    pub(crate) fn is_over(&self, op: u64) -> bool {
        self.op(op).is_none_or(|op| op.outcome.is_some())
    }

    pub(crate) fn succeeded(&self, op: u64) -> bool {
        self.op(op).is_some_and(|op| matches!(op.outcome, Some((_, Some(Ok(_))))))
    }

    /// What clients asked and heard, as far as it is about keys.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let number = |wide: u64| u32::try_from(wide & 0xffff_ffff).unwrap_or(u32::MAX);
        let operation = |op: &Op| {
            let call = record::call(&op.request)?;
            let heard = op.outcome.as_ref().map(|(at, reply)| (record::time(*at), reply.as_ref()));
            Some(Operation {
                client: ClientId(number(op.client)),
                node: history::record::NodeId(number(op.at.0)),
                incarnation: Some(Incarnation(number(op.incarnation))),
                invoked: record::time(op.invoked),
                returned: heard.map(|(at, _)| at),
                call,
                outcome: record::outcome(heard.and_then(|(_, reply)| reply)),
            })
        };
        self.ops.iter().filter_map(operation).collect()
    }

    /// The newest revision that any client has seen.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    fn op(&self, op: u64) -> Option<&Op> {
        self.ops.get(usize::try_from(op).ok()?)
    }

    fn op_mut(&mut self, op: u64) -> Option<&mut Op> {
        self.ops.get_mut(usize::try_from(op).ok()?)
    }
}

pub(super) fn key(number: u64) -> Bytes {
    format!("k{number:03}").into()
}

pub(super) fn end(to: Option<u64>) -> Bytes {
    to.map_or(Bytes::from_static(b"\0"), key)
}

fn lease_id(lease: u64) -> i64 {
    100 + lease.cast_signed()
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn compare(
    key: Bytes,
    by: pb::compare::CompareTarget,
    with: pb::compare::TargetUnion,
) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal as i32,
        target: by as i32,
        key,
        target_union: Some(with),
        ..Default::default()
    }
}

/// What a client asks for, with what it knows. `unique` goes into the values.
fn request(ask: Ask, clients: &Clients, unique: &str) -> Option<Request> {
    let back = |back: i64| (clients.newest - back).max(1);
    let value = |what: &str| Bytes::from(format!("{unique}{what}"));
    let get = |key: Bytes| pb::RangeRequest { key, ..Default::default() };
    Some(match ask {
        Ask::Put { key: number, lease, prev, bytes } => {
            let fill = usize::try_from(bytes).unwrap_or(0);
            Request::Put(pb::PutRequest {
                key: key(number),
                value: value(&".".repeat(fill)),
                lease: lease.map_or(0, lease_id),
                prev_kv: prev,
                ..Default::default()
            })
        }
        Ask::Get { key: number, serializable } => {
            Request::Range(pb::RangeRequest { serializable, ..get(key(number)) })
        }
        Ask::GetOld { key: number, back: ago } => {
            Request::Range(pb::RangeRequest { revision: back(ago), ..get(key(number)) })
        }
        Ask::List { from, to, limit, serializable, count, back: ago } => {
            Request::Range(pb::RangeRequest {
                range_end: end(to),
                limit,
                serializable,
                count_only: count,
                revision: ago.map_or(0, back),
                ..get(key(from))
            })
        }
        Ask::Delete { key: number, prev } => Request::DeleteRange(pb::DeleteRangeRequest {
            key: key(number),
            prev_kv: prev,
            ..Default::default()
        }),
        Ask::DeleteRange { from, to, prev } => Request::DeleteRange(pb::DeleteRangeRequest {
            key: key(from),
            range_end: end(to),
            prev_kv: prev,
        }),
        Ask::Cas { .. } | Ask::Txn { .. } => Request::Txn(txn(ask, clients, unique)?),
        Ask::Compact { back: ago } => {
            Request::Compact(pb::CompactionRequest { revision: back(ago), physical: false })
        }
        Ask::Grant { lease, ttl_s } => {
            Request::LeaseGrant(pb::LeaseGrantRequest { ttl: ttl_s, id: lease_id(lease) })
        }
        Ask::Revoke { lease } => {
            Request::LeaseRevoke(pb::LeaseRevokeRequest { id: lease_id(lease) })
        }
        Ask::KeepAlive { lease } => {
            Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: lease_id(lease) })
        }
        Ask::TimeToLive { lease } => {
            Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: lease_id(lease), keys: true })
        }
    })
}

/// A transaction; nothing for what is none.
fn txn(ask: Ask, clients: &Clients, unique: &str) -> Option<pb::TxnRequest> {
    let get = |key: Bytes| pb::RangeRequest { key, ..Default::default() };
    let put = |key: Bytes, what: &str| pb::PutRequest {
        key,
        value: format!("{unique}{what}").into(),
        ..Default::default()
    };
    match ask {
        Ask::Cas { key: number, stale } => {
            let seen = clients.seen.get(&number).copied().unwrap_or(0);
            let at = if stale { seen - 1 } else { seen };
            let target = pb::compare::TargetUnion::ModRevision(at);
            Some(pb::TxnRequest {
                compare: vec![compare(key(number), pb::compare::CompareTarget::Mod, target)],
                success: vec![op(pb::request_op::Request::RequestPut(put(key(number), "cas")))],
                failure: vec![op(pb::request_op::Request::RequestRange(get(key(number))))],
            })
        }
        Ask::Txn { key: number, other, version } => {
            let target = pb::compare::TargetUnion::Version(version);
            let delete = pb::DeleteRangeRequest { key: key(other), ..Default::default() };
            let mut success =
                vec![op(pb::request_op::Request::RequestPut(put(key(number), "txn")))];
            if number != other {
                success.push(op(pb::request_op::Request::RequestDeleteRange(delete)));
            }
            Some(pb::TxnRequest {
                compare: vec![compare(key(number), pb::compare::CompareTarget::Version, target)],
                success,
                failure: vec![op(pb::request_op::Request::RequestRange(get(key(other))))],
            })
        }
        _ => None,
    }
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "ok: get",
        Request::Put(_) => "ok: put",
        Request::DeleteRange(_) => "ok: delete",
        Request::Txn(_) => "ok: txn",
        Request::Compact(_) => "ok: compact",
        Request::LeaseGrant(_) => "ok: lease grant",
        Request::LeaseRevoke(_) => "ok: lease revoke",
        Request::LeaseKeepAlive(_) => "ok: lease keep-alive",
        Request::LeaseTimeToLive(_) => "ok: lease time-to-live",
        Request::MemberAdd(_) => "ok: member add",
        Request::MemberPromote(_) => "ok: member promote",
        Request::MemberRemove(_) => "ok: member remove",
        Request::Publish(_) => "ok: publish",
        _ => "ok: other",
    }
}

impl World {
    /// The member at a place; only one that is up, if there is one.
    pub(super) fn member_at(&self, at: Place) -> NodeId {
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        let at = usize::try_from(at).unwrap_or(0) % ids.len();
        ids[at]
    }

    /// A client of the plan asks.
    pub(super) fn ask(&mut self, client: u64, at: Place, ask: Ask) -> Result<(), Fault> {
        let at = self.member_at(at);
        if self.clients.busy.contains(&client) || !self.hosts[&at].is_up() {
            return Ok(());
        }
        let unique = format!("c{client}.{}", self.clients.ops.len());
        match request(ask, &self.clients, &unique) {
            Some(request) => self.invoke(client, at, request).map(drop),
            None => Ok(()),
        }
    }

    /// The operator of the cluster asks.
    pub(super) fn operate(&mut self, at: NodeId, request: Request) -> Result<(), Fault> {
        if self.clients.busy.contains(&OPERATOR) || !self.hosts[&at].is_up() {
            return Ok(());
        }
        self.invoke(OPERATOR, at, request).map(drop)
    }

    /// A member that has joined makes its name known: one that never did counts as not started.
    pub(super) fn publishes(&mut self, id: NodeId) -> Result<(), Fault> {
        let host = &self.hosts[&id];
        if host.named || host.damaged || host.removed {
            return Ok(());
        }
        let is_up = host.is_up();
        self.post(self.now + Duration::from_millis(500), Happening::Publishes(id));
        let client = PUBLISHERS ^ id.0;
        if !is_up || self.clients.busy.contains(&client) {
            return Ok(());
        }
        let client_urls = vec![format!("http://c{:x}:1", id.0)];
        let name = format!("m{:x}", id.0);
        let publish = etcd::Publish { member_id: id.0, name, client_urls };
        self.invoke(client, id, Request::Publish(publish)).map(drop)
    }

    /// A write at the end, to see whether the cluster serves.
    pub(super) fn probe(&mut self) -> Option<u64> {
        let up: Vec<NodeId> =
            self.hosts.values().filter(|host| host.is_up()).map(|host| host.id).collect();
        let at = usize::try_from(self.net.draw(up.len() as u64)).unwrap_or(0);
        let at = *up.get(at)?;
        self.clients.busy.remove(&PROBE);
        let value = format!("probe.{}", self.clients.ops.len()).into();
        let put = pb::PutRequest { key: key(0), value, ..Default::default() };
        self.invoke(PROBE, at, Request::Put(put)).ok()
    }

    /// A request reaches a member: the request path of a real one, without its door.
    fn invoke(&mut self, client: u64, at: NodeId, request: Request) -> Result<u64, Fault> {
        let number = self.clients.ops.len() as u64;
        let line = format_args!("c{client:x} asks n{:x}: {request:?} (#{number})", at.0);
        self.trace.tell(self.now, line);
        let route = request.route();
        self.clients.busy.insert(client);
        self.clients.ops.push(Op {
            client,
            at,
            incarnation: self.hosts[&at].incarnation,
            request: request.clone(),
            invoked: self.now,
            outcome: None,
            reply: None,
        });
        let patience = Duration::from_micros(self.plan.climate.request_timeout_us) * 2;
        self.post(self.now + patience, Happening::GivesUp(number));
        let Some(process) = self.process(at) else { return Ok(number) };
        if route == Route::Here {
            let view = process.core.machine().view();
            let limits = process.core.machine().config().limits.clone();
            self.respond(number, etcd::read(&view, &request, &limits));
            return Ok(number);
        }
        process.tokens += 1;
        let token = Token(process.tokens);
        process.waiting.insert(token, number);
        let input = match route {
            Route::ReadPoint => Input::ReadPoint(token),
            _ => Input::Client(token, request),
        };
        self.step(at, input).map(|()| number)
    }

    /// A member has an answer.
    pub(super) fn replied(&mut self, id: NodeId, token: Token, reply: Result<Response, Error>) {
        let waiting = self.process(id).and_then(|process| process.waiting.remove(&token));
        if let Some(number) = waiting {
            self.respond(number, reply);
        }
    }

    /// A member may read its state for a client.
    pub(super) fn read_point(&mut self, id: NodeId, token: Token, point: Result<(), Error>) {
        let Some(process) = self.process(id) else { return };
        let Some(number) = process.waiting.remove(&token) else { return };
        let view = process.core.machine().view();
        let limits = process.core.machine().config().limits.clone();
        let Some(op) = self.clients.op(number) else { return };
        let reply = point.and_then(|()| etcd::read(&view, &op.request, &limits));
        self.respond(number, reply);
    }

    fn respond(&mut self, number: u64, reply: Result<Response, Error>) {
        let takes = self.draw_us(self.plan.climate.delay_us.0);
        if let Some(op) = self.clients.op_mut(number) {
            op.reply = Some(reply);
        }
        self.post(self.now + takes, Happening::Answered(number));
    }

    pub(super) fn answered(&mut self, number: u64) {
        let now = self.now;
        let Some(op) = self.clients.op_mut(number) else { return };
        let Some(mut reply) = op.reply.take().filter(|_| op.outcome.is_none()) else { return };
        let client = op.client;
        let asked = op.request.clone();
        let took = now - op.invoked;
        self.trace
            .tell(now, format_args!("c{client:x} hears after {took:?} (#{number}): {reply:?}"));
        self.tally.count(match &reply {
            Ok(_) => kind(&asked),
            Err(error) if error.effect() == etcd::Effect::Unknown => "unknown",
            Err(etcd::Error::RequestTooLarge) => "refused: too large",
            Err(etcd::Error::TooManyRequests) => "refused: too many",
            Err(_) => "refused",
        });
        if let Ok(response) = &mut reply {
            let revision = response.header_mut().map_or(0, |header| header.revision);
            self.clients.newest = self.clients.newest.max(revision);
            if let Request::Put(put) = &asked
                && let Some(number) = number_of(&put.key)
            {
                self.clients.seen.insert(number, revision);
            }
        }
        self.trace.mix(&[number, u64::from(reply.is_ok()), self.clients.newest.cast_unsigned()]);
        if let (Request::Publish(publish), Ok(_)) = (&asked, &reply) {
            let id = NodeId(publish.member_id);
            self.hosts.entry(id).and_modify(|host| host.named = true);
        }
        let added = match &reply {
            Ok(Response::MemberAdd(response)) => response.member.as_ref().map(|member| member.id),
            _ => None,
        };
        self.over(number, Some(reply));
        if let Some(id) = added {
            self.joined(NodeId(id));
        }
    }

    /// The client has waited long enough: it will never know.
    pub(super) fn gives_up(&mut self, number: u64) {
        if !self.clients.is_over(number) {
            self.tally.count("given up");
            self.over(number, None);
        }
    }

    fn over(&mut self, number: u64, reply: Option<Result<Response, Error>>) {
        let now = self.now;
        let Some(op) = self.clients.op_mut(number) else { return };
        op.outcome = Some((now, reply));
        let client = op.client;
        self.clients.busy.remove(&client);
    }

    /// A member has ended: its clients do not know what became of their requests.
    pub(super) fn disconnect(&mut self, id: NodeId) {
        let waiting: Vec<u64> = (0..self.clients.ops.len() as u64)
            .filter(|&op| !self.clients.is_over(op))
            .filter(|&op| self.clients.op(op).is_some_and(|op| op.at == id))
            .collect();
        for number in waiting {
            self.tally.count("connection lost");
            self.over(number, None);
        }
    }
}

fn number_of(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.strip_prefix('k')?.parse().ok()
}
