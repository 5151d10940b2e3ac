//! The driver of the Raft core: what `node` is to the store, in small.
//!
//! This file is compiled twice: over the crate that ships, and over the same sources with the known mistakes
//! compiled in. See the module above.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::core::{
    Body, Config, Entry, Event, HardState, Input as Core, LogIndex, LogPosition, Membership,
    MembershipChange, MembershipStep, Message, Payload, Persist, Raft, Ready, ReplicaId, Restored,
    SnapshotMeta, SnapshotOutcome, Term,
};
use super::words;
use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::view::{Cell, CellState, View};

/// Requests that wait until a leader is known.
const PARKED_MAX: usize = 64;
/// Cells of a log that are shown: the last ones.
const CELLS_MAX: usize = 40;

pub(crate) fn replica(node: NodeId) -> ReplicaId {
    ReplicaId::new(node.0 as u64 + 1).expect("one more than something is not 0")
}

pub(crate) fn node(replica: ReplicaId) -> NodeId {
    NodeId(usize::try_from(replica.get() - 1).expect("replicas are made of nodes"))
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Append a value to the log.
    Write(u64),
    /// Read what is applied, linearizably.
    Read,
    /// Make it a voter.
    Add(NodeId),
    /// Take its vote.
    Remove(NodeId),
    /// Hand leadership over to it.
    Transfer(NodeId),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(value) => write!(f, "write({value})"),
            Self::Read => f.write_str("read()"),
            Self::Add(node) => write!(f, "add({node})"),
            Self::Remove(node) => write!(f, "remove({node})"),
            Self::Transfer(node) => write!(f, "transfer({node})"),
        }
    }
}

/// What replicas apply, and what clients are told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// An entry is applied.
    Applied {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// What it carries.
        what: String,
    },
    /// A request is done, by the entry at this index.
    Done(u64),
    /// A read is served from what is applied up to this index.
    Read(u64),
    /// A request is refused, and nothing was done.
    Refused(String),
    /// What was appended was overwritten: somebody else's entry has its place.
    Overwritten(u64),
}

/// The state machine: what was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// The last entry that is in it.
    pub at: LogPosition,
    /// The membership as of it.
    pub membership: Membership,
    /// The values, in order.
    pub values: Vec<u64>,
}

/// What goes from replica to replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A message of the core, and with a snapshot the state that it stands for.
    Core(Box<Message>, Option<Rc<App>>),
    /// A client's request, on its way to the leader.
    Ask(RequestId, Ask),
}

impl Hash for Wire {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The core's messages cannot be hashed; their text has all there is in them.
        format!("{self:?}").hash(state);
    }
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Term, vote, commit index.
    pub hard_state: HardState,
    /// The state that the log begins after.
    pub base: App,
    /// The log.
    pub entries: BTreeMap<LogIndex, Entry>,
}

impl Disk {
    pub(crate) fn new(restored: Restored) -> Self {
        let Restored { hard_state, membership, truncated, .. } = restored;
        let base = App { at: truncated, membership, values: Vec::new() };
        Self { hard_state, base, entries: BTreeMap::new() }
    }

    /// The index of its last entry.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.entries.last_key_value().map_or(self.base.at.index, |(&index, _)| index)
    }

    /// The term and the index of its last entry: what is compared in an election.
    pub(crate) fn ends_at(&self) -> (Term, LogIndex) {
        let last = self.entries.last_key_value().map(|(_, entry)| entry.position());
        let last = last.unwrap_or(self.base.at);
        (last.term, last.index)
    }

    fn restored(&self) -> Restored {
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for entry in self.entries.values() {
            if terms.last().is_none_or(|&(_, term)| term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        Restored {
            hard_state: self.hard_state,
            membership: self.base.membership.clone(),
            truncated: self.base.at,
            terms,
            last_index: self.last(),
            applied: self.base.at.index,
            entries: self.entries.values().cloned().collect(),
        }
    }

    fn write(&mut self, persist: &Persist, state: Option<&App>) {
        self.hard_state = persist.hard_state.unwrap_or(self.hard_state);
        if let Some(app) = state {
            self.base = app.clone();
            self.entries.clear();
        }
        if let Some(first) = persist.entries.first() {
            self.entries.split_off(&first.index);
        }
        self.entries.extend(persist.entries.iter().map(|entry| (entry.index, entry.clone())));
    }
}

/// How the replicas of a run are set up.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) founders: usize,
    write_us: u64,
    election_ms: u64,
    pre_vote: bool,
    check_quorum: bool,
    one_by_one: bool,
    breaks: fn(&mut Config, &Setup),
    setup: Setup,
}

