//! The log's writer and its reader.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as FetchReceiver, Sender as FetchSender};
use env::RealDisk;
use raft::{FetchRequest, LogPosition};
use storage::log::{AppendError, GroupWrite, Log, LogReader, ReadError};
use store::{RangeId, WriteId};

use super::queue::{Nothing, Receiver, Sender};
use super::{Event, Inbox, guard};
use crate::boot::LivenessLog;
use crate::core::{DurableWrite, Frames};
use crate::metrics::{Metrics, timed};
use crate::transport::Transport;

/// Commands that are appended before a sync, at most: bounds how long the first one waits.
const GROUP_MAX: usize = 1024;

/// Groups whose logs are cut by one unit of the log.
const CUTS_AT_ONCE: usize = 1000;

/// How long a full disk is given before the write is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// What the log thread is told.
pub(super) enum LogCommand {
    Write(DurableWrite),
    Truncate(Vec<(RangeId, LogPosition)>),
    Stop,
}

/// What the reader is told.
pub(super) type Fetch = (RangeId, FetchRequest);

/// Starts the writer.
pub(super) fn spawn_writer(
    (log, liveness): (Log<RealDisk>, LivenessLog),
    commands: Receiver<LogCommand>,
    transport: Arc<Transport>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
) -> std::io::Result<JoinHandle<()>> {
    guard::spawn("log", inbox.clone(), move || {
        let mut writer = Writer {
            log,
            liveness,
            commands,
            transport,
            inbox,
            metrics,
            backlog: VecDeque::new(),
            released: Vec::new(),
            written: Vec::new(),
            cuts: BTreeMap::new(),
            dirty: false,
            full: false,
            stop: false,
        };
        if let Err(error) = writer.run() {
            writer.inbox.send(Event::Fatal(format!("the log cannot be written: {error}")));
        }
        if let Err(error) = writer.log.close() {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    })
}

struct Writer {
    log: Log<RealDisk>,
    liveness: LivenessLog,
    commands: Receiver<LogCommand>,
    transport: Arc<Transport>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    /// Commands that came while there was no room for the one before them.
    backlog: VecDeque<LogCommand>,
    /// Frames that may leave after the next sync.
    released: Frames,
    /// Writes that the next sync completes.
    written: Vec<WriteId>,
    /// Where logs are still to be cut.
    cuts: BTreeMap<RangeId, LogPosition>,
    dirty: bool,
    full: bool,
    stop: bool,
}

impl Writer {
    fn run(&mut self) -> Result<(), String> {
        while !self.stop {
            let first = match self.backlog.pop_front() {
                Some(command) => command,
                None => match self.commands.recv() {
                    Ok(command) => command,
                    Err(_) => return Ok(()),
                },
            };
            self.take(first)?;
            for _ in 1..GROUP_MAX {
                let next = self.backlog.pop_front().or_else(|| self.commands.try_recv());
                let Some(next) = next.filter(|_| !self.stop) else { break };
                self.take(next)?;
            }
            self.sync()?;
        }
        Ok(())
    }

    fn take(&mut self, command: LogCommand) -> Result<(), String> {
        match command {
            LogCommand::Write(write) => {
                let groups =
                    DurableWrite::log_writes(write.groups, write.liveness, &mut self.liveness);
                if !groups.is_empty() && !self.append(&groups)? {
                    return Ok(());
                }
                self.released.extend(write.then);
                self.written.push(write.id);
            }
            LogCommand::Truncate(positions) => {
                // Those of a group only rise.
                self.cuts.extend(positions);
                self.cut()?;
            }
            LogCommand::Stop => self.stop = true,
        }
        Ok(())
    }

    /// Cuts the logs of groups that wait for it, some thousand at a time; what there is no room to say waits on.
    fn cut(&mut self) -> Result<(), String> {
        while !self.cuts.is_empty() {
            let some: Vec<(RangeId, LogPosition)> =
                self.cuts.iter().take(CUTS_AT_ONCE).map(|(&range, &at)| (range, at)).collect();
            let write = |&(range, position): &(RangeId, LogPosition)| GroupWrite {
                truncate_to: Some(position),
                ..GroupWrite::new(range.group())
            };
            let writes: Vec<GroupWrite> = some.iter().map(write).collect();
            match self.log.append(&writes) {
                Ok(()) => self
                    .cuts
                    .retain(|range, _| some.binary_search_by_key(range, |cut| cut.0).is_err()),
                Err(AppendError::Full { .. }) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Appends, and waits for room if the disk is full. `false`: the node stops instead.
    fn append(&mut self, groups: &[GroupWrite]) -> Result<bool, String> {
        loop {
            match self.log.append(groups) {
                Ok(()) => break,
                Err(AppendError::Full { needed_bytes, left_bytes }) => {
                    if !self.full {
                        tracing::error!(needed_bytes, left_bytes, "the disk is full: writes wait");
                        self.full = true;
                        self.inbox.send(Event::LogFull(true));
                    }
                    self.sync()?;
                    self.wait_for_room()?;
                    if self.stop {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        let entries: usize = groups.iter().map(|group| group.entries.len()).sum();
        self.metrics.log_entries.inc_by(entries as u64);
        self.dirty = true;
        if self.full {
            tracing::info!("the disk has room again");
            self.full = false;
            self.inbox.send(Event::LogFull(false));
        }
        Ok(true)
    }

    /// Waits a while for somebody to remove files, or for the core to cut the log: truncations
    /// go ahead of the writes that wait.
    fn wait_for_room(&mut self) -> Result<(), String> {
        match self.commands.recv_timeout(FULL_PAUSE) {
            Ok(command @ LogCommand::Truncate(..)) => {
                self.take(command)?;
                self.dirty = true;
                self.sync()
            }
            Ok(LogCommand::Stop) | Err(Nothing::Disconnected) => {
                self.stop = true;
                Ok(())
            }
            Ok(command) => {
                self.backlog.push_back(command);
                Ok(())
            }
            Err(Nothing::Timeout) if self.cuts.is_empty() => Ok(()),
            // A sync frees segments, and with them room to say what else may go.
            Err(Nothing::Timeout) => {
                self.cut()?;
                self.dirty = true;
                self.sync()
            }
        }
    }

    /// Makes all that was appended durable, and lets go what waited for that.
    fn sync(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.dirty) {
            timed(&self.metrics.wal_fsync_seconds, || self.log.sync())
                .map_err(|error| error.to_string())?;
        }
        for frame in self.released.drain(..) {
            self.transport.send(frame);
        }
        // Each write completes by itself, in order: the store counts them off one by one.
        for id in self.written.drain(..) {
            self.inbox.send(Event::Written(id));
        }
        Ok(())
    }
}

/// Starts the reader, which ends when the last sender of fetches is dropped.
pub(super) fn spawn_reader(
    reader: LogReader<RealDisk>,
    fetches: FetchReceiver<Fetch>,
    inbox: Inbox,
) -> std::io::Result<JoinHandle<()>> {
    guard::spawn("log-reader", inbox.clone(), move || {
        for (range, fetch) in fetches {
            let FetchRequest { id, first, last, bytes_max, .. } = fetch;
            let entries = match reader.entries(range.group(), first, last, bytes_max) {
                Ok(entries) => entries,
                // Truncated meanwhile, or begun anew behind a snapshot: the follower gets a snapshot.
                Err(ReadError::Truncated { .. } | ReadError::Beyond { .. }) => Vec::new(),
                Err(error) => {
                    inbox.send(Event::Fatal(format!("the log cannot be read: {error}")));
                    return;
                }
            };
            inbox.send(Event::Fetched(range, id, entries));
        }
    })
}

/// The ends that the core thread holds.
pub(super) struct LogThreads {
    pub(super) commands: Sender<LogCommand>,
    pub(super) fetches: FetchSender<Fetch>,
}
