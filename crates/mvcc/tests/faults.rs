//! An engine that fails, and rows that are not what was written: errors, never a wrong answer
//! by silence, never a panic.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::engine::{Engine, Snapshot, Table, Write};
use mvcc::{Batch, Change, KeySpan, OpenError, ReadError, Revision, State, View};
use support::{apply, checkpoint, put};

const TABLES: [Table; 4] = [Table::Latest, Table::Versions, Table::Events, Table::Meta];

/// A state with rows in every table, tombstones among them, and something in memory.
fn filled(engine: &Arc<MemEngine>) -> State<MemEngine> {
    let mut state = State::open(Arc::clone(engine)).unwrap();
    apply(&mut state, vec![put(b"a", 2, 2, 1, b"1"), put(b"b", 2, 2, 1, b"1")]);
    apply(&mut state, vec![put(b"a", 2, 3, 2, b"2"), put(b"c", 3, 3, 1, b"1")]);
    apply(&mut state, vec![Change { key: Bytes::from("b"), record: None }]);
    let meta = vec![(Bytes::from("lease"), Some(Bytes::from("x")))];
    let compact = Some(Revision(2));
    let index = state.applied().index + 1;
    state.apply(Batch { index, term: 1, meta, compact, ..Batch::default() });
    checkpoint(&mut state);
    apply(&mut state, vec![put(b"a", 2, 5, 3, b"3")]);
    checkpoint(&mut state);
    apply(&mut state, vec![put(b"front", 6, 6, 1, b"1")]);
    state
}

/// Every question a view can be asked, and whether it had an answer.
fn ask(view: &View) -> Vec<(&'static str, Result<(), ReadError>)> {
    let (all, now, then) = (KeySpan::all(), view.revision(), Revision(3));
    let drain = |scan: Result<mvcc::Scan<'_>, ReadError>| scan?.try_for_each(|r| r.map(drop));
    vec![
        ("get", view.get(b"a", now).map(drop)),
        ("get a missing key", view.get(b"x", now).map(drop)),
        ("get an old version", view.get(b"b", then).map(drop)),
        ("scan", drain(view.scan(&all, now))),
        ("scan back", drain(view.scan_back(&all, now))),
        ("scan old versions", drain(view.scan(&all, then))),
        ("scan old versions back", drain(view.scan_back(&all, then))),
        ("count", view.count(&all, now).map(drop)),
        ("count old versions", view.count(&all, then).map(drop)),
        ("page", view.page(&all, now, 2).map(drop)),
        ("events", view.events(then..=now).and_then(|mut e| e.try_for_each(|c| c.map(drop)))),
        ("previous", view.previous(b"a", Revision(5)).map(drop)),
        ("meta", view.meta_get(b"lease").map(drop)),
        ("meta scan", view.meta_scan(b"").and_then(|mut m| m.try_for_each(|row| row.map(drop)))),
        ("hash of keys", view.hash_kv(now).map(drop)),
        ("hash", view.hash().map(drop)),
        ("export", view.export().try_for_each(|chunk| chunk.map(drop))),
    ]
}

#[test]
fn a_failing_engine_is_an_error_everywhere_and_for_that_time_only() {
    let engine = Arc::new(MemEngine::new());
    let mut state = filled(&engine);
    let view = state.view();
    let hash = view.hash().unwrap();
    assert!(ask(&view).iter().all(|(_, answer)| answer.is_ok()));
    engine.fail_reads(true);
    for (question, answer) in ask(&view) {
        assert!(matches!(answer, Err(ReadError::Engine(_))), "{question}");
    }
    assert!(view.get(b"front", view.revision()).unwrap().is_some(), "needs no engine");
    assert!(state.freeze().unwrap().run().is_err());
    assert!(matches!(State::open(Arc::clone(&engine)), Err(OpenError::Engine(_))));
    engine.fail_reads(false);
    assert_eq!(view.hash().unwrap(), hash);
    assert!(ask(&view).iter().all(|(_, answer)| answer.is_ok()));
}

#[test]
fn a_job_that_fails_leaves_the_state_before_it() {
    let engine = Arc::new(MemEngine::new());
    let mut state = filled(&engine);
    let durable = state.durable();
    engine.fail_writes_after(Some(0));
    assert!(state.freeze().unwrap().run().is_err());
    engine.fail_writes_after(None);
    let again = State::open(engine).unwrap();
    assert_eq!(again.applied(), durable);
    assert_eq!(again.revision(), Revision(5));
    assert!(ask(&again.view()).iter().all(|(_, answer)| answer.is_ok()));
}

fn rows(engine: &MemEngine) -> Vec<(Table, Bytes, Bytes)> {
    let mut rows = Vec::new();
    for table in TABLES {
        let visit = &mut |key: &[u8], value: &[u8]| {
            rows.push((table, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        };
        engine.snapshot().unwrap().scan(table, b"", None, visit).unwrap();
    }
    rows
}

/// Damage that shows in the row itself, which every reader of the row must notice.
fn cut(value: &Bytes) -> Vec<Bytes> {
    let tail = value.slice(..value.len() - 1);
    vec![tail, [&value[..], &[0xff]].concat().into()]
}

#[test]
fn rows_cut_short_or_grown_are_noticed() {
    let engine = Arc::new(MemEngine::new());
    drop(filled(&engine));
    let mut noticed = 0;
    for (table, key, value) in rows(&engine) {
        let callers_own = table == Table::Meta && key[0] == 1;
        if value.is_empty() || callers_own {
            continue;
        }
        for damaged in cut(&value) {
            engine.write(&[Write::Put(table, key.clone(), damaged)]).unwrap();
            let Ok(state) = State::open(Arc::clone(&engine)) else {
                noticed += 1;
                continue;
            };
            let view = state.view();
            let errors = ask(&view).into_iter().filter(|(_, answer)| answer.is_err()).count();
            assert!(errors > 0, "{table:?} {key:?}");
            assert!(view.hash().is_err() && view.export().any(|chunk| chunk.is_err()));
            noticed += 1;
        }
        engine.write(&[Write::Put(table, key, value)]).unwrap();
    }
    assert!(noticed >= 16, "{noticed}");
}

#[test]
fn no_flipped_bit_makes_a_reader_panic() {
    let engine = Arc::new(MemEngine::new());
    drop(filled(&engine));
    let mut answered = 0;
    for (table, key, value) in rows(&engine) {
        for bit in 0..value.len() * 8 {
            let mut damaged = value.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            engine.write(&[Write::Put(table, key.clone(), damaged.into())]).unwrap();
            if let Ok(state) = State::open(Arc::clone(&engine)) {
                answered += ask(&state.view()).len();
            }
        }
        for bit in 0..key.len() * 8 {
            let mut other = key.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            let other = Bytes::from(other);
            engine.write(&[Write::Put(table, key.clone(), value.clone())]).unwrap();
            if rows(&engine).iter().any(|(t, k, _)| (t, k) == (&table, &other)) {
                continue;
            }
            engine.write(&[Write::Delete(table, key.clone())]).unwrap();
            engine.write(&[Write::Put(table, other.clone(), value.clone())]).unwrap();
            if let Ok(state) = State::open(Arc::clone(&engine)) {
                answered += ask(&state.view()).len();
            }
            engine.write(&[Write::Delete(table, other)]).unwrap();
        }
        engine.write(&[Write::Put(table, key, value)]).unwrap();
    }
    assert!(answered > 1000, "{answered}");
}
