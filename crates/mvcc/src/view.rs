//! What a reader holds: the state as of one published batch, unchanging for as long as it is
//! held.
//!
//! A view is one pointer to what the writer published last: the levels (the active memtable,
//! the frozen one while a checkpoint runs, a snapshot of the engine), the newest revision, the
//! newest batch number, the compacted revision. The active memtable goes on growing under the
//! view; the view reads nothing in it that is newer than itself. A view that is kept keeps its
//! levels: memory, and pages of the engine that could otherwise be used again. Keep it for a
//! request, not for a connection.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::chain::Newest;
use crate::error::ReadError;
use crate::memtable::{Memtable, stamp};
use crate::scan::{Scan, Source};
use crate::state::AppliedMark;
use crate::types::{Commit, KeySpan, Record, Revision};

/// Where the versions are, newest first.
pub(crate) struct Levels {
    pub(crate) active: Arc<Memtable>,
    pub(crate) frozen: Option<Arc<Memtable>>,
}

impl Levels {
    fn fronts(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&*self.active).chain(self.frozen.as_deref())
    }
}

/// What the writer publishes after every batch.
pub(crate) struct Published {
    pub(crate) levels: Arc<Levels>,
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    /// Number of the newest batch, counted since the state was opened.
    pub(crate) sequence: u64,
    pub(crate) applied: AppliedMark,
}

/// A handle from which views are taken, without a lock, on any thread.
#[derive(Clone)]
pub struct Reader {
    published: Arc<ArcSwap<Published>>,
}

impl Reader {
    pub(crate) fn new(published: Arc<ArcSwap<Published>>) -> Self {
        Self { published }
    }

    /// The state as of the batch applied last.
    #[must_use]
    pub fn view(&self) -> View {
        View { published: self.published.load_full() }
    }
}

/// The state as of one applied batch. See the module.
#[derive(Clone)]
pub struct View {
    published: Arc<Published>,
}

impl View {
    /// The newest revision of the view.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.published.revision
    }

    /// The oldest revision that can be read; `Revision(0)` before any compaction.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.published.compacted
    }

    /// The last entry of the log that the view contains.
    #[must_use]
    pub fn applied(&self) -> AppliedMark {
        self.published.applied
    }

    /// The version of `key` that is live at `at`.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] and [`ReadError::Future`] if `at` is not between
    /// [`View::compacted`] and [`View::revision`]; the engine's.
    pub fn get(&self, key: &[u8], at: Revision) -> Result<Option<Record>, ReadError> {
        self.check(at)?;
        for front in self.published.levels.fronts() {
            if let Some(found) = front.versions.get(key, stamp(at), |slot| slot.record().cloned()) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The records of `span` that are live at `at`, in key order.
    ///
    /// # Errors
    /// As [`View::get`], at once and from the iterator.
    pub fn scan(&self, span: &KeySpan, at: Revision) -> Result<Scan<'_>, ReadError> {
        self.merge(span, at, false)
    }

    /// The same, last key first.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan_back(&self, span: &KeySpan, at: Revision) -> Result<Scan<'_>, ReadError> {
        self.merge(span, at, true)
    }

    /// How many keys of `span` are live at `at`.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn count(&self, span: &KeySpan, at: Revision) -> Result<u64, ReadError> {
        let mut count = 0;
        for record in self.scan(span, at)? {
            record?;
            count += 1;
        }
        Ok(count)
    }

    /// The commits of these revisions, in order; the range is cut to what the view has. A
    /// start at [`View::compacted`] works.
    ///
    /// # Errors
    /// [`ReadError::Compacted`] if the range starts below [`View::compacted`]; the engine's.
    pub fn events(&self, range: RangeInclusive<Revision>) -> Result<Events<'_>, ReadError> {
        let (from, to) = range.into_inner();
        if from < self.compacted() {
            return Err(ReadError::Compacted { compacted: self.compacted() });
        }
        Ok(Events { view: self, next: from, to: to.min(self.revision()) })
    }

    /// The version of `key` that was live just before revision `before`, or `None` also where
    /// compaction has taken it: what a watcher gets to see as the previous value.
    ///
    /// # Errors
    /// The engine's.
    pub fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Record>, ReadError> {
        let at = before.previous();
        if at < self.compacted() { Ok(None) } else { self.get(key, at.min(self.revision())) }
    }

    /// The value of a meta key.
    ///
    /// # Errors
    /// The engine's.
    pub fn meta_get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        for front in self.published.levels.fronts() {
            if let Some(found) = front.meta.get(key, self.published.sequence, Clone::clone) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The meta keys that begin with `prefix`, and their values, in key order.
    ///
    /// # Errors
    /// The engine's, from the iterator.
    pub fn meta_scan(&self, prefix: &[u8]) -> Result<MetaScan<'_>, ReadError> {
        let span = KeySpan::prefix(prefix);
        let sequence = self.published.sequence;
        let fronts = self.published.levels.fronts();
        let sources =
            fronts.map(|front| Newest::new(&front.meta, &span, sequence, false)).collect();
        Ok(MetaScan { sources })
    }

    fn check(&self, at: Revision) -> Result<(), ReadError> {
        if at < self.compacted() {
            Err(ReadError::Compacted { compacted: self.compacted() })
        } else if at > self.revision() {
            Err(ReadError::Future { newest: self.revision() })
        } else {
            Ok(())
        }
    }

    fn merge(&self, span: &KeySpan, at: Revision, back: bool) -> Result<Scan<'_>, ReadError> {
        self.check(at)?;
        let fronts = self.published.levels.fronts();
        let sources = fronts
            .map(|front| Source::Front(Newest::new(&front.versions, span, stamp(at), back)))
            .collect();
        Ok(Scan::new(sources, back))
    }
}

/// The commits of a range of revisions, in order. See [`View::events`].
pub struct Events<'a> {
    view: &'a View,
    next: Revision,
    to: Revision,
}

impl Iterator for Events<'_> {
    type Item = Result<Arc<Commit>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let levels = &self.view.published.levels;
        for front in [levels.frozen.as_ref(), Some(&levels.active)].into_iter().flatten() {
            let Some(commit) = front.commit_from(self.next) else { continue };
            if commit.revision <= self.to {
                self.next = commit.revision.next();
                return Some(Ok(commit));
            }
        }
        None
    }
}

/// Meta keys and their values, in key order. See [`View::meta_scan`].
pub struct MetaScan<'a> {
    sources: Vec<Newest<'a, Option<Bytes>>>,
}

impl Iterator for MetaScan<'_> {
    type Item = Result<(Bytes, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let heads = self.sources.iter().filter_map(Newest::head);
            let (key, value) = heads.min_by_key(|(key, _)| *key)?;
            let (key, value) = (key.clone(), value.clone());
            for source in &mut self.sources {
                if source.head().is_some_and(|(other, _)| *other == key) {
                    source.advance();
                }
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
    }
}
