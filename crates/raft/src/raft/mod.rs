//! The replica: its state, and the way from inputs to [`Ready`].
//!
//! Inputs change state at once; what follows from it for others (appends, notices, the write) is
//! collected when the driver asks with [`Raft::ready`]. So a driver that steps many inputs before
//! asking gets one write and one message to each peer for all of them.
//!
//! Each file beside this one is one concept of the protocol, as further methods of [`Raft`].

mod deliver;
mod election;
mod follower;
mod fortify;
mod leader;
mod membership;
mod reads;
mod receive;
mod snapshot;
mod transfer;

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Refused, RestoreError, Stopped};
use crate::log::Log;
use crate::mutants::Mutant;
use crate::pcg::Pcg;
use crate::progress::Flow;
use crate::types::{
    Binding, Body, Entry, Epoch, Event, FetchId, HardState, Input, LogIndex, LogPosition,
    Membership, Message, Payload, Persist, Ready, ReplicaId, Restored, RoleKind, SnapshotMeta,
    Term,
};
use crate::writes::Writes;
use election::Ballots;
use follower::PendingAck;
use fortify::Releasing;
use leader::Leader;

/// Where accepted proposals will be in the log, if they are committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Index of the first; the others follow.
    pub first_index: LogIndex,
    /// Their term. An entry of another term at that index is somebody else's.
    pub term: Term,
}

/// A role owns what is known in it, so leaving the role forgets it.
#[derive(Debug)]
enum Role {
    Follower { leader: Option<ReplicaId>, ack: Option<PendingAck> },
    PreCandidate(Ballots),
    Candidate(Ballots),
    Leader(Box<Leader>),
}

impl Role {
    fn kind(&self) -> RoleKind {
        match self {
            Self::Follower { .. } => RoleKind::Follower,
            Self::PreCandidate(_) => RoleKind::PreCandidate,
            Self::Candidate(_) => RoleKind::Candidate,
            Self::Leader(_) => RoleKind::Leader,
        }
    }
}

/// Entries handed out to be applied and not reported applied yet.
#[derive(Debug, Default)]
struct Applying {
    /// Last entry and bytes of each batch.
    batches: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

/// A campaign that was asked for: in which term, and whether by the leader that hands over.
#[derive(Clone, Copy, Debug)]
struct Postponed {
    term: Term,
    transfer: bool,
}

/// What the next [`Ready`] is made of: out of line, as most replicas have nothing to say for long.
#[derive(Debug, Default)]
struct Out(Option<Box<Ready>>);

static NOTHING: Ready = Ready {
    persist: None,
    messages: Vec::new(),
    committed: Vec::new(),
    reads: Vec::new(),
    failed_reads: Vec::new(),
    fetch: Vec::new(),
    snapshots: Vec::new(),
    events: Vec::new(),
};

impl Out {
    fn take(&mut self) -> Ready {
        self.0.as_deref_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Gives back its room, if there is nothing in it.
    fn release(&mut self) {
        self.0.take_if(|ready| **ready == NOTHING);
    }
}

impl Deref for Out {
    type Target = Ready;

