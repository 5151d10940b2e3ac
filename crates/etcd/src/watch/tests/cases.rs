//! Single cases: what is shared, what is bounded, who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Change, Commit, Record, Revision, State, View};
use prost::Message as _;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::super::{Config, Hub, Kind, Limits, RequestError, StreamId};

struct Case {
    state: State<MemEngine>,
    hub: Hub,
}

impl Case {
    fn new(limits: Limits) -> Self {
        let state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
        let config = Config { cluster_id: 1, member_id: 2, limits, seed: 5 };
        Self { hub: Hub::new(config, state.revision(), 3), state }
    }

    fn view(&self) -> View {
        self.state.view()
    }

    /// Applies one put of a value of `bytes`, without publishing it.
    fn put(&mut self, key: &'static str, bytes: usize) -> Arc<Commit> {
        self.put_all(&[key], bytes)
    }

    fn put_all(&mut self, keys: &[&'static str], bytes: usize) -> Arc<Commit> {
        let revision = self.state.revision().next();
        let change = |key: &&'static str| {
            let record =
                Record::new(key.as_bytes(), revision, revision, 1, &vec![b'v'; bytes], None);
            Change { key: Bytes::from_static(key.as_bytes()), record: Some(record) }
        };
        let commit = Arc::new(Commit { revision, changes: keys.iter().map(change).collect() });
        let index = u64::try_from(revision.0).expect("positive");
        let batch = Batch { index, term: 1, commit: Some(Arc::clone(&commit)), ..Batch::default() };
        self.state.apply(batch);
        commit
    }

    fn publish(&mut self, commit: &Commit) {
        let view = self.view();
        self.hub.publish(commit, &view).expect("memory does not fail");
    }

    fn put_and_publish(&mut self, key: &'static str, bytes: usize) {
        let commit = self.put(key, bytes);
        self.publish(&commit);
    }

    fn compact(&mut self, to: i64) {
        let index = self.state.applied().index + 1;
        let compact = Some(Revision(to));
        self.state.apply(Batch { index, term: 1, compact, ..Batch::default() });
    }

    fn catch_up(&mut self, commits: usize) -> usize {
        let view = self.view();
        self.hub.catch_up(&view, commits).expect("memory does not fail")
    }

    fn open(&mut self) -> StreamId {
        self.hub.open(Duration::ZERO)
    }

    fn watch(&mut self, stream: StreamId, key: &str, start: i64) {
        self.watch_with(stream, WatchCreateRequest { start_revision: start, ..one(key) });
    }

    fn watch_with(&mut self, stream: StreamId, request: WatchCreateRequest) {
        self.hub.create(stream, &request).expect("there is room");
        let message = self.hub.take(stream).expect("an answer");
        assert_eq!(*message.kind(), Kind::Created);
    }

    fn take(&mut self, stream: StreamId) -> Option<WatchResponse> {
        let bytes = self.hub.take(stream)?.to_bytes();
        Some(WatchResponse::decode(bytes).expect("an answer is a WatchResponse"))
    }

    /// The revisions of all events that wait in a stream.
    fn told(&mut self, stream: StreamId) -> Vec<i64> {
        let answers = std::iter::from_fn(|| self.take(stream));
        let events = answers.flat_map(|answer| answer.events);
        events.map(|event| event.kv.expect("a key").mod_revision).collect()
    }
}

fn one(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() }
}

#[test]
fn a_thousand_watchers_of_one_key_share_one_event() {
    let mut case = Case::new(Limits::default());
    let streams: Vec<_> = (0..1000).map(|_| case.open()).collect();
    for stream in &streams {
        case.watch(*stream, "k", 0);
    }
    assert_eq!(case.hub.counts().topics, 1);
    case.put_and_publish("k", 100);
    let mut shared = None;
    for stream in streams {
        assert!(case.hub.next_ready().is_some(), "each stream is named");
        let (_, events) = case.hub.take(stream).expect("told").into_parts();
        let first = *shared.get_or_insert(events.as_ptr());
        assert_eq!(first, events.as_ptr(), "the same bytes");
    }
    assert_eq!(case.hub.next_ready(), None);
}

#[test]
fn watchers_of_one_commit_that_want_different_things_share_what_is_the_same() {
    let mut case = Case::new(Limits::default());
    let stream = case.open();
    let all = WatchCreateRequest { range_end: Bytes::from_static(&[0]), ..one("a") };
    case.watch_with(stream, one("b"));
    case.watch_with(stream, all.clone());
    case.watch_with(stream, all);
    let commit = case.put_all(&["a", "b"], 50);
    case.publish(&commit);
    let parts: Vec<_> = std::iter::from_fn(|| case.hub.take(stream))
        .map(|message| message.into_parts().1)
        .collect();
    assert_eq!(parts.len(), 3);
    assert!(parts[1].ends_with(&parts[0]), "b comes last of all");
    assert_eq!(parts[1].as_ptr(), parts[2].as_ptr(), "both events are put together once");
}

