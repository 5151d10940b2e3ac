//! The thread that steps the core.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::Sender;
use env::{Disk as _, RealDisk};
use etcd::{Error, Response};
use mvcc::engine::Engine as _;
use tokio::sync::oneshot;

use super::aside::Queue;
use super::checkpoint::{Held, Job};
use super::clock::Clock;
use super::log_thread::{LogCommand, LogThreads};
use super::queue::{Nothing, Receiver};
use super::snapshots::{Lane, Outgoing, Snapshots, lane};
use super::{Event, Inbox, Reply, guard};
use crate::Engine;
use crate::core::{Core, Effects, Fatal, Input, Scan, Standing, Token, Work};
use crate::handle::Shared;
use crate::transport::Transport;

/// Events taken in before the core is flushed, at most.
const BATCH_MAX: usize = 4096;
/// And bytes of frames: what they lead to leaves with the flush, heartbeats among it.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How often the wall clock and the size of the state are looked at.
const CHORES_INTERVAL: Duration = Duration::from_millis(500);
/// What a byte in memory takes in the state engine at most: pages are not full, and a long value has
/// pages of its own, a power of two of them.
const ENGINE_BYTES_A_BYTE: u64 = 2;
/// Between two chores, the file system is asked for room after so much has been applied.
const LOOK_BYTES: usize = 4 << 20;

/// What the thread works with.
pub(super) struct CoreThread {
    pub(super) core: Core<Engine>,
    pub(super) clock: Clock,
    pub(super) events: Receiver<Event>,
    pub(super) inbox: Inbox,
    pub(super) shared: Arc<Shared>,
    pub(super) transport: Arc<Transport>,
    pub(super) log: LogThreads,
    pub(super) jobs: Sender<Job>,
    pub(super) scans: Queue<Scan>,
    pub(super) evaluations: Queue<Work>,
    pub(super) insertions: Queue<Work>,
    pub(super) snapshots: Snapshots,
    pub(super) outgoing: Outgoing,
    pub(super) waiting: Waiting,
    pub(super) checkpoints: Checkpoints,
    /// Where the log is, and how much must stay free there and for the state.
    pub(super) log_dir: PathBuf,
    pub(super) disk_reserve_bytes: u64,
}

/// Who waits for the core's answers.
#[derive(Default)]
pub(super) struct Waiting {
    next: u64,
    requests: BTreeMap<Token, Reply<Response>>,
    points: BTreeMap<Token, Reply<()>>,
}

/// When the state is written to the engine.
pub(super) struct Checkpoints {
    pub(super) bytes: usize,
    pub(super) interval: Duration,
    pub(super) last: Duration,
    pub(super) chores: Duration,
    pub(super) busy: bool,
    held: Held,
    /// The same of the ranges beside the dense one.
    ranges_busy: bool,
    ranges_last: Duration,
    ranges_front_bytes: usize,
    ranges_full: bool,
    /// The log has no room, and the file system has less than its reserve.
    pub(super) log_full: bool,
    pub(super) space_low: bool,
    /// Bytes in memory when the file system was last asked for room.
    pub(super) looked_at_bytes: usize,
    pub(super) asked: Vec<Asked>,
    /// The engine has moved to another file.
    reload: bool,
}

/// Somebody who waits until the engine has what was applied when they asked, and is rid of what had
/// been compacted by then.
pub(super) struct Asked {
    reply: oneshot::Sender<Result<(), Error>>,
    applied: u64,
    compacted: mvcc::Revision,
}

/// How a core thread ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was told to stop.
    Stopped,
    /// The member was removed from the cluster.
    Removed,
    /// It cannot go on.
    Fatal(String),
}

