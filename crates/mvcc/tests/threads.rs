//! Readers on other threads while the writer applies, checkpoints and collects.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Commit, KeySpan, Limits, Reader, Revision, State};
use support::put;

const COMMITS: i64 = 4_000;
const KEYS: u8 = 8;

/// Every commit writes all keys with its own revision, and the revision into a meta key.
fn next(state: &State<MemEngine>) -> Batch {
    let revision = state.revision().next();
    let value = revision.0.to_be_bytes();
    let changes = (0..KEYS).map(|key| put(&[key], 2, revision.0, revision.0 - 1, &value));
    let commit = Some(Arc::new(Commit { revision, changes: changes.collect() }));
    let meta = vec![(Bytes::from("revision"), Some(Bytes::copy_from_slice(&value)))];
    let compact = (revision.0 % 50 == 0).then_some(Revision(revision.0 - 20));
    Batch { index: state.applied().index + 1, term: 1, commit, meta, compact }
}

/// Reads until told to stop; each view must show one revision, everywhere, and all it promises.
fn read(reader: &Reader, over: &AtomicBool) -> u64 {
    let (mut views, mut newest) = (0, Revision(1));
    while !over.load(Ordering::Acquire) {
        let view = reader.view();
        let at = view.revision();
        assert!(at >= newest, "a later view never shows less");
        newest = at;
        if at == Revision(1) {
            continue;
        }
        views += 1;
        let revisions = |at| -> Vec<_> {
            let records = view.scan(&KeySpan::all(), at).unwrap();
            records.map(|record| record.unwrap().mod_revision).collect()
        };
        assert_eq!(revisions(at), [at; KEYS as usize]);
        let meta = view.meta_get(b"revision").unwrap().unwrap();
        assert_eq!(meta, &at.0.to_be_bytes()[..]);
        let old = view.compacted().max(Revision(2));
        assert_eq!(revisions(old), [old; KEYS as usize]);
        assert_eq!(view.count(&KeySpan::all(), at).unwrap(), u64::from(KEYS));
        assert_eq!(view.get(&[3], at).unwrap().unwrap().mod_revision, at);
        let events = view.events(old..=at).unwrap().map(|commit| commit.unwrap().revision.0);
        assert!(events.eq(old.0..=at.0), "events from {old} to {at}");
    }
    views
}

#[test]
fn every_view_is_whole_whatever_the_writer_does() {
    let limits = Limits { checkpoint_write_bytes: 4000, ..Limits::default() };
    let mut state = State::open_with(Arc::new(MemEngine::new()), limits).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = state.reader();
                scope.spawn(|| {
                    let reader = reader;
                    read(&reader, &over)
                })
            })
            .collect();
        let mut jobs = 0;
        while state.revision().0 < COMMITS {
            // The job of this round runs on a thread of its own while the writer goes on.
            let checkpoint = state.freeze();
            let collect = if checkpoint.is_none() { state.collect() } else { None };
            let job = scope.spawn(move || match (checkpoint, collect) {
                (Some(job), _) => Some(job.run().unwrap()),
                (None, Some(job)) => Some(job.run().unwrap()),
                (None, None) => None,
            });
            for _ in 0..40 {
                let batch = next(&state);
                state.apply(batch);
            }
            if let Some(done) = job.join().unwrap() {
                jobs += 1;
                drop(state.finish(done));
            }
            if let Some(job) = state.collect() {
                jobs += 1;
                drop(state.finish(job.run().unwrap()));
            }
        }
        over.store(true, Ordering::Release);
        let views: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(jobs > 100 && views > 100, "{jobs} jobs, {views} views");
    });
}
