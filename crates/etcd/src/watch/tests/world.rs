//! A state, a hub over it and clients that do as they please, from a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Batch, Change, Commit, Record, Revision, State};
use prost::Message as _;
use proto::etcdserverpb::WatchCreateRequest;
use proto::mvccpb::{Event, KeyValue};

use super::super::interval::mix;
use super::super::{Config, Hub, Limits, RequestError};
use super::client::{Asked, Client, Happened, Truth};

const LIMITS: Limits = Limits {
    stream_bytes_max: 1500,
    watchers_per_stream_max: 100,
    window_commits_max: 4,
    window_bytes_max: 400,
    fragment_bytes: 160,
    progress_interval: Duration::from_secs(10),
};

pub(super) struct World {
    random: u64,
    state: State<MemEngine>,
    index: u64,
    hub: Hub,
    now: Duration,
    /// Per revision, beginning with 2.
    history: Vec<Vec<Happened>>,
    commits: Vec<Arc<Commit>>,
    live: BTreeMap<Vec<u8>, Record>,
    clients: Vec<Client>,
    seen: Seen,
}

/// How often what happened in a run.
#[derive(Default)]
pub(super) struct Seen {
    counts: BTreeMap<&'static str, usize>,
    pub(super) trace: Vec<Bytes>,
}

