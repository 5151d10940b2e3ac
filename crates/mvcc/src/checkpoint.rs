//! Writing behind: a frozen memtable into the engine.
//!
//! However often a key was overwritten, its newest version goes to `Latest` once. The versions
//! in between go to `Versions`, and so does the version that was in `Latest` before; those that
//! nobody can ask for, because a newer one is not above the compacted revision, are not written
//! at all. The commits go to `Events`, keys only. With them goes the [`Mark`]: what the log
//! holds up to there need not be replayed.
//!
//! One write of the engine takes it all, unless the memtable is larger than
//! [`Limits::checkpoint_write_bytes`]. Then there are several writes, the mark in the last, and
//! a crash in between must do no harm:
//!
//! 1. The first write says in the `PENDING` row up to which revision the tables may have
//!    versions from then on.
//! 2. Each write has the rows of `Latest` and `Versions` of a range of keys, so that a version
//!    leaves `Latest` only together with its arrival in `Versions`. Nothing is dropped for
//!    being compacted: the mark in the engine, and with it what a reopened state promises to
//!    readers, is still the old one.
//! 3. The last write has the meta rows, whose old values are kept nowhere, the mark, and
//!    removes `PENDING`.
//!
//! A state opened after a crash reads past the versions that are too new (see [`crate::disk`])
//! and applies the log from its mark again. The same entries make the same versions and the same
//! commits, so the next checkpoint writes over what is there. It may end earlier than the one
//! that was cut off, and put an older version where `Latest` has a newer one: that one is in the
//! log still, as is everything after the mark. Rows of `Events` that were cut elsewhere the
//! first time stay beside the new ones; they say the same.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::chain::Versions;
use crate::disk::Disk;
use crate::engine::partition::Partition;
use crate::engine::{Engine, EngineError, Snapshot, Table, Write};
use crate::layout::{self, EventsWriter, Mark};
use crate::memtable::{Memtable, Slot};
use crate::mutant::{self, Mutant};
use crate::reload::ReloadJob;
use crate::state::{Limits, Ticket};
use crate::types::{Record, Revision};

/// A finished job, to be handed to [`State::finish`](crate::State::finish).
pub struct Done {
    pub(crate) ticket: Ticket,
    pub(crate) disk: Disk,
    pub(crate) checkpoint: bool,
}

/// The writing of one frozen memtable. See the module.
pub struct CheckpointJob<E: Engine> {
    pub(crate) engine: Arc<E>,
    pub(crate) ticket: Ticket,
    pub(crate) frozen: Arc<Memtable>,
    pub(crate) disk: Arc<Disk>,
    /// What the tables contain afterwards.
    pub(crate) mark: Mark,
    pub(crate) limits: Limits,
}

impl<E: Engine> CheckpointJob<E> {
    /// The engine that it works on.
    #[must_use]
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// The last entry of the log that the state contains when this is done.
    #[must_use]
    pub fn applied(&self) -> crate::AppliedMark {
        self.mark.applied
    }

    /// Writes it all and returns when it is durable. Meant for a thread of its own; takes as
    /// long as the engine takes.
    ///
    /// Caveat: what a job that breaks off has written of later revisions is there until the same
    /// entries are applied again. Where others could come in their place (a log that has lost
    /// them, and goes on alone), it would be served: let the job wait for the log.
    ///
    /// # Errors
    /// The engine's. What was written until then does no harm: a state opened on the engine is
    /// as it was before the job, or as it would have been after. After [`EngineError::Full`] the
    /// job may be run again: it writes the same rows again, and then the rest.
    pub fn run(&self) -> Result<Done, EngineError> {
        let whole = self.frozen.bytes() <= self.limits.checkpoint_write_bytes;
        self.fill(whole)?.write()?;
        self.done(Box::new(self.engine.snapshot()?))
    }