impl CoreThread {
    pub(super) fn spawn(
        mut self,
        ended: impl FnOnce(Ended) + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name("core".to_owned()).spawn(move || {
            let end = guard::caught(|| self.run());
            let end =
                end.unwrap_or_else(|panic| Ended::Fatal(format!("the core panicked: {panic}")));
            let _ = self.log.commands.send(LogCommand::Stop);
            ended(end);
        })
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn run(&mut self) -> Ended {
        if let Err(fatal) = self.core.begin(self.now()) {
            return Ended::Fatal(fatal.to_string());
        }
        loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(ended)) => return ended,
                Err(fatal) => return Ended::Fatal(fatal.to_string()),
            }
        }
    }

    /// Waits for something to happen, takes in all that has, and hands out what follows.
    fn turn(&mut self) -> Result<Option<Ended>, Fatal> {
        let deadline = self.next_deadline();
        let wait = deadline.saturating_sub(self.now());
        let first = match self.events.recv_timeout(wait) {
            Ok(event) => Some(event),
            Err(Nothing::Timeout) => None,
            Err(Nothing::Disconnected) => return Ok(Some(Ended::Stopped)),
        };
        let mut next = first;
        let mut frame_bytes = 0;
        for taken in 1.. {
            let Some(event) = next else { break };
            if let Event::Frame(_, bytes, _) = &event {
                frame_bytes += bytes.len();
            }
            // INVARIANT: what is taken in is not taken in as of a time before it came. The support that a heartbeat
            // is given runs from here, and the peer that sent it counts on it from when it did: with the time of
            // the turn's beginning a promise could end before the peer believes it does, and a lease outlive it.
            if let Some(ended) = self.take(self.now(), event)? {
                return Ok(Some(ended));
            }
            let full = taken >= BATCH_MAX || frame_bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { self.events.try_recv() };
        }
        let now = self.now();
        if self.core.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.core.step(now, Input::Tick)?;
        }
        if now >= self.checkpoints.chores {
            self.chores(now)?;
        } else if self.front_bytes() > self.checkpoints.looked_at_bytes + LOOK_BYTES {
            self.look_for_space(now)?;
        }
        // Later than all that was taken in: reads are confirmed as of this moment.
        let effects = self.core.flush(self.now())?;
        let removed = effects.removed;
        self.carry_out(effects);
        self.checkpoint(now);
        self.checkpoint_ranges(now);
        Ok(removed.then_some(Ended::Removed))
    }

    fn next_deadline(&self) -> Duration {
        // Between two parts of a pass over many ranges, what has come meanwhile has its turn.
        if !self.checkpoints.ranges_busy && self.core.ranges_go_on() {
            return Duration::ZERO;
        }
        let core = self.core.next_deadline();
        core.map_or(self.checkpoints.chores, |core| core.min(self.checkpoints.chores))
    }

    fn take(&mut self, now: Duration, event: Event) -> Result<Option<Ended>, Fatal> {
        let input = match event {
            Event::Client(request, reply) => Input::Client(self.waiting.request(reply), request),
            Event::ClientOf(range, request, reply) => {
                Input::ClientOf(range, self.waiting.request(reply), request)
            }
            Event::ReadPoint(reply) => {
                let token = self.waiting.token();
                self.waiting.points.insert(token, reply);
                Input::ReadPoint(token)
            }
            Event::MoveLeader(to, reply) => Input::MoveLeader(self.waiting.request(reply), to),
            Event::Frame(from, bytes, arrived) => {
                assert!(now >= arrived, "a frame is taken in as of a time before it came");
                self.inbox.took(bytes.len());
                Input::Frame(from, bytes)
            }
            Event::Unreachable(node) => Input::Unreachable(node),
            Event::Written(id) => Input::LogWritten(id),
            Event::LogFull(full) => {
                self.checkpoints.log_full = full;
                Input::DiskFull(full || self.checkpoints.space_low)
            }
            Event::Scanned(scanned) => Input::Scanned(scanned),
            Event::Worked(worked) => Input::Worked(worked),
            Event::Fetched(range, id, entries) => Input::Fetched(range, id, entries),
            Event::SnapshotSent(out, outcome) => {
                self.outgoing.free(lane(&out));
                self.next_snapshot(lane(&out));
                if !self.core.awaits(&out) {
                    return Ok(None);
                }
                Input::SnapshotSent(out.range, out.send.to, outcome)
            }
            Event::SnapshotStaged(from, envelope, state) => {
                Input::SnapshotStaged(from, envelope, state)
            }
            Event::RangeSnapshotStaged(from, envelope, state) => {
                Input::RangeSnapshotStaged(from, envelope, state)
            }
            Event::JobDone(done) => {
                self.checkpoints.busy = false;
                Input::Checkpointed(done)
            }
            Event::RangesDone(done) => {
                self.checkpoints.ranges_busy = false;
                Input::RangesWritten(done)
            }
            aside @ (Event::RangeTarget(..)
            | Event::RangeImportFailed(_)
            | Event::Reload
            | Event::StateFull(_)
            | Event::Checkpoint(_)) => {
                self.take_aside(now, aside)?;
                return Ok(None);
            }
            Event::Removed(peer) => {
                tracing::error!(
                    peer = format_args!("{:x}", peer.0),
                    "a peer says that this member was removed from the cluster"
                );
                return Ok(Some(Ended::Removed));
            }
            Event::Fatal(reason) => return Ok(Some(Ended::Fatal(reason))),
            Event::Stop => return Ok(Some(Ended::Stopped)),
        };
        self.core.step(now, input)?;
        Ok(None)
    }

    /// What concerns this thread and not consensus.
    fn take_aside(&mut self, now: Duration, event: Event) -> Result<(), Fatal> {
        match event {
            Event::RangeTarget(range, reply) => {
                let _ = reply.send(self.core.free_partition(now, range)?);
            }
            Event::RangeImportFailed(partition) => {
                self.core.range_import_ended(partition);
            }
            Event::Reload => {
                self.checkpoints.reload = true;
            }
            Event::StateFull(reason) => {
                for asked in self.checkpoints.asked.drain(..) {
                    let _ = asked.reply.send(Err(Error::Storage(reason.clone())));
                }
            }
            Event::Checkpoint(reply) => {
                let state = self.core.machine().state();
                let (applied, compacted) = (state.applied().index, state.compacted());
                self.checkpoints.asked.push(Asked { reply, applied, compacted });
            }
            _ => {}
        }
        Ok(())
    }

    fn carry_out(&mut self, effects: Effects) {
        // What was applied is shown to those who watch before anyone is told that it was done.
        if effects.installed {
            self.installed();
        }
        if effects.discarded {
            self.snapshots.discard();
        }
        if effects.range_installed || effects.range_discarded {
            self.snapshots.range_decided();
        }
        self.shared.publish(&effects.published);
        for write in effects.writes {
            let _ = self.log.commands.send(LogCommand::Write(write));
        }
        if let Some(peers) = effects.peers {
            self.transport.set_peers(&peers);
        }
        for frame in effects.send {
            self.transport.send(frame);
        }
        self.waiting.answer(effects.replies, effects.points);
        for scan in effects.scans {
            self.scans.send(scan);
        }
        for work in effects.work {
            match work.evaluates() {
                true => self.evaluations.send(work),
                false => self.insertions.send(work),
            }
        }
        for fetch in effects.fetch {
            let _ = self.log.fetches.send(fetch);
        }
        if !effects.truncate.is_empty() {
            let _ = self.log.commands.send(LogCommand::Truncate(effects.truncate));
        }
        for snapshot in effects.snapshots {
            let lane = lane(&snapshot);
            self.outgoing.push(snapshot);
            self.next_snapshot(lane);
        }
        for retired in effects.retired {
            let _ = self.jobs.send(Job::Drop(retired));
        }
        self.show_standing();
    }

    fn show_standing(&self) {
        let standing: Standing = self.core.standing();
        if standing != **self.shared.standing.load() {
            self.shared.metrics.observe(&standing, self.shared.node);
            self.shared.standing.store(Arc::new(standing));
        }
    }

    /// Sends the next snapshot of a lane that is still wanted, if the lane is free.
    fn next_snapshot(&mut self, lane: Lane) {
        while let Some(out) = self.outgoing.next(lane) {
            if let Some(view) = self.core.snapshot_view(&out) {
                self.shared.metrics.snapshots_sent.inc();
                return self.snapshots.send(out, view, Arc::clone(&self.transport));
            }
            if self.core.awaits(&out) {
                return self.snapshots.unsent(out);
            }
            // It was asked for in an earlier term: nobody waits for it.
            self.outgoing.free(lane);
        }
    }

    fn installed(&mut self) {
        let state = self.core.machine().state();
        self.shared.reader.store(Arc::new(state.reader()));
        self.shared.engine.store(Arc::clone(state.engine()));
        self.shared.cut_feeds();
        self.snapshots.installed();
        // A job of the replaced state may still be out; what it brings back is ignored.
        self.checkpoints.busy = false;
        self.checkpoints.held.forget();
    }

    fn chores(&mut self, now: Duration) -> Result<(), Fatal> {
        self.checkpoints.chores = now + CHORES_INTERVAL;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.core.step(now, Input::WallTime(unix.as_secs()))?;
        let size = self.shared.engine.load().size_bytes();
        let (_, in_use) = size.map_err(|error| Fatal::State(error.to_string()))?;
        self.core.step(now, Input::StateBytes(in_use + self.front_bytes() as u64))?;
        self.checkpoints.ranges_front_bytes = self.core.ranges_front_bytes();
        self.checkpoints.ranges_full =
            self.checkpoints.ranges_front_bytes >= self.checkpoints.bytes;
        self.look_for_space(now)
    }

    fn front_bytes(&self) -> usize {
        self.core.machine().state().front_bytes() + self.checkpoints.ranges_front_bytes
    }

    /// Refuses what makes the state grow before the disk does. What is in memory has to go to disk
    /// yet, beside the reserve.
    fn look_for_space(&mut self, now: Duration) -> Result<(), Fatal> {
        self.checkpoints.looked_at_bytes = self.front_bytes();
        let front_bytes = ENGINE_BYTES_A_BYTE * self.front_bytes() as u64;
        let reserve_bytes = self.disk_reserve_bytes + front_bytes;
        let log_bytes = RealDisk.free_bytes(&self.log_dir).unwrap_or(u64::MAX);
        let state_bytes = self.shared.engine.load().room_bytes().unwrap_or(u64::MAX);
        let low = log_bytes < self.disk_reserve_bytes || state_bytes < reserve_bytes;
        if low != self.checkpoints.space_low {
            if low {
                tracing::error!(reserve_bytes, "the disk is nearly full: writes are refused");
            } else {
                tracing::info!("the disk has room again: writes are served");
            }
            self.checkpoints.space_low = low;
        }
        self.core.step(now, Input::DiskFull(low || self.checkpoints.log_full))
    }

    /// Begins to write what was applied into the engine if there is enough of it, or if it has
    /// waited long enough; else a step of collecting what compaction has left.
    fn checkpoint(&mut self, now: Duration) {
        self.release_checkpoint();
        if self.checkpoints.busy {
            return;
        }
        let due = now >= self.checkpoints.last + self.checkpoints.interval();
        let state = self.core.machine_mut().state_mut();
        let (written, collected) = (state.durable().index, state.collected());
        let done = |asked: &mut Asked| asked.applied <= written && asked.compacted <= collected;
        for asked in self.checkpoints.asked.extract_if(.., done) {
            let _ = asked.reply.send(Ok(()));
        }
        let asked = self.checkpoints.asked.iter().any(|asked| asked.applied > written);
        let full = state.front_bytes() >= self.checkpoints.bytes;
        // It is asked for again as soon as that is over.
        if (due || asked || full) && !state.is_inserting() {
            self.checkpoints.last = now;
            if let Some(job) = state.freeze() {
                self.checkpoints.busy = true;
                self.checkpoints.held.hold(job);
                self.release_checkpoint();
                return;
            }
        }
        if self.checkpoints.reload
            && let Some(job) = state.reload()
        {
            self.checkpoints.reload = false;
            self.checkpoints.busy = self.jobs.send(Job::Reload(job)).is_ok();
        } else if let Some(job) = state.collect() {
            self.checkpoints.busy = self.jobs.send(Job::Collect(job)).is_ok();
        }
    }
}

