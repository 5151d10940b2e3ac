//! The leader's side of replication: proposing, feeding peers, committing.
//!
//! Peers are fed when the driver asks for work, not when something is proposed, so a batch of
//! proposals leaves as one append to each peer. The leader's own write goes on at the same time
//! (thesis §10.2.1); it counts towards the quorum when it is durable, like anyone's.

use std::time::Duration;

use crate::config::Config;
use crate::error::{MembershipRefused, Refused};
use crate::log::Log;
use crate::mutants::Mutant;
use crate::progress::{Flow, Peers, Progress, Rejection};
use crate::types::{
    Body, Entry, Event, FetchId, FetchRequest, LogIndex, LogPosition, Message, Payload, Ready,
    ReplicaId, SendSnapshot, Session, Term,
};

use super::fortify::Lease;
use super::reads::Reads;
use super::transfer::Transfer;
use super::{Proposed, Raft, Role};

/// What only a leader knows.
#[derive(Debug)]
pub(super) struct Leader {
    /// All other members.
    pub(super) peers: Peers,
    /// The entry with which the term began.
    pub(super) term_start: LogIndex,
    pub(super) heartbeat_deadline: Duration,
    /// Whether anybody needs heartbeats, or their answers are needed.
    pub(super) beats: bool,
    /// When those that are silent are to be asked once more.
    pub(super) probe_deadline: Option<Duration>,
    pub(super) lease: Lease,
    pub(super) transfer: Option<Transfer>,
    pub(super) reads: Reads,
    /// No membership change may be proposed before this entry is delivered.
    pub(super) no_change_before: LogIndex,
    /// Bytes of this term's entries that are not delivered.
    undelivered_bytes: usize,
}

impl Leader {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let heartbeat = (self.beats && !self.peers.is_empty()).then_some(self.heartbeat_deadline);
        let transfer = self.transfer.as_ref().map(|transfer| transfer.deadline);
        let others = [heartbeat, transfer, self.probe_deadline, self.lease.change_deadline];
        others.into_iter().flatten().min()
    }

    pub(super) fn delivered(&mut self, entry: &Entry) {
        if entry.index >= self.term_start {
            self.undelivered_bytes = self.undelivered_bytes.saturating_sub(entry.size_bytes());
        }
    }
}

impl Raft {
    pub(super) fn become_leader(&mut self) {
        let term_start = self.log.last_index().next();
        let own = self.config.id;
        let others = self.membership.members().into_iter().filter(|&id| id != own);
        let mut peers = Peers::default();
        peers.set(others, || Progress::new(Session(term_start), term_start, self.now));
        let leader = Leader {
            peers,
            term_start,
            heartbeat_deadline: self.now + self.config.heartbeat_interval,
            beats: true,
            probe_deadline: None,
            lease: Lease::default(),
            transfer: None,
            reads: Reads::default(),
            no_change_before: if self.broken(Mutant::MembershipBeforeTermCommitted) {
                LogIndex::ZERO
            } else {
                term_start
            },
            undelivered_bytes: 0,
        };
        self.releasing = None;
        self.enter(self.term, self.vote, Role::Leader(Box::new(leader)));
        // Raft §8: a leader learns what is committed by committing an entry of its own term.
        self.append_own([Payload::Empty]);
    }

    /// What follows for others when leadership ends.
    pub(super) fn left_leadership(&mut self, leader: Leader) {
        self.fail_reads(leader.reads);
        self.release(leader.peers.ids().collect());
        if let Some(transfer) = leader.transfer {
            self.transfer_ended(transfer.to, crate::TransferOutcome::Yielded);
        }
    }

    /// Appends proposals to the log, in order, all or none. They are committed when they come
    /// out of [`Ready::committed`] under their index *and term*; if another term shows up there
    /// they are lost.
    ///
    /// # Errors
    /// [`Refused`]; nothing was appended.
    pub fn propose(&mut self, now: Duration, payloads: Vec<Payload>) -> Result<Proposed, Refused> {
        self.now = self.now.max(now);
        self.check_proposal(&payloads)?;
        let first_index = self.log.last_index().next();
        self.append_own(payloads);
        Ok(Proposed { first_index, term: self.term })
    }

