//! One member: a machine that stays (disk, engines, clock), and the process on it that comes and
//! goes.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use env::SimDisk;
use etcd::Machine;
use mvcc::engine::mem::MemEngine;
use mvcc::{CheckpointJob, CollectJob};
use node::boot::{self, LivenessLog};
use node::core::{Core, CoreConfig, DurableWrite, Frames, Token};
use raft::{Binding, HardState, LogIndex, LogPosition, Raft, ReplicaId, Term};
use storage::Log;
use storage::log::{GroupWrite, LogReader, OpenError, Options, Recovered, RecoveredGroup};
use store::liveness::Record;
use store::{NodeId, RangeId, Store, WriteId};

use super::watchers::Door;
use crate::climate::{Climate, Support, Version};

/// Where a member's log is on its disk.
const LOG_DIR: &str = "log";

/// What a machine's clocks say of true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Millionths by which the monotonic clock is fast.
    ppm: i64,
    /// A moment of true time, and what the monotonic clock said then.
    base: (Duration, Duration),
    /// Seconds by which the wall clock is ahead.
    pub(crate) wall_s: i64,
}

impl Clock {
    pub(crate) fn new(ppm: i64, wall_s: i64) -> Self {
        Self { ppm, base: (Duration::ZERO, Duration::ZERO), wall_s }
    }

    fn scale(elapsed: Duration, numerator: i128, denominator: i128) -> Duration {
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX / 2_000_000);
        let scaled = nanos * numerator / denominator;
        Duration::from_nanos(u64::try_from(scaled).unwrap_or(0))
    }

    /// What the monotonic clock says at a moment of true time.
    pub(crate) fn monotonic(&self, now: Duration) -> Duration {
        let rate = 1_000_000 + i128::from(self.ppm);
        self.base.1 + Self::scale(now.saturating_sub(self.base.0), rate, 1_000_000)
    }

    /// The moment of true time at which the monotonic clock says so, or a little later.
    pub(crate) fn when(&self, says: Duration) -> Duration {
        let rate = 1_000_000 + i128::from(self.ppm);
        let left = Self::scale(says.saturating_sub(self.base.1), 1_000_000, rate);
        self.base.0 + left + Duration::from_nanos(1)
    }

    /// The machine was suspended: its monotonic clock has gone on by more than true time has.
    pub(crate) fn jump(&mut self, now: Duration, by: Duration) {
        self.base = (now, self.monotonic(now) + by);
    }

    /// Seconds since 1970, as the machine believes.
    pub(crate) fn unix_s(&self, now: Duration) -> u64 {
        (1_700_000_000_i64 + self.wall_s).saturating_add_unsigned(now.as_secs()).unsigned_abs()
    }
}

/// What the log of a member must hold, kept beside it by simple means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) hard_state: HardState,
    pub(crate) truncated: LogPosition,
    /// The term of each entry after `truncated`.
    pub(crate) terms: BTreeMap<u64, u64>,
    /// The last binding that was stored, and in which term, though it may have been let go of since.
    pub(crate) bound: Option<(Term, Binding)>,
}

impl Mirror {
    /// Does what a write does.
    pub(crate) fn apply(&mut self, write: &GroupWrite) {
        if let Some(reset) = write.reset {
            self.truncated = reset;
            self.terms.clear();
        }
        if let Some(first) = write.entries.first() {
            self.terms.split_off(&first.index.0);
        }
        self.terms.extend(write.entries.iter().map(|entry| (entry.index.0, entry.term.0)));
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
            let bound = hard_state.binding.map(|binding| (hard_state.term, binding));
            self.bound = bound.or(self.bound);
        }
        if let Some(to) = write.truncate_to.filter(|to| to.index > self.truncated.index) {
            self.terms = self.terms.split_off(&(to.index.0 + 1));
            self.truncated = to;
        }
    }

    /// The last entry.
    pub(crate) fn last(&self) -> LogPosition {
        self.before(LogIndex(u64::MAX))
    }

    /// Whether the log holds this entry, or has held it below what it was cut to.
    pub(crate) fn holds(&self, at: LogPosition) -> bool {
        at.index <= self.truncated.index || self.terms.get(&at.index.0) == Some(&at.term.0)
    }

    /// The position of the entry before `index`.
    pub(crate) fn before(&self, index: LogIndex) -> LogPosition {
        match self.terms.range(..index.0).next_back() {
            Some((&index, &term)) => LogPosition::new(index, term),
            None => self.truncated,
        }
    }

    /// Whether a log that was opened holds exactly this.
    fn is(&self, found: &RecoveredGroup) -> bool {
        let last = self.terms.last_key_value().map_or(self.truncated.index.0, |(&index, _)| index);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (&index, &term) in &self.terms {
            if runs.last().is_none_or(|&(_, run)| run != term) {
                runs.push((index, term));
            }
        }
        let found_runs: Vec<_> =
            found.terms.iter().map(|(index, term)| (index.0, term.0)).collect();
        (found.hard_state, found.truncated, found.last_index.0)
            == (self.hard_state, self.truncated, last)
            && runs == found_runs
    }
}

