//! Requests: to the leader, into the log, back to whoever asked.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Evaluated, MemberChange, Request, Response};
use mvcc::engine::Engine;
use prost::Message as _;
use raft::{LogIndex, MembershipChange, MembershipStep, Payload, ReplicaId, Term};
use store::NodeId;

use super::group::{Shared, Turn};
use super::reads::is_scan;
use super::{Fatal, Origin, Waiting};
use crate::mutants::{self, Mutant};
use crate::transport::frame;
use crate::wire::{self, pb};

/// A proposal that waits for its entry to be applied.
struct InFlight {
    index: LogIndex,
    term: Term,
    deadline: Duration,
    /// `None` once it was answered, because time ran out.
    waiting: Option<(Origin, Outcome)>,
}

/// The answer that evaluation gave to a proposal.
pub(super) type Outcome = Box<Result<Response, Error>>;

/// Evaluated and not yet proposed.
pub(super) struct Evaluation {
    pub(super) payload: Payload,
    pub(super) origin: Origin,
    pub(super) outcome: Outcome,
}

/// A request that was passed on to a leader; kept, because one that answers that it does not
/// lead has done nothing with it.
struct Forwarded {
    origin: Origin,
    leader: NodeId,
    deadline: Duration,
    request: Request,
}

/// What waits for a leader.
enum Unrouted {
    Request(Origin, Request),
    ReadPoint(Origin),
}

/// Requests on their way.
#[derive(Default)]
pub(super) struct Routes {
    evaluated: Vec<Evaluation>,
    /// `INVARIANT:` their indices rise.
    in_flight: VecDeque<InFlight>,
    /// Passed on to a leader, by the number they were given.
    forwarded: BTreeMap<u64, Forwarded>,
    unrouted: Waiting<Unrouted>,
    /// Asks for the removal of this member, which leads: for whoever leads after it.
    pub(super) leaving: Waiting<(Origin, Request)>,
}

impl Routes {
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Requests that wait, for a leader, for another member or for their entry.
    pub(super) fn under_way(&self) -> usize {
        self.evaluated.len() + self.in_flight.len() + self.forwarded.len() + self.unrouted.len()
    }

    /// Waits are equally long, so the first of each queue is the earliest; what was answered
    /// already does not wait.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let in_flight = self.in_flight.iter().find(|p| p.waiting.is_some()).map(|p| p.deadline);
        let forwarded = self.forwarded.first_key_value().map(|(_, f)| f.deadline);
        let unrouted = self.unrouted.front().map(|&(deadline, _)| deadline);
        [in_flight, forwarded, unrouted].into_iter().flatten().min()
    }
}

