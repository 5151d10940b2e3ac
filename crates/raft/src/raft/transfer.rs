//! Handing leadership over (thesis §3.10).
//!
//! The leader takes no more proposals, brings the addressee's log up to its own, and tells it to
//! campaign at once. If no newer term shows up within an election timeout it goes on leading.
//!
//! Unless followers are bound to it ([`Config::fortify`](crate::Config::fortify)). Then it ends its
//! leadership with that word, for good, and releases them. If it could go on, they would have to
//! be bound again, and a request for votes that the transfer had set off and that comes late would
//! find a follower bound and the leader serving.

use std::time::Duration;

use crate::mutants::Mutant;
use crate::progress::Flow;
use crate::types::{Body, Event, ReplicaId, TransferOutcome};

use super::{Raft, Role};

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) to: ReplicaId,
    pub(super) deadline: Duration,
}

impl Raft {
    pub(super) fn on_transfer(&mut self, to: ReplicaId) {
        let possible = to != self.config.id && self.membership.voters.contains(&to);
        let deadline = self.now + self.config.election_timeout;
        let leader = match &mut self.role {
            Role::Leader(leader) if possible => leader,
            _ => return self.transfer_ended(to, TransferOutcome::Refused),
        };
        if leader.transfer.as_ref().is_some_and(|transfer| transfer.to == to) {
            return;
        }
        let replaced = leader.transfer.replace(Transfer { to, deadline });
        if let Some(peer) = leader.peers.get_mut(to) {
            // Whether what is under way to it has been lost is worth knowing at once.
            peer.recheck = peer.flow == Flow::Replicate && !peer.window.is_empty();
        }
        if let Some(replaced) = replaced {
            self.transfer_ended(replaced.to, TransferOutcome::Aborted);
        }
        self.transfer_if_caught_up(to);
    }

    /// Tells the addressee of a transfer to campaign, once its log is as long as ours.
    pub(super) fn transfer_if_caught_up(&mut self, peer: ReplicaId) {
        let Role::Leader(leader) = &self.role else { return };
        let addressed = leader.transfer.as_ref().is_some_and(|transfer| transfer.to == peer);
        let matched = leader.peers.get(peer).map(|peer| peer.matched);
        if addressed && matched == Some(self.log.last_index()) {
            self.hand_over_to(peer);
        }
    }

    fn hand_over_to(&mut self, peer: ReplicaId) {
        self.send(peer, Body::TimeoutNow);
        if self.config.fortify && !self.broken(Mutant::ReleasedBeforeServingEnds) {
            self.become_follower(self.term, None);
        }
    }

    pub(super) fn abort_late_transfer(&mut self) {
        let now = self.now;
        let Some(leader) = self.as_leader_mut() else { return };
        if let Some(late) = leader.transfer.take_if(|transfer| transfer.deadline <= now) {
            self.transfer_ended(late.to, TransferOutcome::Aborted);
        }
    }

    pub(super) fn transfer_ended(&mut self, to: ReplicaId, outcome: TransferOutcome) {
        self.out.events.push(Event::TransferEnded { to, outcome });
    }
}
