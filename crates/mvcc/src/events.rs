//! Reading forward in time: what each revision changed.
//!
//! The engine's rows name keys only; the values are looked up where they are stored. What has
//! not been checkpointed is in the memtables as whole commits, and comes out without a copy.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::engine::{EngineError, Table};
use crate::error::ReadError;
use crate::layout::{self, EventCommit};
use crate::types::{Change, Commit, Revision};
use crate::view::Levels;

/// The commits of a range of revisions, in order. See [`View::events`](crate::View::events).
///
/// After an error it is over.
pub struct Events<'a> {
    levels: &'a Levels,
    next: Revision,
    to: Revision,
    /// Of the row of the engine that was read last.
    row: VecDeque<EventCommit>,
}

impl<'a> Events<'a> {
    pub(crate) fn new(levels: &'a Levels, from: Revision, to: Revision) -> Self {
        Self { levels, next: from, to, row: VecDeque::new() }
    }

    fn step(&mut self) -> Result<Option<Arc<Commit>>, EngineError> {
        let disk = &self.levels.disk;
        if let Some(commit) = next_on_disk(disk, &mut self.row, self.next)? {
            return Ok(Some(Arc::new(with_values(disk, commit)?)));
        }
        let oldest_first = [self.levels.frozen.as_ref(), Some(&self.levels.active)];
        Ok(oldest_first.into_iter().flatten().find_map(|front| front.commit_from(self.next)))
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Arc<Commit>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.to {
            return None;
        }
        match self.step() {
            Ok(Some(commit)) if commit.revision <= self.to => {
                self.next = commit.revision.next();
                Some(Ok(commit))
            }
            Ok(_) => {
                self.next = self.to.next();
                None
            }
            Err(error) => {
                self.next = self.to.next();
                Some(Err(error.into()))
            }
        }
    }
}

/// The first commit at `from` or after it that the engine has, by way of the `row` read last.
pub(crate) fn next_on_disk(
    disk: &Disk,
    row: &mut VecDeque<EventCommit>,
    from: Revision,
) -> Result<Option<EventCommit>, EngineError> {
    if from > disk.mark.revision {
        return Ok(None);
    }
    if row.is_empty() {
        let mut found = None;
        let start = layout::events_row(from);
        disk.snapshot.scan(Table::Events, &start, None, &mut |key, value| {
            found = Some(layout::read_events(key, &Bytes::copy_from_slice(value)));
            ControlFlow::Break(())
        })?;
        row.extend(found.transpose()?.into_iter().flatten());
        row.retain(|commit| commit.revision >= from && commit.revision <= disk.mark.revision);
    }
    Ok(row.pop_front())
}

fn with_values(disk: &Disk, commit: EventCommit) -> Result<Commit, EngineError> {
    let EventCommit { revision, changes } = commit;
    let changes = changes.into_iter().map(|change| {
        let deleted = change.deleted;
        let record = if deleted { None } else { Some(disk.version_of(&change.key, revision)?) };
        Ok(Change { key: change.key, record })
    });
    Ok(Commit { revision, changes: changes.collect::<Result<_, EngineError>>()? })
}
