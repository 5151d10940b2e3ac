//! The state machine: evaluate on the leader, apply on every member.
//!
//! ```text
//!            request                         entry of the log
//!               |                                   |
//!     evaluate (leader only)                 apply (every member)
//!       view + overlay -> effects ---> Raft ---> state, then the overlay's front goes
//! ```
//!
//! A member follows until [`Machine::lead`] and again after [`Machine::follow`]. In between it
//! evaluates; everything that only a leader has (overlay, deadlines of leases) lives in one
//! value that is dropped with the leadership.
//!
//! What whoever drives it must keep to:
//! 1. `lead` only after an entry of the own term has been applied. Before, the state may lack
//!    what an earlier leader has promised.
//! 2. Proposals go to Raft in the order in which they came out of `evaluate` and `expire`, and
//!    at once. If Raft refuses the last n, [`Machine::retract`] them before anything else.
//! 3. The answer to a proposal is sent when its entry is applied; that to a read when all that
//!    was proposed before it is applied and leadership was confirmed after it was evaluated.
//! 4. `follow` as soon as leadership ends. Answers not yet sent are then of unknown effect.
//!
//! Time is monotonic, counted from a point of the caller's; only deadlines of leases use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::Engine;
use mvcc::{AppliedMark, Batch, Commit, LeaseId, Revision, State, View};

use crate::draft::{Draft, Patience, Written};
use crate::effects::{Effects, MalformedEffects};
use crate::error::Error;
use crate::lease::{self, Deadlines, Ends};
use crate::limits::Limits;
use crate::long::Long;
use crate::member::{self, ClusterFacts, FoundingMember};
use crate::meta::{self, MemberRow};
use crate::mutant::{self, Mutant};
use crate::overlay::{LeaseEvent, Overlay};
use crate::restore;

/// What a machine is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's own id.
    pub member_id: u64,
    /// The limits of requests.
    pub limits: Limits,
    /// Where ids of leases come from that clients leave to the server. Different on every
    /// member and at every start.
    pub seed: u64,
}

/// What an entry did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// What it changed of the users' keys, for watchers; the versions before are in
    /// [`View::previous`].
    pub commit: Option<Arc<Commit>>,
    /// The compact revision it set.
    pub compacted: Option<Revision>,
    /// It changed the rows of members.
    pub members_changed: bool,
    /// It was evaluated in another term than it was appended in, and did nothing.
    pub stale: bool,
    /// It held effects.
    evaluated: bool,
}

impl Applied {
    /// How many versions of keys it has made.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.commit.as_ref().map_or(0, |commit| commit.changes.len())
    }

    pub(crate) fn is_proposal(&self) -> bool {
        self.evaluated && !self.stale
    }
}

/// What the entry at an index, of a term, does to a state whose newest revision is `newest`. The
/// row comes on top, whatever becomes of the effects; empty effects are none.
pub(crate) fn batch_of(
    (index, term): (u64, u64),
    effects: &Bytes,
    row: Option<(Bytes, Option<Bytes>)>,
    newest: Revision,
) -> Result<(Batch, Applied), MalformedEffects> {
    let nothing =
        |row: Option<_>| Batch { index, term, meta: row.into_iter().collect(), ..Batch::default() };
    if effects.is_empty() {
        return Ok((nothing(row), Applied::default()));
    }
    let effects = Effects::decode(effects)?;
    if effects.term != term && !mutant::on(Mutant::ApplyStale) {
        let applied = Applied { stale: true, evaluated: true, ..Applied::default() };
        return Ok((nothing(row), applied));
    }
    effects.check(newest)?;
    let mut batch = effects.into_batch(index, term);
    batch.meta.extend(row);
    let applied = Applied {
        commit: batch.commit.clone(),
        compacted: batch.compact,
        members_changed: batch.meta.iter().any(|(key, _)| key.starts_with(meta::MEMBERS)),
        stale: false,
        evaluated: true,
    };
    Ok((batch, applied))
}

/// What comes of leases whose time is up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expired {
    /// To be proposed, each as an entry.
    pub effects: Vec<Bytes>,
    /// The end of one that takes long ([`Machine::begin_long`]); nothing else then.
    pub long: Option<Long>,
}

/// The state machine. See the module.
pub struct Machine<E: Engine> {
    pub(crate) state: State<E>,
    pub(crate) config: Config,
    pub(crate) facts: ClusterFacts,
    pub(crate) size_bytes: u64,
    pub(crate) leading: Option<Leading>,
}

