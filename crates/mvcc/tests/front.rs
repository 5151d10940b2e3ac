//! The state as its users see it, before anything reaches the engine.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Change, KeySpan, ReadError, Revision, State};
use support::apply;

fn put(key: &'static str, create: i64, revision: i64, version: i64) -> Change {
    support::put(key.as_bytes(), create, revision, version, format!("v{revision}").as_bytes())
}

fn delete(key: &'static str) -> Change {
    Change { key: Bytes::from(key), record: None }
}

#[test]
fn a_view_keeps_its_revision_while_the_writer_goes_on() {
    let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
    assert_eq!(state.revision(), Revision(1));
    apply(&mut state, vec![put("a", 2, 2, 1), put("b", 2, 2, 1)]);
    let reader = state.reader();
    let old = reader.view();
    apply(&mut state, vec![put("a", 2, 3, 2), delete("b"), delete("b")]);
    let new = reader.view();

    let keys = |view: &mvcc::View, at| -> Vec<_> {
        let scan = view.scan(&KeySpan::all(), Revision(at)).unwrap();
        scan.map(|record| record.unwrap()).map(|r| (r.key(), r.mod_revision.0)).collect()
    };
    let (a, b) = (Bytes::from("a"), Bytes::from("b"));
    assert_eq!(keys(&old, 2), [(a.clone(), 2), (b.clone(), 2)]);
    assert_eq!(keys(&new, 2), [(a.clone(), 2), (b, 2)]);
    assert_eq!(keys(&new, 3), [(a, 3)]);
    assert!(matches!(old.get(b"a", Revision(3)), Err(ReadError::Future { newest: Revision(2) })));
    assert_eq!(new.get(b"a", Revision(2)).unwrap().unwrap().value(), "v2");
    assert_eq!(new.previous(b"b", Revision(3)).unwrap().unwrap().value(), "v2");
    assert_eq!(new.count(&KeySpan::all(), Revision(2)).unwrap(), 2);
    let seen: Vec<_> = new.events(Revision(1)..=Revision(9)).unwrap().map(Result::unwrap).collect();
    assert_eq!(seen.iter().map(|c| c.revision.0).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(seen[1].changes.len(), 3);
    assert_eq!(old.events(Revision(1)..=Revision(9)).unwrap().count(), 1);
}

#[test]
fn meta_and_compaction_are_published_with_their_batch() {
    let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
    apply(&mut state, vec![put("a", 2, 2, 1)]);
    let before = state.view();
    let meta = vec![
        (Bytes::from("lease/1"), Some(Bytes::from("x"))),
        (Bytes::from("lease/2"), Some(Bytes::from("y"))),
    ];
    state.apply(Batch { index: 2, term: 1, meta, ..Batch::default() });
    let meta = vec![(Bytes::from("lease/1"), None)];
    let compact = Some(Revision(2));
    state.apply(Batch { index: 3, term: 2, meta, compact, ..Batch::default() });
    let after = state.view();
    assert_eq!(before.meta_scan(b"lease/").unwrap().count(), 0);
    assert_eq!(after.meta_get(b"lease/1").unwrap(), None);
    let left: Vec<_> = after.meta_scan(b"lease/").unwrap().map(Result::unwrap).collect();
    assert_eq!(left, [(Bytes::from("lease/2"), Bytes::from("y"))]);
    assert!(before.get(b"a", Revision(1)).unwrap().is_none());
    assert!(matches!(
        after.get(b"a", Revision(1)),
        Err(ReadError::Compacted { compacted: Revision(2) })
    ));
    assert!(after.get(b"a", Revision(2)).unwrap().is_some());
    assert!(after.events(Revision(1)..=Revision(2)).is_err());
    assert_eq!(after.events(Revision(2)..=Revision(2)).unwrap().count(), 1);
}

#[test]
fn what_is_retired_is_held_by_the_readers_that_were_there_before() {
    let mut state = State::open(Arc::new(MemEngine::new())).unwrap();
    apply(&mut state, vec![put("a", 2, 2, 1)]);
    let before_the_freeze = state.view();
    let job = state.freeze().unwrap();
    let while_it_runs = state.view();
    let retired = state.finish(job.run().unwrap());
    drop(job);
    let after = state.view();
    assert!(!retired.is_last());
    drop(while_it_runs);
    assert!(!retired.is_last());
    assert!(before_the_freeze.get(b"a", Revision(2)).unwrap().is_some());
    drop(before_the_freeze);
    assert!(retired.is_last());
    drop(retired);
    assert!(after.get(b"a", Revision(2)).unwrap().is_some());
}
