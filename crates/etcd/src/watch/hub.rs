//! The hub: its parts, the requests of clients, and what changes the place of a watcher.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mvcc::Revision;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest};

use crate::error::Error;

use super::encode::Wants;
use super::index::{Index, Keys};
use super::interval::mix;
use super::message::{Kind, Message, NO_WATCH};
use super::mutant::{self, Mutant};
use super::slab::{Key, Slab};
use super::stream::{Stream, StreamId};
use super::{Config, Limits};

/// etcd's words for a span that holds no key.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// etcd's words for an id that the stream has in use.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// Not etcd's, which has no such limit.
const TOO_MANY: &str = "etcdserver: too many watchers on one stream";

pub(super) type StreamKey = Key<Stream>;
pub(super) type WatcherKey = Key<Watcher>;
pub(super) type TopicKey = Key<Topic>;

/// Why a request was not taken. It changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The stream is closed, or never was.
    #[error("no such stream")]
    UnknownStream,
    /// The stream holds all it may. Try again when some has been taken from it, and read no
    /// further request of it until then.
    #[error("the stream is full")]
    Full,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Open streams.
    pub streams: usize,
    /// Watchers on all of them.
    pub watchers: usize,
    /// Watchers that are not synced.
    pub behind: usize,
    /// Sets of keys and wishes among the watchers that differ from one another.
    pub topics: usize,
}

/// One client's wish.
pub(super) struct Watcher {
    pub(super) stream: StreamKey,
    pub(super) id: i64,
    pub(super) topic: TopicKey,
    pub(super) place: Place,
    /// Where it was asked to start; `Revision(0)` for wherever it is.
    pub(super) start: Revision,
    pub(super) fragment: bool,
    /// Whether it is told of progress when its stream's time has come; `None` if it never is.
    pub(super) progress_due: Option<bool>,
}

/// How far a watcher has come. See the module for the invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Is told what is published, from a revision on that may lie in the future. `slot` is its
    /// place in its topic's list.
    Synced { slot: usize, from: Revision },
    /// In the cohort at `next`.
    Behind { next: Revision },
    /// As `Behind`, but waits for room in its stream.
    Stalled { next: Revision },
}

/// Watchers that are told the same.
pub(super) struct Topic {
    pub(super) keys: Keys,
    pub(super) wants: Wants,
    pub(super) synced: Vec<WatcherKey>,
    /// Synced or not.
    watchers: usize,
}

/// The watch streams of one thread. See the [module](super).
pub struct Hub {
    pub(super) config: Config,
    pub(super) term: u64,
    pub(super) revision: Revision,
    pub(super) streams: Slab<Stream>,
    pub(super) watchers: Slab<Watcher>,
    pub(super) topics: Slab<Topic>,
    pub(super) index: Index<TopicKey>,
    /// Watchers that are behind, by the revision they have to be told next.
    pub(super) cohorts: BTreeMap<Revision, BTreeSet<WatcherKey>>,
    /// Where the next cohort to take a turn is looked for.
    pub(super) cursor: Revision,
    pub(super) deadlines: BTreeSet<(Duration, StreamKey)>,
    ready: VecDeque<StreamKey>,
    opened: u64,
}

impl Hub {
    /// A hub without streams. `revision` is that of the state from which on commits will be
    /// published, and `term` the term to put into headers.
    #[must_use]
    pub fn new(config: Config, revision: Revision, term: u64) -> Self {
        Self {
            config,
            term,
            revision,
            streams: Slab::new(),
            watchers: Slab::new(),
            topics: Slab::new(),
            index: Index::new(config.seed),
            cohorts: BTreeMap::new(),
            cursor: Revision(0),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            opened: 0,
        }
    }

    /// The revision of the last commit published.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// The term to put into headers from now on.
    pub fn set_term(&mut self, term: u64) {
        self.term = term;
    }