impl Settings {
    pub(crate) fn of(setup: &Setup, breaks: fn(&mut Config, &Setup)) -> Self {
        let founders = usize::try_from(setup.knob("founders")).unwrap_or(0).min(setup.n);
        Self {
            founders: if founders == 0 { setup.n } else { founders },
            write_us: setup.knob("write_us"),
            election_ms: setup.knob("election_ms"),
            pre_vote: setup.knob("pre_vote") == 1,
            check_quorum: setup.knob("check_quorum") == 1,
            one_by_one: setup.knob("one_by_one") == 1,
            breaks,
            setup: setup.clone(),
        }
    }

    /// Whether a replica that was removed, or cut off for a while, cannot disturb the others.
    pub(crate) fn undisturbed(&self) -> bool {
        self.pre_vote && self.check_quorum
    }
}

/// Its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The next deadline of a core that does not lead.
    Election,
    /// The next deadline of a core that leads.
    Heartbeat,
    /// The first of the writes that are under way is done.
    Written,
}

/// A replica.
#[derive(Debug)]
pub struct Replica {
    settings: Rc<Settings>,
    id: NodeId,
    /// `None` before the first step.
    raft: Option<Raft>,
    app: App,
    /// Writes that are under way, and the state of their snapshots.
    writing: VecDeque<(Persist, Option<Rc<App>>)>,
    /// The state of a snapshot that arrived, until the core takes it.
    staged: Option<Rc<App>>,
    /// Requests that wait for an entry to be applied.
    waiting: BTreeMap<LogIndex, (Term, RequestId)>,
    /// Reads that wait for an index to be applied.
    reading: Vec<(LogIndex, RequestId)>,
    /// Requests that wait for a leader.
    parked: Vec<(RequestId, Ask)>,
    /// Why it has stopped.
    halted: Option<String>,
}

impl Process for Replica {
    type Message = Wire;
    type Timer = Timer;
    type Request = Ask;
    type Output = Output;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        if self.halted.is_some() {
            return;
        }
        match input {
            Input::Start | Input::Restart => self.begin(now.local, out),
            Input::Message { message: Wire::Core(message, state), .. } => {
                self.staged = state.or_else(|| self.staged.take());
                self.core(now.local, Core::Receive(*message));
            }
            Input::Message { message: Wire::Ask(id, ask), .. }
            | Input::Request { id, request: ask } => {
                self.ask(now.local, id, ask, out);
            }
            Input::Timer(Timer::Election | Timer::Heartbeat) => {
                self.core(now.local, self.timeout(now.local))
            }
            Input::Timer(Timer::Written) => self.written(now.local, out),
        }
        self.work(now.local, out);
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Election => "election timeout",
            Timer::Heartbeat => "heartbeat",
            Timer::Written => "a write to disk is done",
        };
        name.to_owned()
    }

    fn decides(output: &Output) -> String {
        words::decides(output)
    }

    fn kind(wire: &Wire) -> &'static str {
        let Wire::Core(message, _) = wire else { return "Ask" };
        match message.body {
            Body::PreVote { .. } => "PreVote",
            Body::PreVoteResponse { .. } => "PreVoteResponse",
            Body::Vote { .. } => "RequestVote",
            Body::VoteResponse { .. } => "VoteResponse",
            Body::Append { .. } => "AppendEntries",
            Body::AppendAccepted { .. } | Body::AppendRejected { .. } => "AppendResponse",
            Body::Heartbeat { .. } => "Heartbeat",
            Body::HeartbeatResponse { .. } => "HeartbeatResponse",
            Body::Commit { .. } => "Commit",
            Body::InstallSnapshot { .. } => "InstallSnapshot",
            _ => "Other",
        }
    }
}

