//! Leadership given away: because somebody asked, or because there is no room here.

use std::time::Duration;

use etcd::Error;
use mvcc::engine::Engine;
use raft::{ReplicaId, RoleKind};
use store::NodeId;

use super::group::Turn;
use super::{Fatal, Origin, Token};

/// A leader without room gives leadership away at most once in this.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(30);

impl<E: Engine> Turn<'_, E> {
    /// A leader without room refuses writes that a peer may have room for, so it gives leadership away,
    /// to whoever has most of the log. If all are full it goes round, slowly. Says whether it does.
    pub(super) fn hand_over_if_full(&mut self, now: Duration) -> Result<bool, Fatal> {
        let recently = self.group.handed_over.is_some_and(|then| now < then + HAND_OVER_INTERVAL);
        let leads = self.group.serving && self.group.transfers.is_empty();
        if !self.shared.disk_full || !leads || recently {
            return Ok(false);
        }
        let Some(to) = self.successor() else { return Ok(false) };
        // Once, and not for each of thousands of ranges.
        if self.is_dense() {
            let to = format_args!("{:x}", to.get());
            tracing::warn!(to, "no room here: leadership is given away");
        }
        self.group.handed_over = Some(now);
        self.propose(now);
        self.group.transfers.push((Origin::None, to));
        self.raft_mut().step(now, raft::Input::TransferLeadership { to })?;
        Ok(true)
    }

    /// The voter that is connected and has most of the log.
    fn successor(&self) -> Option<ReplicaId> {
        let raft = self.raft();
        let voters = &raft.membership().voters;
        let heard = |id: ReplicaId| self.shared.heard_since.contains_key(&NodeId(id.get()));
        let peers = raft.peers().filter(|peer| voters.contains(&peer.id) && heard(peer.id));
        peers.max_by_key(|peer| peer.matched).map(|peer| peer.id)
    }

    /// A leader that is asked to remove itself hands leadership over first, and the request goes to
    /// whoever leads then. Otherwise:
    /// 1. It leads a group of two, commits its own removal and ends.
    /// 2. The message that says so is lost.
    /// 3. The other, which does not know, needs the vote of the one that is gone.
    pub(super) fn hand_over_if_leaving(&mut self, now: Duration) -> Result<(), Fatal> {
        let leaving = !self.group.routes.leaving.is_empty();
        if !leaving || !self.group.serving || !self.group.transfers.is_empty() {
            return Ok(());
        }
        let Some(to) = self.successor() else {
            self.stay();
            return Ok(());
        };
        self.propose(now);
        self.group.transfers.push((Origin::None, to));
        Ok(self.raft_mut().step(now, raft::Input::TransferLeadership { to })?)
    }

    pub(super) fn move_leader(
        &mut self,
        now: Duration,
        token: Token,
        to: NodeId,
    ) -> Result<(), Fatal> {
        let origin = Origin::Local(token);
        let target = ReplicaId::new(to.0);
        let error = match target {
            _ if self.group.role != RoleKind::Leader => Some(Error::NotLeader),
            Some(target) if self.raft().membership().voters.contains(&target) => None,
            _ => Some(Error::BadLeaderTransferee),
        };
        match (error, target) {
            (None, Some(target)) => {
                self.propose(now);
                self.group.transfers.push((origin, target));
                let input = raft::Input::TransferLeadership { to: target };
                Ok(self.raft_mut().step(now, input)?)
            }
            (error, _) => {
                self.answer(origin, Err(error.unwrap_or(Error::BadLeaderTransferee)));
                Ok(())
            }
        }
    }
}
