//! The state engine's writer: checkpoints, collection, and the dropping of memory.
//!
//! On a full disk a job waits, and is tried again until somebody has made room: what it would write is
//! in memory, where readers find it, and in the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use mvcc::engine::EngineError;
use raft::LogIndex;

/// A job for which there is no room is tried again after this.
const FULL_PAUSE: Duration = Duration::from_millis(200);

use super::{Event, Inbox, guard};
use crate::Engine;
use crate::core::RangeJobs;
use crate::metrics::{Metrics, timed};

/// What the checkpoint thread is told.
pub(super) enum Job {
    Checkpoint(mvcc::CheckpointJob<Engine>),
    Collect(mvcc::CollectJob<Engine>),
    Reload(mvcc::ReloadJob<Engine>),
    /// Of all ranges beside the dense one that have something to write.
    Ranges(RangeJobs<Engine>),
    /// Dropping a memtable takes a while.
    Drop(mvcc::Retired),
}

impl Job {
    /// Whether it writes, or reads, the state in this engine.
    fn is_of(&self, engine: &Arc<Engine>) -> bool {
        match self {
            Job::Checkpoint(job) => Arc::ptr_eq(job.engine(), engine),
            Job::Collect(job) => Arc::ptr_eq(job.engine(), engine),
            Job::Reload(job) => Arc::ptr_eq(job.engine(), engine),
            Job::Ranges(_) | Job::Drop(_) => true,
        }
    }
}

/// A checkpoint waits until this member's own log has on disk all that it contains.
///
/// What a quorum has is applied, and may be ahead of that. A checkpoint that breaks off leaves rows of what it contains
/// behind, which the log makes good; if this member had to go on alone (`--force-new-cluster`) with a log that ends
/// before, others would be written at the same revisions, and those rows be served among them.
#[derive(Default)]
pub(super) struct Held(Option<mvcc::CheckpointJob<Engine>>);

impl Held {
    pub(super) fn hold(&mut self, job: mvcc::CheckpointJob<Engine>) {
        self.0 = Some(job);
    }

    /// Its state was replaced.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    /// The one that waits, if the log is `durable` that far, or `full`: then it may never be, for it is cut behind a
    /// checkpoint alone.
    pub(super) fn release(&mut self, durable: LogIndex, full: bool) -> Option<Job> {
        self.0.take_if(|job| full || job.applied().index <= durable.0).map(Job::Checkpoint)
    }
}

/// Starts the thread, which ends when the last sender of jobs is dropped. The `current` engine has the member's state.
pub(super) fn spawn(
    jobs: Receiver<Job>,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    current: impl Fn() -> Arc<Engine> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    guard::spawn("checkpoint", inbox.clone(), move || {
        let mut queue = Queue { jobs, waiting: VecDeque::new() };
        while let Some(job) = queue.next() {
            let done = match &job {
                Job::Checkpoint(job) => queue
                    .until_room(&inbox, || timed(&metrics.backend_commit_seconds, || job.run())),
                Job::Collect(job) => queue.until_room(&inbox, || job.run()),
                Job::Reload(job) => Some(job.run()),
                Job::Ranges(job) => {
                    match queue.until_room(&inbox, || job.run()) {
                        Some(Ok(done)) => inbox.send(Event::RangesDone(done)),
                        Some(Err(error)) => {
                            inbox.send(Event::Fatal(format!("ranges cannot be written: {error}")));
                            return;
                        }
                        None => return,
                    }
                    continue;
                }
                Job::Drop(_) => continue,
            };
            match done {
                Some(Ok(done)) => inbox.send(Event::JobDone(done)),
                // A snapshot has taken the place of that state, and its files are gone.
                Some(Err(error)) if !job.is_of(&current()) => {
                    tracing::info!(%error, "a state that was replaced is not written any more");
                }
                Some(Err(error)) => {
                    inbox.send(Event::Fatal(format!("the state cannot be written: {error}")));
                    return;
                }
                None => return,
            }
        }
    })
}

/// Jobs in their order.
struct Queue {
    jobs: Receiver<Job>,
    /// What has come while an earlier one waited for room: no more than the core has out at once.
    waiting: VecDeque<Job>,
}

impl Queue {
    fn next(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.jobs.recv().ok())
    }

    /// Tries until there is room; `None` if the node stops first.
    fn until_room<T>(
        &mut self,
        inbox: &Inbox,
        mut job: impl FnMut() -> Result<T, EngineError>,
    ) -> Option<Result<T, EngineError>> {
        let mut full = false;
        loop {
            match job() {
                Err(error @ EngineError::Full { .. }) => {
                    if !full {
                        tracing::error!(%error, "the disk is full: the state stays in memory");
                        full = true;
                    }
                    inbox.send(Event::StateFull(error.to_string()));
                }
                done => {
                    if full && done.is_ok() {
                        tracing::info!("the disk has room again: the state is written");
                    }
                    return Some(done);
                }
            }
            match self.jobs.recv_timeout(FULL_PAUSE) {
                Ok(Job::Drop(retired)) => drop(retired),
                Ok(job) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mvcc::{Batch, Change, Commit, Record, State};

    use super::super::Clock;
    use super::*;
    use crate::engines::Engines;

    fn staged(engines: &Engines) -> State<Engine> {
        State::open(Arc::new(engines.stage().unwrap())).unwrap()
    }

    fn job(state: &mut State<Engine>) -> mvcc::CheckpointJob<Engine> {
        let revision = state.revision().next();
        let key = Bytes::from_static(b"k");
        let record = Some(Record::new(&key, revision, revision, 1, b"v", None));
        let commit = Some(Arc::new(Commit { revision, changes: vec![Change { key, record }] }));
        state.apply(Batch { index: 1, term: 1, commit, ..Batch::default() });
        state.freeze().unwrap()
    }

    /// A checkpoint is out when a snapshot takes the place of its state: that does no harm, and the next one, of the
    /// new state, is written.
    #[test]
    fn a_checkpoint_of_a_state_that_was_replaced_ends_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Engines::open(dir.path(), 1 << 20).unwrap();
        let mut old = staged(&engines);
        engines.install();
        let late = job(&mut old);
        let mut new = staged(&engines);
        let current = Arc::clone(new.engine());
        engines.install();
        let (inbox, mut events) = Inbox::new(Clock::start());
        let (jobs, queue) = crossbeam_channel::unbounded();
        jobs.send(Job::Checkpoint(late)).unwrap();
        jobs.send(Job::Checkpoint(job(&mut new))).unwrap();
        drop(jobs);
        let metrics = Arc::new(Metrics::new());
        let thread = spawn(queue, inbox, metrics, move || Arc::clone(&current)).unwrap();
        thread.join().unwrap();
        let told: Vec<Event> = std::iter::from_fn(|| events.try_recv()).collect();
        assert!(matches!(told[..], [Event::JobDone(_)]), "{} events", told.len());
    }

    #[test]
    fn a_checkpoint_waits_for_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Engines::open(dir.path(), 1 << 20).unwrap();
        let mut held = Held::default();
        held.hold(job(&mut staged(&engines)));
        let none = held.release(LogIndex(0), false).is_none();
        assert!(none, "entry 1 is applied, and not in the log yet");
        assert!(held.release(LogIndex(1), false).is_some());
        assert!(held.release(LogIndex(1), false).is_none(), "once");
        held.hold(job(&mut staged(&engines)));
        assert!(held.release(LogIndex(0), true).is_some(), "it makes room in the log");
    }
}
