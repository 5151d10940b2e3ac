//! A state on its way from another member: chunk by chunk into an engine.
//!
//! The first write says that an import is under way, the last one removes that and sets the
//! mark, so a state is there whole or, for whoever opens the engine after a crash in between,
//! plainly not there ([`OpenError::ImportUnfinished`]). Memory is bounded by one write and one
//! row ([`Limits::import_write_bytes`], [`Limits::import_row_bytes`]).
//!
//! Nothing that arrives is believed: chunks are summed, rows are decoded, each table ascends.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use crate::engine::{Engine, EngineError, Snapshot, Table, Write};
use crate::export::{CHUNK_HEAD_BYTES, Kind, chunk_sum};
use crate::layout::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::record::{RecordError, get_varint};
use crate::state::{Limits, OpenError, State};
use crate::types::{Record, Revision};

/// Rows removed in one write while the engine is emptied.
const EMPTIED_ROWS: usize = 4096;

/// Why a state cannot be imported. The engine is left without a state in it; import again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A chunk is damaged, missing, doubled, or of another export.
    #[error("chunk {ordinal} of the snapshot is not what was sent")]
    Damaged {
        /// The chunk expected.
        ordinal: u64,
    },
    /// A row that no export makes.
    #[error("snapshot malformed: {0}")]
    Malformed(&'static str),
    /// The chunks ended before the state did.
    #[error("snapshot cut short")]
    CutShort,
    /// What was imported does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<RecordError> for ImportError {
    fn from(_: RecordError) -> Self {
        Self::Malformed("a record or a number")
    }
}

/// The import of one state. See the module.
pub struct Import<E: Engine> {
    engine: Arc<E>,
    limits: Limits,
    sum: u32,
    ordinal: u64,
    /// The beginning of a row that is not complete.
    partial: BytesMut,
    mark: Option<Mark>,
    rows: u64,
    over: bool,
    /// What is not written yet, and the last row received, table by table.
    tables: [Vec<Write>; 4],
    last: [Bytes; 4],
    bytes: usize,
}

impl<E: Engine> Import<E> {
    /// Empties `engine` and begins. No state may be in use on it.
    ///
    /// # Errors
    /// The engine's.
    pub fn begin(engine: Arc<E>, limits: Limits) -> Result<Self, ImportError> {
        begin(&*engine)?;
        Ok(Self {
            engine,
            limits,
            sum: 0,
            ordinal: 0,
            partial: BytesMut::new(),
            mark: None,
            rows: 0,
            over: false,
            tables: Default::default(),
            last: Default::default(),
            bytes: 0,
        })
    }

    /// Takes the next chunk. May write to the engine.
    ///
    /// # Errors
    /// If the chunk is not the next one of an export, or the engine fails. The import is over
    /// then.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ImportError> {
        let damaged = ImportError::Damaged { ordinal: self.ordinal };
        let Some((head, piece)) = chunk.split_at_checked(CHUNK_HEAD_BYTES) else {
            return Err(damaged);
        };
        let (mut sum, mut rest) = head.split_at(4);
        self.sum = chunk_sum(self.sum, rest, piece);
        let len = piece.len() as u64;
        let expected = (self.sum, self.ordinal, len);
        if (sum.get_u32(), rest.get_u64(), u64::from(rest.get_u32())) != expected {
            return Err(damaged);
        }
        self.ordinal += 1;
        self.partial.extend_from_slice(piece);
        while let Some((kind, key, value)) = self.next_row()? {
            self.take(kind, key, value)?;
        }
        if self.bytes >= self.limits.import_write_bytes { self.flush() } else { Ok(()) }
    }

    /// Ends the import and opens the state, once the last chunk has been taken.
    ///
    /// # Errors
    /// If chunks are missing, or the engine fails.
    pub fn finish(mut self) -> Result<State<E>, ImportError> {
        let Some(mark) = self.mark.filter(|_| self.over && self.partial.is_empty()) else {
            return Err(ImportError::CutShort);
        };
        self.flush()?;
        end(&*self.engine, &mark)?;
        Ok(State::open_with(self.engine, self.limits)?)
    }

    /// The next row, if it is complete.
    fn next_row(&mut self) -> Result<Option<(Kind, Bytes, Bytes)>, ImportError> {
        let Some(&kind) = self.partial.first() else { return Ok(None) };
        let kind = Kind::from_byte(kind).ok_or(ImportError::Malformed("kind of a row"))?;
        let mut at = 1;
        let mut len = || match get_varint(&self.partial, &mut at) {
            Ok(len) => Ok(Some(usize::try_from(len).unwrap_or(usize::MAX))),
            Err(RecordError::CutShort) => Ok(None),
            Err(error) => Err(error),
        };
        let Some(key_len) = len()? else { return Ok(None) };
        let Some(value_len) = len()? else { return Ok(None) };
        if key_len.saturating_add(value_len) > self.limits.import_row_bytes {
            return Err(ImportError::Malformed("row too long"));
        }
        if self.partial.len() < at + key_len + value_len {
            return Ok(None);
        }
        self.partial.advance(at);
        let key = self.partial.split_to(key_len).freeze();
        let value = self.partial.split_to(value_len).freeze();
        Ok(Some((kind, key, value)))
    }

    fn take(&mut self, kind: Kind, key: Bytes, value: Bytes) -> Result<(), ImportError> {
        if self.over {
            return Err(ImportError::Malformed("row after the end"));
        }
        let newest = match (&self.mark, kind) {
            (None, Kind::Mark) => {
                self.mark = Some(Mark::decode(&value)?);
                self.rows += 1;
                return Ok(());
            }
            (Some(mark), kind) if kind != Kind::Mark => mark.revision,
            _ => return Err(ImportError::Malformed("mark not first, or twice")),
        };
        let (table, row) = match kind {
            Kind::Latest => (Table::Latest, latest_row(key, &value, newest)?),
            Kind::Versions => (Table::Versions, version_row(key, &value, newest)?),
            Kind::Events => (Table::Events, events_row(key, &value, newest)?),
            Kind::Meta => (Table::Meta, layout::meta_row(&key)),
            Kind::Mark | Kind::End => {
                self.over = value[..] == self.rows.to_be_bytes() && key.is_empty();
                let wrong = ImportError::Malformed("number of rows");
                return if self.over { Ok(()) } else { Err(wrong) };
            }
        };
        self.rows += 1;
        let place = table as usize;
        if row <= self.last[place] {
            return Err(ImportError::Malformed("rows out of order"));
        }
        self.last[place] = row.clone();
        self.bytes += row.len() + value.len() + size_of::<Write>();
        self.tables[place].push(Write::Put(table, row, value));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.tables).concat();
        Ok(self.engine.write(&batch)?)
    }
}

