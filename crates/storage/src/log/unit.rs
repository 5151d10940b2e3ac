//! One unit in the making: the frames of an append, and what they will change in the index.

use std::collections::BTreeMap;

use raft::{Entry, GroupId, HardState, LogIndex, LogPosition};

use super::error::AppendError;
use super::format::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, INDEX_END, Position, RECORD_HEADER_BYTES, Record,
    RecordHeader, RecordKind, encode_hard_state, record_bytes,
};
use super::index::{Index, Place};
use super::{GroupWrite, payload};

/// What a record means for the index.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Entry(GroupId, LogPosition),
    State(GroupId, HardState, LogPosition),
    Reset(GroupId, HardState, LogPosition),
    Forget(GroupId),
    /// An entry, or with `None` the state, written again.
    Carry(GroupId, Option<LogIndex>),
}

/// A group as it will be after the writes collected so far.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    hard_state: HardState,
    truncated: LogPosition,
    last: LogPosition,
}

impl Outlook {
    fn of(index: &Index, group: GroupId) -> Self {
        index.groups.get(&group).map_or_else(Self::default, |group| {
            let last = group.last_index();
            let term = group.term(last).expect("the last entry has a term");
            Self {
                hard_state: group.hard_state,
                truncated: group.truncated,
                last: LogPosition { index: last, term },
            }
        })
    }
}

/// Frames and changes of one unit. The buffers are reused from unit to unit.
#[derive(Debug, Default)]
pub(super) struct Unit {
    log_id: u64,
    records_end: u32,
    record_bytes_max: u32,
    buffer: Vec<u8>,
    /// Where each frame lies in the log, and where it begins in the buffer.
    frames: Vec<(Position, usize)>,
    changes: Vec<(Change, Place)>,
    outlook: BTreeMap<GroupId, Outlook>,
    /// Where the next record goes.
    cursor: Option<Position>,
    tail: Option<Position>,
}

impl Unit {
    /// Begins anew at `tail`. Records end before `records_end` in every segment.
    pub(super) fn begin(
        &mut self,
        log_id: u64,
        tail: Position,
        records_end: u32,
        record_bytes_max: u32,
    ) {
        self.log_id = log_id;
        self.records_end = records_end;
        self.record_bytes_max = record_bytes_max;
        self.buffer.clear();
        self.frames.clear();
        self.changes.clear();
        self.outlook.clear();
        self.cursor = None;
        self.tail = Some(tail);
    }

    /// Where the log will end after this unit.
    pub(super) fn end(&self) -> Position {
        self.cursor.or(self.tail).expect("a unit has begun")
    }

