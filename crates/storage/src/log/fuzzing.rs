//! Frames and records with right sums and any contents, for [`crate::fuzzing`].

use raft::{GroupId, LogPosition};

use super::format::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, Position, Record, RecordHeader, RecordKind,
    SegmentHeader, record_bytes,
};

/// A record to be.
pub(crate) struct RecordShape<'a> {
    pub(crate) kind: u8,
    pub(crate) payload_kind: u8,
    pub(crate) group: u64,
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) data: &'a [u8],
}

/// Segments, filled frame by frame.
pub(crate) struct Frames {
    log_id: u64,
    segment_bytes: u32,
    segments: Vec<Vec<u8>>,
    at: Position,
    previous_crc: u32,
    header: FrameHeader,
}

impl Frames {
    pub(crate) fn new(log_id: u64, segment_bytes: u32) -> Frames {
        let start = Position::start_of(1);
        let header = FrameHeader {
            epoch: 1,
            continues: false,
            previous_crc: 0,
            durable: start,
            first_segment: 1,
        };
        let mut frames = Frames {
            log_id,
            segment_bytes,
            segments: Vec::new(),
            at: start,
            previous_crc: 0,
            header,
        };
        frames.next_segment();
        frames
    }

    fn next_segment(&mut self) {
        let segment = self.segments.len() as u64 + 1;
        let (log_id, segment_bytes) = (self.log_id, self.segment_bytes);
        let mut bytes = SegmentHeader { log_id, segment, segment_bytes }.encode().to_vec();
        bytes.resize(segment_bytes as usize, 0);
        self.segments.push(bytes);
        self.at = Position::start_of(segment);
    }

    /// Adds a frame. Of `shape`, bit 0: more of the unit follows; bit 1: in the next segment;
    /// bit 2: durable so far; bit 3: a new epoch; bit 7: `odd` goes into the header, bits 4 to 6
    /// say where. False if there is no room for it.
    pub(crate) fn push(&mut self, shape: u8, odd: u64, records: &[RecordShape<'_>]) -> bool {
        if shape & 2 != 0 {
            self.next_segment();
        }
        let mut frame = vec![0; FRAME_HEADER_BYTES as usize];
        for shape in records {
            let Some(bytes) = record_bytes(shape.data.len()) else { return false };
            let end = self.at.offset as usize + frame.len() + bytes as usize;
            if end > self.segment_bytes as usize {
                return false;
            }
            let offset = u32::try_from(self.at.offset as usize + frame.len()).unwrap_or(u32::MAX);
            let at = Position { offset, ..self.at };
            let header = RecordHeader {
                kind: RecordKind::decode(shape.kind).unwrap_or(RecordKind::Entry),
                payload_kind: shape.payload_kind,
                group: GroupId(shape.group),
                position: LogPosition::new(shape.index, shape.term),
            };
            Record::encode(self.log_id, at, header, &mut frame, |into| {
                into.extend_from_slice(shape.data);
            });
        }
        let (from, to) = (self.at.offset as usize, self.at.offset as usize + frame.len());
        if to > self.segment_bytes as usize {
            return false;
        }
        self.header.epoch = self.header.epoch.wrapping_add(u32::from(shape & 8 != 0));
        if shape & 4 != 0 {
            self.header.durable = self.at;
        }
        let mut header = FrameHeader {
            continues: shape & 1 != 0,
            previous_crc: self.previous_crc,
            ..self.header
        };
        if shape & 0x80 != 0 {
            let low = u32::from_le_bytes(odd.to_le_bytes()[..4].try_into().unwrap_or_default());
            match (shape >> 4) & 7 {
                0 => header.epoch = low,
                1 => header.durable.segment = odd,
                2 => header.durable.offset = low,
                3 => header.first_segment = odd,
                4 => header.previous_crc = low,
                5 => self.header.first_segment = odd,
                _ => self.header.epoch = low,
            }
        }
        self.previous_crc = Frame::seal(self.log_id, self.at, header, &mut frame);
        if let Some(segment) = self.segments.last_mut() {
            segment[from..to].copy_from_slice(&frame);
        }
        self.at.offset = u32::try_from(to).unwrap_or(u32::MAX);
        true
    }

    pub(crate) fn segments(&self) -> &[Vec<u8>] {
        &self.segments
    }
}
