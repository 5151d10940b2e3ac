//! Messages: validation, the comparison of terms, and the way to each role.
//!
//! `receive` settles the term once (Raft §5.1: "if one server's current term is smaller than the
//! other's, then it updates its current term to the larger value"), so that everything behind it
//! deals with messages of its own term only. Two kinds stand apart: a pre-vote is a question
//! about a term nobody is in, and must move nobody's term (thesis §9.6). And whoever is bound to a
//! leader leaves its term for a later leader, not for a candidate.

use crate::error::Stopped;
use crate::mutants::Mutant;
use crate::types::{Body, Entry, LogIndex, LogPosition, Message, ReplicaId, Term};

use super::{Raft, Role};

/// Terms and indexes from here on are taken for garbage; at a million a second the first is
/// reached in 146,000 years.
const IMPLAUSIBLE: u64 = 1 << 62;

impl Raft {
    pub(super) fn receive(&mut self, message: Message) -> Result<(), Stopped> {
        if message.to != self.config.id || message.from == self.config.id || !sane(&message) {
            return Ok(());
        }
        let Message { from, term, body, .. } = message;
        let now = self.now;
        if let Some(peer) = self.peer_mut(from) {
            peer.heard(now);
        }
        match body {
            Body::PreVote { campaign_term, last } => {
                self.unbind_from_former_leader(from, term);
                self.is_not_stood_by(from, term);
                self.on_pre_vote(from, campaign_term, last);
                return Ok(());
            }
            Body::PreVoteResponse { campaign_term, granted, commit } => {
                self.learn_commit(commit)?;
                self.on_pre_vote_response(from, term, campaign_term, granted);
                return Ok(());
            }
            _ => {}
        }
        if term < self.term {
            self.answer_stale(from, &body);
            return Ok(());
        }
        if term > self.term {
            if matches!(body, Body::Vote { transfer: false, .. }) && self.hears_leader() {
                // Thesis §4.2.3: a server that hears from a current leader neither updates its
                // term nor grants its vote. But whoever has left the term does not stand by its
                // leader, whatever it said.
                self.is_not_stood_by(from, self.term);
                return Ok(());
            }
            if self.broken(Mutant::TermTakenInPassing) && self.is_leader() {
                self.term = term;
                return Ok(());
            }
            if self.binding_forbids(from, &body) {
                return Ok(());
            }
            let leader = is_from_leader(&body).then_some(from);
            self.become_follower(term, leader);
        }
        if is_from_leader(&body) {
            self.heard_leader(from)?;
        }
        self.receive_in_term(from, body)
    }

    fn receive_in_term(&mut self, from: ReplicaId, body: Body) -> Result<(), Stopped> {
        match body {
            Body::Vote { last, .. } => self.on_vote(from, last),
            Body::VoteResponse { granted, commit } => {
                self.learn_commit(commit)?;
                self.on_vote_response(from, granted);
            }
            Body::Append { session, prev, entries, commit } => {
                return self.on_append(from, session, prev, entries, commit);
            }
            Body::AppendAccepted { session, matched } => self.on_accepted(from, session, matched),
            Body::AppendRejected { session, rejected, hint } => {
                self.on_rejected(from, session, rejected, hint);
            }
            Body::Heartbeat { commit, round } => {
                self.learn_commit(commit)?;
                let commit = self.log.committed();
                self.send(from, Body::HeartbeatResponse { round, commit });
            }
            Body::HeartbeatResponse { round, commit } => {
                self.on_heartbeat_response(from, round, commit);
            }
            Body::Commit { commit } => self.learn_commit(commit)?,
            Body::InstallSnapshot { session, snapshot } => {
                return self.on_install_snapshot(from, session, *snapshot);
            }
            Body::TimeoutNow => self.on_timeout_now(from),
            Body::Fortify => self.on_fortify(from),
            Body::Fortified { epoch } => self.on_fortified(from, epoch),
            Body::Counted { epoch, commit } => {
                self.learn_commit(commit)?;
                self.on_counted(from, epoch);
            }
            Body::Release => self.on_release(from),
            Body::Released => self.on_released(from),
            Body::StaleTerm | Body::PreVote { .. } | Body::PreVoteResponse { .. } => {}
        }
        Ok(())
    }

    /// A message of an earlier term does nothing here, but its sender may have to learn that its
    /// term is over: a leader that cannot be heard of otherwise (followers stand by it), or a
    /// candidate.
    fn answer_stale(&mut self, from: ReplicaId, body: &Body) {
        match body {
            Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::InstallSnapshot { .. }
            | Body::Fortify
            | Body::Release => self.send(from, Body::StaleTerm),
            // It is bound in a term that is over, and may have nobody else to tell it.
            Body::Fortified { .. } => self.send_release(from),
            Body::Vote { .. } => self.send(from, self.vote_response(false)),
            _ => {}
        }
    }

