//! Ranges beside the dense one: thousands of them, of which few do anything.
//!
//! They are made once, when the cluster is founded, and each holds keys and revisions of its own.
//! A request names its range; without a name it is the dense range's. What a range is asked goes
//! the way of every request: to the leader of its group, evaluated there, proposed, written to
//! the one log, applied everywhere, answered.
//!
//! A range that was never asked anything has a replica in the store and nothing here: its log
//! holds the empty entries with which terms begin, and they are applied by being counted. It
//! *wakes* with its first request or with the first entry that carries effects: then its state is
//! opened, a partition of the engine that all of these ranges share. Their checkpoints are
//! written together, too.
//!
//! Caveats. Their members are those that founded the cluster, and do not change: a member that is
//! replaced, or `--force-new-cluster`, leaves them with fewer. There is no one
//! revision over them, no watch, and no lease that spans two: they are what ranges are made of,
//! not yet what users see of them. A range once awake stays so until the process ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::Machine;
use mvcc::State;
use mvcc::engine::Engine;
use mvcc::engine::partition::Partition;
use raft::{Entry, Event, Payload, Restored, RoleKind};
use store::{Envelope, NodeId, RangeId};

use super::group::{Group, Turn};
use super::range_jobs::Writing;
use super::{Core, Fatal, membership_row, nodes_of};
use crate::boot::{open_range, partitions_held, partitions_of, range_of};

/// What the ranges beside the dense one need to be opened.
pub struct RangesConfig<E: Engine> {
    /// The engine in whose partitions their states are.
    pub engine: Arc<E>,
    /// The sizes of the steps in which their states work.
    pub limits: mvcc::Limits,
    /// What their state machines are told.
    pub machine: etcd::Config,
    /// Requests that may wait in one range at once; more are refused with "too many requests", so that
    /// a range that cannot answer leaves the others their part of what a member takes in.
    pub requests_max: usize,
}

/// The ranges beside the dense one.
pub(super) struct Ranges<E: Engine> {
    config: Option<RangesConfig<E>>,
    pub(super) awake: BTreeMap<RangeId, Group<Partition<E>>>,
    /// Those that this member leads; the dense one too.
    pub(super) led: BTreeSet<RangeId>,
    /// The last that was asked to give leadership away for want of room, if there are more behind it.
    pub(super) looked_at: Option<RangeId>,
    /// What they are writing.
    pub(super) writing: Writing,
}

impl<E: Engine> Default for Ranges<E> {
    fn default() -> Self {
        Ranges {
            config: None,
            awake: BTreeMap::new(),
            led: BTreeSet::new(),
            looked_at: None,
            writing: Writing::default(),
        }
    }
}

impl<E: Engine> Ranges<E> {
    pub(super) fn engine(&self) -> Option<Arc<E>> {
        self.config.as_ref().map(|config| Arc::clone(&config.engine))
    }

    pub(super) fn partition_in_use(&self, range: RangeId) -> Option<u64> {
        self.awake.get(&range).map(|group| group.machine.state().engine().number())
    }

    /// Takes note of who leads.
    pub(super) fn observe(&mut self, range: RangeId, events: &[Event]) {
        for event in events {
            match event {
                Event::Role { role: RoleKind::Leader, .. } => self.led.insert(range),
                Event::Role { .. } => self.led.remove(&range),
                _ => continue,
            };
        }
    }
}

impl<E: Engine> Core<E> {
    /// Has this member host these ranges, beside the dense one. To be called before the first
    /// step. Those whose partition holds something are awake from the beginning.
    ///
    /// # Errors
    /// [`Fatal::State`] if a state cannot be opened.
    ///
    /// # Panics
    /// If a range is hosted already.
    pub fn host(
        &mut self,
        config: RangesConfig<E>,
        rafts: impl IntoIterator<Item = (RangeId, raft::Raft)>,
    ) -> Result<(), Fatal> {
        let held = partitions_held(&config.engine).map_err(state_error)?;
        self.ranges.config = Some(config);
        for (range, raft) in rafts {
            let nodes = nodes_of(raft.membership());
            self.shared.store.add(range, raft, nodes);
        }
        for &number in &held {
            let range = range_of(number);
            self.wake(Duration::ZERO, range)?;
            if self.ranges.partition_in_use(range) != Some(number) {
                self.ranges.writing.supersede(number);
            }
        }
        Ok(())
    }

    /// Whether the range has as many requests under way as it may have.
    pub(super) fn is_crowded(&self, range: RangeId) -> bool {
        let max = self.ranges.config.as_ref().map_or(usize::MAX, |config| config.requests_max);
        let group = self.ranges.awake.get(&range);
        group.is_some_and(|group| group.under_way() >= max)
    }

    /// How many ranges are awake, beside the dense one.
    #[must_use]
    pub fn ranges_awake(&self) -> usize {
        self.ranges.awake.len()
    }

