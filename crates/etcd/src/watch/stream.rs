//! One stream: its watchers by id, and what waits to be sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mvcc::Revision;

use super::hub::{StreamKey, WatcherKey};
use super::message::Message;
use super::slab::Key;

/// What a waiting answer costs beside its bytes, about.
const MESSAGE_OVERHEAD: usize = 96;

/// Names a stream of a [`Hub`](super::Hub); never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

impl From<StreamKey> for StreamId {
    fn from(key: StreamKey) -> Self {
        Self(key.to_bits())
    }
}

impl From<StreamId> for StreamKey {
    fn from(id: StreamId) -> Self {
        Key::from_bits(id.0)
    }
}

pub(super) struct Stream {
    pub(super) watchers: BTreeMap<i64, WatcherKey>,
    next_id: i64,
    queue: VecDeque<Message>,
    bytes: usize,
    /// It is in the hub's list of those that have got something to send.
    pub(super) announced: bool,
    /// Watchers that are behind and wait for room.
    pub(super) stalled: BTreeSet<WatcherKey>,
    /// How many of the watchers are not synced.
    pub(super) behind: usize,
    /// Watchers that start at a revision that had not happened when they were created.
    pub(super) future: BTreeSet<(Revision, WatcherKey)>,
    /// Watchers that ask for progress.
    pub(super) notify: BTreeSet<WatcherKey>,
    pub(super) progress_at: Duration,
    pub(super) progress_every: Duration,
}

impl Stream {
    pub(super) fn new(now: Duration, progress_every: Duration) -> Self {
        Self {
            watchers: BTreeMap::new(),
            next_id: 0,
            queue: VecDeque::new(),
            bytes: 0,
            announced: false,
            stalled: BTreeSet::new(),
            behind: 0,
            future: BTreeSet::new(),
            notify: BTreeSet::new(),
            progress_at: now + progress_every,
            progress_every,
        }
    }

    /// The lowest id from the last one given out on that no watcher has.
    pub(super) fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn push(&mut self, message: Message) {
        self.bytes += cost(&message);
        self.queue.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes -= cost(&message);
        Some(message)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(message: &Message) -> usize {
    message.events.len() + MESSAGE_OVERHEAD
}
