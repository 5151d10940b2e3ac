//! The state engine: [`RedbEngine`], redb behind the port of `mvcc`.
//!
//! The engine is off the way of a put: applied batches wait in memory, covered by the log, and
//! come here as large, sorted, deduplicated batches together with the applied index. What it has
//! to be good at is reading: gets and lists under overwriting, a restart that replays nothing of
//! its own, snapshots that cost nothing. `docs/decisions/0001-state-engine.md` has the candidates
//! and the figures.
//!
//! Tables are redb tables of byte strings, one for each [`Table`]; a fifth one keeps the engine's
//! own account of the bytes in use, in the same transaction as the batch.
//!
//! # Durability
//!
//! A batch is one transaction with `Durability::Immediate` and quick repair: the allocator's
//! state is stored with every commit and the commit is two-phase, so that opening after a crash
//! takes milliseconds instead of a walk over the file.
//!
//! # Shrinking
//!
//! redb's own compaction wants to be alone with the file. [`RedbEngine::shrink`] copies the rows
//! of a snapshot into a new file instead, in key order, which also packs the pages; batches
//! written meanwhile go to the old file and are noted; what they touched is copied again in
//! rounds, and only the last, small round holds up the writer. Readers are never held up: those
//! that hold a snapshot keep the old file open until they are done with it. It takes room for
//! both files for a while; if there is none, it gives up and nothing has changed.
//!
//! # Damage
//!
//! redb checks what it reads, but not everything: some damage makes it panic. Every call is
//! therefore fenced, and a panic is reported as [`EngineError::Corrupted`]. An engine whose write
//! failed, for any reason, refuses all further writes, and redb refuses to read as well.
//!
//! # A full disk
//!
//! A write that met it half-way would be such a failure. So a batch for which there may be no room is
//! refused with [`EngineError::Full`] before redb hears of it; it may be tried again. What it may take is
//! estimated, generously. What is free in the file itself counts as room.
//!
//! # Caveats
//!
//! - A snapshot that is held pins every page that it sees; the file grows by what is overwritten.
//! - Page checksums are verified when redb repairs, not at every read: rot inside a value is
//!   found by the sums above the engine (`HashKV`), not here.

mod backend;
mod shrink;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use env::{Disk, DiskFile};
use mvcc::engine::{Engine, EngineError, Snapshot, Table, Write};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use backend::Backend;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;
type RowRange = redb::Range<'static, &'static [u8], &'static [u8]>;
type OpenTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// In the order of [`slot`].
const TABLES: [Rows; 4] = [
    TableDefinition::new("latest"),
    TableDefinition::new("versions"),
    TableDefinition::new("events"),
    TableDefinition::new("meta"),
];

/// The engine's own figures.
const ACCOUNT: TableDefinition<'static, &'static str, u64> = TableDefinition::new("account");
const USED_BYTES: &str = "used_bytes";

const FILE: &str = "state.redb";
const NEW_FILE: &str = "state.redb.new";

/// What a row takes besides its key and value: its two offsets in a leaf.
const ROW_OVERHEAD_BYTES: u64 = 8;

/// What a byte of a row takes at most: pages are not full and are copied when they change, and a long
/// value has pages of its own, a power of two of them.
const BYTES_A_BYTE: u64 = 2;

/// What a batch may take besides its rows.
const SLACK_BYTES: u64 = 2 << 20;

const fn slot(table: Table) -> usize {
    match table {
        Table::Latest => 0,
        Table::Versions => 1,
        Table::Events => 2,
        Table::Meta => 3,
    }
}

/// Settings of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Bytes of pages kept in memory, clean and dirty together; up to half of it takes what a
    /// batch dirties. A batch that dirties more is written in bits and costs nearly twice.
    pub cache_bytes: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20 }
    }
}

/// A file and the database in it.
struct Generation<D: Disk> {
    database: redb::Database,
    // A second handle, for its length.
    file: D::File,
}

/// What writers have to themselves.
struct Writer {
    /// The first failure of a write.
    failed: Option<String>,
    /// The keys written since a shrink began, while one is under way.
    touched: Option<BTreeSet<(Table, Bytes)>>,
}

/// The state engine on redb. See the [module](self).
pub struct RedbEngine<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: EngineOptions,
    current: RwLock<Arc<Generation<D>>>,
    writer: Mutex<Writer>,
    /// Held by a shrink from beginning to end.
    shrinking: Mutex<()>,
}

/// A view of a [`RedbEngine`] that does not change.
pub struct RedbSnapshot<D: Disk> {
    tables: [OpenTable; 4],
    account: redb::ReadOnlyTable<&'static str, u64>,
    // Dropped last: the file must stay open under the tables.
    generation: Arc<Generation<D>>,
}