    /// How much there is of what. Looks at every stream.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            behind: self.streams.iter().map(|(_, stream)| stream.behind).sum(),
            topics: self.topics.len(),
        }
    }

    /// A new stream.
    pub fn open(&mut self, now: Duration) -> StreamId {
        self.opened += 1;
        let interval = self.config.limits.progress_interval;
        let jitter = (interval / 10).as_nanos().max(1);
        let jitter = u128::from(mix(self.config.seed ^ mix(self.opened))) % jitter;
        let jitter = Duration::from_nanos(u64::try_from(jitter).unwrap_or(0));
        let every = (interval + jitter).max(Duration::from_millis(1));
        let key = self.streams.insert(Stream::new(now, every));
        self.deadlines.insert((now + every, key));
        key.into()
    }

    /// Ends a stream and every watcher on it, without a word. Unknown streams are ignored.
    pub fn close(&mut self, stream: StreamId) {
        let key = StreamKey::from(stream);
        let Some(stream) = self.streams.get(key) else { return };
        let at = (stream.progress_at, key);
        let watchers: Vec<_> = stream.watchers.values().copied().collect();
        for watcher in watchers {
            self.remove(watcher);
        }
        self.deadlines.remove(&at);
        self.streams.remove(key);
    }

    /// Whether the stream can take a request now.
    #[must_use]
    pub fn accepts(&self, stream: StreamId) -> bool {
        self.streams.get(stream.into()).is_some_and(|stream| !self.is_full(stream))
    }

    /// Takes what a client sent. Whether the client may read the keys is decided before; if not,
    /// [`Hub::refuse`].
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn request(&mut self, stream: StreamId, request: WatchRequest) -> Result<(), RequestError> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(stream, &request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(stream, request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress(stream),
            // A kind of request of a later version; etcd ignores it too.
            None => self.writable(stream).map(|_| ()),
        }
    }

    /// Begins a watch, or refuses it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn create(
        &mut self,
        stream: StreamId,
        request: &WatchCreateRequest,
    ) -> Result<(), RequestError> {
        let key = self.writable(stream)?;
        let (keys, id) = match self.admit(key, request) {
            Ok(admitted) => admitted,
            Err(reason) => return self.refuse(stream, reason),
        };
        let left_out = |kind: FilterType| request.filters.contains(&kind.into());
        let wants = Wants {
            puts: !left_out(FilterType::Noput),
            deletions: !left_out(FilterType::Nodelete),
            previous: request.prev_kv,
        };
        let topic = self.topic(keys, wants);
        let start = Revision(request.start_revision);
        // Not in any place yet: `settle` finds the first.
        let watcher = self.watchers.insert(Watcher {
            stream: key,
            id,
            topic,
            place: Place::Synced { slot: usize::MAX, from: Revision(0) },
            start,
            fragment: request.fragment,
            progress_due: request.progress_notify.then_some(true),
        });
        let stream = &mut self.streams[key];
        stream.watchers.insert(id, watcher);
        if request.progress_notify {
            stream.notify.insert(watcher);
        }
        if start > self.revision {
            stream.future.insert((start, watcher));
        }
        let next = if start == Revision(0) { self.revision.next() } else { start };
        self.settle(watcher, next);
        let told = self.told(watcher);
        let told = if mutant::on(Mutant::CreatedTooFar) { self.revision } else { told };
        self.send(key, self.message(told, id, Kind::Created, Bytes::new()));
        Ok(())
    }

    /// Checks in the order in which etcd does.
    fn admit(
        &mut self,
        stream: StreamKey,
        request: &WatchCreateRequest,
    ) -> Result<(Keys, i64), Cow<'static, str>> {
        if request.start_revision < 0 {
            return Err(Error::Compacted.to_string().into());
        }
        let keys = Keys::parse(&request.key, &request.range_end).ok_or(EMPTY_RANGE)?;
        let stream = &mut self.streams[stream];
        if stream.watchers.len() >= self.config.limits.watchers_per_stream_max {
            return Err(TOO_MANY.into());
        }
        match request.watch_id {
            0 => Ok((keys, stream.free_id())),
            id if stream.watchers.contains_key(&id) => Err(DUPLICATE_ID.into()),
            id => Ok((keys, id)),
        }
    }

    /// Answers a request to watch with why it must not be.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn refuse(
        &mut self,
        stream: StreamId,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<(), RequestError> {
        let stream = self.writable(stream)?;
        let kind = Kind::Refused { reason: reason.into() };
        self.send(stream, self.message(self.revision, NO_WATCH, kind, Bytes::new()));
        Ok(())
    }

    /// Ends a watch. There is no answer if there is no such watch.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64) -> Result<(), RequestError> {
        let key = self.writable(stream)?;
        if let Some(watcher) = self.streams[key].watchers.get(&watch_id).copied() {
            let told = self.told(watcher);
            self.remove(watcher);
            self.send(key, self.message(told, watch_id, Kind::Canceled, Bytes::new()));
        }
        Ok(())
    }

    /// Answers how far the stream has come, if every watcher on it is synced and has started,
    /// and there is one; otherwise says nothing.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn progress(&mut self, stream: StreamId) -> Result<(), RequestError> {
        let key = self.writable(stream)?;
        let revision = self.revision;
        let stream = &mut self.streams[key];
        while stream.future.first().is_some_and(|(start, _)| *start <= revision) {
            stream.future.pop_first();
        }
        let synced = stream.behind == 0 || mutant::on(Mutant::ProgressBehind);
        let started = stream.future.is_empty() || mutant::on(Mutant::ProgressFuture);
        if synced && started && !stream.watchers.is_empty() {
            self.send(key, self.message(revision, NO_WATCH, Kind::Progress, Bytes::new()));
        }
        Ok(())
    }

    /// When [`Hub::tick`] has something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Tells watchers that asked for it, and that nothing else was told since last time, how far
    /// they have come.
    pub fn tick(&mut self, now: Duration) {
        while let Some((at, key)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            let stream = &mut self.streams[key];
            stream.progress_at = now + stream.progress_every;
            self.deadlines.insert((stream.progress_at, key));
            let notify: Vec<_> = stream.notify.iter().copied().collect();
            for watcher in notify {
                let full = self.is_full(&self.streams[key]);
                let watcher = &mut self.watchers[watcher];
                let was_due = watcher.progress_due.replace(true) == Some(true);
                let synced = matches!(watcher.place, Place::Synced { .. });
                let synced = synced || mutant::on(Mutant::TickBehind);
                if was_due && synced && watcher.start <= self.revision && !full {
                    let id = watcher.id;
                    self.send(key, self.message(self.revision, id, Kind::Progress, Bytes::new()));
                }
            }
        }
    }

    /// A stream that has got something to send since it was last named here.
    pub fn next_ready(&mut self) -> Option<StreamId> {
        loop {
            let key = self.ready.pop_front()?;
            if let Some(stream) = self.streams.get_mut(key) {
                stream.announced = false;
                if !stream.is_empty() {
                    return Some(key.into());
                }
            }
        }
    }

    /// The next answer of a stream; `None` if it has none, or is closed.
    pub fn take(&mut self, stream: StreamId) -> Option<Message> {
        let key = StreamKey::from(stream);
        let stream = self.streams.get_mut(key)?;
        let message = stream.pop();
        let has_room = stream.bytes() <= self.config.limits.stream_bytes_max / 2;
        if has_room && !stream.stalled.is_empty() && !mutant::on(Mutant::ForgetStalled) {
            for watcher in std::mem::take(&mut stream.stalled) {
                let Place::Stalled { next } = self.watchers[watcher].place else {
                    panic!("only stalled watchers are on the list");
                };
                self.watchers[watcher].place = Place::Behind { next };
                self.cohorts.entry(next).or_default().insert(watcher);
            }
        }
        message
    }

    // What follows is for the parts of the hub.

    fn writable(&self, stream: StreamId) -> Result<StreamKey, RequestError> {
        let key = stream.into();
        match self.streams.get(key) {
            None => Err(RequestError::UnknownStream),
            Some(stream) if self.is_full(stream) => Err(RequestError::Full),
            Some(_) => Ok(key),
        }
    }

    pub(super) fn is_full(&self, stream: &Stream) -> bool {
        stream.bytes() >= self.config.limits.stream_bytes_max
    }

    pub(super) fn message(
        &self,
        revision: Revision,
        watch_id: i64,
        kind: Kind,
        events: Bytes,
    ) -> Message {
        let Config { cluster_id, member_id, .. } = self.config;
        let raft_term = self.term;
        let header = ResponseHeader { cluster_id, member_id, revision: revision.0, raft_term };
        Message { header, watch_id, kind, events }
    }

    pub(super) fn send(&mut self, stream: StreamKey, message: Message) {
        let to = &mut self.streams[stream];
        to.push(message);
        if !to.announced {
            to.announced = true;
            self.ready.push_back(stream);
        }
    }

    /// Sends events that bring the watcher up to `told`. `false` if its stream is full: nothing
    /// is sent then.
    pub(super) fn tell(&mut self, key: WatcherKey, told: Revision, events: &Bytes) -> bool {
        let watcher = &self.watchers[key];
        let stream = watcher.stream;
        if self.is_full(&self.streams[stream]) {
            return mutant::on(Mutant::DropWhenFull);
        }
        let kind = Kind::Events { fragment: false };
        let message = self.message(told, watcher.id, kind, events.clone());
        if watcher.fragment {
            for fragment in message.fragments(self.config.limits.fragment_bytes) {
                self.send(stream, fragment);
            }
        } else {
            self.send(stream, message);
        }
        if let Some(due) = &mut self.watchers[key].progress_due {
            *due = false;
        }
        true
    }

    /// The revision up to which the watcher has been told everything.
    pub(super) fn told(&self, watcher: WatcherKey) -> Revision {
        match self.watchers[watcher].place {
            Place::Synced { .. } => self.revision,
            Place::Behind { next } | Place::Stalled { next } => next.previous(),
        }
    }

    fn topic(&mut self, keys: Keys, wants: Wants) -> TopicKey {
        let there = self.index.at(&keys).iter();
        let topics = &self.topics;
        let found = there.copied().find(|topic| topics[*topic].wants == wants);
        let key = found.unwrap_or_else(|| {
            let topic = Topic { keys: keys.clone(), wants, synced: Vec::new(), watchers: 0 };
            let key = self.topics.insert(topic);
            self.index.insert(&keys, key);
            key
        });
        self.topics[key].watchers += 1;
        key
    }

    /// Puts a watcher that is in no place where it belongs: synced if there is nothing between
    /// `next` and the hub's revision, else behind.
    pub(super) fn settle(&mut self, key: WatcherKey, next: Revision) {
        let watcher = &mut self.watchers[key];
        let early = next == self.revision && mutant::on(Mutant::JoinEarly);
        if next > self.revision || early {
            let synced = &mut self.topics[watcher.topic].synced;
            watcher.place = Place::Synced { slot: synced.len(), from: next };
            synced.push(key);
        } else {
            watcher.place = Place::Behind { next };
            self.streams[watcher.stream].behind += 1;
            self.cohorts.entry(next).or_default().insert(key);
        }
    }

    /// The same for one whose stream has no room.
    pub(super) fn stall(&mut self, key: WatcherKey, next: Revision) {
        let watcher = &mut self.watchers[key];
        watcher.place = Place::Stalled { next };
        let stream = &mut self.streams[watcher.stream];
        stream.behind += 1;
        stream.stalled.insert(key);
    }

    /// Takes a watcher out of its place.
    pub(super) fn unsettle(&mut self, key: WatcherKey) {
        let watcher = &self.watchers[key];
        match watcher.place {
            Place::Synced { slot, .. } => {
                let synced = &mut self.topics[watcher.topic].synced;
                assert!(synced.swap_remove(slot) == key, "a watcher knows its place");
                if let Some(moved) = synced.get(slot).copied()
                    && !mutant::on(Mutant::ForgetMoved)
                    && let Place::Synced { slot: place, .. } = &mut self.watchers[moved].place
                {
                    *place = slot;
                }
            }
            Place::Behind { next } => {
                self.streams[watcher.stream].behind -= 1;
                // A cohort that is reading its window is out of the map.
                if let Some(cohort) = self.cohorts.get_mut(&next) {
                    cohort.remove(&key);
                    if cohort.is_empty() {
                        self.cohorts.remove(&next);
                    }
                }
            }
            Place::Stalled { .. } => {
                let stream = &mut self.streams[watcher.stream];
                stream.behind -= 1;
                stream.stalled.remove(&key);
            }
        }
    }

    /// Ends a watcher without a word.
    pub(super) fn remove(&mut self, key: WatcherKey) {
        self.unsettle(key);
        let watcher = self.watchers.remove(key).expect("it was just there");
        let stream = &mut self.streams[watcher.stream];
        stream.watchers.remove(&watcher.id);
        stream.notify.remove(&key);
        stream.future.remove(&(watcher.start, key));
        let topic = &mut self.topics[watcher.topic];
        topic.watchers -= 1;
        if topic.watchers == 0 && !mutant::on(Mutant::TellRemoved) {
            let topic = self.topics.remove(watcher.topic).expect("it was just there");
            self.index.remove(&topic.keys, watcher.topic);
        }
    }
}