impl<E: Engine> Turn<'_, E> {
    /// A request, from a client of this member or passed on by a peer.
    pub(super) fn request(&mut self, now: Duration, origin: Origin, request: Request) {
        self.request_until(now, origin, request, now + self.shared.config.request_timeout);
    }

    /// The same, for one that may have waited before.
    fn request_until(
        &mut self,
        now: Duration,
        origin: Origin,
        request: Request,
        deadline: Duration,
    ) {
        if self.group.serving && self.removes_self(&request) {
            self.group.routes.leaving.push_back((deadline, (origin, request)));
            return;
        }
        if self.group.serving && self.group.transfers.is_empty() && self.has_time_for(&request) {
            return self.evaluate(now, origin, request, deadline);
        }
        match (origin, self.group.leader) {
            (Origin::Local(_), Some(leader)) if leader != self.shared.config.node => {
                let id = self.shared.id();
                let deadline = now + self.shared.config.request_timeout;
                let (kind, bytes) = wire::request::encode_request(&request);
                self.group
                    .routes
                    .forwarded
                    .insert(id, Forwarded { origin, leader, deadline, request });
                let forward = pb::Forward { id, kind, request: bytes, range: self.named() };
                if !self.is_dense() {
                    self.shared.asked.entry(leader).or_default().insert(self.group.range);
                }
                let bytes = forward.encoded_len();
                self.shared.frames.bulk(leader, bytes).forwards.push(forward);
            }
            // Passed on once is enough: the peer tries the next leader when it knows of one.
            (Origin::Peer(..), Some(leader)) if leader != self.shared.config.node => {
                self.answer(origin, Err(Error::NotLeader));
            }
            _ => self.wait_until(deadline, Unrouted::Request(origin, request)),
        }
    }

    /// Whether the request need not wait for one that takes long (`long.rs`).
    fn has_time_for(&self, request: &Request) -> bool {
        let beside = !self.is_dense() && is_scan(request);
        self.group.busy.is_none() || beside || mutants::on(Mutant::EvaluatedBesideLong)
    }

    /// Whether this member is asked to remove itself, and others would be left.
    fn removes_self(&self, request: &Request) -> bool {
        let Request::MemberRemove(request) = request else { return false };
        let voters = &self.raft().membership().voters;
        request.id == self.shared.config.node.0
            && voters.len() > 1
            && voters.contains(&self.raft().id())
    }

    /// Leadership is handed over: what asked for this member's removal goes to the next leader.
    pub(super) fn leave(&mut self) {
        for (deadline, (origin, request)) in std::mem::take(&mut self.group.routes.leaving) {
            self.wait_until(deadline, Unrouted::Request(origin, request));
        }
    }

    /// Leadership cannot be handed over: this member is not removed.
    pub(super) fn stay(&mut self) {
        for (_, (origin, _)) in std::mem::take(&mut self.group.routes.leaving) {
            self.answer(origin, Err(Error::Unhealthy));
        }
    }

    fn wait_for_leader(&mut self, now: Duration, what: Unrouted) {
        self.wait_until(now + self.shared.config.request_timeout, what);
    }

    /// Into the queue, which is in the order of deadlines.
    fn wait_until(&mut self, deadline: Duration, what: Unrouted) {
        let unrouted = &mut self.group.routes.unrouted;
        let at = unrouted.partition_point(|&(other, _)| other <= deadline);
        unrouted.insert(at, (deadline, what));
    }

    pub(super) fn request_waits(&mut self, origin: Origin, request: Request, deadline: Duration) {
        self.wait_until(deadline, Unrouted::Request(origin, request));
    }

    pub(super) fn read_point_waits(&mut self, origin: Origin, deadline: Duration) {
        self.wait_until(deadline, Unrouted::ReadPoint(origin));
    }

    /// There is a leader: reads that waited for one go on their way.
    pub(super) fn read_waiting(&mut self, now: Duration) {
        let waiting = std::mem::take(&mut self.group.routes.unrouted);
        let reads = |what: &Unrouted| match what {
            Unrouted::ReadPoint(_) => true,
            Unrouted::Request(_, request) => !self.is_dense() && is_scan(request),
        };
        let (reads, others) = waiting.into_iter().partition(|(_, what)| reads(what));
        self.group.routes.unrouted = others;
        self.route(now, reads);
    }

    /// There is a leader: what waited for one goes on its way.
    pub(super) fn route_waiting(&mut self, now: Duration) {
        let waiting = std::mem::take(&mut self.group.routes.unrouted);
        self.route(now, waiting);
    }

    fn route(&mut self, now: Duration, waiting: Waiting<Unrouted>) {
        for (deadline, what) in waiting {
            match what {
                Unrouted::Request(origin, request) => {
                    self.request_until(now, origin, request, deadline);
                }
                Unrouted::ReadPoint(origin) => self.read_point_until(origin, deadline),
            }
        }
    }

    fn evaluate(&mut self, now: Duration, origin: Origin, request: Request, deadline: Duration) {
        if self.shared.disk_full && grows(&request) {
            return self.answer(origin, Err(Error::NoSpace));
        }
        // The range that holds all user data is read at the door.
        if !self.is_dense() && is_scan(&request) {
            return self.scan(now, origin, request);
        }
        // A change of members is proposed alone, so that a refusal takes back nothing else: and what was
        // evaluated before it is proposed, or taken back, before it is evaluated.
        if changes_members(&request) {
            if !mutants::on(Mutant::MembersEvaluatedEarly) {
                self.propose(now);
            }
            self.observe_cluster(now);
        }
        let asked = deadline.saturating_sub(self.shared.config.request_timeout);
        match self.group.machine.evaluate_asked(now, asked, request) {
            Evaluated::Refused(error) => self.answer(origin, Err(error)),
            Evaluated::Read(result) => self.answer_when_confirmed(origin, *result),
            Evaluated::Propose { effects, outcome } => {
                let payload = Payload::Data(effects);
                self.evaluated(Evaluation { payload, origin, outcome });
            }
            Evaluated::Membership { change, effects, outcome } => {
                if mutants::on(Mutant::MembersEvaluatedEarly) {
                    self.propose(now);
                }
                let payload = Payload::membership(membership_change(change, effects));
                self.evaluated(Evaluation { payload, origin, outcome });
                self.propose(now);
            }
            Evaluated::Long(long) => self.takes_long(now, origin, long, Some(deadline)),
        }
    }

    /// Takes in what was just evaluated, to be proposed.
    pub(super) fn evaluated(&mut self, evaluation: Evaluation) {
        if self.is_too_long(&evaluation.payload) {
            self.group.machine.retract(1);
            return self.answer(evaluation.origin, Err(Error::RequestTooLarge));
        }
        self.group.routes.evaluated.push(evaluation);
    }

    /// Evaluation bounds what it makes, well below this. A longer entry would end every member that
    /// has to write it, so nothing depends on that alone.
    fn is_too_long(&self, payload: &Payload) -> bool {
        let (bytes, bytes_max) = (payload.size_bytes(), self.shared.config.entry_bytes_max);
        if bytes > bytes_max {
            tracing::error!(
                bytes,
                bytes_max,
                "an entry that the log does not take is not proposed"
            );
        }
        bytes > bytes_max
    }

    /// What evaluation needs to know of the members beside the replicated state.
    fn observe_cluster(&mut self, now: Duration) {
        let raft = self.raft();
        let matched = raft.peers().map(|peer| (peer.id.get(), peer.matched.0)).collect();
        let last_index = raft.last().index.0;
        let connected = |(node, since): (&NodeId, &Duration)| (node.0, now.saturating_sub(*since));
        let facts = etcd::ClusterFacts {
            unix_time_s: self.shared.unix_time_s,
            connected_for: self.shared.heard_since.iter().map(connected).collect(),
            matched,
            last_index,
        };
        self.group.machine.observe_cluster(facts);
    }

    /// Leases that have run out are revoked, in the name of nobody.
    pub(super) fn expire_leases(&mut self, now: Duration) -> Result<(), Fatal> {
        if !self.group.may_end_leases() {
            return Ok(());
        }
        let expired =
            self.group.machine.expire(now).map_err(|error| Fatal::State(error.to_string()))?;
        let count = expired.effects.len();
        for (nth, effects) in expired.effects.into_iter().enumerate() {
            let payload = Payload::Data(effects);
            if self.is_too_long(&payload) {
                self.group.machine.retract(count - nth);
                break;
            }
            let outcome = Box::new(Ok(Response::Published));
            self.evaluated(Evaluation { payload, origin: Origin::None, outcome });
        }
        if let Some(long) = expired.long {
            self.takes_long(now, Origin::None, long, None);
        }
        self.propose(now);
        Ok(())
    }

    /// Proposes all that was evaluated since the last time, as one batch.
    pub(super) fn propose(&mut self, now: Duration) {
        if self.group.routes.evaluated.is_empty() {
            return;
        }
        let evaluated = std::mem::take(&mut self.group.routes.evaluated);
        let payloads = evaluated.iter().map(|e| e.payload.clone()).collect();
        let deadline = now + self.shared.config.request_timeout;
        match self.raft_mut().propose(now, payloads) {
            Ok(proposed) => {
                self.forget_overwritten(proposed.first_index);
                for (offset, evaluation) in evaluated.into_iter().enumerate() {
                    self.group.routes.in_flight.push_back(InFlight {
                        index: proposed.first_index.plus(offset as u64),
                        term: proposed.term,
                        deadline,
                        waiting: Some((evaluation.origin, evaluation.outcome)),
                    });
                }
            }
            Err(refused) => {
                // Nothing was appended: what was evaluated is taken back, so that nothing builds
                // on revisions that never come.
                self.group.machine.retract(evaluated.len());
                self.void_gathered(&refusal(refused));
                for evaluation in evaluated {
                    self.answer(evaluation.origin, Err(refusal(refused)));
                }
            }
        }
    }

    /// Entries of this member's are appended from `first` on. Proposals of an earlier term that
    /// stood there or behind are cut off the log: they never happened.
    fn forget_overwritten(&mut self, first: LogIndex) {
        while self.group.routes.in_flight.back().is_some_and(|proposal| proposal.index >= first) {
            let overwritten = self.group.routes.in_flight.pop_back().and_then(|p| p.waiting);
            if let Some((origin, _)) = overwritten {
                self.answer(origin, Err(Error::LeaderChanged));
            }
        }
    }

    /// How many entries the next batch adds to the log.
    pub(super) fn evaluated_count(&self) -> u64 {
        self.group.routes.evaluated.len() as u64
    }

    /// The entry at `index`, of `term`, is applied: whoever proposed it is answered.
    pub(super) fn proposal_applied(&mut self, index: LogIndex, term: Term) {
        while let Some(first) = self.group.routes.in_flight.front() {
            if first.index > index {
                break;
            }
            let proposal = self.group.routes.in_flight.pop_front().expect("just looked at");
            let Some((origin, outcome)) = proposal.waiting else { continue };
            let same = proposal.term == term || mutants::on(Mutant::AnswerWhateverStands);
            let answer = if proposal.index == index && same {
                *outcome
            } else if proposal.index == index {
                // Another leader's entry stands in its place: it never happened.
                Err(Error::LeaderChanged)
            } else {
                // A snapshot went over it: nobody here can tell any more.
                Err(Error::Timeout)
            };
            self.answer(origin, answer);
        }
    }

    /// Gives an answer to whoever asked.
    pub(super) fn answer(&mut self, origin: Origin, answer: Result<Response, Error>) {
        let (range, applied) = (self.named(), self.group.machine.applied().index);
        self.shared.answer(range, applied, origin, answer);
    }

    /// The leader's answer to a request that was passed on to it.
    pub(super) fn forward_answered(
        &mut self,
        now: Duration,
        from: NodeId,
        reply: pb::ForwardReply,
    ) {
        if self.group.routes.forwarded.get(&reply.id).is_none_or(|f| f.leader != from) {
            return;
        }
        let Some(Forwarded { origin, deadline, request, .. }) =
            self.group.routes.forwarded.remove(&reply.id)
        else {
            return;
        };
        let answer = match (reply.response, reply.error) {
            // It may be done, whatever the answer is that a later version gives.
            (Some(bytes), None) => {
                wire::request::decode_response(reply.kind, bytes).map_err(|_| Error::Timeout)
            }
            (_, Some(error)) => Err(wire::request::decode_error(error)),
            (None, None) => Err(Error::Timeout),
        };
        if answer == Err(Error::NotLeader) {
            self.wait_until(deadline, Unrouted::Request(origin, request));
            // The next leader may have been heard of before this answer: nobody else would say so.
            if self.group.leader.is_some_and(|leader| leader != from) {
                self.route_waiting(now);
            }
            return;
        }
        self.answer_when_applied(now, origin, answer, LogIndex(reply.applied));
    }

    /// What was passed on to `node` may or may not be done there.
    pub(super) fn peer_lost(&mut self, now: Duration, node: NodeId) {
        let lost: Vec<u64> = self
            .group
            .routes
            .forwarded
            .iter()
            .filter(|(_, f)| f.leader == node)
            .map(|(&id, _)| id)
            .collect();
        for id in lost {
            if let Some(lost) = self.group.routes.forwarded.remove(&id) {
                if mutants::on(Mutant::ForwardedAgain) {
                    self.wait_for_leader(now, Unrouted::Request(lost.origin, lost.request));
                    self.route_waiting(now);
                    continue;
                }
                self.answer(lost.origin, Err(Error::TimeoutDueToConnectionLost));
            }
        }
        self.read_points_lost(now, node);
    }

    pub(super) fn routes_timeout(&mut self, now: Duration) {
        while let Some(&(deadline, _)) = self.group.routes.unrouted.front() {
            if deadline > now {
                break;
            }
            match self.group.routes.unrouted.pop_front() {
                Some((_, Unrouted::Request(origin, _))) => self.answer(origin, Err(Error::Timeout)),
                Some((_, Unrouted::ReadPoint(origin))) => self.point(origin, Err(Error::Timeout)),
                None => {}
            }
        }
        while let Some(first) = self.group.routes.forwarded.first_entry() {
            if first.get().deadline > now {
                break;
            }
            let origin = first.remove().origin;
            self.answer(origin, Err(Error::Timeout));
        }
        let mut late = Vec::new();
        for proposal in self.group.routes.in_flight.iter_mut().take_while(|p| p.deadline <= now) {
            late.extend(proposal.waiting.take());
        }
        for (origin, _) in late {
            self.answer(origin, Err(Error::Timeout));
        }
    }
}

