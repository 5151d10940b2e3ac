//! Snapshots that are larger than a chunk.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, CHUNK_BYTES_MAX, Import, ImportError, KeySpan, Limits, Revision, State, View};
use support::{apply, checkpoint, put};

/// Keys on disk and in memory, superseded versions, values larger than a chunk.
fn large_state() -> State<MemEngine> {
    let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
    for key in 0..300_i64 {
        let revision = state.revision().next().0;
        let len = if key % 100 == 7 { 1_500_000 } else { 700 };
        let value = vec![u8::try_from(key % 251).unwrap(); len];
        apply(&mut state, vec![put(&key.to_be_bytes(), revision, revision, 1, &value)]);
        if key == 150 {
            checkpoint(&mut state);
        }
    }
    let revision = state.revision().next().0;
    apply(&mut state, vec![put(&0_i64.to_be_bytes(), 2, revision, 2, b"newer")]);
    let meta = vec![(Bytes::from("lease"), Some(Bytes::from(vec![9; 300_000])))];
    let index = state.applied().index + 1;
    state.apply(Batch { index, term: 1, meta, compact: Some(Revision(9)), ..Batch::default() });
    state
}

fn import(chunks: &[Bytes]) -> Result<State<MemEngine>, ImportError> {
    let limits = Limits { import_write_bytes: 100_000, ..Limits::default() };
    let mut import = Import::begin(Arc::new(MemEngine::new()), limits)?;
    for chunk in chunks {
        import.push(chunk)?;
    }
    import.finish()
}

fn export(view: &View) -> Vec<Bytes> {
    view.export().map(Result::unwrap).collect()
}

#[test]
fn a_large_state_arrives_whole() {
    let view = large_state().view();
    let chunks = export(&view);
    assert!(chunks.len() > 10);
    assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_BYTES_MAX));
    let bytes: usize = chunks.iter().map(Bytes::len).sum();
    assert!(bytes < 6_000_000, "nothing travels twice: {bytes}");
    let imported = import(&chunks).unwrap();
    assert_eq!(imported.view().hash().unwrap(), view.hash().unwrap());
    assert_eq!(imported.durable(), view.applied());
    assert_eq!(imported.compacted(), Revision(9));
    let old = imported.view().get(&0_i64.to_be_bytes(), Revision(9)).unwrap().unwrap();
    assert_eq!(old.value().len(), 700);
    assert_eq!(imported.view().count(&KeySpan::all(), imported.revision()).unwrap(), 300);
    assert_eq!(export(&imported.view()), chunks, "the same state is the same snapshot");
}

#[test]
fn chunks_lost_doubled_swapped_or_mixed_are_noticed() {
    let mut state = large_state();
    let chunks = export(&state.view());
    let revision = state.revision().next().0;
    apply(&mut state, vec![put(b"one more", revision, revision, 1, b"")]);
    let others = export(&state.view());
    for index in 0..chunks.len() {
        let mut lost = chunks.clone();
        lost.remove(index);
        assert!(import(&lost).is_err(), "{index} lost");
        let mut doubled = chunks.clone();
        doubled.insert(index, chunks[index].clone());
        assert!(import(&doubled).is_err(), "{index} doubled");
        let mut damaged = chunks.clone();
        damaged[index] = damaged[index].slice(..damaged[index].len() - 1);
        assert!(import(&damaged).is_err(), "{index} cut short");
        if index > 0 {
            let mut swapped = chunks.clone();
            swapped.swap(index - 1, index);
            assert!(import(&swapped).is_err(), "{index} swapped");
            let mixed = [&chunks[..index], &others[index..]].concat();
            assert!(import(&mixed).is_err(), "{index} of another snapshot");
        }
    }
    assert!(matches!(import(&[]), Err(ImportError::CutShort)));
}

#[test]
fn a_row_beyond_the_limit_is_refused_before_it_is_kept() {
    let limits = Limits { import_row_bytes: 1_000_000, ..Limits::default() };
    let mut import = Import::begin(Arc::new(MemEngine::new()), limits).unwrap();
    let chunks = export(&large_state().view());
    let refused = chunks.iter().find_map(|chunk| import.push(chunk).err());
    assert!(matches!(refused, Some(ImportError::Malformed("row too long"))), "{refused:?}");
}

/// Whatever is changed in a chunk, the import says so before it ends, and never panics. `QUORATE_FUZZ_CASES` (2,000
/// unless set) and `QUORATE_FUZZ_SEED` (1) make it longer, or another.
#[test]
fn a_mangled_chunk_is_never_taken_for_a_state() {
    let variable = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let (cases, mut seed) =
        (variable("QUORATE_FUZZ_CASES", 2_000), variable("QUORATE_FUZZ_SEED", 1));
    // splitmix64 (Steele, Lea and Flood 2014).
    let mut roll = move |end: usize| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    };
    let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
    for key in 0..40_i64 {
        let revision = state.revision().next().0;
        apply(&mut state, vec![put(&key.to_be_bytes(), revision, revision, 1, b"value")]);
    }
    let chunks = export(&state.view());
    assert!(import(&chunks).is_ok());
    for case in 0..cases {
        let mut mangled = chunks.clone();
        let index = roll(mangled.len());
        let mut bytes = mangled[index].to_vec();
        let at = roll(bytes.len());
        match roll(4) {
            0 => bytes[at] ^= 1 << roll(8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, u8::try_from(roll(256)).unwrap()),
            _ => bytes.extend_from_slice(&chunks[index][at..]),
        }
        if bytes[..] == chunks[index][..] {
            continue;
        }
        mangled[index] = bytes.into();
        assert!(import(&mangled).is_err(), "case {case}: chunk {index} at {at}");
    }
}