/// What only a leader has.
pub(crate) struct Leading {
    pub(crate) term: u64,
    pub(crate) overlay: Overlay,
    pub(crate) deadlines: Deadlines,
    /// When ends of leases were last looked for.
    looked: Duration,
    /// No lease ends before: Raft has refused to take the last ends.
    not_before: Duration,
    /// Leases whose id was chosen here.
    pub(crate) chosen: u64,
    /// The alarms raised, with those in flight; `None` if they are to be looked up.
    pub(crate) alarms: Option<Alarms>,
}

/// Which kinds of alarms are raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    pub(crate) no_space: bool,
    pub(crate) corrupt: bool,
}

impl<E: Engine> Machine<E> {
    /// A machine over `state`, as a follower.
    #[must_use]
    pub fn open(state: State<E>, config: Config) -> Self {
        Self { state, config, facts: ClusterFacts::default(), size_bytes: 0, leading: None }
    }

    /// The effects with which a cluster begins: the members it has. To be applied as the first
    /// entry, by every member alike; `term` is that of the entry.
    #[must_use]
    pub fn founding(term: u64, members: &[FoundingMember]) -> Bytes {
        let rows = members.iter().map(restore::member_row).map(|(key, row)| (key, Some(row)));
        Effects { term, commit: None, rows: rows.collect(), compact: None }.encode()
    }

    /// The effects that leave this member alone: it votes, and every other member is removed. To
    /// be applied after everything else, by this member only; `term` is that of the entry.
    ///
    /// # Errors
    /// [`Error::MemberNotFound`] if this member is none; if the members cannot be read.
    pub fn alone(&self, term: u64) -> Result<Bytes, Error> {
        let view = self.state.view();
        let mut draft = Draft::new(&view, None);
        let mut rows = member::rows(&draft)?;
        let own = rows.remove(&self.config.member_id).filter(|row| !row.removed);
        let own = own.ok_or(Error::MemberNotFound)?;
        member::set(&mut draft, self.config.member_id, &MemberRow { is_learner: false, ..own });
        for id in rows.into_keys() {
            member::set(&mut draft, id, &MemberRow { removed: true, ..Default::default() });
        }
        let rows = draft.finish()?.rows.into_iter().collect();
        Ok(Effects { term, commit: None, rows, compact: None }.encode())
    }

    /// The multi-version state, for its readers, checkpoints and snapshots.
    #[must_use]
    pub fn state(&self) -> &State<E> {
        &self.state
    }

    /// The same, to take checkpoints, or to replace it by a snapshot while the member follows.
    /// Entries are applied through the machine only.
    pub fn state_mut(&mut self) -> &mut State<E> {
        &mut self.state
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The applied state.
    #[must_use]
    pub fn view(&self) -> View {
        self.state.view()
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> AppliedMark {
        self.state.applied()
    }

    /// The term in which the machine evaluates; `None` if it follows.
    #[must_use]
    pub fn leads_in(&self) -> Option<u64> {
        self.leading.as_ref().map(|leading| leading.term)
    }

    /// Proposals evaluated and not yet applied.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.leading.as_ref().map_or(0, |leading| leading.overlay.len())
    }

    /// Brings what the leader knows about the members, for the next change of membership.
    pub fn observe_cluster(&mut self, facts: ClusterFacts) {
        self.facts = facts;
    }

    /// Brings the size of the state, for the quota.
    pub fn observe_size(&mut self, bytes: u64) {
        self.size_bytes = bytes;
    }

    /// The member leads in `term`, and has applied an entry of that term. Every lease gets its
    /// whole TTL and the extension from `now` on; one whose end has begun is due at once.
    ///
    /// # Errors
    /// If the leases cannot be read; the member still follows then.
    ///
    /// # Panics
    /// If an entry of a later term is applied already.
    pub fn lead(&mut self, now: Duration, term: u64) -> Result<(), Error> {
        assert!(self.state.applied().term <= term, "a leader's term is the highest");
        let view = self.state.view();
        let mut deadlines = Deadlines::default();
        for (id, row) in lease::all(&Draft::new(&view, None))? {
            let ttl = lease::ttl(row.ttl_s) + self.config.limits.lease_extension;
            let ttl = if mutant::on(Mutant::NewLeaderEndsLeases) { Duration::ZERO } else { ttl };
            let over = row.ending && !mutant::on(Mutant::NewLeaderForgetsEnds);
            deadlines.set(id, if over { now } else { now + ttl });
        }
        let overlay = Overlay::default();
        self.leading = Some(Leading {
            term,
            overlay,
            deadlines,
            looked: now,
            not_before: Duration::ZERO,
            chosen: 0,
            alarms: None,
        });
        Ok(())
    }

    /// The member leads no more: what it proposed and has not applied leaves no trace.
    pub fn follow(&mut self) {
        self.leading = None;
    }

    /// Takes back the newest `count` proposals, because Raft has not taken them.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn retract(&mut self, count: usize) {
        let leading = self.leading.as_mut().expect("only a leader has proposed anything");
        for _ in 0..count {
            let pending = leading.overlay.pop_back().expect("as many proposals as are taken back");
            if let Some(
                LeaseEvent::Revoked { id, deadline: Some(deadline) }
                | LeaseEvent::RevokedInPart { id, deadline: Some(deadline) },
            ) = pending.lease
            {
                leading.deadlines.set(id, deadline);
                leading.not_before = leading.looked + lease::REFUSED;
            }
        }
        leading.alarms = None;
    }

