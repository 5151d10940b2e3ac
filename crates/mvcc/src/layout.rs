//! The rows of the engine, byte by byte.
//!
//! | table | key | value |
//! |---|---|---|
//! | `Latest` | the key | the encoded record |
//! | `Versions` | escaped key, `00 00`, complement of the revision (8 bytes, big endian) | the encoded record; empty is a tombstone |
//! | `Events` | last revision of the row (8 bytes, big endian) | see below |
//! | `Meta` | `01`, the caller's key | the caller's value |
//! | `Meta` | `00`, a name | what this crate keeps: see [`MARK`], [`PENDING`], [`IMPORTING`] |
//!
//! The escape of a key writes each `00` byte as `00 ff`, so that `00 00` ends it and the order
//! of escaped keys is that of the keys. The complement puts the newest version of a key first.
//!
//! An `Events` row is a list of commits, ascending: the difference of its revision to the one
//! before (the first: the revision itself), the number of changes, and for each change its key's
//! length, doubled, plus 1 if it is a deletion, and the key. All numbers are varints. The value
//! of a change is not here: it is in `Latest` or `Versions` under (key, revision).

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::EngineError;
use crate::record::{get_varint, put_len, put_varint};
use crate::state::AppliedMark;
use crate::types::{Commit, Revision};

/// Name of the row that says what the tables contain: a [`Mark`].
pub(crate) const MARK: &[u8] = b"\0mark";
/// Name of the row that is there while a checkpoint of several writes is under way: the newest
/// revision that the tables may already contain, 8 bytes, big endian.
pub(crate) const PENDING: &[u8] = b"\0pending";
/// Name of the row that is there while an import is under way.
pub(crate) const IMPORTING: &[u8] = b"\0importing";

/// First byte of the callers' keys in `Meta`.
const CALLERS: u8 = 1;
/// The format of everything above.
const FORMAT: u8 = 1;

fn corrupted(what: &str) -> EngineError {
    EngineError::Corrupted(what.to_owned())
}

/// The row of a caller's key in `Meta`.
pub(crate) fn meta_row(key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + key.len());
    row.put_u8(CALLERS);
    row.put_slice(key);
    row.freeze()
}

/// Where `Meta` ends for callers' keys.
pub(crate) const META_END: &[u8] = &[CALLERS + 1];

/// What comes before every version of `key` in `Versions`: the escaped key and its end.
pub(crate) fn versions_prefix(key: &[u8]) -> BytesMut {
    let mut row = BytesMut::with_capacity(key.len() + 2 + 8 + 8);
    for &byte in key {
        row.put_u8(byte);
        if byte == 0 {
            row.put_u8(0xff);
        }
    }
    row.put_slice(&[0, 0]);
    row
}

/// The row of a version of `key` in `Versions`.
pub(crate) fn version_row(key: &[u8], revision: Revision) -> Bytes {
    let mut row = versions_prefix(key);
    row.put_u64(!revision.0.cast_unsigned());
    row.freeze()
}

/// After every version of `key` in `Versions`.
pub(crate) fn versions_end(key: &[u8]) -> Bytes {
    let mut row = versions_prefix(key);
    *row.last_mut().expect("the end of the key is there") = 1;
    row.freeze()
}

/// Where the versions of keys from `start` on begin in `Versions`.
pub(crate) fn versions_start(start: &[u8]) -> Bytes {
    // Without the terminator: `start` itself and everything after it sorts at or after this.
    let mut row = versions_prefix(start);
    row.truncate(row.len() - 2);
    row.freeze()
}

/// The key and the revision of a row of `Versions`.
pub(crate) fn read_version_row(row: &[u8]) -> Result<(BytesMut, Revision), EngineError> {
    let (escaped, revision) = split_version_row(row)?;
    let mut key = BytesMut::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.put_u8(byte);
        if byte == 0 && bytes.next() != Some(&0xff) {
            return Err(corrupted("key of a version not escaped"));
        }
    }
    Ok((key, revision))
}

/// The escaped key and the revision of a row of `Versions`.
pub(crate) fn split_version_row(row: &[u8]) -> Result<(&[u8], Revision), EngineError> {
    let (rest, revision) =
        row.split_last_chunk::<8>().ok_or_else(|| corrupted("key of a version too short"))?;
    let escaped =
        rest.strip_suffix(&[0, 0]).ok_or_else(|| corrupted("key of a version without end"))?;
    let revision = (!u64::from_be_bytes(*revision)).cast_signed();
    if revision <= 0 {
        return Err(corrupted("revision of a version out of range"));
    }
    Ok((escaped, Revision(revision)))
}