impl Seen {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, times) in &other.counts {
            *self.counts.entry(what).or_default() += times;
        }
    }

    pub(super) fn check(&self) {
        for what in [
            "created",
            "refused for its start",
            "refused for its range",
            "refused for its id",
            "compacted",
            "canceled",
            "progress of a stream",
            "progress of a watch",
            "events",
            "fragment",
            "last fragment",
            "stream full",
            "fell behind",
            "jump",
            "resumed",
        ] {
            let times = self.counts.get(what).copied().unwrap_or(0);
            assert!(times >= 50, "{what}: {times} times only, of {:?}", self.counts);
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
        let config = Config { cluster_id: 1, member_id: 2, limits: LIMITS, seed };
        Self {
            random: mix(seed),
            hub: Hub::new(config, state.revision(), 3),
            state,
            index: 0,
            now: Duration::ZERO,
            history: Vec::new(),
            commits: Vec::new(),
            live: BTreeMap::new(),
            clients: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = mix(self.random);
        self.random % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn run(mut self, steps: usize) -> Seen {
        for _ in 0..steps {
            self.step();
            let limit = LIMITS.stream_bytes_max + 4 * LIMITS.window_bytes_max + 2000;
            for (_, stream) in self.hub.streams.iter() {
                assert!(stream.bytes() < limit, "a stream holds {} bytes", stream.bytes());
            }
        }
        self.settle();
        self.seen
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.random % 500);
        match self.below(100) {
            0..=29 => self.commit(),
            30..=54 => self.publish(),
            55..=63 => self.catch_up(),
            64..=79 => self.read(),
            80..=87 => self.create(),
            88..=89 => self.cancel(),
            90..=92 => self.ask_progress(),
            93 => self.hub.tick(self.now),
            94..=95 => self.compact(),
            96 => self.maintain(),
            97 => self.open(),
            98 if self.chance(30) => self.close(),
            _ => {}
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let length = self.below(2) + 1;
        (0..length).map(|_| b'a' + u8::try_from(self.below(4)).expect("small")).collect()
    }

    fn commit(&mut self) {
        let revision = self.state.revision().next();
        let mut changes: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        let mut happened = Vec::new();
        for _ in 0..[1, 1, 1, 2, 5][usize::try_from(self.below(5)).expect("small")] {
            let key = self.key();
            if changes.contains_key(&key) {
                continue;
            }
            let before = self.live.get(&key).cloned();
            let record = if before.is_some() && self.chance(30) {
                self.live.remove(&key);
                None
            } else {
                let value = vec![b'v'; usize::try_from(self.below(60)).expect("small")];
                let created = before.as_ref().map_or(revision, |record| record.create_revision);
                let version = before.as_ref().map_or(1, |record| record.version + 1);
                let record = Record::new(&key, created, revision, version, &value, None);
                self.live.insert(key.clone(), record.clone());
                Some(record)
            };
            happened.push(as_happened(&key, revision, record.as_ref(), before.as_ref()));
            changes.insert(key.clone(), Change { key: key.into(), record });
        }
        // In the order of the operations, not of the keys.
        let key_of = |at: &Happened| at.event.kv.as_ref().expect("a key").key.to_vec();
        let changes = happened.iter().map(|at| changes[&key_of(at)].clone()).collect();
        let commit = Arc::new(Commit { revision, changes });
        self.apply(Batch { commit: Some(Arc::clone(&commit)), ..Batch::default() });
        self.history.push(happened);
        self.commits.push(commit);
    }

    fn apply(&mut self, batch: Batch) {
        self.index += 1;
        self.state.apply(Batch { index: self.index, term: 1, ..batch });
    }

    fn commit_at(&self, revision: i64) -> Option<Arc<Commit>> {
        self.commits.get(usize::try_from(revision - 2).ok()?).cloned()
    }

    fn publish(&mut self) {
        let mut next = self.hub.revision().0 + 1;
        if self.chance(3) {
            next += 2;
        } else if self.chance(5) {
            // Published before: ignored.
            next -= 1;
        }
        let Some(commit) = self.commit_at(next) else { return };
        if next > self.hub.revision().0 + 1 {
            self.seen.count("jump");
        }
        let behind = self.hub.counts().behind;
        self.hub.publish(&commit, &self.state.view()).expect("memory does not fail");
        if self.hub.counts().behind > behind {
            self.seen.count("fell behind");
        }
    }

    fn catch_up(&mut self) {
        let commits = usize::try_from(self.below(12)).expect("small");
        self.hub.catch_up(&self.state.view(), commits).expect("memory does not fail");
    }

    fn read(&mut self) {
        let Some(client) = self.pick() else { return };
        for _ in 0..self.below(8) {
            self.take(client);
        }
    }

    fn pick(&mut self) -> Option<usize> {
        let count = u64::try_from(self.clients.len()).expect("few");
        // The first client is read from seldom.
        (count > 0)
            .then(|| self.below(count) * (self.below(4) + 1).min(count) % count)
            .map(|at| usize::try_from(at).expect("few"))
    }

    fn take(&mut self, client: usize) -> bool {
        let compacted = self.state.compacted().0;
        let client = &mut self.clients[client];
        let Some(message) = self.hub.take(client.stream) else { return false };
        let bytes = message.to_bytes();
        assert_eq!(bytes.len(), message.encoded_len());
        let (head, events) = message.into_parts();
        assert_eq!([head, events].concat(), bytes);
        let truth =
            Truth { history: &self.history, compacted, fragment_bytes: LIMITS.fragment_bytes };
        let kind = client.receive(&bytes, &truth);
        self.seen.count(kind);
        self.seen.trace.push(bytes);
        true
    }

    fn create(&mut self) {
        let Some(client) = self.pick() else { return };
        let asked = self.ask(client);
        let filters = [(asked.puts, 0), (asked.deletions, 1)];
        let request = WatchCreateRequest {
            key: asked.key.clone().into(),
            range_end: match &asked.end {
                None => Bytes::new(),
                Some(end) if end.is_empty() => Bytes::from_static(&[0]),
                Some(end) => end.clone().into(),
            },
            start_revision: asked.start,
            progress_notify: asked.notify,
            filters: filters.iter().filter(|(wanted, _)| !wanted).map(|(_, kind)| *kind).collect(),
            prev_kv: asked.previous,
            watch_id: asked.id,
            fragment: asked.fragment,
        };
        let client = &mut self.clients[client];
        match self.hub.create(client.stream, &request) {
            Ok(()) => client.asked.push_back(asked),
            Err(RequestError::Full) => self.seen.count("stream full"),
            Err(error) => panic!("{error}"),
        }
    }

    fn ask(&mut self, client: usize) -> Asked {
        let revision = self.state.revision().0;
        let start = match self.below(10) {
            0..=3 => 0,
            4..=6 => i64::try_from(self.below(revision.unsigned_abs() + 1)).expect("small"),
            7 => revision + i64::try_from(self.below(6)).expect("small"),
            8 => match self.clients[client].resume.pop() {
                Some(start) => {
                    self.seen.count("resumed");
                    start
                }
                None => 1,
            },
            _ if self.chance(30) => -1,
            _ => self.state.compacted().0,
        };
        let key = self.key();
        let end = match self.below(6) {
            0 | 1 => Some(Vec::new()),
            2 => Some(self.key()),
            3 => Some([&key[..], b"zz"].concat()),
            _ => None,
        };
        Asked {
            key,
            end,
            start,
            puts: !self.chance(15),
            deletions: !self.chance(15),
            previous: self.chance(50),
            fragment: self.chance(40),
            notify: self.chance(40),
            id: match self.below(30) {
                // -1 would be taken as well, but in answers it means something else.
                at @ 0..=8 => {
                    [-2, 1, 2, 3, 4, 5, 6, 7, i64::MAX][usize::try_from(at).expect("small")]
                }
                _ => 0,
            },
        }
    }

    fn cancel(&mut self) {
        let Some(client) = self.pick() else { return };
        let id = i64::try_from(self.below(6)).expect("small") - 1;
        let client = &mut self.clients[client];
        if self.hub.cancel(client.stream, id).is_ok() {
            client.canceling.insert(id);
        }
    }

    fn ask_progress(&mut self) {
        let Some(client) = self.pick() else { return };
        let _ = self.hub.progress(self.clients[client].stream);
    }

    fn compact(&mut self) {
        let (from, to) = (self.state.compacted().0, self.state.revision().0);
        let reach = i64::try_from(self.below(12)).expect("small");
        let compact = Some(Revision((from + reach).min(to)));
        self.apply(Batch { compact, ..Batch::default() });
    }

    fn maintain(&mut self) {
        if let Some(job) = self.state.freeze() {
            let done = job.run().expect("memory does not fail");
            drop(self.state.finish(done));
        }
        if let Some(job) = self.state.collect() {
            let done = job.run().expect("memory does not fail");
            drop(self.state.finish(done));
        }
    }

    fn open(&mut self) {
        if self.clients.len() < 5 {
            let stream = self.hub.open(self.now);
            self.clients.push(Client::new(stream));
        }
    }

    fn close(&mut self) {
        if let Some(at) = self.pick() {
            let client = self.clients.remove(at);
            self.hub.close(client.stream);
            assert_eq!(self.hub.take(client.stream), None);
            let gone = self.hub.progress(client.stream);
            assert_eq!(gone, Err(RequestError::UnknownStream));
        }
    }

    /// Everything is published, read and taken: every watch must have been told everything.
    fn settle(&mut self) {
        while let Some(commit) = self.commit_at(self.hub.revision().0 + 1) {
            self.hub.publish(&commit, &self.state.view()).expect("memory does not fail");
        }
        for _ in 0..10_000 {
            let read = self.hub.catch_up(&self.state.view(), 3).expect("memory does not fail");
            let took = (0..self.clients.len()).filter(|client| self.take(*client)).count();
            if read + took == 0 {
                break;
            }
        }
        assert!(!self.hub.is_behind() && self.hub.counts().behind == 0, "some never caught up");
        let revision = self.hub.revision().0;
        for at in 0..self.clients.len() {
            let stream = self.clients[at].stream;
            assert!(!self.clients[at].is_waiting(), "a request was never answered");
            self.hub.progress(stream).expect("there is room");
            let client = &self.clients[at];
            let answers = !client.watch_ids().is_empty() && client.all_started(revision);
            assert_eq!(self.take(at), answers, "progress is answered if all are synced");
            self.hub.close(stream);
        }
        let counts = self.hub.counts();
        assert_eq!((counts.streams, counts.watchers, counts.topics), (0, 0, 0), "leaked");
        assert_eq!(self.hub.next_deadline(), None);
    }
}

fn as_happened(
    key: &[u8],
    revision: Revision,
    record: Option<&Record>,
    before: Option<&Record>,
) -> Happened {
    let decode = |record: &Record| KeyValue::decode(record.encoded.clone()).expect("a version");
    let kv = match record {
        Some(record) => decode(record),
        None => KeyValue {
            key: Bytes::copy_from_slice(key),
            mod_revision: revision.0,
            ..KeyValue::default()
        },
    };
    let event = Event { r#type: i32::from(record.is_none()), kv: Some(kv), prev_kv: None };
    Happened { revision: revision.0, event, previous: before.map(decode) }
}
