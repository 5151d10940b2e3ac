//! Faults, operations, and the peace after them.

use super::*;

impl World {
    pub(super) fn chaos(&mut self) -> Result<(), Broken> {
        let climate = self.climate.clone();
        let id = NodeId(self.dice.within(1, climate.stores));
        let up = self.nodes[&id].store.is_some();
        if up && self.dice.chance(climate.crash) {
            self.crash(id)?;
        } else if up && self.nodes[&id].paused.is_none() && self.dice.chance(climate.pause) {
            self.tally.add("pause");
            self.node(id).paused = Some(VecDeque::new());
            let length = self.dice.of([20, 300, 700, 3_000]);
            self.after(length, Happening::Resume(id));
        }
        if self.dice.chance(climate.hang) {
            self.tally.add("hung disk");
            let length = Duration::from_millis(self.dice.of([100, 700, 3_000]));
            self.node(id).hung_until = self.now + length;
        }
        if self.dice.chance(climate.partition) {
            self.tally.add("partition");
            let one_way = self.dice.chance(300);
            for other in (1..=climate.stores).map(NodeId).filter(|&other| other != id) {
                if self.dice.chance(700) {
                    self.blocked.insert((id, other));
                    if !one_way {
                        self.blocked.insert((other, id));
                    }
                }
            }
        }
        if self.dice.chance(50) {
            self.blocked.clear();
        }
        self.operate()
    }

    fn operate(&mut self) -> Result<(), Broken> {
        let leading = self.leading();
        if leading.is_empty() {
            return Ok(());
        }
        let (id, range) = leading[self.dice.size(0, leading.len() - 1)];
        let store = self.nodes[&id].store.as_ref().expect("it is up");
        let raft = store.replica(range).expect("it leads").raft();
        let (own, membership) = (raft.id(), raft.membership().clone());
        if self.dice.chance(self.climate.transfer) {
            let others: Vec<ReplicaId> =
                membership.voters.iter().copied().filter(|&id| id != own).collect();
            if !others.is_empty() {
                let to = others[self.dice.size(0, others.len() - 1)];
                let now = self.local(id);
                self.step_raft(id, range, now, Input::TransferLeadership { to })?;
                self.flush(id)?;
            }
        }
        if self.dice.chance(self.climate.membership)
            && let Some(change) = self.draw_change(range, &membership)
        {
            self.tally.add("membership");
            self.propose(id, range, Payload::membership(change))?;
        }
        Ok(())
    }

    /// A store that has no replica of the range gets one; or a voter becomes a learner, or a
    /// learner a voter; or two things at once, through a joint membership. Who is out of the group
    /// stays where it is, so that the disk under an id is never lost.
    fn draw_change(&mut self, range: RangeId, membership: &Membership) -> Option<MembershipChange> {
        if membership.is_joint() {
            return None;
        }
        let mut steps = Vec::new();
        for _ in 0..self.dice.of([1, 1, 2]) {
            let node = self.dice.within(1, self.climate.stores);
            let here = self.nodes[&NodeId(node)].disk.get(&range).map(|stored| stored.id);
            let id = here.unwrap_or_else(|| replica(node, 2));
            steps.push(if !membership.is_voter(id) {
                MembershipStep::AddVoter(id)
            } else if membership.voters.len() <= 2 {
                return None;
            } else if self.dice.chance(500) {
                MembershipStep::AddLearner(id)
            } else {
                MembershipStep::Remove(id)
            });
        }
        Some(MembershipChange::of(steps))
    }

    fn crash(&mut self, id: NodeId) -> Result<(), Broken> {
        self.tally.add("crash");
        let survive = self.dice.size(0, 2);
        let node = self.node(id);
        node.store = None;
        node.paused = None;
        node.apps.clear();
        let writes: Vec<LogWrite> = node.writes.drain(..).collect();
        if writes.len() > survive {
            self.tally.add("writes lost in a crash");
        }
        for write in writes.iter().take(survive) {
            self.reach_disk(id, write)?;
        }
        let down = self.dice.of([1, 50, 300, 2_000]);
        self.after(down, Happening::Restart(id));
        Ok(())
    }

    /// Ends all faults: every range gets a leader and a lease; and then there is rest.
    pub(super) fn heal(&mut self) -> Result<(), Broken> {
        self.healed = true;
        self.blocked.clear();
        self.climate.latency_ms_max = 20;
        self.climate.disk_ms_max = 10;
        for id in (1..=self.climate.stores).map(NodeId) {
            self.node(id).hung_until = self.now;
            self.resume(id)?;
            if self.nodes[&id].store.is_none() {
                self.start(id)?;
            }
        }
        // Stragglers, and what hung or was paused, take a while.
        self.pass(Duration::from_secs(5))?;
        self.add_missing()?;
        self.pass(Duration::from_secs(8))?;
        self.everybody_serves()?;
        self.retire()?;
        self.resting = true;
        self.pass(Duration::from_secs(10))?;
        self.everybody_serves()?;
        let before = self.sent;
        self.pass(Duration::from_secs(10))?;
        if self.sent != before {
            let pictures = (1..=self.climate.ranges).map(|range| self.picture(RangeId(range)));
            let pictures: Vec<String> = pictures.collect();
            let messages = self.sent - before;
            return Err(format!("{messages} messages of groups at rest:\n{}", pictures.join("\n")));
        }
        self.nobody_waits()?;
        self.tally.add("everything at rest");
        self.a_disk_hangs()
    }

