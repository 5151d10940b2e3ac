//! What the ranges beside the dense one write into the engine that they share.
//!
//! A *pass* goes over all that are awake, some at a time: the core does not stand still for a hundred thousand
//! of them. A pass of checkpoints comes when it is due, and each part of it is one write. Passes of
//! collection follow, one after the other, until nothing is left: steps of removing what compaction has left, and
//! the emptying of partitions that a snapshot has replaced, or that one was not finished in.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use mvcc::engine::partition::Partition;
use mvcc::engine::{Engine, EngineError};
use mvcc::{CheckpointJob, CollectJob, Done, ReloadJob};
use store::RangeId;

use super::{Core, Fatal};
use crate::boot::partitions_of;

/// Ranges that are looked at for one part of a pass, or when there is no room.
const RANGES_AT_ONCE: usize = 4096;

/// Steps of collection in one part of a pass: each is a write of its own.
const COLLECTS_AT_ONCE: usize = 64;

/// Partitions emptied in one part of a pass: each takes a few writes.
const CLEARS_AT_ONCE: usize = 16;

/// Ranges that give their leadership away for want of room, at once.
const HAND_OVERS_AT_ONCE: usize = 256;

/// What a pass is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pass {
    #[default]
    Checkpoints,
    Collection,
}

/// What is being written, and where a pass stands.
#[derive(Default)]
pub(super) struct Writing {
    /// Partitions into which a job writes, or will as soon as there is room.
    out: BTreeSet<u64>,
    /// Partitions that no range uses any more, to be emptied.
    superseded: BTreeSet<u64>,
    /// What is under way, if anything is: it goes on with the range.
    pass: Option<(Pass, RangeId)>,
    /// Something was written in this pass, or, if it is one of checkpoints, since the one before began: there
    /// is something newer to read from for all.
    wrote: bool,
    wrote_before: bool,
}

impl Writing {
    /// Whether a snapshot can be received there. It empties the partition by itself.
    pub(super) fn take(&mut self, partition: u64) -> bool {
        let free = !self.out.contains(&partition);
        free.then(|| self.superseded.remove(&partition));
        free
    }

    /// Nobody uses this partition from now on.
    pub(super) fn supersede(&mut self, partition: u64) {
        self.superseded.insert(partition);
    }
}

/// Writes of many ranges, to be run together, and by whom each is awaited.
pub struct RangeJobs<E: Engine> {
    /// Those with something to write.
    pub checkpoints: Vec<CheckpointJob<Partition<E>>>,
    /// Those that only let go of an old view.
    pub reloads: Vec<ReloadJob<Partition<E>>>,
    /// Whose they are: the checkpoints', then the reloads'.
    ranges: Vec<RangeId>,
    /// Those that take a step of collection.
    pub collects: Vec<(RangeId, CollectJob<Partition<E>>)>,
    /// What nobody uses any more.
    pub clears: Vec<Partition<E>>,
}

/// What [`RangeJobs`] have done.
#[derive(Default)]
pub struct RangesWritten {
    done: Vec<(RangeId, Done)>,
    cleared: Vec<u64>,
    /// There was no room to empty these.
    kept: Vec<u64>,
    /// Nor for a step of collection.
    full: bool,
}

impl<E: Engine> Default for RangeJobs<E> {
    fn default() -> Self {
        RangeJobs {
            checkpoints: Vec::new(),
            reloads: Vec::new(),
            ranges: Vec::new(),
            collects: Vec::new(),
            clears: Vec::new(),
        }
    }
}