impl Shared {
    /// Gives an answer to whoever asked something of `range`, of which so much is applied here.
    pub(super) fn answer(
        &mut self,
        range: Option<u64>,
        applied: u64,
        origin: Origin,
        answer: Result<Response, Error>,
    ) {
        match origin {
            Origin::Local(token) => self.effects.replies.push((token, answer)),
            Origin::Peer(node, id) => {
                let answer = answer.map(|response| wire::request::encode_response(&response));
                let (kind, response, error) = match answer {
                    Ok((_, bytes)) if bytes.len() > ANSWER_BYTES_MAX => {
                        (0, None, Some(wire::request::encode_error(&Error::AnswerTooLong)))
                    }
                    Ok((kind, bytes)) => (kind, Some(bytes), None),
                    Err(error) => (0, None, Some(wire::request::encode_error(&error))),
                };
                let reply = pb::ForwardReply { id, kind, response, error, applied, range };
                let bytes = reply.encoded_len();
                self.frames.bulk(node, bytes).forward_replies.push(reply);
            }
            Origin::None => {
                if let Err(error) = answer {
                    tracing::debug!(%error, "the member's own proposal was not applied");
                }
            }
        }
    }
}

/// The longest answer that is passed on to the member that was asked: what a frame can carry, with room for
/// the rest of it.
const ANSWER_BYTES_MAX: usize = frame::PAYLOAD_BYTES_MAX - (1 << 20);