#[test]
fn a_slow_stream_holds_its_bound_and_nobody_up() {
    let limits = Limits { stream_bytes_max: 10_000, ..Limits::default() };
    let mut case = Case::new(limits);
    let (slow, quick) = (case.open(), case.open());
    case.watch(slow, "k", 0);
    case.watch(quick, "k", 0);
    for _ in 0..100 {
        case.put_and_publish("k", 1000);
        assert_eq!(case.told(quick).len(), 1, "the quick one is told at once");
    }
    assert_eq!(case.hub.counts().behind, 1);
    assert!(!case.hub.accepts(slow) && case.hub.accepts(quick));
    assert_eq!(case.hub.progress(slow), Err(RequestError::Full));
    assert!(!case.hub.is_behind(), "a stalled watcher waits for room, it does not spin");
    let mut told = Vec::new();
    for _ in 0..100 {
        let waiting = case.told(slow);
        assert!(waiting.len() <= 10, "{}", waiting.len());
        told.extend(waiting);
        // A window of its own size fills the stream again.
        case.catch_up(5);
    }
    assert_eq!(told, (2..=101).collect::<Vec<_>>());
    assert_eq!(case.hub.counts().behind, 0);
    case.put_and_publish("k", 1);
    assert_eq!(case.told(slow), [102]);
}

#[test]
fn watchers_at_one_revision_read_history_once() {
    let mut case = Case::new(Limits::default());
    for _ in 0..50 {
        case.put_and_publish("k", 10);
    }
    let streams: Vec<_> = (0..100).map(|_| case.open()).collect();
    for (at, stream) in (0..).zip(&streams) {
        // Some join on the way.
        case.watch(*stream, "k", if at < 90 { 2 } else { 40 });
    }
    assert_eq!(case.catch_up(1000), 50, "each commit is read once");
    for (at, stream) in (0..).zip(streams) {
        let from = if at < 90 { 2 } else { 40 };
        assert_eq!(case.told(stream), (from..=51).collect::<Vec<_>>());
    }
}

#[test]
fn nobody_waits_for_a_long_history_or_for_newcomers() {
    let limits = Limits { window_commits_max: 10, ..Limits::default() };
    let mut case = Case::new(limits);
    for _ in 0..2000 {
        case.put_and_publish("k", 10);
    }
    let (long, short) = (case.open(), case.open());
    case.watch(long, "k", 2);
    case.watch(short, "k", 1980);
    let mut turns = 0;
    while case.hub.counts().behind > 0 && turns < 1000 {
        // Each turn a newcomer starts from the beginning.
        let newcomer = case.open();
        case.watch(newcomer, "k", 2);
        case.catch_up(10);
        turns += 1;
        if case.told(short).last() == Some(&2001) {
            break;
        }
    }
    assert!(turns <= 20, "told after {turns} turns");
}

#[test]
fn a_window_ends_after_its_bytes() {
    let limits = Limits { window_bytes_max: 5000, ..Limits::default() };
    let mut case = Case::new(limits);
    for _ in 0..20 {
        case.put_and_publish("k", 1000);
    }
    let stream = case.open();
    case.watch(stream, "k", 2);
    assert!(case.catch_up(1000) == 20);
    let answers: Vec<_> = std::iter::from_fn(|| case.take(stream)).collect();
    assert!(answers.len() >= 4, "{} answers", answers.len());
    for answer in answers {
        let last = answer.events.last().and_then(|event| event.kv.as_ref()).expect("events");
        let header = answer.header.expect("a header");
        assert_eq!(header.revision, last.mod_revision, "no further than what was told");
    }
}

#[test]
fn fragments_are_below_the_limit_and_at_least_one_event() {
    let limits = Limits { fragment_bytes: 200, ..Limits::default() };
    let mut case = Case::new(limits);
    let stream = case.open();
    let all = WatchCreateRequest { range_end: Bytes::from_static(&[0]), ..one("a") };
    case.watch_with(stream, WatchCreateRequest { fragment: true, ..all.clone() });
    case.watch_with(stream, all);
    let commit = case.put_all(&["a", "b", "c", "d", "e"], 60);
    case.publish(&commit);
    let answers: Vec<_> = std::iter::from_fn(|| case.take(stream)).collect();
    let shapes: Vec<_> = answers
        .iter()
        .map(|answer| (answer.watch_id, answer.events.len(), answer.fragment))
        .collect();
    assert_eq!(shapes, [(0, 2, true), (0, 2, true), (0, 1, false), (1, 5, false)]);

    // An event above the limit goes alone, and one event is never a fragment.
    let commit = case.put_all(&["a", "b"], 1000);
    case.publish(&commit);
    case.put_and_publish("a", 1000);
    let answers: Vec<_> = std::iter::from_fn(|| case.take(stream)).collect();
    let shapes: Vec<_> = answers
        .iter()
        .filter(|answer| answer.watch_id == 0)
        .map(|answer| (answer.events.len(), answer.fragment))
        .collect();
    assert_eq!(shapes, [(1, true), (1, false), (1, false)]);
}

