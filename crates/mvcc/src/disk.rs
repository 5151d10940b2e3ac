//! The lowest level: a snapshot of the engine.
//!
//! The tables hold everything up to the revision of their [`Mark`], and usually nothing else:
//! `Latest` has the newest version of every live key and is all that a read at the mark or
//! above has to look at. A read below the mark, whose version may have been superseded since,
//! looks at `Versions` too.
//!
//! When a checkpoint of several writes was cut off by a crash, the tables hold, beside all up
//! to the mark, some versions of later revisions, up to [`Disk::newest`]. Nothing has been lost
//! by that, since a version leaves `Latest` only by going to `Versions` in the same write. So
//! every read asks for a revision not above the mark, and while `newest` is above the mark all
//! of them take the way through `Versions`.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::{EngineError, Snapshot, Table};
use crate::layout::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::types::{KeySpan, Record, Revision};

/// Rows that a cursor reads ahead at first, and at most.
const AHEAD_ROWS_MIN: usize = 16;
const AHEAD_ROWS_MAX: usize = 1024;
/// Bytes that a cursor reads ahead, a row more at most.
const AHEAD_BYTES: usize = 256 * 1024;
/// Versions of one key that a cursor walks over before it searches.
const WALK_MAX: usize = 32;

/// The level. See the module.
pub(crate) struct Disk {
    pub(crate) snapshot: Box<dyn Snapshot>,
    pub(crate) mark: Mark,
    /// The newest revision of which the tables may have versions.
    pub(crate) newest: Revision,
}

/// A version as a cursor found it; no record is a tombstone.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) record: Option<Record>,
}

impl Disk {
    /// What a snapshot contains.
    pub(crate) fn load(snapshot: Box<dyn Snapshot>) -> Result<Self, EngineError> {
        let mark = match snapshot.get(Table::Meta, layout::MARK)? {
            Some(row) => Mark::decode(&row)?,
            None => Mark::EMPTY,
        };
        let pending = match snapshot.get(Table::Meta, layout::PENDING)? {
            Some(row) => layout::read_revision(&row)?,
            None => mark.revision,
        };
        Ok(Self { snapshot, mark, newest: pending.max(mark.revision) })
    }

    /// Whether `Latest` alone answers a read at `at`.
    pub(crate) fn latest_suffices(&self, at: Revision) -> bool {
        (at >= self.newest && self.newest == self.mark.revision) || mutant::on(Mutant::SkipVersions)
    }

    /// The version of `key` at `at`, or at the mark if that is earlier.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Result<Option<Record>, EngineError> {
        let suffices = self.latest_suffices(at);
        let at = at.min(self.mark.revision);
        if let Some(record) = self.latest(key)?
            && (record.mod_revision <= at || mutant::on(Mutant::ReadTooNew))
        {
            return Ok(Some(record));
        }
        if suffices { Ok(None) } else { Ok(self.version_at(key, at)?.and_then(|v| v.record)) }
    }

    /// The version of `key` in `Latest`.
    pub(crate) fn latest(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        let row = self.snapshot.get(Table::Latest, key)?;
        row.map(|row| read_record(key, row)).transpose()
    }

    /// The newest version of `key` in `Versions` that is not newer than `at`.
    fn version_at(&self, key: &[u8], at: Revision) -> Result<Option<Found>, EngineError> {
        let mut found = None;
        let (start, end) = (layout::version_row(key, at), layout::versions_end(key));
        self.snapshot.scan(Table::Versions, &start, Some(&end), &mut |row, value| {
            found = Some(read_version(row, Bytes::copy_from_slice(value)));
            ControlFlow::Break(())
        })?;
        found.transpose()
    }

    /// The version of `key` that came into being at `revision`.
    pub(crate) fn version_of(&self, key: &[u8], revision: Revision) -> Result<Record, EngineError> {
        if let Some(record) = self.latest(key)?
            && record.mod_revision == revision
        {
            return Ok(record);
        }
        match self.snapshot.get(Table::Versions, &layout::version_row(key, revision))? {
            Some(row) if !row.is_empty() => read_record(key, row),
            _ => Err(EngineError::Corrupted(format!("no version for the event at {revision}"))),
        }
    }

    /// The sources a scan at `at` needs, newest first.
    pub(crate) fn cursors(
        self: &Arc<Self>,
        span: &KeySpan,
        at: Revision,
        back: bool,
    ) -> Result<Vec<Cursor>, EngineError> {
        let suffices = self.latest_suffices(at);
        let at = at.min(self.mark.revision);
        let mut cursors = vec![Cursor::new(self, Table::Latest, span, at, back)?];
        if !suffices {
            cursors.push(Cursor::new(self, Table::Versions, span, at, back)?);
        }
        Ok(cursors)
    }

    /// All versions not newer than `at`; a version may be in both cursors.
    pub(crate) fn history(self: &Arc<Self>, at: Revision) -> Result<[Cursor; 2], EngineError> {
        let at = at.min(self.mark.revision);
        let open = |table, every| Cursor::open(self, table, &KeySpan::all(), at, false, every);
        Ok([open(Table::Latest, false)?, open(Table::Versions, true)?])
    }
}

