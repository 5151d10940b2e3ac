//! Reading spans: the levels merged into one ordered sequence.
//!
//! Each level offers, key by key, its newest version that the reader may see. Levels are ordered
//! newest first, and a newer level holds only newer revisions, so where several levels have the
//! same key the first of them is right, and the others are skipped.

use bytes::Bytes;

use crate::chain::Newest;
use crate::disk::Cursor;
use crate::engine::EngineError;
use crate::error::ReadError;
use crate::memtable::Slot;
use crate::mutant::{self, Mutant};
use crate::types::Record;

/// One level's part of a scan.
pub(crate) enum Source<'a> {
    Front(Newest<'a, Slot>),
    Disk(Cursor),
}

impl Source<'_> {
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Front(cursor) => cursor.head().map(|(key, _)| key),
            Self::Disk(cursor) => cursor.head().map(|found| &found.key),
        }
    }

    /// The version at the head; `None` is a tombstone.
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

/// The versions of several levels, key by key; tombstones too.
pub(crate) struct Merge<'a> {
    sources: Vec<Source<'a>>,
    back: bool,
}

impl<'a> Merge<'a> {
    /// `sources` newest first, each in the order that `back` says.
    pub(crate) fn new(sources: Vec<Source<'a>>, back: bool) -> Self {
        Self { sources, back }
    }

    /// The source that has the next key, the newest of those if several have it.
    fn leader(&self) -> Option<usize> {
        let mut best: Option<(usize, &Bytes)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(key) = source.key() else { continue };
            let sooner = |other: &Bytes| if self.back { key > other } else { key < other };
            if best.is_none_or(|(_, other)| sooner(other)) {
                best = Some((index, key));
            }
        }
        best.map(|(index, _)| index)
    }

    /// The next key and its version; no record is a tombstone.
    pub(crate) fn head(&self) -> Option<(&Bytes, Option<&Record>)> {
        let leader = &self.sources[self.leader()?];
        leader.key().map(|key| (key, leader.record()))
    }

    /// Past the next key, in every source.
    pub(crate) fn advance(&mut self) -> Result<(), EngineError> {
        let Some(leader) = self.leader() else { return Ok(()) };
        let (until, after) = self.sources.split_at_mut(leader + 1);
        let leader = &mut until[leader];
        let past = leader.record().is_none() && mutant::on(Mutant::ScanPastTombstone);
        for source in after.iter_mut().filter(|_| !past) {
            if source.key().is_some() && source.key() == leader.key() {
                source.advance()?;
            }
        }
        leader.advance()
    }
}

/// The live records of a span at one revision, in key order or against it.
///
/// After an error the scan is over.
pub struct Scan<'a> {
    merge: Merge<'a>,
    /// Rows that it may still look at.
    left: usize,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(merge: Merge<'a>) -> Self {
        Self { merge, left: usize::MAX }
    }

    /// From here on it looks at so many rows, those that are deleted included: if there are more,
    /// [`ReadError::TooLong`] follows, and the scan is over. Without a word it looks at all.
    pub fn look_at(&mut self, rows: usize) {
        self.left = rows;
    }

    /// Rows that it may still look at.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = self.merge.head()?.1.cloned();
            let Some(left) = self.left.checked_sub(1) else {
                self.merge.sources.clear();
                return Some(Err(ReadError::TooLong));
            };
            self.left = left;
            if let Err(error) = self.merge.advance() {
                self.merge.sources.clear();
                return Some(Err(error.into()));
            }
            if let Some(record) = record {
                return Some(Ok(record));
            }
        }
    }
}
