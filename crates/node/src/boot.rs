//! What a member begins with: a founding state, and a log that fits the state.
//!
//! Over any disk and any engine, so that a simulator restarts its members by the very lines by
//! which real ones restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use env::Disk;
use etcd::{FoundingMember, Machine};
use mvcc::OpenError;
use mvcc::engine::partition::Partition;
use mvcc::engine::{Engine, Snapshot as _, Table, Write};
use prost::Message as _;
use raft::{
    Entry, GroupId, HardState, LogIndex, LogPosition, Membership, Payload, ReplicaId, Restored,
    Term,
};
use storage::Log;
use storage::log::{GroupWrite, RecoveredGroup};
use store::RangeId;
use store::liveness::Record;

use crate::core::membership_row;
pub use crate::core::stored_membership;

use crate::wire::{self, pb};

/// Why a member cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Log and state do not fit together, or hold what cannot be.
    #[error("{0}")]
    Damaged(String),
    /// The log cannot be written.
    #[error("{0}")]
    Log(String),
}

fn damaged(error: impl std::fmt::Display) -> BootError {
    BootError::Damaged(error.to_string())
}

fn log_error(error: impl std::fmt::Display) -> BootError {
    BootError::Log(error.to_string())
}

/// The group of the log in which a store's liveness record is kept. No range has its number.
const LIVENESS: GroupId = GroupId(0);

/// The term of the entries there, which mean nothing to Raft.
const LIVENESS_TERM: u64 = 1;

/// Where a store's liveness record is in the log: each write is an entry of a group of its own, and
/// takes the one before away. So it shares the sync of whatever is written with it.
#[derive(Clone, Debug, Default)]
pub struct LivenessLog {
    last: LogIndex,
}

impl LivenessLog {
    /// Finds the record that was written last, if there is any.
    ///
    /// # Errors
    /// [`BootError::Damaged`] if it cannot be read, or is not there although replicas are bound to
    /// leaders, which took a promise: a store must not start without what it has promised.
    pub fn open<D: Disk>(
        log: &Log<D>,
        groups: &mut BTreeMap<GroupId, RecoveredGroup>,
    ) -> Result<(LivenessLog, Option<Record>), BootError> {
        let found = groups.remove(&LIVENESS).unwrap_or_default();
        let last = found.last_index;
        if last == found.truncated.index {
            if groups.values().any(|group| group.hard_state.binding.is_some()) {
                return Err(damaged("the liveness record is gone, and replicas are bound by it"));
            }
            return Ok((LivenessLog { last }, None));
        }
        let entries = log.reader().entries(LIVENESS, last, last, usize::MAX).map_err(damaged)?;
        let [Entry { payload: Payload::Data(bytes), .. }] = &entries[..] else {
            return Err(damaged("the liveness record is not where it was written"));
        };
        Ok((LivenessLog { last }, Some(Record::decode(bytes).map_err(damaged)?)))
    }

    /// What writes the record, in place of the one before.
    pub fn write(&mut self, record: Bytes) -> GroupWrite {
        let before = LogPosition::new(self.last.0, LIVENESS_TERM);
        self.last = self.last.next();
        let (index, term) = (self.last, Term(LIVENESS_TERM));
        GroupWrite {
            entries: vec![Entry { index, term, payload: Payload::Data(record) }],
            truncate_to: Some(before).filter(|before| before.index.0 > 0),
            ..GroupWrite::new(LIVENESS)
        }
    }
}

/// The members as Raft knows them.
///
/// # Errors
/// [`BootError::Damaged`] if a member has the id 0.
pub fn replicas(members: &[FoundingMember]) -> Result<Vec<ReplicaId>, BootError> {
    let replica = |member: &FoundingMember| {
        ReplicaId::new(member.id).ok_or_else(|| damaged("a member with id 0"))
    };
    members.iter().map(replica).collect()
}

