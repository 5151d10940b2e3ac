//! LMDB through heed, behind the port.
//!
//! Four named databases in one environment, one write transaction a batch, synced; default flags but for
//! `MDB_NORDAHEAD`, which LMDB's documentation advises for random reads of what exceeds memory.
//!
//! # Long keys
//!
//! LMDB refuses keys longer than about 2,000 bytes (511 without `longer-keys`). A key of [`PREFIX_BYTES`] or
//! more is kept in a row under its first [`PREFIX_BYTES`] bytes, together with all others that begin with
//! the same: their ends and values, in order. A shorter key is a row. So the order of rows is that of keys.
//! To change one key of such a row is to write the row anew, which is bearable as long as such keys are few.
//!
//! # Snapshots
//!
//! A read transaction of LMDB may be used by one thread at a time, and a second one cannot be opened on an
//! older state. So a snapshot opens [`READERS`] of them while no writer commits, and a reader takes one that
//! is free. That bounds how many threads may read one snapshot side by side.
//!
//! # Caveats
//!
//! What cannot be helped from here is in decision 0001: the file is mapped, so that a truncated one kills the
//! process and a damaged one is followed as it stands.

use std::borrow::Cow;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use heed::types;
use heed::{Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use mvcc::engine::{Engine, EngineError, Snapshot, Table, Visit, Write};

use super::Candidate;

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);
type Rows = heed::Database<types::Bytes, types::Bytes>;

const NAMES: [&str; 4] = ["latest", "versions", "events", "meta"];

/// A promise to be made in advance: the file can never be larger.
const MAP_BYTES: usize = 1 << 40;
/// Slots in the table of readers.
const READERS_MAX: u32 = 4096;
/// Threads that may read one snapshot at the same time.
const READERS: usize = 4;
/// From this length on, a key is kept with its neighbours. Below LMDB's limit, 1,982 bytes.
const PREFIX_BYTES: usize = 1900;

/// LMDB behind the port. See the [module](self).
pub(crate) struct LmdbEngine {
    env: Env<WithoutTls>,
    tables: [Rows; 4],
    /// Keeps snapshots and commits apart.
    writer: Mutex<()>,
}

