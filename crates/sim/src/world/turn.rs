//! A process takes in what happened, and what it wants done is done.

use std::time::Duration;

use node::core::{Effects, Fatal, FrameOut, Frames, Input, SnapshotOut, snapshot_message};
use raft::{Membership, SnapshotOutcome};
use store::NodeId;

use super::host::{Host, LogCommand, Process};
use super::{Crossing, Happening, Sent, What, World};
use crate::check::{Fault, Rules};
use crate::climate::Version;
use mvcc::engine::mem::MemEngine;

/// States are compared at applied indices that this divides.
const COMPARED_EVERY: u64 = 8;

/// What a member that cannot go on has broken.
fn fatal(id: NodeId, error: &Fatal) -> Fault {
    ("no member stops", format!("n{:x}: {error}", id.0))
}

impl World {
    pub(super) fn process(&mut self, id: NodeId) -> Option<&mut Process> {
        self.hosts.get_mut(&id)?.process.as_deref_mut()
    }

    /// A frame arrives, if there is somebody to receive it.
    pub(super) fn arrives(&mut self, sent: Sent) -> Result<(), Fault> {
        let host = self.hosts.get(&sent.to);
        if let Some(host) = host.filter(|host| host.paused_until > self.now) {
            self.post(host.paused_until, Happening::Arrives(sent));
            return Ok(());
        }
        let Sent { number, from, to, frame } = sent;
        let version = host.filter(|host| host.is_up()).map(|host| host.version);
        self.frame_ends(number, version.is_some());
        if let Some(version) = version {
            let bytes = frame.len();
            self.trace
                .detail(self.now, format_args!("n{:x} to n{:x}: {bytes} bytes", from.0, to.0));
            self.trace.mix(&[from.0, to.0]);
            self.trace.mix_bytes(&frame);
            let frame = match version {
                Version::Older => node::versions::older(frame),
                Version::Ours | Version::Later => frame,
            };
            self.step(to, Input::Frame(from, frame))?;
        }
        Ok(())
    }

    /// Something happens within a process.
    pub(super) fn within(&mut self, id: NodeId, of: u64, what: What) -> Result<(), Fault> {
        let Some(host) = self.hosts.get(&id) else { return Ok(()) };
        if host.incarnation != of || !host.is_up() {
            return Ok(());
        }
        if host.paused_until > self.now {
            self.post(host.paused_until, Happening::Within(id, of, what));
            return Ok(());
        }
        self.trace.detail(self.now, format_args!("n{:x}: {what:?}", id.0));
        match what {
            What::Tick => self.tick(id),
            What::Door => self.door_turn(id),
            What::Ambush(what) => {
                self.ambush(id, what);
                Ok(())
            }
            What::Flush => self.flush(id),
            What::LogBegins => self.log_begins(id),
            What::LogEnds => self.log_ends(id),
            What::JobEnds => self.job_ends(id),
            What::Chores => self.chores(id),
            What::Fetched(range, fetch) => self.fetched(id, range, fetch),
            What::Worked(worked) => self.step(id, Input::Worked(*worked)),
            What::SnapshotSent(range, to, outcome) => {
                self.step(id, Input::SnapshotSent(range, to, outcome))
            }
            What::Unreachable(peer) => self.step(id, Input::Unreachable(peer)),
        }
    }

    fn local(&self, id: NodeId) -> Duration {
        self.hosts[&id].clock.monotonic(self.now)
    }

    /// Has a process take something in. What follows from it comes out a little later, together
    /// with what follows from whatever else comes in until then.
    pub(super) fn step(&mut self, id: NodeId, input: Input<MemEngine>) -> Result<(), Fault> {
        let local = self.local(id);
        let membership = self.membership(id);
        let Some(process) = self.process(id) else { return Ok(()) };
        process.core.step(local, input).map_err(|error| fatal(id, &error))?;
        self.check(id, &membership)?;
        if self.hosts[&id].process.as_ref().is_some_and(|process| process.flush_at.is_none()) {
            let at = self.now + self.draw_us(self.plan.climate.batch_us);
            if let Some(process) = self.process(id) {
                process.flush_at = Some(at);
            }
            self.post_within(id, at, What::Flush);
        }
        Ok(())
    }