/// Writes the state that all founding members begin with into an empty engine: the members, at
/// index 1 and revision 1. It is durable when this returns.
///
/// # Errors
/// [`BootError::Damaged`] if the engine is not empty, or fails.
pub fn write_founding_state<E: Engine>(
    engine: Arc<E>,
    limits: &etcd::Limits,
    members: &[FoundingMember],
) -> Result<(), BootError> {
    let state = mvcc::State::open(engine).map_err(damaged)?;
    let config = etcd::Config { member_id: 0, limits: limits.clone(), seed: 0 };
    let mut machine = Machine::open(state, config);
    let LogPosition { index, term } = Restored::FOUNDED_AT;
    let effects = Machine::<E>::founding(term.0, members);
    let row = membership_row(&Membership::of_voters(replicas(members)?));
    machine.apply_with(Duration::ZERO, index.0, term.0, &effects, Some(row)).map_err(damaged)?;
    if let Some(job) = machine.state_mut().freeze() {
        let done = job.run().map_err(damaged)?;
        drop(machine.state_mut().finish(done));
    }
    Ok(())
}

/// What the first partition of the ranges' engine says of them.
const RANGES_ROW: &[u8] = b"ranges";

/// Where that stands: no range has this number.
const RANGES_PARTITION: u64 = 0;

/// The ranges beside the dense one, as the cluster was founded with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// How many: their numbers follow that of the dense one.
    pub count: u64,
    /// Who has a replica of each.
    pub membership: Membership,
}

impl Ranges {
    /// Their numbers.
    pub fn ids(&self) -> impl Iterator<Item = RangeId> + use<> {
        (1..=self.count).map(|nth| RangeId(RangeId::DENSE.0 + nth))
    }

    /// Writes into an empty engine which ranges there are. It is durable when this returns.
    ///
    /// # Errors
    /// [`BootError::Damaged`] if the engine fails.
    pub fn found<E: Engine>(&self, engine: &Arc<E>) -> Result<(), BootError> {
        let row = pb::Ranges {
            count: self.count,
            membership: Some(wire::message::encode_membership(&self.membership)),
        };
        let partition = Partition::new(Arc::clone(engine), RANGES_PARTITION);
        let row = Write::Put(Table::Meta, RANGES_ROW.into(), row.encode_to_vec().into());
        partition.write(&[row]).map_err(damaged)
    }

    /// Which ranges an engine says that there are; none if it is empty.
    ///
    /// # Errors
    /// [`BootError::Damaged`] if it cannot be read.
    pub fn read<E: Engine>(engine: &Arc<E>) -> Result<Option<Ranges>, BootError> {
        let partition = Partition::new(Arc::clone(engine), RANGES_PARTITION);
        let snapshot = partition.snapshot().map_err(damaged)?;
        let Some(row) = snapshot.get(Table::Meta, RANGES_ROW).map_err(damaged)? else {
            return Ok(None);
        };
        let row = pb::Ranges::decode(row).map_err(damaged)?;
        let membership = row.membership.unwrap_or_default();
        let membership = wire::message::decode_membership(membership).map_err(damaged)?;
        Ok(Some(Ranges { count: row.count, membership }))
    }

    /// What each of them starts from, according to log and states. A range that was never
    /// written to is founded in the log first, all of them by one sync.
    ///
    /// # Errors
    /// As [`reconcile`].
    pub fn restore<D: Disk, E: Engine>(
        &self,
        log: &mut Log<D>,
        groups: &mut BTreeMap<GroupId, RecoveredGroup>,
        engine: &Arc<E>,
        limits: mvcc::Limits,
    ) -> Result<Vec<(RangeId, Restored)>, BootError> {
        let held: BTreeSet<RangeId> = partitions_held(engine)?.into_iter().map(range_of).collect();
        let founded = Restored::founding(self.membership.clone());
        let mut restored = Vec::new();
        let mut founding = Vec::new();
        for range in self.ids() {
            let group = range.group();
            let Some(found) = groups.remove(&group) else {
                founding.push(GroupWrite {
                    reset: Some(Restored::FOUNDED_AT),
                    hard_state: Some(founded.hard_state),
                    ..GroupWrite::new(group)
                });
                restored.push((range, founded.clone()));
                continue;
            };
            let held = held.contains(&range).then(|| Self::held(engine, range, limits));
            let (applied, membership) = held
                .transpose()?
                .flatten()
                .unwrap_or_else(|| (Restored::FOUNDED_AT, self.membership.clone()));
            restored.push((range, fit(log, group, found, applied, membership)?));
        }
        for writes in founding.chunks(FOUNDED_AT_ONCE) {
            log.append(writes).map_err(log_error)?;
        }
        if !founding.is_empty() {
            log.sync().map_err(log_error)?;
        }
        Ok(restored)
    }

