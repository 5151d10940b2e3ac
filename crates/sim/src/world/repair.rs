//! The operator: replaces members that are lost for good, and starts those that were added.
//!
//! A member whose disk is gone, or whose log says that it is damaged, must never come back under
//! its name: it has forgotten what it promised. It is removed, and a new one is added in its place.
//!
//! Caveat: one member is lost at a time, and none once the plan has removed one by itself. Faults
//! that leave less than a quorum of good copies lose data whatever the code does.

use std::time::Duration;

use etcd::Request;
use proto::etcdserverpb as pb;
use raft::RoleKind;
use store::NodeId;

use super::host::Host;
use super::{Happening, World};
use crate::check::Fault;

/// The operator looks this often.
const LOOKS_EVERY: Duration = Duration::from_millis(500);

/// What is to be done about a lost member.
pub(crate) struct Repair {
    lost: NodeId,
    /// As many voters as there were.
    voters: usize,
}

impl World {
    /// Whether a member may be lost without the data.
    pub(super) fn can_lose(&self, id: NodeId) -> bool {
        let Some(leader) = self.leader().and_then(|leader| self.hosts[&leader].raft()) else {
            return false;
        };
        let voters = &leader.membership().voters;
        let all_there = voters.iter().all(|voter| {
            let host = self.hosts.get(&NodeId(voter.get()));
            host.is_some_and(|host| {
                !host.damaged && !host.removed && host.disk.faults().bits_flipped == 0
            })
        });
        self.repair.is_none()
            && !self.removals
            && all_there
            && voters.len() >= 3
            && !leader.membership().is_joint()
            && voters.iter().any(|voter| voter.get() == id.0)
    }

    /// A member is lost for good.
    pub(super) fn lose(&mut self, id: NodeId) {
        let raft = self.leader().and_then(|leader| self.hosts[&leader].raft());
        let known = raft.or_else(|| self.hosts.values().find_map(Host::raft));
        let voters = known.map_or(3, |raft| raft.membership().voters.len());
        if let Some(host) = self.hosts.get_mut(&id) {
            host.damaged = true;
        }
        self.repair = Some(Repair { lost: id, voters });
        self.post(self.now + LOOKS_EVERY, Happening::OperatorLooks);
    }

    /// The operator does the next step.
    pub(super) fn operator_looks(&mut self) -> Result<(), Fault> {
        self.start_added();
        let healed = self.healed;
        let Some(repair) = &self.repair else {
            if healed {
                self.post(self.now + LOOKS_EVERY, Happening::OperatorLooks);
            }
            return Ok(());
        };
        let (lost, wanted) = (repair.lost, repair.voters);
        self.post(self.now + LOOKS_EVERY, Happening::OperatorLooks);
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(raft) = self.hosts[&leader].raft() else { return Ok(()) };
        let membership = raft.membership();
        let is_member = membership.members().iter().any(|member| member.get() == lost.0);
        let enough = membership.voters.len() >= wanted;
        if is_member {
            return self
                .operate(leader, Request::MemberRemove(pb::MemberRemoveRequest { id: lost.0 }));
        }
        if !enough {
            let peer_urls = vec![format!("http://r{}:1", self.hosts.len() + 1)];
            let add = pb::MemberAddRequest { peer_urls, is_learner: false };
            return self.operate(leader, Request::MemberAdd(add));
        }
        self.tally.count("member replaced");
        self.hosts.entry(lost).and_modify(|host| host.replaced = true);
        self.trace.tell(self.now, format_args!("n{:x} is replaced", lost.0));
        self.repair = None;
        Ok(())
    }

    /// Members that are none any more and do not know it are stopped: they would serve old state to
    /// whoever does not ask for more.
    pub(super) fn stop_removed(&mut self) {
        let raft = self.leader().and_then(|leader| self.hosts[&leader].raft());
        let Some(members) = raft.map(|raft| raft.membership().members()) else { return };
        let is_member = |id: NodeId| members.iter().any(|member| member.get() == id.0);
        let ups = self.hosts.values().filter(|host| host.is_up()).map(|host| host.id);
        for id in ups.filter(|&id| !is_member(id)).collect::<Vec<_>>() {
            self.tally.count("removed member stopped");
            self.crash(id, false, None);
            self.hosts.entry(id).and_modify(|host| host.removed = true);
        }
    }

    /// Whoever was added starts, even if nobody was told that it was: the list of members says so.
    pub(super) fn start_added(&mut self) {
        let mut added = Vec::new();
        for raft in self.hosts.values().filter_map(Host::raft) {
            if raft.role() == RoleKind::Leader || raft.leader().is_some() {
                added.extend(raft.membership().members().into_iter().map(|id| NodeId(id.get())));
            }
        }
        // Without the one that was added there may be no quorum, and so no leader: then the list of whoever has
        // applied most is asked for without a quorum, and is as good as any when all are well.
        let furthest = self.hosts.values().filter_map(Host::raft).max_by_key(|raft| raft.applied());
        if let Some(raft) = furthest.filter(|_| self.healed && added.is_empty()) {
            added.extend(raft.membership().members().into_iter().map(|id| NodeId(id.get())));
        }
        for id in added {
            self.joined(id);
        }
    }
}