    /// The sender leads this term.
    fn heard_leader(&mut self, from: ReplicaId) -> Result<(), Stopped> {
        let known = match &mut self.role {
            Role::Leader(_) => Some(self.config.id),
            Role::Follower { leader: leader @ None, .. } => {
                *leader = Some(from);
                let event = crate::Event::Role {
                    role: crate::RoleKind::Follower,
                    term: self.term,
                    leader: Some(from),
                };
                self.out.events.push(event);
                None
            }
            Role::Follower { leader, .. } => *leader,
            Role::PreCandidate(ballots) if self.withdrawn => {
                // The leader whose store has lost its support speaks. It is followed, but the question stands.
                let poll = std::mem::take(ballots);
                let deadline = self.election_deadline;
                self.become_follower(self.term, Some(from));
                self.election_deadline = deadline;
                self.poll = Some(Box::new(poll));
                None
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.become_follower(self.term, Some(from));
                None
            }
        };
        if let Some(known) = known.filter(|&known| known != from) {
            return Err(Stopped::TwoLeaders { term: self.term, known, other: from });
        }
        // Following is as good as having voted for it: it closes the term to other candidates
        // even if this replica restarts.
        self.vote = self.vote.or(Some(from));
        self.releasing = None;
        self.leader_contact = Some(self.now);
        if !self.withdrawn {
            self.reset_election_deadline();
        }
        Ok(())
    }

    /// Whether a leader of this term was heard of lately: then nobody else's campaign is
    /// supported. A leader hears itself; it steps down if it hears no quorum. One whose store has lost the
    /// support of this replica's is not heard.
    pub(super) fn hears_leader(&self) -> bool {
        let lately = |contact| self.now < contact + self.config.election_timeout;
        self.config.check_quorum
            && (self.is_leader()
                || (self.leader().is_some()
                    && (!self.withdrawn || self.broken(Mutant::WithdrawnHearsLeader))
                    && self.leader_contact.is_some_and(lately)))
    }
}

/// Messages that only a leader of their term sends. `TimeoutNow` is one too, but says nothing
/// about the leader's presence.
pub(super) fn is_from_leader(body: &Body) -> bool {
    matches!(
        body,
        Body::Append { .. }
            | Body::Heartbeat { .. }
            | Body::Commit { .. }
            | Body::InstallSnapshot { .. }
            | Body::Fortify
            | Body::Counted { .. }
    )
}

/// Whether a message makes sense by itself. What does not is dropped: it comes from a bug or
/// from a hand that is not a replica's, and nothing is known about it.
fn sane(message: &Message) -> bool {
    if message.term.0 >= IMPLAUSIBLE {
        return false;
    }
    let term_ok = |term: Term| term.0 < IMPLAUSIBLE;
    let index_ok = |index: LogIndex| index.0 < IMPLAUSIBLE;
    let position_ok = |at: LogPosition| at.term <= message.term && index_ok(at.index);
    match &message.body {
        Body::PreVote { campaign_term, last } => {
            *campaign_term == message.term.next() && position_ok(*last)
        }
        Body::PreVoteResponse { campaign_term, commit, .. } => {
            term_ok(*campaign_term) && position_ok(*commit)
        }
        Body::Vote { last, .. } => position_ok(*last),
        Body::Append { session, prev, entries, commit } => {
            index_ok(session.0)
                && position_ok(*prev)
                && index_ok(*commit)
                && consecutive(*prev, entries, message.term)
        }
        Body::AppendAccepted { session, matched } => index_ok(session.0) && index_ok(*matched),
        Body::AppendRejected { session, rejected, hint } => {
            index_ok(session.0) && index_ok(*rejected) && index_ok(hint.index)
        }
        Body::Heartbeat { commit, round } => position_ok(*commit) && *round < IMPLAUSIBLE,
        Body::Commit { commit } | Body::VoteResponse { commit, .. } => position_ok(*commit),
        Body::Fortified { epoch } => epoch.0 < IMPLAUSIBLE,
        Body::Counted { epoch, commit } => epoch.0 < IMPLAUSIBLE && position_ok(*commit),
        Body::InstallSnapshot { session, snapshot } => {
            index_ok(session.0)
                && position_ok(snapshot.position)
                && snapshot.membership.check().is_ok()
        }
        Body::HeartbeatResponse { commit, .. } => index_ok(*commit),
        Body::TimeoutNow | Body::StaleTerm | Body::Fortify | Body::Release | Body::Released => true,
    }
}

/// Whether the entries follow `prev` one by one, in terms that never fall and are not above the
/// sender's.
fn consecutive(prev: LogPosition, entries: &[Entry], term: Term) -> bool {
    let mut before = prev;
    for entry in entries {
        if entry.index != before.index.next() || entry.term < before.term || entry.term > term {
            return false;
        }
        before = entry.position();
    }
    true
}