/// What the log's writer is told.
pub(crate) enum LogCommand {
    Write(DurableWrite),
    Truncate(RangeId, LogPosition),
}

/// What the state engine's writer is doing.
pub(crate) enum Job {
    Checkpoint(CheckpointJob<MemEngine>),
    Collect(CollectJob<MemEngine>),
}

/// A running process.
pub(crate) struct Process {
    pub(crate) core: Core<MemEngine>,
    pub(crate) log: Log<SimDisk>,
    pub(crate) liveness: LivenessLog,
    pub(crate) reader: LogReader<SimDisk>,
    pub(crate) log_queue: VecDeque<LogCommand>,
    /// Appended, and being made durable.
    pub(crate) written: Vec<WriteId>,
    pub(crate) released: Frames,
    pub(crate) syncing: bool,
    pub(crate) log_full: bool,
    /// When a full log is tried again.
    pub(crate) retry_at: Option<Duration>,
    /// What the state engine's writer has to do, in order; the first is under way.
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) tokens: u64,
    pub(crate) waiting: BTreeMap<Token, u64>,
    pub(crate) flush_at: Option<Duration>,
    pub(crate) tick_at: Option<Duration>,
    pub(crate) receiving: bool,
    pub(crate) door: Door,
    /// The last applied index at which its state was compared.
    pub(crate) compared: u64,
}

/// A machine, and what runs on it.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) disk: SimDisk,
    /// The state; during the transfer of a snapshot, the staged one after it.
    engines: Vec<Arc<MemEngine>>,
    pub(crate) clock: Clock,
    /// What its next process runs.
    pub(crate) version: Version,
    pub(crate) process: Option<Box<Process>>,
    /// Counts processes; what concerns an earlier one is void.
    pub(crate) incarnation: u64,
    pub(crate) paused_until: Duration,
    /// Syncs take so long, until then.
    pub(crate) slow_disk: (Duration, u64),
    /// What its log holds durably.
    pub(crate) mirror: Mirror,
    /// What its log holds, durably or not.
    pub(crate) shadow: Mirror,
    /// What its record of liveness says: durably, and durably or not.
    pub(crate) record: Record,
    pub(crate) shadow_record: Record,
    /// The epoch that processes before this one have asked under, at most.
    pub(crate) asked_before: store::liveness::Epoch,
    /// Appended units that are not known to be durable, oldest first.
    pub(crate) units: VecDeque<Vec<GroupWrite>>,
    /// Its disk is gone, or was damaged while it was down so that it refuses to start.
    pub(crate) damaged: bool,
    /// It has made its name known, as a member does when it starts.
    pub(crate) named: bool,
    /// It is lost, and another has taken its place.
    pub(crate) replaced: bool,
    /// It was removed from the cluster, and knows it.
    pub(crate) removed: bool,
    /// How far its Raft has been checked.
    pub(crate) commit_checked: u64,
    pub(crate) hard_state_seen: HardState,
}

/// What a unit of the log has of the data range: the rest is the store's.
pub(crate) fn of_data(mut groups: Vec<GroupWrite>) -> Vec<GroupWrite> {
    groups.retain(|write| write.group == RangeId::DENSE.group());
    groups
}

/// Why a process does not come up.
#[derive(Debug)]
pub(crate) enum BootFailure {
    /// A fault that was planned: try again later.
    Disk(String),
    /// The log says that it is damaged, as it should if it is.
    Damaged(String),
    /// A rule was broken.
    Broken(String),
}

fn limits(climate: &Climate) -> mvcc::Limits {
    mvcc::Limits {
        checkpoint_write_bytes: climate.checkpoint_write_bytes,
        collect_changes: climate.collect_changes,
        events_row_bytes: 2_000,
        import_write_bytes: 4_000,
        ..mvcc::Limits::default()
    }
}