    /// Writes all but the last piece, and says what that is; all is one piece if it is `whole`.
    fn fill(&self, whole: bool) -> Result<Writer<'_, E>, EngineError> {
        let newest = self.disk.newest.max(self.mark.revision);
        let mut writer = Writer {
            engine: &*self.engine,
            bytes_max: if whole { usize::MAX } else { self.limits.checkpoint_write_bytes },
            pending: newest,
            mark: self.mark,
            batch: Batch::default(),
        };
        let covered_from = if whole || mutant::on(Mutant::CoverInPieces) {
            self.mark.compacted
        } else {
            Revision(0)
        };
        self.write_versions(&mut writer, covered_from)?;
        self.write_events(&mut writer)?;
        self.fill_meta(&mut writer.batch, newest);
        Ok(writer)
    }

    /// What was written is to be read from this view from now on.
    fn done(&self, snapshot: Box<dyn Snapshot>) -> Result<Done, EngineError> {
        let disk = Disk::load(snapshot)?;
        assert_eq!(disk.mark, self.mark, "another writer in the engine");
        Ok(Done { ticket: self.ticket.clone(), disk, checkpoint: true })
    }

    fn write_versions(
        &self,
        writer: &mut Writer<'_, E>,
        covered_from: Revision,
    ) -> Result<(), EngineError> {
        let mut versions = self.frozen.versions.versions(u64::MAX);
        while self.write_key(&mut versions, &mut writer.batch, covered_from)? {
            writer.write_if_full()?;
        }
        Ok(())
    }

    /// Writes all versions of the next key; `false` if there is none.
    fn write_key(
        &self,
        versions: &mut Versions<'_, Slot>,
        batch: &mut Batch,
        covered_from: Revision,
    ) -> Result<bool, EngineError> {
        let Some((key, newest)) = versions.head() else { return Ok(false) };
        let key = key.clone();
        let newest_revision = newest.value().revision();
        let mut recreated = newest.value().follows_deletion();
        let newest = newest.value().record().cloned();
        let mut oldest = (newest_revision, newest.clone());
        // Whether nobody can ask for what is older any more.
        let mut covered = newest_revision <= covered_from || mutant::on(Mutant::ForgetSuperseded);
        // Versions come newest first, and so do their rows.
        let mut superseded = Vec::new();
        loop {
            versions.advance();
            let Some((_, version)) = versions.head().filter(|(other, _)| **other == key) else {
                break;
            };
            let slot = version.value();
            oldest = (slot.revision(), slot.record().cloned());
            recreated = slot.follows_deletion();
            if !covered {
                superseded.push(oldest.clone());
            }
            covered |= slot.revision() <= covered_from;
            covered |= mutant::on(Mutant::CoverTooMuch) && slot.revision() <= covered_from.next();
        }
        let old = self.old_latest(&key, oldest.1.as_ref().filter(|_| !recreated))?;
        match newest {
            Some(record) => batch.latest(&key, record),
            None => {
                if !mutant::on(Mutant::ForgetTombstone) {
                    batch.version(&key, newest_revision, None);
                }
                if old.is_some() {
                    batch.latest.push(Write::Delete(Table::Latest, key.clone()));
                }
            }
        }
        for (revision, record) in &superseded {
            batch.version(&key, *revision, record.as_ref());
        }
        if let Some(old) = old
            && old.mod_revision < oldest.0
            && !covered
            && !mutant::on(Mutant::ForgetOldLatest)
        {
            batch.version(&key, old.mod_revision, Some(&old));
        }
        Ok(true)
    }

    /// What `Latest` has of a key, of which the memtable's oldest version is `oldest`.
    fn old_latest(
        &self,
        key: &[u8],
        oldest: Option<&Record>,
    ) -> Result<Option<Record>, EngineError> {
        let clean = self.disk.newest == self.disk.mark.revision;
        if clean && oldest.is_some_and(|oldest| oldest.version == 1) {
            // It was created here, so there was nothing before.
            return Ok(None);
        }
        self.disk.latest(key)
    }

    fn write_events(&self, writer: &mut Writer<'_, E>) -> Result<(), EngineError> {
        let mut row = EventsWriter::default();
        let mut next = self.disk.mark.revision.next();
        while let Some(commit) = self.frozen.commit_from(next) {
            row.push(&commit);
            next = commit.revision.next();
            if row.len() >= self.limits.events_row_bytes {
                writer.batch.events(row.take());
                writer.write_if_full()?;
            }
        }
        writer.batch.events(row.take());
        Ok(())
    }

    fn fill_meta(&self, batch: &mut Batch, newest: Revision) {
        batch.meta.push(Write::Put(Table::Meta, layout::MARK.into(), self.mark.encode()));
        if newest > self.mark.revision {
            batch.meta.push(pending_row(newest));
        } else if self.disk.newest > self.disk.mark.revision || batch.is_late {
            batch.meta.push(Write::Delete(Table::Meta, layout::PENDING.into()));
        }
        let mut keys = self.frozen.meta.versions(u64::MAX);
        while let Some((key, newest)) = keys.head() {
            let row = layout::meta_row(key);
            batch.meta.push(match newest.value() {
                Some(value) => Write::Put(Table::Meta, row, value.clone()),
                None => Write::Delete(Table::Meta, row),
            });
            keys.advance_key();
        }
    }
}