impl CoreThread {
    fn release_checkpoint(&mut self) {
        let (durable, full) = (self.core.durable(), self.checkpoints.log_full);
        if let Some(job) = self.checkpoints.held.release(durable, full) {
            let _ = self.jobs.send(job);
        }
    }

    /// The same for the ranges beside the dense one, many at once.
    fn checkpoint_ranges(&mut self, now: Duration) {
        let checkpoints = &mut self.checkpoints;
        if checkpoints.ranges_busy {
            return;
        }
        let due =
            now >= checkpoints.ranges_last + checkpoints.interval() || checkpoints.ranges_full;
        if due {
            checkpoints.ranges_last = now;
            checkpoints.ranges_full = false;
        }
        if let Some(jobs) = self.core.freeze_ranges(due) {
            self.checkpoints.ranges_busy = self.jobs.send(Job::Ranges(jobs)).is_ok();
        }
    }
}

impl Checkpoints {
    /// Without room, what can be cut from the log is cut soon.
    fn interval(&self) -> Duration {
        match self.log_full || self.space_low {
            true => self.interval.min(CHORES_INTERVAL),
            false => self.interval,
        }
    }

    pub(super) fn new(bytes: usize, interval: Duration) -> Checkpoints {
        Checkpoints {
            bytes,
            interval,
            last: Duration::ZERO,
            chores: Duration::ZERO,
            busy: false,
            held: Held::default(),
            ranges_busy: false,
            ranges_last: Duration::ZERO,
            ranges_front_bytes: 0,
            ranges_full: false,
            log_full: false,
            space_low: false,
            looked_at_bytes: 0,
            asked: Vec::new(),
            reload: false,
        }
    }
}

impl Waiting {
    fn request(&mut self, reply: Reply<Response>) -> Token {
        let token = self.token();
        self.requests.insert(token, reply);
        token
    }

    fn token(&mut self) -> Token {
        self.next += 1;
        Token(self.next)
    }

    fn answer(
        &mut self,
        replies: Vec<(Token, Result<Response, etcd::Error>)>,
        points: Vec<(Token, Result<(), etcd::Error>)>,
    ) {
        // A client that has gone does not mind that its answer is dropped.
        for (token, answer) in replies {
            if let Some(reply) = self.requests.remove(&token) {
                let _ = reply.send(answer);
            }
        }
        for (token, answer) in points {
            if let Some(reply) = self.points.remove(&token) {
                let _ = reply.send(answer);
            }
        }
    }
}
