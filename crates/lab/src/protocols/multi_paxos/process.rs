//! The replica: what it keeps, how it steps, and its part as an acceptor.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::leader::Role;
use super::message::{Command, Disk, Message, Output, Proposal, Slot, State, Value};
use super::settings::Settings;
use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocols::paxos::Ballot;

/// Its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// No leader was heard for too long.
    Election,
    /// A leader's: time to be heard.
    Heartbeat,
}

/// A client's request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    value: u64,
    /// A heartbeat has come since it was handed to the leader. With the next one it is handed over again.
    long: bool,
}

/// A replica: proposer, acceptor, learner and state machine in one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MultiPaxos {
    pub(super) settings: Rc<Settings>,
    pub(super) id: NodeId,
    // The proposer.
    pub(super) round: u64,
    pub(super) role: Role,
    /// Its own clients' requests.
    pub(super) waiting: BTreeMap<RequestId, Waiting>,
    /// The ballot of the leader that was heard last, unless a higher one has begun.
    pub(super) leader: Option<Ballot>,
    // The acceptor: in memory what is on the disk, unless it is broken.
    pub(super) promised: Option<Ballot>,
    pub(super) accepted: BTreeMap<Slot, Proposal>,
    // The learner.
    /// What it knows to be chosen in slots that are not discarded.
    pub(super) learned: BTreeMap<Slot, Value>,
    // The state machine.
    pub(super) state: State,
    pub(super) snapshot: State,
}

impl Process for MultiPaxos {
    type Message = Message;
    type Timer = Timer;
    type Request = u64;
    type Output = Output;
    type Disk = Disk;

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => self.await_leader(out),
            Input::Timer(Timer::Election) => self.begin_ballot(out),
            Input::Timer(Timer::Heartbeat) => self.on_heartbeat_due(out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Message { from, message } => self.on_message(from, message, out),
        }
        self.fill_window(out);
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Election => "election timeout",
            Timer::Heartbeat => "heartbeat",
        };
        name.to_owned()
    }

    fn decides(output: &Output) -> String {
        match output {
            Output::Installed { .. } => format!("installs {output}"),
            _ => format!("applies {output}"),
        }
    }

    fn kind(message: &Message) -> &'static str {
        message.kind()
    }
}