/// Runs the jobs of many states that share an engine: one write takes all of it, and one view is
/// what all of them read from afterwards. `reloads` are of states that have nothing to write and
/// are to let go of the older view that they hold. What the jobs return is in their order, the
/// checkpoints' first.
///
/// # Errors
/// As [`CheckpointJob::run`]; all of it is written, or nothing.
pub fn run_together<E: Engine>(
    checkpoints: &[CheckpointJob<Partition<E>>],
    reloads: &[ReloadJob<Partition<E>>],
) -> Result<Vec<Done>, EngineError> {
    let mut engines = checkpoints.iter().map(|job| &job.engine);
    let Some(engine) = engines.next().or(reloads.first().map(|job| &job.engine)) else {
        return Ok(Vec::new());
    };
    let mut writes = Vec::new();
    for job in checkpoints {
        job.engine.inward(job.fill(true)?.batch.sorted(), &mut writes);
    }
    writes.sort_unstable_by(|a, b| a.place().cmp(&b.place()));
    if !writes.is_empty() {
        engine.inner().write(&writes)?;
    }
    let view = Arc::new(engine.inner().snapshot()?);
    let written = checkpoints.iter().map(|job| job.done(Box::new(job.engine.view_of(&view))));
    let reloaded = reloads.iter().map(|job| job.done(Box::new(job.engine.view_of(&view))));
    written.chain(reloaded).collect()
}

fn pending_row(newest: Revision) -> Write {
    let mut row = BytesMut::new();
    row.put_i64(newest.0);
    Write::Put(Table::Meta, layout::PENDING.into(), row.freeze())
}

/// Sends batches to the engine as they fill up.
struct Writer<'a, E> {
    engine: &'a E,
    bytes_max: usize,
    pending: Revision,
    mark: Mark,
    batch: Batch,
}

impl<E: Engine> Writer<'_, E> {
    fn write_if_full(&mut self) -> Result<(), EngineError> {
        if self.batch.bytes < self.bytes_max {
            return Ok(());
        }
        if mutant::on(Mutant::MarkTooEarly) {
            let mark = self.mark.encode();
            self.batch.meta.push(Write::Put(Table::Meta, layout::MARK.into(), mark));
        }
        if !mutant::on(Mutant::ForgetPending) {
            self.batch.meta.push(pending_row(self.pending));
        }
        self.write()?;
        self.batch.is_late = true;
        Ok(())
    }

    fn write(&mut self) -> Result<(), EngineError> {
        let mut writes = std::mem::take(&mut self.batch).sorted();
        let is_mark = |write: &Write| matches!(write, Write::Put(_, row, _) if row == layout::MARK);
        let apart = mutant::on(Mutant::MarkBefore) || mutant::on(Mutant::MarkAfter);
        if apart && let Some(at) = writes.iter().position(is_mark) {
            let mut pieces = [vec![writes.remove(at)], writes];
            if mutant::on(Mutant::MarkAfter) {
                pieces.reverse();
            }
            return pieces.iter().try_for_each(|piece| self.engine.write(piece));
        }
        self.engine.write(&writes)
    }
}

/// What one write of the engine will have, table by table, each in order.
#[derive(Default)]
struct Batch {
    latest: Vec<Write>,
    versions: Vec<Write>,
    events: Vec<Write>,
    meta: Vec<Write>,
    bytes: usize,
    /// Whether another write of the same job went before.
    is_late: bool,
}

impl Batch {
    fn latest(&mut self, key: &Bytes, record: Record) {
        self.bytes += key.len() + record.encoded.len() + size_of::<Write>();
        self.latest.push(Write::Put(Table::Latest, key.clone(), record.encoded));
    }

    fn version(&mut self, key: &[u8], revision: Revision, record: Option<&Record>) {
        let value = record.map_or_else(Bytes::new, |record| record.encoded.clone());
        let row = layout::version_row(key, revision);
        self.bytes += row.len() + value.len() + size_of::<Write>();
        self.versions.push(Write::Put(Table::Versions, row, value));
    }

    fn events(&mut self, row: Option<(Bytes, Bytes)>) {
        let Some((key, value)) = row else { return };
        self.bytes += key.len() + value.len() + size_of::<Write>();
        self.events.push(Write::Put(Table::Events, key, value));
    }

    fn sorted(self) -> Vec<Write> {
        let tables = [self.latest, self.versions, self.events, self.meta];
        let mut writes = Vec::with_capacity(tables.iter().map(Vec::len).sum());
        writes.extend(tables.into_iter().flatten());
        writes
    }
}