/// A view of an [`LmdbEngine`].
pub(crate) struct LmdbSnapshot {
    /// All of the same state.
    readers: [Mutex<RoTxn<'static, WithoutTls>>; READERS],
    tables: [Rows; 4],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wrong(error: heed::Error) -> EngineError {
    match error {
        heed::Error::Io(error) => EngineError::Io(error),
        heed::Error::Mdb(
            error @ (heed::MdbError::Corrupted
            | heed::MdbError::PageNotFound
            | heed::MdbError::Invalid
            | heed::MdbError::VersionMismatch),
        ) => EngineError::Corrupted(error.to_string()),
        other => EngineError::Io(io::Error::other(other.to_string())),
    }
}

impl Candidate for LmdbEngine {
    #[expect(unsafe_code, reason = "LMDB maps its file: nobody else may change it meanwhile")]
    fn open(dir: &Path, _: usize) -> Result<Self, EngineError> {
        std::fs::create_dir_all(dir)?;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(8).max_readers(READERS_MAX);
        // SAFETY: the directory is this process's own, and none of the flags gives up a guarantee.
        let env = unsafe {
            options.flags(EnvFlags::NO_READ_AHEAD);
            options.open(dir).map_err(wrong)?
        };
        let mut transaction = env.write_txn().map_err(wrong)?;
        let mut table = |name| env.create_database(&mut transaction, Some(name)).map_err(wrong);
        let [a, b, c, d] = NAMES;
        let tables = [table(a)?, table(b)?, table(c)?, table(d)?];
        transaction.commit().map_err(wrong)?;
        Ok(Self { env, tables, writer: Mutex::new(()) })
    }
}

impl LmdbEngine {
    fn put(
        &self,
        transaction: &mut RwTxn<'_>,
        table: Table,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), EngineError> {
        let rows = self.tables[table as usize];
        let (row, new) = match key.split_at_checked(PREFIX_BYTES) {
            None => (key, value.map(Cow::Borrowed)),
            Some((prefix, rest)) => {
                let old = rows.get(transaction, prefix).map_err(wrong)?.unwrap_or_default();
                let new = changed(old, rest, value)?;
                (prefix, Some(new).filter(|new| !new.is_empty()).map(Cow::Owned))
            }
        };
        match new {
            Some(new) => rows.put(transaction, row, &new).map_err(wrong),
            None => rows.delete(transaction, row).map(drop).map_err(wrong),
        }
    }
}

impl Engine for LmdbEngine {
    type Snapshot = LmdbSnapshot;

    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let _alone = lock(&self.writer);
        let mut transaction = self.env.write_txn().map_err(wrong)?;
        for write in batch {
            match write {
                Write::Put(table, key, value) => {
                    self.put(&mut transaction, *table, key, Some(value))?;
                }
                Write::Delete(table, key) => self.put(&mut transaction, *table, key, None)?,
            }
        }
        transaction.commit().map_err(wrong)
    }

    fn snapshot(&self) -> Result<LmdbSnapshot, EngineError> {
        let _no_commit = lock(&self.writer);
        let reader = || self.env.clone().static_read_txn().map(Mutex::new).map_err(wrong);
        let readers = [reader()?, reader()?, reader()?, reader()?];
        Ok(LmdbSnapshot { readers, tables: self.tables })
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let total = self.env.real_disk_size().map_err(wrong)?;
        let used = self.env.non_free_pages_size().map_err(wrong)?;
        Ok((total, used.min(total)))
    }

    fn shrink(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

impl LmdbSnapshot {
    fn reader(&self) -> MutexGuard<'_, RoTxn<'static, WithoutTls>> {
        let free = self.readers.iter().find_map(|reader| reader.try_lock().ok());
        free.unwrap_or_else(|| lock(&self.readers[0]))
    }
}

impl Snapshot for LmdbSnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if key.is_empty() {
            return Ok(None);
        }
        let reader = self.reader();
        let row = key.get(..PREFIX_BYTES).unwrap_or(key);
        let Some(value) = self.tables[table as usize].get(&reader, row).map_err(wrong)? else {
            return Ok(None);
        };
        let Some(rest) = key.get(PREFIX_BYTES..) else {
            return Ok(Some(Bytes::copy_from_slice(value)));
        };
        for kept in Kept(value) {
            let (other, value) = kept?;
            if other == rest {
                return Ok(Some(Bytes::copy_from_slice(value)));
            }
        }
        Ok(None)
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let Some(bounds) = row_bounds(start, end) else { return Ok(()) };
        let reader = self.reader();
        for row in self.tables[table as usize].range(&reader, &bounds).map_err(wrong)? {
            let (key, value) = row.map_err(wrong)?;
            if visit_row((key, value), (start, end), false, visit)?.is_break() {
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
        let Some(bounds) = row_bounds(start, end) else { return Ok(()) };
        let reader = self.reader();
        for row in self.tables[table as usize].rev_range(&reader, &bounds).map_err(wrong)? {
            let (key, value) = row.map_err(wrong)?;
            if visit_row((key, value), (start, end), true, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The rows in which keys of a span may be; `None` if the span is empty.
fn row_bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    if end.is_some_and(|end| end <= start) {
        return None;
    }
    let first = start.get(..PREFIX_BYTES).unwrap_or(start);
    // LMDB has no empty key, not even to search for.
    let first = if first.is_empty() { Bound::Unbounded } else { Bound::Included(first) };
    let last = match end {
        None => Bound::Unbounded,
        Some(end) => end.get(..PREFIX_BYTES).map_or(Bound::Excluded(end), Bound::Included),
    };
    Some((first, last))
}

/// Visits the key of a row, or the keys that are kept in it.
fn visit_row(
    (row, value): (&[u8], &[u8]),
    (start, end): (&[u8], Option<&[u8]>),
    back: bool,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, EngineError> {
    if row.len() < PREFIX_BYTES {
        return Ok(visit(row, value));
    }
    let mut kept = Kept(value).collect::<Result<Vec<_>, _>>()?;
    if back {
        kept.reverse();
    }
    for (rest, value) in kept {
        let key = [row, rest].concat();
        let inside = &key[..] >= start && end.is_none_or(|end| &key[..] < end);
        if inside && visit(&key, value).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The ends of keys and the values that a row of long keys keeps: for each the two lengths, 4 bytes each,
/// little endian, and then both.
struct Kept<'a>(&'a [u8]);

impl<'a> Iterator for Kept<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = (|| {
            let (key_len, rest) = self.0.split_first_chunk::<4>()?;
            let (value_len, rest) = rest.split_first_chunk::<4>()?;
            let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
            self.0 = rest;
            Some((key, value))
        })();
        if split.is_none() {
            self.0 = &[];
        }
        Some(split.ok_or_else(|| EngineError::Corrupted("row of long keys cut short".to_owned())))
    }
}

/// A row of long keys with one of them set, or removed.
fn changed(old: &[u8], rest: &[u8], value: Option<&[u8]>) -> Result<Vec<u8>, EngineError> {
    let mut kept = Kept(old).collect::<Result<Vec<_>, _>>()?;
    let place = kept.binary_search_by(|(other, _)| (*other).cmp(rest));
    match (place, value) {
        (Ok(at), Some(value)) => kept[at].1 = value,
        (Ok(at), None) => drop(kept.remove(at)),
        (Err(at), Some(value)) => kept.insert(at, (rest, value)),
        (Err(_), None) => {}
    }
    let mut new = Vec::new();
    for (rest, value) in kept {
        for part in [rest, value] {
            let len = u32::try_from(part.len())
                .map_err(|_| EngineError::Io(io::Error::other("a row of 4 GiB")))?;
            new.extend_from_slice(&len.to_le_bytes());
        }
        new.extend_from_slice(rest);
        new.extend_from_slice(value);
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the suite of the port does not reach: several long keys with one beginning.
    #[test]
    fn long_keys_keep_their_order_and_their_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let engine = LmdbEngine::open(dir.path(), 0).unwrap();
        let long = |end: &[u8]| [&[b'k'; PREFIX_BYTES][..], end].concat();
        let mut keys = vec![b"j".to_vec(), vec![b'k'; PREFIX_BYTES - 1], long(b"")];
        keys.extend([long(b"a"), long(&[b'a'; 5000]), long(b"b"), b"l".to_vec()]);
        let put = |key: &Vec<u8>| {
            Write::Put(Table::Latest, key.clone().into(), Bytes::copy_from_slice(&key[..1]))
        };
        engine.write(&keys.iter().map(put).collect::<Vec<_>>()).unwrap();
        let check = |keys: &[Vec<u8>]| {
            let snapshot = engine.snapshot().unwrap();
            for (first, start) in keys.iter().enumerate() {
                let has = snapshot.get(Table::Latest, start).unwrap();
                assert_eq!(has.as_deref(), Some(&start[..1]));
                for (last, end) in keys.iter().enumerate() {
                    let mut seen = Vec::new();
                    let mut visit = |key: &[u8], _: &[u8]| {
                        seen.push(key.to_vec());
                        ControlFlow::Continue(())
                    };
                    snapshot.scan(Table::Latest, start, Some(end), &mut visit).unwrap();
                    let mut back = Vec::new();
                    let mut visit = |key: &[u8], _: &[u8]| {
                        back.push(key.to_vec());
                        ControlFlow::Continue(())
                    };
                    snapshot.scan_back(Table::Latest, start, Some(end), &mut visit).unwrap();
                    back.reverse();
                    let expected = keys.get(first..last).unwrap_or_default();
                    assert_eq!((&seen[..], &back[..]), (expected, expected));
                }
            }
        };
        check(&keys);
        let gone = keys.remove(3);
        engine.write(&[Write::Delete(Table::Latest, gone.clone().into())]).unwrap();
        check(&keys);
        assert_eq!(engine.snapshot().unwrap().get(Table::Latest, &gone).unwrap(), None);
    }
}
