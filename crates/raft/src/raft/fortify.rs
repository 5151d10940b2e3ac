//! Fortified leaders and their range lease: followers that stand by a leader without being told
//! every moment that it is there.
//!
//! Timers for each group cost as much for those that sleep as for those that work. So a leader
//! asks each follower, once, to *bind* itself: to vote for nobody else, to leave the term for no
//! candidate, and not to campaign, for as long as its store supports the leader's store. Stores
//! tell each other that they are there, once for all their groups; this module knows of stores
//! only that their support has an *epoch* and, at the leader's, an end.
//!
//! ```text
//!   leader                                                 follower
//!              --- Fortify --->                            SupportWanted --> its store
//!                              <--- Fortified(e) ---       Supported(e); leaves with the write
//!   counts it  --- Counted(e), commit --->                 that holds the binding (term, leader, e)
//!                                                          no deadline any more
//!   ends       --- Release --->                            free, by timers again
//!                              <--- Released ---
//! ```
//!
//! A leader sends no heartbeats to a follower that is bound and *quiet*: has acknowledged the whole
//! log and is known to know what is committed. With all followers bound and quiet, or gone, a group
//! has no deadline anywhere. Where anything of this is missing, timers do as they always did.
//!
//! # The range lease
//!
//! [`Raft::lease`] is the time until which the stores of a quorum of voters, in both halves of a
//! joint membership, support the leader's store, each under the very epoch that its replica is
//! bound under. The leader itself counts too: it knows whether it leads.
//!
//! *Claim.* While a leader of term T has a lease, nobody has been elected in a later term. Take the
//! first in time who was.
//! 1. The membership it was elected by and the one the lease is computed under are the same, or
//!    neighbours (see `membership.rs`): the elected has delivered every change that it knows to be
//!    committed, and the next change but one can only be proposed by a leader that has delivered
//!    the one before. So some voter is in both quorums. It is not the leader: that one would not
//!    lead T any more.
//! 2. That voter was bound in T under an epoch e which the leader counts on now, so its store has
//!    not acted on a withdrawal of e (`store::liveness`). It had entered the later term before it
//!    bound itself, but then it could not have bound itself in T; or after. Then it left T
//!    - for a message of a leader of a later term: there is none before the first;
//!    - because the leader of T had ended its leadership, but it has a lease now, and nobody leads
//!      a term twice: whoever leads T was its candidate before and never will be again;
//!    - because it delivered the removal of the leader, and knew an entry of T behind it to be
//!      committed. Only that leader can have committed that in T, and with it the removal. From
//!      then on it had no lease (there is none while a change may be committed and not delivered),
//!      until it delivered the removal, and led no more.
//! 3. A restart changes nothing: the binding is on disk before it is told.
//!
//! So a new leader need not wait for anything but its own entry.
//!
//! *Release is final.* A leader that hands over ends its leadership first. It does not come back in
//! its term, so a release, or a vote by transfer, can be late without harm.
//!
//! *Until* is a promise only as long as the membership stands. A change might leave the support of
//! the new quorum shorter than what was promised under the old, and the one after it would not
//! overlap with the old at all. So a change waits until the lease under the present membership has
//! come as far as any that was given out in the term, or those have run out.
//!
//! # Nobody waits for ever
//!
//! - The leader asks again with every heartbeat, and heartbeats go to whoever is not bound.
//! - The follower repeats its answer at its election timeout until the leader counts on it. After
//!   a restart it begins with that, and when it refuses a candidate: a leader that is none any more
//!   answers with a release, and one that is, with what is committed.
//! - A leader that ends repeats its release, ever more slowly, until it is answered or another leads.
//!   If it restarts instead, its store asks under a higher epoch, which ends the support of the one
//!   before.
//! - A former leader that campaigns shows by it that it does not lead, and a later leader shows
//!   that nobody else does.
//! - A follower whose store withdraws its support has timers again, and what that leader still says does not
//!   set them back: its disk may hang, and all others write what it sends (a store asks for support no more
//!   when its own record cannot be written). Once it binds itself anew, or in another term, that is over.
//! - A follower that does not answer though its store is there, as when its disk hangs, is asked ever so often
//!   (`PROBE_TIMEOUTS`), and when it is heard of.
//! - A leader whose own write is not done for an election timeout ends its leadership, if the others are a
//!   quorum without it.
//!
//! # Caveats
//!
//! - A replica that led and was removed must go on until its releases are answered (see the
//!   [crate's page](crate): until all members have applied the change). A store answers for
//!   replicas that it does not host.
//! - Learners bind themselves too: they may be promoted.
//! - A leader that has lost the support of a quorum goes on for an election timeout, by what it
//!   hears, before CheckQuorum ends it. It has no lease in that time.
//!
//! # Sources
//!
//! The idea is CockroachDB's (fortified leaders and leader leases, 2024), there with ticks for each
//! group and a term's support that can be re-formed after a transfer; here a release is final.

