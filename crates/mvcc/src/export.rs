//! A state on its way to another member: out of a view, chunk by chunk.
//!
//! What travels is what can be asked for at the view ([`crate::history`]), as rows of
//! [`crate::layout`], in an order in which each table ascends: first the mark, then keys and
//! versions, events, meta keys, and the number of rows at the end. It is read as it is sent:
//! nothing is held but a chunk and the row that did not fit.
//!
//! A row is a kind (1 byte), the lengths of its key and its value (varints), key and value. The
//! rows, one after the other, are cut into chunks wherever a chunk is full:
//!
//! | bytes | content (big endian) |
//! |---|---|
//! | 4 | CRC-32C of the chunks before and of all that follows in this one |
//! | 8 | ordinal of the chunk, from 0 |
//! | 4 | length of what follows |
//! | to the end | a piece of the rows |
//!
//! Because the sum runs on over all chunks, one that is damaged, missing, doubled, or of another
//! export is noticed at once.

use bytes::{BufMut, Bytes, BytesMut};

use crate::engine::EngineError;
use crate::error::ReadError;
use crate::events::Events;
use crate::history::History;
use crate::layout::{self, EventsWriter, Mark};
use crate::meta::MetaScan;
use crate::mutant::{self, Mutant};
use crate::record::put_len;
use crate::types::KeySpan;
use crate::view::View;

/// No chunk is longer.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a chunk before the rows.
pub(crate) const CHUNK_HEAD_BYTES: usize = 4 + 8 + 4;
/// A row of events is closed when it has so many bytes.
const EVENTS_ROW_BYTES: usize = 64 * 1024;

/// The kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The mark; first, and only once.
    Mark = 1,
    Latest = 2,
    Versions = 3,
    Events = 4,
    Meta = 5,
    /// The number of rows before it; last.
    End = 6,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let kinds = [Self::Mark, Self::Latest, Self::Versions, Self::Events, Self::Meta, Self::End];
        kinds.into_iter().find(|&kind| kind as u8 == byte)
    }
}

/// How far the export is.
enum Stage<'a> {
    Mark,
    Versions(History<'a>),
    Events(Events<'a>, EventsWriter),
    Meta(MetaScan<'a>),
    End,
    Over,
}

/// The chunks of a state, none longer than [`CHUNK_BYTES_MAX`]. See the module.
///
/// After an error it is over, and what was received is of no use.
pub struct Export<'a> {
    view: &'a View,
    stage: Stage<'a>,
    /// The key whose newest version has been written.
    key: Option<Bytes>,
    rows: u64,
    buffer: BytesMut,
    sum: u32,
    ordinal: u64,
}

impl View {
    /// Everything that this view shows, for [`Import`](crate::Import) on another member. The
    /// view is held meanwhile, and what it needs on disk with it.
    #[must_use]
    pub fn export(&self) -> Export<'_> {
        Export {
            view: self,
            stage: Stage::Mark,
            key: None,
            rows: 0,
            buffer: BytesMut::new(),
            sum: 0,
            ordinal: 0,
        }
    }
}

impl Export<'_> {
    fn row(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        self.buffer.put_u8(kind as u8);
        put_len(&mut self.buffer, key.len());
        put_len(&mut self.buffer, value.len());
        self.buffer.put_slice(key);
        self.buffer.put_slice(value);
        self.rows += 1;
    }

    /// The next rows into the buffer, or the next stage.
    fn step(&mut self) -> Result<(), EngineError> {
        match &mut self.stage {
            Stage::Mark => {
                let mark = self.mark();
                self.row(Kind::Mark, &[], &mark.encode());
                let (compacted, revision) = (self.view.compacted(), self.view.revision());
                let history = History::new(self.view.levels(), compacted, revision)?;
                self.stage = Stage::Versions(history);
            }
            Stage::Versions(history) => match history.next()? {
                Some(found) => {
                    let encoded = found.record.map_or_else(Bytes::new, |record| record.encoded);
                    let superseded = self.key.as_ref() == Some(&found.key);
                    if superseded || encoded.is_empty() {
                        if !mutant::on(Mutant::ExportLatestOnly) {
                            let row = layout::version_row(&found.key, found.revision);
                            self.row(Kind::Versions, &row, &encoded);
                        }
                    } else {
                        self.row(Kind::Latest, &found.key, &encoded);
                    }
                    self.key = Some(found.key);
                }
                None => {
                    let (from, to) = (self.view.compacted(), self.view.revision());
                    let events = Events::new(self.view.levels(), from, to);
                    self.stage = Stage::Events(events, EventsWriter::default());
                }
            },
            Stage::Events(events, writer) => {
                let commit = events.next_keys()?;
                let over = commit.is_none();
                if let Some(commit) = &commit {
                    writer.push_keys(commit);
                }
                let full = writer.len() >= EVENTS_ROW_BYTES;
                let row = if full || over { writer.take() } else { None };
                if over {
                    self.stage = Stage::Meta(self.view.meta_rows(&KeySpan::all())?);
                }
                if let Some((key, value)) = row {
                    self.row(Kind::Events, &key, &value);
                }
            }
            Stage::Meta(rows) => match rows.next_row()? {
                Some((key, value)) => self.row(Kind::Meta, &key, &value),
                None => self.stage = Stage::End,
            },
            Stage::End => {
                let rows = self.rows;
                self.row(Kind::End, &[], &rows.to_be_bytes());
                self.stage = Stage::Over;
            }
            Stage::Over => {}
        }
        Ok(())
    }

    /// What the tables of the importer will contain. Only what is retained travels, so nothing
    /// is left there to be collected.
    fn mark(&self) -> Mark {
        Mark {
            applied: self.view.applied(),
            revision: self.view.revision(),
            compacted: self.view.compacted(),
            collected: self.view.compacted(),
            live_keys: self.view.live_keys(),
        }
    }

    fn chunk(&mut self) -> Bytes {
        let len = self.buffer.len().min(CHUNK_BYTES_MAX - CHUNK_HEAD_BYTES);
        let piece = self.buffer.split_to(len);
        let mut rest = BytesMut::with_capacity(CHUNK_HEAD_BYTES - 4);
        rest.put_u64(self.ordinal);
        rest.put_u32(u32::try_from(len).expect("a chunk is short"));
        self.sum = chunk_sum(self.sum, &rest, &piece);
        self.ordinal += 1;
        let mut chunk = BytesMut::with_capacity(CHUNK_HEAD_BYTES + len);
        chunk.put_u32(self.sum);
        chunk.put_slice(&rest);
        chunk.put_slice(&piece);
        chunk.freeze()
    }
}

/// The sum of a chunk after one with the sum `before`.
pub(crate) fn chunk_sum(before: u32, head: &[u8], piece: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(before, head), piece)
}

impl Iterator for Export<'_> {
    type Item = Result<Bytes, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.buffer.len() < CHUNK_BYTES_MAX && !matches!(self.stage, Stage::Over) {
            if let Err(error) = self.step() {
                self.stage = Stage::Over;
                self.buffer.clear();
                return Some(Err(error.into()));
            }
        }
        (!self.buffer.is_empty()).then(|| Ok(self.chunk()))
    }
}
