//! Replicas on a table: nothing happens that is not asked for.
//!
//! Messages lie on the table until they are delivered or dropped, writes until they are synced.
//! Everything a replica emits is also kept as a line of text, for the golden scripts.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use raft::{
    Binding, Body, Config, Entry, Event, FetchRequest, HardState, Input, LogIndex, LogPosition,
    Membership, Message, Payload, Persist, Raft, ReadReady, Ready, ReplicaId, Restored,
    SendSnapshot, Stopped, Term,
};

pub(crate) fn id(n: u64) -> ReplicaId {
    ReplicaId::new(n).expect("not zero")
}

pub(crate) fn data(text: &str) -> Payload {
    Payload::Data(text.to_owned().into_bytes().into())
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    Entry { index: LogIndex(index), term: Term(term), payload: data("x") }
}

/// What a replica has been told to do and has not done, and what it has done.
#[derive(Default)]
pub(crate) struct Seat {
    pub(crate) writes: VecDeque<Persist>,
    /// What is on its disk.
    pub(crate) stored: Vec<Entry>,
    pub(crate) hard_state: HardState,
    pub(crate) applied: Vec<Entry>,
    pub(crate) reads: Vec<ReadReady>,
    pub(crate) failed_reads: Vec<u64>,
    pub(crate) fetches: Vec<FetchRequest>,
    pub(crate) snapshots: Vec<SendSnapshot>,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct Table {
    pub(crate) now: Duration,
    pub(crate) rafts: BTreeMap<ReplicaId, Raft>,
    pub(crate) seats: BTreeMap<ReplicaId, Seat>,
    pub(crate) network: VecDeque<Message>,
    pub(crate) trace: Vec<String>,
}

impl Table {
    /// Founding voters `1..=voters` of a group.
    pub(crate) fn of(voters: u64) -> Self {
        Self::with(voters, |_| ())
    }

    /// The same, with other settings.
    pub(crate) fn with(voters: u64, configure: impl Fn(&mut Config)) -> Self {
        let mut table = Self::empty();
        let founders = Membership::of_voters((1..=voters).map(id));
        for n in 1..=voters {
            table.seat(n, Restored::founding(founders.clone()), &configure);
        }
        table
    }

    pub(crate) fn empty() -> Self {
        Self {
            now: Duration::ZERO,
            rafts: BTreeMap::new(),
            seats: BTreeMap::new(),
            network: VecDeque::new(),
            trace: Vec::new(),
        }
    }

    /// Seats a replica, new or restarted.
    pub(crate) fn seat(&mut self, n: u64, restored: Restored, configure: impl Fn(&mut Config)) {
        let mut config = Config::new(id(n), n);
        configure(&mut config);
        let seat = Seat {
            stored: restored.entries.clone(),
            hard_state: restored.hard_state,
            ..Seat::default()
        };
        let raft = Raft::new(self.now, config, restored).expect("consistent");
        self.rafts.insert(id(n), raft);
        self.seats.insert(id(n), seat);
    }

    /// Founding voters with these logs (terms of the entries from index 2 on) and this term.
    pub(crate) fn with_logs(logs: &[&[u64]], term: u64, configure: impl Fn(&mut Config)) -> Self {
        let mut table = Self::empty();
        let founders = Membership::of_voters((1..=logs.len() as u64).map(id));
        for (n, terms) in (1..).zip(logs) {
            let mut restored = Restored::founding(founders.clone());
            restored.hard_state.term = Term(term);
            restored.entries = (2..).zip(*terms).map(|(index, &term)| entry(index, term)).collect();
            for entry in &restored.entries {
                restored.last_index = entry.index;
                if restored.terms.last().is_none_or(|&(_, term)| term != entry.term) {
                    restored.terms.push((entry.index, entry.term));
                }
            }
            table.seat(n, restored, &configure);
        }
        table
    }

    pub(crate) fn raft(&self, n: u64) -> &Raft {
        &self.rafts[&id(n)]
    }

    pub(crate) fn seat_of(&self, n: u64) -> &Seat {
        &self.seats[&id(n)]
    }

    pub(crate) fn try_step(&mut self, n: u64, input: Input) -> Result<(), Stopped> {
        let now = self.now;
        let result = self.rafts.get_mut(&id(n)).expect("seated").step(now, input);
        self.collect(n);
        result
    }

    pub(crate) fn step(&mut self, n: u64, input: Input) {
        self.try_step(n, input).expect("nothing is broken");
    }

    /// Hands a replica a message of that term, as if a peer had sent it.
    pub(crate) fn tell(&mut self, from: u64, to: u64, term: u64, body: Body) {
        let message = Message { from: id(from), to: id(to), term: Term(term), body };
        self.step(to, Input::Receive(message));
    }

