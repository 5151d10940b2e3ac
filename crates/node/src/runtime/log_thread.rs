//! The log's writer and its reader.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use env::RealDisk;
use raft::{FetchRequest, LogPosition};
use storage::log::{GroupWrite, Log, LogReader};
use store::RangeId;

use super::{Event, Inbox};
use crate::core::DurableWrite;
use crate::metrics::{Metrics, timed};
use crate::transport::Transport;

/// Commands that are appended before a sync, at most: bounds how long the first one waits.
const GROUP_MAX: usize = 1024;

/// What the log thread is told.
pub(super) enum LogCommand {
    Write(DurableWrite),
    Truncate(RangeId, LogPosition),
    Stop,
}

/// What the reader is told.
pub(super) type Fetch = (RangeId, FetchRequest);

/// Starts the writer.
pub(super) fn spawn_writer(
    mut log: Log<RealDisk>,
    commands: Receiver<LogCommand>,
    transport: Arc<Transport>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        if let Err(error) = write(&mut log, &commands, &transport, &inbox, &metrics) {
            inbox.send(Event::Fatal(format!("the log cannot be written: {error}")));
        }
        if let Err(error) = log.close() {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    })
}

fn write(
    log: &mut Log<RealDisk>,
    commands: &Receiver<LogCommand>,
    transport: &Transport,
    inbox: &Inbox,
    metrics: &Metrics,
) -> Result<(), String> {
    let mut released = Vec::new();
    let mut written = Vec::new();
    let mut stop = false;
    while !stop {
        let Ok(first) = commands.recv() else { return Ok(()) };
        let mut dirty = false;
        for command in std::iter::once(first).chain(commands.try_iter().take(GROUP_MAX)) {
            match command {
                LogCommand::Write(write) => {
                    let groups: Vec<_> = write.groups.into_iter().filter_map(group_write).collect();
                    if !groups.is_empty() {
                        log.append(&groups).map_err(|error| error.to_string())?;
                        dirty = true;
                    }
                    released.extend(write.then);
                    written.push(write.id);
                }
                LogCommand::Truncate(range, position) => {
                    let truncate_to = Some(position);
                    let write = GroupWrite { truncate_to, ..GroupWrite::new(range.group()) };
                    log.append(&[write]).map_err(|error| error.to_string())?;
                }
                LogCommand::Stop => {
                    stop = true;
                    break;
                }
            }
        }
        if dirty {
            timed(&metrics.wal_fsync_seconds, || log.sync()).map_err(|error| error.to_string())?;
        }
        for (node, frame) in released.drain(..) {
            transport.send(node, frame);
        }
        // Each write completes by itself, in order: the store counts them off one by one.
        for id in written.drain(..) {
            inbox.send(Event::Written(id));
        }
    }
    Ok(())
}

fn group_write(group: store::GroupWrite) -> Option<GroupWrite> {
    if group.is_empty() {
        return None;
    }
    Some(GroupWrite {
        reset: group.snapshot.map(|snapshot| snapshot.position),
        entries: group.entries,
        hard_state: group.hard_state,
        ..GroupWrite::new(group.range.group())
    })
}

/// Starts the reader, which ends when the last sender of fetches is dropped.
pub(super) fn spawn_reader(
    reader: LogReader<RealDisk>,
    fetches: Receiver<Fetch>,
    inbox: Inbox,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("log-reader".to_owned()).spawn(move || {
        for (range, fetch) in fetches {
            let FetchRequest { id, first, last, bytes_max, .. } = fetch;
            let entries = match reader.entries(range.group(), first, last, bytes_max) {
                Ok(entries) => entries,
                // Truncated meanwhile: the follower gets a snapshot.
                Err(storage::log::ReadError::Truncated { .. }) => Vec::new(),
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
    pub(super) fetches: Sender<Fetch>,
}