    fn deref(&self) -> &Ready {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Out {
    fn deref_mut(&mut self) -> &mut Ready {
        self.0.get_or_insert_default()
    }
}

/// One replica of one group.
///
/// It does nothing by itself: see the [crate's page](crate) for how to drive it.
#[derive(Debug)]
pub struct Raft {
    /// Shared by the many replicas of a node.
    config: Arc<Config>,
    /// The latest time given; never goes back.
    now: Duration,
    pcg: Pcg,
    term: Term,
    vote: Option<ReplicaId>,
    /// To the leader of `term`.
    binding: Option<Binding>,
    /// That leader has told, in this life, that it counts on the binding.
    counted_on: bool,
    /// Its store has withdrawn its support from that leader's, and this replica has not bound itself anew.
    withdrawn: bool,
    /// Pre-votes that it asked for since, though it hears that leader meanwhile.
    poll: Option<Box<Ballots>>,
    /// The latest term whose leader has released this replica: it binds itself to it no more.
    released: Term,
    /// Followers that an ended leadership has not seen released yet.
    releasing: Option<Box<Releasing>>,
    role: Role,
    /// Replicas of a node that have the same may share it.
    membership: Arc<Membership>,
    /// The entry with which the membership took effect, or a later one.
    membership_at: LogIndex,
    log: Log,
    writes: Writes,
    applying: Applying,
    /// A snapshot that was accepted and is not handed out to be written yet.
    accepted_snapshot: Option<Box<SnapshotMeta>>,
    /// Entries after this and up to here may contain membership changes.
    membership_entries_to: LogIndex,
    /// When to campaign, unless a leader is heard of before.
    election_deadline: Duration,
    /// How often in a row pre-votes were refused, and nobody's leadership was heard of.
    futile: u8,
    /// Whether this pre-campaign was refused by anybody.
    refused: bool,
    /// A campaign that was asked for and waits for deliveries.
    postponed_campaign: Option<Postponed>,
    /// When a leader of this term was last heard of.
    leader_contact: Option<Duration>,
    next_fetch: FetchId,
    /// A read of the log for delivery that is under way, and what it brought.
    delivery_fetch: Option<FetchId>,
    delivery_fetched: Vec<Entry>,
    out: Out,
    /// Messages that wait for the next write.
    then: Vec<Message>,
    stopped: Option<Stopped>,
}

impl Raft {
    /// A replica that starts, or starts again, as a follower.
    ///
    /// # Errors
    /// If the settings are unusable or `restored` contradicts itself; the latter means that the
    /// log or the application's state was damaged or lost.
    pub fn new(now: Duration, config: Config, restored: Restored) -> Result<Self, RestoreError> {
        let seed = config.seed;
        Self::sharing(now, Arc::new(config), seed, restored)
    }

    /// The same, with settings that it shares with other replicas, but for the seed.
    ///
    /// # Errors
    /// As [`Raft::new`].
    pub fn sharing(
        now: Duration,
        config: Arc<Config>,
        seed: u64,
        restored: Restored,
    ) -> Result<Self, RestoreError> {
        config.check().map_err(RestoreError::Config)?;
        restored.membership.check().map_err(RestoreError::Membership)?;
        let HardState { term, vote, binding, .. } = restored.hard_state;
        let hard_state = restored.hard_state;
        let membership = Arc::new(restored.membership.clone());
        // Unless the recent entries tell otherwise, any entry not applied may change membership.
        let known_from = restored.entries.first().map(|entry| entry.index);
        let last_known_change = restored
            .entries
            .iter()
            .rev()
            .find(|entry| matches!(entry.payload, Payload::Membership(_)))
            .map(|entry| entry.index);
        let membership_entries_to = match known_from {
            Some(first) if first <= restored.applied.next() => {
                last_known_change.unwrap_or(restored.applied)
            }
            _ => restored.last_index,
        };
        let mut raft = Self {
            now,
            pcg: Pcg::new(seed),
            term,
            vote,
            binding,
            counted_on: false,
            withdrawn: false,
            poll: None,
            released: Term::ZERO,
            releasing: None,
            role: Role::Follower { leader: binding.map(|binding| binding.leader), ack: None },
            membership,
            membership_at: restored.applied,
            log: Log::restore(restored)?,
            writes: Writes::new(hard_state),
            applying: Applying::default(),
            accepted_snapshot: None,
            membership_entries_to,
            election_deadline: now,
            futile: 0,
            refused: false,
            postponed_campaign: None,
            leader_contact: None,
            next_fetch: FetchId(1),
            delivery_fetch: None,
            delivery_fetched: Vec::new(),
            out: Out::default(),
            then: Vec::new(),
            stopped: None,
            config,
        };
        raft.reset_election_deadline();
        Ok(raft)
    }

    /// Takes in what happened. `now` is monotonic time since an epoch of the caller's choice.
    ///
    /// # Errors
    /// [`Stopped`] once evidence of broken safety has been seen, now or earlier.
    pub fn step(&mut self, now: Duration, input: Input) -> Result<(), Stopped> {
        if let Some(stopped) = self.stopped {
            return Err(stopped);
        }
        self.now = self.now.max(now);
        let result = match input {
            Input::Receive(message) => self.receive(message),
            Input::Fetched { id, entries } => self.fetched(id, entries),
            other => {
                self.step_local(other);
                Ok(())
            }
        };
        if let Err(stopped) = result {
            self.stopped = Some(stopped);
            self.out = Out::default();
            self.then.clear();
        }
        result
    }

    /// Inputs that cannot bring evidence of broken safety.
    fn step_local(&mut self, input: Input) {
        match input {
            Input::Timeout => self.on_timeout(),
            Input::LogWritten(token) => self.on_log_written(token),
            Input::Applied(index) => self.on_applied(index),
            Input::SnapshotSent { to, outcome } => self.on_snapshot_sent(to, outcome),
            Input::Campaign => self.on_campaign_wanted(),
            Input::TransferLeadership { to } => self.on_transfer(to),
            Input::ReadIndex(ctx) => self.on_read_index(ctx),
            Input::Truncate(position) => self.log.truncate_to(position),
            Input::PeerUnreachable(id) => self.on_peer_unreachable(id),
            Input::Supported { term, leader, epoch } => self.on_supported(term, leader, epoch),
            Input::SupportWithdrawn { epoch } => self.on_support_withdrawn(epoch),
            Input::PeerAbsent(id) => self.on_peer_absent(id),
            Input::PeerPresent { id, epoch } => self.on_peer_present(id, epoch),
            Input::Receive(_) | Input::Fetched { .. } => unreachable!("stepped elsewhere"),
        }
    }

    /// When to step [`Input::Timeout`] next, if nothing happens before; `None` if time alone
    /// changes nothing. To be asked again after every step, proposal and ready.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        let own = match &self.role {
            Role::Leader(leader) => leader.next_deadline(),
            // Whoever is bound waits for its store, once its leader counts on it.
            _ if self.binding.is_some() => (!self.counted_on).then_some(self.election_deadline),
            _ if self.membership.is_voter(self.config.id) => Some(self.election_deadline),
            _ => None,
        };
        let release = self.releasing.as_ref().map(|releasing| releasing.deadline);
        own.into_iter().chain(release).min()
    }