    fn check_proposal(&self, payloads: &[Payload]) -> Result<(), Refused> {
        let (None, Role::Leader(leader)) = (self.stopped, &self.role) else {
            return Err(self.not_leader());
        };
        if let Some(transfer) = &leader.transfer {
            return Err(Refused::Transferring { to: transfer.to });
        }
        let bytes: usize = payloads.iter().map(Payload::size_bytes).sum();
        let undelivered = leader.undelivered_bytes;
        if undelivered > 0 && undelivered + bytes > self.config.uncommitted_bytes_max {
            return Err(Refused::TooManyUncommitted);
        }
        // What a quorum has committed and the own disk has not is held in memory, too.
        let waits = self.log.durable() < self.log.last_index();
        let held_max =
            self.config.recent_bytes_max.saturating_add(self.config.uncommitted_bytes_max);
        if waits && self.log.tail_bytes() + bytes > held_max {
            return Err(Refused::TooManyUncommitted);
        }
        let mut changes = payloads.iter().filter_map(|payload| match payload {
            Payload::Membership(change) => Some(change),
            _ => None,
        });
        if let Some(change) = changes.next() {
            self.check_change(leader, change)?;
        }
        match changes.next() {
            Some(_) => Err(MembershipRefused::SeveralInBatch.into()),
            None => Ok(()),
        }
    }

    /// Appends entries of the own term.
    pub(super) fn append_own(&mut self, payloads: impl IntoIterator<Item = Payload>) {
        let mut bytes = 0;
        for payload in payloads {
            let index = self.log.last_index().next();
            bytes += payload.size_bytes();
            let is_change = matches!(payload, Payload::Membership(_));
            self.append(Entry { index, term: self.term, payload });
            if let (true, Some(leader)) = (is_change, self.as_leader_mut()) {
                leader.no_change_before = index;
            }
        }
        let leader = self.as_leader_mut().expect("only a leader appends of its own");
        leader.undelivered_bytes += bytes;
    }