impl<D: Disk> RedbEngine<D> {
    /// Opens the engine in `dir`, or makes an empty one.
    ///
    /// # Errors
    /// `Io` if the file system refuses or the file is in use, `Corrupted` if the file is not what
    /// the engine left.
    pub fn open(disk: D, dir: &Path, options: EngineOptions) -> Result<Self, EngineError> {
        disk.create_dir_all(dir)?;
        // Left behind by a shrink that was interrupted.
        match disk.remove(&dir.join(NEW_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let exists = match disk.open(&dir.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            other => other.map(|_| true)?,
        };
        let generation = if exists {
            Generation::open(&disk, dir, FILE, options)?
        } else {
            // Made whole before it gets its name: half a file is not taken for a damaged one.
            let generation = Generation::open(&disk, dir, NEW_FILE, options)?;
            disk.rename(&dir.join(NEW_FILE), &dir.join(FILE))?;
            generation
        };
        disk.sync_dir(dir)?;
        Ok(Self {
            disk,
            dir: dir.to_path_buf(),
            options,
            current: RwLock::new(Arc::new(generation)),
            writer: Mutex::new(Writer { failed: None, touched: None }),
            shrinking: Mutex::new(()),
        })
    }

    fn current(&self) -> Arc<Generation<D>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, EngineError> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &writer.failed {
            None => Ok(writer),
            Some(reason) => {
                Err(io::Error::other(format!("an earlier write failed: {reason}")).into())
            }
        }
    }
}

impl<D: Disk> RedbEngine<D> {
    fn look_for_room(&self, batch: &[Write]) -> Result<(), EngineError> {
        let bytes = |write: &Write| match write {
            Write::Put(_, key, value) => key.len() + value.len(),
            Write::Delete(_, key) => key.len(),
        };
        let batch_bytes: usize = batch.iter().map(bytes).sum();
        let needed_bytes = BYTES_A_BYTE * batch_bytes as u64 + SLACK_BYTES;
        let free_bytes = self.room_bytes()?;
        if free_bytes < needed_bytes {
            return Err(EngineError::Full { needed_bytes, free_bytes });
        }
        Ok(())
    }

    /// The bytes that the state can still grow by: what the file system has, and what the file itself
    /// has that nothing uses, left by what was deleted or cut off by a crash. Of the latter only half is
    /// counted: some of it is in pieces too small, and some still held by a snapshot.
    ///
    /// # Errors
    /// As [`Engine::size_bytes`].
    pub fn room_bytes(&self) -> Result<u64, EngineError> {
        let file_bytes = self.current().file.allocated_bytes()?;
        let (_, used_bytes) = self.size_bytes()?;
        let unused_bytes = file_bytes.saturating_sub(BYTES_A_BYTE * used_bytes);
        Ok(self.disk.free_bytes(&self.dir)? + unused_bytes / 2)
    }
}

impl<D: Disk> Generation<D> {
    fn open(disk: &D, dir: &Path, name: &str, options: EngineOptions) -> Result<Self, EngineError> {
        let path = dir.join(name);
        let open = || match disk.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path),
            other => other,
        };
        let (stored, file) = (open()?, open()?);
        fenced(|| {
            let mut builder = redb::Builder::new();
            builder.set_cache_size(options.cache_bytes);
            let backend = Backend { file: stored, disk: disk.clone(), dir: dir.to_path_buf() };
            let database = builder.create_with_backend(backend).map_err(wrong)?;
            let generation = Self { database, file };
            generation.make_tables()?;
            Ok(generation)
        })
    }

    fn make_tables(&self) -> Result<(), EngineError> {
        let read = self.database.begin_read().map_err(wrong)?;
        if read.open_table(ACCOUNT).is_ok() {
            return Ok(());
        }
        drop(read);
        let transaction = self.begin()?;
        for table in TABLES {
            transaction.open_table(table).map_err(wrong)?;
        }
        transaction.open_table(ACCOUNT).map_err(wrong)?.insert(USED_BYTES, 0).map_err(wrong)?;
        transaction.commit().map_err(wrong)
    }

    fn begin(&self) -> Result<redb::WriteTransaction, EngineError> {
        let mut transaction = self.database.begin_write().map_err(wrong)?;
        transaction.set_durability(redb::Durability::Immediate).map_err(wrong)?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Writes the rows in one transaction; `None` removes a row.
    fn write<'a>(
        &self,
        rows: impl Iterator<Item = (Table, &'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), EngineError> {
        let transaction = self.begin()?;
        {
            let [a, b, c, d] = TABLES;
            let open = |table| transaction.open_table(table).map_err(wrong);
            let mut tables = [open(a)?, open(b)?, open(c)?, open(d)?];
            let mut account = transaction.open_table(ACCOUNT).map_err(wrong)?;
            let mut used = account.get(USED_BYTES).map_err(wrong)?.map_or(0, |used| used.value());
            let row_bytes = |key: &[u8], value: &[u8]| {
                key.len() as u64 + value.len() as u64 + ROW_OVERHEAD_BYTES
            };
            for (table, key, value) in rows {
                let table = &mut tables[slot(table)];
                let old = match value {
                    Some(value) => {
                        used += row_bytes(key, value);
                        table.insert(key, value).map_err(wrong)?
                    }
                    None => table.remove(key).map_err(wrong)?,
                };
                if let Some(old) = old {
                    used = used.saturating_sub(row_bytes(key, old.value()));
                }
            }
            account.insert(USED_BYTES, used).map_err(wrong)?;
        }
        transaction.commit().map_err(wrong)
    }

    fn snapshot(self: Arc<Self>) -> Result<RedbSnapshot<D>, EngineError> {
        let read = self.database.begin_read().map_err(wrong)?;
        let open = |table| read.open_table(table).map_err(wrong);
        let [a, b, c, d] = TABLES;
        let tables = [open(a)?, open(b)?, open(c)?, open(d)?];
        let account = read.open_table(ACCOUNT).map_err(wrong)?;
        Ok(RedbSnapshot { tables, account, generation: self })
    }
}