impl<E: Engine> RangeJobs<E> {
    /// Runs them all: one write for the checkpoints, and some for the rest. Meant for a thread of its
    /// own.
    ///
    /// # Errors
    /// The engine's. After `Full` they may be run again: what was written is written again. Collection and
    /// emptying do not wait for room, which others may make: they have their turn in a later pass.
    pub fn run(&self) -> Result<RangesWritten, EngineError> {
        let done = mvcc::run_together(&self.checkpoints, &self.reloads)?;
        let mut done: Vec<_> = self.ranges.iter().copied().zip(done).collect();
        let mut full = false;
        for (range, job) in &self.collects {
            let one = match job.run() {
                Err(EngineError::Full { .. }) => {
                    full = true;
                    job.skip()?
                }
                ran => ran?,
            };
            done.push((*range, one));
        }
        let mut written = RangesWritten { done, full, ..RangesWritten::default() };
        for partition in &self.clears {
            match mvcc::clear(partition) {
                Ok(()) => written.cleared.push(partition.number()),
                Err(EngineError::Full { .. }) => written.kept.push(partition.number()),
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn is_idle(&self) -> bool {
        self.ranges.is_empty() && self.collects.is_empty() && self.clears.is_empty()
    }
}

impl<E: Engine> Core<E> {
    /// The next part of what the ranges beside the dense one have to write; `None` if there is nothing in it:
    /// whether another part follows is for [`Core::ranges_go_on`] to say. If checkpoints are `due`, a pass of
    /// them begins. One part may be out at a time.
    pub fn freeze_ranges(&mut self, due: bool) -> Option<RangeJobs<E>> {
        let writing = &mut self.ranges.writing;
        let checkpoints = matches!(writing.pass, Some((Pass::Checkpoints, _)));
        if due && !checkpoints {
            writing.pass = Some((Pass::Checkpoints, RangeId(0)));
            writing.wrote_before = std::mem::take(&mut writing.wrote);
        }
        let (pass, from) = self.ranges.writing.pass?;
        let jobs = match pass {
            Pass::Checkpoints => self.freeze_some(from),
            Pass::Collection => self.collect_some(from),
        };
        (!jobs.is_idle()).then_some(jobs)
    }

    /// Whether a pass is under way: with no part out, the next one may be asked for.
    #[must_use]
    pub fn ranges_go_on(&self) -> bool {
        self.ranges.writing.pass.is_some()
    }

    /// Notes that a part of a pass ends before `next`, or the pass.
    fn goes_on(&mut self, pass: Pass, next: Option<RangeId>, worked: bool) {
        let writing = &mut self.ranges.writing;
        writing.wrote |= worked;
        writing.pass = match (pass, next) {
            (pass, Some(next)) => Some((pass, next)),
            (Pass::Checkpoints, None) => Some((Pass::Collection, RangeId(0))),
            // Once more, if there was something: what was collected may have more.
            (Pass::Collection, None) => worked.then_some((Pass::Collection, RangeId(0))),
        };
    }

    fn freeze_some(&mut self, from: RangeId) -> RangeJobs<E> {
        let mut jobs = RangeJobs::default();
        let mut unchanged = Vec::new();
        let mut next = None;
        for (looked_at, (&range, group)) in self.ranges.awake.range_mut(from..).enumerate() {
            if looked_at == RANGES_AT_ONCE {
                next = Some(range);
                break;
            }
            match group.machine.state_mut().freeze() {
                Some(job) => {
                    jobs.checkpoints.push(job);
                    jobs.ranges.push(range);
                }
                None => unchanged.push(range),
            }
        }
        self.goes_on(Pass::Checkpoints, next, !jobs.checkpoints.is_empty());
        let stale = self.ranges.writing.wrote || self.ranges.writing.wrote_before;
        for range in unchanged.into_iter().filter(|_| stale) {
            let group = self.ranges.awake.get_mut(&range);
            if let Some(job) = group.and_then(|group| group.machine.state_mut().reload()) {
                jobs.reloads.push(job);
                jobs.ranges.push(range);
            }
        }
        self.are_out(jobs.ranges.iter().copied());
        jobs
    }

    fn collect_some(&mut self, from: RangeId) -> RangeJobs<E> {
        let mut jobs = RangeJobs::default();
        let mut next = None;
        for (looked_at, (&range, group)) in self.ranges.awake.range_mut(from..).enumerate() {
            if looked_at == RANGES_AT_ONCE || jobs.collects.len() == COLLECTS_AT_ONCE {
                next = Some(range);
                break;
            }
            if let Some(job) = group.machine.state_mut().collect() {
                jobs.collects.push((range, job));
            }
        }
        self.clear_some(&mut jobs);
        self.goes_on(Pass::Collection, next, !jobs.is_idle());
        self.are_out(jobs.collects.iter().map(|(range, _)| *range));
        jobs
    }

    /// Jobs of these ranges write where their states are.
    fn are_out(&mut self, ranges: impl Iterator<Item = RangeId>) {
        for range in ranges {
            let partition = self.ranges.partition_in_use(range);
            self.ranges.writing.out.extend(partition);
        }
    }

    fn clear_some(&mut self, jobs: &mut RangeJobs<E>) {
        let Some(engine) = self.ranges.engine() else { return };
        let writing = &mut self.ranges.writing;
        while jobs.clears.len() < CLEARS_AT_ONCE {
            // One into which an old checkpoint still writes has its turn when that is done.
            let free = writing.superseded.iter().find(|number| !writing.out.contains(number));
            let Some(number) = free.copied() else { break };
            writing.superseded.remove(&number);
            writing.out.insert(number);
            jobs.clears.push(Partition::new(Arc::clone(&engine), number));
        }
    }

    pub(super) fn ranges_written(
        &mut self,
        now: Duration,
        written: RangesWritten,
    ) -> Result<(), Fatal> {
        if written.full || !written.kept.is_empty() {
            // Not at once again: in the pass after the next checkpoints.
            self.ranges.writing.pass = None;
        }
        for number in written.cleared.iter().chain(&written.kept) {
            self.ranges.writing.out.remove(number);
        }
        self.ranges.writing.superseded.extend(written.kept);
        for (range, done) in written.done {
            for partition in partitions_of(range) {
                self.ranges.writing.out.remove(&partition);
            }
            super::turn!(self, range, turn => turn.checkpointed(now, done)?);
        }
        Ok(())
    }

    /// There is no room: leaders among the ranges give way to members that may have some.
    pub(super) fn hand_over_ranges(&mut self, now: Duration) -> Result<(), Fatal> {
        let after = self.ranges.looked_at.take().map_or(Bound::Unbounded, Bound::Excluded);
        let awake = self.ranges.awake.range((after, Bound::Unbounded));
        let next: Vec<RangeId> = awake.map(|(&range, _)| range).take(RANGES_AT_ONCE).collect();
        self.ranges.looked_at = next.last().copied().filter(|_| next.len() == RANGES_AT_ONCE);
        let mut handed_over = 0;
        for range in next {
            if !self.ranges.led.contains(&range) {
                continue;
            }
            let began = super::turn!(self, range, turn => turn.hand_over_if_full(now)?);
            handed_over += usize::from(began == Some(true));
            if handed_over == HAND_OVERS_AT_ONCE {
                self.ranges.looked_at = Some(range);
                break;
            }
        }
        Ok(())
    }

    /// No log is kept for followers that lag.
    pub(super) fn cut_logs(&mut self, now: Duration) -> Result<(), Fatal> {
        for range in self.groups() {
            super::turn!(self, range, turn => turn.cut(now)?);
        }
        Ok(())
    }

    /// About how many bytes of these ranges are in memory and not yet in the engine; linear in
    /// the number of those awake.
    #[must_use]
    pub fn ranges_front_bytes(&self) -> usize {
        self.ranges.awake.values().map(|group| group.machine.state().front_bytes()).sum()
    }
}