    /// Moves the commit index to what a quorum has made durable, if that is of this term
    /// (Raft §5.4.2: "only log entries from the leader's current term are committed by counting
    /// replicas").
    pub(super) fn maybe_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let (own, durable) = (self.config.id, self.log.durable());
        let matched = |id: ReplicaId| {
            if id == own { Some(durable) } else { leader.peers.get(id).map(|p| p.matched) }
        };
        let reached = if self.broken(Mutant::CommitWithoutQuorum) {
            self.membership.voters.iter().filter_map(|&id| matched(id)).max()
        } else if self.broken(Mutant::QuorumBySortShortcut) {
            crate::mutants::middle(self.membership.voters.iter().map(|&id| matched(id)))
        } else {
            self.quorums().reached(matched).definite()
        };
        let committed = self.log.committed();
        let own_term = |index: &LogIndex| {
            *index >= leader.term_start || self.broken(Mutant::CommitOldTermByCounting)
        };
        let Some(index) = reached.filter(|&index| index > committed).filter(own_term) else {
            return;
        };
        let first = committed < leader.term_start && index >= leader.term_start;
        self.log.commit_to(index);
        if first {
            self.out.events.push(Event::TermCommitted { term: self.term });
        }
    }

    pub(super) fn on_accepted(&mut self, from: ReplicaId, session: Session, matched: LogIndex) {
        let (now, last, truncated) = (self.now, self.log.last_index(), self.log.truncated());
        let any_session = self.broken(Mutant::SessionIgnored);
        let Some(peer) = self.peer_mut(from) else { return };
        if (peer.session != session && !any_session) || matched > last {
            return;
        }
        peer.contact = now;
        let news = peer.accepted(matched);
        if peer.flow == Flow::Snapshot && matched >= truncated.index {
            // It has come far enough by other means to be fed from the log again.
            peer.probe_from(peer.matched.next());
            peer.flow = Flow::Replicate;
        }
        if news {
            self.maybe_commit();
            self.transfer_if_caught_up(from);
        }
    }

    pub(super) fn on_rejected(
        &mut self,
        from: ReplicaId,
        session: Session,
        rejected: LogIndex,
        hint: LogPosition,
    ) {
        // Where our log and the peer's can agree, given the peer's hint. If that is truncated,
        // stepping before the truncated part makes the next feeding ask for a snapshot.
        let truncated = self.log.truncated().index;
        let agree = match self.log.latest_not_after(hint) {
            Some(position) => position.index,
            None => truncated.prev().unwrap_or_default(),
        };
        let now = self.now;
        let Some(peer) = self.peer_mut(from) else { return };
        if peer.session != session {
            return;
        }
        peer.contact = now;
        let lost = peer.rejected(rejected, agree) == Rejection::Lost;
        if lost && !std::mem::replace(&mut peer.loss_told, true) {
            let acknowledged = peer.matched;
            self.out.events.push(Event::EntriesLost { peer: from, acknowledged });
        }
    }

    pub(super) fn on_heartbeat_response(&mut self, from: ReplicaId, round: u64, commit: LogIndex) {
        let now = self.now;
        let Some(leader) = self.as_leader_mut() else { return };
        let last_round = leader.reads.last_round();
        let Some(peer) = leader.peers.get_mut(from) else { return };
        peer.contact = now;
        peer.commit_known = peer.commit_known.max(commit);
        peer.heartbeat_answered();
        if round > peer.round && round <= last_round {
            peer.round = round;
            self.confirm_reads();
        }
        self.transfer_if_caught_up(from);
    }

    pub(super) fn on_peer_unreachable(&mut self, id: ReplicaId) {
        if let Some(peer) = self.peer_mut(id)
            && peer.flow == Flow::Replicate
        {
            peer.probe_from(peer.matched.next());
            peer.pause();
        }
    }

    pub(super) fn peer_mut(&mut self, id: ReplicaId) -> Option<&mut Progress> {
        self.as_leader_mut()?.peers.get_mut(id)
    }

    pub(super) fn on_leader_timeout(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let deadline = self.now + self.config.heartbeat_interval;
        let probes = leader.probe_deadline.is_some_and(|deadline| self.now >= deadline);
        if self.now >= leader.heartbeat_deadline || probes {
            let waits = self.is_held_up() && !self.broken(Mutant::LeaderWaitsForDisk);
            let of_use = self.hears_quorum(leader) && !waits;
            if self.config.check_quorum && !of_use {
                self.become_follower(self.term, None);
                return;
            }
            self.beat();
            if let Some(leader) = self.as_leader_mut() {
                leader.heartbeat_deadline = deadline;
            }
        }
        self.abort_late_transfer();
    }

    /// Whether a write of its own is not done for an election timeout, and the others could go on without it.
    /// A leader that waits for its disk cannot tell how long, and keeps what it cannot write in memory.
    fn is_held_up(&self) -> bool {
        let own = self.config.id;
        let overdue = |begun| self.now >= begun + self.config.election_timeout;
        self.writes.oldest().is_some_and(overdue) && self.is_quorum(|id| id != own)
    }

    /// Thesis §6.2: "a leader steps down if an election timeout elapses without a successful
    /// round of heartbeats to a majority of its cluster".
    fn hears_quorum(&self, leader: &Leader) -> bool {
        let heard = self.quorums().reached(|id| match leader.peers.get(id) {
            Some(peer) if !peer.stands_by() => Some(peer.contact),
            Some(_) => Some(self.now),
            None => (id == self.config.id).then_some(self.now),
        });
        heard.definite().is_none_or(|heard| self.now < heard + self.config.election_timeout)
    }

    /// Heartbeats to those peers; all of them carry the latest round of read confirmation.
    pub(super) fn send_heartbeats(&mut self, to: impl Fn(ReplicaId) -> bool) {
        let commit = self.log.committed_position();
        let Role::Leader(leader) = &mut self.role else { return };
        let body = Body::Heartbeat { commit, round: leader.reads.last_round() };
        let (from, term) = (self.config.id, self.term);
        for (id, peer) in leader.peers.iter_mut().filter(|&(id, _)| to(id)) {
            if peer.prev() >= commit.index {
                peer.commit_told = peer.commit_told.max(commit.index);
            }
            self.out.messages.push(Message { from, to: id, term, body: body.clone() });
        }
    }

    pub(super) fn flush_leader(&mut self) {
        if !self.is_leader() {
            return;
        }
        self.leave_joint_if_due();
        self.start_read_round();
        let Role::Leader(leader) = &mut self.role else { return };
        let mut feeder = Feeder {
            config: &self.config,
            term: self.term,
            membership_at: self.membership_at,
            log: &self.log,
            next_fetch: &mut self.next_fetch,
            out: &mut self.out,
        };
        for (to, peer) in leader.peers.iter_mut() {
            feeder.feed(to, peer);
        }
        self.ask_to_stand_by();
        self.rest_or_beat();
        self.step_down_if_removed();
    }

    pub(super) fn fetched_for_peer(&mut self, id: FetchId, entries: Vec<Entry>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(peer) =
            leader.peers.iter_mut().map(|(_, peer)| peer).find(|peer| peer.fetch == Some(id))
        else {
            return;
        };
        peer.fetch = None;
        let fits = entries.first().is_some_and(|first| first.index == peer.next)
            && entries.windows(2).all(|pair| pair[1].index == pair[0].index.next())
            && entries.iter().all(|entry| self.log.holds(entry.position()));
        if fits {
            peer.fetched = entries;
        } else {
            // Truncated in the meantime, most likely. Try again when a heartbeat is answered.
            peer.probe_from(peer.matched.next());
            peer.pause();
        }
    }
}

