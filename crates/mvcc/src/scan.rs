//! Reading spans: the levels merged into one ordered sequence.
//!
//! Each level offers, key by key, its newest version that the reader may see. Levels are ordered
//! newest first, and a newer level holds only newer revisions, so where several levels have the
//! same key the first of them is right, and the others are skipped.

use bytes::Bytes;

use crate::chain::Newest;
use crate::error::ReadError;
use crate::memtable::Slot;
use crate::types::Record;

/// One level's part of a scan.
pub(crate) enum Source<'a> {
    Front(Newest<'a, Slot>),
}

impl Source<'_> {
    fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Front(cursor) => cursor.head().map(|(key, _)| key),
        }
    }

    /// The version at the head; `None` is a tombstone.
    fn record(&self) -> Result<Option<Record>, ReadError> {
        match self {
            Self::Front(cursor) => Ok(cursor.head().and_then(|(_, slot)| slot.record().cloned())),
        }
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        match self {
            Self::Front(cursor) => cursor.advance(),
        }
        Ok(())
    }
}

/// The live records of a span at one revision, in key order or against it.
///
/// After an error the scan is over.
pub struct Scan<'a> {
    sources: Vec<Source<'a>>,
    back: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>, back: bool) -> Self {
        Self { sources, back }
    }

    /// The source that has the next key, the newest of those if several have it.
    fn leader(&self) -> Option<usize> {
        let mut best: Option<(usize, &Bytes)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            let Some(key) = source.key() else { continue };
            let first = match best {
                None => true,
                Some((_, other)) => {
                    if self.back {
                        key > other
                    } else {
                        key < other
                    }
                }
            };
            if first {
                best = Some((index, key));
            }
        }
        best.map(|(index, _)| index)
    }

    /// The next key's version, and past the key in every source.
    fn step(&mut self) -> Result<Option<Option<Record>>, ReadError> {
        let Some(leader) = self.leader() else { return Ok(None) };
        let record = self.sources[leader].record()?;
        let (until, after) = self.sources.split_at_mut(leader + 1);
        let leader = &mut until[leader];
        for source in after {
            if source.key().is_some() && source.key() == leader.key() {
                source.advance()?;
            }
        }
        leader.advance()?;
        Ok(Some(record))
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(Some(Some(record))) => return Some(Ok(record)),
                Ok(Some(None)) => {}
                Ok(None) => return None,
                Err(error) => {
                    self.sources.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