/// The first row that can come after `row`.
fn after(row: &[u8]) -> Bytes {
    [row, &[0]].concat().into()
}

fn read_record(key: &[u8], row: Bytes) -> Result<Record, EngineError> {
    let record = Record::decode(row)?;
    if record.key() != key {
        return Err(EngineError::Corrupted("version under another key".to_owned()));
    }
    Ok(record)
}

fn read_version(row: &[u8], value: Bytes) -> Result<Found, EngineError> {
    let (key, revision) = layout::read_version_row(row)?;
    let key = key.freeze();
    if value.is_empty() {
        return Ok(Found { key, revision, record: None });
    }
    let record = read_record(&key, value)?;
    if record.mod_revision != revision {
        return Err(EngineError::Corrupted("version under another revision".to_owned()));
    }
    Ok(Found { key, revision, record: Some(record) })
}

/// For each key of a span that has a version not newer than `at` in a table, the newest of
/// those, or every one of those. Reads ahead in steps that grow, so that a short list stays
/// cheap.
pub(crate) struct Cursor {
    disk: Arc<Disk>,
    table: Table,
    at: Revision,
    back: bool,
    /// Not only the newest version of a key.
    every: bool,
    /// What is left to be read: rows from `start` to `end`.
    start: Bytes,
    end: Option<Bytes>,
    over: bool,
    ahead_rows: usize,
    /// Read ahead, the next one last.
    ahead: Vec<Found>,
}

impl Cursor {
    fn new(
        disk: &Arc<Disk>,
        table: Table,
        span: &KeySpan,
        at: Revision,
        back: bool,
    ) -> Result<Self, EngineError> {
        Self::open(disk, table, span, at, back, false)
    }

    fn open(
        disk: &Arc<Disk>,
        table: Table,
        span: &KeySpan,
        at: Revision,
        back: bool,
        every: bool,
    ) -> Result<Self, EngineError> {
        let (start, end) = match table {
            Table::Latest => (span.start.clone(), span.end.clone()),
            _ => (
                layout::versions_start(&span.start),
                span.end.as_ref().map(|end| layout::versions_start(end)),
            ),
        };
        let mut cursor = Self {
            disk: Arc::clone(disk),
            table,
            at,
            back,
            every,
            start,
            end,
            over: span.is_empty(),
            ahead_rows: AHEAD_ROWS_MIN,
            ahead: Vec::new(),
        };
        cursor.fill()?;
        Ok(cursor)
    }

    /// The version the cursor stands on; `None` at the end.
    pub(crate) fn head(&self) -> Option<&Found> {
        self.ahead.last()
    }

    pub(crate) fn advance(&mut self) -> Result<(), EngineError> {
        self.ahead.pop();
        self.fill()
    }

    fn fill(&mut self) -> Result<(), EngineError> {
        while self.ahead.is_empty() && !self.over {
            match (self.table, self.back) {
                (Table::Latest, _) => self.fill_latest()?,
                (_, false) => self.fill_versions()?,
                (_, true) => self.fill_versions_back()?,
            }
            self.ahead.reverse();
            self.ahead_rows = (self.ahead_rows * 2).min(AHEAD_ROWS_MAX);
        }
        Ok(())
    }

