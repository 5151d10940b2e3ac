//! One stream as its client sees it, checked against all that ever happened.
//!
//! The one rule behind every check: when an answer with revision `r` arrives, the events a
//! watcher has received are exactly those it asked for from its start up to `r`. A header says
//! no less and no more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use prost::Message as _;
use proto::etcdserverpb::WatchResponse;
use proto::mvccpb::Event;

use super::super::StreamId;

/// One change as it happened: its event, and the version before as a client may be told it.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) revision: i64,
    pub(super) event: Event,
    pub(super) previous: Option<proto::mvccpb::KeyValue>,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) key: Vec<u8>,
    /// `None` is one key, an empty one is all from `key` on.
    pub(super) end: Option<Vec<u8>>,
    pub(super) start: i64,
    pub(super) puts: bool,
    pub(super) deletions: bool,
    pub(super) previous: bool,
    pub(super) fragment: bool,
    pub(super) notify: bool,
    pub(super) id: i64,
}

impl Asked {
    fn wants(&self, happened: &Happened) -> bool {
        let key = happened.event.kv.as_ref().expect("events have keys").key.to_vec();
        let within = match &self.end {
            None => key == self.key,
            Some(end) => self.key <= key && (end.is_empty() || key < *end),
        };
        within && if happened.event.r#type == 0 { self.puts } else { self.deletions }
    }

    fn is_empty_range(&self) -> bool {
        self.end.as_ref().is_some_and(|end| !end.is_empty() && *end <= self.key)
    }
}

struct Watch {
    asked: Asked,
    told: i64,
    /// Fragments of an answer that is not complete.
    parts: Vec<Event>,
}

pub(super) struct Client {
    pub(super) stream: StreamId,
    pub(super) asked: VecDeque<Asked>,
    watches: BTreeMap<i64, Watch>,
    /// Ids for which a cancellation was asked.
    pub(super) canceling: BTreeSet<i64>,
    /// Headers of watches that ended: good places to start again.
    pub(super) resume: Vec<i64>,
}

/// What happened so far, as far as it matters to a client.
pub(super) struct Truth<'a> {
    pub(super) history: &'a [Vec<Happened>],
    pub(super) compacted: i64,
    pub(super) fragment_bytes: usize,
}

impl Truth<'_> {
    fn of(&self, asked: &Asked, revisions: RangeInclusive<i64>) -> Vec<&Happened> {
        let all = self.history.iter().flatten();
        all.filter(|at| revisions.contains(&at.revision) && asked.wants(at)).collect()
    }
}

impl Client {
    pub(super) fn new(stream: StreamId) -> Self {
        Self {
            stream,
            asked: VecDeque::new(),
            watches: BTreeMap::new(),
            canceling: BTreeSet::new(),
            resume: Vec::new(),
        }
    }

    pub(super) fn watch_ids(&self) -> Vec<i64> {
        self.watches.keys().copied().collect()
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether every watch starts at or below `revision`.
    pub(super) fn all_started(&self, revision: i64) -> bool {
        self.watches.values().all(|watch| watch.asked.start <= revision)
    }

    /// Takes an answer in, and says what kind it was.
    pub(super) fn receive(&mut self, bytes: &[u8], truth: &Truth<'_>) -> &'static str {
        let answer = WatchResponse::decode(bytes).expect("an answer is a WatchResponse");
        let header = answer.header.expect("every answer has a header");
        assert_eq!((header.cluster_id, header.member_id, header.raft_term), (1, 2, 3));
        match (answer.created, answer.canceled) {
            (true, true) => self.refused(&answer),
            (true, false) => self.created(&answer, header.revision, truth),
            (false, true) => self.ended(&answer, header.revision, truth),
            (false, false) if answer.events.is_empty() => {
                self.progressed(answer.watch_id, header.revision, truth)
            }
            (false, false) => self.told(answer, header.revision, bytes.len(), truth),
        }
    }

    fn refused(&mut self, answer: &WatchResponse) -> &'static str {
        let asked = self.asked.pop_front().expect("something was asked for");
        assert_eq!((answer.watch_id, answer.compact_revision), (-1, 0));
        match answer.cancel_reason.as_str() {
            "etcdserver: mvcc: required revision has been compacted" => {
                assert!(asked.start < 0, "{asked:?}");
                "refused for its start"
            }
            "mvcc: watcher range is empty" => {
                assert!(asked.start >= 0 && asked.is_empty_range(), "{asked:?}");
                "refused for its range"
            }
            "mvcc: duplicate watch ID provided on the WatchStream" => {
                assert!(asked.start >= 0 && !asked.is_empty_range(), "{asked:?}");
                assert_ne!(asked.id, 0, "an assigned id is free");
                "refused for its id"
            }
            other => panic!("{other}"),
        }
    }

    fn created(
        &mut self,
        answer: &WatchResponse,
        revision: i64,
        truth: &Truth<'_>,
    ) -> &'static str {
        let asked = self.asked.pop_front().expect("something was asked for");
        assert!(asked.start >= 0 && !asked.is_empty_range(), "{asked:?}");
        assert!(asked.id == 0 || asked.id == answer.watch_id);
        let told = if asked.start == 0 { revision } else { asked.start - 1 };
        let missed = truth.of(&asked, told + 1..=revision);
        assert!(missed.is_empty(), "the header of a creation is beyond {missed:?}");
        let watch = Watch { asked, told, parts: Vec::new() };
        let before = self.watches.insert(answer.watch_id, watch);
        assert!(before.is_none(), "two watches with the id {}", answer.watch_id);
        "created"
    }