/// The row of `Events` that ends with `last`; also the place to search for a revision.
pub(crate) fn events_row(last: Revision) -> Bytes {
    Bytes::copy_from_slice(&last.0.to_be_bytes())
}

/// A revision in 8 bytes.
pub(crate) fn read_revision(bytes: &[u8]) -> Result<Revision, EngineError> {
    match bytes.try_into().map(i64::from_be_bytes) {
        Ok(revision) if revision >= 0 => Ok(Revision(revision)),
        _ => Err(corrupted("not a revision")),
    }
}

/// Collects commits into the value of a row of `Events`.
#[derive(Default)]
pub(crate) struct EventsWriter {
    value: BytesMut,
    last: Option<Revision>,
}

impl EventsWriter {
    pub(crate) fn push(&mut self, commit: &Commit) {
        let changes = commit.changes.iter().map(|change| (&change.key, change.record.is_none()));
        self.push_changes(commit.revision, changes);
    }

    pub(crate) fn push_keys(&mut self, commit: &EventCommit) {
        let changes = commit.changes.iter().map(|change| (&change.key, change.deleted));
        self.push_changes(commit.revision, changes);
    }

    fn push_changes<'a>(
        &mut self,
        revision: Revision,
        changes: impl ExactSizeIterator<Item = (&'a Bytes, bool)>,
    ) {
        let before = self.last.map_or(0, |last| last.0);
        assert!(revision.0 > before, "commits ascend");
        put_varint(&mut self.value, (revision.0 - before).cast_unsigned());
        put_len(&mut self.value, changes.len());
        for (key, deleted) in changes {
            put_len(&mut self.value, key.len() * 2 + usize::from(deleted));
            self.value.put_slice(key);
        }
        self.last = Some(revision);
    }

    pub(crate) fn len(&self) -> usize {
        self.value.len()
    }

    /// The row collected, if there is one; begins the next.
    pub(crate) fn take(&mut self) -> Option<(Bytes, Bytes)> {
        let last = self.last.take()?;
        Some((events_row(last), self.value.split().freeze()))
    }
}

/// What a row of `Events` says of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventKey {
    pub(crate) key: Bytes,
    pub(crate) deleted: bool,
}

/// What a row of `Events` says of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventCommit {
    pub(crate) revision: Revision,
    pub(crate) changes: Vec<EventKey>,
}

impl EventCommit {
    pub(crate) fn of(commit: &Commit) -> Self {
        let changes = commit.changes.iter();
        let changes = changes
            .map(|change| EventKey { key: change.key.clone(), deleted: change.record.is_none() });
        Self { revision: commit.revision, changes: changes.collect() }
    }
}

/// The commits of a row of `Events`.
pub(crate) fn read_events(key: &[u8], value: &Bytes) -> Result<Vec<EventCommit>, EngineError> {
    let mut commits = Vec::new();
    let mut revision = 0_u64;
    let mut at = 0;
    while at < value.len() {
        let step = get_varint(value, &mut at)?;
        revision = revision.checked_add(step).ok_or_else(|| corrupted("revision overflows"))?;
        let number = get_varint(value, &mut at)?;
        let mut changes = Vec::new();
        for _ in 0..number {
            let word = get_varint(value, &mut at)?;
            let len = usize::try_from(word / 2).unwrap_or(usize::MAX);
            let end = at.checked_add(len).filter(|&end| end <= value.len());
            let end = end.ok_or_else(|| corrupted("row of events cut short"))?;
            changes.push(EventKey { key: value.slice(at..end), deleted: word % 2 == 1 });
            at = end;
        }
        commits.push(EventCommit { revision: Revision(revision.cast_signed()), changes });
    }
    // Above 0, too: what is sent on to another member is written by `EventsWriter`.
    let mut before = Revision(0);
    let ascending = commits
        .iter()
        .all(|commit| std::mem::replace(&mut before, commit.revision) < commit.revision);
    if !ascending || commits.last().map(|commit| commit.revision) != Some(read_revision(key)?) {
        return Err(corrupted("row of events out of order"));
    }
    Ok(commits)
}

/// What the tables contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The last entry of the log that is contained.
    pub(crate) applied: AppliedMark,
    /// The newest revision contained.
    pub(crate) revision: Revision,
    /// The oldest revision that can be read.
    pub(crate) compacted: Revision,
    /// Superseded versions are gone for all events up to here.
    pub(crate) collected: Revision,
    /// Keys live at `revision`.
    pub(crate) live_keys: u64,
}

impl Mark {
    /// What empty tables contain.
    pub(crate) const EMPTY: Self = Self {
        applied: AppliedMark { index: 0, term: 0 },
        revision: Revision::FIRST,
        compacted: Revision(0),
        collected: Revision(0),
        live_keys: 0,
    };

