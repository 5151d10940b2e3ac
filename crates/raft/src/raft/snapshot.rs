//! Snapshots (Raft §7): accepting one, and what its sender learns of its fate.
//!
//! The data is the driver's; here a snapshot is its position and membership. It is taken only by
//! a replica whose log does not hold that position: otherwise the log knows as much or more.

use std::sync::Arc;

use crate::error::Stopped;
use crate::progress::Flow;
use crate::types::{Event, LogIndex, ReplicaId, Session, SnapshotMeta, SnapshotOutcome};

use super::Raft;

impl Raft {
    pub(super) fn on_install_snapshot(
        &mut self,
        from: ReplicaId,
        session: Session,
        snapshot: SnapshotMeta,
    ) -> Result<(), Stopped> {
        let position = snapshot.position;
        self.check_committed(position)?;
        if position.index <= self.log.committed() {
            self.acknowledge(from, session, self.log.committed());
            return Ok(());
        }
        if self.log.holds(position) {
            self.log.commit_to(position.index);
            self.acknowledge(from, session, position.index);
            return Ok(());
        }
        if !snapshot.membership.contains(self.config.id) {
            // It is from before this replica became a member; the leader asked for a later one.
            return Ok(());
        }
        self.install(snapshot);
        self.acknowledge(from, session, position.index);
        Ok(())
    }

    fn install(&mut self, snapshot: SnapshotMeta) {
        let index = snapshot.position.index;
        self.log.reset(snapshot.position);
        self.writes.reset();
        self.applying = super::Applying::default();
        self.delivery_fetch = None;
        self.delivery_fetched.clear();
        self.membership_entries_to = index;
        self.membership_at = index;
        self.membership = Arc::new(snapshot.membership.clone());
        let membership = snapshot.membership.clone();
        self.out.events.push(Event::Membership { index, membership });
        self.accepted_snapshot = Some(Box::new(snapshot));
    }

    pub(super) fn on_snapshot_sent(&mut self, to: ReplicaId, outcome: SnapshotOutcome) {
        let last = self.log.last_index();
        let Some(peer) = self.peer_mut(to) else { return };
        if peer.flow != Flow::Snapshot {
            return;
        }
        let next = match outcome {
            SnapshotOutcome::Delivered(index) => index.min(last).max(peer.matched).next(),
            SnapshotOutcome::Failed => peer.matched.next(),
        };
        peer.probe_from(next.max(LogIndex(1)));
        // Its acknowledgement, or an answered heartbeat, sets it going again.
        peer.pause();
    }
}
