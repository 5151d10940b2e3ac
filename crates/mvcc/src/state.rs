//! The state of one group, as its one writer sees it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::engine::{Engine, EngineError};
use crate::memtable::Memtable;
use crate::types::{Commit, Revision};
use crate::view::{Levels, Published, Reader, View};

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

/// Why a state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The engine failed or holds what was never written.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The multi-version state of one group. One owner writes; any thread reads through
/// [`State::reader`].
pub struct State<E: Engine> {
    engine: Arc<E>,
    published: Arc<ArcSwap<Published>>,
    /// What is published, for the writer's own use.
    now: Arc<Published>,
}

impl<E: Engine> State<E> {
    /// Opens the state that `engine` holds: everything up to [`State::applied`]. The log from
    /// there on is to be applied again.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn open(engine: Arc<E>) -> Result<Self, OpenError> {
        let levels = Levels { active: Arc::new(Memtable::new()), frozen: None };
        let now = Arc::new(Published {
            levels: Arc::new(levels),
            revision: Revision::FIRST,
            compacted: Revision(0),
            sequence: 0,
            applied: AppliedMark::default(),
        });
        Ok(Self { engine, published: Arc::new(ArcSwap::new(Arc::clone(&now))), now })
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

    /// A handle for readers on any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.published))
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
    /// a log of committed effects, and one of these means that the caller lost its place.
    pub fn apply(&mut self, batch: Batch) {
        let now = &self.now;
        assert!(batch.index > now.applied.index, "entry applied twice");
        assert!(batch.term >= now.applied.term, "terms never go back");
        let sequence = now.sequence + 1;
        let mut revision = now.revision;
        if let Some(commit) = &batch.commit {
            assert!(commit.revision > revision, "revisions only rise");
            revision = commit.revision;
            now.levels.active.insert(commit);
        }
        for (key, value) in batch.meta {
            now.levels.active.insert_meta(key, sequence, value);
        }
        let mut compacted = now.compacted;
        if let Some(to) = batch.compact {
            assert!(to <= revision, "the future cannot be compacted");
            compacted = compacted.max(to);
        }
        self.publish(Published {
            levels: Arc::clone(&now.levels),
            revision,
            compacted,
            sequence,
            applied: AppliedMark { index: batch.index, term: batch.term },
        });
    }

    fn publish(&mut self, published: Published) {
        self.now = Arc::new(published);
        self.published.store(Arc::clone(&self.now));
    }
}
