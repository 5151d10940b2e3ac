//! Evaluation: from a request to an answer, or to effects and the answer they will have.
//!
//! The order of checks is etcd's, because a request with several faults must get etcd's error:
//! quota, form, size, alarms, then the state.

use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::Engine;
use mvcc::{LeaseId, Revision, View};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::AlarmType;
use proto::etcdserverpb::alarm_request::AlarmAction;

use crate::draft::{Draft, Patience};
use crate::error::Error;
use crate::lease::{self, Ends};
use crate::long::Long;
use crate::machine::{Leading, Machine};
use crate::member::{self, Council, MemberChange};
use crate::meta;
use crate::mutant::{self, Mutant};
use crate::overlay::LeaseEvent;
use crate::quota;
use crate::read;
use crate::request::{Publish, Request, Response, header, header_without_revision};
use crate::{alarm, check, txn};

/// Bytes that etcd's log puts around a request: the header with the id of the request, and the
/// tags. The largest it can be; etcd's own varies by a byte with the id.
const ENTRY_OVERHEAD_BYTES: usize = 20;

/// What comes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// Refused whatever the state is: may be answered at once.
    Refused(Error),
    /// To be answered once everything proposed before is applied and leadership was confirmed
    /// after this evaluation.
    Read(Box<Result<Response, Error>>),
    /// To be proposed now, and answered when the entry is applied. The outcome may be an error:
    /// a write over the quota raises an alarm and fails.
    Propose {
        /// The payload of the entry.
        effects: Bytes,
        /// The answer.
        outcome: Box<Result<Response, Error>>,
    },
    /// The same, in an entry that changes Raft's configuration.
    Membership {
        /// The change.
        change: MemberChange,
        /// To be carried with it, and applied as its effects.
        effects: Bytes,
        /// The answer.
        outcome: Box<Result<Response, Error>>,
    },
    /// It looks at more than [`Limits::rows_at_once`](crate::Limits::rows_at_once), and nothing
    /// has come of it yet: see [`Long`].
    Long(Long),
}

/// What a handler makes of a request: done already, or an outcome on the state.
type Step = Result<Evaluated, Error>;

impl<E: Engine> Machine<E> {
    /// Evaluates a request as the leader, as if all that is in flight were applied. Every
    /// proposal that comes out is in flight from then on.
    pub fn evaluate(&mut self, now: Duration, request: Request) -> Evaluated {
        self.evaluate_asked(now, now, request)
    }

    /// The same, of a request that came at `asked` and had to wait: a sign of life that came in
    /// time is not late for that.
    pub fn evaluate_asked(
        &mut self,
        now: Duration,
        asked: Duration,
        request: Request,
    ) -> Evaluated {
        let view = self.state.view();
        let Some(leading) = self.leading.as_mut() else {
            return Evaluated::Refused(Error::NotLeader);
        };
        let mut desk = Desk {
            now,
            asked,
            view: &view,
            leading,
            config: &self.config,
            facts: &self.facts,
            size_bytes: self.size_bytes,
            patience: Patience::new(self.config.limits.rows_at_once),
        };
        match desk.evaluate(&request) {
            Ok(evaluated) => evaluated,
            Err(_) if desk.patience.is_over() => Evaluated::Long(Long::Request(Box::new(request))),
            Err(error) => Evaluated::Read(Box::new(Err(error))),
        }
    }
}

/// Everything an evaluation looks at.
struct Desk<'a> {
    now: Duration,
    asked: Duration,
    view: &'a View,
    leading: &'a mut Leading,
    config: &'a crate::machine::Config,
    facts: &'a member::ClusterFacts,
    size_bytes: u64,
    patience: Patience,
}

/// What the alarms that are raised do to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    /// It adds to the state.
    Grows,
    /// It does not.
    Shrinks,
}

