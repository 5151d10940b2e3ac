//! A state built from a list of its versions: how one begins that no log has made.
//!
//! What comes in is the history as someone else kept it (an etcd database, say): first what each
//! revision changed, in the order of revisions; then every version, in the order of
//! [`version_place`], that is by key and newest first. The caller sorts, because the second order
//! is not the first and a history does not fit into memory. Whatever a compaction at the state's
//! compacted revision makes unreachable may come along and is left out here, so that the state is
//! the same, to the byte, whether the other side had removed it yet or not.
//!
//! As in an import the first write says that something is under way and the last one takes that
//! away, so a state is there whole or plainly not. Memory is bounded by one write
//! ([`Limits::import_write_bytes`]) and one revision.
//!
//! Nothing is believed: versions are decoded, both orders are checked, and a change whose version
//! does not come is found where it is read ([`EngineError::Corrupted`](crate::engine::EngineError)).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::engine::{Engine, Table, Write};
use crate::import::{self, ImportError};
use crate::layout::{self, EventCommit, EventKey, EventsWriter, Mark};
use crate::mutant::{self, Mutant};
use crate::state::{AppliedMark, Limits, State};
use crate::types::{Record, Revision};

/// Where a version stands in the second order: by key, and of one key the newest first.
#[must_use]
pub fn version_place(key: &[u8], revision: Revision) -> Bytes {
    layout::version_row(key, revision)
}

/// One state being built. See the module.
pub struct Load<E: Engine> {
    engine: Arc<E>,
    limits: Limits,
    revision: Revision,
    compacted: Revision,
    events: EventsWriter,
    /// The last revision whose changes came, and the place of the last version.
    last_commit: Revision,
    last_place: Bytes,
    /// The key whose versions are coming, and whether one at or below the compacted revision has.
    key: Option<BytesMut>,
    covered: bool,
    live_keys: u64,
    /// What is not written yet, table by table.
    tables: [Vec<Write>; 4],
    bytes: usize,
}

impl<E: Engine> Load<E> {
    /// Empties `engine` and begins a state at `revision`, of which nothing below `compacted` can
    /// be read. No state may be in use on the engine.
    ///
    /// # Errors
    /// The engine's; [`ImportError::Malformed`] for revisions that no state has.
    pub fn begin(
        engine: Arc<E>,
        limits: Limits,
        revision: Revision,
        compacted: Revision,
    ) -> Result<Self, ImportError> {
        if revision < Revision::FIRST || compacted < Revision(0) || compacted > revision {
            return Err(ImportError::Malformed("revisions that no state has"));
        }
        import::begin(&*engine)?;
        Ok(Self {
            engine,
            limits,
            revision,
            compacted,
            events: EventsWriter::default(),
            last_commit: Revision(0),
            last_place: Bytes::new(),
            key: None,
            covered: false,
            live_keys: 0,
            tables: Default::default(),
            bytes: 0,
        })
    }

    /// What one revision changed, in the order of its changes: keys, and whether each was
    /// deleted. Ascending; those below the compacted revision are left out.
    ///
    /// # Errors
    /// The engine's; [`ImportError::Malformed`] for a revision out of order or in the future.
    pub fn commit(
        &mut self,
        revision: Revision,
        changes: Vec<(Bytes, bool)>,
    ) -> Result<(), ImportError> {
        if revision <= self.last_commit || revision > self.revision {
            return Err(ImportError::Malformed("revisions out of order"));
        }
        self.last_commit = revision;
        let late = mutant::on(Mutant::LoadEventsTooLate) && revision == self.compacted;
        if revision < self.compacted || late {
            return Ok(());
        }
        let changes = changes.into_iter().map(|(key, deleted)| EventKey { key, deleted });
        self.events.push_keys(&EventCommit { revision, changes: changes.collect() });
        if self.events.len() >= self.limits.events_row_bytes {
            self.end_events_row()?;
        }
        Ok(())
    }

    /// The next version, by its [`version_place`]; `None` is a tombstone, else the encoded
    /// record. Gives back the record if it is a live key's newest.
    ///
    /// # Errors
    /// The engine's; [`ImportError::Malformed`] for a version out of order, in the future, or of
    /// another key or revision than its place says.
    pub fn version(
        &mut self,
        place: Bytes,
        encoded: Option<Bytes>,
    ) -> Result<Option<Record>, ImportError> {
        if place <= self.last_place {
            return Err(ImportError::Malformed("versions out of order, or one twice"));
        }
        let (key, revision) = layout::read_version_row(&place)?;
        if revision > self.revision {
            return Err(ImportError::Malformed("version in the future"));
        }
        self.last_place = place.clone();
        let newest = self.key.as_ref() != Some(&key);
        let newest = newest || (mutant::on(Mutant::LoadDeleted) && self.covered);
        if newest {
            self.key = Some(key.clone());
            self.covered = false;
        }
        // Covered by a newer one at or below the compacted revision, or deleted as of there.
        let unreachable = self.covered || (revision <= self.compacted && encoded.is_none());
        self.covered |= revision <= self.compacted && !mutant::on(Mutant::LoadCovered);
        let record = encoded.map(|encoded| checked(encoded, &key, revision)).transpose()?;
        if unreachable {
            return Ok(None);
        }
        match record {
            Some(record) if newest => {
                self.live_keys += 1;
                self.put(Table::Latest, key.freeze(), record.encoded.clone())?;
                Ok(Some(record))
            }
            record => {
                let value = record.map_or_else(Bytes::new, |record| record.encoded);
                self.put(Table::Versions, place, value)?;
                Ok(None)
            }
        }
    }

