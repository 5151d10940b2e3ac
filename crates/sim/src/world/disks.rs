//! The log's writer and reader, and the state engine's writer: the threads of a real member, whose
//! work takes time here and is cut off when the process ends.

use std::time::Duration;

use node::core::{DurableWrite, Input};
use raft::FetchRequest;
use storage::log::{AppendError, GroupWrite, ReadError};
use store::{NodeId, RangeId};

use super::host::{Host, Job, LogCommand, of_data};
use super::{Happening, What, World};
use crate::check::{Fault, Rules};

/// Writes that share a sync, at most.
const GROUP_MAX: usize = 64;
/// A full disk is asked again after this.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// What became of a round of appending.
enum Appended {
    Nothing,
    Something,
    /// The disk refused, in its own words.
    Failed(String),
}

impl World {
    /// The writer takes what has come, and begins to make it durable.
    pub(super) fn log_begins(&mut self, id: NodeId) -> Result<(), Fault> {
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        if host.process.as_ref().is_none_or(|process| process.syncing) {
            return Ok(());
        }
        let was_full = host.process.as_ref().is_some_and(|process| process.log_full);
        let appended = append_all(host, &mut self.rules)?;
        let is_full = host.process.as_ref().is_some_and(|process| process.log_full);
        let slow = host.slow_disk;
        if let Appended::Failed(reason) = appended {
            self.disk_failed(id, &reason);
            return Ok(());
        }
        let retry_at = host.process.as_ref().and_then(|process| process.retry_at);
        if is_full && retry_at.is_none_or(|at| at <= self.now) {
            let retry_at = self.now + FULL_PAUSE;
            self.process(id).into_iter().for_each(|process| process.retry_at = Some(retry_at));
            self.post_within(id, retry_at, What::LogBegins);
        }
        if is_full != was_full {
            self.tally.count(if is_full { "log full" } else { "log has room again" });
            self.step(id, Input::DiskFull(is_full))?;
        }
        if matches!(appended, Appended::Something) {
            let (least, more) = self.plan.climate.sync_us;
            let mut takes = Duration::from_micros(least) + self.draw_us(more);
            if slow.0 > self.now {
                takes += Duration::from_micros(slow.1);
            }
            self.process(id).into_iter().for_each(|process| process.syncing = true);
            self.post_within(id, self.now + takes, What::LogEnds);
            let one_in = self.plan.climate.ambush.append_one_in;
            self.lies_in_wait(one_in, id, "ambush: after an append");
        }
        Ok(())
    }

    /// What was appended is durable, and lets go what waited for that.
    pub(super) fn log_ends(&mut self, id: NodeId) -> Result<(), Fault> {
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let Some(process) = &mut host.process else { return Ok(()) };
        process.syncing = false;
        if let Err(error) = process.log.sync() {
            let reason = error.to_string();
            self.disk_failed(id, &reason);
            return Ok(());
        }
        self.tally.count("sync");
        let released = std::mem::take(&mut process.released);
        let written = std::mem::take(&mut process.written);
        host.mirror = host.shadow.clone();
        host.record = host.shadow_record.clone();
        host.units.clear();
        self.send(id, released)?;
        for write in written {
            self.step(id, Input::LogWritten(write))?;
        }
        self.post_within(id, self.now, What::LogBegins);
        Ok(())
    }

    /// The disk has failed: the process ends, and nothing that was not durable can be relied upon.
    pub(super) fn disk_failed(&mut self, id: NodeId, reason: &str) {
        self.tally.count("i/o error");
        self.trace.tell(self.now, format_args!("n{:x}: {reason}: it ends", id.0));
        self.crash(id, true, None);
        let takes = self.draw_us(2_000_000);
        self.post(self.now + takes, Happening::Restart(id));
    }

    /// The reader has found what was asked for.
    pub(super) fn fetched(
        &mut self,
        id: NodeId,
        range: RangeId,
        fetch: FetchRequest,
    ) -> Result<(), Fault> {
        let Some(process) = self.process(id) else { return Ok(()) };
        let FetchRequest { id: number, first, last, bytes_max, .. } = fetch;
        let entries = match process.reader.entries(range.group(), first, last, bytes_max) {
            Ok(entries) => entries,
            Err(ReadError::Truncated { .. }) => Vec::new(),
            Err(error) => {
                let reason = error.to_string();
                self.disk_failed(id, &reason);
                return Ok(());
            }
        };
        self.tally.count("log read");
        self.step(id, Input::Fetched(range, number, entries))
    }