use std::sync::Arc;
use std::time::Duration;

use crate::mutants::Mutant;
use crate::types::{Binding, Body, Epoch, Event, Membership, ReplicaId, RoleKind, Term};

use super::leader::Leader;
use super::receive::is_from_leader;
use super::{Raft, Role};

/// Followers of a leadership that has ended, to be told so until they answer.
#[derive(Debug)]
pub(super) struct Releasing {
    waiting: Vec<ReplicaId>,
    pub(super) deadline: Duration,
    /// How often it was repeated; each time is twice as far away.
    repeats: u8,
}

/// What a leader owes to a peer so that it stays a follower, and is one that can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Heartbeats,
    /// One now and then: it does not answer, and the others are enough.
    Probes,
}

/// Election timeouts between two probes of a peer that is silent.
const PROBE_TIMEOUTS: u32 = 8;

/// So often the time between repeated releases is doubled: 64 election timeouts.
const RELEASE_DOUBLED_MAX: u8 = 6;

/// What a leader has said of its lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// The furthest it has ever said in the term, and under the present membership.
    given: Duration,
    given_in_force: Duration,
    /// When a joint membership that waits for the lease to run out may be left.
    pub(super) change_deadline: Option<Duration>,
    /// For a known mistake: the membership of when the term began.
    founding: Option<Arc<Membership>>,
}

impl Lease {
    pub(super) fn membership_changed(&mut self) {
        self.given_in_force = Duration::ZERO;
    }
}

/// The follower's side.
impl Raft {
    /// The leader of this term asks.
    pub(super) fn on_fortify(&mut self, from: ReplicaId) {
        if self.config.fortify && self.released < self.term {
            self.out.events.push(Event::SupportWanted { term: self.term, leader: from });
        }
    }

    /// The store supports the leader's store.
    pub(super) fn on_supported(&mut self, term: Term, leader: ReplicaId, epoch: Epoch) {
        let follows =
            matches!(self.role, Role::Follower { leader: Some(known), .. } if known == leader);
        if term != self.term || !follows || self.released >= term {
            return;
        }
        if self.binding.is_some_and(|binding| binding.epoch > epoch) {
            return;
        }
        self.binding = Some(Binding { leader, epoch });
        self.withdrawn = false;
        self.poll = None;
        self.tell_that_it_stands_by();
    }

    pub(super) fn on_counted(&mut self, from: ReplicaId, epoch: Epoch) {
        self.counted_on |= self.binding == Some(Binding { leader: from, epoch });
    }

    /// Whether the leader counts on it is not known yet: perhaps there is none any more.
    pub(super) fn on_bound_timeout(&mut self) {
        if !self.counted_on && self.now >= self.election_deadline {
            self.tell_that_it_stands_by();
        }
    }

    /// Somebody campaigns: is the leader that it stands by still there?
    pub(super) fn doubt_leader(&mut self) {
        if self.counted_on {
            self.tell_that_it_stands_by();
        }
    }

    fn tell_that_it_stands_by(&mut self) {
        let Some(Binding { leader, epoch }) = self.binding else { return };
        self.counted_on = false;
        self.reset_election_deadline();
        self.send_when_durable(leader, Body::Fortified { epoch });
    }

    pub(super) fn on_support_withdrawn(&mut self, epoch: Epoch) {
        if self.binding.is_some_and(|binding| binding.epoch <= epoch) {
            self.unbind();
            self.withdrawn = true;
        }
    }