    /// The state machine of a range beside the dense one, if it is awake.
    #[must_use]
    pub fn machine_of(&self, range: RangeId) -> Option<&Machine<Partition<E>>> {
        self.ranges.awake.get(&range).map(|group| &group.machine)
    }

    /// Committed entries of a range that sleeps: empty ones are counted as applied, and any other
    /// wakes it. Says whether that was all.
    pub(super) fn asleep(
        &mut self,
        now: Duration,
        range: RangeId,
        entries: &[Entry],
    ) -> Result<bool, Fatal> {
        if range == RangeId::DENSE || self.ranges.awake.contains_key(&range) {
            return Ok(false);
        }
        let empty = |entry: &Entry| matches!(entry.payload, Payload::Empty);
        match entries.last() {
            Some(last) if entries.iter().all(empty) => {
                self.raft_input(range, now, raft::Input::Applied(last.index))?;
                Ok(true)
            }
            _ => {
                self.wake(now, range)?;
                Ok(false)
            }
        }
    }

    /// Opens the state of a range that is here and sleeps.
    pub(super) fn wake(&mut self, now: Duration, range: RangeId) -> Result<(), Fatal> {
        if range == RangeId::DENSE || self.ranges.awake.contains_key(&range) {
            return Ok(());
        }
        let Some(replica) = self.shared.store.replica(range) else { return Ok(()) };
        let Some(config) = &self.ranges.config else { return Ok(()) };
        let state = open_range(&config.engine, range, config.limits).map_err(state_error)?;
        let mut machine = Machine::open(state, config.machine.clone());
        let raft = replica.raft();
        let founded = Restored::FOUNDED_AT;
        if machine.applied().index == 0 {
            let row = Some(membership_row(raft.membership()));
            let (index, term) = (founded.index.0, founded.term.0);
            machine.apply_with(now, index, term, &Bytes::new(), row).map_err(state_error)?;
        }
        let applied = raft.applied();
        if machine.applied().index < applied.0 {
            // Empty entries, counted while it slept.
            let term = raft.term_at(applied).unwrap_or(founded.term);
            machine.skip(applied.0, term.0);
        }
        let group = Group::new(range, machine, raft);
        self.ranges.awake.insert(range, group);
        super::turn!(self, range, turn => turn.serve_if_ready(now)?);
        Ok(())
    }

    /// Where the snapshot of such a range is to be received: beside the state that is in use.
    /// `None` if the range does not live here, or while a checkpoint writes there: that of a state
    /// which an earlier snapshot has replaced.
    ///
    /// # Errors
    /// [`Fatal::State`] if its state cannot be opened.
    pub fn free_partition(
        &mut self,
        now: Duration,
        range: RangeId,
    ) -> Result<Option<Partition<E>>, Fatal> {
        self.wake(now, range)?;
        let Some(group) = self.ranges.awake.get(&range) else { return Ok(None) };
        let used = group.machine.state().engine();
        let (inner, used) = (Arc::clone(used.inner()), used.number());
        let other = partitions_of(range).into_iter().find(|&number| number != used);
        let free = other.filter(|&number| self.ranges.writing.take(number));
        Ok(free.map(|number| Partition::new(inner, number)))
    }

    /// An import into a partition has ended, well or not: it is emptied, unless it is its range's state now.
    pub fn range_import_ended(&mut self, partition: u64) {
        if self.ranges.partition_in_use(range_of(partition)) != Some(partition) {
            self.ranges.writing.supersede(partition);
        }
    }

    /// The data of a snapshot of a range beside the dense one is here.
    pub(super) fn range_snapshot_staged(
        &mut self,
        now: Duration,
        from: NodeId,
        envelope: Envelope,
        state: Box<State<Partition<E>>>,
    ) -> Result<(), Fatal> {
        let range = envelope.range;
        self.wake(now, range)?;
        let Some(group) = self.ranges.awake.get(&range) else {
            self.shared.effects.range_discarded = true;
            return Ok(());
        };
        let partitions = [group.machine.state().engine().number(), state.engine().number()];
        // What follows takes in the events of every range: what was evaluated is proposed before.
        self.propose_touched(now);
        let group = self.ranges.awake.get_mut(&range);
        let turn = group.map(|group| Turn { group, shared: &mut self.shared });
        if turn.is_some_and(|mut turn| turn.stage(&envelope, state)) {
            self.stepped.insert(range);
            self.shared.store.receive(now, from, envelope)?;
            let output = self.shared.store.flush();
            self.take(now, output)?;
            let group = self.ranges.awake.get_mut(&range);
            if group.is_some_and(|group| group.staged.take().is_some()) {
                self.shared.effects.range_discarded = true;
            }
        }
        // The one before, or the one that is not wanted.
        for partition in partitions {
            self.range_import_ended(partition);
        }
        Ok(())
    }
}

fn state_error(error: impl std::fmt::Display) -> Fatal {
    Fatal::State(error.to_string())
}