    /// Rows of `Latest`, copied into one piece of memory that their records share.
    fn fill_latest(&mut self) -> Result<(), EngineError> {
        let mut memory = BytesMut::new();
        let mut rows: Vec<(usize, usize)> = Vec::new();
        let rows_max = self.ahead_rows;
        let mut visit = |key: &[u8], value: &[u8]| {
            memory.put_slice(key);
            memory.put_slice(value);
            rows.push((key.len(), value.len()));
            let full = rows.len() == rows_max || memory.len() >= AHEAD_BYTES;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (snapshot, start, end) = (&self.disk.snapshot, &self.start, self.end.as_deref());
        if self.back {
            snapshot.scan_back(Table::Latest, start, end, &mut visit)?;
        } else {
            snapshot.scan(Table::Latest, start, end, &mut visit)?;
        }
        self.over = rows.len() < rows_max && memory.len() < AHEAD_BYTES;
        let mut memory = memory.freeze();
        let mut last = None;
        for (key_len, value_len) in rows {
            let key = memory.split_to(key_len);
            let record = read_record(&key, memory.split_to(value_len))?;
            last = Some(key);
            if record.mod_revision <= self.at {
                let (key, revision) = (record.key(), record.mod_revision);
                self.ahead.push(Found { key, revision, record: Some(record) });
            }
        }
        match last {
            Some(last) if self.back => self.end = Some(last),
            Some(last) => self.start = after(&last),
            None => {}
        }
        Ok(())
    }

    /// Rows of `Versions`: of each key the first that is not newer than `at`. Where a key has
    /// many versions the walk breaks off and goes on by a search.
    fn fill_versions(&mut self) -> Result<(), EngineError> {
        let mut walk = Walk::new(self.at, self.every);
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        let rows_max = self.ahead_rows;
        let (start, end) = (&self.start, self.end.as_deref());
        let mut failed = None;
        self.disk.snapshot.scan(
            Table::Versions,
            start,
            end,
            &mut |row, value| match walk.meet(row) {
                Ok(Meet::Take) => {
                    found.push((Bytes::copy_from_slice(row), Bytes::copy_from_slice(value)));
                    bytes += row.len() + value.len();
                    if found.len() == rows_max || bytes >= AHEAD_BYTES {
                        next = Some(if walk.every { after(row) } else { walk.after_key() });
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                }
                Ok(Meet::Skip) => ControlFlow::Continue(()),
                Ok(Meet::Search(from)) => {
                    next = Some(from);
                    ControlFlow::Break(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.over = next.is_none();
        if let Some(next) = next {
            self.start = next;
        }
        for (row, value) in found {
            self.ahead.push(read_version(&row, value)?);
        }
        Ok(())
    }

    /// One key of `Versions`, the last: its oldest version is met first, and tells the key.
    fn fill_versions_back(&mut self) -> Result<(), EngineError> {
        let mut oldest = None;
        let (start, end) = (&self.start, self.end.as_deref());
        self.disk.snapshot.scan_back(Table::Versions, start, end, &mut |row, _| {
            oldest = Some(layout::read_version_row(row));
            ControlFlow::Break(())
        })?;
        let Some((key, revision)) = oldest.transpose()? else {
            self.over = true;
            return Ok(());
        };
        self.end = Some(layout::versions_prefix(&key).freeze());
        if revision <= self.at {
            self.ahead.extend(self.disk.version_at(&key, self.at)?);
        }
        Ok(())
    }
}

/// A walk over `Versions` that takes one version of each key.
struct Walk {
    at: Revision,
    /// Not one, but all that are not newer than `at`.
    every: bool,
    /// The key under way, escaped.
    escaped: Vec<u8>,
    taken: bool,
    walked: usize,
}

enum Meet {
    Take,
    Skip,
    /// Go on from this row.
    Search(Bytes),
}

impl Walk {
    fn new(at: Revision, every: bool) -> Self {
        Self { at, every, escaped: Vec::new(), taken: false, walked: 0 }
    }

    fn meet(&mut self, row: &[u8]) -> Result<Meet, EngineError> {
        let (escaped, revision) = layout::split_version_row(row)?;
        if self.escaped != escaped {
            self.escaped.clear();
            self.escaped.extend_from_slice(escaped);
            self.taken = false;
            self.walked = 0;
        }
        if (self.every || !self.taken) && revision <= self.at {
            self.taken = true;
            self.walked = 0;
            return Ok(Meet::Take);
        }
        self.walked += 1;
        if self.walked < WALK_MAX {
            return Ok(Meet::Skip);
        }
        let wanted = if self.taken { self.after_key() } else { self.wanted() };
        Ok(Meet::Search(wanted))
    }

    fn wanted(&self) -> Bytes {
        let revision = (!self.at.0.cast_unsigned()).to_be_bytes();
        [&self.escaped[..], &[0, 0], &revision].concat().into()
    }

    fn after_key(&self) -> Bytes {
        [&self.escaped[..], &[0, 1]].concat().into()
    }
}