fn latest_row(key: Bytes, value: &Bytes, newest: Revision) -> Result<Bytes, ImportError> {
    check_record(value, &key, |revision| revision <= newest)?;
    Ok(key)
}

fn version_row(row: Bytes, value: &Bytes, newest: Revision) -> Result<Bytes, ImportError> {
    let (key, revision) = layout::read_version_row(&row)?;
    if revision > newest {
        return Err(ImportError::Malformed("version in the future"));
    }
    if !value.is_empty() {
        check_record(value, &key, |other| other == revision)?;
    }
    Ok(row)
}

fn check_record(
    value: &Bytes,
    key: &[u8],
    revision: impl FnOnce(Revision) -> bool,
) -> Result<(), ImportError> {
    let record = Record::decode(value.clone())?;
    if record.key() == key && revision(record.mod_revision) {
        return Ok(());
    }
    Err(ImportError::Malformed("version under another key or revision"))
}

fn events_row(row: Bytes, value: &Bytes, newest: Revision) -> Result<Bytes, ImportError> {
    let commits = layout::read_events(&row, value)?;
    if commits.last().is_none_or(|commit| commit.revision > newest) {
        return Err(ImportError::Malformed("events in the future"));
    }
    Ok(row)
}

/// Empties an engine of which nobody has use. No state may be in use on it. A crash leaves it as one in
/// which an import has begun, or empty.
///
/// # Errors
/// The engine's; then it may be tried again.
pub fn clear<E: Engine>(engine: &E) -> Result<(), EngineError> {
    begin(engine)?;
    engine.write(&[Write::Delete(Table::Meta, layout::IMPORTING.into())])
}

/// Says that an import is under way, and empties the engine.
pub(crate) fn begin<E: Engine>(engine: &E) -> Result<(), EngineError> {
    if !mutant::on(Mutant::ImportUnmarked) {
        let importing = Write::Put(Table::Meta, layout::IMPORTING.into(), Bytes::from_static(&[1]));
        engine.write(&[importing])?;
    }
    let old = if mutant::on(Mutant::ImportOverOld) { 3 } else { 0 };
    for table in [Table::Latest, Table::Versions, Table::Events, Table::Meta].into_iter().skip(old)
    {
        empty(engine, table)?;
    }
    Ok(())
}

/// The import is over: its mark goes, and what the tables contain is said, in one write.
pub(crate) fn end<E: Engine>(engine: &E, mark: &Mark) -> Result<(), EngineError> {
    let importing = Write::Delete(Table::Meta, layout::IMPORTING.into());
    let mark = Write::Put(Table::Meta, layout::MARK.into(), mark.encode());
    engine.write(&[importing, mark])
}

/// Removes every row of a table but the one that says that an import is under way.
fn empty<E: Engine>(engine: &E, table: Table) -> Result<(), EngineError> {
    loop {
        let mut rows = Vec::new();
        engine.snapshot()?.scan(table, &[], None, &mut |row, _| {
            if (table, row) != (Table::Meta, layout::IMPORTING) {
                rows.push(Write::Delete(table, Bytes::copy_from_slice(row)));
            }
            let full = rows.len() == EMPTIED_ROWS;
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if rows.is_empty() {
            return Ok(());
        }
        engine.write(&rows)?;
    }
}