    /// How far a range's state is, and who has replicas of it by then. `None` if nothing was ever
    /// written: its partition may have the beginning of an import that a crash has cut off.
    fn held<E: Engine>(
        engine: &Arc<E>,
        range: RangeId,
        limits: mvcc::Limits,
    ) -> Result<Option<(LogPosition, Membership)>, BootError> {
        let state = open_range(engine, range, limits).map_err(damaged)?;
        let applied = LogPosition::new(state.applied().index, state.applied().term);
        if applied.index == LogIndex(0) {
            return Ok(None);
        }
        let membership = stored_membership(&state.view()).map_err(BootError::Damaged)?;
        Ok(Some((applied, membership)))
    }
}

/// Ranges founded by one append to the log.
const FOUNDED_AT_ONCE: usize = 10_000;

/// A range has two partitions: one in use, and one into which a snapshot is received. What is
/// further along is the range's state, so that a crash at any moment leaves one or the other in
/// force.
pub(crate) fn partitions_of(range: RangeId) -> [u64; 2] {
    [2 * range.0, 2 * range.0 + 1]
}

/// The range to which a partition belongs.
pub(crate) fn range_of(partition: u64) -> RangeId {
    RangeId(partition / 2)
}

/// The partitions of ranges of which an engine holds anything.
pub(crate) fn partitions_held<E: Engine>(engine: &Arc<E>) -> Result<BTreeSet<u64>, BootError> {
    let numbers = Partition::numbers(&**engine).map_err(damaged)?;
    Ok(numbers.into_iter().filter(|&number| number != RANGES_PARTITION).collect())
}

/// Opens the state of a range beside the dense one: empty if nothing was ever written to it.
pub(crate) fn open_range<E: Engine>(
    engine: &Arc<E>,
    range: RangeId,
    limits: mvcc::Limits,
) -> Result<mvcc::State<Partition<E>>, OpenError> {
    let mut furthest: Option<mvcc::State<Partition<E>>> = None;
    for number in partitions_of(range) {
        let partition = Arc::new(Partition::new(Arc::clone(engine), number));
        match mvcc::State::open_with(partition, limits) {
            Ok(state) => {
                if furthest.as_ref().is_none_or(|other| other.applied() < state.applied()) {
                    furthest = Some(state);
                }
            }
            Err(OpenError::ImportUnfinished) => {}
            Err(error) => return Err(error),
        }
    }
    // Only one of the two can be in the middle of an import.
    furthest.ok_or(OpenError::ImportUnfinished)
}

/// Fits the log to the state. The state may be ahead: it is written without waiting for this
/// member's log, and a snapshot is the state first and the log's reset second. Then the log
/// begins anew behind it: all that is in the state is committed.
///
/// # Errors
/// [`BootError::Damaged`] if there is a gap between the two; [`BootError::Log`] if the log
/// cannot be begun anew.
pub fn reconcile<D: Disk, E: Engine>(
    log: &mut Log<D>,
    group: GroupId,
    found: RecoveredGroup,
    state: &mvcc::State<E>,
) -> Result<Restored, BootError> {
    let applied = LogPosition::new(state.applied().index, state.applied().term);
    let membership = stored_membership(&state.view()).map_err(BootError::Damaged)?;
    fit(log, group, found, applied, membership)
}

