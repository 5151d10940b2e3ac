//! What a leader knows of one peer's log, and how it feeds it.
//!
//! A peer is in one of three states. In *probe* the leader does not know where the logs agree:
//! it sends one append and waits for the answer (or for the next answered heartbeat, as the
//! append may be lost). In *replicate* it knows, and streams appends without waiting, as far as
//! the window allows. In *snapshot* the peer needs entries that are truncated, and gets nothing
//! until the snapshot has arrived or failed.
//!
//! The window bounds messages and bytes under way to the peer. It is freed by acknowledgements;
//! if a message is lost with nothing after it to reveal the gap, an answered heartbeat without
//! any acknowledgement since the last one triggers an empty append at the window's end, which
//! the peer acknowledges or rejects.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Entry, FetchId, LogIndex, Session};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// One append at a time; `waiting` for the answer to it.
    Probe { waiting: bool },
    /// Streaming.
    Replicate,
    /// Waiting for a snapshot to arrive.
    Snapshot,
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) session: Session,
    /// The peer's log is known to equal this leader's up to here, durably.
    pub(crate) matched: LogIndex,
    /// The next entry to send.
    pub(crate) next: LogIndex,
    pub(crate) flow: Flow,
    pub(crate) window: Window,
    /// When something was last heard of it.
    pub(crate) contact: Duration,
    /// The latest round of read confirmation that it answered.
    pub(crate) round: u64,
    /// The commit index it was last told.
    pub(crate) commit_told: LogIndex,
    /// An acknowledgement came since the last answered heartbeat.
    acked_lately: bool,
    /// Send an empty append to find out whether something was lost.
    pub(crate) recheck: bool,
    /// A read of the log for it is under way.
    pub(crate) fetch: Option<FetchId>,
    /// Entries that were read for it.
    pub(crate) fetched: Vec<Entry>,
}

impl Progress {
    pub(crate) fn new(session: Session, next: LogIndex, now: Duration) -> Self {
        assert!(next > LogIndex::ZERO, "entries start at index 1");
        Self {
            session,
            matched: LogIndex::ZERO,
            next,
            flow: Flow::Probe { waiting: false },
            window: Window::default(),
            contact: now,
            round: 0,
            commit_told: LogIndex::ZERO,
            acked_lately: true,
            recheck: false,
            fetch: None,
            fetched: Vec::new(),
        }
    }

    /// The index before the next entry.
    pub(crate) fn prev(&self) -> LogIndex {
        self.next.prev().unwrap_or_default()
    }

    /// The peer acknowledged everything up to `matched`. Says whether that is news.
    pub(crate) fn accepted(&mut self, matched: LogIndex) -> bool {
        self.acked_lately = true;
        self.recheck = false;
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.window.free_to(matched);
        match self.flow {
            Flow::Probe { .. } if matched >= self.matched => {
                self.next = self.matched.next();
                self.flow = Flow::Replicate;
            }
            _ => self.next = self.next.max(self.matched.next()),
        }
        news
    }

    /// The peer has no match at `rejected`; the logs can agree at `agree` at the latest. Says
    /// whether that is news rather than the answer to something long settled.
    pub(crate) fn rejected(&mut self, rejected: LogIndex, agree: LogIndex) -> bool {
        let stale = match self.flow {
            Flow::Replicate => rejected <= self.matched,
            Flow::Probe { .. } => rejected != self.prev(),
            Flow::Snapshot => true,
        };
        if stale {
            return false;
        }
        let retreat = agree.next().min(rejected.max(LogIndex(1)));
        self.probe_from(retreat.max(self.matched.next()));
        true
    }

    /// Start over from `next`, one append at a time.
    pub(crate) fn probe_from(&mut self, next: LogIndex) {
        self.next = next;
        self.flow = Flow::Probe { waiting: false };
        self.window.clear();
        self.recheck = false;
        self.fetch = None;
        self.fetched.clear();
    }

    /// It gets nothing before a snapshot has arrived.
    pub(crate) fn await_snapshot(&mut self) {
        self.probe_from(self.next);
        self.flow = Flow::Snapshot;
    }

    /// Nothing more until an answer or an answered heartbeat.
    pub(crate) fn pause(&mut self) {
        if let Flow::Probe { waiting } = &mut self.flow {
            *waiting = true;
        }
    }

    /// It answered a heartbeat: what was lost may be sent again.
    pub(crate) fn heartbeat_answered(&mut self) {
        match &mut self.flow {
            Flow::Probe { waiting } => *waiting = false,
            Flow::Replicate => self.recheck = !self.acked_lately && !self.window.is_empty(),
            Flow::Snapshot => {}
        }
        self.acked_lately = false;
    }
}

/// What is under way to a peer: for each append its last entry and its bytes.
#[derive(Debug, Default)]
pub(crate) struct Window {
    appends: VecDeque<(LogIndex, usize)>,
    bytes: usize,
}

impl Window {
    pub(crate) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    pub(crate) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.appends.len() >= messages_max || (!self.is_empty() && self.bytes >= bytes_max)
    }

    pub(crate) fn add(&mut self, last: LogIndex, bytes: usize) {
        debug_assert!(self.appends.back().is_none_or(|&(before, _)| before < last));
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn free_to(&mut self, matched: LogIndex) {
        while self.appends.front().is_some_and(|&(last, _)| last <= matched) {
            self.bytes -= self.appends.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn clear(&mut self) {
        self.appends.clear();
        self.bytes = 0;
    }

    /// Messages and bytes under way.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.appends.len(), self.bytes)
    }
}
