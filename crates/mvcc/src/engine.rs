//! The port to the state engine: a few ordered tables, atomic batches, snapshots.

pub mod conformance;
pub mod mem;
pub mod partition;

use std::ops::ControlFlow;

use bytes::Bytes;

/// The tables of the state. Keys in every table are ordered bytewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// key -> its newest live version. Nothing but live keys, however often overwritten.
    Latest,
    /// (key, revision) -> a superseded version or a tombstone.
    Versions,
    /// revision -> the keys it changed, many revisions to a row.
    Events,
    /// Everything that is not a user's key: applied index, leases, members, alarms.
    Meta,
}

/// One write of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets `key` to `value`.
    Put(Table, Bytes, Bytes),
    /// Removes `key`; nothing happens if it is absent.
    Delete(Table, Bytes),
}

impl Write {
    /// What it writes to: the order of a batch.
    #[must_use]
    pub fn place(&self) -> (Table, &Bytes) {
        match self {
            Write::Put(table, key, _) | Write::Delete(table, key) => (*table, key),
        }
    }
}

/// Why the engine could not do it. Only [`EngineError::Full`] is worth a retry; after any other the
/// store stops.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file system refused (disk full, I/O error).
    #[error("state engine I/O: {0}")]
    Io(#[from] std::io::Error),
    /// There may not be room for the batch, so it was not begun: nothing has changed, and the same
    /// batch may be tried again when there is room.
    #[error("no room for the state: {needed_bytes} bytes wanted, {free_bytes} free")]
    Full {
        /// What the batch may take at most, by an estimate.
        needed_bytes: u64,
        /// What the file system and the engine's file have.
        free_bytes: u64,
    },
    /// What was read is not what was written.
    #[error("state engine corrupted: {0}")]
    Corrupted(String),
}

/// The state engine behind its trait. Writers are one at a time; readers never wait for them.
pub trait Engine: Send + Sync + 'static {
    /// A view that does not change, however long it is kept.
    type Snapshot: Snapshot;

    /// Applies the whole batch or nothing of it, and returns when it is durable. The writes
    /// come sorted by (table, key), without duplicates.
    fn write(&self, batch: &[Write]) -> Result<(), EngineError>;

    /// The state as of the last completed write.
    fn snapshot(&self) -> Result<Self::Snapshot, EngineError>;

    /// Bytes of the file(s) on disk, and of those the bytes in use.
    fn size_bytes(&self) -> Result<(u64, u64), EngineError>;

    /// Gives unused space back to the file system without stopping readers.
    fn shrink(&self) -> Result<(), EngineError>;
}

/// Is called with the key and the value of each row, until it breaks.
pub type Visit<'a> = &'a mut (dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a);

/// A view of an engine that does not change.
pub trait Snapshot: Send + Sync + 'static {
    /// The value of `key`.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError>;

    /// Calls `visit` with each row of `start <= key < end` in order (`end` = `None`: to the end
    /// of the table) until it breaks.
    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;

    /// The same from the end of the span to its start.
    fn scan_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError>;
}