    /// Work for the driver, or `None` if there is none. One call may not return all there is;
    /// ask until it returns `None`.
    pub fn ready(&mut self) -> Option<Ready> {
        if self.stopped.is_some() {
            return None;
        }
        self.deliver();
        self.unbind_from_removed();
        self.campaign_if_postponed();
        self.flush_leader();
        self.flush_ack();
        self.flush_write();
        self.log.evict(self.config.recent_bytes_max);
        let ready = self.out.take();
        (ready != Ready::default()).then_some(ready)
    }

    /// Holds its membership together with another replica that has the same: for a driver with many
    /// replicas. It changes with each for itself.
    pub fn share_membership(&mut self, other: &Self) {
        if self.membership == other.membership {
            self.membership = Arc::clone(&other.membership);
        }
    }

    /// Gives back the memory of recent entries that are durable and committed, though some may
    /// have to be fetched again: for a driver with many idle replicas, or little memory left.
    pub fn release_recent(&mut self) {
        self.out.release();
        self.log.evict(0);
        self.log.shrink();
        self.writes.shrink();
        self.applying.batches.shrink_to_fit();
        if let Role::Leader(leader) = &mut self.role {
            leader.peers.iter_mut().for_each(|(_, peer)| peer.window.shrink());
        }
    }

    /// Collects what has to be written, and what has to wait for it.
    fn flush_write(&mut self) {
        let snapshot = self.accepted_snapshot.take().map(|snapshot| *snapshot);
        let written = self.writes.hard_state();
        let (term, vote, binding) = (self.term, self.vote, self.binding);
        let hard_state = HardState { term, vote, commit: self.log.committed(), binding };
        assert!(
            binding.is_none() || self.role.kind() == RoleKind::Follower,
            "only followers stand by"
        );
        // That a binding has ended need not be known after a restart: whoever is bound then asks.
        let bound_anew = binding.is_some() && written.binding != binding;
        let ballot_changed = (written.term, written.vote) != (term, vote) || bound_anew;
        let log_changed = snapshot.is_some() || self.log.has_unwritten();
        if !ballot_changed && !log_changed && self.then.is_empty() {
            return;
        }
        // The commit index travels along: a log that holds a later membership change must know,
        // after a restart too, that the one before it is committed.
        let hard_state = (ballot_changed || (log_changed && written.commit != hard_state.commit))
            .then_some(hard_state);
        let entries = self.log.hand_out();
        let entries_to = log_changed.then(|| self.log.last_index());
        let token = self.writes.begin(self.now, hard_state, entries_to);
        let hard_state = hard_state.map(|state| HardState {
            vote: state.vote.filter(|_| !self.broken(Mutant::VoteForgotten)),
            binding: state.binding.filter(|_| !self.broken(Mutant::BindingNotPersisted)),
            ..state
        });
        let then = std::mem::take(&mut self.then);
        self.out.persist = Some(Persist { token, hard_state, snapshot, entries, then });
    }

