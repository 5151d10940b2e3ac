//! Faults, operations, and the peace after them.

use super::*;

impl World {
    pub(super) fn chaos(&mut self) -> Result<(), Broken> {
        let ids: Vec<ReplicaId> = self.nodes.keys().copied().collect();
        let climate = self.climate.clone();
        let id = *self.dice.pick(&ids).expect("there are nodes");
        if self.dice.chance(climate.crash) && self.nodes[&id].is_up() {
            self.crash(id);
        }
        let down: Vec<ReplicaId> = self.restartable();
        if let Some(&id) = self.dice.pick(&down)
            && self.dice.chance(200)
        {
            self.start(id);
        }
        if climate.fortify && climate.lapse > 0 {
            self.support_chaos(&ids)?;
        }
        if self.dice.chance(climate.partition) {
            self.partition(&ids);
        }
        if self.dice.chance(60) {
            self.blocked.clear();
        }
        if self.dice.chance(climate.campaign) {
            self.input(id, Input::Campaign)?;
        }
        if self.dice.chance(climate.campaign) {
            self.input(id, Input::PeerUnreachable(*self.dice.clone().pick(&ids).expect("some")))?;
        }
        let leaders = self.leaders();
        let Some(&leader) = self.dice.pick(&leaders) else { return Ok(()) };
        if self.dice.chance(climate.transfer) {
            self.input(leader, Input::TransferLeadership { to: id })?;
        }
        if self.dice.chance(climate.membership) {
            let change = self.draw_change(leader);
            let ahead = self.value();
            self.propose(leader, vec![ahead, Payload::membership(change)])?;
        }
        Ok(())
    }

    fn restartable(&self) -> Vec<ReplicaId> {
        let down = self.nodes.values().filter(|node| !node.is_up() && !node.destroyed);
        down.map(|node| node.id).collect()
    }

    /// One link, one node, or two halves; in one direction or both.
    fn partition(&mut self, ids: &[ReplicaId]) {
        self.tally.add("partition");
        let kind = self.dice.below(3);
        let one_way = self.dice.chance(300);
        let side: BTreeSet<ReplicaId> = match kind {
            0 => self.dice.pick(ids).copied().into_iter().collect(),
            1 => self.leaders().into_iter().collect(),
            _ => ids.iter().copied().filter(|_| self.dice.chance(500)).collect(),
        };
        for &from in ids {
            for &to in ids {
                let (out, into) = (side.contains(&from), side.contains(&to));
                if (out && !into) || (into && !out && !one_way) {
                    self.blocked.insert((from, to));
                }
            }
        }
    }

    fn draw_change(&mut self, leader: ReplicaId) -> MembershipChange {
        let membership = self.nodes[&leader].raft().membership().clone();
        if membership.is_joint() {
            return MembershipChange::leave_joint();
        }
        let count = self.dice.of([1, 1, 1, 2, 3]);
        let wiped = self.wiped.map(|(id, _)| id).filter(|id| self.nodes[id].destroyed);
        let steps = (0..count).map(|_| {
            // Whose disk is gone is remembered by the operator.
            let id = match wiped {
                Some(id) if self.dice.chance(300) => id,
                _ => replica(self.dice.within(1, SPARE_IDS)),
            };
            match self.dice.below(3) {
                0 if membership.voters.len() > 2 && membership.contains(id) => {
                    MembershipStep::Remove(id)
                }
                1 if membership.voters.len() > 2 || !membership.is_voter(id) => {
                    MembershipStep::AddLearner(id)
                }
                _ => MembershipStep::AddVoter(id),
            }
        });
        let mut steps: Vec<MembershipStep> = steps.collect();
        steps.retain(|&step| !self.is_voter_somewhere(step));
        if steps.is_empty() {
            steps.push(MembershipStep::AddVoter(leader));
        }
        let transition = match self.dice.below(4) {
            0 => Transition::JointExplicit,
            1 => Transition::JointImplicit,
            _ => Transition::Auto,
        };
        MembershipChange { transition, steps, context: bytes::Bytes::from_static(b"why") }
    }

    /// Whether the change would bring back a replica without its log while somebody may still count it among the
    /// voters of before: see `ReplicaId`.
    fn is_voter_somewhere(&self, step: MembershipStep) -> bool {
        let (MembershipStep::AddVoter(id) | MembershipStep::AddLearner(id)) = step else {
            return false;
        };
        let Some((wiped, removed_at)) = self.wiped.filter(|&(wiped, _)| wiped == id) else {
            return false;
        };
        let others = self.nodes.values().filter(|node| node.id != wiped && !node.destroyed);
        let knows = |node: &Node| {
            let app = &node.disk.app;
            app.membership == Membership::default() || app.applied.index >= removed_at
        };
        self.nodes[&id].destroyed && !others.into_iter().all(knows)
    }

    /// Ends all faults; then the group must elect, commit and converge within a bound.
    pub(crate) fn heal_and_converge(&mut self) -> Result<(), Broken> {
        self.healed = true;
        self.climate.disk_ms_max = 5;
        self.climate.latency_ms_max = 20;
        self.climate.client_ms_max = 40;
        self.blocked.clear();
        for id in self.restartable() {
            self.start(id);
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.drain(id)?;
        }
        let supports = self.climate.fortify && self.climate.lapse > 0;
        let bound = self.now + Duration::from_secs(120);
        let goal = LogIndex(self.checks.max_committed().0 + 20);
        while self.now < bound {
            if supports {
                self.support_heals()?;
            }
            self.step()?;
            let members = self.latest_membership.1.members();
            self.retire_zombies(&members);
            let there = |id: &ReplicaId| {
                let node = &self.nodes[id];
                node.is_up() && node.app.applied.index >= goal
            };
            // What was entered to be left by itself is left.
            let settled = !self.latest_membership.1.auto_leave;
            if settled && members.iter().all(there) {
                self.tally.add("converged");
                return Ok(());
            }
        }
        let states = self.nodes.values().filter(|node| node.is_up()).map(|node| {
            let raft = node.raft();
            let peers: Vec<_> = raft.peers().collect();
            format!(
                "{}: {:?} in {}, leader {:?}, log ({}, {}] committed {} delivered {} applied {} durable {} of {} {peers:?}",
                node.id, raft.role(), raft.term(), raft.leader(), raft.truncated(), raft.last(),
                raft.committed(), raft.delivered(), node.app.applied, raft.durable(), raft.membership(),
            )
        });
        let states: Vec<String> = states.collect();
        Err(format!("no convergence to {goal} within two minutes:\n{}", states.join("\n")))
    }

    /// Replicas that are out of the group are switched off once the group has moved on.
    ///
    /// Not earlier: a member that does not know yet that they are out may need their votes.
    pub(super) fn retire_zombies(&mut self, members: &BTreeSet<ReplicaId>) {
        let index = self.latest_membership.0;
        // Nor while a member stands by one of them.
        let settled = members.iter().all(|id| {
            let node = &self.nodes[id];
            let binding = node.raft.as_ref().and_then(Raft::binding);
            node.commit_checked >= index && binding.is_none_or(|b| members.contains(&b.leader))
        });
        if !settled {
            return;
        }
        for node in self.nodes.values_mut().filter(|node| !members.contains(&node.id)) {
            node.switch_off();
            node.writes.clear();
        }
    }
}