    /// Whether others' campaigns are none of its business.
    pub(super) fn is_bound(&self) -> bool {
        self.binding.is_some() && !self.broken(Mutant::VoteThoughBound)
    }

    /// Whether a message of a later term must not take it there: it might vote in that term. A
    /// leader of that term was elected without it; and what the leader it is bound to says in a
    /// later term, or a vote that it asked for with its last word, says that it leads no more.
    pub(super) fn binding_forbids(&self, from: ReplicaId, body: &Body) -> bool {
        let Some(binding) = self.binding else { return false };
        let leadership_is_over = is_from_leader(body)
            || matches!(body, Body::TimeoutNow | Body::Vote { transfer: true, .. })
            || from == binding.leader;
        !leadership_is_over && !self.broken(Mutant::VoteThoughBound)
    }

    /// A pre-vote from the leader it is bound to, in that term or later: so it leads no more. In
    /// its term it was a candidate before it led, and asked for pre-votes in the term before.
    pub(super) fn unbind_from_former_leader(&mut self, from: ReplicaId, term: Term) {
        if term >= self.term && self.binding.is_some_and(|binding| binding.leader == from) {
            self.unbind();
        }
    }

    /// A leader that has removed itself ends its leadership when it learns so, and had no lease from
    /// when it committed that. That it has is known when an entry of its term is known to be
    /// committed, and no change up to there is outstanding. A membership without the leader alone
    /// says nothing: it may be history, delivered again after a restart, and the leader a member
    /// again since.
    pub(super) fn unbind_from_removed(&mut self) {
        let Some(binding) = self.binding else { return };
        let removed = !self.membership.voters.is_empty()
            && !self.membership.is_voter(binding.leader)
            && !self.has_undelivered_change()
            && self.log.committed_position().term == self.term;
        if removed {
            self.unbind();
        }
    }

    pub(super) fn on_release(&mut self, from: ReplicaId) {
        self.send(from, Body::Released);
        let followed =
            matches!(self.role, Role::Follower { leader: Some(leader), .. } if leader == from);
        if followed {
            self.released = self.term;
            self.binding = None;
            self.forget_leader();
        }
    }

    /// The end of a binding within its term.
    pub(super) fn unbind(&mut self) {
        if self.binding.take().is_some() {
            self.forget_leader();
        }
    }

    fn forget_leader(&mut self) {
        self.counted_on = false;
        // The next write will not hold what they claim.
        self.then.retain(|message| !matches!(message.body, Body::Fortified { .. }));
        self.leader_contact = None;
        self.reset_election_deadline();
        if let Role::Follower { leader: leader @ Some(_), .. } = &mut self.role {
            *leader = None;
            let role = RoleKind::Follower;
            self.out.events.push(Event::Role { role, term: self.term, leader: None });
        }
    }
}

/// The leader's side.
impl Raft {
    /// Asks those to bind themselves who have not been asked, or are to be asked again.
    pub(super) fn ask_to_stand_by(&mut self) {
        let fortify = self.config.fortify;
        let Role::Leader(leader) = &mut self.role else { return };
        let to_ask = leader.peers.iter_mut().filter(|(_, peer)| peer.ask && fortify);
        let to_ask = to_ask.map(|(id, peer)| {
            peer.ask = false;
            id
        });
        for to in to_ask.collect::<Vec<ReplicaId>>() {
            self.send(to, Body::Fortify);
        }
    }

    pub(super) fn on_fortified(&mut self, from: ReplicaId, epoch: Epoch) {
        let (now, commit) = (self.now, self.log.committed_position());
        if !self.is_leader() {
            return self.send_release(from);
        }
        let Some(peer) = self.peer_mut(from) else { return };
        peer.fortified = peer.fortified.max(Some(epoch));
        peer.contact = now;
        self.send(from, Body::Counted { epoch, commit });
    }

    pub(super) fn on_peer_absent(&mut self, id: ReplicaId) {
        let now = self.now;
        if let Some(peer) = self.peer_mut(id) {
            peer.lapsed(now);
        }
    }

    pub(super) fn on_peer_present(&mut self, id: ReplicaId, epoch: Epoch) {
        if let Some(peer) = self.peer_mut(id) {
            peer.present(epoch);
        }
    }