    /// Of a store that leads: what others can serve they serve, and soon say little; and when it is over, all is as
    /// before.
    fn a_disk_hangs(&mut self) -> Result<(), Broken> {
        let leading = self.leading();
        let (id, _) = leading[self.dice.size(0, leading.len() - 1)];
        self.node(id).hung_until = self.now + Duration::from_secs(24);
        self.pass(Duration::from_secs(14))?;
        let before = self.sent;
        self.pass(Duration::from_secs(8))?;
        let said = self.sent - before;
        let mut all = true;
        for range in (1..=self.climate.ranges).map(RangeId) {
            let (holders, enough) = self.holders_beside(id, range);
            if enough && holders != 1 {
                return Err(format!("{id:?} hangs, {holders} serve:\n{}", self.picture(range)));
            }
            all &= enough;
            self.tally.add(if enough { "served beside a hung disk" } else { "too few beside it" });
        }
        // One that waits for its disk and cannot be done without goes on asking.
        if all && said > 4 * self.climate.ranges * self.climate.stores {
            return Err(format!("{said} messages of groups at rest beside a disk that hangs"));
        }
        self.pass(Duration::from_secs(10))?;
        self.everybody_serves()
    }

    /// How many stores but that one hold the lease of the range, and whether its voters there are a quorum.
    fn holders_beside(&mut self, id: NodeId, range: RangeId) -> (usize, bool) {
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|&other| other != id).collect();
        let enough: Vec<bool> = others
            .iter()
            .filter_map(|other| self.nodes[other].store.as_ref()?.replica(range))
            .map(|replica| replica.raft().is_quorum(|voter| node_of(voter) != id))
            .collect();
        let enough = enough.contains(&true) && !enough.contains(&false);
        (others.into_iter().filter(|&id| self.lease(id, range).is_some()).count(), enough)
    }

    /// The operator's part: whose store was down when it was added is added now. Nobody may lead: it may be
    /// its vote that is missing.
    fn add_missing(&mut self) -> Result<(), Broken> {
        let stores = self.nodes.values().filter_map(|node| node.store.as_ref());
        let known: Vec<(RangeId, Membership)> = stores
            .flat_map(Store::replicas)
            .map(|(range, replica)| (range, replica.raft().membership().clone()))
            .collect();
        for (range, membership) in known {
            self.members_changed(range, &membership)?;
        }
        Ok(())
    }

    /// The operator's part: who is out of the group, and may not know it, is taken away.
    fn retire(&mut self) -> Result<(), Broken> {
        for (id, range) in self.leading() {
            let store = self.nodes[&id].store.as_ref().expect("it is up");
            let members = store.replica(range).expect("it leads").raft().membership().members();
            for node in self.nodes.values_mut() {
                let gone = node.disk.get(&range).is_some_and(|disk| !members.contains(&disk.id));
                if let (true, Some(store)) = (gone, &mut node.store) {
                    store.remove(range);
                    self.tally.add("replica removed");
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.now + time;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn everybody_serves(&mut self) -> Result<(), Broken> {
        for range in (1..=self.climate.ranges).map(RangeId) {
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            let serves = ids.into_iter().filter(|&id| self.lease(id, range).is_some()).count();
            if serves != 1 {
                return Err(format!("{serves} stores serve {range:?}:\n{}", self.picture(range)));
            }
            self.tally.add("a range at rest");
        }
        Ok(())
    }

    /// Members that are out of the group and do not know it may wait for ever, and ask.
    fn nobody_waits(&self) -> Result<(), Broken> {
        for (id, node) in &self.nodes {
            let store = node.store.as_ref().ok_or("a store is down")?;
            for (range, replica) in store.replicas() {
                if replica.raft().next_deadline().is_some() {
                    return Err(format!("{id:?} waits: {}", self.picture(range)));
                }
            }
        }
        Ok(())
    }

    pub(super) fn picture(&self, range: RangeId) -> String {
        let replicas = self.nodes.iter().filter_map(|(id, node)| {
            let raft = node.store.as_ref()?.replica(range)?.raft();
            Some(format!(
                "{id:?} {} {:?} term {} leader {:?} bound {:?} last {} committed {} applied {} of {} until {:?} {:?}",
                raft.id(), raft.role(), raft.term(), raft.leader(), raft.binding(), raft.last(),
                raft.committed(), raft.applied(), raft.membership(), raft.next_deadline(),
                raft.peers().collect::<Vec<_>>(),
            ))
        });
        replicas.collect::<Vec<_>>().join("\n")
    }
}