impl MultiPaxos {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            round: disk.round,
            role: Role::Follower,
            waiting: BTreeMap::new(),
            leader: None,
            promised: disk.promised,
            accepted: disk.accepted.clone(),
            learned: BTreeMap::new(),
            state: disk.snapshot.clone(),
            snapshot: disk.snapshot.clone(),
        }
    }

    /// What its state machine has come to.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether it takes itself for the leader.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// How many of its clients wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn everyone(&self) -> impl Iterator<Item = NodeId> + Clone + use<> {
        NodeId::all(self.settings.n)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        let id = self.id;
        self.everyone().filter(move |&other| other != id)
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Out<'_, Self>) {
        match message {
            Message::Prepare { ballot, from: slot } => self.on_prepare(from, ballot, slot, out),
            Message::Promise { ballot, accepted, snapshot } => {
                self.on_promise(from, ballot, accepted, snapshot, out);
            }
            Message::Accept { slot, proposal, commit } => {
                self.on_accept(from, slot, proposal, commit, out);
            }
            Message::Accepted { slot, proposal } => self.on_accepted(from, slot, proposal, out),
            Message::Reject { promised } => self.overtaken_by(promised, out),
            Message::Heartbeat { ballot, commit } => self.on_heartbeat(from, ballot, commit, out),
            Message::Ask { from: slot } => self.on_ask(from, slot, out),
            Message::Chosen { from: slot, values } => self.on_chosen(slot, values, out),
            Message::Snapshot(state) => self.install(state, out),
            Message::Propose(command) => self.on_propose(from, command, out),
            Message::Written { id, slot } => self.answer(id, slot, out),
        }
    }

    // The acceptor.

    /// Phase 1b, for all slots at once.
    fn on_prepare(&mut self, from: NodeId, ballot: Ballot, slot: Slot, out: &mut Out<'_, Self>) {
        if let Some(promised) = self.promised.filter(|&promised| promised > ballot) {
            out.send(from, Message::Reject { promised });
            return;
        }
        self.promise(ballot, out);
        if ballot.proposer != self.id {
            self.await_leader(out);
        }
        // What was accepted in discarded slots cannot be named any more. But what was chosen there can.
        let discarded = slot < self.snapshot.next && !self.settings.forget_below_snapshot;
        let snapshot = discarded.then(|| self.snapshot.clone());
        let accepted = self.accepted.range(slot..).map(|(&slot, &it)| (slot, it)).collect();
        out.send(from, Message::Promise { ballot, accepted, snapshot });
    }

    /// Phase 2b.
    fn on_accept(
        &mut self,
        from: NodeId,
        slot: Slot,
        proposal: Proposal,
        commit: Slot,
        out: &mut Out<'_, Self>,
    ) {
        if !self.heed(from, proposal.ballot, out) {
            return;
        }
        // In a slot below the snapshot this can only be the chosen value, and the snapshot has it.
        if slot >= self.snapshot.next {
            self.accepted.insert(slot, proposal);
            if !self.settings.forget_accepted {
                out.persist(|disk| {
                    disk.accepted.insert(slot, proposal);
                });
            }
        }
        out.send(from, Message::Accepted { slot, proposal });
        if self.settings.apply_when_accepted && slot >= self.state.next {
            self.learned.insert(slot, proposal.value);
        }
        self.learn_below(proposal.ballot, commit, out);
    }

    fn on_heartbeat(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        commit: Slot,
        out: &mut Out<'_, Self>,
    ) {
        if !self.heed(from, ballot, out) {
            return;
        }
        self.learn_below(ballot, commit, out);
        if self.state.next < commit {
            out.send(from, Message::Ask { from: self.state.next });
        }
        // Requests are lost like anything else.
        for (&id, waiting) in &mut self.waiting {
            if waiting.long {
                out.send(from, Message::Propose(Command { id, value: waiting.value }));
            }
            waiting.long = true;
        }
    }

    /// Follows whoever leads with this ballot, unless a higher one is promised.
    fn heed(&mut self, from: NodeId, ballot: Ballot, out: &mut Out<'_, Self>) -> bool {
        if let Some(promised) = self.promised.filter(|&promised| promised > ballot) {
            out.send(from, Message::Reject { promised });
            return false;
        }
        // Accepting b promises b, even if the prepare request never arrived.
        self.promise(ballot, out);
        if from == self.id {
            return true;
        }
        self.await_leader(out);
        if self.leader != Some(ballot) {
            self.leader = Some(ballot);
            for (&id, waiting) in &mut self.waiting {
                waiting.long = false;
                out.send(from, Message::Propose(Command { id, value: waiting.value }));
            }
        }
        true
    }

    /// Promises to accept nothing below this ballot, which is not below what is promised.
    fn promise(&mut self, ballot: Ballot, out: &mut Out<'_, Self>) {
        if self.promised != Some(ballot) {
            self.promised = Some(ballot);
            if !self.settings.forget_promise {
                out.persist(|disk| disk.promised = Some(ballot));
            }
        }
        self.overtaken_by(ballot, out);
    }

    /// Waits for a leader to be heard, a random time.
    pub(super) fn await_leader(&mut self, out: &mut Out<'_, Self>) {
        let shortest_ms = self.settings.election_ms;
        let wait_ms = out.dice().within(shortest_ms, 2 * shortest_ms);
        out.set(Timer::Election, Duration::from_millis(wait_ms));
    }

    // Clients.

    fn on_request(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Self>) {
        self.waiting.insert(id, Waiting { value, long: false });
        let command = Command { id, value };
        if self.leads() {
            self.on_propose(self.id, command, out);
        } else if let Some(leader) = self.leader {
            out.send(leader.proposer, Message::Propose(command));
        }
    }

    /// A request took effect: whoever waits for it here is told.
    pub(super) fn answer(&mut self, id: RequestId, slot: Slot, out: &mut Out<'_, Self>) {
        if self.waiting.remove(&id).is_some() {
            out.reply(id, Output::Written { slot });
        }
        if let Role::Leader(leader) = &mut self.role
            && let Some(asker) = leader.asked.remove(&id)
        {
            out.send(asker, Message::Written { id, slot });
        }
    }

    pub(super) fn own_commands(&self) -> impl Iterator<Item = Command> + '_ {
        self.waiting.iter().map(|(&id, waiting)| Command { id, value: waiting.value })
    }
}