impl Replica {
    pub(crate) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            raft: None,
            app: disk.base.clone(),
            writing: VecDeque::new(),
            staged: None,
            waiting: BTreeMap::new(),
            reading: Vec::new(),
            parked: Vec::new(),
            halted: None,
        }
    }

    /// The core, once it has begun.
    #[must_use]
    pub fn raft(&self) -> Option<&Raft> {
        self.raft.as_ref()
    }

    /// What is applied.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Why it has stopped, if it saw evidence that safety is broken.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        self.halted.as_deref()
    }

    fn begin(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        let settings = &self.settings;
        let mut config = Config::new(replica(self.id), out.dice().draw());
        config.election_timeout = Duration::from_millis(settings.election_ms);
        config.heartbeat_interval = Duration::from_millis(settings.election_ms / 5);
        config.pre_vote = settings.pre_vote;
        config.check_quorum = settings.check_quorum;
        if settings.one_by_one {
            config.append_bytes_max = 1;
            config.inflight_messages_max = 1;
        }
        (settings.breaks)(&mut config, &settings.setup);
        match Raft::new(now, config, out.disk().restored()) {
            Ok(raft) => self.raft = Some(raft),
            Err(error) => self.halted = Some(error.to_string()),
        }
    }

    /// A timer that was made to run out before its time is an election timeout to whoever does not lead.
    fn timeout(&self, now: Duration) -> Core {
        let early = |raft: &Raft| raft.next_deadline().is_some_and(|deadline| deadline > now);
        let early = self.raft.as_ref().is_some_and(|raft| !raft.is_leader() && early(raft));
        if early { Core::Campaign } else { Core::Timeout }
    }

    fn core(&mut self, now: Duration, input: Core) {
        let Some(raft) = &mut self.raft else { return };
        if let Err(stopped) = raft.step(now, input) {
            self.halted = Some(words::stopped(&stopped));
        }
    }

    /// Takes a client's request, hands it to the leader, or keeps it until there is one.
    fn ask(&mut self, now: Duration, id: RequestId, ask: Ask, out: &mut Out<'_, Self>) {
        let Some(raft) = &mut self.raft else { return };
        if !raft.is_leader() {
            match raft.leader() {
                Some(leader) => out.send(node(leader), Wire::Ask(id, ask)),
                None if self.parked.len() < PARKED_MAX => self.parked.push((id, ask)),
                None => out.reply(id, Output::Refused("nobody leads".to_owned())),
            }
            return;
        }
        let change = |step| Payload::membership(MembershipChange::of([step]));
        let payload = match ask {
            Ask::Write(value) => data(value),
            Ask::Add(node) => change(MembershipStep::AddVoter(replica(node))),
            Ask::Remove(node) => change(MembershipStep::Remove(replica(node))),
            Ask::Read => return self.core(now, Core::ReadIndex(id.0)),
            Ask::Transfer(node) => {
                return self.core(now, Core::TransferLeadership { to: replica(node) });
            }
        };
        match raft.propose(now, vec![payload]) {
            Ok(proposed) => {
                self.waiting.insert(proposed.first_index, (proposed.term, id));
            }
            Err(refused) => out.reply(id, Output::Refused(words::refused(&refused))),
        }
    }

    /// Does everything that the core asks for.
    fn work(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        while let Some(ready) = self.raft.as_mut().and_then(Raft::ready) {
            self.carry_out(now, ready, out);
        }
        let Some(raft) = &self.raft else { return };
        match raft.next_deadline() {
            Some(deadline) => {
                let (timer, other) = if raft.is_leader() {
                    (Timer::Heartbeat, Timer::Election)
                } else {
                    (Timer::Election, Timer::Heartbeat)
                };
                out.cancel(other);
                out.set(timer, deadline.saturating_sub(now));
            }
            None => {
                out.cancel(Timer::Election);
                out.cancel(Timer::Heartbeat);
            }
        }
        if raft.leader().is_some() && !self.parked.is_empty() {
            for (id, ask) in std::mem::take(&mut self.parked) {
                self.ask(now, id, ask, out);
            }
            self.work(now, out);
        }
    }

    fn carry_out(&mut self, now: Duration, ready: Ready, out: &mut Out<'_, Self>) {
        for message in ready.messages {
            out.send(node(message.to), Wire::Core(Box::new(message), None));
        }
        if let Some(persist) = ready.persist {
            self.write(now, persist, out);
        }
        for event in ready.events {
            match event {
                Event::Membership { membership, .. } => self.app.membership = membership,
                Event::Role { role, term, .. } => out.note(|| words::takes_role(role, term)),
                _ => {}
            }
        }
        for entry in ready.committed {
            self.apply(now, &entry, out);
        }
        for read in ready.reads {
            self.reading.push((read.index, RequestId(read.ctx)));
        }
        for failed in ready.failed_reads {
            out.reply(RequestId(failed.ctx), Output::Refused(failed.reason.to_string()));
        }
        let applied = self.app.at.index;
        for (_, id) in self.reading.extract_if(.., |(index, _)| *index <= applied) {
            out.reply(id, Output::Read(applied.0));
        }
        for request in ready.fetch {
            let entries = self.log(out.disk());
            let entries = entries.range(request.first..=request.last).map(|(_, it)| it.clone());
            let entries = entries.collect();
            self.core(now, Core::Fetched { id: request.id, entries });
        }
        for request in ready.snapshots {
            let snapshot =
                SnapshotMeta { position: self.app.at, membership: self.app.membership.clone() };
            let body =
                Body::InstallSnapshot { session: request.session, snapshot: Box::new(snapshot) };
            let from = replica(self.id);
            let message = Message { from, to: request.to, term: request.term, body };
            let state = Rc::new(self.app.clone());
            out.send(node(request.to), Wire::Core(Box::new(message), Some(state)));
            // Whether it arrives is not known. As if it had not: what arrives is acknowledged.
            let outcome = SnapshotOutcome::Failed;
            self.core(now, Core::SnapshotSent { to: request.to, outcome });
        }
    }

    fn write(&mut self, now: Duration, persist: Persist, out: &mut Out<'_, Self>) {
        let state = persist.snapshot.as_ref().and_then(|_| self.staged.take());
        if let Some(state) = &state {
            self.app = App::clone(state);
        }
        let idle = self.writing.is_empty();
        self.writing.push_back((persist, state));
        if self.settings.write_us == 0 {
            self.written(now, out);
        } else if idle {
            out.set(Timer::Written, Duration::from_micros(self.settings.write_us));
        }
    }

    /// The first write under way is durable; what was carried in it leaves.
    fn written(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        let Some((persist, state)) = self.writing.pop_front() else { return };
        out.persist(|disk| disk.write(&persist, state.as_deref()));
        for message in persist.then {
            out.send(node(message.to), Wire::Core(Box::new(message), None));
        }
        self.core(now, Core::LogWritten(persist.token));
        if !self.writing.is_empty() {
            out.set(Timer::Written, Duration::from_micros(self.settings.write_us));
        }
    }

    fn apply(&mut self, now: Duration, entry: &Entry, out: &mut Out<'_, Self>) {
        if let Some(value) = value(entry) {
            self.app.values.push(value);
        }
        self.app.at = entry.position();
        let (index, term) = (entry.index.0, entry.term.0);
        out.decide(Output::Applied { index, term, what: words::text(&entry.payload) });
        if let Some((term, id)) = self.waiting.remove(&entry.index) {
            let mine = term == entry.term;
            out.reply(id, if mine { Output::Done(index) } else { Output::Overwritten(index) });
        }
        self.core(now, Core::Applied(entry.index));
    }

    /// The log with the writes that are under way.
    fn log(&self, disk: &Disk) -> BTreeMap<LogIndex, Entry> {
        let mut log = disk.clone();
        for (persist, state) in &self.writing {
            log.write(persist, state.as_deref());
        }
        log.entries
    }

    pub(crate) fn view(&self, disk: &Disk) -> View {
        let Some(raft) = &self.raft else { return disk_view(disk) };
        let role = match &self.halted {
            Some(why) => format!("stopped: {why}"),
            None => words::role_name(raft.role()).to_owned(),
        };
        let log = self.log(disk);
        let cell = |entry: &Entry| Cell {
            at: entry.index.0,
            text: format!("{}:{}", entry.term, words::text(&entry.payload)),
            state: match entry.index {
                index if index <= raft.committed() => CellState::Committed,
                index if disk.entries.get(&index) == Some(entry) => CellState::Durable,
                _ => CellState::Tentative,
            },
        };
        let skip = log.len().saturating_sub(CELLS_MAX);
        let view = View {
            role,
            term: format!("term {}", raft.term()),
            log: log.values().skip(skip).map(cell).collect(),
            ..View::default()
        };
        let vote = raft.vote().map_or_else(|| "nobody".to_owned(), |vote| node(vote).to_string());
        view.with("voted for", vote)
            .with("committed up to", raft.committed())
            .with("members", words::members(raft.membership()))
    }
}

pub(crate) fn disk_view(disk: &Disk) -> View {
    let cell = |entry: &Entry| Cell {
        at: entry.index.0,
        text: format!("{}:{}", entry.term, words::text(&entry.payload)),
        state: CellState::Durable,
    };
    let skip = disk.entries.len().saturating_sub(CELLS_MAX);
    View {
        term: format!("term {}", disk.hard_state.term),
        log: disk.entries.values().skip(skip).map(cell).collect(),
        ..View::default()
    }
}

/// What an entry with a value carries...
pub(crate) fn data(value: u64) -> Payload {
    Payload::Data(Bytes::copy_from_slice(&value.to_be_bytes()))
}

/// ...and the value that one carries.
pub(crate) fn value(entry: &Entry) -> Option<u64> {
    value_in(&entry.payload)
}

pub(crate) fn value_in(payload: &Payload) -> Option<u64> {
    match payload {
        Payload::Data(data) => data.as_ref().try_into().ok().map(u64::from_be_bytes),
        _ => None,
    }
}
