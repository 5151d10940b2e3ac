//! A FIFO link between a follower and its leader: what TCP does for ZooKeeper.
//!
//! The paper's channels are FIFO, and Zab relies on it: a proposal comes after all earlier ones of its leader,
//! a commit after its proposal. The lab's network loses, doubles and reorders. So messages of a connection are
//! numbered, handed up in their order, and sent again until they are acknowledged. A connection is the
//! follower's number for it and the leader's, as in a handshake, so that nothing of an earlier one is taken
//! for a part of it. Whoever forgets it (a crash, an election) has closed it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::message::{Body, Message};
use super::process::Zab;
use crate::process::{NodeId, Out};

/// Names a connection: when it was opened, by the monotonic clock of each end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conn {
    /// In microseconds, by the follower.
    pub opened: u64,
    /// In microseconds, by the leader; `None` while the follower has not heard from it.
    pub answered: Option<u64>,
}

/// What goes over a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Of which connection.
    pub conn: Conn,
    /// All before this number have arrived.
    pub ack: u64,
    /// A message and its number; `None` is a ping.
    pub data: Option<(u64, Body)>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    peer: NodeId,
    conn: Conn,
    /// From follower to leader.
    up: bool,
    /// Both ends are the same process: nothing is ever lost.
    own: bool,
    next_out: u64,
    /// What was sent and is not acknowledged; `true` if a ping went out since.
    unacked: VecDeque<(u64, Body, bool)>,
    next_in: u64,
    /// What came before its turn; `None` if it was handed up at once.
    early: BTreeMap<u64, Option<Body>>,
    /// When the peer was last heard of.
    pub(super) heard: Duration,
}

impl Link {
    /// The follower's end.
    pub(super) fn open(me: NodeId, leader: NodeId, opened: u64, now: Duration) -> Self {
        Self::new(me, leader, Conn { opened, answered: None }, true, now)
    }

    /// The leader's end.
    pub(super) fn answer(me: NodeId, follower: NodeId, opened: u64, now: Duration) -> Self {
        let answered = Some(micros(now));
        Self::new(me, follower, Conn { opened, answered }, false, now)
    }

    fn new(me: NodeId, peer: NodeId, conn: Conn, up: bool, now: Duration) -> Self {
        Self {
            peer,
            conn,
            up,
            own: me == peer,
            next_out: 0,
            unacked: VecDeque::new(),
            next_in: 0,
            early: BTreeMap::new(),
            heard: now,
        }
    }

    /// The follower's number for the connection.
    pub(super) fn opened(&self) -> u64 {
        self.conn.opened
    }

    /// Whether a frame is of this connection. What a follower hears first tells it the leader's number.
    pub(super) fn owns(&mut self, conn: Conn) -> bool {
        if self.conn.opened != conn.opened {
            return false;
        }
        if self.up && self.conn.answered.is_none() {
            self.conn.answered = conn.answered;
        }
        conn.answered.is_none() || conn.answered == self.conn.answered
    }

    pub(super) fn send(&mut self, body: Body, out: &mut Out<'_, Zab>) {
        let number = self.next_out;
        self.next_out += 1;
        if !self.own {
            self.unacked.push_back((number, body.clone(), false));
        }
        self.frame(Some((number, body)), out);
    }

    fn frame(&self, data: Option<(u64, Body)>, out: &mut Out<'_, Zab>) {
        let frame = Frame { conn: self.conn, ack: self.next_in, data };
        out.send(self.peer, if self.up { Message::Up(frame) } else { Message::Down(frame) });
    }

    /// Takes a frame in; what is handed up now, in order. `overtakes` is what does not wait for its turn:
    /// nothing, unless the protocol is broken.
    pub(super) fn receive(
        &mut self,
        frame: Frame,
        now: Duration,
        overtakes: impl Fn(&Body) -> bool,
    ) -> Vec<Body> {
        self.heard = now;
        while self.unacked.front().is_some_and(|(number, ..)| *number < frame.ack) {
            self.unacked.pop_front();
        }
        let mut up = Vec::new();
        let Some((number, body)) = frame.data else { return up };
        if number < self.next_in || self.early.contains_key(&number) {
            return up;
        }
        if overtakes(&body) {
            up.push(body);
            self.early.insert(number, None);
        } else {
            self.early.insert(number, Some(body));
        }
        while let Some(body) = self.early.remove(&self.next_in) {
            self.next_in += 1;
            up.extend(body);
        }
        up
    }

    /// Pings, and sends again what was not acknowledged since the last ping.
    pub(super) fn ping(&mut self, out: &mut Out<'_, Zab>) {
        if self.own {
            return;
        }
        self.frame(None, out);
        for (number, body, waited) in &self.unacked {
            if *waited {
                self.frame(Some((*number, body.clone())), out);
            }
        }
        self.unacked.iter_mut().for_each(|(_, _, waited)| *waited = true);
    }
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