    /// What a member does from time to time: looks at its clock, writes its state.
    pub(super) fn chores(&mut self, id: NodeId) -> Result<(), Fault> {
        let climate = &self.plan.climate;
        let (every, takes) = (climate.checkpoint_us, climate.checkpoint_takes_us);
        let next = self.now + Duration::from_micros(every / 2) + self.draw_us(every);
        self.post_within(id, next, What::Chores);
        let Some(host) = self.hosts.get(&id) else { return Ok(()) };
        let unix = host.clock.unix_s(self.now);
        self.step(id, Input::WallTime(unix))?;
        self.compare_state(id, true)?;
        let Some(process) = self.process(id) else { return Ok(()) };
        if !process.jobs.is_empty() {
            return Ok(());
        }
        let state = process.core.machine_mut().state_mut();
        let job = match state.freeze() {
            Some(job) => Some(Job::Checkpoint(job)),
            None => state.collect().map(Job::Collect),
        };
        if let Some(job) = job {
            process.jobs.push_back(job);
            let takes = self.draw_us(takes);
            self.post_within(id, self.now + takes, What::JobEnds);
        }
        Ok(())
    }

    pub(super) fn job_ends(&mut self, id: NodeId) -> Result<(), Fault> {
        let Some(process) = self.process(id) else { return Ok(()) };
        let Some(job) = process.jobs.pop_front() else { return Ok(()) };
        let (done, what) = match &job {
            Job::Checkpoint(job) => (job.run(), "checkpoint"),
            Job::Collect(job) => (job.run(), "collection"),
        };
        let done = done.map_err(|error| ("the state can be written", error.to_string()))?;
        self.tally.count(what);
        self.step(id, Input::Checkpointed(done))
    }
}

/// Appends what waits, as far as there is room. Truncations go ahead where there is none.
fn append_all(host: &mut Host, rules: &mut Rules) -> Result<Appended, Fault> {
    let Some(process) = &mut host.process else { return Ok(Appended::Nothing) };
    let mut appended = Appended::Nothing;
    let mut is_full = false;
    let mut waiting = std::mem::take(&mut process.log_queue);
    let mut taken = 0;
    while let Some(command) = waiting.pop_front() {
        if taken == GROUP_MAX || (is_full && matches!(command, LogCommand::Write(_))) {
            process.log_queue.push_back(command);
            continue;
        }
        taken += 1;
        // What the log refuses is made again when it is tried again.
        let mut liveness = process.liveness.clone();
        let groups = match &command {
            LogCommand::Write(write) => {
                let (groups, record) = (write.groups.clone(), write.liveness.clone());
                DurableWrite::log_writes(groups, record, &mut liveness)
            }
            LogCommand::Truncate(range, to) => {
                vec![GroupWrite { truncate_to: Some(*to), ..GroupWrite::new(range.group()) }]
            }
        };
        if !groups.is_empty() {
            match process.log.append(&groups) {
                Ok(()) => {
                    process.liveness = liveness;
                    if let LogCommand::Write(DurableWrite { liveness: Some(record), .. }) = &command
                    {
                        host.shadow_record = store::liveness::Record::decode(record)
                            .map_err(|error| ("what is promised is durable", error.to_string()))?;
                    }
                    let groups = of_data(groups);
                    for group in &groups {
                        let first = group.entries.first().map(|entry| entry.index);
                        let last = host.shadow.last().index;
                        let over = first.filter(|first| *first <= last && group.reset.is_none());
                        rules.overwritten += over.map_or(0, |first| last.0 + 1 - first.0);
                        rules.truncated += u64::from(group.truncate_to.is_some());
                        if let (Some(stored), None, None) = (group.hard_state, first, group.reset)
                            && let Some(vote) = stored.vote
                            // A binding is stored later, with the vote beside it.
                            && stored.binding.is_none()
                        {
                            let (to, last) = (NodeId(vote.get()), host.shadow.last());
                            rules.stores_vote(host.id, to, stored.term, last);
                        }
                        if let Some(first) = group.entries.first() {
                            let before = match group.reset {
                                Some(reset) => reset,
                                None => host.shadow.before(first.index),
                            };
                            rules.appended(host.id, before, &group.entries)?;
                        }
                        host.shadow.apply(group);
                    }
                    host.units.push_back(groups);
                }
                Err(AppendError::Full { .. }) => {
                    is_full = true;
                    process.log_queue.push_back(command);
                    continue;
                }
                Err(error) => return Ok(Appended::Failed(error.to_string())),
            }
        }
        appended = Appended::Something;
        if let LogCommand::Write(write) = command {
            process.released.extend(write.then);
            process.written.push(write.id);
        }
    }
    process.log_full = is_full;
    Ok(appended)
}
