//! The state of one group, as its one writer sees it.

use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::{CheckpointJob, Done};
use crate::collect::CollectJob;
use crate::disk::Disk;
use crate::engine::{Engine, EngineError, Snapshot, Table};
use crate::insert::{self, Inserted, Inserter};
use crate::layout::{self, Mark};
use crate::memtable::Memtable;
use crate::mutant::{self, Mutant};
use crate::reload::ReloadJob;
use crate::types::{Commit, Revision};
use crate::view::{Levels, Published, Reader, Shared, View};

/// The last entry of the log that is contained in a state. `index` 0 and `term` 0 are the
/// place before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppliedMark {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
}

/// What one entry of the log does to the state.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Index of the entry.
    pub index: u64,
    /// Term of the entry.
    pub term: u64,
    /// What changes of the users' keys, at one new revision.
    pub commit: Option<Arc<Commit>>,
    /// What changes of everything else: `None` removes the key.
    pub meta: Vec<(Bytes, Option<Bytes>)>,
    /// Below this revision nothing needs to be read any more.
    pub compact: Option<Revision>,
}

/// The sizes of the steps in which a state works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A checkpoint larger than this is written in several pieces of about this size.
    pub checkpoint_write_bytes: usize,
    /// About how large a row of events becomes before the next is begun.
    pub events_row_bytes: usize,
    /// How many changes one step of the collection behind a compaction looks at.
    pub collect_changes: usize,
    /// About how much of an import is written at once.
    pub import_write_bytes: usize,
    /// The longest row that an import takes: key and value of one version, or the keys of one
    /// commit.
    pub import_row_bytes: usize,
    /// How many keys the index of what is in memory is made for from the beginning, as a power of 2: it
    /// grows with its keys, and takes 8 bytes for each of these before there are any. At most 24.
    pub front_root_bits: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            checkpoint_write_bytes: 64 * 1024 * 1024,
            events_row_bytes: 64 * 1024,
            collect_changes: 8 * 1024,
            import_write_bytes: 8 * 1024 * 1024,
            import_row_bytes: 64 * 1024 * 1024,
            front_root_bits: 13,
        }
    }
}

/// Why a state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An import was cut off. What is there is no state; import again.
    #[error("an import of this state was never finished")]
    ImportUnfinished,
    /// The engine failed or holds what was never written.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The multi-version state of one group. One owner writes; any thread reads through
/// [`State::reader`].
pub struct State<E: Engine> {
    engine: Arc<E>,
    limits: Limits,
    shared: Arc<Shared>,
    /// What is published, for the writer's own use.
    now: Arc<Published>,
    /// The job that is out, if one is: only one at a time writes the engine.
    job: Option<Ticket>,
    /// The batch that is being put into memory elsewhere, if one is: nothing else is, meanwhile.
    inserting: Option<Ticket>,
}

impl<E: Engine> State<E> {
    /// Opens the state that `engine` holds: everything up to [`State::applied`]. The log from
    /// there on is to be applied again.
    ///
    /// # Errors
    /// If the engine fails, or holds an import that was never finished.
    pub fn open(engine: Arc<E>) -> Result<Self, OpenError> {
        Self::open_with(engine, Limits::default())
    }

    /// The same with limits other than the default.
    ///
    /// # Errors
    /// As [`State::open`].
    pub fn open_with(engine: Arc<E>, limits: Limits) -> Result<Self, OpenError> {
        let snapshot = engine.snapshot()?;
        if snapshot.get(Table::Meta, layout::IMPORTING)?.is_some() {
            return Err(OpenError::ImportUnfinished);
        }
        let disk = Disk::load(Box::new(snapshot))?;
        let mark = disk.mark;
        let active = Arc::new(Memtable::new(limits.front_root_bits));
        let levels = Levels { active, frozen: None, disk: Arc::new(disk) };
        let now = Arc::new(Published {
            levels: Arc::new(levels),
            revision: mark.revision,
            compacted: mark.compacted,
            sequence: 0,
            applied: mark.applied,
            live_keys: mark.live_keys,
        });
        let shared = Arc::new(Shared::new(Arc::clone(&now)));
        Ok(Self { engine, limits, shared, now, job: None, inserting: None })
    }

