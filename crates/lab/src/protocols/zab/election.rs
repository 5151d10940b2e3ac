//! Phase 0: ZooKeeper's fast leader election.
//!
//! Everyone votes for the most recent history that it has heard of, by (currentEpoch, zxid, place), and tells
//! all others whenever its vote changes. With a quorum for its vote it waits a moment for a better one, and then
//! leads or follows. Rounds keep late votes of earlier elections out; who comes late joins the leader that a
//! quorum follows. Nothing that Zab promises depends on any of it: elections may be wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::message::{Doing, Message, Notification, Vote};
use super::process::{Timer, Zab};
use crate::process::{NodeId, Now, Out};

/// What a process knows of elections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Election {
    /// The logical clock of elections.
    round: u64,
    vote: Vote,
    /// The votes of this round.
    votes: BTreeMap<NodeId, Vote>,
    /// What those say who have a leader.
    outside: BTreeMap<NodeId, Notification>,
    /// A quorum is for this vote, and a better one is waited for.
    finalizing: Option<Vote>,
}

impl Election {
    pub(super) fn new(id: NodeId) -> Self {
        let vote = Vote { epoch: 0, zxid: super::message::Zxid::default(), leader: id };
        Self { round: 0, vote, votes: BTreeMap::new(), outside: BTreeMap::new(), finalizing: None }
    }
}

impl Zab {
    /// Gives up whatever it was doing and looks for a leader.
    pub(super) fn look(&mut self, out: &mut Out<'_, Self>) {
        self.abandon(out);
        self.election.round += 1;
        self.election.vote = self.own_vote();
        self.election.votes.clear();
        self.election.outside.clear();
        self.election.finalizing = None;
        out.cancel(Timer::Finalize);
        self.tell_vote(out);
    }

    fn own_vote(&self) -> Vote {
        Vote { epoch: self.current_epoch, zxid: self.last_zxid(), leader: self.id }
    }

    /// Whether a vote is better than another.
    fn beats(&self, vote: Vote, other: Vote) -> bool {
        if self.settings.elect_by_place { vote.leader > other.leader } else { vote > other }
    }

    fn notification(&self) -> Notification {
        let doing = match (&self.leading, &self.following) {
            (Some(_), _) => Doing::Leading,
            (None, Some(_)) => Doing::Following,
            (None, None) => Doing::Looking,
        };
        Notification { vote: self.election.vote, round: self.election.round, doing }
    }

    /// Tells its vote to all others, now and again.
    pub(super) fn tell_vote(&mut self, out: &mut Out<'_, Self>) {
        self.election.votes.insert(self.id, self.election.vote);
        let others = NodeId::all(self.settings.n).filter(|&other| other != self.id);
        out.send_all(others, &Message::Notification(self.notification()));
        let jitter = out.dice().below(super::link::micros(self.settings.ping));
        out.set(Timer::TellVote, self.settings.ping + Duration::from_micros(jitter));
        self.consider(out);
    }

    pub(super) fn on_notification(
        &mut self,
        now: Now,
        from: NodeId,
        theirs: Notification,
        out: &mut Out<'_, Self>,
    ) {
        let looks = theirs.doing == Doing::Looking;
        if self.following.is_some() {
            if looks {
                out.send(from, Message::Notification(self.notification()));
            }
            return;
        }
        if !looks {
            self.election.outside.insert(from, theirs);
            if theirs.round == self.election.round {
                self.election.votes.insert(from, theirs.vote);
            }
            self.join(now, theirs, out);
            return;
        }
        if theirs.round < self.election.round {
            out.send(from, Message::Notification(self.notification()));
            return;
        }
        let later = theirs.round > self.election.round;
        if later {
            self.election.round = theirs.round;
            self.election.votes.clear();
            self.election.vote = self.own_vote();
        }
        let better = self.beats(theirs.vote, self.election.vote);
        if better {
            self.election.vote = theirs.vote;
        }
        if later || better {
            self.tell_vote(out);
        }
        self.election.votes.insert(from, theirs.vote);
        self.consider(out);
    }

    /// Follows the leader that a quorum has, if that one knows it.
    fn join(&mut self, now: Now, theirs: Notification, out: &mut Out<'_, Self>) {
        let leader = theirs.vote.leader;
        let outside = &self.election.outside;
        let follow = outside.values().filter(|other| other.vote.leader == leader).count();
        let leads = outside.get(&leader).is_some_and(|it| it.doing == Doing::Leading);
        if follow >= self.settings.quorum() && leads && leader != self.id {
            self.election.round = theirs.round;
            self.election.vote = theirs.vote;
            self.follow(now, leader, out);
        } else {
            self.consider(out);
        }
    }

    fn has_quorum(&self) -> bool {
        let mine = self.election.vote.leader;
        let agree = self.election.votes.values().filter(|vote| vote.leader == mine).count();
        agree >= self.settings.quorum()
    }

    /// With a quorum for its vote, waits a moment for a better one.
    fn consider(&mut self, out: &mut Out<'_, Self>) {
        let vote = self.election.vote;
        if !self.has_quorum() {
            self.election.finalizing = None;
            out.cancel(Timer::Finalize);
        } else if self.election.finalizing != Some(vote) {
            self.election.finalizing = Some(vote);
            out.set(Timer::Finalize, self.settings.ping / 2);
        }
    }

    /// None better came.
    pub(super) fn finalize(&mut self, now: Now, out: &mut Out<'_, Self>) {
        if self.following.is_none() && self.has_quorum() {
            let leader = self.election.vote.leader;
            if leader == self.id {
                self.lead(now, out);
            }
            self.follow(now, leader, out);
        }
    }
}