impl<D: Disk> Engine for RedbEngine<D> {
    type Snapshot = RedbSnapshot<D>;

    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let mut writer = self.writer()?;
        self.look_for_room(batch)?;
        let current = self.current();
        let rows = batch.iter().map(|write| match write {
            Write::Put(table, key, value) => (*table, &key[..], Some(&value[..])),
            Write::Delete(table, key) => (*table, &key[..], None),
        });
        let written = fenced(|| current.write(rows));
        if let Err(error) = &written {
            writer.failed = Some(error.to_string());
        } else if let Some(touched) = &mut writer.touched {
            touched.extend(batch.iter().map(|write| match write {
                Write::Put(table, key, _) | Write::Delete(table, key) => (*table, key.clone()),
            }));
        }
        written
    }

    fn snapshot(&self) -> Result<RedbSnapshot<D>, EngineError> {
        fenced(|| self.current().snapshot())
    }

    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        let snapshot = self.snapshot()?;
        let total = snapshot.generation.file.len()?;
        let used = fenced(|| snapshot.account.get(USED_BYTES).map_err(wrong))?;
        Ok((total, used.map_or(0, |used| used.value()).min(total)))
    }

    fn shrink(&self) -> Result<(), EngineError> {
        self.copy_and_swap()
    }
}

impl<D: Disk> RedbSnapshot<D> {
    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Option<RowRange>, EngineError> {
        if end.is_some_and(|end| end <= start) {
            return Ok(None);
        }
        let end = end.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.tables[slot(table)].range::<&[u8]>((Bound::Included(start), end));
        Ok(Some(range.map_err(wrong)?))
    }
}

impl<D: Disk> Snapshot for RedbSnapshot<D> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        fenced(|| {
            let value = self.tables[slot(table)].get(key).map_err(wrong)?;
            Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
        })
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let Some(mut range) = fenced(|| self.range(table, start, end))? else { return Ok(()) };
        while let Some((key, value)) = fenced(|| range.next().transpose().map_err(wrong))? {
            // Outside the fence: a panic of the visitor is not ours to explain.
            if visit(key.value(), value.value()).is_break() {
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
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let Some(mut range) = fenced(|| self.range(table, start, end))? else { return Ok(()) };
        while let Some((key, value)) = fenced(|| range.next_back().transpose().map_err(wrong))? {
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Runs `work`, and takes a panic for what it nearly always is: damage that redb stumbled over.
/// Whatever it panicked in is not used again: writes are refused from then on, and a snapshot
/// has no state that a read could leave half-changed.
fn fenced<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(EngineError::Corrupted(format!("redb panicked: {}", message(&*panic))))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message")
}

/// What an error of redb means.
fn wrong(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            EngineError::Corrupted(error.to_string())
        }
        redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            EngineError::Corrupted(format!("the file is shorter than it should be: {error}"))
        }
        redb::Error::Io(error) => EngineError::Io(error),
        redb::Error::Corrupted(what) => EngineError::Corrupted(what),
        other => EngineError::Io(io::Error::other(other)),
    }
}
