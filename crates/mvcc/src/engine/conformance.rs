//! What every engine must do, as a suite that runs on any of them.
//!
//! Call [`run`] from a test of the engine. Each part begins with a fresh engine and panics on
//! the first thing that is not as the port says.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Engine, Snapshot, Table, Write};
use crate::engine::mem::MemEngine;
use crate::{Batch, Change, Commit, Record, Revision, State};

const TABLES: [Table; 4] = [Table::Latest, Table::Versions, Table::Events, Table::Meta];

type Rows = Vec<(Bytes, Bytes)>;

/// Runs the whole suite. `fresh` makes an empty engine, apart from all others it has made;
/// `reopen` closes an engine and opens it again, as a restart of the process would.
///
/// # Panics
/// If the engine does not conform.
pub fn run<E: Engine>(mut fresh: impl FnMut() -> E, mut reopen: impl FnMut(E) -> E) {
    a_fresh_engine_is_empty(&fresh());
    tables_are_apart(&fresh());
    spans_have_their_bounds(&fresh());
    odd_keys_and_values_are_kept(fresh(), &mut reopen);
    a_snapshot_never_changes(&fresh());
    a_batch_is_seen_whole_or_not_at_all(&fresh());
    random_batches_read_as_a_map_says(fresh(), &mut reopen);
    shrinking_loses_nothing(fresh(), &mut reopen);
    a_state_on_it_reads_as_one_in_memory(fresh(), &mut reopen);
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write::Put(table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value))
}

fn delete(table: Table, key: &[u8]) -> Write {
    Write::Delete(table, Bytes::copy_from_slice(key))
}

fn write<E: Engine>(engine: &E, batch: &[Write]) {
    engine.write(batch).expect("a write succeeds");
}

fn snapshot<E: Engine>(engine: &E) -> E::Snapshot {
    engine.snapshot().expect("a snapshot can be taken")
}

fn get(snapshot: &impl Snapshot, table: Table, key: &[u8]) -> Option<Bytes> {
    snapshot.get(table, key).expect("a read succeeds")
}

/// The first `limit` rows of a span.
fn rows(
    snapshot: &impl Snapshot,
    table: Table,
    (start, end): (&[u8], Option<&[u8]>),
    limit: usize,
    back: bool,
) -> Rows {
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        assert!(rows.len() < limit, "visited after a break");
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        if rows.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    if back {
        snapshot.scan_back(table, start, end, &mut visit).expect("a read succeeds");
    } else {
        snapshot.scan(table, start, end, &mut visit).expect("a read succeeds");
    }
    rows
}

fn all(snapshot: &impl Snapshot, table: Table) -> Rows {
    rows(snapshot, table, (b"", None), usize::MAX, false)
}

fn a_fresh_engine_is_empty<E: Engine>(engine: &E) {
    let empty = snapshot(engine);
    for table in TABLES {
        assert_eq!(get(&empty, table, b"k"), None);
        assert_eq!(all(&empty, table), []);
        assert_eq!(rows(&empty, table, (b"", None), 1, true), []);
    }
    write(engine, &[]);
    write(engine, &[delete(Table::Latest, b"absent")]);
    assert_eq!(all(&snapshot(engine), Table::Latest), []);
    let (total, used) = engine.size_bytes().expect("the size is known");
    assert!(used <= total, "no more in use than there is");
}

fn tables_are_apart<E: Engine>(engine: &E) {
    let batch: Vec<_> =
        TABLES.map(|table| put(table, b"k", format!("{table:?}").as_bytes())).into();
    write(engine, &batch);
    write(engine, &[put(Table::Latest, b"other", b"x"), delete(Table::Events, b"k")]);
    let after = snapshot(engine);
    for table in TABLES {
        let expected = (table != Table::Events).then(|| Bytes::from(format!("{table:?}")));
        assert_eq!(get(&after, table, b"k"), expected);
    }
    assert_eq!(all(&after, Table::Latest).len(), 2);
    assert_eq!(all(&after, Table::Meta).len(), 1);
}

