//! What the ranges beside the dense one write into the engine that they share: checkpoints, steps of
//! collection behind a compaction, and the emptying of partitions that a snapshot has replaced.
//!
//! A *pass* goes over all that are awake, so many at a time ([`RANGES_AT_ONCE`]): the core does not
//! stand still for a hundred thousand of them, and each part of a pass is one write.

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

/// Ranges that are looked at for one part of a pass.
const RANGES_AT_ONCE: usize = 4096;

/// Steps of collection in one part of a pass: each is a write of its own.
const COLLECTS_AT_ONCE: usize = 64;

/// Partitions emptied in one part of a pass: each takes a few writes.
const CLEARS_AT_ONCE: usize = 16;

/// Ranges that give their leadership away for want of room, at once.
const HAND_OVERS_AT_ONCE: usize = 256;

/// What is being written, and where a pass stands.
#[derive(Default)]
pub(super) struct Writing {
    /// Partitions into which a job writes, or will as soon as there is room.
    out: BTreeSet<u64>,
    /// Partitions that no range uses any more, to be emptied.
    superseded: BTreeSet<u64>,
    /// The pass goes on here; `None` between two passes.
    next: Option<RangeId>,
    /// This pass has written something: there is something newer to read from for all.
    wrote: bool,
    /// Where this pass, or the one before, took a step of collection instead of a checkpoint.
    collected: BTreeSet<RangeId>,
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
    /// The engine's. After `Full` they may be run again: what was written is written again.
    pub fn run(&self) -> Result<RangesWritten, EngineError> {
        let done = mvcc::run_together(&self.checkpoints, &self.reloads)?;
        let mut done: Vec<_> = self.ranges.iter().copied().zip(done).collect();
        for (range, job) in &self.collects {
            done.push((*range, job.run()?));
        }
        let mut cleared = Vec::new();
        for partition in &self.clears {
            mvcc::clear(partition)?;
            cleared.push(partition.number());
        }
        Ok(RangesWritten { done, cleared })
    }

    fn is_idle(&self) -> bool {
        self.checkpoints.is_empty() && self.collects.is_empty() && self.clears.is_empty()
    }
}

impl<E: Engine> Core<E> {
    /// The next part of what the ranges beside the dense one have to write. `None` if nothing is left
    /// of this pass; the next call begins another. One part may be out at a time.
    pub fn freeze_ranges(&mut self) -> Option<RangeJobs<E>> {
        loop {
            let jobs = self.freeze_some();
            let over = self.ranges.writing.next.is_none();
            if !jobs.is_idle() || !jobs.reloads.is_empty() {
                return Some(jobs);
            }
            if over {
                return None;
            }
        }
    }

    /// Whether a pass has begun and is not at its end.
    #[must_use]
    pub fn is_ranges_pass_unfinished(&self) -> bool {
        self.ranges.writing.next.is_some()
    }

    fn freeze_some(&mut self) -> RangeJobs<E> {
        let mut jobs = RangeJobs::default();
        let writing = &mut self.ranges.writing;
        let from = writing.next.take().map_or(Bound::Unbounded, Bound::Included);
        let begins = from == Bound::Unbounded;
        let mut unchanged = Vec::new();
        let awake = self.ranges.awake.range_mut((from, Bound::Unbounded));
        for (looked_at, (&range, group)) in awake.enumerate() {
            if looked_at == RANGES_AT_ONCE {
                writing.next = Some(range);
                break;
            }
            let state = group.machine.state_mut();
            // One that is always written to has its turn, too.
            let turn = jobs.collects.len() < COLLECTS_AT_ONCE && !writing.collected.remove(&range);
            if let Some(job) = turn.then(|| state.collect()).flatten() {
                writing.collected.insert(range);
                jobs.collects.push((range, job));
            } else if let Some(job) = state.freeze() {
                jobs.checkpoints.push(job);
                jobs.ranges.push(range);
            } else {
                unchanged.push(range);
            }
        }
        self.clear_some(&mut jobs);
        let wrote = !jobs.is_idle() || !begins && self.ranges.writing.wrote;
        self.ranges.writing.wrote = wrote;
        for range in unchanged.into_iter().filter(|_| wrote) {
            let group = self.ranges.awake.get_mut(&range);
            if let Some(job) = group.and_then(|group| group.machine.state_mut().reload()) {
                jobs.reloads.push(job);
                jobs.ranges.push(range);
            }
        }
        let collected = jobs.collects.iter().map(|(range, _)| range);
        for range in jobs.ranges.iter().chain(collected) {
            let partition = self.ranges.partition_in_use(*range);
            self.ranges.writing.out.extend(partition);
        }
        jobs
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
        for number in written.cleared {
            self.ranges.writing.out.remove(&number);
        }
        for (range, done) in written.done {
            for partition in partitions_of(range) {
                self.ranges.writing.out.remove(&partition);
            }
            super::turn!(self, range, turn => turn.checkpointed(now, done)?);
        }
        Ok(())
    }

    /// There is no room: leaders among the ranges give way to members that may have some, and no log
    /// is kept for followers that lag.
    pub(super) fn make_room(&mut self, now: Duration) -> Result<(), Fatal> {
        let led: Vec<RangeId> = self.ranges.led.iter().copied().collect();
        let mut handed_over = 0;
        for range in led {
            let began = super::turn!(self, range, turn => turn.hand_over_if_full(now)?);
            handed_over += usize::from(began == Some(true));
            if handed_over == HAND_OVERS_AT_ONCE {
                break;
            }
        }
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
