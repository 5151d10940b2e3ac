//! A replica in the normal case: pre-prepare, prepare, commit, execute (§4.2).

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::message::{
    Assignment, Certificate, Checkpoint, Message, NewView, Phase, Proof, Request, Seq, State,
    ViewChange, ViewNumber, Vote,
};
use super::process::{Output, Party, Settings, Timer};
use crate::process::{Input, InputOf, NodeId, Out};

/// The patience of a replica doubles so many times at most; the paper's has no end.
const DOUBLINGS_MAX: u32 = 6;

/// What a replica has for one sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The pre-prepare that it accepted last.
    pub accepted: Option<Vote>,
    /// Pre-prepares that overtook the new-view of their view, one of each primary.
    pub early: BTreeMap<NodeId, Vote>,
    /// The prepare of the highest view that each backup sent.
    pub prepares: BTreeMap<NodeId, Vote>,
    /// The commit of the highest view that each replica sent.
    pub commits: BTreeMap<NodeId, Vote>,
    /// The certificate of the highest view in which it has prepared.
    pub certificate: Option<Certificate>,
    /// What is committed: there is no way back.
    pub committed: Option<Assignment>,
}

/// What a replica has on its disk: its state, its log and its view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The view that it is in, or is moving to.
    pub view: ViewNumber,
    /// Whether it is in it, and not on the way there.
    pub active: bool,
    /// The last request executed.
    pub executed: Seq,
    /// The state after it.
    pub state: State,
    /// A primary: the last sequence number assigned.
    pub assigned: Seq,
    /// The last stable checkpoint: the low watermark.
    pub stable: Proof,
    /// The states at checkpoints from the last stable one on, where it has got that far.
    pub snapshots: BTreeMap<Seq, State>,
    /// Who says what about the state at later checkpoints.
    pub checkpoints: BTreeMap<Seq, BTreeMap<NodeId, Checkpoint>>,
    /// Above the last stable checkpoint.
    pub slots: BTreeMap<Seq, Slot>,
    /// The last view-change of each replica.
    pub view_changes: BTreeMap<NodeId, ViewChange>,
    /// What began the view.
    pub new_view: Option<NewView>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            view: ViewNumber::default(),
            active: true,
            executed: Seq(0),
            state: State::default(),
            assigned: Seq(0),
            stable: Proof::default(),
            snapshots: [(Seq(0), State::default())].into(),
            checkpoints: BTreeMap::new(),
            slots: BTreeMap::new(),
            view_changes: BTreeMap::new(),
            new_view: None,
        }
    }
}

/// A replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    pub(super) settings: Rc<Settings>,
    pub(super) id: NodeId,
    /// As it will be on the disk at the end of the step.
    pub(super) log: Log,
    /// Requests that are not executed, as they came; one of each client.
    pub(super) pending: VecDeque<Request>,
    /// The request that the timer runs for.
    watched: Option<Request>,
    /// View changes since a request was last executed: each doubles the patience.
    pub(super) attempts: u32,
    /// Whether the timer for the new view runs.
    pub(super) awaits_new_view: bool,
}