fn spans_have_their_bounds<E: Engine>(engine: &E) {
    let keys: [&[u8]; 6] = [b"\0", b"a", b"a\0", b"b", b"b\xff", b"\xff"];
    let batch: Vec<_> = keys.iter().map(|key| put(Table::Latest, key, b"v")).collect();
    write(engine, &batch);
    let taken = snapshot(engine);
    let bounds: [&[u8]; 9] = [b"", b"\0", b"a", b"a\0", b"aa", b"b", b"c", b"\xff", b"\xff\xff"];
    for start in bounds {
        for end in bounds.map(Some).into_iter().chain([None]) {
            let inside = |key: &&[u8]| *key >= start && end.is_none_or(|end| *key < end);
            let expected: Vec<_> = keys.into_iter().filter(inside).collect();
            for limit in 1..=expected.len() + 1 {
                let ahead = rows(&taken, Table::Latest, (start, end), limit, false);
                let cut = expected.iter().take(limit);
                assert!(
                    ahead.iter().map(|(key, _)| &key[..]).eq(cut.copied()),
                    "{start:?} {end:?}"
                );
                let back = rows(&taken, Table::Latest, (start, end), limit, true);
                let cut = expected.iter().rev().take(limit);
                assert!(back.iter().map(|(key, _)| &key[..]).eq(cut.copied()), "{start:?} {end:?}");
            }
        }
    }
}

fn odd_keys_and_values_are_kept<E: Engine>(engine: E, reopen: &mut impl FnMut(E) -> E) {
    let long_key = vec![0xab; 20_000];
    let long_value = vec![0xcd; 5_000_000];
    let batch = [
        put(Table::Latest, b"empty value", b""),
        put(Table::Latest, b"long value", &long_value),
        put(Table::Latest, &long_key, b"long key"),
        put(Table::Versions, b"empty value", b""),
    ];
    write(&engine, &batch);
    let engine = reopen(engine);
    let taken = snapshot(&engine);
    assert_eq!(get(&taken, Table::Latest, b"empty value"), Some(Bytes::new()));
    assert_eq!(get(&taken, Table::Versions, b"empty value"), Some(Bytes::new()));
    assert_eq!(get(&taken, Table::Latest, b"long value"), Some(long_value.into()));
    assert_eq!(get(&taken, Table::Latest, &long_key), Some("long key".into()));
    assert_eq!(all(&taken, Table::Latest).len(), 3);
}

fn a_snapshot_never_changes<E: Engine>(engine: &E) {
    let keys: Vec<_> = (0..500).map(|key| format!("{key:05}")).collect();
    let mut held = Vec::new();
    for round in 0..20 {
        let value = format!("{round}");
        let batch = keys.iter().enumerate().map(|(index, key)| {
            let gone = (index + round) % 7 == 0;
            if gone {
                delete(Table::Latest, key.as_bytes())
            } else {
                put(Table::Latest, key.as_bytes(), value.as_bytes())
            }
        });
        write(engine, &batch.collect::<Vec<_>>());
        let taken = snapshot(engine);
        let expected = all(&taken, Table::Latest);
        held.push((taken, expected));
    }
    std::thread::scope(|scope| {
        let check = |(taken, expected): (E::Snapshot, Rows)| {
            scope.spawn(move || assert_eq!(all(&taken, Table::Latest), expected));
        };
        held.into_iter().for_each(check);
    });
}

fn a_batch_is_seen_whole_or_not_at_all<E: Engine>(engine: &E) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0_u64;
            while !over.load(Ordering::Acquire) || seen == 0 {
                let taken = snapshot(engine);
                let latest = all(&taken, Table::Latest);
                let values: Vec<_> = latest.iter().map(|(_, value)| value.clone()).collect();
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "a torn batch");
                let mark = get(&taken, Table::Meta, b"mark");
                assert_eq!(mark.as_ref(), values.first(), "a torn batch");
                seen += u64::from(mark.is_some());
            }
            seen
        });
        for round in 0..100_u32 {
            let value = round.to_be_bytes();
            let latest = (0..50_u8).map(|key| put(Table::Latest, &[key], &value));
            let batch: Vec<_> = latest.chain([put(Table::Meta, b"mark", &value)]).collect();
            write(engine, &batch);
        }
        over.store(true, Ordering::Release);
        assert!(reader.join().expect("the reader saw no torn batch") > 0);
    });
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn random_batches_read_as_a_map_says<E: Engine>(engine: E, reopen: &mut impl FnMut(E) -> E) {
    let mut random = Random(1);
    let mut engine = engine;
    let mut map: BTreeMap<(Table, Bytes), Bytes> = BTreeMap::new();
    for round in 0..60 {
        let mut batch: BTreeMap<(Table, Bytes), Option<Bytes>> = BTreeMap::new();
        for _ in 0..random.below(200) {
            let table = TABLES[usize::try_from(random.below(4)).expect("below four")];
            let key = Bytes::from(random.below(2000).to_string());
            let len = usize::try_from(random.below(600)).expect("a short value");
            let value = (random.below(3) > 0).then(|| vec![round; len].into());
            batch.insert((table, key), value);
        }
        let writes = batch.iter().map(|((table, key), value)| match value {
            Some(value) => Write::Put(*table, key.clone(), value.clone()),
            None => Write::Delete(*table, key.clone()),
        });
        write(&engine, &writes.collect::<Vec<_>>());
        for (place, value) in batch {
            match value {
                Some(value) => map.insert(place, value),
                None => map.remove(&place),
            };
        }
        if random.below(10) == 0 {
            engine = reopen(engine);
        }
        let taken = snapshot(&engine);
        for table in TABLES {
            let expected = map.iter().filter(|((other, _), _)| *other == table);
            let expected: Rows =
                expected.map(|((_, k), value)| (k.clone(), value.clone())).collect();
            assert_eq!(all(&taken, table), expected);
        }
        for _ in 0..50 {
            let table = TABLES[usize::try_from(random.below(4)).expect("below four")];
            let key = Bytes::from(random.below(2000).to_string());
            assert_eq!(get(&taken, table, &key).as_ref(), map.get(&(table, key)));
        }
    }
}

