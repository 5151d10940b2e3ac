//! An engine in memory: the twin of the real one for tests and simulations.
//!
//! A completed write is durable: it survives the [`State`](crate::State) above it, so that a
//! crash is "drop the state, open another on the same engine". Snapshots share the tables until
//! the next write.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Engine, EngineError, Snapshot, Table, Visit, Write};

type Rows = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Default)]
struct Tables {
    rows: [Arc<Rows>; 4],
}

fn place(table: Table) -> usize {
    match table {
        Table::Latest => 0,
        Table::Versions => 1,
        Table::Events => 2,
        Table::Meta => 3,
    }
}

#[derive(Default)]
struct Inner {
    tables: Tables,
    writes_until_failure: Option<u64>,
}

/// The engine. See the module.
#[derive(Default)]
pub struct MemEngine {
    inner: Mutex<Inner>,
}

impl MemEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `writes` more writes through and fails all after them, until told otherwise.
    pub fn fail_writes_after(&self, writes: Option<u64>) {
        self.lock().writes_until_failure = writes;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let mut inner = self.lock();
        match &mut inner.writes_until_failure {
            Some(0) => return Err(EngineError::Io(std::io::Error::other("injected"))),
            Some(left) => *left -= 1,
            None => {}
        }
        let keys = |write: &Write| match write {
            Write::Put(table, key, _) | Write::Delete(table, key) => (*table, key.clone()),
        };
        assert!(
            batch.windows(2).all(|pair| keys(&pair[0]) < keys(&pair[1])),
            "a batch is sorted and has no key twice"
        );
        for write in batch {
            match write {
                Write::Put(table, key, value) => {
                    let rows = Arc::make_mut(&mut inner.tables.rows[place(*table)]);
                    rows.insert(key.clone(), value.clone());
                }
                Write::Delete(table, key) => {
                    Arc::make_mut(&mut inner.tables.rows[place(*table)]).remove(key);
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<MemSnapshot, EngineError> {
        Ok(MemSnapshot { tables: self.lock().tables.clone() })
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let tables = self.lock().tables.clone();
        let rows = tables.rows.iter().flat_map(|rows| rows.iter());
        let bytes = rows.map(|(key, value)| (key.len() + value.len()) as u64).sum();
        Ok((bytes, bytes))
    }

    fn shrink(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// A snapshot of a [`MemEngine`].
pub struct MemSnapshot {
    tables: Tables,
}

impl MemSnapshot {
    fn rows(&self, table: Table) -> &Rows {
        &self.tables.rows[place(table)]
    }
}

impl Snapshot for MemSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.rows(table).get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let rows = span(self.rows(table), start, end);
        let _ = rows.into_iter().flatten().try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn scan_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let rows = span(self.rows(table), start, end);
        let _ = rows.into_iter().flatten().rev().try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

fn span<'a>(
    rows: &'a Rows,
    start: &[u8],
    end: Option<&[u8]>,
) -> Option<std::collections::btree_map::Range<'a, Bytes, Bytes>> {
    match end {
        Some(end) if end <= start => None,
        Some(end) => Some(rows.range::<[u8], _>((Included(start), Excluded(end)))),
        None => Some(rows.range::<[u8], _>((Included(start), Unbounded))),
    }
}