    /// Heartbeats to those who need them; asks those again who are not bound.
    pub(super) fn beat(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let probes = leader.probe_deadline.is_some_and(|deadline| self.now >= deadline);
        let in_need = leader.peers.ids().filter(|&id| match self.need(leader, id) {
            Need::Heartbeats => true,
            Need::Probes => probes,
            Need::Nothing => false,
        });
        let in_need: Vec<ReplicaId> = in_need.collect();
        if let Some(leader) = self.as_leader_mut().filter(|_| probes) {
            leader.probe_deadline = None;
        }
        self.send_heartbeats(|id| in_need.contains(&id));
        for id in in_need {
            if let Some(peer) = self.peer_mut(id) {
                peer.ask |= peer.fortified.is_none();
            }
        }
    }

    fn need(&self, leader: &Leader, id: ReplicaId) -> Need {
        let Some(peer) = leader.peers.get(id) else { return Need::Nothing };
        if !self.config.fortify {
            return Need::Heartbeats;
        }
        let timeout = self.config.election_timeout;
        let quiet = peer.is_quiet(self.log.last_index(), self.log.committed())
            && !leader.reads.wait_for(peer.round);
        let at_rest = quiet && peer.stands_by();
        if at_rest || peer.is_absent(self.now, timeout) {
            Need::Nothing
        } else if peer.is_silent(self.now, 2 * timeout) && self.is_stood_by(leader) {
            Need::Probes
        } else {
            Need::Heartbeats
        }
    }

    /// Whether time has to pass for this leader: somebody needs heartbeats, a quorum has to answer them, or
    /// its own disk has to.
    pub(super) fn rest_or_beat(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let needs = |need| leader.peers.ids().any(|id| self.need(leader, id) == need);
        let (in_need, silent) = (needs(Need::Heartbeats), needs(Need::Probes));
        let check = self.config.check_quorum;
        let alone = check && !self.is_stood_by(leader);
        let writes = check && self.writes.oldest().is_some();
        let beats = in_need || alone || writes;
        let waits = self.membership.auto_leave && !self.support_has_caught_up(leader);
        let change_deadline = waits.then_some(leader.lease.given);
        let deadline = self.now + self.config.heartbeat_interval;
        let Role::Leader(leader) = &mut self.role else { return };
        if beats && !leader.beats {
            leader.heartbeat_deadline = deadline;
        }
        leader.beats = beats;
        let probe = self.now + self.config.election_timeout * PROBE_TIMEOUTS;
        leader.probe_deadline = silent.then(|| leader.probe_deadline.unwrap_or(probe));
        leader.lease.change_deadline = change_deadline;
    }

    /// Whether a quorum is bound to this leader and its stores have not lapsed.
    fn is_stood_by(&self, leader: &Leader) -> bool {
        let own = self.config.id;
        let stands_by = |id: ReplicaId| {
            let peer = leader.peers.get(id);
            Some(id == own || peer.is_some_and(|peer| peer.stands_by()))
        };
        self.quorums().verdict(stands_by) == quorum::Verdict::Won
    }

    /// Until when this replica holds the range lease; `None` if it does not hold it. `support`
    /// tells until when the store of a replica supports this replica's store under this epoch, if
    /// it does.
    ///
    /// What is read from applied state may be served if the lease stands at a time that was taken
    /// *after* the reading. The end may come earlier than told if this replica ceases to lead, so
    /// ask again each time. What the replica says for itself is an election timeout from `now` on,
    /// which only the lease of a sole voter shows.
    pub fn lease(
        &mut self,
        now: Duration,
        support: impl Fn(ReplicaId, Epoch) -> Option<Duration>,
    ) -> Option<Duration> {
        self.now = self.now.max(now);
        let (own, own_until) = (self.config.id, self.now + self.config.election_timeout);
        let Role::Leader(leader) = &self.role else { return None };
        let applied =
            self.log.committed() >= leader.term_start && self.log.applied() >= leader.term_start;
        let serves = (applied || self.broken(Mutant::LeaseBeforeTermApplied))
            && (leader.transfer.is_none() || self.broken(Mutant::ReleasedBeforeServingEnds))
            && !self.has_undelivered_change()
            && self.membership.is_voter(own)
            && self.stopped.is_none();
        if !serves {
            return None;
        }
        let until = |id: ReplicaId| {
            if id == own {
                return Some(own_until);
            }
            let unbound = self.broken(Mutant::LeaseCountsUnbound).then_some(Epoch(u64::MAX));
            support(id, leader.peers.get(id)?.fortified.or(unbound)?)
        };
        let membership = leader.lease.founding.as_deref().unwrap_or(&self.membership);
        let mut quorums = super::election::quorums(membership);
        if self.broken(Mutant::LeaseOfHalfAJoint) {
            quorums.outgoing = quorums.incoming;
        }
        let until = quorums.reached(until).definite()?;
        let founding =
            self.broken(Mutant::LeaseUnderOldMembership).then(|| self.membership.clone());
        let lease = &mut self.as_leader_mut()?.lease;
        lease.given = lease.given.max(until);
        lease.given_in_force = lease.given_in_force.max(until);
        if lease.founding.is_none() {
            lease.founding = founding;
        }
        Some(until)
    }

