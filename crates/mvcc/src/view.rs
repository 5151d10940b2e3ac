//! What a reader holds: the state as of one published batch, unchanging for as long as it is
//! held.
//!
//! A view is one pointer to what the writer published last: the levels (the active memtable,
//! the frozen one while a checkpoint runs, a snapshot of the engine), the newest revision, the
//! newest batch number, the compacted revision. The active memtable goes on growing under the
//! view; the view reads nothing in it that is newer than itself. A view that is kept keeps its
//! levels: memory, and pages of the engine that could otherwise be used again. Keep it for a
//! request, not for a connection.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::chain::Newest;
use crate::counts::Counts;
use crate::disk::Disk;
use crate::engine::{EngineError, Table};
use crate::error::ReadError;
use crate::events::Events;
use crate::layout::meta_row;
use crate::memtable::{Memtable, stamp};
use crate::meta::MetaScan;
use crate::mutant::{self, Mutant};
use crate::scan::{Merge, Scan, Source};
use crate::state::AppliedMark;
use crate::types::{KeySpan, Record, Revision};

/// A count of fewer keys is quickly made again.
const WORTH_REMEMBERING: u64 = 1000;

/// Where the versions are, newest first.
pub(crate) struct Levels {
    pub(crate) active: Arc<Memtable>,
    pub(crate) frozen: Option<Arc<Memtable>>,
    pub(crate) disk: Arc<Disk>,
}

impl Levels {
    /// The memtables, newest first.
    pub(crate) fn fronts(&self) -> impl Iterator<Item = &Memtable> {
        let frozen = self.frozen.as_deref().filter(|_| !mutant::on(Mutant::LoseFrozen));
        std::iter::once(&*self.active).chain(frozen)
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
    pub(crate) live_keys: u64,
}

/// A handle from which views are taken, without a lock, on any thread.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// What the writer shares with its readers.
pub(crate) struct Shared {
    pub(crate) published: ArcSwap<Published>,
    counts: Counts,
}

impl Shared {
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self { published: ArcSwap::new(published), counts: Counts::default() }
    }
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The state as of the batch applied last.
    #[must_use]
    pub fn view(&self) -> View {
        View { published: self.shared.published.load_full(), shared: Arc::clone(&self.shared) }
    }
}

/// The state as of one applied batch. See the module.
#[derive(Clone)]
pub struct View {
    published: Arc<Published>,
    shared: Arc<Shared>,
}