    /// A meta key, in any order, each once.
    ///
    /// # Errors
    /// The engine's.
    pub fn meta(&mut self, key: &[u8], value: Bytes) -> Result<(), ImportError> {
        self.put(Table::Meta, layout::meta_row(key), value)
    }

    /// Ends it and opens the state, as it is after the entry `applied`.
    ///
    /// # Errors
    /// The engine's.
    pub fn finish(mut self, applied: AppliedMark) -> Result<State<E>, ImportError> {
        self.end_events_row()?;
        self.flush()?;
        let mark = Mark {
            applied,
            revision: self.revision,
            compacted: self.compacted,
            collected: self.compacted,
            live_keys: self.live_keys,
        };
        import::end(&*self.engine, &mark)?;
        Ok(State::open_with(self.engine, self.limits)?)
    }

    fn end_events_row(&mut self) -> Result<(), ImportError> {
        match self.events.take() {
            Some((row, value)) => self.put(Table::Events, row, value),
            None => Ok(()),
        }
    }

    fn put(&mut self, table: Table, row: Bytes, value: Bytes) -> Result<(), ImportError> {
        self.bytes += row.len() + value.len() + size_of::<Write>();
        self.tables[table as usize].push(Write::Put(table, row, value));
        if self.bytes >= self.limits.import_write_bytes { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        self.bytes = 0;
        // The other tables ascend as they come.
        self.tables[Table::Meta as usize].sort_unstable_by(|a, b| row_of(a).cmp(row_of(b)));
        let batch = std::mem::take(&mut self.tables).concat();
        Ok(self.engine.write(&batch)?)
    }
}

fn row_of(write: &Write) -> &Bytes {
    match write {
        Write::Put(_, row, _) | Write::Delete(_, row) => row,
    }
}

fn checked(encoded: Bytes, key: &[u8], revision: Revision) -> Result<Record, ImportError> {
    let record = Record::decode(encoded)?;
    if record.key() == key && record.mod_revision == revision {
        return Ok(record);
    }
    Err(ImportError::Malformed("version under another key or revision"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mem::MemEngine;
    use crate::state::OpenError;

    const AT: AppliedMark = AppliedMark { index: 1, term: 1 };

    fn begin() -> Load<MemEngine> {
        let engine = Arc::new(MemEngine::new());
        Load::begin(engine, Limits::default(), Revision(9), Revision(3)).unwrap()
    }

    fn record(key: &[u8], revision: i64) -> Option<Bytes> {
        let revision = Revision(revision);
        Some(Record::new(key, revision, revision, 1, b"v", None).encoded)
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let place = |key: &[u8], revision| version_place(key, Revision(revision));
        let mut load = begin();
        load.version(place(b"b", 5), record(b"b", 5)).unwrap();
        for (key, revision) in [(&b"a"[..], 4), (b"b", 6), (b"b", 5)] {
            assert!(load.version(place(key, revision), record(key, revision)).is_err());
        }
        for (at, encoded) in [
            (place(b"c", 10), record(b"c", 10)),
            (place(b"c", 8), record(b"c", 7)),
            (place(b"c", 8), record(b"d", 8)),
            (place(b"c", 8), Some(Bytes::from_static(b"\x0a"))),
            (Bytes::from_static(b"no place"), None),
        ] {
            let mut load = begin();
            assert!(load.version(at.clone(), encoded).is_err(), "{at:?}");
        }
        let mut load = begin();
        load.commit(Revision(4), vec![]).unwrap();
        assert!(load.commit(Revision(4), vec![]).is_err());
        assert!(load.commit(Revision(10), vec![]).is_err());
    }

    #[test]
    fn no_state_has_such_revisions() {
        for (revision, compacted) in [(0, 0), (5, 6), (5, -1)] {
            let engine = Arc::new(MemEngine::new());
            let (revision, compacted) = (Revision(revision), Revision(compacted));
            assert!(Load::begin(engine, Limits::default(), revision, compacted).is_err());
        }
    }

    #[test]
    fn a_load_that_is_dropped_leaves_no_state() {
        let load = begin();
        let engine = Arc::clone(&load.engine);
        drop(load);
        assert!(matches!(State::open(engine), Err(OpenError::ImportUnfinished)));
        let load = begin();
        let engine = Arc::clone(&load.engine);
        assert_eq!(load.finish(AT).unwrap().revision(), Revision(9));
        assert_eq!(State::open(engine).unwrap().compacted(), Revision(3));
    }
}