    fn on_log_written(&mut self, token: crate::WriteToken) {
        if let Some(index) = self.writes.complete(token) {
            let last = self.log.last_index();
            assert!(index <= last || self.broken(Mutant::OverwrittenCountsDurable));
            self.log.durable_to(index.min(last));
            self.maybe_commit();
        }
        self.count_own_vote();
    }

    fn on_applied(&mut self, index: LogIndex) {
        self.log.applied_to(index);
        let applying = &mut self.applying;
        while applying.batches.front().is_some_and(|&(last, _)| last <= index) {
            applying.bytes -= applying.batches.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn on_timeout(&mut self) {
        self.release_again(self.now);
        match &self.role {
            Role::Leader(_) => self.on_leader_timeout(),
            _ if self.binding.is_some() => self.on_bound_timeout(),
            _ if self.now < self.election_deadline => {}
            _ => self.on_election_timeout(),
        }
    }

    fn fetched(&mut self, id: FetchId, entries: Vec<Entry>) -> Result<(), Stopped> {
        if self.delivery_fetch == Some(id) {
            self.delivery_fetch = None;
            return self.fetched_for_delivery(entries);
        }
        self.fetched_for_peer(id, entries);
        Ok(())
    }

    fn new_fetch(&mut self) -> FetchId {
        let id = self.next_fetch;
        self.next_fetch = FetchId(id.0 + 1);
        id
    }

    /// A message that is free to go.
    ///
    /// Whoever is bound to this replica takes any word of it from a later term for the end of its
    /// leadership in the earlier one. So the word must not outlive the term:
    /// 1. A leads term 4, hears of 5, refuses a candidate in it, and crashes before 5 is on disk;
    /// 2. it starts again in 4, is elected in 5, and B binds itself to it;
    /// 3. the refusal, late, sets B free while A counts on it.
    fn send(&mut self, to: ReplicaId, body: Body) {
        if self.config.fortify && !self.writes.is_term_durable(self.term) {
            return self.send_when_durable(to, body);
        }
        let message = Message { from: self.config.id, to, term: self.term, body };
        self.out.messages.push(message);
    }

    /// A message that must not leave before the present term, vote and log are durable.
    fn send_when_durable(&mut self, to: ReplicaId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.term, body };
        self.then.push(message);
    }

    /// The one place where role and term change hands. The vote only changes besides to be given
    /// within a term that has none.
    fn enter(&mut self, term: Term, vote: Option<ReplicaId>, role: Role) {
        assert!(term >= self.term, "terms never fall");
        if term > self.term {
            // What waits for a write speaks of a term that is over.
            self.then.clear();
            self.leader_contact = None;
            self.binding = None;
            self.withdrawn = false;
        } else {
            let kept = self.vote.is_none() || self.vote == vote;
            assert!(kept || self.broken(Mutant::VoteErasedAtStepDown), "one vote for each term");
        }
        self.poll = None;
        self.term = term;
        self.vote = vote;
        let left = std::mem::replace(&mut self.role, role);
        if let Role::Leader(leader) = left {
            self.left_leadership(*leader);
        }
        let leader = self.leader();
        self.futile = if leader.is_some() { 0 } else { self.futile };
        self.out.events.push(Event::Role { role: self.role.kind(), term, leader });
    }

    #[cfg(feature = "mutants")]
    fn broken(&self, mutant: Mutant) -> bool {
        self.config.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call with and without mutants")]
    const fn broken(&self, _: Mutant) -> bool {
        false
    }
}

/// What others may ask of a replica.
impl Raft {
    /// Who this replica is.
    pub fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// The settings it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The term it is in.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it voted for in this term.
    pub fn vote(&self) -> Option<ReplicaId> {
        self.vote
    }

    /// Whom it is bound to in this term.
    pub fn binding(&self) -> Option<Binding> {
        self.binding
    }

    /// Whether its store has withdrawn its support from the store of this term's leader, and the replica has not
    /// bound itself anew: then no word of that leader keeps it from campaigning.
    pub fn has_withdrawn(&self) -> bool {
        self.withdrawn
    }

    /// The role it plays.
    pub fn role(&self) -> RoleKind {
        self.role.kind()
    }

    /// Whether it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Who leads its term, as far as it knows.
    pub fn leader(&self) -> Option<ReplicaId> {
        match &self.role {
            Role::Follower { leader, .. } => *leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.id),
        }
    }

    /// The membership as of the last delivered entry.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The position before the first entry of its log.
    pub fn truncated(&self) -> LogPosition {
        self.log.truncated()
    }

    /// The end of its log.
    pub fn last(&self) -> LogPosition {
        self.log.last()
    }

    /// The term of the entry at this index, if its log retains it.
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        self.log.term(index)
    }

