//! The process, and the follower's part of it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::election::Election;
use super::leader::Leading;
use super::link::{Frame, Link, micros};
use super::message::{Body, Message, Txn, Zxid, Zxids};
use super::settings::Settings;
use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::view::{Cell, CellState, View};

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Who looks for a leader tells its vote again.
    TellVote,
    /// A quorum agreed on a leader some time ago.
    Finalize,
    /// A follower's prospective leader may not have known yet that it leads.
    Connect,
    /// A follower has not heard from its leader.
    Patience,
    /// A leader pings its followers.
    Ping,
    /// What should have been on the disk is written. Only if it is broken.
    WriteLate,
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// acceptedEpoch, `f.p` in the paper: the epoch of the last NEWEPOCH that it promised.
    pub accepted_epoch: u64,
    /// currentEpoch, `f.a` in the paper: the epoch of the last NEWLEADER that it accepted.
    pub current_epoch: u64,
    /// The transactions that it has accepted.
    pub history: Vec<Txn>,
}

/// How far a follower is with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Discovery,
    Synchronization,
    Broadcast,
}

/// What a follower is to its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Following {
    leader: NodeId,
    link: Link,
    phase: Phase,
}

impl Following {
    /// Phase 3: it delivers what is committed.
    pub(super) fn delivers(&self) -> bool {
        self.phase == Phase::Broadcast
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zab {
    pub(super) settings: Rc<Settings>,
    pub(super) id: NodeId,
    // In memory what is on the disk, unless it is broken.
    accepted_epoch: u64,
    pub(super) current_epoch: u64,
    history: Vec<Txn>,
    /// How much of the history was delivered in this life.
    delivered: usize,
    /// What the delivered transactions have made of the state.
    state: u64,
    pub(super) election: Election,
    pub(super) following: Option<Following>,
    pub(super) leading: Option<Leading>,
    /// The number of the last connection.
    opened: u64,
    /// Requests of clients that wait for a leader.
    held: Vec<(RequestId, u64)>,
    /// Requests of clients to be answered when they are delivered.
    waiting: BTreeSet<RequestId>,
    /// Acknowledgements that wait for the disk. Only if it is broken.
    late: Vec<Body>,
}

impl Process for Zab {
    type Message = Message;
    type Timer = Timer;
    type Request = u64;
    type Output = Txn;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => self.look(out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Timer(Timer::TellVote) => self.tell_vote(out),
            Input::Timer(Timer::Finalize) => self.finalize(now, out),
            Input::Timer(Timer::Connect) => self.connect(out),
            Input::Timer(Timer::Patience) => {
                out.note(|| "does not hear from its leader".to_owned());
                self.look(out);
            }
            Input::Timer(Timer::Ping) => self.on_ping_timer(now, out),
            Input::Timer(Timer::WriteLate) => self.write_late(out),
            Input::Message { from, message } => match message {
                Message::Notification(theirs) => self.on_notification(now, from, theirs, out),
                Message::Up(frame) => self.on_up(now, from, frame, out),
                Message::Down(frame) => self.on_down(now, from, frame, out),
            },
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::TellVote => "time to tell the vote again",
            Timer::Finalize => "the vote is final",
            Timer::Connect => "time to connect to the leader",
            Timer::Patience => "no word from the leader",
            Timer::Ping => "time to ping the followers",
            Timer::WriteLate => "the late write",
        };
        name.to_owned()
    }

    fn decides(output: &Txn) -> String {
        format!("delivers {output}")
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Notification(_) => "Vote",
            Message::Up(frame) | Message::Down(frame) => {
                frame.data.as_ref().map_or("PING", |(_, body)| body.kind())
            }
        }
    }
}

