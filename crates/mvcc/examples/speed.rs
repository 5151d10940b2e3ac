//! What the state costs: `cargo run --release -p quorate-mvcc --example speed [keys]`.
//!
//! One thread, the engine in memory, values of 256 bytes: figures of this crate alone, to be
//! compared before and after a change. The second half is read while the first half is on the
//! engine's side and half of it has been overwritten in the front.

use std::hint::black_box;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Change, Commit, KeySpan, Record, Revision, State};

const VALUE: [u8; 256] = [7; 256];
const READS: u64 = 300_000;

/// Time this thread has spent on a processor, where the operating system tells; else the time
/// of day. A busy machine makes the second larger, not the first.
fn spent() -> Duration {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let on_processor = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split_whitespace().next().and_then(|first| first.parse().ok()));
    match on_processor {
        Some(nanos) => Duration::from_nanos(nanos),
        None => BEGIN.get_or_init(Instant::now).elapsed(),
    }
}

/// Prints what one of `count` operations of `work` took.
fn measure<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let begin = spent();
    let result = work();
    let each = (spent() - begin).as_secs_f64() / count as f64;
    println!("{what:<44} {:>9.3} us", each * 1e6);
    result
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/{number:010}").into()
}

/// A permutation-like walk, so that keys come in no order.
fn scattered(number: u64, keys: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys
}

fn batches(keys: &[Bytes], first: i64, version: i64) -> Vec<Batch> {
    let batch = |(key, revision): (&Bytes, i64)| {
        let revision = Revision(revision);
        let record = Record::new(key, Revision(2), revision, version, &VALUE, None);
        // As the layer above hands it over: the key is a slice of the encoding.
        let changes = vec![Change { key: record.key(), record: Some(record) }];
        let commit = Some(Arc::new(Commit { revision, changes }));
        Batch { index: revision.0.unsigned_abs(), term: 1, commit, ..Batch::default() }
    };
    keys.iter().zip(first..).map(batch).collect()
}

fn main() {
    let keys = std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(100_000);
    let mut state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
    let names: Vec<_> = (0..keys).map(|number| key(scattered(number, keys * 4))).collect();
    println!("{keys} keys");

    let puts = batches(&names, 2, 1);
    measure("apply a put, new key", keys, || puts.into_iter().for_each(|put| state.apply(put)));
    println!("{:<44} {:>9} bytes", "front, each put", state.front_bytes() as u64 / keys);
    reads("front", &state, &names);

    let job = state.freeze().expect("there is something to write");
    let done = measure("checkpoint, each key", keys, || job.run().expect("the engine works"));
    let retired = measure("finish", 1, || state.finish(done));
    measure("drop the memtable, each key", keys, || drop(retired));
    reads("engine", &state, &names);

    let next = state.revision().next().0;
    let half = &names[..names.len() / 2];
    let puts = batches(half, next, 2);
    let count = half.len() as u64;
    measure("apply a put, old key", count, || puts.into_iter().for_each(|put| state.apply(put)));
    reads("front over engine", &state, &names);

    let view = state.view();
    measure("hash, each key", keys, || black_box(view.hash().expect("readable")));
    measure("export, each key", keys, || black_box(view.export().count()));
}

fn reads(level: &str, state: &State<MemEngine>, names: &[Bytes]) {
    let reader = state.reader();
    let pick = |number: u64| &names[usize::try_from(number).unwrap_or(0) % names.len()];
    measure(&format!("{level}: view"), READS, || {
        (0..READS).for_each(|_| drop(black_box(reader.view())));
    });
    let view = reader.view();
    let at = view.revision();
    measure(&format!("{level}: get"), READS, || {
        for number in 0..READS {
            let name = pick(scattered(number, u64::MAX));
            black_box(view.get(name, at).expect("readable")).expect("the key is there");
        }
    });
    measure(&format!("{level}: view and get a missing key"), READS, || {
        for number in 0..READS {
            let view = reader.view();
            let name = &pick(scattered(number, u64::MAX))[1..];
            assert!(view.get(name, view.revision()).expect("readable").is_none());
        }
    });
    let live = names.len() as u64;
    let count = measure(&format!("{level}: scan, each key"), live, || {
        view.scan(&KeySpan::all(), at).expect("readable").count() as u64
    });
    measure(&format!("{level}: scan back, each key"), live, || {
        black_box(view.scan_back(&KeySpan::all(), at).expect("readable").count());
    });
    measure(&format!("{level}: count, each key"), live, || {
        assert_eq!(view.count(&KeySpan::all(), at).expect("readable"), count);
    });
    measure(&format!("{level}: list of 500, each key"), 500 * 100, || {
        for number in 0..100 {
            let span = KeySpan { start: pick(number).clone(), end: None };
            black_box(view.scan(&span, at).expect("readable").take(500).count());
        }
    });
    measure(&format!("{level}: events, each"), live, || {
        let events = view.events(Revision(2)..=at).expect("readable");
        events.for_each(|commit| drop(black_box(commit.expect("readable"))));
    });
}