    pub(crate) fn propose(
        &mut self,
        n: u64,
        payloads: Vec<Payload>,
    ) -> Result<raft::Proposed, raft::Refused> {
        let now = self.now;
        let result = self.rafts.get_mut(&id(n)).expect("seated").propose(now, payloads);
        self.collect(n);
        result
    }

    /// Takes everything that a replica has to say.
    fn collect(&mut self, n: u64) {
        while let Some(ready) = self.rafts.get_mut(&id(n)).expect("seated").ready() {
            self.trace.extend(describe(n, &ready));
            let seat = self.seats.get_mut(&id(n)).expect("seated");
            self.network.extend(ready.messages);
            seat.writes.extend(ready.persist);
            seat.reads.extend(ready.reads);
            seat.failed_reads.extend(ready.failed_reads.iter().map(|failed| failed.ctx));
            seat.fetches.extend(ready.fetch);
            seat.snapshots.extend(ready.snapshots);
            seat.events.extend(ready.events);
            if let Some(last) = ready.committed.last().map(|entry| entry.index) {
                seat.applied.extend(ready.committed);
                let now = self.now;
                let raft = self.rafts.get_mut(&id(n)).expect("seated");
                raft.step(now, Input::Applied(last)).expect("nothing is broken");
            }
        }
    }

    /// Completes the oldest write of a replica, if there is one.
    pub(crate) fn sync_one(&mut self, n: u64) -> bool {
        let seat = self.seats.get_mut(&id(n)).expect("seated");
        let Some(persist) = seat.writes.pop_front() else { return false };
        seat.hard_state = persist.hard_state.unwrap_or(seat.hard_state);
        if let Some(first) = persist.entries.first() {
            seat.stored.retain(|entry| entry.index < first.index);
            seat.stored.extend(persist.entries);
        }
        if !persist.then.is_empty() {
            let then: Vec<String> = persist.then.iter().map(message).collect();
            self.trace.push(format!("{n} synced, releases {}", then.join("; ")));
        }
        self.network.extend(persist.then);
        self.step(n, Input::LogWritten(persist.token));
        true
    }

    pub(crate) fn sync(&mut self, n: u64) {
        while self.sync_one(n) {}
    }

    /// Takes the messages from one replica to another off the table.
    pub(crate) fn take(&mut self, from: u64, to: u64) -> Vec<Message> {
        let ours = |message: &Message| (message.from, message.to) == (id(from), id(to));
        let taken = self.network.iter().filter(|message| ours(message)).cloned().collect();
        self.network.retain(|message| !ours(message));
        taken
    }

    /// Delivers what lies on the table from one replica to another.
    pub(crate) fn deliver(&mut self, from: u64, to: u64) {
        for message in self.take(from, to) {
            self.step(to, Input::Receive(message));
        }
    }

    /// Syncs and delivers everything among these replicas, over and over; the rest is lost.
    pub(crate) fn settle_among(&mut self, among: &[u64]) {
        for _ in 0..10_000 {
            let mut busy = false;
            for &n in among {
                busy |= self.sync_one(n);
            }
            if let Some(message) = self.network.pop_front() {
                busy = true;
                let reach = |at: ReplicaId| among.contains(&at.get());
                if reach(message.from) && reach(message.to) && self.rafts.contains_key(&message.to)
                {
                    self.step(message.to.get(), Input::Receive(message));
                }
            }
            if !busy {
                return;
            }
        }
        panic!("the table does not come to rest");
    }

    pub(crate) fn settle(&mut self) {
        let all: Vec<u64> = self.rafts.keys().map(|id| id.get()).collect();
        self.settle_among(&all);
    }

    /// Lets a replica campaign and win.
    pub(crate) fn elect(&mut self, n: u64) {
        self.step(n, Input::Campaign);
        self.settle();
        assert!(self.raft(n).is_leader(), "{n} was to be elected");
    }

    /// Time passes for everyone, deadline by deadline; what falls due happens.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        for n in self.rafts.keys().map(|id| id.get()).collect::<Vec<_>>() {
            self.step(n, Input::Timeout);
        }
    }

    /// The terms of a replica's log, entry by entry after the founding position.
    pub(crate) fn terms(&self, n: u64) -> Vec<u64> {
        let raft = self.raft(n);
        let indexes = raft.truncated().index.0 + 1..=raft.last().index.0;
        indexes.map(|index| raft.term_at(LogIndex(index)).expect("in the log").0).collect()
    }

    /// What a replica's disk holds of the log, by term.
    pub(crate) fn stored_terms(&self, n: u64) -> Vec<u64> {
        self.seat_of(n).stored.iter().map(|entry| entry.term.0).collect()
    }
}

