//! What befalls the cluster.

use std::path::Path;
use std::time::Duration;

use env::Misread;
use etcd::Request;
use node::core::{Input, Token};
use proto::etcdserverpb as pb;
use store::NodeId;

use super::host::{Host, Job};
use super::{Happening, What, World};
use crate::check::Fault as Broken;
use crate::climate::Support;
use crate::plan::Fault;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

impl World {
    pub(super) fn befall(&mut self, fault: Fault) -> Result<(), Broken> {
        let whom =
            fault.places().into_iter().map(|place| format!(" n{:x}", self.member_at(place).0));
        let whom = whom.collect::<String>();
        self.trace.tell(self.now, format_args!("FAULT{whom}: {fault:?}"));
        match fault {
            Fault::Kill { at, for_us } => self.stop(at, false, None, for_us, "kill"),
            Fault::PowerCut { at, for_us, after_changes } => {
                self.stop(at, true, Some(after_changes), for_us, "power cut");
            }
            Fault::PowerCutAll { for_us } => {
                for at in 0..self.hosts.len() as u64 {
                    self.stop(at, true, Some(at), for_us, "power cut of all");
                }
            }
            Fault::Pause { at, for_us } => {
                let until = self.now + us(for_us);
                self.host_at(at, "pause", |host| host.paused_until = until);
            }
            Fault::Partition { side } => self.cut(side, None, "partition"),
            Fault::Bridge { at, side } => self.cut(side, Some(self.member_at(at)), "bridge"),
            Fault::OneWay { from, to } => {
                self.tally.count("one-way cut");
                self.net.block(self.member_at(from), self.member_at(to));
            }
            Fault::IsolateLeader => self.isolate_leader(),
            Fault::Heal => {
                self.tally.add("heal", u64::from(!self.net.is_whole()));
                self.net.heal();
            }
            Fault::SlowDisk { at, for_us, sync_us } => {
                let until = self.now + us(for_us);
                self.host_at(at, "slow disk", |host| host.slow_disk = (until, sync_us));
            }
            Fault::FullDisk { at, for_us, left_bytes } => self.fill_disk(at, for_us, left_bytes),
            Fault::IoError { at, after_changes, .. } => {
                self.host_at(at, "i/o error planned", |host| host.disk.fail_after(after_changes));
            }
            Fault::Wipe { at } => self.wipe(at),
            Fault::Upgrade { at, for_us } => self.upgrade(at, for_us),
            Fault::Misread { at, after_reads, further, for_us } => {
                self.misread(at, after_reads, further, for_us);
            }
            Fault::CutWatches { at } => {
                let id = self.member_at(at);
                self.tally.count("watchers cut off");
                self.watchers_lose(id);
            }
            Fault::Rot { at, byte, mask, for_us } => self.rot(at, byte, mask, for_us),
            Fault::ClockJump { at, wall_s, monotonic_us } => {
                let now = self.now;
                let leased = self.plan.climate.support == Support::Leased;
                let monotonic_us = if leased { 0 } else { monotonic_us };
                self.host_at(at, "clock jump", |host| {
                    host.clock.wall_s = wall_s;
                    host.clock.jump(now, us(monotonic_us));
                });
                let id = self.member_at(at);
                self.process(id).into_iter().for_each(|process| process.tick_at = Some(now));
                self.post_within(id, self.now, What::Tick);
            }
            Fault::Checkpoint { at } => {
                let id = self.member_at(at);
                self.post_within(id, self.now, What::Chores);
            }
            Fault::MoveLeader { to } => return self.move_leader(to),
            Fault::AddLearner => return self.add_member(true),
            Fault::AddVoter => return self.add_member(false),
            Fault::Promote { at } => {
                let promote = pb::MemberPromoteRequest { id: self.member_at(at).0 };
                return self.operate_anywhere(Request::MemberPromote(promote));
            }
            Fault::Remove { at } => return self.remove_member(at),
        }
        Ok(())
    }

    fn host_at(&mut self, at: u64, what: &'static str, does: impl FnOnce(&mut Host)) {
        let id = self.member_at(at);
        if let Some(host) = self.hosts.get_mut(&id).filter(|host| host.is_up()) {
            does(host);
            self.tally.count(what);
        }
    }

    fn stop(
        &mut self,
        at: u64,
        power: bool,
        changes: Option<u64>,
        for_us: u64,
        what: &'static str,
    ) {
        let id = self.member_at(at);
        if self.hosts[&id].is_up() {
            self.tally.count(what);
            self.crash(id, power, changes);
        }
        self.post(self.now + us(for_us), Happening::Restart(id));
    }

    /// The process is gone, with all that it had in memory.
    pub(super) fn end_process(&mut self, id: NodeId) {
        self.watchers_lose(id);
        self.hosts.entry(id).and_modify(|host| host.process = None);
        self.disconnect(id);
    }