    fn membership(&self, id: NodeId) -> Membership {
        self.hosts[&id].raft().map(|raft| raft.membership().clone()).unwrap_or_default()
    }

    /// Checks a member as it is.
    pub(super) fn checked(&mut self, id: NodeId) -> Result<(), Fault> {
        let membership = self.membership(id);
        self.check(id, &membership)
    }

    fn check(&mut self, id: NodeId, before: &Membership) -> Result<(), Fault> {
        self.stands(id);
        let elections = self.rules.elections;
        let (commit, hard_state) = self.rules.after_event(&self.hosts, id, before)?;
        let ambush = self.plan.climate.ambush.clone();
        let host = &self.hosts[&id];
        let leads = host.raft().is_some_and(|raft| raft.role() == raft::RoleKind::Leader);
        let commits = commit > host.commit_checked && leads;
        let votes = hard_state.vote != host.hard_state_seen.vote && hard_state.vote.is_some();
        if votes {
            self.lies_in_wait(ambush.vote_one_in, id, "ambush: after a vote");
        }
        if commits {
            self.lies_in_wait(ambush.commit_one_in, id, "ambush: leader cut off at commit");
        }
        if self.rules.elections > elections {
            self.lies_in_wait(ambush.election_one_in, id, "ambush: leader cut off at election");
            self.nobody_else_may_serve(id)?;
            self.beside_other_versions(id);
            let line = format_args!("n{:x} leads term {}", id.0, hard_state.term);
            self.trace.tell(self.now, line);
        }
        self.one_holder(id)?;
        if let Some(host) = self.hosts.get_mut(&id) {
            (host.commit_checked, host.hard_state_seen) = (commit, hard_state);
        }
        Ok(())
    }

    /// Somebody was elected: no leader of an earlier term may believe that it holds the range lease,
    /// by its own clock, be it paused or cut off.
    fn nobody_else_may_serve(&mut self, elected: NodeId) -> Result<(), Fault> {
        // Where monotonic clocks jump, a lease is worth nothing, and nobody reads by it.
        if self.plan.climate.support != crate::climate::Support::Leased {
            return Ok(());
        }
        self.tally.count("leases looked at when somebody was elected");
        let term = |host: &Host| host.raft().map(raft::Raft::term);
        let elected_in = term(&self.hosts[&elected]);
        for (&id, host) in self.hosts.iter_mut().filter(|(id, _)| **id != elected) {
            // Who slept may learn late of an election in a term that is long over.
            if term(host) > elected_in {
                continue;
            }
            let local = host.clock.monotonic(self.now);
            let Some(process) = &mut host.process else { continue };
            if let Some(until) = process.core.lease(local) {
                let what = format!(
                    "member {} was elected, and member {} holds the lease until {until:?}, at {local:?}",
                    elected.0, id.0
                );
                return Err(("one holder of the lease", what));
            }
        }
        Ok(())
    }

    /// Nobody else may believe that it holds the range lease, if this member does, which just did something. To ask
    /// a leader for its lease is to have it remembered, as if it had served a read: so only half of the seeds are
    /// asked.
    fn one_holder(&mut self, id: NodeId) -> Result<(), Fault> {
        let asked = self.plan.climate.support == crate::climate::Support::Leased
            && self.plan.seed.is_multiple_of(2);
        let holds = |id: NodeId, host: &mut Host| {
            let local = host.clock.monotonic(self.now);
            let process = host.process.as_mut().filter(|_| asked);
            process.and_then(|process| process.core.lease(local)).map(|until| (id, until))
        };
        let Some(held) = self.hosts.get_mut(&id).and_then(|host| holds(id, host)) else {
            return Ok(());
        };
        let others = self.hosts.iter_mut().filter(|(other, _)| **other != id);
        let rival = others.into_iter().find_map(|(&other, host)| holds(other, host));
        self.tally.count("leases looked at after an event");
        match rival {
            Some(rival) => {
                Err(("one holder of the lease", format!("both {held:?} and {rival:?} hold it")))
            }
            None => Ok(()),
        }
    }

