//! Elections: pre-vote, vote, and what starts them.
//!
//! A follower that hears of no leader first asks whether it could win (thesis §9.6), without
//! touching anyone's term; only then does it take a new term and ask for votes (Raft §5.2).
//!
//! A vote is a promise that has to survive a crash. A request for votes in term T carries one
//! too, the candidate's own: it leaves only when term and vote are durable. If it left earlier:
//! 1. A asks for votes in T; its log ends with entry e, which is not durable yet.
//! 2. B grants. e is committed by others, on the strength of copies elsewhere.
//! 3. A crashes and forgets T, its vote and e; it campaigns in T again, with a log without e.
//! 4. B's answer to the first request arrives, and A leads without a committed entry.

use std::collections::BTreeMap;
use std::time::Duration;

use quorum::{Joint, Verdict};

use crate::mutants::Mutant;
use crate::types::{Body, LogPosition, Membership, ReplicaId, Term};

use super::{Postponed, Raft, Role};

/// The answers to a (pre-)candidate; the first of each voter counts.
#[derive(Debug, Default)]
pub(super) struct Ballots(BTreeMap<ReplicaId, bool>);

impl Ballots {
    fn record(&mut self, from: ReplicaId, granted: bool) {
        self.0.entry(from).or_insert(granted);
    }

    fn verdict(&self, quorums: Joint<'_, ReplicaId>) -> Verdict {
        quorums.verdict(|voter| self.0.get(&voter).copied())
    }
}

/// The quorums of a membership.
pub(super) fn quorums(membership: &Membership) -> Joint<'_, ReplicaId> {
    Joint { incoming: &membership.voters, outgoing: &membership.voters_outgoing }
}

/// So often the time between futile campaigns is doubled, but for the first: 32 election timeouts.
const FUTILE_MAX: u8 = 6;