    /// A process is killed, or its machine loses power: then what was not synced may be lost.
    /// With `changes` the writer and the engine's writer get so much further before it happens.
    pub(super) fn crash(&mut self, id: NodeId, power: bool, changes: Option<u64>) {
        if let Some(changes) = changes {
            self.die_at_work(id, changes);
        }
        self.end_process(id);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if power {
            host.disk.crash();
        } else {
            host.disk.kill();
        }
        host.paused_until = self.now;
        if !self.plan.climate.in_order || changes.is_some() {
            // Whoever was connected notices, sooner or later.
            let others: Vec<NodeId> =
                self.hosts.keys().copied().filter(|&other| other != id).collect();
            for other in others {
                let takes = self.draw_us(300_000);
                self.post_within(other, self.now + takes, What::Unreachable(id));
            }
        }
    }

    /// The last that a process did before the power went: some of its work, cut off somewhere.
    fn die_at_work(&mut self, id: NodeId, changes: u64) {
        let partial = self.net.draw(3);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.disk.power_off_after(changes);
        let engine = std::sync::Arc::clone(host.engine());
        let Some(process) = &mut host.process else { return };
        let waiting = std::mem::take(&mut process.log_queue);
        for command in waiting {
            let super::host::LogCommand::Write(write) = command else { continue };
            let groups = node::core::DurableWrite::log_writes(
                write.groups,
                write.liveness,
                &mut process.liveness,
            );
            if groups.is_empty() {
                continue;
            }
            // Whether it arrives whole is the disk's secret: it may have.
            let appended = process.log.append(&groups).is_ok();
            let groups = super::host::of_data(groups);
            groups.iter().for_each(|group| host.shadow.apply(group));
            host.units.push_back(groups);
            if !appended {
                break;
            }
        }
        let _unknown = process.log.sync();
        if let Some(job) = process.jobs.pop_front() {
            engine.fail_writes_after(Some(partial));
            let _unknown = match &job {
                Job::Checkpoint(job) => job.run(),
                Job::Collect(job) => job.run(),
            };
            engine.fail_writes_after(None);
            self.tally.count("checkpoint cut off");
        }
    }

    /// A fault that has waited for its moment.
    pub(super) fn ambush(&mut self, id: NodeId, what: &'static str) {
        if self.healed || self.ambushes == 0 || !self.hosts[&id].is_up() {
            return;
        }
        self.ambushes -= 1;
        self.tally.count(what);
        self.trace.tell(self.now, format_args!("AMBUSH n{:x}: {what}", id.0));
        match what {
            "ambush: after a vote" | "ambush: after an append" => {
                let changes = self.net.draw(4);
                self.crash(id, true, Some(changes));
                let takes = us(1_000) + self.draw_us(300_000);
                self.post(self.now + takes, Happening::Restart(id));
            }
            _ => {
                let others: Vec<NodeId> = self.hosts.keys().copied().collect();
                for other in others {
                    self.net.block(id, other);
                    self.net.block(other, id);
                }
                let takes = self.draw_us(4 * self.plan.climate.election_us);
                self.post(self.now + takes, Happening::Rejoins(id));
            }
        }
    }

    /// Draws whether a fault that waits for this moment strikes, a little later.
    pub(super) fn lies_in_wait(&mut self, one_in: u64, id: NodeId, what: &'static str) {
        if one_in > 0 && !self.healed && self.ambushes > 0 && self.net.draw(one_in) == 0 {
            let takes = self.draw_us(2 * self.plan.climate.delay_us.1);
            let incarnation = self.hosts[&id].incarnation;
            self.post(self.now + takes, Happening::Within(id, incarnation, What::Ambush(what)));
        }
    }

    /// Members whose bit is set on one side, the others on the other; `bridge` is on both.
    fn cut(&mut self, side: u64, bridge: Option<NodeId>, what: &'static str) {
        self.tally.count(what);
        self.net.heal();
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        let left = |at: usize| side >> at & 1 == 1;
        for (i, &one) in ids.iter().enumerate() {
            for (j, &other) in ids.iter().enumerate() {
                if left(i) != left(j) && ![Some(one), Some(other)].contains(&bridge) {
                    self.net.block(one, other);
                }
            }
        }
    }

    fn isolate_leader(&mut self) {
        let Some(leader) = self.leader() else { return };
        self.tally.count("leader isolated");
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for other in ids {
            self.net.block(leader, other);
            self.net.block(other, leader);
        }
    }