    /// The last entry it knows to be committed.
    pub fn committed(&self) -> LogIndex {
        self.log.committed()
    }

    /// The last entry it knows to be durable on its own disk.
    pub fn durable(&self) -> LogIndex {
        self.log.durable()
    }

    /// The last entry it handed out to be applied.
    pub fn delivered(&self) -> LogIndex {
        self.log.delivered()
    }

    /// The last entry it was told is applied.
    pub fn applied(&self) -> LogIndex {
        self.log.applied()
    }

    /// Bytes of entries it holds in memory.
    pub fn recent_bytes(&self) -> usize {
        self.log.tail_bytes()
    }

    /// Whether an entry of its own term is committed, if it leads: from then on its commit
    /// index is at least that of every leader before it.
    pub fn is_term_committed(&self) -> bool {
        self.as_leader().is_some_and(|leader| self.log.committed() >= leader.term_start)
    }

    /// Why it has stopped, if it has.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// What a leader knows of its peers, in order of their ids; nothing on other roles.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        self.as_leader().into_iter().flat_map(|leader| leader.peers.iter()).map(|(id, progress)| {
            let (inflight_messages, inflight_bytes) = progress.window.usage();
            PeerStatus {
                id,
                matched: progress.matched,
                next: progress.next,
                flow: match progress.flow {
                    Flow::Probe { .. } => PeerFlow::Probe,
                    Flow::Replicate => PeerFlow::Replicate,
                    Flow::Snapshot => PeerFlow::Snapshot,
                },
                contact: progress.contact,
                fortified: progress.fortified,
                inflight_messages,
                inflight_bytes,
            }
        })
    }

    fn as_leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    fn as_leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    fn not_leader(&self) -> Refused {
        match self.stopped {
            Some(_) => Refused::Stopped,
            None => Refused::NotLeader { leader: self.leader() },
        }
    }
}

/// How a leader feeds a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFlow {
    /// Looking for the place where the logs agree, one append at a time.
    Probe,
    /// Streaming.
    Replicate,
    /// Waiting for a snapshot to arrive there.
    Snapshot,
}

/// What a leader knows of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: ReplicaId,
    /// Its log equals the leader's up to here, durably.
    pub matched: LogIndex,
    /// The next entry to send.
    pub next: LogIndex,
    /// How it is fed.
    pub flow: PeerFlow,
    /// When something was last heard of it.
    pub contact: Duration,
    /// It is bound to this leader under this epoch.
    pub fortified: Option<Epoch>,
    /// Appends under way to it.
    pub inflight_messages: usize,
    /// Their bytes.
    pub inflight_bytes: usize,
}