impl Zab {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            accepted_epoch: disk.accepted_epoch,
            current_epoch: disk.current_epoch,
            history: disk.history.clone(),
            delivered: 0,
            state: 0,
            election: Election::new(id),
            following: None,
            leading: None,
            opened: 0,
            held: Vec::new(),
            waiting: BTreeSet::new(),
            late: Vec::new(),
        }
    }

    /// Whether it is an established leader.
    #[must_use]
    pub fn is_primary(&self) -> bool {
        self.leading.as_ref().is_some_and(Leading::is_established)
    }

    /// The transactions that it has delivered in this life.
    #[must_use]
    pub fn delivered(&self) -> &[Txn] {
        &self.history[..self.delivered.min(self.history.len())]
    }

    /// The transactions that it has accepted.
    #[must_use]
    pub fn history(&self) -> &[Txn] {
        &self.history
    }

    /// What the delivered transactions have made of the state.
    #[must_use]
    pub fn state(&self) -> u64 {
        self.state
    }

    pub(super) fn last_zxid(&self) -> Zxid {
        self.history.last().map(|txn| txn.zxid).unwrap_or_default()
    }

    /// Gives up its leader, or its leadership.
    pub(super) fn abandon(&mut self, out: &mut Out<'_, Self>) {
        self.following = None;
        self.leading = None;
        self.late.clear();
        out.cancel(Timer::Ping);
        out.cancel(Timer::Connect);
        out.cancel(Timer::Patience);
    }

    fn on_request(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Self>) {
        self.waiting.insert(id);
        self.held.push((id, value));
        self.hand_requests(out);
    }

    /// Hands requests of clients to the leader. It does not ask twice: what a leader took with it is unknown.
    fn hand_requests(&mut self, out: &mut Out<'_, Self>) {
        let too_soon = self.settings.ready_too_soon;
        let ready =
            |it: &&mut Following| it.delivers() || too_soon && it.phase == Phase::Synchronization;
        let Some(following) = self.following.as_mut().filter(ready) else { return };
        for (id, value) in self.held.drain(..) {
            following.link.send(Body::Request { id, value }, out);
        }
    }

    /// Connects to its prospective leader, which may be itself.
    pub(super) fn follow(&mut self, now: Now, leader: NodeId, out: &mut Out<'_, Self>) {
        out.cancel(Timer::TellVote);
        out.cancel(Timer::Finalize);
        self.opened = micros(now.local).max(self.opened + 1);
        let mut link = Link::open(self.id, leader, self.opened, now.local);
        link.send(Body::CEpoch(self.accepted_epoch), out);
        self.following = Some(Following { leader, link, phase: Phase::Discovery });
        self.be_patient(leader, out);
        out.set(Timer::Connect, self.settings.ping);
    }

    /// Sends CEPOCH again until the leader answers.
    fn connect(&mut self, out: &mut Out<'_, Self>) {
        let following = self.following.as_mut();
        if let Some(following) = following.filter(|it| it.phase == Phase::Discovery) {
            following.link.ping(out);
            out.set(Timer::Connect, self.settings.ping);
        }
    }

    fn be_patient(&self, leader: NodeId, out: &mut Out<'_, Self>) {
        if leader != self.id {
            let jitter = out.dice().below(micros(self.settings.timeout) / 2);
            out.set(Timer::Patience, self.settings.timeout + Duration::from_micros(jitter));
        }
    }

    fn on_down(&mut self, now: Now, from: NodeId, frame: Frame, out: &mut Out<'_, Self>) {
        let following = self.following.as_mut().filter(|following| following.leader == from);
        let Some(following) = following else { return };
        if !following.link.owns(frame.conn) {
            return;
        }
        let conn = following.link.opened();
        let pinged = frame.data.is_none();
        let bodies = following.link.receive(frame, now.local, |body| self.settings.overtakes(body));
        if pinged {
            following.link.ping(out);
        }
        self.be_patient(from, out);
        for body in bodies {
            // It may have closed the connection on what came before.
            if self.following.as_ref().is_none_or(|following| following.link.opened() != conn) {
                return;
            }
            match body {
                Body::NewEpoch(epoch) => self.on_new_epoch(epoch, out),
                Body::NewLeader { epoch, history } => self.on_new_leader(epoch, history, out),
                Body::CommitLeader { up_to, .. } => self.on_commit_leader(up_to, out),
                Body::Propose(txn) => self.on_propose(txn, out),
                Body::Commit(zxid) => self.on_commit(zxid, out),
                _ => {}
            }
        }
    }

    fn answer(&mut self, body: Body, out: &mut Out<'_, Self>) {
        if let Some(following) = self.following.as_mut() {
            following.link.send(body, out);
        }
    }

    fn enter(&mut self, phase: Phase) {
        if let Some(following) = self.following.as_mut() {
            following.phase = phase;
        }
    }

    /// Phase 1: promises the epoch, unless it has promised a later one.
    fn on_new_epoch(&mut self, epoch: u64, out: &mut Out<'_, Self>) {
        let counted = self.settings.accept_old_epoch || self.settings.same_epoch;
        if epoch < self.accepted_epoch && !self.settings.accept_old_epoch {
            out.note(|| format!("has promised epoch {}", self.accepted_epoch));
            self.look(out);
            return;
        }
        // Two leaders may have come upon the same epoch. Who promised it to one is not counted by the other.
        let again = epoch == self.accepted_epoch && !counted;
        self.accepted_epoch = epoch;
        if !self.settings.forget_accepted_epoch {
            out.persist(|disk| disk.accepted_epoch = epoch);
        }
        let (current, history) = (self.current_epoch, self.history.clone());
        self.answer(Body::AckEpoch { epoch, current, history, again }, out);
        self.enter(Phase::Synchronization);
    }

    /// Phase 2: takes the leader's history in the place of its own, and the epoch with it, in one write.
    fn on_new_leader(&mut self, epoch: u64, history: Vec<Txn>, out: &mut Out<'_, Self>) {
        if epoch != self.accepted_epoch {
            self.look(out);
            return;
        }
        self.current_epoch = epoch;
        if !self.settings.skip_synchronization {
            let kept = self.history.iter().zip(&history).take_while(|(one, other)| one == other);
            let kept = kept.count();
            if kept < self.history.len() {
                out.note(|| format!("truncates {}", Zxids(&self.history[kept..])));
            }
            self.history = history;
        }
        let last = self.history.last().map(|txn| txn.zxid);
        out.persist(|disk| disk.current_epoch = epoch);
        self.write_history(self.settings.epoch_before_history, out);
        self.acknowledge(Body::AckLeader { epoch, last }, out);
        if self.settings.ready_too_soon {
            self.hand_requests(out);
        }
    }

    /// Phase 2: a quorum has the initial history.
    fn on_commit_leader(&mut self, up_to: Option<Zxid>, out: &mut Out<'_, Self>) {
        self.enter(Phase::Broadcast);
        if let Some(up_to) = up_to {
            self.deliver_up_to(up_to, out);
        }
        self.hand_requests(out);
    }

    /// Phase 3: accepts a proposal.
    fn on_propose(&mut self, txn: Txn, out: &mut Out<'_, Self>) {
        self.history.push(txn);
        let late = self.settings.ack_before_persisting || self.settings.epoch_before_history;
        self.write_history(late, out);
        self.acknowledge(Body::Ack(txn.zxid), out);
    }

    /// Phase 3: a quorum has accepted it.
    fn on_commit(&mut self, zxid: Zxid, out: &mut Out<'_, Self>) {
        if self.settings.delivers_alone() {
            if let Some(&txn) = self.history.iter().find(|txn| txn.zxid == zxid) {
                self.delivered += 1;
                self.deliver(txn, out);
            }
        } else {
            self.deliver_up_to(zxid, out);
        }
    }

    /// Delivers what is not delivered yet, in the order of the history.
    fn deliver_up_to(&mut self, zxid: Zxid, out: &mut Out<'_, Self>) {
        let Some(last) = self.history.iter().position(|txn| txn.zxid == zxid) else { return };
        while self.delivered <= last {
            let txn = self.history[self.delivered];
            self.delivered += 1;
            self.deliver(txn, out);
        }
    }

    fn deliver(&mut self, txn: Txn, out: &mut Out<'_, Self>) {
        self.state = txn.change.to;
        out.decide(txn);
        if self.waiting.remove(&txn.request) {
            out.reply(txn.request, txn);
        }
    }

    /// The history goes to the disk; `late`, if it is broken, some time later.
    fn write_history(&mut self, late: bool, out: &mut Out<'_, Self>) {
        if late {
            out.set(Timer::WriteLate, self.settings.ping / 2);
        } else {
            out.persist(|disk| disk.history.clone_from(&self.history));
        }
    }

    fn acknowledge(&mut self, body: Body, out: &mut Out<'_, Self>) {
        if self.settings.epoch_before_history {
            self.late.push(body);
        } else {
            self.answer(body, out);
        }
    }

    fn write_late(&mut self, out: &mut Out<'_, Self>) {
        self.write_history(false, out);
        for body in std::mem::take(&mut self.late) {
            self.answer(body, out);
        }
    }

    pub(super) fn view(&self, disk: &Disk) -> View {
        let (role, phase) = match (&self.leading, &self.following) {
            (Some(_), Some(following)) => ("leading".to_owned(), Some(following.phase)),
            (_, Some(following)) => {
                (format!("following {}", following.leader), Some(following.phase))
            }
            (_, None) => ("looking".to_owned(), None),
        };
        let cell = |(place, txn): (usize, &Txn)| Cell {
            at: place as u64 + 1,
            text: txn.to_string(),
            state: match disk.history.get(place) == Some(txn) {
                true if place < self.delivered => CellState::Committed,
                true => CellState::Durable,
                false => CellState::Tentative,
            },
        };
        let view = View {
            role,
            term: format!("epoch {}", self.current_epoch),
            log: self.history.iter().enumerate().map(cell).collect(),
            ..View::default()
        };
        let phase = match phase {
            None => "election",
            Some(Phase::Discovery) => "discovery",
            Some(Phase::Synchronization) => "synchronization",
            Some(Phase::Broadcast) => "broadcast",
        };
        view.with("phase", phase)
            .with("promised epoch", self.accepted_epoch)
            .with("state", self.state)
    }

    pub(super) fn place(&self) -> usize {
        self.id.0
    }

    /// Whether it follows or leads in phase 3.
    #[must_use]
    pub fn broadcasts(&self) -> bool {
        self.following.as_ref().is_some_and(Following::delivers)
    }
}