    fn ended(&mut self, answer: &WatchResponse, revision: i64, truth: &Truth<'_>) -> &'static str {
        let watch = self.watches.remove(&answer.watch_id).expect("what ends was there");
        assert!(watch.parts.is_empty(), "an end between fragments");
        if answer.compact_revision > 0 {
            assert!(watch.told + 1 < answer.compact_revision, "nothing it needs is compacted");
            assert!(answer.compact_revision <= truth.compacted);
            assert_eq!(revision, 0);
            return "compacted";
        }
        assert!(self.canceling.remove(&answer.watch_id), "nobody canceled it");
        let missed = truth.of(&watch.asked, watch.told + 1..=revision);
        assert!(missed.is_empty(), "the header of an end is beyond {missed:?}");
        self.resume.push(watch.told.max(revision) + 1);
        "canceled"
    }

    fn progressed(&mut self, id: i64, revision: i64, truth: &Truth<'_>) -> &'static str {
        let whole = id == -1;
        let ids = if whole { self.watch_ids() } else { vec![id] };
        assert!(!ids.is_empty(), "progress of no watch");
        for id in ids {
            let watch = self.watches.get_mut(&id).expect("progress of a watch that is there");
            assert!(watch.parts.is_empty(), "progress between fragments");
            assert!(whole || watch.asked.notify, "nobody asked for progress");
            assert!(watch.asked.start <= revision, "progress of a watch that has not started");
            assert!(watch.told <= revision, "progress goes back");
            let missed = truth.of(&watch.asked, watch.told + 1..=revision);
            assert!(missed.is_empty(), "progress beyond {missed:?}");
            watch.told = revision;
        }
        if whole { "progress of a stream" } else { "progress of a watch" }
    }

    fn told(
        &mut self,
        answer: WatchResponse,
        revision: i64,
        bytes: usize,
        truth: &Truth<'_>,
    ) -> &'static str {
        let watch =
            self.watches.get_mut(&answer.watch_id).expect("events of a watch that is there");
        assert!(revision > watch.told, "told twice");
        let fragmented = answer.fragment || !watch.parts.is_empty();
        assert!(watch.asked.fragment || !fragmented, "nobody asked for fragments");
        if watch.asked.fragment && answer.events.len() > 1 {
            assert!(bytes < truth.fragment_bytes, "a fragment of {bytes} bytes");
        }
        watch.parts.extend(answer.events);
        if answer.fragment {
            return "fragment";
        }
        let events = std::mem::take(&mut watch.parts);
        let expected = truth.of(&watch.asked, watch.told + 1..=revision);
        let revisions = |event: &Event| event.kv.as_ref().map(|kv| kv.mod_revision);
        let got: Vec<_> = events.iter().map(revisions).collect();
        let wanted: Vec<_> = expected.iter().map(|at| revisions(&at.event)).collect();
        assert_eq!(got, wanted, "after {} up to {revision}: {:?}", watch.told, watch.asked);
        for (event, happened) in events.iter().zip(expected) {
            assert_eq!((event.r#type, &event.kv), (happened.event.r#type, &happened.event.kv));
            let known = happened.previous.as_ref().filter(|_| watch.asked.previous);
            match &event.prev_kv {
                Some(previous) => assert_eq!(Some(previous), known, "another version before"),
                None => {
                    let gone = happened.revision - 1 < truth.compacted;
                    assert!(known.is_none() || gone, "the version before is missing");
                }
            }
        }
        watch.told = revision;
        if fragmented { "last fragment" } else { "events" }
    }
}