/// A part of a list, in key order. See [`View::page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The first records of the span.
    pub records: Vec<Record>,
    /// How many keys are live in the whole span.
    pub count: u64,
    /// Where the next page begins; `None` if this is the last.
    pub rest: Option<KeySpan>,
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

    /// How many keys are live at [`View::revision`].
    #[must_use]
    pub fn live_keys(&self) -> u64 {
        self.published.live_keys
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
        Ok(self.published.levels.disk.get(key, at)?)
    }

    /// The records of `span` that are live at `at`, in key order.
    ///
    /// # Errors
    /// As [`View::get`], at once and from the iterator.
    pub fn scan(&self, span: &KeySpan, at: Revision) -> Result<Scan<'_>, ReadError> {
        Ok(Scan::new(self.merge(span, at, false)?))
    }

    /// The same, last key first.
    ///
    /// # Errors
    /// As [`View::scan`].
    pub fn scan_back(&self, span: &KeySpan, at: Revision) -> Result<Scan<'_>, ReadError> {
        Ok(Scan::new(self.merge(span, at, true)?))
    }

    /// The first `limit` records of `span` at `at`, and how many there are in all. The count of
    /// the next page is known from this one's, so a list read page by page is counted once.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn page(&self, span: &KeySpan, at: Revision, limit: usize) -> Result<Page, ReadError> {
        let mut scan = self.scan(span, at)?;
        let records = scan.by_ref().take(limit).collect::<Result<Vec<_>, _>>()?;
        let seen = records.len() as u64;
        let Some(last) = records.last().filter(|_| records.len() == limit) else {
            // All of it, unless nothing was asked for.
            let count = if limit == 0 { self.count(span, at)? } else { seen };
            let rest = (limit == 0 && count > 0).then(|| span.clone());
            return Ok(Page { records, count, rest });
        };
        let start = [&last.key()[..], &[0]].concat().into();
        let rest = KeySpan { start, end: span.end.clone() };
        let count = self.count(span, at)?;
        if count == seen {
            return Ok(Page { records, count, rest: None });
        }
        self.remember_count(rest.clone(), at, count - seen);
        Ok(Page { records, count, rest: Some(rest) })
    }

    /// Tells a count that the caller knows: of the rest of a span, after a part of it has been
    /// read. Must be exact.
    pub fn remember_count(&self, span: KeySpan, at: Revision, count: u64) {
        self.shared.counts.put(span, at, count);
    }

    /// How many keys of `span` are live at `at`.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn count(&self, span: &KeySpan, at: Revision) -> Result<u64, ReadError> {
        self.check(at)?;
        if let Some(count) = self.shared.counts.get(span, at) {
            return Ok(count);
        }
        let count = self.count_anew(span, at)?;
        if count >= WORTH_REMEMBERING {
            self.remember_count(span.clone(), at, count);
        }
        Ok(count)
    }

    fn count_anew(&self, span: &KeySpan, at: Revision) -> Result<u64, ReadError> {
        let levels = &self.published.levels;
        if levels.disk.latest_suffices(at) {
            return Ok(self.count_latest(span, at)?);
        }
        let mut merge = self.merge(span, at, false)?;
        let mut count = 0;
        while let Some((_, record)) = merge.head() {
            count += u64::from(record.is_some());
            merge.advance()?;
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
        Ok(Events::new(&self.published.levels, from, to.min(self.revision())))
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
        let newest = mutant::on(Mutant::MetaTooNew);
        let sequence = if newest { u64::MAX } else { self.published.sequence };
        for front in self.published.levels.fronts() {
            if let Some(found) = front.meta.get(key, sequence, Clone::clone) {
                return Ok(found);
            }
        }
        Ok(self.published.levels.disk.snapshot.get(Table::Meta, &meta_row(key))?)
    }

    /// The meta keys that begin with `prefix`, and their values, in key order.
    ///
    /// # Errors
    /// The engine's, at once and from the iterator.
    pub fn meta_scan(&self, prefix: &[u8]) -> Result<MetaScan<'_>, ReadError> {
        Ok(self.meta_rows(&KeySpan::prefix(prefix))?)
    }

    pub(crate) fn meta_rows(&self, span: &KeySpan) -> Result<MetaScan<'_>, EngineError> {
        MetaScan::new(&self.published.levels, span, self.published.sequence)
    }

    pub(crate) fn levels(&self) -> &Levels {
        &self.published.levels
    }

    pub(crate) fn check(&self, at: Revision) -> Result<(), ReadError> {
        if at < self.compacted() {
            Err(ReadError::Compacted { compacted: self.compacted() })
        } else if at > self.revision() {
            Err(ReadError::Future { newest: self.revision() })
        } else {
            Ok(())
        }
    }

    fn merge(&self, span: &KeySpan, at: Revision, back: bool) -> Result<Merge<'_>, ReadError> {
        self.check(at)?;
        let mut sources = self.front_sources(span, at, back);
        let cursors = self.published.levels.disk.cursors(span, at, back)?;
        sources.extend(cursors.into_iter().map(Source::Disk));
        Ok(Merge::new(sources, back))
    }

    fn front_sources(&self, span: &KeySpan, at: Revision, back: bool) -> Vec<Source<'_>> {
        let fronts = self.published.levels.fronts();
        let newest = fronts.map(|front| Newest::new(&front.versions, span, stamp(at), back));
        newest.map(Source::Front).collect()
    }

    /// Counts without copying a row: the keys of `Latest`, corrected by what the fronts say.
    fn count_latest(&self, span: &KeySpan, at: Revision) -> Result<u64, EngineError> {
        let mut fronts = Merge::new(self.front_sources(span, at, false), false);
        let mut count = 0;
        let mut failed = None;
        if !span.is_empty() {
            let (start, end) = (&span.start, span.end.as_deref());
            let snapshot = &self.published.levels.disk.snapshot;
            snapshot.scan(Table::Latest, start, end, &mut |key, _| {
                while let Some((front, record)) = fronts.head()
                    && front <= key
                {
                    // A key that the fronts have too is counted as they say.
                    let same = front == key && !mutant::on(Mutant::CountTwice);
                    count += u64::from(record.is_some());
                    if let Err(error) = fronts.advance() {
                        failed = Some(error);
                        return ControlFlow::Break(());
                    }
                    if same {
                        return ControlFlow::Continue(());
                    }
                }
                count += 1;
                ControlFlow::Continue(())
            })?;
        }
        if let Some(error) = failed {
            return Err(error);
        }
        while let Some((_, record)) = fronts.head() {
            count += u64::from(record.is_some());
            fronts.advance()?;
        }
        Ok(count)
    }
}