    /// The engine underneath.
    #[must_use]
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.now.revision
    }

    /// The oldest revision that can be read; `Revision(0)` before any compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.now.compacted
    }

    /// The last entry of the log applied.
    #[must_use]
    pub fn applied(&self) -> AppliedMark {
        self.now.applied
    }

    /// The last entry of the log that the engine has: a restart replays from there.
    #[must_use]
    pub fn durable(&self) -> AppliedMark {
        self.now.levels.disk.mark.applied
    }

    /// Up to this revision the engine is rid of what compaction has left behind.
    #[must_use]
    pub fn collected(&self) -> Revision {
        self.now.levels.disk.mark.collected
    }

    /// How many keys are live at the newest revision.
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.now.live_keys
    }

    /// A handle for readers on any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The state as of the last batch.
    #[must_use]
    pub fn view(&self) -> View {
        self.reader().view()
    }

    /// About how much memory takes what is not yet in the engine.
    #[must_use]
    pub fn front_bytes(&self) -> usize {
        let levels = &self.now.levels;
        levels.active.bytes() + levels.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }

    /// Applies one entry of the log, in memory, and publishes it to readers at once and whole.
    ///
    /// A compaction that reaches no further than an earlier one changes nothing.
    ///
    /// # Panics
    /// If the entry is not after the last one, its revision is not after the newest, a change
    /// carries another revision than its commit, or it compacts the future: entries come from
    /// a log of committed effects, and one of these means that the caller lost its place. If a
    /// batch is being inserted elsewhere.
    pub fn apply(&mut self, batch: Batch) {
        assert!(self.inserting.is_none(), "one batch after the other");
        self.publish(insert::insert(&self.now, batch));
    }

    /// The same for a batch of many changes, in two steps: what this returns puts it into memory,
    /// in any thread, and [`State::inserted`] publishes it. Until then nothing else is applied,
    /// and nothing is frozen; readers see nothing of it.
    ///
    /// # Panics
    /// If a batch is being inserted already.
    pub fn inserter(&mut self) -> Inserter {
        assert!(self.inserting.is_none(), "one batch after the other");
        let ticket = Ticket(Arc::new(()));
        self.inserting = Some(ticket.clone());
        Inserter::new(ticket, Arc::clone(&self.now))
    }

    /// Whether a batch is being inserted: nothing can be frozen meanwhile.
    #[must_use]
    pub fn is_inserting(&self) -> bool {
        self.inserting.is_some()
    }

    /// Publishes a batch that was inserted. False, and nothing is changed, if it was for a state
    /// that this one has replaced.
    pub fn inserted(&mut self, inserted: Inserted) -> bool {
        let (ticket, published) = inserted.into_parts();
        if self.inserting != Some(ticket) {
            return false;
        }
        self.inserting = None;
        // A checkpoint may have ended meanwhile; none has begun.
        let levels = Arc::clone(&self.now.levels);
        self.publish(Published { levels, ..published });
        true
    }

    /// Freezes what has been applied, so that it can be written to the engine; `None` while
    /// another job is out, while a batch is being inserted, and when there is nothing to write. Run the job in any thread, then
    /// hand what it returns to [`State::finish`]. If it fails, the state must be given up.
    pub fn freeze(&mut self) -> Option<CheckpointJob<E>> {
        let now = &self.now;
        let disk = &now.levels.disk;
        let inserting = self.inserting.is_some() && !mutant::on(Mutant::FreezeHalfInserted);
        if self.job.is_some() || inserting || now.applied == disk.mark.applied {
            return None;
        }
        let mark = Mark {
            applied: now.applied,
            revision: now.revision,
            compacted: now.compacted,
            collected: disk.mark.collected,
            live_keys: now.live_keys,
        };
        let frozen = Arc::clone(&now.levels.active);
        let levels = Levels {
            active: Arc::new(Memtable::new(self.limits.front_root_bits)),
            frozen: Some(Arc::clone(&frozen)),
            disk: Arc::clone(disk),
        };
        let (disk, engine) = (Arc::clone(disk), Arc::clone(&self.engine));
        let ticket = self.ticket();
        self.publish(Published { levels: Arc::new(levels), ..*self.now });
        Some(CheckpointJob { engine, ticket, frozen, disk, mark, limits: self.limits })
    }

    /// The next step of removing what compaction left behind; `None` while another job is out,
    /// and when there is nothing to remove. As with [`State::freeze`], run it and hand what it
    /// returns to [`State::finish`].
    pub fn collect(&mut self) -> Option<CollectJob<E>> {
        let disk = &self.now.levels.disk;
        if self.job.is_some() || disk.mark.collected == disk.mark.compacted {
            return None;
        }
        let (disk, engine) = (Arc::clone(disk), Arc::clone(&self.engine));
        Some(CollectJob { engine, ticket: self.ticket(), disk, limits: self.limits })
    }

    /// Reads from the engine's newest file from then on; `None` while another job is out. As with
    /// [`State::freeze`], run it and hand what it returns to [`State::finish`].
    pub fn reload(&mut self) -> Option<ReloadJob<E>> {
        if self.job.is_some() {
            return None;
        }
        let mark = self.now.levels.disk.mark;
        Some(ReloadJob { engine: Arc::clone(&self.engine), ticket: self.ticket(), mark })
    }

    /// Takes a finished job over: readers that come from now on read what it wrote from the
    /// engine. What is returned may be large, and may be dropped on any thread.
    pub fn finish(&mut self, done: Done) -> Retired {
        let levels = &self.now.levels;
        if self.job != Some(done.ticket) {
            // A job of another state, which this one has replaced.
            return Retired { levels: None };
        }
        self.job = None;
        let frozen = if done.checkpoint { None } else { levels.frozen.clone() };
        let active = Arc::clone(&levels.active);
        let retired = Retired { levels: Some(Arc::clone(levels)) };
        let levels = Levels { active, frozen, disk: Arc::new(done.disk) };
        self.publish(Published { levels: Arc::new(levels), ..*self.now });
        retired
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(Arc::new(()));
        self.job = Some(ticket.clone());
        ticket
    }

    fn publish(&mut self, published: Published) {
        self.now = Arc::new(published);
        self.shared.published.store(Arc::clone(&self.now));
    }
}

/// Tells a job from every other, of this state or another.
#[derive(Clone)]
pub(crate) struct Ticket(Arc<()>);

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What readers that come from now on no longer need: a memtable, a snapshot of the engine.
///
/// To drop a memtable takes as long as a good part of writing it. Readers that were there
/// before may still hold it, and the last one to let go does the work. So keep what is retired
/// until [`Retired::is_last`], and drop it on a thread where nobody waits.
#[must_use = "dropping it takes time: do it where nobody waits"]
pub struct Retired {
    levels: Option<Arc<Levels>>,
}

impl Retired {
    /// Whether no reader holds it any more. Once true it stays true.
    #[must_use]
    pub fn is_last(&self) -> bool {
        let alone = |memtable: &Arc<Memtable>| Arc::strong_count(memtable) == 1;
        self.levels.as_ref().is_none_or(|levels| {
            Arc::strong_count(levels) == 1 && levels.frozen.as_ref().is_none_or(alone)
        })
    }
}
