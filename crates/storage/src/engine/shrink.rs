//! Copying the live rows into a new file while the old one goes on working.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use env::Disk;
use mvcc::engine::{EngineError, Snapshot, Table};

use super::{FILE, Generation, NEW_FILE, RedbEngine, RedbSnapshot, fenced};

const ALL: [Table; 4] = [Table::Latest, Table::Versions, Table::Events, Table::Meta];

/// Bytes of rows that go into one transaction of the new file.
const CHUNK_BYTES: usize = 16 << 20;

/// Keys touched meanwhile that may be copied while the writer waits.
const LAST_ROUND_KEYS_MAX: usize = 4096;

/// Rounds after which the writer waits however much it has touched: it is faster than we are.
const ROUNDS_MAX: u32 = 8;

impl<D: Disk> RedbEngine<D> {
    /// The steps, of which only the last holds up the writer:
    ///
    /// 1. Begin to note the keys of every batch, and take a snapshot of what was before.
    /// 2. Copy the snapshot into a new file.
    /// 3. Copy again what was touched meanwhile, until that is little.
    /// 4. With the writer waiting: copy the rest, give the new file the name of the old one, and
    ///    let everyone who comes from now on use it.
    ///
    /// A crash before the renaming leaves the old file, one after it the new one; both hold
    /// every batch that was acknowledged.
    pub(super) fn copy_and_swap(&self) -> Result<(), EngineError> {
        let _alone = self.shrinking.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = {
            let mut writer = self.writer()?;
            writer.touched = Some(BTreeSet::new());
            fenced(|| self.current().snapshot())
        };
        let result = snapshot.and_then(|snapshot| self.copy_from(snapshot));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.touched = None;
        drop(writer);
        if result.is_err() {
            // Otherwise swept up at the next opening.
            let _ = self.disk.remove(&self.dir.join(NEW_FILE));
        }
        result
    }

    fn copy_from(&self, snapshot: RedbSnapshot<D>) -> Result<(), EngineError> {
        let new = Generation::open(&self.disk, &self.dir, NEW_FILE, self.options)?;
        let mut copy = Copy { new, rows: Vec::new(), bytes: 0 };
        for table in ALL {
            copy.add_all(&snapshot, table)?;
        }
        drop(snapshot);
        for _ in 0..ROUNDS_MAX {
            let (touched, now) = {
                let mut writer = self.writer()?;
                let touched = writer.touched.get_or_insert_default();
                if touched.len() <= LAST_ROUND_KEYS_MAX {
                    break;
                }
                (std::mem::take(touched), fenced(|| self.current().snapshot())?)
            };
            copy.add_touched(&now, &touched)?;
        }
        // From here on the writer waits.
        let mut writer = self.writer()?;
        let touched = writer.touched.take().unwrap_or_default();
        copy.add_touched(&fenced(|| self.current().snapshot())?, &touched)?;
        copy.flush()?;
        self.disk.rename(&self.dir.join(NEW_FILE), &self.dir.join(FILE))?;
        if let Err(error) = self.disk.sync_dir(&self.dir) {
            // Which of the two files a restart would find is not known any more.
            writer.failed = Some(error.to_string());
            return Err(error.into());
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(copy.new);
        Ok(())
    }
}

/// Rows on their way into the new file.
struct Copy<D: Disk> {
    new: Generation<D>,
    rows: Vec<(Table, Bytes, Option<Bytes>)>,
    bytes: usize,
}

impl<D: Disk> Copy<D> {
    fn add(&mut self, table: Table, key: Bytes, value: Option<Bytes>) -> Result<(), EngineError> {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.rows.push((table, key, value));
        if self.bytes >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn add_all(&mut self, from: &RedbSnapshot<D>, table: Table) -> Result<(), EngineError> {
        let mut added = Ok(());
        from.scan(table, b"", None, &mut |key, value| {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            added = self.add(table, key, Some(value));
            if added.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        added
    }

    fn add_touched(
        &mut self,
        from: &RedbSnapshot<D>,
        touched: &BTreeSet<(Table, Bytes)>,
    ) -> Result<(), EngineError> {
        for (table, key) in touched {
            let value = from.get(*table, key)?;
            self.add(*table, key.clone(), value)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let new = &self.new;
        fenced(|| {
            new.write(rows.iter().map(|(table, key, value)| (*table, &key[..], value.as_deref())))
        })
    }
}
