//! Reading entries while the log is written.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use env::{Disk, DiskFile};
use raft::{Entry, GroupId, LogIndex, Payload, Term};

use crate::mutants::{self, Mutant};

use super::Shared;
use super::error::ReadError;
use super::format::{Record, RecordKind};
use super::index::Place;
use super::payload;
use super::segments::SegmentFile;

/// How much is read from a file at once, at most (one entry may be larger).
const CHUNK_BYTES: u32 = 1 << 20;

/// How often a place may move under a reader before it gives up. Each time the writer has reused
/// a whole segment in between.
const ATTEMPTS_MAX: u32 = 16;

/// Reads entries of the log, from any thread. Cheap to clone.
///
/// A reader holds no lock while it reads a file, so the writer may meanwhile carry an entry
/// elsewhere and reuse the segment. The record's checksum, which binds the place, tells: the
/// reader then asks again where the entry is.
#[derive(Debug)]
pub struct LogReader<D: Disk> {
    shared: Arc<Shared<D::File>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// Records that lie back to back in one segment, and what they must turn out to be.
#[derive(Debug)]
struct Stretch<F> {
    file: Arc<SegmentFile<F>>,
    start: Place,
    bytes: u32,
    expected: Vec<(LogIndex, Term, u32)>,
}

impl<D: Disk> LogReader<D> {
    pub(super) fn new(shared: Arc<Shared<D::File>>) -> Self {
        Self { shared }
    }

    /// Entries of `group` from `first` on, up to `last` inclusive or the end of the log, as many
    /// as stay within `bytes_max` ([`Entry::size_bytes`] each), but at least one. Among them may
    /// be entries that are appended but not yet synced.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn entries(
        &self,
        group: GroupId,
        first: LogIndex,
        last: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut budget = Some(bytes_max);
        let mut next = first;
        let mut attempt = 0;
        while let Some(left) = budget.filter(|_| next <= last) {
            let Some(stretch) = self.locate(group, next, last, left, entries.is_empty())? else {
                break;
            };
            let read = read_stretch(self.shared.log_id, group, &stretch);
            if read.is_err() && mutants::on(Mutant::ReadErrorEndsEntries) {
                break;
            }
            match read? {
                Ok(read) => {
                    attempt = 0;
                    let size: usize = read.iter().map(Entry::size_bytes).sum();
                    next = next.plus(read.len() as u64);
                    budget = left.checked_sub(size);
                    entries.extend(read);
                }
                Err(damaged) => {
                    // Either the place was reused under our hands, or it is damage.
                    attempt += 1;
                    let now = self.place(group, damaged.0);
                    if now == Some(damaged.1) || attempt == ATTEMPTS_MAX {
                        let at = damaged.1.at;
                        let (segment, offset) = (at.segment, at.offset);
                        return Err(ReadError::Corrupted {
                            group,
                            index: damaged.0,
                            segment,
                            offset,
                        });
                    }
                }
            }
        }
        Ok(entries)
    }

    fn place(&self, group: GroupId, index: LogIndex) -> Option<Place> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        state.index.groups.get(&group)?.place(index)
    }

    /// The next stretch to read; `None` if not even its first entry stays within the budget.
    fn locate(
        &self,
        group_id: GroupId,
        first: LogIndex,
        last: LogIndex,
        budget: usize,
        at_least_one: bool,
    ) -> Result<Option<Stretch<D::File>>, ReadError> {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let group = state.index.groups.get(&group_id).ok_or(ReadError::UnknownGroup(group_id))?;
        if first <= group.truncated.index {
            return Err(ReadError::Truncated { through: group.truncated.index });
        }
        let Some(start) = group.place(first) else {
            // Between two stretches the log may have become shorter; what was read stands.
            return if at_least_one {
                Err(ReadError::Beyond { last: group.last_index() })
            } else {
                Ok(None)
            };
        };
        let file = state.files.get(&start.at.segment).expect("a live segment has a file");
        let mut stretch = Stretch { file: Arc::clone(file), start, bytes: 0, expected: Vec::new() };
        let mut left = budget;
        let mut index = first;
        while let Some(place) = group.place(index).filter(|_| index <= last) {
            let contiguous = place.at.segment == start.at.segment
                && place.at.offset == start.at.offset + stretch.bytes;
            let must = at_least_one && index == first;
            let size = size_bytes(place);
            let fits = size <= left && stretch.bytes.saturating_add(place.bytes) <= CHUNK_BYTES;
            if !(must || contiguous && (fits || stretch.bytes == 0 && size <= left)) {
                break;
            }
            left = left.saturating_sub(size);
            stretch.bytes += place.bytes;
            let term = group.term(index).expect("a retained entry has a term");
            stretch.expected.push((index, term, place.bytes));
            index = index.next();
        }
        Ok((!stretch.expected.is_empty()).then_some(stretch))
    }
}

/// What the entry at `place` counts for, as far as can be told without reading it: up to seven
/// bytes of padding too much.
fn size_bytes(place: Place) -> usize {
    place.bytes as usize - super::format::RECORD_HEADER_BYTES as usize + Payload::OVERHEAD_BYTES
}

/// Reads and checks a stretch. The inner error is the first record that is not what it should be.
fn read_stretch<F: DiskFile>(
    log_id: u64,
    group: GroupId,
    stretch: &Stretch<F>,
) -> Result<Result<Vec<Entry>, (LogIndex, Place)>, ReadError> {
    let mut buffer = vec![0; stretch.bytes as usize];
    let start = stretch.start.at;
    let filled = stretch.file.file.read_at(&mut buffer, u64::from(start.offset))?;
    buffer.truncate(filled);
    let buffer = Bytes::from(buffer);
    let mut entries = Vec::with_capacity(stretch.expected.len());
    let mut offset = 0_u32;
    for &(index, term, bytes) in &stretch.expected {
        let mut at = start;
        at.offset += offset;
        let place = Place { at, bytes };
        let Some(entry) = parse_entry(log_id, place, &buffer, offset as usize)
            .filter(|(found, entry)| *found == group && entry.index == index && entry.term == term)
            .map(|(_, entry)| entry)
        else {
            return Ok(Err((index, place)));
        };
        entries.push(entry);
        offset += bytes;
    }
    Ok(Ok(entries))
}

fn parse_entry(
    log_id: u64,
    place: Place,
    buffer: &Bytes,
    offset: usize,
) -> Option<(GroupId, Entry)> {
    let bytes = buffer.get(offset..offset + place.bytes as usize)?;
    let record = Record::parse(log_id, place.at, bytes)?;
    if !matches!(record.header.kind, RecordKind::Entry | RecordKind::Carried)
        || record.total_bytes != place.bytes
    {
        return None;
    }
    let payload = payload::decode(record.header.payload_kind, buffer.slice_ref(record.data))?;
    let raft::LogPosition { index, term } = record.header.position;
    Some((record.header.group, Entry { index, term, payload }))
}