pub(super) fn grows(request: &Request) -> bool {
    matches!(request, Request::Put(_) | Request::Txn(_) | Request::LeaseGrant(_))
}

fn changes_members(request: &Request) -> bool {
    matches!(request, Request::MemberAdd(_) | Request::MemberRemove(_) | Request::MemberPromote(_))
}

/// A change of the members as consensus knows it: in dense mode a member is a replica.
fn membership_change(change: MemberChange, effects: Bytes) -> MembershipChange {
    let replica = |id| ReplicaId::new(id).expect("members have ids other than 0");
    let step = match change {
        MemberChange::AddVoter(id) => MembershipStep::AddVoter(replica(id)),
        MemberChange::AddLearner(id) => MembershipStep::AddLearner(replica(id)),
        MemberChange::Remove(id) => MembershipStep::Remove(replica(id)),
    };
    MembershipChange { steps: vec![step], context: effects, ..MembershipChange::default() }
}

/// What a client is told when consensus does not take its proposal. Nothing was appended.
fn refusal(refused: raft::Refused) -> Error {
    match refused {
        raft::Refused::NotLeader { .. } | raft::Refused::Transferring { .. } => {
            Error::LeaderChanged
        }
        raft::Refused::TooManyUncommitted | raft::Refused::TooManyReads => Error::TooManyRequests,
        raft::Refused::MembershipPending | raft::Refused::Membership(_) => Error::Unhealthy,
        raft::Refused::Stopped => Error::Stopped,
    }
}