    /// Applies the entry at `index`, which `evaluate`, `expire` or `founding` made somewhere.
    /// `now` is where the deadline of a lease that it grants begins, if this member leads.
    ///
    /// # Errors
    /// If the bytes are no effects, or do not fit here. The member must stop.
    ///
    /// # Panics
    /// If the index was applied before, or the member leads and the entry is not the oldest one
    /// in flight.
    pub fn apply(
        &mut self,
        now: Duration,
        index: u64,
        term: u64,
        effects: &Bytes,
    ) -> Result<Applied, MalformedEffects> {
        self.apply_with(now, index, term, effects, None)
    }

    /// The same, and writes a row of the caller's in the same atomic step, whatever becomes of
    /// the effects; its key must be in none of the state machine's own families. Empty effects
    /// are none.
    ///
    /// # Errors
    /// See [`Machine::apply`].
    ///
    /// # Panics
    /// See [`Machine::apply`].
    pub fn apply_with(
        &mut self,
        now: Duration,
        index: u64,
        term: u64,
        effects: &Bytes,
        row: Option<(Bytes, Option<Bytes>)>,
    ) -> Result<Applied, MalformedEffects> {
        let (batch, applied) = batch_of((index, term), effects, row, self.state.revision())?;
        self.state.apply(batch);
        if applied.is_proposal() {
            self.leader_applied(now, term, &applied);
        }
        Ok(applied)
    }

    /// An entry of this term, if the machine leads in it, is one of its proposals.
    pub(crate) fn leader_applied(&mut self, now: Duration, term: u64, applied: &Applied) {
        if let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == term) {
            leading.applied(now, applied.commit.as_ref().map(|commit| commit.revision));
        }
    }

    /// The entry at `index` is not for the state machine: it counts as applied.
    ///
    /// # Panics
    /// If the index was applied before.
    pub fn skip(&mut self, index: u64, term: u64) {
        self.state.apply(Batch { index, term, ..Batch::default() });
    }

    /// When [`Machine::expire`] has something to do next; `None` if no lease runs, or if an
    /// entry must be applied first, because as many as may be are in flight.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let leading = self.leading.as_ref()?;
        if leading.overlay.len() >= self.config.limits.max_proposals_in_flight {
            return None;
        }
        let (deadline, _) = leading.deadlines.first()?;
        Some(deadline.max(leading.not_before))
    }

    /// The effects that end the leases whose time is up, each an entry of its own, or a part of
    /// one. At most [`Limits::max_expiries_at_once`], and none more once they have
    /// [`Limits::effects_bytes_max`] or have looked at [`Limits::rows_at_once`]; call again while
    /// [`Machine::next_deadline`] has passed. One that looks at more by itself takes long.
    ///
    /// # Errors
    /// If the first of them cannot be read; if a later one, it is the next call's first.
    pub fn expire(&mut self, now: Duration) -> Result<Expired, Error> {
        let mut expired = Expired::default();
        let limits = &self.config.limits;
        let early = mutant::on(Mutant::EndEarly);
        let now = if early { now + Duration::from_secs(1) } else { now };
        let view = self.state.view();
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.not_before <= now)
        else {
            return Ok(expired);
        };
        leading.looked = now;
        let mut bytes = 0;
        let patience = Patience::new(limits.rows_at_once);
        while expired.effects.len() < limits.max_expiries_at_once
            && bytes < limits.effects_bytes_max
            && leading.overlay.len() < limits.max_proposals_in_flight
        {
            match leading.deadlines.first() {
                Some((deadline, id)) if deadline <= now => {
                    match leading.expire(&view, id, limits, &patience) {
                        Ok(effects) => {
                            bytes += effects.len();
                            expired.effects.push(effects);
                        }
                        Err(_) if patience.is_over() => {
                            expired.long = expired.effects.is_empty().then_some(Long::End(id));
                            break;
                        }
                        // Revoked in flight, and granted in flight when that was evaluated; or with a
                        // key that no entry has room for, which comes from elsewhere.
                        Err(Error::LeaseNotFound | Error::RequestTooLarge) => {
                            leading.deadlines.set(id, now + lease::AGAIN);
                        }
                        Err(error) if expired.effects.is_empty() => return Err(error),
                        Err(_) => break,
                    }
                }
                _ => break,
            }
        }
        Ok(expired)
    }

    /// The members that the applied state knows, in the order of their ids.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn members(&self) -> Result<Vec<proto::etcdserverpb::Member>, Error> {
        member::list(&Draft::new(&self.state.view(), None))
    }
}

