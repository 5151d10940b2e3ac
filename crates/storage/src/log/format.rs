//! Bytes of the log: segment headers, frames, records. `docs/storage-format.md` is this module
//! in prose; the two change together, and with them [`VERSION`].
//!
//! All integers are little-endian. A segment is a header of one sector and then *frames*, back to
//! back. A frame is what one `pwrite` writes: a header and whole *records*. One or more frames
//! make a *unit*, which a crash keeps whole or not at all. Everything is aligned to 8 bytes.

use env::disk::SECTOR_BYTES;
use raft::{Binding, Epoch, GroupId, HardState, LogIndex, LogPosition, ReplicaId, Term};

use crate::mutants::{self, Mutant};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// Bytes of a segment before its first frame.
pub(super) const SEGMENT_HEADER_BYTES: u32 = 512;
const _: () = assert!(SEGMENT_HEADER_BYTES as usize == SECTOR_BYTES, "written atomically");

/// Bytes of a frame before its first record. A frame without records is a *seal*.
pub(super) const FRAME_HEADER_BYTES: u32 = 64;

/// Bytes of a record before its data.
pub(super) const RECORD_HEADER_BYTES: u32 = 36;

/// Everything starts at a multiple of this.
pub(super) const ALIGNMENT: u32 = 8;

const SEGMENT_MAGIC: [u8; 8] = *b"QuorLog1";
const FRAME_MAGIC: u32 = 0x4652_5131;

/// A place in the log. Later places compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    /// Number of the segment; segments are numbered upwards from 1 and never reuse a number.
    pub segment: u64,
    /// Byte within it.
    pub offset: u32,
}

impl Position {
    /// The first place of a segment where a frame may be.
    pub(super) const fn start_of(segment: u64) -> Self {
        Self { segment, offset: SEGMENT_HEADER_BYTES }
    }
}

/// What the first sector of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub log_id: u64,
    pub segment: u64,
    pub segment_bytes: u32,
}

/// What the first sector of a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFound {
    /// All zeros: a file whose making was interrupted.
    Blank,
    /// A header.
    Valid(SegmentHeader),
    /// Of a later version.
    Newer(u32),
    /// Anything else.
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(self) -> [u8; SECTOR_BYTES] {
        let mut sector = [0; SECTOR_BYTES];
        sector[..8].copy_from_slice(&SEGMENT_MAGIC);
        sector[8..12].copy_from_slice(&VERSION.to_le_bytes());
        sector[16..24].copy_from_slice(&self.log_id.to_le_bytes());
        sector[24..32].copy_from_slice(&self.segment.to_le_bytes());
        sector[32..36].copy_from_slice(&self.segment_bytes.to_le_bytes());
        let crc = Self::checksum(&sector);
        sector[12..16].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    fn checksum(sector: &[u8; SECTOR_BYTES]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&sector[..12]), &sector[16..])
    }

    pub(super) fn decode(sector: &[u8; SECTOR_BYTES]) -> HeaderFound {
        if sector.iter().all(|byte| *byte == 0) {
            return HeaderFound::Blank;
        }
        if sector[..8] != SEGMENT_MAGIC || Self::checksum(sector) != u32_at(sector, 12) {
            return HeaderFound::Damaged;
        }
        match u32_at(sector, 8) {
            VERSION => HeaderFound::Valid(Self {
                log_id: u64_at(sector, 16),
                segment: u64_at(sector, 24),
                segment_bytes: u32_at(sector, 32),
            }),
            newer if newer > VERSION => HeaderFound::Newer(newer),
            _ => HeaderFound::Damaged,
        }
    }
}

/// What the header of a frame says besides its own place and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Counts the openings of the log. It makes the chain of this life differ from any earlier
    /// one's, even if the same bytes are appended again: what an earlier life left behind the
    /// tail cannot be taken for a continuation of this one.
    pub epoch: u32,
    /// More frames of the same unit follow.
    pub continues: bool,
    /// Checksum of the frame before this one: frames form a chain.
    pub previous_crc: u32,
    /// Everything before this place was durable when the frame was written.
    pub durable: Position,
    /// The oldest segment that was still needed when the frame was written.
    pub first_segment: u64,
}

/// A frame that was read and found whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub header: FrameHeader,
    pub crc: u32,
    pub body_bytes: u32,
}