/// The same for a state that has applied so much, and holds this membership.
fn fit<D: Disk>(
    log: &mut Log<D>,
    group: GroupId,
    found: RecoveredGroup,
    applied: LogPosition,
    membership: Membership,
) -> Result<Restored, BootError> {
    let mut hard_state = found.hard_state;
    if hard_state.term < applied.term {
        hard_state =
            HardState { term: applied.term, vote: None, commit: applied.index, binding: None };
    }
    hard_state.commit = hard_state.commit.max(applied.index);
    let term_of = |index| {
        let run = found.terms.iter().rev().find(|&&(first, _)| first <= index);
        run.map(|&(_, term)| term)
    };
    let holds = found.last_index >= applied.index
        && (found.truncated == applied || term_of(applied.index) == Some(applied.term));
    let mut restored = Restored {
        hard_state,
        membership,
        truncated: found.truncated,
        terms: found.terms,
        last_index: found.last_index,
        applied: applied.index,
        entries: Vec::new(),
    };
    if !holds {
        if found.truncated.index > applied.index {
            return Err(BootError::Damaged(format!(
                "the log begins after {}, the state ends at {applied}: files are missing",
                found.truncated
            )));
        }
        restored.truncated = applied;
        restored.terms = Vec::new();
        restored.last_index = applied.index;
        let write = GroupWrite {
            reset: Some(applied),
            hard_state: Some(hard_state),
            ..GroupWrite::new(group)
        };
        log.append(&[write]).map_err(log_error)?;
        log.sync().map_err(log_error)?;
    }
    restored.hard_state.commit = restored.hard_state.commit.min(restored.last_index);
    Ok(restored)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use env::SimDisk;
    use raft::{Binding, Epoch};
    use storage::log::Options;

    use super::*;

    fn open(disk: &SimDisk) -> (Log<SimDisk>, BTreeMap<GroupId, RecoveredGroup>) {
        let (log, recovered) =
            Log::open(disk.clone(), Path::new("/log"), Options::default()).unwrap();
        (log, recovered.groups)
    }

    /// A store that does not know what it has promised does not start with replicas that stand by somebody.
    #[test]
    fn the_promises_of_bound_replicas_are_not_taken_for_none() {
        let disk = SimDisk::new(1);
        let (mut log, mut groups) = open(&disk);
        let (mut liveness, none) = LivenessLog::open(&log, &mut groups).unwrap();
        assert_eq!(none, None, "a new store has promised nothing");
        let leader = ReplicaId::new(2).unwrap();
        let binding = Some(Binding { leader, epoch: Epoch(3) });
        let hard_state = Some(HardState { term: Term(4), binding, ..HardState::default() });
        log.append(&[GroupWrite { hard_state, ..GroupWrite::new(GroupId(7)) }]).unwrap();
        log.sync().unwrap();
        drop(log);
        let (mut log, mut groups) = open(&disk);
        let refused = LivenessLog::open(&log, &mut groups).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("liveness record is gone"), "{refused}");
        let record = Record::default();
        log.append(&[liveness.write(record.encode().into())]).unwrap();
        log.sync().unwrap();
        drop(log);
        let (log, mut groups) = open(&disk);
        assert_eq!(LivenessLog::open(&log, &mut groups).unwrap().1, Some(record));
    }

    /// A member that goes down while it receives a range's first snapshot has nothing of that range.
    #[test]
    fn a_crash_in_the_first_import_of_a_range_leaves_it_as_founded() {
        let disk = SimDisk::new(1);
        let (mut log, mut groups) = open(&disk);
        let engine = Arc::new(mvcc::engine::mem::MemEngine::new());
        let membership = Membership::of_voters([ReplicaId::new(1).unwrap()]);
        let ranges = Ranges { count: 1, membership };
        ranges.found(&engine).unwrap();
        let limits = mvcc::Limits::default();
        let founded = ranges.restore(&mut log, &mut groups, &engine, limits).unwrap();
        let range = ranges.ids().next().unwrap();
        let target = Partition::new(Arc::clone(&engine), partitions_of(range)[1]);
        drop(mvcc::Import::begin(Arc::new(target), limits).unwrap());
        drop(log);
        let (mut log, mut groups) = open(&disk);
        let again = ranges.restore(&mut log, &mut groups, &engine, limits).unwrap();
        assert_eq!(format!("{again:?}"), format!("{founded:?}"));
    }
}
