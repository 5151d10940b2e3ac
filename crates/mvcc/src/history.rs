//! All that can still be asked for: the retained versions of every key, whatever level they
//! are on and whatever collection has or has not removed yet.
//!
//! Retained at compacted revision C are the versions above C, tombstones among them, and of
//! each key the newest version not above C, unless it is a tombstone. That is a matter of what
//! was applied, not of when a member wrote its checkpoints, so two members that have applied
//! the same agree on it.

use bytes::Bytes;

use crate::chain::Versions;
use crate::disk::{Cursor, Found};
use crate::engine::EngineError;
use crate::memtable::{Slot, stamp};
use crate::mutant::{self, Mutant};
use crate::types::{KeySpan, Record, Revision};
use crate::view::Levels;

enum Source<'a> {
    Front(Versions<'a, Slot>),
    Disk(Cursor),
}

impl Source<'_> {
    fn place(&self) -> Option<(&Bytes, Revision)> {
        match self {
            Self::Front(cursor) => cursor.head().map(|(place, slot)| (&place.key, slot.revision())),
            Self::Disk(cursor) => cursor.head().map(|found| (&found.key, found.revision)),
        }
    }

    fn record(&self) -> Option<&Record> {
        match self {
            Self::Front(cursor) => cursor.head().and_then(|(_, slot)| slot.record()),
            Self::Disk(cursor) => cursor.head().and_then(|found| found.record.as_ref()),
        }
    }

    fn advance(&mut self) -> Result<(), EngineError> {
        match self {
            Self::Front(cursor) => cursor.advance(),
            Self::Disk(cursor) => cursor.advance()?,
        }
        Ok(())
    }
}

/// The retained versions not above a revision, keys ascending, each key's newest first.
pub(crate) struct History<'a> {
    sources: Vec<Source<'a>>,
    compacted: Revision,
    /// The version that came out last, or was left out last.
    last: Option<(Bytes, Revision)>,
}

impl<'a> History<'a> {
    pub(crate) fn new(
        levels: &'a Levels,
        compacted: Revision,
        at: Revision,
    ) -> Result<Self, EngineError> {
        let all = KeySpan::all();
        let fronts = levels.fronts().map(|front| front.versions.versions(&all, stamp(at)));
        let mut sources: Vec<_> = fronts.map(Source::Front).collect();
        sources.extend(levels.disk.history(at)?.into_iter().map(Source::Disk));
        Ok(Self { sources, compacted, last: None })
    }

    /// The next version of any level, retained or not.
    fn step(&mut self) -> Result<Option<Found>, EngineError> {
        let order =
            |(key, revision): (&Bytes, Revision)| (key.clone(), std::cmp::Reverse(revision));
        let heads = self.sources.iter_mut().filter(|source| source.place().is_some());
        let Some(first) = heads.min_by_key(|source| source.place().map(order)) else {
            return Ok(None);
        };
        let Some((key, revision)) = first.place() else { return Ok(None) };
        let found = Found { key: key.clone(), revision, record: first.record().cloned() };
        first.advance()?;
        Ok(Some(found))
    }

    /// The next retained version; no record is a tombstone.
    pub(crate) fn next(&mut self) -> Result<Option<Found>, EngineError> {
        while let Some(found) = self.step()? {
            let newer = self.last.replace((found.key.clone(), found.revision));
            let newer = newer.filter(|(key, _)| *key == found.key).map(|(_, revision)| revision);
            // The same version may be on two levels of the engine after a crash.
            if newer == Some(found.revision) {
                continue;
            }
            let covered = newer.is_some_and(|newer| newer <= self.compacted)
                && !mutant::on(Mutant::HashUncollected);
            let gone = found.record.is_none() && found.revision <= self.compacted;
            if !covered && !gone {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
