//! Membership changes in the life of a replica (Raft §6, thesis chapter 4).
//!
//! A change takes effect where its entry is delivered, at every replica. What makes this safe
//! although replicas deliver at different times:
//! 1. A leader proposes a change only when the one before it is delivered, hence committed, and
//!    an entry of its own term is committed (the 2015 correction of single-server changes).
//! 2. An append that carries a change carries a commit index that covers the one before it, and
//!    both are stored in one write. So a log that holds change n + 1 knows that n is committed.
//! 3. Whoever knows that a change is committed does not campaign before it has delivered it.
//!
//! So replicas that may lead differ by one change at most, and the quorums of two consecutive
//! memberships overlap: one voter was added or removed, or one of the two is joint.

use std::sync::Arc;

use crate::error::{MembershipRefused, Refused};
use crate::mutants::Mutant;
use crate::progress::Progress;
use crate::types::{
    Body, Event, LogIndex, MembershipChange, Message, Payload, ReplicaId, Session, TransferOutcome,
};

use super::leader::Leader;
use super::{Raft, Role};

impl Raft {
    pub(super) fn check_change(
        &self,
        leader: &Leader,
        change: &MembershipChange,
    ) -> Result<(), Refused> {
        let pending = self.log.delivered() < leader.no_change_before;
        let early = pending || !self.support_has_caught_up(leader);
        if early && !self.broken(Mutant::MembershipUnguarded) {
            return Err(Refused::MembershipPending);
        }
        match crate::membership::after(&self.membership, change) {
            Ok(_) => Ok(()),
            Err(refused) => Err(Refused::Membership(refused)),
        }
    }

    /// The entry at `index` is delivered.
    pub(super) fn take_effect(&mut self, index: LogIndex, change: &MembershipChange) {
        let next: Result<_, MembershipRefused> = crate::membership::after(&self.membership, change);
        // The leader checked it against the very same membership. Should it be refused all the
        // same, then it is by every replica alike.
        let Ok(membership) = next else { return };
        self.membership = Arc::new(membership.clone());
        self.membership_at = index;
        self.out.events.push(Event::Membership { index, membership });
        self.update_peers(index);
        self.maybe_commit();
        self.confirm_reads();
    }

    /// Gives new members a progress, and takes it from those that have left.
    fn update_peers(&mut self, index: LogIndex) {
        let commit = self.log.committed_position();
        let next = self.log.last_index().next();
        let (own, term, now) = (self.config.id, self.term, self.now);
        let members = self.membership.members();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.lease.membership_changed();
        for (to, peer) in leader.peers.iter() {
            if !members.contains(&to) && peer.prev() >= index {
                // It was sent the entry that removes it: let it know that this is final.
                let body = Body::Commit { commit };
                self.out.messages.push(Message { from: own, to, term, body });
            }
        }
        let others = members.into_iter().filter(|&id| id != own);
        leader.peers.set(others, || Progress::new(Session(index), next, now));
        let transfer = leader.transfer.take_if(|transfer| !self.membership.is_voter(transfer.to));
        if let Some(transfer) = transfer {
            self.transfer_ended(transfer.to, TransferOutcome::Aborted);
        }
    }

    /// Proposes to leave a joint configuration that was entered to be left.
    pub(super) fn leave_joint_if_due(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let settled = self.log.delivered() >= leader.no_change_before
            || self.broken(Mutant::JointLeftUnguarded);
        let due = self.membership.auto_leave
            && settled
            && leader.transfer.is_none()
            && self.support_has_caught_up(leader)
            && !self.broken(Mutant::JointNeverLeft);
        if due {
            self.append_own([Payload::membership(MembershipChange::leave_joint())]);
        }
    }

    /// A leader that is no voter any more has led the group to its new membership, and ends
    /// there (Raft §6). It hands over to whoever has come furthest.
    pub(super) fn step_down_if_removed(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.membership.is_voter(self.config.id) {
            return;
        }
        let voters = leader.peers.iter().filter(|(id, _)| self.membership.voters.contains(id));
        let furthest: Option<ReplicaId> =
            voters.max_by_key(|(_, peer)| peer.matched).map(|(id, _)| id);
        if let Some(to) = furthest {
            self.send(to, Body::TimeoutNow);
        }
        self.become_follower(self.term, None);
    }
}
