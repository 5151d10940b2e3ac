//! fjall behind the port.
//!
//! Four keyspaces in one database, one atomic batch a write, persisted with its journal. Settings are the
//! defaults but for the cache; with `BLOBS` values of 1 KiB and more are kept in files of their own, which
//! is what fjall advises for large values.
//!
//! Caveats. fjall has no account of live bytes: what its tables take counts as used. Keys are bounded by
//! 65,535 bytes. Flushes and compactions run in threads of its own; [`Candidate::is_busy`] says when.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable,
};
use mvcc::engine::{Engine, EngineError, Snapshot, Table, Visit, Write};

use super::Candidate;
use crate::gauges;

const NAMES: [&str; 4] = ["latest", "versions", "events", "meta"];

/// fjall behind the port. See the [module](self).
pub(crate) struct FjallEngine<const BLOBS: bool> {
    database: Database,
    tables: [Keyspace; 4],
    dir: PathBuf,
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A view of a [`FjallEngine`].
pub(crate) struct FjallSnapshot {
    snapshot: fjall::Snapshot,
    tables: [Keyspace; 4],
}

fn wrong(error: fjall::Error) -> EngineError {
    match error {
        fjall::Error::Io(error) => EngineError::Io(error),
        other => EngineError::Io(io::Error::other(other.to_string())),
    }
}

impl<const BLOBS: bool> Candidate for FjallEngine<BLOBS> {
    fn open(dir: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        std::fs::create_dir_all(dir)?;
        let builder = Database::builder(dir.join("fjall")).cache_size(cache_bytes as u64);
        let database = builder.open().map_err(wrong)?;
        let options = || {
            KeyspaceCreateOptions::default()
                .with_kv_separation(BLOBS.then(KvSeparationOptions::default))
        };
        let table = |name| database.keyspace(name, options).map_err(wrong);
        let [a, b, c, d] = NAMES;
        let tables = [table(a)?, table(b)?, table(c)?, table(d)?];
        Ok(Self { database, tables, dir: dir.to_owned() })
    }

    fn is_busy(&self) -> bool {
        self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0
    }
}

impl<const BLOBS: bool> Engine for FjallEngine<BLOBS> {
    type Snapshot = FjallSnapshot;

    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let mut writes = self.database.batch().durability(Some(PersistMode::SyncData));
        for write in batch {
            match write {
                Write::Put(table, key, value) => {
                    writes.insert(&self.tables[*table as usize], &key[..], &value[..]);
                }
                Write::Delete(table, key) => {
                    writes.remove(&self.tables[*table as usize], &key[..]);
                }
            }
        }
        writes.commit().map_err(wrong)
    }

    fn snapshot(&self) -> Result<FjallSnapshot, EngineError> {
        Ok(FjallSnapshot { snapshot: self.database.snapshot(), tables: self.tables.clone() })
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let total = gauges::disk_bytes(&self.dir)?;
        let used: u64 = self.tables.iter().map(Keyspace::disk_space).sum();
        Ok((total, used.min(total)))
    }

    fn shrink(&self) -> Result<(), EngineError> {
        self.tables.iter().try_for_each(|table| table.major_compact().map_err(wrong))
    }
}

impl FjallSnapshot {
    fn visit(rows: impl Iterator<Item = Guard>, visit: Visit<'_>) -> Result<(), EngineError> {
        for row in rows {
            let (key, value) = row.into_inner().map_err(wrong)?;
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// `None` if the span is empty.
fn bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    if end.is_some_and(|end| end <= start) {
        return None;
    }
    Some((Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded)))
}

impl Snapshot for FjallSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self.snapshot.get(&self.tables[table as usize], key).map_err(wrong)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let Some(bounds) = bounds(start, end) else { return Ok(()) };
        Self::visit(self.snapshot.range::<&[u8], _>(&self.tables[table as usize], bounds), visit)
    }

    fn scan_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let Some(bounds) = bounds(start, end) else { return Ok(()) };
        let rows = self.snapshot.range::<&[u8], _>(&self.tables[table as usize], bounds);
        Self::visit(rows.rev(), visit)
    }
}
