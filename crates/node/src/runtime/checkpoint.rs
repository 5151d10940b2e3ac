//! The state engine's writer: checkpoints, collection, and the dropping of memory.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;

use super::{Event, Inbox};
use crate::Engine;
use crate::metrics::{Metrics, timed};

/// What the checkpoint thread is told.
pub(super) enum Job {
    Checkpoint(mvcc::CheckpointJob<Engine>),
    Collect(mvcc::CollectJob<Engine>),
    /// Dropping a memtable takes a while.
    Drop(mvcc::Retired),
}

/// Starts the thread, which ends when the last sender of jobs is dropped.
pub(super) fn spawn(
    jobs: Receiver<Job>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
        for job in jobs {
            let done = match job {
                Job::Checkpoint(job) => timed(&metrics.backend_commit_seconds, || job.run()),
                Job::Collect(job) => job.run(),
                Job::Drop(retired) => {
                    drop(retired);
                    continue;
                }
            };
            match done {
                Ok(done) => inbox.send(Event::JobDone(done)),
                Err(error) => {
                    inbox.send(Event::Fatal(format!("the state cannot be written: {error}")));
                    return;
                }
            }
        }
    })
}