/// A replica's output, one line for each part.
fn describe(n: u64, ready: &Ready) -> Vec<String> {
    let mut lines = Vec::new();
    for event in &ready.events {
        lines.push(format!("{n} {}", self::event(event)));
    }
    if let Some(persist) = &ready.persist {
        let mut line = format!("{n} writes");
        if let Some(HardState { term, vote, commit, binding }) = persist.hard_state {
            let vote = vote.map_or("nobody".to_owned(), |vote| vote.to_string());
            let _ = write!(line, " term {term} vote {vote} commit {commit}");
            if let Some(Binding { leader, epoch }) = binding {
                let _ = write!(line, " bound to {leader} in epoch {epoch}");
            }
        }
        if let Some(snapshot) = &persist.snapshot {
            let _ = write!(line, " snapshot {}", snapshot.position);
        }
        let _ = write!(line, " {}", entries(&persist.entries));
        if !persist.then.is_empty() {
            let then: Vec<String> = persist.then.iter().map(message).collect();
            let _ = write!(line, " then {}", then.join("; "));
        }
        lines.push(line);
    }
    lines.extend(ready.messages.iter().map(|sent| format!("{n} sends {}", message(sent))));
    if !ready.committed.is_empty() {
        lines.push(format!("{n} applies {}", entries(&ready.committed)));
    }
    for read in &ready.reads {
        lines.push(format!("{n} may read {} at {}", read.ctx, read.index));
    }
    for failed in &ready.failed_reads {
        lines.push(format!("{n} will not read {}: {}", failed.ctx, failed.reason));
    }
    for fetch in &ready.fetch {
        lines.push(format!("{n} fetches {}..={} for {:?}", fetch.first, fetch.last, fetch.peer));
    }
    for snapshot in &ready.snapshots {
        lines.push(format!("{n} owes {} a snapshot of {}", snapshot.to, snapshot.at_least));
    }
    lines
}

fn event(event: &Event) -> String {
    match event {
        Event::Role { role, term, leader } => {
            let leader = leader.map_or(String::new(), |leader| format!(", led by {leader}"));
            format!("is {role:?} in {term}{leader}").to_lowercase()
        }
        Event::TermCommitted { term } => format!("has committed in {term}"),
        Event::Membership { index, membership } => format!("from {index}: {membership}"),
        Event::EntriesLost { peer, acknowledged } => {
            format!("{peer} has lost {acknowledged}, which it acknowledged")
        }
        Event::SupportWanted { leader, .. } => format!("{leader} wants support"),
        Event::TransferEnded { to, outcome } => format!("transfer to {to}: {outcome:?}"),
    }
}

fn entries(entries: &[Entry]) -> String {
    let one = |entry: &Entry| match &entry.payload {
        Payload::Empty => entry.position().to_string(),
        Payload::Data(data) => {
            format!("{}={}", entry.position(), String::from_utf8_lossy(data))
        }
        Payload::Membership(change) => {
            format!("{}={:?}{:?}", entry.position(), change.transition, change.steps)
                .replace("ReplicaId", "")
        }
    };
    format!("[{}]", entries.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    let body = match body {
        Body::PreVote { campaign_term, last } => format!("pre-vote for {campaign_term}? {last}"),
        Body::PreVoteResponse { granted, .. } => format!("pre-vote {granted}"),
        Body::Vote { last, transfer } => {
            format!("vote? {last}{}", if *transfer { " by transfer" } else { "" })
        }
        Body::VoteResponse { granted, .. } => format!("vote {granted}"),
        Body::Append { prev, entries, commit, .. } => {
            format!("append after {prev} {} commit {commit}", self::entries(entries))
        }
        Body::AppendAccepted { matched, .. } => format!("accepted {matched}"),
        Body::AppendRejected { rejected, hint, .. } => format!("rejected {rejected} hint {hint}"),
        Body::Heartbeat { commit, round } => format!("heartbeat commit {commit} round {round}"),
        Body::HeartbeatResponse { round, .. } => format!("heartbeat seen round {round}"),
        Body::Commit { commit } => format!("commit {commit}"),
        Body::InstallSnapshot { snapshot, .. } => format!("snapshot {}", snapshot.position),
        Body::TimeoutNow => "campaign now".to_owned(),
        Body::StaleTerm => "your term is over".to_owned(),
        Body::Fortify => "stand by me".to_owned(),
        Body::Fortified { epoch } => format!("standing by in epoch {epoch}"),
        Body::Counted { epoch, commit } => format!("counted on in epoch {epoch} commit {commit}"),
        Body::Release => "released".to_owned(),
        Body::Released => "free".to_owned(),
    };
    format!("{from}->{to} t{term} {body}")
}

/// A position from numbers.
pub(crate) fn at(index: u64, term: u64) -> LogPosition {
    LogPosition::new(index, term)
}
