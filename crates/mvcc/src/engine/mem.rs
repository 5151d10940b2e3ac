//! An engine in memory: the twin of the real one for tests and simulations.
//!
//! A completed write is durable: it survives the [`State`](crate::State) above it, so that a
//! crash is "drop the state, open another on the same engine". Tables are cut into chunks that
//! snapshots share with the engine until a write changes them, so a snapshot costs a few
//! pointers, and a write the chunks it touches.
//!
//! Faults are injected by [`MemEngine::fail_writes_after`] and [`MemEngine::fail_reads`].

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Engine, EngineError, Snapshot, Table, Visit, Write};

/// Rows of a chunk before it is cut in two.
const CHUNK_ROWS_MAX: usize = 128;

type Row = (Bytes, Bytes);

/// The rows of a table: chunks, each under a key that is not above its first row and not below
/// the last row of the chunk before.
#[derive(Clone, Default)]
struct Rows {
    chunks: BTreeMap<Bytes, Arc<Vec<Row>>>,
}

impl Rows {
    /// The key of the chunk in which `key` belongs.
    fn chunk_of(&self, key: &[u8]) -> Bytes {
        let before = self.chunks.range::<[u8], _>((Unbounded, Included(key)));
        before.map(|(first, _)| first.clone()).next_back().unwrap_or_default()
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        let first = self.chunk_of(&key);
        let chunk = Arc::make_mut(self.chunks.entry(first).or_default());
        match chunk.binary_search_by(|(other, _)| other.cmp(&key)) {
            Ok(index) => chunk[index].1 = value,
            Err(index) => chunk.insert(index, (key, value)),
        }
        if chunk.len() > CHUNK_ROWS_MAX {
            let upper = chunk.split_off(CHUNK_ROWS_MAX / 2);
            self.chunks.insert(upper[0].0.clone(), Arc::new(upper));
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let first = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(&first) else { return };
        let Ok(index) = chunk.binary_search_by(|(other, _)| other[..].cmp(key)) else { return };
        Arc::make_mut(chunk).remove(index);
        if chunk.is_empty() {
            self.chunks.remove(&first);
        }
    }

    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let chunk = self.chunks.get(&self.chunk_of(key))?;
        let index = chunk.binary_search_by(|(other, _)| other[..].cmp(key)).ok()?;
        Some(chunk[index].1.clone())
    }

    fn span<'a>(
        &'a self,
        start: &'a [u8],
        end: Option<&'a [u8]>,
    ) -> impl DoubleEndedIterator<Item = &'a Row> {
        let first = self.chunk_of(start);
        let chunks = self.chunks.range((Included(first), Unbounded));
        let chunks = chunks.filter(move |(first, _)| end.is_none_or(|end| first[..] < *end));
        let rows = chunks.flat_map(|(_, chunk)| chunk.iter());
        rows.filter(move |(key, _)| key[..] >= *start && end.is_none_or(|end| key[..] < *end))
    }

    fn bytes(&self) -> u64 {
        let rows = self.chunks.values().flat_map(|chunk| chunk.iter());
        rows.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

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
    reads_fail: Arc<AtomicBool>,
}

fn injected() -> EngineError {
    EngineError::Io(std::io::Error::other("injected"))
}

impl MemEngine {
    /// An empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `writes` more writes through and fails all after them; `None` ends it. A write that
    /// fails leaves no trace.
    pub fn fail_writes_after(&self, writes: Option<u64>) {
        self.lock().writes_until_failure = writes;
    }

    /// Fails every read of every snapshot, until told otherwise.
    pub fn fail_reads(&self, fail: bool) {
        self.reads_fail.store(fail, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemEngine {
    type Snapshot = MemSnapshot;

    /// # Panics
    /// If the batch is not sorted, or has a key twice: that is the caller's to see to.
    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let mut inner = self.lock();
        match &mut inner.writes_until_failure {
            Some(0) => return Err(injected()),
            Some(left) => *left -= 1,
            None => {}
        }
        let key = |write: &Write| match write {
            Write::Put(table, key, _) | Write::Delete(table, key) => (*table, key.clone()),
        };
        let sorted = batch.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]));
        assert!(sorted, "a batch is sorted and has no key twice");
        for write in batch {
            match write {
                Write::Put(table, key, value) => {
                    let rows = Arc::make_mut(&mut inner.tables.rows[place(*table)]);
                    rows.put(key.clone(), value.clone());
                }
                Write::Delete(table, key) => {
                    Arc::make_mut(&mut inner.tables.rows[place(*table)]).delete(key);
                }
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<MemSnapshot, EngineError> {
        let tables = self.lock().tables.clone();
        Ok(MemSnapshot { tables, reads_fail: Arc::clone(&self.reads_fail) })
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let tables = self.lock().tables.clone();
        let bytes = tables.rows.iter().map(|rows| rows.bytes()).sum();
        Ok((bytes, bytes))
    }

    fn shrink(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// A snapshot of a [`MemEngine`].
pub struct MemSnapshot {
    tables: Tables,
    reads_fail: Arc<AtomicBool>,
}

impl MemSnapshot {
    fn rows(&self, table: Table) -> Result<&Rows, EngineError> {
        if self.reads_fail.load(Ordering::SeqCst) {
            return Err(injected());
        }
        Ok(&self.tables.rows[place(table)])
    }
}

impl Snapshot for MemSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.rows(table)?.get(key))
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        for (key, value) in self.rows(table)?.span(start, end) {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        for (key, value) in self.rows(table)?.span(start, end).rev() {
            if visit(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::conformance;

    #[test]
    fn conforms() {
        conformance::run(MemEngine::new, |engine| engine);
    }

    #[test]
    fn injected_faults_are_errors_and_leave_no_trace() {
        let engine = MemEngine::new();
        let put = |value: &'static str| [Write::Put(Table::Latest, "k".into(), value.into())];
        engine.fail_writes_after(Some(1));
        engine.write(&put("a")).unwrap();
        engine.write(&put("b")).unwrap_err();
        engine.write(&put("b")).unwrap_err();
        let snapshot = engine.snapshot().unwrap();
        engine.fail_writes_after(None);
        engine.write(&put("c")).unwrap();
        engine.fail_reads(true);
        snapshot.get(Table::Latest, b"k").unwrap_err();
        engine.fail_reads(false);
        assert_eq!(snapshot.get(Table::Latest, b"k").unwrap(), Some("a".into()));
        assert_eq!(engine.snapshot().unwrap().get(Table::Latest, b"k").unwrap(), Some("c".into()));
    }
}
