//! What the decoders of this crate promise of any bytes, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::engine::mem::MemEngine;
use crate::export::CHUNK_HEAD_BYTES;
use crate::layout::{self, EventCommit, EventKey, EventsWriter, Mark};
use crate::state::AppliedMark;
use crate::types::{Change, Commit, LeaseId, Record, Revision};
use crate::{Batch, Import, ImportError, Limits, State, View};

/// One row of the engine: a byte that says of which table, a byte that says how long its key is,
/// key and value. What decodes is, to the byte, what its encoder writes.
#[must_use]
pub fn state_row(data: &[u8]) -> bool {
    let &[table, key_len, ref rest @ ..] = data else { return false };
    let (key, value) = rest.split_at(rest.len().min(usize::from(key_len)));
    let value = Bytes::copy_from_slice(value);
    match table % 4 {
        0 => record(value),
        1 => version_row(key),
        2 => events_row(key, &value),
        _ => mark(&value),
    }
}

fn record(value: Bytes) -> bool {
    let Ok(record) = Record::decode(value.clone()) else { return false };
    let Record { create_revision, mod_revision, version, lease, .. } = record;
    let key = record.key();
    let again = Record::new(&key, create_revision, mod_revision, version, &record.value(), lease);
    assert_eq!(again.encoded, value, "a version has one encoding");
    true
}

fn version_row(row: &[u8]) -> bool {
    let Ok((key, revision)) = layout::read_version_row(row) else { return false };
    assert_eq!(layout::version_row(&key, revision), row, "a version's row has one encoding");
    true
}

fn events_row(key: &[u8], value: &Bytes) -> bool {
    let Ok(commits) = layout::read_events(key, value) else { return false };
    let mut writer = EventsWriter::default();
    for commit in &commits {
        writer.push_keys(commit);
    }
    let (again, encoded) = writer.take().expect("no row is without a commit");
    assert_eq!((&again[..], &encoded), (key, value), "a row of events has one encoding");
    true
}

fn mark(value: &[u8]) -> bool {
    let Ok(mark) = Mark::decode(value) else { return false };
    assert_eq!(mark.encode(), value, "a mark has one encoding");
    true
}

/// A row of each kind.
#[must_use]
pub fn state_row_samples() -> Vec<Vec<u8>> {
    let row = |table: u8, key: &[u8], value: &[u8]| {
        let key_len = u8::try_from(key.len()).expect("samples are short");
        [&[table, key_len], key, value].concat()
    };
    let record = Record::new(b"a", Revision(5), Revision(7), 3, b"value", Some(LeaseId(-1)));
    let bare = Record::new(b"key", Revision(2), Revision(2), 1, b"", None);
    let mut writer = EventsWriter::default();
    for revision in [5, 6, 400] {
        let change = |key: &'static [u8], deleted| EventKey { key: key.into(), deleted };
        let changes = vec![change(b"a", true), change(b"", false), change(b"longer", false)];
        writer.push_keys(&EventCommit { revision: Revision(revision), changes });
    }
    let (events_key, events) = writer.take().expect("commits were pushed");
    let mark = Mark {
        applied: AppliedMark { index: 9, term: 3 },
        revision: Revision(7),
        compacted: Revision(5),
        collected: Revision(4),
        live_keys: 2,
    };
    vec![
        row(0, &[], &record.encoded),
        row(0, &[], &bare.encoded),
        row(1, &layout::version_row(b"a\0b", Revision(300)), &[]),
        row(2, &events_key, &events),
        row(3, &[], &mark.encode()),
    ]
}

/// So many bytes of rows make a chunk here: rows lie across chunks.
const PIECE_BYTES: usize = 100;

/// A state on its way from another member: the bytes are the rows, and the chunks around them are
/// whole, so that the rows are looked at. What is taken for a state can be used as one.
#[must_use]
pub fn state_stream(data: &[u8]) -> bool {
    let (Ok(state), Some(_)) = (import(&chunks(data)), data.first()) else { return false };
    let view = state.view();
    let hash = view.hash().expect("a state that was accepted can be read");
    let sent: Vec<Bytes> =
        view.export().collect::<Result<_, _>>().expect("a state that was accepted can be sent");
    let again = import(&sent).expect("a state that was sent is accepted").view();
    assert_eq!(again.hash().expect("readable"), hash, "a state survives the way");
    assert_eq!(again.applied(), view.applied());
    true
}

/// The chunks of [`state_stream`], any bytes.
#[must_use]
pub fn state_chunks(data: &[u8]) -> bool {
    let sizes = data.chunks(CHUNK_HEAD_BYTES + PIECE_BYTES);
    import(&sizes.map(Bytes::copy_from_slice).collect::<Vec<_>>()).is_ok()
}

fn import(chunks: &[Bytes]) -> Result<State<MemEngine>, ImportError> {
    let limits = Limits { import_write_bytes: 1000, ..Limits::default() };
    let mut import = Import::begin(Arc::new(MemEngine::new()), limits)?;
    for chunk in chunks {
        import.push(chunk)?;
    }
    import.finish()
}

/// Chunks that are whole, around any rows.
fn chunks(rows: &[u8]) -> Vec<Bytes> {
    let mut sum = 0;
    let chunk = |(ordinal, piece): (usize, &[u8])| {
        let mut rest = Vec::with_capacity(CHUNK_HEAD_BYTES);
        rest.put_u64(ordinal as u64);
        rest.put_u32(u32::try_from(piece.len()).expect("a piece is short"));
        sum = crate::export::chunk_sum(sum, &rest, piece);
        [&sum.to_be_bytes(), &rest[..], piece].concat().into()
    };
    rows.chunks(PIECE_BYTES).enumerate().map(chunk).collect()
}

fn sample_views() -> Vec<View> {
    let mut state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
    let mut views = vec![state.view()];
    for (key, version) in [(&b"a"[..], 1), (b"b\0", 1), (b"a", 2), (b"c", 1)] {
        let revision = state.revision().next();
        let created = if version == 1 { revision } else { Revision(2) };
        let record = Record::new(key, created, revision, version, b"value", None);
        let change = Change { key: record.key(), record: Some(record) };
        let commit = Some(Arc::new(Commit { revision, changes: vec![change] }));
        let index = state.applied().index + 1;
        let meta = vec![(Bytes::from_static(b"row"), Some(Bytes::copy_from_slice(key)))];
        state.apply(Batch { index, term: 1, commit, meta, ..Batch::default() });
    }
    views.push(state.view());
    let revision = state.revision().next();
    let change = Change { key: Bytes::from_static(b"c"), record: None };
    let commit = Some(Arc::new(Commit { revision, changes: vec![change] }));
    let index = state.applied().index + 1;
    let compact = Some(Revision(3));
    state.apply(Batch { index, term: 2, commit, compact, ..Batch::default() });
    views.push(state.view());
    views
}

fn sent() -> Vec<Vec<Bytes>> {
    let send = |view: &View| view.export().collect::<Result<_, _>>().expect("memory is readable");
    sample_views().iter().map(send).collect()
}

/// The rows of an empty state, of one with history, and of one that was compacted.
#[must_use]
pub fn state_stream_samples() -> Vec<Vec<u8>> {
    let rows = |chunks: Vec<Bytes>| {
        chunks.iter().flat_map(|chunk| chunk[CHUNK_HEAD_BYTES..].to_vec()).collect()
    };
    sent().into_iter().map(rows).collect()
}

/// The same with their chunks around them.
#[must_use]
pub fn state_chunks_samples() -> Vec<Vec<u8>> {
    state_stream_samples().iter().map(|rows| chunks(rows).concat()).collect()
}
