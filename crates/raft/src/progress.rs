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

use crate::types::{Entry, Epoch, FetchId, LogIndex, ReplicaId, Session};

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
    /// The commit index that it was last heard to know.
    pub(crate) commit_known: LogIndex,
    /// It is bound to this leader under this epoch.
    pub(crate) fortified: Option<Epoch>,
    /// It is to be asked to bind itself.
    pub(crate) ask: bool,
    /// Since when its store's support has run out.
    gone: Option<Duration>,
    /// When anything at all was last heard of it.
    heard: Duration,
    /// An acknowledgement came since the last answered heartbeat.
    acked_lately: bool,
    /// Send an empty append to find out whether something was lost.
    pub(crate) recheck: bool,
    /// It was said that it has lost entries.
    pub(crate) loss_told: bool,
    /// A read of the log for it is under way.
    pub(crate) fetch: Option<FetchId>,
    /// Entries that were read for it.
    pub(crate) fetched: Vec<Entry>,
}

/// The other members of a group, in order: a few, for each of many thousands of groups.
#[derive(Debug, Default)]
pub(crate) struct Peers(Vec<(ReplicaId, Progress)>);

impl Peers {
    fn place(&self, id: ReplicaId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, |&(peer, _)| peer)
    }

    pub(crate) fn get(&self, id: ReplicaId) -> Option<&Progress> {
        self.place(id).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, id: ReplicaId) -> Option<&mut Progress> {
        self.place(id).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ReplicaId> {
        self.0.iter().map(|&(id, _)| id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Progress)> {
        self.0.iter().map(|(id, progress)| (*id, progress))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ReplicaId, &mut Progress)> {
        self.0.iter_mut().map(|(id, progress)| (*id, progress))
    }

    /// From now on these, in order; those that were there already keep their progress.
    pub(crate) fn set(
        &mut self,
        members: impl Iterator<Item = ReplicaId>,
        new: impl Fn() -> Progress,
    ) {
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        let mut keep = |id: ReplicaId| {
            while before.next_if(|&(other, _)| other < id).is_some() {}
            before.next_if(|&(other, _)| other == id).map(|(_, progress)| progress)
        };
        self.0 = members.map(|id| (id, keep(id).unwrap_or_else(&new))).collect();
        self.0.shrink_to_fit();
        assert!(self.0.is_sorted_by_key(|&(id, _)| id), "members come in order");
    }
}

/// What a rejection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It answers something long settled.
    Stale,
    /// The next append is to begin earlier.
    Retreat,
    /// The peer has not got what it acknowledged.
    Lost,
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
            commit_known: LogIndex::ZERO,
            fortified: None,
            ask: true,
            gone: None,
            heard: now,
            acked_lately: true,
            recheck: false,
            loss_told: false,
            fetch: None,
            fetched: Vec::new(),
        }
    }

    /// Something came from it, whatever it was.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// The support of its store has run out.
    pub(crate) fn lapsed(&mut self, now: Duration) {
        if self.gone.is_none() {
            // So far its support stood for an answer.
            self.contact = if self.fortified.is_some() { now } else { self.contact };
            self.gone = Some(now);
        }
    }

    /// Its store gives support under this epoch.
    pub(crate) fn present(&mut self, epoch: Epoch) {
        self.gone = None;
        if self.fortified != Some(epoch) {
            self.fortified = None;
            self.ask = true;
        }
    }

    /// Whether there is no point in sending it anything: its store has lapsed, and nothing was
    /// heard of it for a while since. What still comes shows that it is there after all, and that
    /// only the stores do not agree.
    pub(crate) fn is_absent(&self, now: Duration, patience: Duration) -> bool {
        self.gone.is_some_and(|gone| self.heard <= gone || now >= self.heard + patience)
    }

    /// Whether it does not answer, though its store is there, for so long: its disk may hang. It has not bound
    /// itself, so it has timers of its own and will speak when it can.
    pub(crate) fn is_silent(&self, now: Duration, patience: Duration) -> bool {
        self.fortified.is_none() && self.gone.is_none() && now >= self.heard + patience
    }

    /// Whether it stands by this leader, as far as anyone knows.
    pub(crate) fn stands_by(&self) -> bool {
        self.fortified.is_some() && self.gone.is_none()
    }

    /// Whether there is nothing to tell it: it has the log up to `last` and knows that it is
    /// committed up to `committed`.
    pub(crate) fn is_quiet(&self, last: LogIndex, committed: LogIndex) -> bool {
        self.flow == Flow::Replicate && self.matched == last && self.commit_known >= committed
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

    /// The peer has no match at `rejected`; the logs can agree at `agree` at the latest.
    pub(crate) fn rejected(&mut self, rejected: LogIndex, agree: LogIndex) -> Rejection {
        let stale = match self.flow {
            Flow::Replicate => rejected <= self.matched,
            Flow::Probe { .. } => rejected != self.prev(),
            Flow::Snapshot => true,
        };
        if stale {
            return Rejection::Stale;
        }
        if rejected == self.matched {
            // Asking again at once would have the same answer, as fast as the network can.
            self.pause();
            return Rejection::Lost;
        }
        let retreat = agree.next().min(rejected.max(LogIndex(1)));
        self.probe_from(retreat.max(self.matched.next()));
        Rejection::Retreat
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

    /// Gives back capacity that is not used.
    pub(crate) fn shrink(&mut self) {
        self.appends.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(next: u64) -> Progress {
        Progress::new(Session(LogIndex(1)), LogIndex(next), Duration::ZERO)
    }

    #[test]
    fn an_acknowledgement_starts_the_stream() {
        let mut peer = peer(10);
        peer.pause();
        assert_eq!(Flow::Probe { waiting: true }, peer.flow);
        assert!(peer.accepted(LogIndex(9)));
        assert_eq!((Flow::Replicate, LogIndex(10)), (peer.flow, peer.next));
        assert!(!peer.accepted(LogIndex(5)), "old news");
        assert_eq!(LogIndex(9), peer.matched);
    }

    #[test]
    fn a_rejection_moves_a_probe_back_once() {
        let mut peer = peer(10);
        assert_eq!(Rejection::Stale, peer.rejected(LogIndex(7), LogIndex(3)), "not what was asked");
        assert_eq!(Rejection::Retreat, peer.rejected(LogIndex(9), LogIndex(5)));
        assert_eq!(LogIndex(6), peer.next);
        assert_eq!(Rejection::Stale, peer.rejected(LogIndex(9), LogIndex(5)), "the same again");
        let useless = peer.rejected(LogIndex(5), LogIndex(8));
        assert_eq!(Rejection::Retreat, useless, "a useless hint still moves it by one");
        assert_eq!(LogIndex(5), peer.next);
    }

    #[test]
    fn a_rejection_never_goes_below_what_matched() {
        let mut peer = peer(10);
        peer.accepted(LogIndex(6));
        peer.next = LogIndex(20);
        assert_eq!(Rejection::Stale, peer.rejected(LogIndex(6), LogIndex(1)), "long settled");
        assert_eq!(Rejection::Retreat, peer.rejected(LogIndex(19), LogIndex(1)));
        assert_eq!((LogIndex(7), Flow::Probe { waiting: false }), (peer.next, peer.flow));
        assert_eq!(Rejection::Lost, peer.rejected(LogIndex(6), LogIndex(1)));
        assert_eq!((LogIndex(7), Flow::Probe { waiting: true }), (peer.next, peer.flow));
    }

    #[test]
    fn the_window_counts_messages_and_bytes() {
        let mut window = Window::default();
        assert!(!window.is_full(1, 0), "one message always goes");
        window.add(LogIndex(3), 100);
        assert!(window.is_full(1, 1_000) && window.is_full(9, 100) && !window.is_full(2, 101));
        window.add(LogIndex(5), 50);
        window.free_to(LogIndex(4));
        assert_eq!((1, 50), window.usage());
        window.free_to(LogIndex(5));
        assert_eq!((0, 0), window.usage());
    }

    #[test]
    fn silence_after_an_append_is_looked_into() {
        let mut peer = peer(10);
        peer.accepted(LogIndex(9));
        peer.window.add(LogIndex(12), 10);
        peer.heartbeat_answered();
        assert!(!peer.recheck, "it acknowledged something lately");
        peer.heartbeat_answered();
        assert!(peer.recheck);
    }
}