    /// For the record: who was elected among members of other versions.
    fn beside_other_versions(&mut self, elected: NodeId) {
        let version = self.hosts[&elected].version;
        for other in self.hosts.values().filter(|host| host.is_up()).map(|host| host.version) {
            match (version, other) {
                (Version::Older, Version::Ours | Version::Later) => {
                    self.tally.count("an older version leads a newer");
                }
                (Version::Ours, Version::Older) => self.tally.count("our version leads an older"),
                (Version::Ours, Version::Later) => self.tally.count("our version leads a later"),
                (Version::Later, Version::Older | Version::Ours) => {
                    self.tally.count("a later version leads an older");
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self, id: NodeId) -> Result<(), Fault> {
        let now = self.now;
        let Some(process) = self.process(id) else { return Ok(()) };
        // One that an earlier deadline has overtaken wakes nobody.
        if process.tick_at.is_none_or(|due| due > now) {
            return Ok(());
        }
        process.tick_at = None;
        self.flush(id)
    }

    fn flush(&mut self, id: NodeId) -> Result<(), Fault> {
        let local = self.local(id);
        let membership = self.membership(id);
        let Some(process) = self.process(id) else { return Ok(()) };
        process.flush_at = None;
        if process.core.next_deadline().is_some_and(|deadline| deadline <= local) {
            process.core.step(local, Input::Tick).map_err(|error| fatal(id, &error))?;
        }
        let before = process.core.standing();
        let effects = process.core.flush(local).map_err(|error| fatal(id, &error))?;
        let after = process.core.standing();
        if after.confirmed_by_lease > before.confirmed_by_lease {
            self.tally.count("reads confirmed by lease");
        }
        if after.confirmed_by_quorum > before.confirmed_by_quorum {
            self.tally.count("reads confirmed by quorum");
        }
        self.check(id, &membership)?;
        self.carry_out(id, effects)?;
        self.wake(id);
        Ok(())
    }

    /// Sees to it that the process is woken at its next deadline.
    fn wake(&mut self, id: NodeId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(process) = &mut host.process else { return };
        let Some(deadline) = process.core.next_deadline() else { return };
        let at = host.clock.when(deadline).max(self.now);
        if process.tick_at.is_none_or(|due| at < due) {
            process.tick_at = Some(at);
            self.post_within(id, at, What::Tick);
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) -> Result<(), Fault> {
        if effects.installed {
            self.installed(id);
        }
        if effects.discarded {
            let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
            host.discard_staged();
            host.process.iter_mut().for_each(|process| process.receiving = false);
        }
        for commit in &effects.published {
            self.rules.published(id, commit, self.now)?;
        }
        if effects.installed {
            self.door_hears(id, None);
        }
        for commit in effects.published {
            self.door_hears(id, Some(commit));
        }
        self.compare_state(id, false)?;
        let Some(process) = self.process(id) else { return Ok(()) };
        process.log_queue.extend(effects.writes.into_iter().map(LogCommand::Write));
        let truncate = effects.truncate.into_iter();
        process.log_queue.extend(truncate.map(|(range, to)| LogCommand::Truncate(range, to)));
        if !process.log_queue.is_empty() && !process.syncing {
            self.post_within(id, self.now, What::LogBegins);
        }
        self.send(id, effects.send)?;
        for (token, reply) in effects.replies {
            self.replied(id, token, reply);
        }
        for (token, point) in effects.points {
            self.read_point(id, token, point);
        }
        for work in effects.work {
            self.tally.count(match work.evaluates() {
                true => "evaluated beside the core",
                false => "applied beside the core",
            });
            // Done at once, and heard of later: what it writes is in memory while others look there.
            let worked = Box::new(work.run());
            // Slow work ends with the faults: what has gathered behind it is done.
            let slowest = if self.healed { 1_000 } else { u64::MAX };
            let takes = self.draw_us(self.plan.climate.aside.takes_us.min(slowest));
            self.post_within(id, self.now + takes, What::Worked(worked));
        }
        for (range, fetch) in effects.fetch {
            let takes = self.draw_us(2_000);
            self.post_within(id, self.now + takes, What::Fetched(range, fetch));
        }
        for out in effects.snapshots {
            self.send_snapshot(id, out);
        }
        if effects.removed {
            self.trace.tell(self.now, format_args!("n{:x} is removed, and ends", id.0));
            self.tally.count("member removed");
            self.end_process(id);
            self.hosts.entry(id).and_modify(|host| host.removed = true);
        }
        Ok(())
    }

    /// Compares a member's state with that of others at the same applied index: now and then, for
    /// it takes reading all of it, and whenever it is wanted.
    pub(super) fn compare_state(&mut self, id: NodeId, wanted: bool) -> Result<(), Fault> {
        let Some(process) = self.process(id) else { return Ok(()) };
        let applied = process.core.machine().applied().index;
        if process.compared == applied || !(wanted || applied % COMPARED_EVERY == 0) {
            return Ok(());
        }
        process.compared = applied;
        let view = process.core.machine().view();
        self.rules.state(id, &view)
    }

    /// Gives frames to the network.
    pub(super) fn send(&mut self, from: NodeId, frames: Frames) -> Result<(), Fault> {
        let version = self.hosts[&from].version;
        for FrameOut { to, bytes: frame, .. } in frames {
            let frame = match version {
                Version::Older => node::versions::older(frame),
                Version::Ours => frame,
                Version::Later => node::versions::later(frame),
            };
            let (number, messages) = (self.next_frame(), node::core::messages(&frame));
            let mut each = messages.iter();
            let broken =
                each.find_map(|message| self.rules.sent(&self.hosts[&from], message).err());
            if let Some(broken) = broken {
                self.said(number, (from, to), &messages, None);
                return Err(broken);
            }
            for message in node::core::liveness_messages(&frame) {
                self.tally.count("promises of stores looked at");
                Rules::sent_liveness(&self.hosts[&from], to, &message)?;
            }
            let once = node::core::asks(&frame);
            let fate = self.net.send(self.now, (from, to), &self.plan.climate, once);
            self.said(number, (from, to), &messages, Some(&fate));
            if fate.lost {
                self.tally.count("message lost");
            }
            if fate.late {
                self.tally.count("message late");
            }
            if fate.arrivals.len() > 1 {
                self.tally.count("message twice");
            }
            let is_up = self.hosts.get(&to).is_some_and(|host| host.is_up());
            if (!is_up || !self.net.reaches(from, to)) && self.net.draw(8) == 0 {
                let at = self.now + self.draw_us(500_000);
                self.post_within(from, at, What::Unreachable(to));
            }
            if fate.late && self.plan.climate.late_by_hours && !self.healed {
                self.late.push(Sent { number, from, to, frame });
                continue;
            }
            for at in fate.arrivals {
                self.post(at, Happening::Arrives(Sent { number, from, to, frame: frame.clone() }));
            }
        }
        Ok(())
    }

    fn send_snapshot(&mut self, id: NodeId, out: SnapshotOut) {
        let takes = self.draw_us(self.plan.climate.snapshot_us);
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let incarnation = host.incarnation;
        let Some(process) = &mut host.process else { return };
        let Some(view) = process.core.snapshot_view(&out) else { return };
        self.tally.count("snapshot sent");
        let term =
            process.core.store().replica(out.range).map_or(0, |replica| replica.raft().term().0);
        let (number, to) = (self.next_frame(), out.node);
        self.snapshot_leaves(number, (id, to), term);
        let crossing = Crossing { number, from: (id, incarnation), to, out, view };
        self.post(self.now + takes, Happening::SnapshotArrives(Box::new(crossing)));
    }

    /// A snapshot has crossed, unless the network or one of the two was gone.
    pub(super) fn snapshot_arrives(&mut self, crossing: Crossing) -> Result<(), Fault> {
        let Crossing { number, from: (from, incarnation), to, out, view } = crossing;
        let sender = &self.hosts[&from];
        let alive = sender.is_up() && sender.incarnation == incarnation;
        if let Some(paused) = self.hosts.get(&to).map(|host| host.paused_until)
            && paused > self.now
        {
            let crossing = Crossing { number, from: (from, incarnation), to, out, view };
            self.post(paused, Happening::SnapshotArrives(Box::new(crossing)));
            return Ok(());
        }
        let connected = self.net.reaches(from, to) && self.net.reaches(to, from);
        let outcome = match alive && connected {
            true => self.receive_snapshot(from, to, &out, &view)?,
            false => SnapshotOutcome::Failed,
        };
        self.frame_ends(number, matches!(outcome, SnapshotOutcome::Delivered(_)));
        if alive {
            self.look_at_pin(from, &out)?;
            let takes = self.draw_us(self.plan.climate.delay_us.1);
            let what = What::SnapshotSent(out.range, out.send.to, outcome);
            self.post(self.now + takes, Happening::Within(from, incarnation, what));
        }
        Ok(())
    }

    /// What came after a snapshot while it was on its way is in the sender's log.
    fn look_at_pin(&mut self, from: NodeId, out: &SnapshotOut) -> Result<(), Fault> {
        let Some(process) = self.process(from) else { return Ok(()) };
        let pinned = process.core.pinned(out.range, out.send.to);
        let raft = process.core.store().replica(out.range).map(store::Replica::raft);
        let (Some(position), Some(raft)) = (pinned, raft) else {
            self.tally.count("snapshot without a pin");
            return Ok(());
        };
        let (truncated, last) = (raft.truncated().index, raft.last().index);
        let peer = raft.peers().find(|peer| peer.id == out.send.to);
        let has = peer.map_or(position, |peer| peer.matched.max(position));
        if truncated > has {
            let what = format!("n{:x} has cut its log at {truncated}, the peer has {has}", from.0);
            return Err(("the log behind a snapshot is kept", what));
        }
        if last > position {
            self.tally.count("written behind a snapshot");
        }
        Ok(())
    }

    fn receive_snapshot(
        &mut self,
        from: NodeId,
        to: NodeId,
        out: &SnapshotOut,
        view: &mvcc::View,
    ) -> Result<SnapshotOutcome, Fault> {
        let broken = |what: String| -> Fault { ("a snapshot is whole", what) };
        let limits = super::host::Host::import_limits(&self.plan.climate);
        let cut = !self.healed && self.net.draw(10) == 0;
        let Some(host) = self.hosts.get_mut(&to) else { return Ok(SnapshotOutcome::Failed) };
        match &mut host.process {
            Some(process) if !process.receiving => process.receiving = true,
            _ => return Ok(SnapshotOutcome::Failed),
        }
        let Ok((position, envelope)) = snapshot_message(out, view) else {
            host.process.iter_mut().for_each(|process| process.receiving = false);
            return Ok(SnapshotOutcome::Failed);
        };
        let engine = host.stage();
        let mut import =
            mvcc::Import::begin(engine, limits).map_err(|error| broken(error.to_string()))?;
        for chunk in view.export() {
            let chunk = chunk.map_err(|error| broken(error.to_string()))?;
            import.push(&chunk).map_err(|error| broken(error.to_string()))?;
            if cut {
                // The connection is lost in the middle. A process would clean up; one that is
                // killed at this moment does not, and that is the harder case.
                self.tally.count("snapshot cut off");
                self.crash(to, false, None);
                let takes = self.draw_us(2_000_000);
                self.post(self.now + takes, Happening::Restart(to));
                return Ok(SnapshotOutcome::Failed);
            }
        }
        let state = import.finish().map_err(|error| broken(error.to_string()))?;
        self.tally.count("snapshot received");
        self.trace
            .tell(self.now, format_args!("n{:x} has n{:x}'s snapshot at {position}", to.0, from.0));
        self.step(to, Input::SnapshotStaged(from, envelope, Box::new(state)))?;
        Ok(SnapshotOutcome::Delivered(position.index))
    }

    fn installed(&mut self, id: NodeId) {
        self.tally.count("snapshot installed");
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.install_staged();
        let Some(process) = &mut host.process else { return };
        process.receiving = false;
    }
}