impl Frame {
    /// Fills in the header of a frame whose records are already behind it, and returns its
    /// checksum.
    pub(super) fn seal(log_id: u64, at: Position, header: FrameHeader, frame: &mut [u8]) -> u32 {
        assert!(frame.len() >= FRAME_HEADER_BYTES as usize, "room for the header");
        assert!(frame.len().is_multiple_of(ALIGNMENT as usize), "frames are aligned");
        let body = u32::try_from(frame.len()).expect("a frame fits a segment") - FRAME_HEADER_BYTES;
        frame[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        frame[8..16].copy_from_slice(&at.segment.to_le_bytes());
        frame[16..20].copy_from_slice(&at.offset.to_le_bytes());
        frame[20..24].copy_from_slice(&body.to_le_bytes());
        frame[24..28].copy_from_slice(&header.epoch.to_le_bytes());
        frame[28..32].copy_from_slice(&u32::from(header.continues).to_le_bytes());
        frame[32..36].copy_from_slice(&header.previous_crc.to_le_bytes());
        frame[36..40].copy_from_slice(&header.durable.offset.to_le_bytes());
        frame[40..48].copy_from_slice(&header.durable.segment.to_le_bytes());
        frame[48..56].copy_from_slice(&header.first_segment.to_le_bytes());
        frame[56..64].fill(0);
        let crc = Self::checksum(log_id, frame);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    fn checksum(log_id: u64, frame: &[u8]) -> u32 {
        if mutants::on(Mutant::ChecksumOfDataAlone) {
            return crc32c::crc32c(&frame[FRAME_HEADER_BYTES as usize..]);
        }
        crc32c::crc32c_append(crc32c::crc32c(&log_id.to_le_bytes()), &frame[8..])
    }

    /// The frame at `at`, if there is a whole one. `segment` holds the bytes of the segment.
    pub(super) fn parse(log_id: u64, at: Position, segment: &[u8]) -> Option<Self> {
        let bytes = segment.get(at.offset as usize..)?;
        if bytes.len() < FRAME_HEADER_BYTES as usize
            || u32_at(bytes, 0) != FRAME_MAGIC
            || u64_at(bytes, 8) != at.segment
            || u32_at(bytes, 16) != at.offset
        {
            return None;
        }
        let body_bytes = u32_at(bytes, 20);
        let end = (body_bytes as usize).checked_add(FRAME_HEADER_BYTES as usize)?;
        let frame = bytes.get(..end)?;
        let crc = u32_at(frame, 4);
        let flags = u32_at(frame, 28);
        if !body_bytes.is_multiple_of(ALIGNMENT)
            || flags > 1
            || crc != Self::checksum(log_id, frame)
        {
            return None;
        }
        let header = FrameHeader {
            epoch: u32_at(frame, 24),
            continues: flags == 1,
            previous_crc: u32_at(frame, 32),
            durable: Position { segment: u64_at(frame, 40), offset: u32_at(frame, 36) },
            first_segment: u64_at(frame, 48),
        };
        Some(Self { header, crc, body_bytes })
    }

    /// Bytes of header and records.
    pub(super) fn total_bytes(&self) -> u32 {
        FRAME_HEADER_BYTES + self.body_bytes
    }
}

/// No index is that high: a million entries a second come to it in a thousand centuries.
pub(super) const INDEX_END: LogIndex = LogIndex(1 << 62);

/// What a record means. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RecordKind {
    /// An entry; overwrites whatever its group holds from its index on.
    Entry = 1,
    /// An older entry moved forward; takes the place of the same entry and touches no other.
    Carried = 2,
    /// The hard state, and the position before the first entry kept.
    State = 3,
    /// The same, and no entry before this record counts.
    Reset = 4,
    /// The group is gone.
    Forget = 5,
}

impl RecordKind {
    pub(super) fn decode(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Entry,
            2 => Self::Carried,
            3 => Self::State,
            4 => Self::Reset,
            5 => Self::Forget,
            _ => return None,
        })
    }
}

/// The fixed part of a record. For entries, `position` is the entry's; for states it is the
/// position before the first entry kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: RecordKind,
    /// How an entry's data is to be read; see [`super::payload`].
    pub payload_kind: u8,
    pub group: GroupId,
    pub position: LogPosition,
}

/// A record that was read and found whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub header: RecordHeader,
    pub data: &'a [u8],
    /// Bytes on disk, padding included.
    pub total_bytes: u32,
}

/// Bytes on disk of a record with that much data, padding included; `None` if no segment could
/// hold it.
pub(super) fn record_bytes(data_bytes: usize) -> Option<u32> {
    let bytes = u32::try_from(data_bytes).ok()?.checked_add(RECORD_HEADER_BYTES)?;
    bytes.checked_next_multiple_of(ALIGNMENT)
}