    pub(crate) fn encode(&self) -> Bytes {
        self.check().expect("a mark is made of what was applied");
        let mut row = BytesMut::with_capacity(1 + 6 * 8);
        row.put_u8(FORMAT);
        row.put_u64(self.applied.index);
        row.put_u64(self.applied.term);
        for revision in [self.revision, self.compacted, self.collected] {
            row.put_i64(revision.0);
        }
        row.put_u64(self.live_keys);
        row.freeze()
    }

    pub(crate) fn decode(row: &[u8]) -> Result<Self, EngineError> {
        let Some((&FORMAT, rest)) = row.split_first() else {
            return Err(corrupted("mark of an unknown format"));
        };
        let (words, []) = rest.as_chunks::<8>() else {
            return Err(corrupted("mark of an unknown length"));
        };
        let &[index, term, revision, compacted, collected, live_keys] = words else {
            return Err(corrupted("mark of an unknown length"));
        };
        let mark = Self {
            applied: AppliedMark {
                index: u64::from_be_bytes(index),
                term: u64::from_be_bytes(term),
            },
            revision: Revision(i64::from_be_bytes(revision)),
            compacted: Revision(i64::from_be_bytes(compacted)),
            collected: Revision(i64::from_be_bytes(collected)),
            live_keys: u64::from_be_bytes(live_keys),
        };
        mark.check()?;
        Ok(mark)
    }

    fn check(&self) -> Result<(), EngineError> {
        let ordered = Revision(0) <= self.collected
            && self.collected <= self.compacted
            && self.compacted <= self.revision
            && Revision::FIRST <= self.revision;
        if ordered { Ok(()) } else { Err(corrupted("mark out of order")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Change;

    #[test]
    fn versions_sort_by_key_and_newest_first() {
        let keys: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\0\x01", b"a", b"a\0", b"ab"];
        let mut rows = Vec::new();
        for key in keys {
            assert!(versions_start(key) <= version_row(key, Revision(i64::MAX)));
            for revision in [Revision(i64::MAX), Revision(300), Revision(2), Revision(1)] {
                rows.push(version_row(key, revision));
                assert!(*rows.last().unwrap() < versions_end(key));
                let (read, at) = read_version_row(rows.last().unwrap()).unwrap();
                assert_eq!((&read[..], at), (key, revision));
            }
            rows.push(versions_end(key));
        }
        assert!(rows.is_sorted(), "{rows:?}");
        for pair in keys.windows(2) {
            assert!(versions_end(pair[0]) <= versions_start(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn rows_that_are_no_versions_are_refused() {
        for bad in [&b"short"[..], b"key\0\x01\0\0\0\0\0\0\0\0", b"\0\x01\0\0\xff\0\0\0\0\0\0\0"] {
            assert!(read_version_row(bad).is_err(), "{bad:?}");
        }
    }

    fn row() -> (Bytes, Bytes) {
        let mut writer = EventsWriter::default();
        for revision in [5, 6, 400] {
            let change = |key: &str| Change { key: Bytes::from(key.to_owned()), record: None };
            let changes = vec![change("a"), change(""), change(&"long".repeat(50))];
            writer.push(&Commit { revision: Revision(revision), changes });
        }
        assert!(writer.len() > 0);
        let row = writer.take().unwrap();
        assert!(writer.take().is_none());
        row
    }

    #[test]
    fn events_are_read_as_written_and_damage_is_refused() {
        let (key, value) = row();
        let commits = read_events(&key, &value).unwrap();
        assert_eq!(commits.iter().map(|c| c.revision.0).collect::<Vec<_>>(), [5, 6, 400]);
        assert!(commits.iter().all(|c| c.changes.len() == 3 && c.changes[0].deleted));
        for end in 0..value.len() {
            assert!(read_events(&key, &value.slice(..end)).is_err(), "{end}");
        }
        assert!(read_events(&events_row(Revision(401)), &value).is_err());
        let zero = Bytes::from_static(&[0, 0]);
        assert!(read_events(&events_row(Revision(0)), &zero).is_err(), "no commit is at 0");
    }

    #[test]
    fn a_mark_is_read_as_written_and_damage_is_refused() {
        let mark = Mark {
            applied: AppliedMark { index: 9, term: 3 },
            revision: Revision(7),
            compacted: Revision(5),
            collected: Revision(4),
            live_keys: 2,
        };
        let row = mark.encode();
        assert_eq!(Mark::decode(&row).unwrap(), mark);
        for end in 0..row.len() {
            assert!(Mark::decode(&row[..end]).is_err());
        }
        let mut other = row.to_vec();
        other[0] = FORMAT + 1;
        assert!(Mark::decode(&other).is_err());
    }
}