    /// Whether those of its voters for whom `of` holds make a quorum, of both halves if the
    /// membership is joint.
    pub fn is_quorum(&self, of: impl Fn(ReplicaId) -> bool) -> bool {
        self.quorums().verdict(|id| Some(of(id))) == quorum::Verdict::Won
    }

    /// Whether no lease that was given out under an earlier membership goes further than those of
    /// the present one.
    pub(super) fn support_has_caught_up(&self, leader: &Leader) -> bool {
        let Lease { given, given_in_force, .. } = leader.lease;
        given_in_force >= given || self.now >= given
    }

    /// The leadership of those is over: they need not stand by it.
    pub(super) fn release(&mut self, waiting: Vec<ReplicaId>) {
        if !self.config.fortify || waiting.is_empty() {
            return;
        }
        for &to in &waiting {
            self.send_release(to);
        }
        let deadline = self.now + self.config.election_timeout;
        self.releasing = Some(Box::new(Releasing { waiting, deadline, repeats: 0 }));
    }

    /// When [`Raft::release_again`] is to be called next, by a driver that steps no
    /// [`Input::Timeout`](crate::Input::Timeout) because no election could be won; `None` if everybody is released.
    pub fn release_deadline(&self) -> Option<Duration> {
        self.releasing.as_ref().map(|releasing| releasing.deadline)
    }

    /// Repeats the release of those that have not answered, if it is time.
    pub fn release_again(&mut self, now: Duration) {
        self.now = self.now.max(now);
        let timeout = self.config.election_timeout;
        let Some(releasing) = &mut self.releasing else { return };
        if self.now < releasing.deadline {
            return;
        }
        releasing.repeats = releasing.repeats.saturating_add(1).min(RELEASE_DOUBLED_MAX);
        releasing.deadline = self.now + timeout * (1 << releasing.repeats);
        for to in releasing.waiting.clone() {
            self.send_release(to);
        }
    }

    /// A release speaks of all terms up to the present one: so it is for those only who never will
    /// lead in that. If a candidate or a leader said so,
    /// 1. a candidate of T, a leader before, releases B from then;
    /// 2. it is elected in T, and B binds itself to it in T;
    /// 3. the release, of term T, comes late to B and sets it free, and the leader counts on it.
    pub(super) fn send_release(&mut self, to: ReplicaId) {
        if matches!(self.role, Role::Follower { .. } | Role::PreCandidate(_))
            || self.broken(Mutant::ReleasedByCandidate)
        {
            self.send(to, Body::Release);
        }
    }

    /// A follower that asks for pre-votes in this term is not bound, whatever it said; nor is one that
    /// asks for votes in a later one.
    pub(super) fn is_not_stood_by(&mut self, from: ReplicaId, term: Term) {
        if term == self.term
            && let Some(peer) = self.peer_mut(from)
        {
            peer.fortified = None;
            peer.ask = true;
        }
    }

    pub(super) fn on_released(&mut self, from: ReplicaId) {
        let Some(releasing) = &mut self.releasing else { return };
        releasing.waiting.retain(|&id| id != from);
        if releasing.waiting.is_empty() {
            self.releasing = None;
        }
    }
}