/// Sends a peer what it may be sent.
struct Feeder<'a> {
    config: &'a Config,
    term: Term,
    membership_at: LogIndex,
    log: &'a Log,
    next_fetch: &'a mut FetchId,
    out: &'a mut Ready,
}

impl Feeder<'_> {
    fn feed(&mut self, to: ReplicaId, peer: &mut Progress) {
        match peer.flow {
            Flow::Snapshot | Flow::Probe { waiting: true } => {}
            Flow::Probe { waiting: false } => {
                if self.append_next(to, peer) {
                    peer.pause();
                }
            }
            Flow::Replicate => {
                let config = self.config;
                let full = |peer: &Progress| {
                    peer.window.is_full(config.inflight_messages_max, config.inflight_bytes_max)
                };
                while peer.next <= self.log.last_index() && !full(peer) {
                    if !self.append_next(to, peer) {
                        return;
                    }
                }
                if std::mem::take(&mut peer.recheck) {
                    self.append(to, peer, Vec::new());
                }
                self.tell_commit(to, peer);
            }
        }
    }

    /// Sends the append that begins with the peer's next entry. Says whether one left; if not,
    /// entries have to be fetched first, or a snapshot sent.
    fn append_next(&mut self, to: ReplicaId, peer: &mut Progress) -> bool {
        let last = self.log.last_index();
        assert!(peer.next <= last.next(), "a peer is fed what is in the log");
        if peer.prev() < self.log.truncated().index {
            self.snapshot(to, peer);
            return false;
        }
        let bytes_max = self.config.append_bytes_max;
        let entries = if peer.next > last {
            Vec::new()
        } else if let Some(entries) = self.log.recent(peer.next, last, bytes_max) {
            entries
        } else if peer.fetched.first().is_some_and(|first| first.index == peer.next) {
            std::mem::take(&mut peer.fetched)
        } else {
            self.fetch(to, peer);
            return false;
        };
        self.append(to, peer, entries);
        true
    }

    /// What comes next is truncated.
    fn snapshot(&mut self, to: ReplicaId, peer: &mut Progress) {
        peer.await_snapshot();
        // A snapshot from before it became a member would be of no use to it.
        let at_least = self.log.truncated().index.max(self.membership_at);
        let (term, session) = (self.term, peer.session);
        self.out.snapshots.push(SendSnapshot { to, term, session, at_least });
    }

    fn append(&mut self, to: ReplicaId, peer: &mut Progress, entries: Vec<Entry>) {
        let prev_index = peer.prev();
        let Some(prev_term) = self.log.term(prev_index) else {
            return self.snapshot(to, peer);
        };
        let prev = LogPosition { index: prev_index, term: prev_term };
        if let Some(last) = entries.last()
            && peer.flow == Flow::Replicate
        {
            peer.next = last.index.next();
            peer.window.add(last.index, entries.iter().map(Entry::size_bytes).sum());
        }
        let (commit, session) = (self.log.committed(), peer.session);
        let covered = entries.last().map_or(prev_index, |last| last.index);
        peer.commit_told = peer.commit_told.max(commit.min(covered));
        self.send(to, Body::Append { session, prev, entries, commit });
    }

    fn fetch(&mut self, to: ReplicaId, peer: &mut Progress) {
        if peer.fetch.is_some() {
            return;
        }
        let id = *self.next_fetch;
        *self.next_fetch = FetchId(id.0 + 1);
        peer.fetch = Some(id);
        peer.fetched.clear();
        self.out.fetch.push(FetchRequest {
            id,
            peer: Some(to),
            first: peer.next,
            last: self.log.last_before_recent(),
            bytes_max: self.config.append_bytes_max,
        });
    }

    /// Tells what is committed to a peer that was sent all of it, unless an append just did.
    fn tell_commit(&mut self, to: ReplicaId, peer: &mut Progress) {
        let commit = self.log.committed();
        if peer.commit_told < commit && peer.prev() >= commit {
            peer.commit_told = commit;
            self.send(to, Body::Commit { commit: self.log.committed_position() });
        }
    }

    fn send(&mut self, to: ReplicaId, body: Body) {
        let message = Message { from: self.config.id, to, term: self.term, body };
        self.out.messages.push(message);
    }
}