fn shrinking_loses_nothing<E: Engine>(engine: E, reopen: &mut impl FnMut(E) -> E) {
    let key = |key: u32| key.to_be_bytes();
    let batch: Vec<_> = (0..2000).map(|k| put(Table::Latest, &key(k), &[7; 1000])).collect();
    write(&engine, &batch);
    let before = snapshot(&engine);
    let batch: Vec<_> = (100..2000).map(|k| delete(Table::Latest, &key(k))).collect();
    write(&engine, &batch);
    engine.shrink().expect("an engine can be shrunk while a snapshot is held");
    assert_eq!(all(&before, Table::Latest).len(), 2000);
    drop(before);
    engine.shrink().expect("an engine can be shrunk");
    assert_eq!(all(&snapshot(&engine), Table::Latest).len(), 100);
    let engine = reopen(engine);
    assert_eq!(all(&snapshot(&engine), Table::Latest).len(), 100);
    let (total, used) = engine.size_bytes().expect("the size is known");
    assert!(used <= total, "no more in use than there is");
}

fn a_state_on_it_reads_as_one_in_memory<E: Engine>(engine: E, reopen: &mut impl FnMut(E) -> E) {
    let mut random = Random(2);
    let mut twin = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
    let mut engine = Some(engine);
    for _ in 0..5 {
        let shared = Arc::new(engine.take().expect("it was put back"));
        let mut state = State::open(Arc::clone(&shared)).expect("the engine opens");
        assert_eq!(state.applied(), twin.applied());
        for _ in 0..300 {
            let batch = random_batch(&mut random, &twin);
            twin.apply(batch.clone());
            state.apply(batch);
            if random.below(100) == 0 {
                checkpoint(&mut state);
            }
        }
        checkpoint(&mut state);
        while let Some(job) = state.collect() {
            drop(state.finish(job.run().expect("the engine works")));
        }
        let (ours, theirs) = (state.view(), twin.view());
        assert_eq!(ours.hash().expect("readable"), theirs.hash().expect("readable"));
        drop((state, ours));
        let engine_again = Arc::into_inner(shared).expect("nothing else holds the engine");
        engine = Some(reopen(engine_again));
    }
}

fn checkpoint<E: Engine>(state: &mut State<E>) {
    if let Some(job) = state.freeze() {
        drop(state.finish(job.run().expect("the engine works")));
    }
}

fn random_batch(random: &mut Random, state: &State<MemEngine>) -> Batch {
    let index = state.applied().index + 1;
    let mut batch = Batch { index, term: 1, ..Batch::default() };
    let revision = state.revision().next();
    let key = Bytes::from(random.below(50).to_string());
    let old = state.view().get(&key, state.revision()).expect("readable");
    let record = match old {
        Some(_) if random.below(5) == 0 => None,
        old => {
            let create = old.as_ref().map_or(revision, |old| old.create_revision);
            let version = old.as_ref().map_or(1, |old| old.version + 1);
            let value = vec![7; usize::try_from(random.below(300)).expect("a short value")];
            Some(Record::new(&key, create, revision, version, &value, None))
        }
    };
    batch.commit = Some(Arc::new(Commit { revision, changes: vec![Change { key, record }] }));
    if random.below(3) == 0 {
        let key = Bytes::from(random.below(10).to_string());
        batch.meta.push((key, Some(Bytes::from(index.to_string()))));
    }
    if random.below(50) == 0 {
        let behind = i64::try_from(random.below(20)).expect("below twenty");
        batch.compact = Some(Revision((revision.0 - behind).max(0)));
    }
    batch
}