    /// Bytes of all frames.
    pub(super) fn bytes(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// What the unit changes, with the places of the records that say so.
    pub(super) fn changes(&self) -> &[(Change, Place)] {
        &self.changes
    }

    /// Adds a record. The header and `data_bytes` decide its size, which the caller has checked.
    fn add(
        &mut self,
        header: RecordHeader,
        data_bytes: usize,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> Place {
        let bytes = record_bytes(data_bytes).expect("the caller checked the size");
        assert!(bytes <= self.record_bytes_max, "the caller checked the size");
        let at = match self.cursor {
            Some(cursor) if cursor.offset + bytes <= self.records_end => cursor,
            Some(cursor) => self.open_frame(Position::start_of(cursor.segment + 1)),
            None => {
                let tail = self.tail.expect("a unit has begun");
                // Written so that it cannot overflow: the tail may lie behind the records' end.
                let room = self.records_end.saturating_sub(tail.offset);
                if room >= bytes && room - bytes >= FRAME_HEADER_BYTES {
                    self.open_frame(tail)
                } else {
                    self.open_frame(Position::start_of(tail.segment + 1))
                }
            }
        };
        let written = Record::encode(self.log_id, at, header, &mut self.buffer, data);
        assert_eq!(written, bytes, "the size was known before");
        self.cursor = Some(Position { offset: at.offset + bytes, ..at });
        Place { at, bytes }
    }

    /// Begins a frame at `at` and returns where its first record goes.
    fn open_frame(&mut self, at: Position) -> Position {
        self.frames.push((at, self.buffer.len()));
        self.buffer.resize(self.buffer.len() + FRAME_HEADER_BYTES as usize, 0);
        Position { offset: at.offset + FRAME_HEADER_BYTES, ..at }
    }

    /// Completes all frames, `header` being that of the first as far as the unit does not decide
    /// it. Returns where the log then ends and the checksum of the last frame; `None` for an
    /// empty unit.
    pub(super) fn seal(&mut self, mut header: FrameHeader) -> Option<(Position, u32)> {
        let end = self.cursor?;
        let mut crc = header.previous_crc;
        for nth in 0..self.frames.len() {
            let (at, start) = self.frames[nth];
            let next = self.frames.get(nth + 1).map(|(_, start)| *start);
            header.previous_crc = crc;
            header.continues = next.is_some();
            let stop = next.unwrap_or(self.buffer.len());
            crc = Frame::seal(self.log_id, at, header, &mut self.buffer[start..stop]);
        }
        Some((end, crc))
    }

    /// The frames, to be written where they say.
    pub(super) fn frames(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.frames.iter().enumerate().map(|(nth, (at, start))| {
            let stop = self.frames.get(nth + 1).map_or(self.buffer.len(), |(_, start)| *start);
            (*at, &self.buffer[*start..stop])
        })
    }

    /// Adds all of these writes.
    pub(super) fn add_writes(
        &mut self,
        index: &Index,
        writes: &[GroupWrite],
    ) -> Result<(), AppendError> {
        for write in writes {
            self.add_write(index, write)?;
        }
        Ok(())
    }

    fn add_write(&mut self, index: &Index, write: &GroupWrite) -> Result<(), AppendError> {
        let group = write.group;
        let known = self.outlook.get(&group).copied();
        let mut outlook = known.unwrap_or_else(|| Outlook::of(index, group));
        let mut hard_state = write.hard_state;
        if write.forget {
            self.add_forget(group);
            outlook = Outlook::default();
        }
        if let Some(position) = write.reset {
            outlook.hard_state = hard_state.take().unwrap_or(outlook.hard_state);
            outlook.truncated = position;
            outlook.last = position;
            self.add_state(group, RecordKind::Reset, outlook);
        }
        for entry in &write.entries {
            outlook.accept(entry);
            self.add_entry(group, entry)?;
        }
        let mut state_changed = false;
        if let Some(hard_state) = hard_state {
            outlook.hard_state = hard_state;
            state_changed = true;
        }
        let truncate_to = write.truncate_to.filter(|to| to.index > outlook.truncated.index);
        let mut kind = RecordKind::State;
        if let Some(position) = truncate_to {
            outlook.truncated = position;
            state_changed = true;
            if position.index > outlook.last.index {
                outlook.last = position;
                kind = RecordKind::Reset;
            }
        }
        if state_changed {
            self.add_state(group, kind, outlook);
        }
        self.outlook.insert(group, outlook);
        Ok(())
    }

    fn add_forget(&mut self, group: GroupId) {
        let position = LogPosition::ORIGIN;
        let header = RecordHeader { kind: RecordKind::Forget, payload_kind: 0, group, position };
        let place = self.add(header, 0, |_| {});
        self.changes.push((Change::Forget(group), place));
    }

    fn add_state(&mut self, group: GroupId, kind: RecordKind, outlook: Outlook) {
        let Outlook { hard_state, truncated, .. } = outlook;
        let place = self.add_state_record(group, kind, hard_state, truncated);
        let change = match kind {
            RecordKind::Reset => Change::Reset(group, hard_state, truncated),
            _ => Change::State(group, hard_state, truncated),
        };
        self.changes.push((change, place));
    }

    fn add_state_record(
        &mut self,
        group: GroupId,
        kind: RecordKind,
        hard_state: HardState,
        truncated: LogPosition,
    ) -> Place {
        let header = RecordHeader { kind, payload_kind: 0, group, position: truncated };
        let data = encode_hard_state(hard_state);
        self.add(header, data.len(), |frame| frame.extend_from_slice(&data))
    }

    fn add_entry(&mut self, group: GroupId, entry: &Entry) -> Result<(), AppendError> {
        let data_bytes = payload::encoded_bytes(&entry.payload);
        if record_bytes(data_bytes).is_none_or(|bytes| bytes > self.record_bytes_max) {
            return Err(AppendError::TooLarge {
                group,
                index: entry.index,
                bytes: data_bytes as u64 + u64::from(RECORD_HEADER_BYTES),
                limit_bytes: u64::from(self.record_bytes_max),
            });
        }
        let header = RecordHeader {
            kind: RecordKind::Entry,
            payload_kind: payload::kind(&entry.payload),
            group,
            position: entry.position(),
        };
        let place = self.add(header, data_bytes, |frame| payload::encode(&entry.payload, frame));
        self.changes.push((Change::Entry(group, entry.position()), place));
        Ok(())
    }

    /// Adds the state of a group again.
    pub(super) fn carry_state(
        &mut self,
        group: GroupId,
        hard_state: HardState,
        truncated: LogPosition,
    ) {
        let place = self.add_state_record(group, RecordKind::State, hard_state, truncated);
        self.changes.push((Change::Carry(group, None), place));
    }

    /// Adds an entry again, its data as it was read.
    pub(super) fn carry_entry(&mut self, record: &Record<'_>) {
        let header = RecordHeader { kind: RecordKind::Carried, ..record.header };
        let place =
            self.add(header, record.data.len(), |frame| frame.extend_from_slice(record.data));
        let change = Change::Carry(header.group, Some(header.position.index));
        self.changes.push((change, place));
    }
}

impl Outlook {
    /// Takes the next entry into account.
    fn accept(&mut self, entry: &Entry) {
        assert!(
            entry.index > self.truncated.index && entry.index <= self.last.index.next(),
            "entry {} neither continues a log that ends at {} nor overwrites behind {}",
            entry.index,
            self.last.index,
            self.truncated.index,
        );
        assert!(entry.index < INDEX_END, "indexes are exhausted");
        assert!(
            entry.index <= self.last.index || entry.term >= self.last.term,
            "terms never fall along a log"
        );
        self.last = entry.position();
    }
}