    /// A byte of a member's log rots while it is down; only of a minority, or the data would be
    /// gone.
    fn rot(&mut self, at: u64, byte: u64, mask: u8, for_us: u64) {
        let id = self.member_at(at);
        if !self.can_lose(id) || !self.hosts[&id].is_up() {
            return;
        }
        self.crash(id, false, None);
        let dir = Path::new("log");
        let disk = &self.hosts[&id].disk;
        let files = env::Disk::list(disk, dir).unwrap_or_default();
        let file = usize::try_from(byte % files.len().max(1) as u64).unwrap_or(0);
        if let Some(file) = files.get(file)
            && disk.rot(&dir.join(file), byte >> 8 & 0x3fff, mask)
        {
            self.tally.count("rot");
        }
        self.post(self.now + us(for_us), Happening::Restart(id));
    }

    fn misread(&mut self, at: u64, after_reads: u64, further: Option<u64>, for_us: Option<u64>) {
        let id = self.member_at(at);
        if let Some(for_us) = for_us
            && self.hosts[&id].is_up()
        {
            self.crash(id, false, None);
            self.post(self.now + us(for_us), Happening::Restart(id));
        }
        let how = further.map_or(Misread::Stale, Misread::Elsewhere);
        self.hosts[&id].disk.misread_after(after_reads, how);
    }

    /// A member is ended as an operator does it, and comes back with the next version.
    fn upgrade(&mut self, at: u64, for_us: u64) {
        let id = self.member_at(at);
        if !self.hosts[&id].is_up() {
            return;
        }
        self.stop(at, false, None, for_us, "member upgraded");
        self.hosts.entry(id).and_modify(|host| host.version = host.version.next());
    }

    /// A member's disk is gone for good; only of a minority, or the data would be gone.
    fn wipe(&mut self, at: u64) {
        let id = self.member_at(at);
        if !self.can_lose(id) {
            return;
        }
        if self.hosts[&id].is_up() {
            self.crash(id, true, None);
        }
        self.tally.count("disk wiped");
        self.lose(id);
    }

    fn fill_disk(&mut self, at: u64, for_us: u64, left_bytes: u64) {
        let id = self.member_at(at);
        self.host_at(at, "full disk", |host| {
            host.disk.set_capacity_bytes(Some(host.disk.used_bytes() + left_bytes));
        });
        self.post(self.now + us(for_us), Happening::Room(id));
    }

    pub(super) fn room(&mut self, id: NodeId) {
        self.hosts[&id].disk.set_capacity_bytes(None);
    }

    fn move_leader(&mut self, to: u64) -> Result<(), Broken> {
        let to = self.member_at(to);
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(process) = self.process(leader) else { return Ok(()) };
        process.tokens += 1;
        let token = Token(process.tokens);
        self.tally.count("leadership moved");
        self.step(leader, Input::MoveLeader(token, to))?;
        let one_in = self.plan.climate.ambush.transfer_one_in;
        if one_in > 0 && self.ambushes > 0 && self.net.draw(one_in) == 0 {
            self.ambushes -= 1;
            self.tally.count("ambush: leader deaf at transfer");
            for other in self.hosts.keys().copied().collect::<Vec<_>>() {
                self.net.block(other, leader);
            }
            let takes = us(self.plan.climate.election_us) + self.draw_us(3_000_000);
            self.post(self.now + takes, Happening::Rejoins(leader));
        }
        Ok(())
    }

    fn add_member(&mut self, is_learner: bool) -> Result<(), Broken> {
        if self.hosts.len() >= 9 {
            return Ok(());
        }
        let peer_urls = vec![format!("http://m{}:1", self.hosts.len() + 1)];
        self.operate_anywhere(Request::MemberAdd(pb::MemberAddRequest { peer_urls, is_learner }))
    }

    fn remove_member(&mut self, at: u64) -> Result<(), Broken> {
        // One member that is lost for good and another that is removed may be too many.
        let rots = |host: &Host| host.damaged || host.disk.faults().bits_flipped > 0;
        let rotten = self.hosts.values().any(|host| rots(host) && !host.replaced);
        // Known: docs/known-bugs.md, the last but one of two.
        let voters = |raft: &raft::Raft| raft.membership().voters.len();
        let few = self.hosts.values().filter_map(Host::raft).any(|raft| voters(raft) < 3);
        if rotten || few || self.repair.is_some() {
            return Ok(());
        }
        self.removals = true;
        let id = self.member_at(at).0;
        self.operate_anywhere(Request::MemberRemove(pb::MemberRemoveRequest { id }))
    }

    fn operate_anywhere(&mut self, request: Request) -> Result<(), Broken> {
        let at = self.net.draw(self.hosts.len() as u64);
        let at = self.member_at(at);
        self.operate(at, request)
    }

    /// A member that was added starts.
    pub(super) fn joined(&mut self, id: NodeId) {
        if self.hosts.contains_key(&id) {
            return;
        }
        match self.add_host(id, None) {
            Ok(()) => self.tally.count("member joined"),
            Err((rule, what)) => panic!("{rule}: {what}"),
        }
    }
}