impl Leading {
    /// Proposes what a draft has written.
    pub(crate) fn propose(
        &mut self,
        written: Written,
        compact: Option<Revision>,
        lease: Option<LeaseEvent>,
    ) -> Bytes {
        let Written { revision, changes, versions, rows, bytes } = written;
        let commit = revision.map(|revision| Commit { revision, changes });
        let list = rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        if rows.keys().any(|key| key.starts_with(meta::ALARMS)) {
            self.alarms = None;
        }
        self.overlay.push(revision, versions, rows, compact, lease);
        let effects = Effects { term: self.term, commit, rows: list, compact }.encode();
        assert!(effects.len() <= bytes, "effects are as long as was counted");
        effects
    }

    /// Proposes what a draft has written of the end of a lease. Its deadline goes; it comes back
    /// if this is retracted.
    pub(crate) fn end(&mut self, id: LeaseId, ends: Ends, written: Written) -> Bytes {
        let event = self.ended(id, ends);
        self.propose(written, None, Some(event))
    }

    fn ended(&mut self, id: LeaseId, ends: Ends) -> LeaseEvent {
        let deadline = self.deadlines.remove(id);
        match ends {
            Ends::Whole => LeaseEvent::Revoked { id, deadline },
            Ends::Part => LeaseEvent::RevokedInPart { id, deadline },
        }
    }

    /// Something was evaluated elsewhere, and is in flight alone: nobody looks for its keys in the
    /// overlay.
    pub(crate) fn propose_alone(
        &mut self,
        revision: Option<Revision>,
        ends: Option<(LeaseId, Ends)>,
    ) {
        assert_eq!(self.overlay.len(), 0, "what takes long is in flight alone");
        let event = ends.map(|(id, ends)| self.ended(id, ends));
        self.overlay.push(revision, BTreeMap::new(), BTreeMap::new(), None, event);
    }

    /// The lease's time is up: proposes its end, or as much of it as fits.
    fn expire(
        &mut self,
        view: &View,
        id: LeaseId,
        limits: &Limits,
        patience: &Patience,
    ) -> Result<Bytes, Error> {
        let draft = Draft::new(view, Some(&self.overlay));
        let mut draft = draft.within(limits.effects_bytes_max).patient(patience);
        let ends = lease::end(&mut draft, id)?;
        let written = draft.finish()?;
        Ok(self.end(id, ends, written))
    }

    fn applied(&mut self, now: Duration, revision: Option<Revision>) {
        let pending = self.overlay.pop_front().expect("an entry of this term was proposed here");
        assert_eq!(pending.revision, revision, "entries are applied in the order of proposals");
        self.not_before = Duration::ZERO;
        match pending.lease {
            Some(LeaseEvent::Granted { id, ttl_s }) => {
                self.deadlines.set(id, now + lease::ttl(ttl_s));
            }
            // It has one again if the grant was applied after the revocation was evaluated.
            Some(LeaseEvent::Revoked { id, .. }) => drop(self.deadlines.remove(id)),
            Some(LeaseEvent::RevokedInPart { id, .. }) => self.deadlines.set(id, now),
            None => {}
        }
    }
}
