//! Collecting what compaction left behind.
//!
//! A compaction is recorded at once: from its batch on, no reader is served below its revision.
//! The rows that nobody can ask for any more go later, in small steps beside everything else.
//!
//! A step walks the commits in `Events` that lie at or below the compacted revision and have
//! not been walked yet. A key that was changed at such a revision has nothing older that can be
//! asked for: its older rows in `Versions` go, and if the change was a deletion, that row goes
//! too, all in one write, so that never an older version shows up where the tombstone was. The
//! rows of `Events` that lie wholly below the compacted revision go with the step; the commit
//! at the compacted revision itself stays, because a watch may begin there.
//!
//! Only a compaction that the engine has in its [`Mark`] counts here. After a crash the state
//! begins with that mark, and must be able to serve what it allows.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::Done;
use crate::disk::Disk;
use crate::engine::{Engine, EngineError, Table, Write};
use crate::events::next_on_disk;
use crate::layout::{self, Mark};
use crate::mutant::{self, Mutant};
use crate::state::{Limits, Ticket};
use crate::types::Revision;

/// One bounded step of the collection. See the module.
pub struct CollectJob<E: Engine> {
    pub(crate) engine: Arc<E>,
    pub(crate) ticket: Ticket,
    pub(crate) disk: Arc<Disk>,
    pub(crate) limits: Limits,
}

impl<E: Engine> CollectJob<E> {
    /// The engine that it works on.
    #[must_use]
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Takes one step and returns when it is durable. Meant for a thread of its own.
    ///
    /// # Errors
    /// The engine's; then nothing has been removed. After [`EngineError::Full`] the job may be
    /// run again.
    pub fn run(&self) -> Result<Done, EngineError> {
        let (keys, collected) = self.walk()?;
        let mut batch = Vec::new();
        for (key, changed) in &keys {
            self.versions_behind(key, changed, &mut batch)?;
        }
        self.events_behind(collected, &mut batch)?;
        let mark = Mark { collected, ..self.disk.mark };
        batch.push(Write::Put(Table::Meta, layout::MARK.into(), mark.encode()));
        self.engine.write(&batch)?;
        let disk = Disk::load(Box::new(self.engine.snapshot()?))?;
        assert_eq!(disk.mark, mark, "another writer in the engine");
        Ok(Done { ticket: self.ticket.clone(), disk, checkpoint: false })
    }

    /// Takes no step: for a job that there is no room for. The state may give out another one afterwards.
    ///
    /// # Errors
    /// The engine's.
    pub fn skip(&self) -> Result<Done, EngineError> {
        let disk = Disk::load(Box::new(self.engine.snapshot()?))?;
        Ok(Done { ticket: self.ticket.clone(), disk, checkpoint: false })
    }

    /// The keys changed by the next commits, each with its last change; and how far they reach.
    fn walk(&self) -> Result<(BTreeMap<Bytes, LastChange>, Revision), EngineError> {
        let mark = &self.disk.mark;
        let mut keys = BTreeMap::new();
        let mut changes = 0;
        let mut row = VecDeque::new();
        let mut next = mark.collected.next();
        while changes < self.limits.collect_changes {
            let commit = next_on_disk(&self.disk, &mut row, next)?;
            let Some(commit) = commit.filter(|commit| commit.revision <= mark.compacted) else {
                return Ok((keys, mark.compacted));
            };
            let revision = commit.revision;
            changes += commit.changes.len();
            for change in commit.changes {
                keys.insert(change.key, LastChange { revision, deleted: change.deleted });
            }
            next = revision.next();
        }
        Ok((keys, next.previous()))
    }

    fn versions_behind(
        &self,
        key: &[u8],
        last: &LastChange,
        batch: &mut Vec<Write>,
    ) -> Result<(), EngineError> {
        let too_much = mutant::on(Mutant::CollectTooMuch);
        let newest =
            if last.deleted || too_much { last.revision } else { last.revision.previous() };
        let (start, end) = (layout::version_row(key, newest), layout::versions_end(key));
        self.disk.snapshot.scan(Table::Versions, &start, Some(&end), &mut |row, _| {
            batch.push(Write::Delete(Table::Versions, Bytes::copy_from_slice(row)));
            if last.deleted && mutant::on(Mutant::CollectTombstoneOnly) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    }

    fn events_behind(
        &self,
        collected: Revision,
        batch: &mut Vec<Write>,
    ) -> Result<(), EngineError> {
        let keep_from = collected.next().min(self.disk.mark.compacted);
        let too_far = mutant::on(Mutant::CollectEventsTooFar);
        let end = layout::events_row(if too_far { keep_from.next() } else { keep_from });
        self.disk.snapshot.scan(Table::Events, &[], Some(&end), &mut |row, _| {
            batch.push(Write::Delete(Table::Events, Bytes::copy_from_slice(row)));
            ControlFlow::Continue(())
        })
    }
}

struct LastChange {
    revision: Revision,
    deleted: bool,
}