impl Desk<'_> {
    fn evaluate(&mut self, request: &Request) -> Step {
        match request {
            Request::Put(request) => self.put(request),
            Request::DeleteRange(request) => self.delete_range(request),
            Request::Txn(request) if !txn::is_read_only(request) => self.txn(request),
            Request::Compact(request) => self.compact(*request),
            Request::LeaseGrant(request) => self.lease_grant(*request),
            Request::LeaseRevoke(request) => self.lease_revoke(*request),
            Request::LeaseKeepAlive(request) => self.lease_keep_alive(*request),
            Request::LeaseTimeToLive(request) => self.lease_time_to_live(*request),
            Request::LeaseLeases(_) => self.lease_leases(),
            Request::MemberAdd(request) => self.member_add(request),
            Request::MemberRemove(request) => self.member_remove(*request),
            Request::MemberUpdate(request) => self.member_update(request),
            Request::MemberPromote(request) => self.member_promote(*request),
            Request::Alarm(request) if request.action() != AlarmAction::Get => {
                self.set_alarm(*request)
            }
            Request::Publish(request) => self.publish(request.clone()),
            reads => match read::check(reads, &self.config.limits) {
                Err(error) => Ok(Evaluated::Refused(error)),
                Ok(()) => Ok(answer(read::answer(&mut self.patient(), reads)?)),
            },
        }
    }

    fn draft(&self) -> Draft<'_> {
        let draft = Draft::new(self.view, Some(&self.leading.overlay));
        draft.within(self.config.limits.effects_bytes_max)
    }

    /// The same, for what may look at many rows, and is done aside if it does ([`Long`]).
    fn patient(&self) -> Draft<'_> {
        self.draft().patient(&self.patience)
    }

    /// Refuses what is too large, or too much at once.
    fn admit(&self, encoded_bytes: usize) -> Result<(), Evaluated> {
        let limits = &self.config.limits;
        if self.leading.overlay.len() >= limits.max_proposals_in_flight {
            return Err(Evaluated::Refused(Error::TooManyRequests));
        }
        if encoded_bytes + ENTRY_OVERHEAD_BYTES > limits.max_request_bytes {
            return Err(Evaluated::Refused(Error::RequestTooLarge));
        }
        Ok(())
    }

    /// What the alarms say to a write.
    fn heed_alarms(&mut self, write: Write) -> Result<(), Error> {
        let alarms = match self.leading.alarms {
            Some(alarms) => alarms,
            None => alarm::raised(&self.draft())?,
        };
        self.leading.alarms = Some(alarms);
        if alarms.corrupt {
            return Err(Error::Corrupt);
        }
        if alarms.no_space && write == Write::Grows {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Refuses a request that does not fit under the quota any more, and raises the alarm if it
    /// is not raised already.
    fn heed_quota(&mut self, cost_bytes: u64) -> Result<Option<Evaluated>, Error> {
        let full = self.config.limits.quota_bytes;
        if cost_bytes == 0 || full.is_none_or(|full| self.size_bytes + cost_bytes < full) {
            return Ok(None);
        }
        let mut draft = self.draft();
        alarm::activate(&mut draft, self.config.member_id, AlarmType::Nospace as i32)?;
        if draft.is_clean() {
            return Err(Error::NoSpace);
        }
        let written = draft.finish()?;
        let effects = self.leading.propose(written, None, None);
        Ok(Some(Evaluated::Propose { effects, outcome: Box::new(Err(Error::NoSpace)) }))
    }

    fn put(&mut self, request: &pb::PutRequest) -> Step {
        if let Some(full) = self.heed_quota(quota::put(request))? {
            return Ok(full);
        }
        if let Err(error) = check::put(request) {
            return Ok(Evaluated::Refused(error));
        }
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(Write::Grows)?;
        let mut draft = self.draft();
        txn::check_put(&draft, request)?;
        let response = Response::Put(txn::put(&mut draft, request)?);
        let written = draft.finish()?;
        Ok(self.proposal(written, response, None))
    }

    fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Step {
        if let Err(error) = check::delete_range(request) {
            return Ok(Evaluated::Refused(error));
        }
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(Write::Shrinks)?;
        let mut draft = self.patient();
        let response = Response::DeleteRange(txn::delete_range(&mut draft, request)?);
        if draft.is_clean() {
            return Ok(answer(response));
        }
        let written = draft.finish()?;
        Ok(self.proposal(written, response, None))
    }

    fn txn(&mut self, request: &pb::TxnRequest) -> Step {
        let cost_bytes = quota::txn(request);
        if let Some(full) = self.heed_quota(cost_bytes)? {
            return Ok(full);
        }
        if let Err(error) = check::txn(request, self.config.limits.max_txn_ops) {
            return Ok(Evaluated::Refused(error));
        }
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(if cost_bytes > 0 { Write::Grows } else { Write::Shrinks })?;
        let mut draft = self.patient();
        let response = Response::Txn(txn::txn(&mut draft, request)?);
        if draft.is_clean() {
            return Ok(answer(response));
        }
        let written = draft.finish()?;
        Ok(self.proposal(written, response, None))
    }

    fn compact(&mut self, request: pb::CompactionRequest) -> Step {
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(Write::Shrinks)?;
        let mut draft = self.draft();
        if request.revision <= draft.compact_mark()? {
            return Err(Error::Compacted);
        }
        if request.revision > draft.base().0 {
            return Err(Error::FutureRev);
        }
        draft.set(
            Bytes::from_static(meta::COMPACTED),
            Some(Bytes::copy_from_slice(&request.revision.to_be_bytes())),
        );
        let response = pb::CompactionResponse { header: header(draft.base()) };
        let written = draft.finish()?;
        let compact = (request.revision > 0).then_some(Revision(request.revision));
        let effects = self.leading.propose(written, compact, None);
        Ok(Evaluated::Propose { effects, outcome: Box::new(Ok(Response::Compact(response))) })
    }

    fn lease_grant(&mut self, request: pb::LeaseGrantRequest) -> Step {
        if let Some(full) = self.heed_quota(quota::LEASE_BYTES)? {
            return Ok(full);
        }
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(Write::Grows)?;
        let id = match txn::lease_id(request.id) {
            Some(id) => id,
            None => self.choose_lease()?,
        };
        let mut draft = self.draft();
        let ttl_s = lease::grant(&mut draft, &request, id, &self.config.limits)?;
        let response = pb::LeaseGrantResponse {
            header: header(draft.base()),
            id: id.0,
            ttl: ttl_s,
            error: String::new(),
        };
        let written = draft.finish()?;
        let event = LeaseEvent::Granted { id, ttl_s };
        Ok(self.proposal(written, Response::LeaseGrant(response), Some(event)))
    }

    fn choose_lease(&mut self) -> Result<LeaseId, Error> {
        loop {
            self.leading.chosen += 1;
            let id = lease::choose_id(self.config.seed, self.leading.term, self.leading.chosen);
            if lease::row(&self.draft(), id)?.is_none() {
                return Ok(id);
            }
        }
    }

    /// Whole or not at all: who is answered may count on it that the keys are gone. A lease that
    /// is too large for one entry is left to end by itself, in parts, when nobody keeps it alive.
    fn lease_revoke(&mut self, request: pb::LeaseRevokeRequest) -> Step {
        if let Err(refused) = self.admit(request.encoded_len()) {
            return Ok(refused);
        }
        self.heed_alarms(Write::Shrinks)?;
        let id = txn::lease_id(request.id).ok_or(Error::LeaseNotFound)?;
        let mut draft = self.patient();
        lease::revoke(&mut draft, id)?;
        let written = draft.finish()?;
        let effects = self.leading.end(id, Ends::Whole, written);
        let response = pb::LeaseRevokeResponse { header: header(self.patient().base()) };
        Ok(Evaluated::Propose { effects, outcome: Box::new(Ok(Response::LeaseRevoke(response))) })
    }

    fn lease_keep_alive(&mut self, request: pb::LeaseKeepAliveRequest) -> Step {
        let draft = self.patient();
        let mut response =
            pb::LeaseKeepAliveResponse { header: header(draft.base()), id: request.id, ttl: 0 };
        let id = LeaseId(request.id);
        let Some(row) = lease::find(&draft, id)? else {
            return Ok(answer(Response::LeaseKeepAlive(response)));
        };
        match self.leading.deadlines.get(id) {
            Some(deadline) if deadline <= self.asked => {
                let mut draft = self.patient();
                let ends = lease::end(&mut draft, id)?;
                let written = draft.finish()?;
                let effects = self.leading.end(id, ends, written);
                let outcome = Box::new(Ok(Response::LeaseKeepAlive(response)));
                return Ok(Evaluated::Propose { effects, outcome });
            }
            Some(_) if mutant::on(Mutant::ForgetSignOfLife) => {}
            Some(_) => self.leading.deadlines.set(id, self.now + lease::ttl(row.ttl_s)),
            // Granted and not yet applied: its time has not begun.
            None => {}
        }
        response.ttl = row.ttl_s;
        Ok(answer(Response::LeaseKeepAlive(response)))
    }

    fn lease_time_to_live(&mut self, request: pb::LeaseTimeToLiveRequest) -> Step {
        let left = self.leading.deadlines.left(LeaseId(request.id), self.now);
        Ok(answer(lease::time_to_live(&self.patient(), request, left)?))
    }

    fn lease_leases(&mut self) -> Step {
        let draft = self.patient();
        Ok(answer(lease::list(&draft, self.leading.deadlines.in_order())?))
    }

    fn council(&self) -> Result<Council<'_>, Error> {
        Ok(Council {
            leader: self.config.member_id,
            limits: &self.config.limits,
            facts: self.facts,
            rows: member::rows(&self.draft())?,
        })
    }

    fn member_add(&mut self, request: &pb::MemberAddRequest) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        let id = self.council()?.add(&mut draft, request)?;
        let members = member::list(&draft)?;
        let member = members.iter().find(|member| member.id == id).cloned();
        let written = draft.finish()?;
        let is_learner = request.is_learner;
        let change =
            if is_learner { MemberChange::AddLearner(id) } else { MemberChange::AddVoter(id) };
        let header = header_without_revision();
        let response = Response::MemberAdd(pb::MemberAddResponse { header, member, members });
        Ok(self.membership(change, written, response))
    }

    fn member_remove(&mut self, request: pb::MemberRemoveRequest) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        self.council()?.remove(&mut draft, request.id)?;
        let members = member::list(&draft)?;
        let written = draft.finish()?;
        let header = header_without_revision();
        let response = Response::MemberRemove(pb::MemberRemoveResponse { header, members });
        Ok(self.membership(MemberChange::Remove(request.id), written, response))
    }

    fn member_promote(&mut self, request: pb::MemberPromoteRequest) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        self.council()?.promote(&mut draft, request.id)?;
        let members = member::list(&draft)?;
        let written = draft.finish()?;
        let header = header_without_revision();
        let response = Response::MemberPromote(pb::MemberPromoteResponse { header, members });
        Ok(self.membership(MemberChange::AddVoter(request.id), written, response))
    }

    fn member_update(&mut self, request: &pb::MemberUpdateRequest) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        self.council()?.update(&mut draft, request)?;
        let members = member::list(&draft)?;
        let written = draft.finish()?;
        let header = header_without_revision();
        let response = Response::MemberUpdate(pb::MemberUpdateResponse { header, members });
        Ok(self.proposal(written, response, None))
    }

    /// A member's own name and addresses.
    fn publish(&mut self, request: Publish) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        let mut rows = member::rows(&draft)?;
        let row = rows.get_mut(&request.member_id).filter(|row| !row.removed);
        let row = row.ok_or(Error::MemberNotFound)?;
        row.name = request.name;
        row.client_urls = request.client_urls;
        member::set(&mut draft, request.member_id, row);
        let written = draft.finish()?;
        Ok(self.proposal(written, Response::Published, None))
    }

    fn set_alarm(&mut self, request: pb::AlarmRequest) -> Step {
        if let Err(refused) = self.admit(0) {
            return Ok(refused);
        }
        let mut draft = self.draft();
        let alarms = match request.action() {
            AlarmAction::Activate => alarm::activate(&mut draft, request.member_id, request.alarm)?,
            _ => alarm::deactivate(&mut draft, request.member_id, request.alarm)?,
        };
        let header = header(draft.base());
        let alarms = alarms.into_iter().collect();
        let response = Response::Alarm(pb::AlarmResponse { header, alarms });
        if draft.is_clean() {
            return Ok(answer(response));
        }
        let written = draft.finish()?;
        Ok(self.proposal(written, response, None))
    }

    fn proposal(
        &mut self,
        written: crate::draft::Written,
        response: Response,
        lease: Option<LeaseEvent>,
    ) -> Evaluated {
        let effects = self.leading.propose(written, None, lease);
        Evaluated::Propose { effects, outcome: Box::new(Ok(response)) }
    }

    fn membership(
        &mut self,
        change: MemberChange,
        written: crate::draft::Written,
        response: Response,
    ) -> Evaluated {
        let effects = self.leading.propose(written, None, None);
        Evaluated::Membership { change, effects, outcome: Box::new(Ok(response)) }
    }
}

fn answer(response: Response) -> Evaluated {
    Evaluated::Read(Box::new(Ok(response)))
}