impl Host {
    pub(crate) fn new(id: NodeId, seed: u64, clock: Clock, version: Version) -> Self {
        Self {
            id,
            disk: SimDisk::new(seed),
            engines: Vec::new(),
            clock,
            version,
            process: None,
            incarnation: 0,
            paused_until: Duration::ZERO,
            slow_disk: (Duration::ZERO, 0),
            mirror: Mirror::default(),
            shadow: Mirror::default(),
            record: Record::default(),
            shadow_record: Record::default(),
            asked_before: store::liveness::Epoch::default(),
            units: VecDeque::new(),
            damaged: false,
            replaced: false,
            named: false,
            removed: false,
            commit_checked: 0,
            hard_state_seen: HardState::default(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn raft(&self) -> Option<&Raft> {
        Some(self.process.as_ref()?.core.store().replica(RangeId::DENSE)?.raft())
    }

    fn options(&self, climate: &Climate) -> Options {
        Options {
            log_id: self.id.0,
            segment_bytes: climate.segment_bytes,
            headroom_bytes: climate.segment_bytes / 4,
            segments_min: 2,
            spares_max: 1,
            step_bytes: climate.segment_bytes / 4,
        }
    }

    fn open_log(&self, climate: &Climate) -> Result<(Log<SimDisk>, Recovered), OpenError> {
        Log::open(self.disk.clone(), Path::new(LOG_DIR), self.options(climate))
    }

    /// A member's first start: with the founding state, or with none if it joins.
    pub(crate) fn found(
        &mut self,
        climate: &Climate,
        founders: Option<&[etcd::FoundingMember]>,
    ) -> Result<(), String> {
        let engine = Arc::new(MemEngine::new());
        if let Some(founders) = founders {
            boot::write_founding_state(Arc::clone(&engine), &etcd::Limits::default(), founders)
                .map_err(|error| error.to_string())?;
        }
        self.engines = vec![engine];
        let (log, _) = self.open_log(climate).map_err(|error| error.to_string())?;
        log.close().map_err(|error| error.to_string())
    }

    /// The state that is furthest along; other engines go. One in which an import was not
    /// finished holds none.
    fn recover(&mut self, climate: &Climate) -> Result<mvcc::State<MemEngine>, String> {
        let mut states = BTreeMap::new();
        for (number, engine) in self.engines.iter().enumerate() {
            engine.fail_writes_after(None);
            match mvcc::State::open_with(Arc::clone(engine), limits(climate)) {
                Ok(state) => {
                    states.insert((state.applied().index, number), state);
                }
                Err(mvcc::OpenError::ImportUnfinished) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let ((_, number), state) = states.pop_last().ok_or("no engine holds a state")?;
        self.engines = vec![Arc::clone(&self.engines[number])];
        Ok(state)
    }

    /// A new, empty engine beside the state's.
    pub(crate) fn stage(&mut self) -> Arc<MemEngine> {
        let engine = Arc::new(MemEngine::new());
        self.engines.push(Arc::clone(&engine));
        engine
    }

    /// The staged engine is the state from now on.
    pub(crate) fn install_staged(&mut self) {
        self.engines.drain(..self.engines.len() - 1);
    }

    /// The staged engine is not wanted.
    pub(crate) fn discard_staged(&mut self) {
        self.engines.truncate(1);
    }

    pub(crate) fn engine(&self) -> &Arc<MemEngine> {
        &self.engines[0]
    }

    pub(crate) fn import_limits(climate: &Climate) -> mvcc::Limits {
        limits(climate)
    }

    /// The log holds what is durable, and of what was not yet known to be durable, some of the
    /// oldest units: all or nothing of each, none without those before.
    fn check_recovered(&mut self, found: &RecoveredGroup) -> Result<(), String> {
        let mut mirror = self.mirror.clone();
        let mut survived = 0;
        let mut last_match = mirror.is(found).then_some((mirror.clone(), 0));
        for unit in &self.units {
            unit.iter().for_each(|write| mirror.apply(write));
            survived += 1;
            if mirror.is(found) {
                last_match = Some((mirror.clone(), survived));
            }
        }
        let Some((mirror, _)) = last_match else {
            return Err(format!(
                "the log of {} holds what was never its content: {found:?}; durable were {:?}, and {} \
                 writes were under way",
                self.id.0,
                self.mirror,
                self.units.len()
            ));
        };
        self.mirror = mirror;
        self.units.clear();
        Ok(())
    }

    /// Starts a process.
    pub(crate) fn boot(
        &mut self,
        now: Duration,
        climate: &Climate,
        seed: u64,
        mutants: crate::Mutants,
    ) -> Result<(), BootFailure> {
        let state = self.recover(climate).map_err(BootFailure::Broken)?;
        let (mut log, mut recovered) = self.open_log(climate).map_err(|error| match error {
            OpenError::Io { .. } | OpenError::Full { .. } => BootFailure::Disk(error.to_string()),
            error => BootFailure::Damaged(error.to_string()),
        })?;
        let store = LivenessLog::open(&log, &mut recovered.groups)
            .map_err(|error| BootFailure::Damaged(error.to_string()))?;
        let group = RangeId::DENSE.group();
        let found = recovered.groups.remove(&group).unwrap_or_default();
        if recovered.created {
            return Err(BootFailure::Broken(format!("the log of {} is gone", self.id.0)));
        }
        self.check_recovered(&found).map_err(BootFailure::Broken)?;
        let restored =
            boot::reconcile(&mut log, group, found, &state).map_err(|error| match error {
                boot::BootError::Log(reason) => BootFailure::Disk(reason),
                boot::BootError::Damaged(reason) => BootFailure::Broken(reason),
            })?;
        if restored.truncated != self.mirror.truncated {
            // It was begun anew behind the state.
            self.mirror = Mirror {
                hard_state: restored.hard_state,
                truncated: restored.truncated,
                terms: BTreeMap::new(),
                bound: self.mirror.bound,
            };
        }
        // What was not durable, nobody has heard of.
        self.hard_state_seen = self.mirror.hard_state;
        self.shadow = self.mirror.clone();
        self.record = store.1.clone().unwrap_or_default();
        self.shadow_record = self.record.clone();
        self.asked_before = self.record.asked;
        self.incarnation += 1;
        let seed = seed ^ self.incarnation.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.id.0;
        let process = self.process(now, climate, seed, mutants, (log, store, state, restored));
        self.process = Some(Box::new(process.map_err(BootFailure::Broken)?));
        Ok(())
    }

    fn process(
        &self,
        now: Duration,
        climate: &Climate,
        seed: u64,
        mutants: crate::Mutants,
        (log, (liveness, record), state, restored): (
            Log<SimDisk>,
            (LivenessLog, Option<Record>),
            mvcc::State<MemEngine>,
            raft::Restored,
        ),
    ) -> Result<Process, String> {
        let lease_extension = climate.election();
        let limits = etcd::Limits {
            lease_extension,
            healthy_after: climate.election(),
            ..etcd::Limits::default()
        };
        let effects_bytes_max = climate.effects_bytes_max.unwrap_or(limits.effects_bytes_max);
        let rows_at_once = climate.aside.rows_at_once;
        let limits = etcd::Limits { effects_bytes_max, rows_at_once, ..limits };
        let config = etcd::Config { member_id: self.id.0, limits, seed };
        let machine = Machine::open(state, config);
        let replica = ReplicaId::new(self.id.0).ok_or("a member with id 0")?;
        let mut raft_config = raft::Config {
            election_timeout: climate.election(),
            heartbeat_interval: Duration::from_micros(climate.heartbeat_us),
            append_bytes_max: climate.append_bytes_max,
            fortify: climate.support_of(self.version) != Support::Timers,
            uncommitted_bytes_max: climate.uncommitted_bytes_max,
            ..raft::Config::new(replica, seed)
        };
        mutants.break_raft(&mut raft_config);
        let local = self.clock.monotonic(now);
        let raft = Raft::new(local, raft_config, restored).map_err(|error| error.to_string())?;
        let config = CoreConfig {
            apply_at_once: climate.aside.apply_at_once,
            reads: match climate.support_of(self.version) {
                Support::Leased => node::Reads::Lease,
                Support::Timers | Support::Fortified => node::Reads::Quorum,
            },
            node: self.id,
            request_timeout: Duration::from_micros(climate.request_timeout_us),
            catchup_entries: climate.catchup_entries,
            range_catchup_entries: climate.catchup_entries,
            // Little enough that some runs give pins up, and enough that others do not.
            pinned_bytes_max: 2 * climate.segment_bytes as usize,
            process: u32::try_from(self.incarnation).unwrap_or(u32::MAX),
            entry_bytes_max: self.options(climate).entry_bytes_max(),
        };
        let revision = machine.view().revision();
        let door = Door::new(&climate.doors, self.id, seed, revision);
        let mut store_config = climate.store(self.version);
        mutants.break_store(&mut store_config);
        let store = Store::open(local, self.id, store_config, record)?;
        let mut core = Core::on(store, config, raft, machine);
        core.begin(local).map_err(|error| error.to_string())?;
        Ok(Process {
            core,
            reader: log.reader(),
            log,
            liveness,
            log_queue: VecDeque::new(),
            written: Vec::new(),
            released: Frames::new(),
            syncing: false,
            log_full: false,
            retry_at: None,
            jobs: VecDeque::new(),
            tokens: 0,
            waiting: BTreeMap::new(),
            flush_at: None,
            tick_at: None,
            receiving: false,
            door,
            compared: 0,
        })
    }
}