#[test]
fn progress_is_told_in_time_unless_something_else_was() {
    let mut case = Case::new(Limits::default());
    let interval = case.hub.limits().progress_interval;
    let streams: Vec<_> = (0..20).map(|_| case.open()).collect();
    let notify = WatchCreateRequest { progress_notify: true, ..one("k") };
    for stream in &streams {
        case.watch_with(*stream, notify.clone());
        case.watch(*stream, "quiet", 0);
    }
    let mut moments = Vec::new();
    for _ in 0..20 {
        let at = case.hub.next_deadline().expect("streams have deadlines");
        assert!(at >= interval && at <= interval + interval / 10, "{at:?}");
        case.hub.tick(at);
        moments.push(at);
    }
    moments.dedup();
    assert!(moments.len() >= 19, "streams are not told at one moment");
    for stream in &streams {
        let answer = case.take(*stream).expect("progress");
        assert_eq!((answer.watch_id, answer.events.len(), answer.created), (0, 0, false));
        assert_eq!(case.take(*stream), None, "the other watcher did not ask");
    }
    case.put_and_publish("k", 1);
    case.hub.tick(interval * 4);
    assert_eq!(case.told(streams[0]), [2]);
    assert_eq!(case.take(streams[0]), None, "it was told something");
    case.hub.tick(interval * 6);
    assert_eq!(case.take(streams[0]).and_then(|answer| answer.header).map(|h| h.revision), Some(2));
}

#[test]
fn a_watcher_that_waits_for_room_may_be_compacted_meanwhile() {
    let limits = Limits { stream_bytes_max: 500, ..Limits::default() };
    let mut case = Case::new(limits);
    let stream = case.open();
    case.watch(stream, "k", 0);
    for _ in 0..10 {
        case.put_and_publish("k", 200);
    }
    case.compact(9);
    assert_eq!(case.told(stream), [2, 3], "what fitted");
    case.catch_up(100);
    let answer = case.take(stream).expect("an end");
    assert!(answer.canceled && !answer.created);
    assert_eq!((answer.watch_id, answer.compact_revision), (0, 9));
    assert_eq!(case.hub.counts().watchers, 0);
    case.watch(stream, "k", 9);
    case.catch_up(100);
    assert_eq!(case.told(stream), [9, 10, 11], "the compacted revision itself can be watched");
}

#[test]
fn the_watchers_of_a_stream_are_bounded() {
    let limits = Limits { watchers_per_stream_max: 3, ..Limits::default() };
    let mut case = Case::new(limits);
    let stream = case.open();
    for _ in 0..3 {
        case.watch(stream, "k", 0);
    }
    case.hub.create(stream, &one("k")).expect("there is room for an answer");
    let answer = case.take(stream).expect("an answer");
    assert!(answer.created && answer.canceled && answer.watch_id == -1);
    assert_eq!(answer.cancel_reason, "etcdserver: too many watchers on one stream");
    case.hub.cancel(stream, 1).expect("there is room");
    assert!(case.take(stream).expect("an answer").canceled);
    case.watch(stream, "k", 0);
}

#[test]
fn refusals_and_unknown_requests() {
    let mut case = Case::new(Limits::default());
    let stream = case.open();
    case.hub.refuse(stream, "etcdserver: permission denied").expect("there is room");
    let answer = case.take(stream).expect("an answer");
    assert!(answer.created && answer.canceled);
    assert_eq!((answer.watch_id, answer.header.expect("a header").revision), (-1, 1));
    assert_eq!(answer.cancel_reason, "etcdserver: permission denied");
    case.hub.request(stream, WatchRequest { request_union: None }).expect("ignored");
    case.hub.cancel(stream, 9).expect("ignored");
    case.hub.progress(stream).expect("nothing to tell");
    assert_eq!(case.take(stream), None);
    case.hub.close(stream);
    case.hub.close(stream);
    assert_eq!(case.hub.create(stream, &one("k")), Err(RequestError::UnknownStream));
    assert!(!case.hub.accepts(stream));
}

#[test]
fn a_view_older_than_the_hub_is_of_no_use() {
    let mut case = Case::new(Limits::default());
    let old = case.view();
    case.put_and_publish("k", 1);
    let stream = case.open();
    case.watch(stream, "k", 2);
    assert_eq!(case.hub.catch_up(&old, 100).expect("memory does not fail"), 0);
    assert!(case.hub.is_behind());
    case.catch_up(100);
    assert_eq!(case.told(stream), [2]);
}
