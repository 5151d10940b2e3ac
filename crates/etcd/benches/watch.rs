//! What a commit costs the watch hub: `cargo bench -p quorate-etcd --bench watch`.
//!
//! Each case publishes commits of one put, takes every answer and encodes it into a buffer, as
//! a connection does. Times are CPU time of the thread as Linux counts it, so a busy machine
//! disturbs them less than a clock would; the median of several rounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use etcd::watch::{Config, Hub, Limits, StreamId};
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Change, Commit, Record, State};
use proto::etcdserverpb::WatchCreateRequest;

const ROUNDS: usize = 7;
const VALUE_BYTES: usize = 256;

struct Case {
    name: &'static str,
    watchers: usize,
    streams: usize,
    /// Key and end of the span of a watcher.
    keys: fn(usize) -> (String, String),
    /// The key of a commit.
    put: fn(usize) -> String,
    commits: usize,
    prev_kv: bool,
}

const fn one(_: usize) -> (String, String) {
    (String::new(), String::new())
}

fn cases() -> Vec<Case> {
    let own = |at: usize| (format!("/key/{at:05}"), String::new());
    let prefix = |at: usize| (format!("/key/{at:05}/"), format!("/key/{at:05}0"));
    let base = Case {
        name: "",
        watchers: 1000,
        streams: 1000,
        keys: one,
        put: |_| "/key/00500".into(),
        commits: 200,
        prev_kv: false,
    };
    vec![
        Case {
            name: "1,000 watchers of one key, a stream each",
            keys: |_| ("/key/00500".into(), String::new()),
            ..base
        },
        Case {
            name: "the same with prev_kv",
            keys: |_| ("/key/00500".into(), String::new()),
            prev_kv: true,
            ..base
        },
        Case {
            name: "1,000 watchers of everything on 10 streams",
            streams: 10,
            keys: |_| ("/".into(), "0".into()),
            ..base
        },
        Case {
            name: "10,000 watchers of a key each, a stream each",
            watchers: 10_000,
            streams: 10_000,
            keys: own,
            put: |at| format!("/key/{:05}", at * 7919 % 10_000),
            commits: 20_000,
            ..base
        },
        Case {
            name: "10,000 watchers of a prefix each, on 10 streams",
            watchers: 10_000,
            streams: 10,
            keys: prefix,
            put: |at| format!("/key/{:05}/x", at * 7919 % 10_000),
            commits: 20_000,
            ..base
        },
    ]
}

struct World {
    state: State<MemEngine>,
    hub: Hub,
    streams: Vec<StreamId>,
}

fn build(case: &Case) -> World {
    let state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
    let config =
        Config { cluster_id: 1 << 60, member_id: 1 << 61, limits: Limits::default(), seed: 1 };
    let mut hub = Hub::new(config, state.revision(), 2);
    let streams: Vec<_> = (0..case.streams).map(|_| hub.open(Duration::ZERO)).collect();
    let mut world = World { state, hub, streams };
    watch(&mut world, case, 0);
    world
}

fn watch(world: &mut World, case: &Case, start_revision: i64) {
    for at in 0..case.watchers {
        let (key, range_end) = (case.keys)(at);
        let request = WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: case.prev_kv,
            start_revision,
            ..WatchCreateRequest::default()
        };
        let stream = world.streams[at % case.streams];
        world.hub.create(stream, &request).expect("there is room");
    }
}

fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split_whitespace().next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is the time on a CPU"))
}

/// Takes and encodes all there is, as connections do.
fn drain(hub: &mut Hub, buffer: &mut BytesMut) -> usize {
    let mut answers = 0;
    while let Some(stream) = hub.next_ready() {
        while let Some(message) = hub.take(stream) {
            message.encode(buffer);
            answers += 1;
        }
        buffer.clear();
    }
    answers
}

/// Publishes, takes and encodes; returns how many answers there were.
fn run(world: &mut World, case: &Case, buffer: &mut BytesMut) -> (Duration, usize) {
    let mut commits = Vec::with_capacity(case.commits);
    for at in 0..case.commits {
        let revision = world.state.revision().next();
        let key = Bytes::from((case.put)(at));
        let record = Record::new(&key, revision, revision, 1, &[b'v'; VALUE_BYTES], None);
        let changes = vec![Change { key, record: Some(record) }];
        let commit = Arc::new(Commit { revision, changes });
        let index = u64::try_from(revision.0).expect("positive");
        let batch = Batch { index, term: 1, commit: Some(Arc::clone(&commit)), ..Batch::default() };
        world.state.apply(batch);
        commits.push(commit);
    }
    let view = world.state.view();
    let mut answers = 0;
    let start = cpu_time();
    for commit in &commits {
        world.hub.publish(commit, &view).expect("memory does not fail");
        answers += drain(&mut world.hub, buffer);
    }
    (cpu_time() - start, answers)
}

/// Watchers that start at the beginning of a history read it; returns how many answers.
fn catch_up(case: &Case, buffer: &mut BytesMut) -> (Duration, usize) {
    let none = Case { watchers: 0, streams: 0, ..*case };
    let mut world = build(&none);
    run(&mut world, case, buffer);
    world.streams = (0..case.streams).map(|_| world.hub.open(Duration::ZERO)).collect();
    watch(&mut world, case, 2);
    let view = world.state.view();
    let mut answers = 0;
    let start = cpu_time();
    while world.hub.counts().behind > 0 {
        world.hub.catch_up(&view, 1000).expect("memory does not fail");
        answers += drain(&mut world.hub, buffer);
    }
    (cpu_time() - start, answers)
}

fn main() {
    println!("{:<52} {:>12} {:>12}", "told as it happens", "us/commit", "ns/answer");
    let mut buffer = BytesMut::with_capacity(1 << 20);
    for case in cases() {
        let mut world = build(&case);
        for stream in world.streams.clone() {
            while world.hub.take(stream).is_some() {}
        }
        report(&case, (0..ROUNDS).map(|_| run(&mut world, &case, &mut buffer)).collect());
    }
    println!("\n{:<52} {:>12} {:>12}", "told later", "us/commit", "ns/answer");
    for case in cases() {
        report(&case, (0..ROUNDS).map(|_| catch_up(&case, &mut buffer)).collect());
    }
}

fn report(case: &Case, mut rounds: Vec<(Duration, usize)>) {
    rounds.sort();
    let (spent, answers) = rounds[ROUNDS / 2];
    let commit = spent.as_secs_f64() * 1e6 / case.commits as f64;
    let answer = spent.as_secs_f64() * 1e9 / answers as f64;
    println!("{:<52} {commit:>12.2} {answer:>12.0}", case.name);
}
