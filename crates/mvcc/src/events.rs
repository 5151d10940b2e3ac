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

    fn step(&mut self) -> Result<Option<Step>, EngineError> {
        if self.next > self.to {
            return Ok(None);
        }
        let found = match next_on_disk(&self.levels.disk, &mut self.row, self.next)? {
            Some(commit) => Some(Step::Disk(commit)),
            None => self.next_in_front().map(Step::Front),
        };
        let found = found.filter(|step| step.revision() <= self.to);
        self.next = found.as_ref().map_or(self.to, Step::revision).next();
        Ok(found)
    }

    fn next_in_front(&self) -> Option<Arc<Commit>> {
        let oldest_first = [self.levels.frozen.as_ref(), Some(&self.levels.active)];
        oldest_first.into_iter().flatten().find_map(|front| front.commit_from(self.next))
    }

    /// The next commit without the values.
    pub(crate) fn next_keys(&mut self) -> Result<Option<EventCommit>, EngineError> {
        Ok(self.step()?.map(|step| match step {
            Step::Disk(commit) => commit,
            Step::Front(commit) => EventCommit::of(&commit),
        }))
    }
}

/// A commit where it was found.
enum Step {
    /// Its values are elsewhere.
    Disk(EventCommit),
    Front(Arc<Commit>),
}

impl Step {
    fn revision(&self) -> Revision {
        match self {
            Self::Disk(commit) => commit.revision,
            Self::Front(commit) => commit.revision,
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Arc<Commit>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let commit = self.step().and_then(|step| match step {
            None => Ok(None),
            Some(Step::Front(commit)) => Ok(Some(commit)),
            Some(Step::Disk(commit)) => {
                with_values(&self.levels.disk, commit).map(|commit| Some(Arc::new(commit)))
            }
        });
        if commit.is_err() {
            self.next = self.to.next();
        }
        commit.map_err(ReadError::from).transpose()
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