impl Raft {
    /// The quorums that decide here and now.
    pub(super) fn quorums(&self) -> Joint<'_, ReplicaId> {
        static NOBODY: std::collections::BTreeSet<ReplicaId> = std::collections::BTreeSet::new();
        if self.broken(Mutant::JointHalfIgnored) {
            return Joint { incoming: &self.membership.voters, outgoing: &NOBODY };
        }
        quorums(&self.membership)
    }

    /// Draws the next election deadline from [timeout, 2 timeouts) (Raft §5.2: "election
    /// timeouts are chosen randomly from a fixed interval").
    pub(super) fn reset_election_deadline(&mut self) {
        let base = self.config.election_timeout;
        let base_us = u32::try_from(base.as_micros()).unwrap_or(u32::MAX);
        let jitter = Duration::from_micros(u64::from(self.pcg.below(base_us)));
        self.election_deadline = self.now + base + jitter;
    }

    /// A replica that starts and knows of no leader campaigns `after` this, and a little more, if it
    /// hears of none: for a driver that lets one of the voters go first. No other timeout is meant.
    pub fn campaign_after(&mut self, now: Duration, after: Duration) {
        self.now = self.now.max(now);
        let knows_nobody =
            matches!(self.role, Role::Follower { leader: None, .. }) && self.binding.is_none();
        if knows_nobody {
            let most = self.config.election_timeout / 4;
            let most_us = u32::try_from(most.as_micros()).unwrap_or(u32::MAX).max(1);
            let jitter = Duration::from_micros(u64::from(self.pcg.below(most_us)));
            self.election_deadline = self.now + after + jitter;
        }
    }

    pub(super) fn become_follower(&mut self, term: Term, leader: Option<ReplicaId>) {
        // A step-down within the term keeps the vote.
        let erased = term > self.term || self.broken(Mutant::VoteErasedAtStepDown);
        let vote = if erased { None } else { self.vote };
        self.enter(term, vote, Role::Follower { leader, ack: None });
        self.reset_election_deadline();
    }

    pub(super) fn on_election_timeout(&mut self) {
        self.reset_election_deadline();
        if self.config.fortify && std::mem::take(&mut self.refused) {
            self.back_off();
        }
        self.on_campaign();
    }

    /// Somebody refuses, again and again: it stands by a leader that does not reach this replica,
    /// or has the longer log. If the leader goes, whoever stood by it campaigns itself, in its own
    /// time. So there is no hurry here, where each attempt costs the others a write.
    fn back_off(&mut self) {
        self.futile = self.futile.saturating_add(1).min(FUTILE_MAX);
        let wait = self.election_deadline.saturating_sub(self.now);
        self.election_deadline = self.now + wait * (1 << self.futile.saturating_sub(1));
    }

    fn on_campaign(&mut self) {
        if self.is_leader() || !self.may_campaign() {
            return;
        }
        if self.config.pre_vote { self.pre_campaign() } else { self.campaign(false) }
    }

    /// The driver asks for a campaign: at once, or when what has to be delivered before is.
    pub(super) fn on_campaign_wanted(&mut self) {
        let free = !self.is_leader() && self.binding.is_none();
        if free && self.membership.is_voter(self.config.id) {
            let wanted = Postponed { term: self.term, transfer: false };
            self.postponed_campaign.get_or_insert(wanted);
        }
    }

    /// Only a voter may lead. And whoever knows that a membership change is committed counts
    /// votes by it, not by an older membership: so it waits until it is delivered.
    fn may_campaign(&self) -> bool {
        self.membership.is_voter(self.config.id)
            && self.binding.is_none()
            && (!self.has_undelivered_change() || self.broken(Mutant::CampaignUndelivered))
    }

    /// Whether a membership change may be known to be committed and is not delivered.
    pub(super) fn has_undelivered_change(&self) -> bool {
        self.log.delivered() < self.log.committed()
            && self.log.delivered() < self.membership_entries_to
    }

    fn pre_campaign(&mut self) {
        self.refused = false;
        let mut ballots = Ballots::default();
        ballots.record(self.config.id, true);
        self.enter(self.term, self.vote, Role::PreCandidate(ballots));
        let body = Body::PreVote { campaign_term: self.term.next(), last: self.log.last() };
        for to in self.other_voters() {
            self.send(to, body.clone());
        }
        self.count_pre_votes();
    }

    /// Takes a new term and asks for votes (Raft §5.2).
    fn campaign(&mut self, transfer: bool) {
        let role = Role::Candidate(Ballots::default());
        self.enter(self.term.next(), Some(self.config.id), role);
        self.reset_election_deadline();
        let body = Body::Vote { last: self.log.last(), transfer };
        for to in self.other_voters() {
            if self.broken(Mutant::VoteRequestBeforeDurable) {
                self.send(to, body.clone());
            } else {
                self.send_when_durable(to, body.clone());
            }
        }
        if self.broken(Mutant::VoteRequestBeforeDurable) {
            self.on_vote_response(self.config.id, true);
        }
    }

    /// The candidate's own vote counts when it is durable, like every other.
    pub(super) fn count_own_vote(&mut self) {
        let own = self.config.id;
        if let Role::Candidate(_) = self.role
            && self.writes.is_durable(self.term, Some(own))
        {
            self.on_vote_response(own, true);
        }
    }

    fn other_voters(&self) -> Vec<ReplicaId> {
        let membership = &self.membership;
        let voters = membership.voters.union(&membership.voters_outgoing);
        voters.copied().filter(|&id| id != self.config.id).collect()
    }

    pub(super) fn on_pre_vote(&mut self, from: ReplicaId, campaign_term: Term, last: LogPosition) {
        let granted = campaign_term > self.term
            && last.at_least_as_up_to_date_as(self.log.last())
            && !self.hears_leader()
            && !self.is_bound();
        self.doubt_leader();
        let commit = self.log.committed_position();
        self.send(from, Body::PreVoteResponse { campaign_term, granted, commit });
    }

    pub(super) fn on_pre_vote_response(
        &mut self,
        from: ReplicaId,
        term: Term,
        campaign_term: Term,
        granted: bool,
    ) {
        if !granted && term > self.term && !self.is_bound() {
            // The answer comes from a term ahead of ours: no campaign can be won before we are
            // in it too.
            self.become_follower(term, None);
            return;
        }
        let ballots = match &mut self.role {
            Role::PreCandidate(ballots) => Some(ballots),
            _ => self.poll.as_deref_mut(),
        };
        if let Some(ballots) = ballots.filter(|_| campaign_term == self.term.next()) {
            ballots.record(from, granted);
            self.refused |= !granted;
            self.count_pre_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        let ballots = match &self.role {
            Role::PreCandidate(ballots) => ballots,
            _ => match &self.poll {
                Some(poll) if self.may_campaign() => poll,
                _ => return,
            },
        };
        match ballots.verdict(self.quorums()) {
            Verdict::Won => {
                self.campaign(false);
                if self.broken(Mutant::PreVoteTakenForVote) {
                    self.become_leader();
                }
            }
            Verdict::Lost if self.poll.take().is_some() => {}
            Verdict::Lost => self.concede(),
            Verdict::Open => {}
        }
    }

    /// Back to following, with the deadline that stands.
    fn concede(&mut self) {
        self.enter(self.term, self.vote, Role::Follower { leader: None, ack: None });
    }

    pub(super) fn on_vote(&mut self, from: ReplicaId, last: LogPosition) {
        let free = self.vote.is_none() && self.leader().is_none();
        let own = self.log.last();
        let up_to_date = if self.broken(Mutant::VoteWithoutLogCheck) {
            true
        } else if self.broken(Mutant::VoteByLengthFirst) {
            last.index >= own.index
        } else {
            last.at_least_as_up_to_date_as(own)
        };
        let again = self.vote == Some(from) || self.broken(Mutant::VoteGivenTwice);
        let granted = up_to_date && (free || again) && !self.is_bound();
        if !granted {
            self.send(from, self.vote_response(granted));
            return;
        }
        self.vote = Some(from);
        if matches!(self.role, Role::PreCandidate(_)) {
            self.concede();
        }
        self.reset_election_deadline();
        if self.writes.is_durable(self.term, self.vote) {
            self.send(from, self.vote_response(granted));
        } else {
            self.send_when_durable(from, self.vote_response(granted));
        }
    }

    pub(super) fn vote_response(&self, granted: bool) -> Body {
        Body::VoteResponse { granted, commit: self.log.committed_position() }
    }

    pub(super) fn on_vote_response(&mut self, from: ReplicaId, granted: bool) {
        let granted = granted || self.broken(Mutant::RefusalTakenForVote);
        let Role::Candidate(ballots) = &mut self.role else { return };
        ballots.record(from, granted);
        let Role::Candidate(ballots) = &self.role else { return };
        match ballots.verdict(self.quorums()) {
            Verdict::Won => self.become_leader(),
            Verdict::Lost => self.concede(),
            Verdict::Open => {}
        }
    }

    /// The leader asks this replica to take over (thesis §3.10). There is no pre-vote: the
    /// leader has vouched for the log and the others would stand by the leader.
    pub(super) fn on_timeout_now(&mut self, from: ReplicaId) {
        let from_another = self.leader().is_some_and(|leader| leader != from);
        if !from_another && !self.is_leader() {
            self.unbind();
            self.postponed_campaign = Some(Postponed { term: self.term, transfer: true });
        }
    }

    /// Begins the campaign that the leader or the driver asked for, unless that term is over. It
    /// may have had to wait for the delivery of what was committed last.
    pub(super) fn campaign_if_postponed(&mut self) {
        let Some(postponed) = self.postponed_campaign else { return };
        if postponed.term != self.term || self.is_leader() {
            self.postponed_campaign = None;
        } else if self.may_campaign() {
            self.postponed_campaign = None;
            if postponed.transfer { self.campaign(true) } else { self.on_campaign() }
        }
    }
}