impl Replica {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, log: &Log) -> Self {
        let mut log = log.clone();
        if settings.forget_on_restart {
            log.slots.clear();
            log.assigned = log.executed;
        }
        Self {
            settings,
            id,
            log,
            pending: VecDeque::new(),
            watched: None,
            attempts: 0,
            awaits_new_view: false,
        }
    }

    pub(super) fn step(&mut self, input: InputOf<Party>, out: &mut Out<'_, Party>) {
        match input {
            Input::Start => {}
            Input::Restart => self.come_again(out),
            Input::Request { id, request } => {
                out.send(self.settings.client(id.0), Message::Ask { id, value: request });
            }
            Input::Timer(Timer::Patience) => self.change_view(self.log.view.next(), out),
            Input::Timer(Timer::Again) => self.say_again(out),
            Input::Message { from, message } => self.receive(from, message, out),
        }
        self.watch(out);
        if self.log != out.disk().log {
            let log = self.log.clone();
            out.persist(|disk| disk.log = log);
        }
    }

    fn receive(&mut self, from: NodeId, message: Message, out: &mut Out<'_, Party>) {
        match message {
            Message::Request(request) => self.on_request(from, request, out),
            Message::Vote(vote) => self.on_vote(from, vote, out),
            Message::Checkpoint(checkpoint) => self.on_checkpoint(from, checkpoint, out),
            Message::ViewChange(view_change) => self.on_view_change(view_change, out),
            Message::NewView(new_view) => self.on_new_view(new_view, out),
            Message::Fetch(proof) => self.on_fetch(from, &proof, out),
            Message::State { proof, state } => self.on_state(proof, state, out),
            Message::Ask { .. } | Message::Reply { .. } => {}
        }
    }

    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        let id = self.id;
        self.settings.replicas().filter(move |&other| other != id)
    }

    pub(super) fn is_primary(&self) -> bool {
        self.settings.primary(self.log.view) == self.id
    }

    pub(super) fn patience(&self) -> std::time::Duration {
        self.settings.timeout * (1 << self.attempts.min(DOUBLINGS_MAX))
    }

    /// While a request waits to be executed, a timer runs for it. The paper's primary has none; ours may be
    /// cut off like anyone else.
    fn watch(&mut self, out: &mut Out<'_, Party>) {
        if !self.log.active || self.settings.no_view_change {
            self.watched = None;
            return;
        }
        let first = self.pending.front().copied();
        if first != self.watched {
            self.watched = first;
            match first {
                Some(_) => out.set(Timer::Patience, self.patience()),
                None => out.cancel(Timer::Patience),
            }
        }
    }

    /// The timer is to run anew for whatever waits then.
    pub(super) fn watch_anew(&mut self, out: &mut Out<'_, Party>) {
        self.watched = None;
        out.cancel(Timer::Patience);
    }

    // Requests.

    fn on_request(&mut self, from: NodeId, request: Request, out: &mut Out<'_, Party>) {
        if !request.is_genuine(&self.settings) {
            return;
        }
        if let Some(&(timestamp, result)) = self.log.state.replies.get(&request.client) {
            if request.timestamp == timestamp {
                let view = self.log.view;
                out.send(request.client, Message::Reply { view, timestamp, result });
            }
            if request.timestamp <= timestamp {
                return;
            }
        }
        let waits = self.pending.iter().find(|other| other.client == request.client);
        if waits.is_none_or(|other| other.timestamp < request.timestamp) {
            self.pending.retain(|other| other.client != request.client);
            self.pending.push_back(request);
        }
        if self.is_primary() {
            self.assign(out);
        } else if from == request.client {
            out.send(self.settings.primary(self.log.view), Message::Request(request));
        }
    }

    /// The primary gives what waits the next sequence numbers, while there are any below the high watermark.
    pub(super) fn assign(&mut self, out: &mut Out<'_, Party>) {
        if !self.log.active || !self.is_primary() {
            return;
        }
        let high = self.settings.high(self.log.stable.seq);
        for request in self.pending.clone() {
            let request = Some(request);
            let view = self.log.view;
            let known = self.log.slots.values().filter_map(|slot| slot.accepted);
            let mut known = known.map(|vote| vote.assignment);
            if self.log.assigned >= high || known.any(|it| it.view == view && it.request == request)
            {
                continue;
            }
            self.log.assigned = self.log.assigned.next();
            let assignment = Assignment { view, seq: self.log.assigned, request };
            let vote = Vote::signed(self.id, Phase::PrePrepare, assignment);
            out.send_all(self.others(), &Message::Vote(vote));
            self.accept(vote, out);
        }
    }

    // The three phases.

    fn on_vote(&mut self, from: NodeId, vote: Vote, out: &mut Out<'_, Party>) {
        let Assignment { view, seq, .. } = vote.assignment;
        let low = self.log.stable.seq;
        let within = low < seq && seq <= self.settings.high(low);
        let by_primary = self.settings.primary(view) == from;
        if vote.signature.signer != from || !vote.is_genuine() || !within {
            return;
        }
        match vote.phase {
            Phase::PrePrepare if by_primary => self.on_pre_prepare(vote, out),
            // The primary's pre-prepare is its vote: it may not have two.
            Phase::Prepare if !by_primary && self.settings.is_replica(from) => {
                let slot = self.log.slots.entry(seq).or_default();
                hear(&mut slot.prepares, from, vote);
                self.advance(seq, out);
            }
            Phase::Commit if self.settings.is_replica(from) => {
                let slot = self.log.slots.entry(seq).or_default();
                hear(&mut slot.commits, from, vote);
                self.advance(seq, out);
            }
            Phase::PrePrepare | Phase::Prepare | Phase::Commit => {}
        }
    }

    fn on_pre_prepare(&mut self, vote: Vote, out: &mut Out<'_, Party>) {
        let Assignment { view, seq, request } = vote.assignment;
        // Null requests are for new views.
        let genuine = request.is_some_and(|request| request.is_genuine(&self.settings));
        if !genuine {
            return;
        }
        if !self.takes_part_in(view) {
            if view >= self.log.view {
                let slot = self.log.slots.entry(seq).or_default();
                hear(&mut slot.early, vote.signature.signer, vote);
            }
            return;
        }
        let accepted = self.log.slots.get(&seq).and_then(|slot| slot.accepted);
        match accepted.filter(|accepted| accepted.assignment.view >= view) {
            Some(accepted) if accepted.assignment == vote.assignment => {}
            Some(accepted) if !self.settings.accept_twice => {
                out.note(|| format!("it has accepted {accepted}"));
            }
            _ => self.accept(vote, out),
        }
    }

    /// Now that the view has begun, looks at what overtook its beginning.
    pub(super) fn take_early(&mut self, out: &mut Out<'_, Party>) {
        let view = self.log.view;
        let early = self.log.slots.values().flat_map(|slot| slot.early.values());
        let early: Vec<Vote> = early.filter(|it| it.assignment.view == view).copied().collect();
        for vote in early {
            self.on_pre_prepare(vote, out);
        }
    }

    /// Whether it votes in this view: it has left all others, for good.
    fn takes_part_in(&self, view: ViewNumber) -> bool {
        let leaving = !self.log.active && view.next() == self.log.view;
        self.log.active && view == self.log.view || self.settings.stay_in_view && leaving
    }

    /// Accepts a pre-prepare. A backup says so.
    pub(super) fn accept(&mut self, vote: Vote, out: &mut Out<'_, Party>) {
        let assignment = vote.assignment;
        let slot = self.log.slots.entry(assignment.seq).or_default();
        slot.accepted = Some(vote);
        if vote.signature.signer != self.id {
            let prepare = Vote::signed(self.id, Phase::Prepare, assignment);
            slot.prepares.insert(self.id, prepare);
            out.send_all(self.others(), &Message::Vote(prepare));
        }
        self.advance(assignment.seq, out);
    }

    /// Prepared, when a quorum has voted for what was accepted in this view; committed, when a quorum has
    /// prepared it.
    fn advance(&mut self, seq: Seq, out: &mut Out<'_, Party>) {
        let Some(slot) = self.log.slots.get(&seq) else { return };
        let accepted = slot.accepted.filter(|it| self.takes_part_in(it.assignment.view));
        let Some(accepted) = accepted else { return };
        let assignment = accepted.assignment;
        let others = self.others();
        let slot = self.log.slots.entry(seq).or_default();
        let prepared = slot.certificate.as_ref().map(|it| it.assignment.view);
        if prepared.is_none_or(|view| view < assignment.view) {
            let matching = slot.prepares.values().filter(|it| it.assignment == assignment);
            let prepares: Vec<_> = matching.map(|it| it.signature).collect();
            if prepares.len() + 1 < self.settings.prepare_quorum {
                return;
            }
            let pre_prepare = accepted.signature;
            slot.certificate = Some(Certificate { assignment, pre_prepare, prepares });
            let commit = Vote::signed(self.id, Phase::Commit, assignment);
            slot.commits.insert(self.id, commit);
            out.send_all(others, &Message::Vote(commit));
        }
        let mixed = self.settings.mixed_views;
        let counts = |it: &&Vote| {
            it.assignment == assignment || mixed && it.assignment.request == assignment.request
        };
        let commits = slot.commits.values().filter(counts).count();
        if commits >= self.settings.quorum || self.settings.no_commit_phase {
            slot.committed = Some(assignment);
            self.execute(out);
        }
    }

    // Execution.

    /// Executes what is committed, in order.
    pub(super) fn execute(&mut self, out: &mut Out<'_, Party>) {
        while let Some(assignment) =
            self.log.slots.get(&self.log.executed.next()).and_then(|slot| slot.committed)
        {
            let Assignment { seq, request, .. } = assignment;
            self.log.executed = seq;
            let result =
                request.and_then(|request| self.log.state.execute(request, &self.settings));
            let state = self.log.state.digest();
            out.decide(Output::Executed { seq, request, result, state });
            if let (Some(request), Some(result)) = (request, result) {
                self.attempts = 0;
                let (view, timestamp) = (self.log.view, request.timestamp);
                out.send(request.client, Message::Reply { view, timestamp, result });
            }
            self.forget_executed();
            if seq.0.is_multiple_of(self.settings.checkpoint) {
                self.take_checkpoint(out);
            }
        }
    }

    /// What was executed waits no more.
    pub(super) fn forget_executed(&mut self) {
        let replies = &self.log.state.replies;
        self.pending.retain(|request| {
            replies.get(&request.client).is_none_or(|&(last, _)| last < request.timestamp)
        });
    }
}

/// Keeps a replica's vote of the highest view, and the first in it: a traitor has one voice.
fn hear(votes: &mut BTreeMap<NodeId, Vote>, from: NodeId, vote: Vote) {
    let known = votes.get(&from).map(|known| known.assignment.view);
    if known.is_none_or(|view| view < vote.assignment.view) {
        votes.insert(from, vote);
    }
}