impl<'a> Record<'a> {
    /// Appends a record that will lie at `at` to `frame`. `data` writes the data.
    pub(super) fn encode(
        log_id: u64,
        at: Position,
        header: RecordHeader,
        frame: &mut Vec<u8>,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> u32 {
        let start = frame.len();
        frame.extend_from_slice(&[0, 0, 0, 0, header.kind as u8, header.payload_kind, 0, 0]);
        frame.extend_from_slice(&header.group.0.to_le_bytes());
        frame.extend_from_slice(&header.position.index.0.to_le_bytes());
        frame.extend_from_slice(&header.position.term.0.to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        data(frame);
        let data_bytes = frame.len() - start - RECORD_HEADER_BYTES as usize;
        let total = record_bytes(data_bytes).expect("the caller checked the size");
        let length = u32::try_from(data_bytes).expect("smaller than the total");
        frame[start + 32..start + 36].copy_from_slice(&length.to_le_bytes());
        let crc = Self::checksum(log_id, at, &frame[start..]);
        frame[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        frame.resize(start + total as usize, 0);
        total
    }

    /// Binds the record to its log and its place, besides the group, index and term inside it.
    fn checksum(log_id: u64, at: Position, record: &[u8]) -> u32 {
        if mutants::on(Mutant::ChecksumOfDataAlone) {
            return crc32c::crc32c(&record[RECORD_HEADER_BYTES as usize..]);
        }
        let mut place = [0; 20];
        place[..8].copy_from_slice(&log_id.to_le_bytes());
        place[8..16].copy_from_slice(&at.segment.to_le_bytes());
        place[16..].copy_from_slice(&at.offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&place), &record[4..])
    }

    /// The record at the beginning of `bytes`, which lie at `at`, if it is whole.
    pub(super) fn parse(log_id: u64, at: Position, bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER_BYTES as usize {
            return None;
        }
        let data_bytes = u32_at(bytes, 32);
        let end = (data_bytes as usize).checked_add(RECORD_HEADER_BYTES as usize)?;
        let total_bytes = record_bytes(data_bytes as usize)?;
        let record = bytes.get(..end)?;
        if bytes.len() < total_bytes as usize
            || u32_at(record, 0) != Self::checksum(log_id, at, record)
        {
            return None;
        }
        let header = RecordHeader {
            kind: RecordKind::decode(record[4])?,
            payload_kind: record[5],
            group: GroupId(u64_at(record, 8)),
            position: LogPosition {
                index: LogIndex(u64_at(record, 16)),
                term: Term(u64_at(record, 24)),
            },
        };
        if header.position.index >= INDEX_END {
            return None;
        }
        Some(Self { header, data: &record[RECORD_HEADER_BYTES as usize..], total_bytes })
    }
}

/// Bytes of a hard state in a record, without and with a binding.
pub(super) const HARD_STATE_BYTES: usize = 24;
const BOUND_HARD_STATE_BYTES: usize = 40;

/// Term, vote (0 for none) and commit; for a replica that is bound, the leader and the epoch too.
pub(super) fn encode_hard_state(state: HardState) -> Vec<u8> {
    let vote = state.vote.map_or(0, ReplicaId::get);
    let mut bytes = Vec::with_capacity(BOUND_HARD_STATE_BYTES);
    for number in [state.term.0, vote, state.commit.0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    if let Some(Binding { leader, epoch }) = state.binding {
        for number in [leader.get(), epoch.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

/// The reverse of [`encode_hard_state`]; `None` if the length is wrong or the leader is replica 0.
pub(super) fn decode_hard_state(bytes: &[u8]) -> Option<HardState> {
    let binding = match bytes.len() {
        HARD_STATE_BYTES => None,
        BOUND_HARD_STATE_BYTES => Some(Binding {
            leader: ReplicaId::new(u64_at(bytes, 24))?,
            epoch: Epoch(u64_at(bytes, 32)),
        }),
        _ => return None,
    };
    Some(HardState {
        term: Term(u64_at(bytes, 0)),
        vote: ReplicaId::new(u64_at(bytes, 8)),
        commit: LogIndex(u64_at(bytes, 16)),
        binding,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { segment: 7, offset: 1024 };

    fn record() -> (RecordHeader, Vec<u8>) {
        let header = RecordHeader {
            kind: RecordKind::Entry,
            payload_kind: 1,
            group: GroupId(3),
            position: LogPosition::new(11, 5),
        };
        let mut bytes = Vec::new();
        Record::encode(1, AT, header, &mut bytes, |into| into.extend_from_slice(b"payload"));
        (header, bytes)
    }

    #[test]
    fn a_record_is_bound_to_log_and_place() {
        let (header, bytes) = record();
        let parsed = Record::parse(1, AT, &bytes).unwrap();
        assert_eq!((parsed.header, parsed.data), (header, &b"payload"[..]));
        assert_eq!(parsed.total_bytes as usize, bytes.len());
        assert!(Record::parse(2, AT, &bytes).is_none(), "another log");
        assert!(Record::parse(1, Position { offset: 1032, ..AT }, &bytes).is_none());
        assert!(Record::parse(1, Position { segment: 8, ..AT }, &bytes).is_none());
    }

    #[test]
    fn every_bit_of_a_record_counts() {
        let (header, bytes) = record();
        let meaningful = bytes.len() / 8 * 8 - 5;
        assert_eq!(meaningful, RECORD_HEADER_BYTES as usize + b"payload".len());
        for bit in 0..meaningful * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(1, AT, &damaged).is_none(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(Record::parse(1, AT, &bytes[..end]).is_none(), "cut at {end}");
        }
        assert_eq!(header.group, GroupId(3));
    }

    #[test]
    fn a_hard_state_comes_back_with_and_without_a_binding() {
        let free = HardState {
            term: Term(7),
            vote: ReplicaId::new(3),
            commit: LogIndex(11),
            binding: None,
        };
        let leader = ReplicaId::new(9).unwrap();
        let bound = HardState { binding: Some(Binding { leader, epoch: Epoch(5) }), ..free };
        // What was written before there were bindings.
        let numbers: [u64; 3] = [7, 3, 11];
        let old: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(old, encode_hard_state(free));
        for state in [HardState::default(), free, bound] {
            let bytes = encode_hard_state(state);
            assert_eq!(Some(state), decode_hard_state(&bytes));
            let cuts = (0..bytes.len()).filter(|&end| end != HARD_STATE_BYTES);
            assert!(cuts.map(|end| decode_hard_state(&bytes[..end])).all(|cut| cut.is_none()));
        }
        let mut nobody = encode_hard_state(bound);
        nobody[24..32].fill(0);
        assert_eq!(None, decode_hard_state(&nobody), "bound to nobody");
    }

    #[test]
    fn every_bit_of_a_frame_counts() {
        let (_, body) = record();
        let mut segment = vec![0; AT.offset as usize + FRAME_HEADER_BYTES as usize];
        segment.extend_from_slice(&body);
        let header = FrameHeader {
            epoch: 2,
            continues: true,
            previous_crc: 0xdead_beef,
            durable: Position { segment: 6, offset: 4000 },
            first_segment: 4,
        };
        let start = AT.offset as usize;
        let crc = Frame::seal(1, AT, header, &mut segment[start..]);
        let frame = Frame::parse(1, AT, &segment).unwrap();
        assert_eq!((frame.header, frame.crc), (header, crc));
        assert_eq!(frame.total_bytes() as usize, segment.len() - start);
        assert!(Frame::parse(2, AT, &segment).is_none(), "another log");
        for bit in start * 8..segment.len() * 8 {
            let mut damaged = segment.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::parse(1, AT, &damaged).is_none(), "bit {bit}");
        }
        for end in start..segment.len() {
            assert!(Frame::parse(1, AT, &segment[..end]).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn every_bit_of_a_header_counts() {
        let header = SegmentHeader { log_id: 1, segment: 2, segment_bytes: 4096 };
        let sector = header.encode();
        assert_eq!(SegmentHeader::decode(&sector), HeaderFound::Valid(header));
        assert_eq!(SegmentHeader::decode(&[0; SECTOR_BYTES]), HeaderFound::Blank);
        for bit in 0..sector.len() * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&damaged), HeaderFound::Damaged, "bit {bit}");
        }
        let mut newer = sector;
        newer[8] = 9;
        let crc = SegmentHeader::checksum(&newer);
        newer[12..16].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer), HeaderFound::Newer(9));
    }

    /// Whatever the bytes, even with a checksum that fits them: no panic, and nothing beyond them.
    #[test]
    fn foreign_bytes_do_no_harm() {
        let mut random = env::SplitMix64::new(1);
        let (_, body) = record();
        let mut whole = vec![0; FRAME_HEADER_BYTES as usize];
        whole.extend_from_slice(&body);
        for _ in 0..200_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(4) {
                let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
                bytes[at] = random.next_u64().to_le_bytes()[0];
            }
            bytes.truncate(usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap());
            let at = Position { segment: 7, offset: 0 };
            if bytes.len() >= 24 {
                bytes[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
                bytes[8..16].copy_from_slice(&at.segment.to_le_bytes());
                bytes[16..20].copy_from_slice(&at.offset.to_le_bytes());
                let crc = Frame::checksum(1, &bytes);
                bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            }
            if let Some(frame) = Frame::parse(1, at, &bytes) {
                assert!(frame.total_bytes() as usize <= bytes.len());
            }
            let record = bytes.get(64..).unwrap_or(&bytes);
            if let Some(record) = Record::parse(1, AT, record) {
                assert!(record.data.len() < bytes.len());
            }
        }
    }
}
