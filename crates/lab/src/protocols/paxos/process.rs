//! The process: proposer, acceptor and learner in one.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::view::View;

/// A ballot number. No two proposers have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Compared first.
    pub round: u64,
    /// Whose.
    pub proposer: NodeId,
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.proposer.0)
    }
}

/// A value to choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// A proposal: a value under a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub value: Value,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.value, self.ballot)
    }
}

/// What processes say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Phase 1a: will you promise this ballot?
    Prepare(Ballot),
    /// Phase 1b: I will accept nothing lower; so far I accepted this.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// The proposal of the highest ballot that it accepted.
        accepted: Option<Proposal>,
    },
    /// Phase 2a: accept this.
    Accept(Proposal),
    /// Phase 2b: I did. To all learners.
    Accepted(Proposal),
    /// I have promised a higher one.
    Reject {
        /// The ballot asked for.
        ballot: Ballot,
        /// The one promised.
        promised: Ballot,
    },
    /// This is what was chosen.
    Chosen(Value),
    /// To the distinguished proposer: propose this.
    Propose(Value),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare(ballot) => write!(f, "Prepare {ballot}"),
            Self::Promise { ballot, accepted: None } => write!(f, "Promise {ballot}"),
            Self::Promise { ballot, accepted: Some(accepted) } => {
                write!(f, "Promise {ballot}, accepted {accepted}")
            }
            Self::Accept(proposal) => write!(f, "Accept {proposal}"),
            Self::Accepted(proposal) => write!(f, "Accepted {proposal}"),
            Self::Reject { ballot, promised } => write!(f, "Reject {ballot}, promised {promised}"),
            Self::Chosen(value) => write!(f, "Chosen {value}"),
            Self::Propose(value) => write!(f, "Propose {value}"),
        }
    }
}

/// Its only timer: begin another ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Begin another ballot.
    NextBallot,
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The highest round of an own ballot.
    pub round: u64,
    /// The highest ballot promised.
    pub promised: Option<Ballot>,
    /// The proposal of the highest ballot accepted.
    pub accepted: Option<Proposal>,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    n: usize,
    patience_ms: u64,
    /// How long a ballot is waited for before the next is begun.
    timeout: Duration,
    leader: Option<NodeId>,
    commonest_value: bool,
    own_value: bool,
    forget_promise: bool,
    forget_accepted: bool,
    accept_without_promising: bool,
    accept_anything: bool,
    reuse_ballot: bool,
    shared_ballots: bool,
    minority_chooses: bool,
    mixed_ballots: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        let leader = usize::try_from(setup.knob("leader")).unwrap_or(0);
        Self {
            n: setup.n,
            patience_ms: setup.knob("patience_ms"),
            timeout: Duration::from_millis(setup.knob("timeout_ms")),
            leader: leader.checked_sub(1).filter(|&leader| leader < setup.n).map(NodeId),
            commonest_value: setup.broken("commonest-value"),
            own_value: setup.broken("own-value"),
            forget_promise: setup.broken("forget-promise"),
            forget_accepted: setup.broken("forget-accepted"),
            accept_without_promising: setup.broken("accept-without-promising"),
            accept_anything: setup.broken("accept-anything"),
            reuse_ballot: setup.broken("reuse-ballot"),
            shared_ballots: setup.broken("shared-ballots"),
            minority_chooses: setup.broken("minority-chooses"),
            mixed_ballots: setup.broken("mixed-ballots"),
        }
    }

    /// How many acceptors are enough to choose.
    fn enough_to_choose(&self) -> usize {
        let majority = self.n / 2 + 1;
        if self.minority_chooses { (majority - 1).max(1) } else { majority }
    }
}

/// An own ballot that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Campaign {
    ballot: Ballot,
    /// Who has promised, and what each accepted before.
    promises: BTreeMap<NodeId, Option<Proposal>>,
    /// Phase 2 has begun.
    proposed: bool,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    settings: Rc<Settings>,
    id: NodeId,
    // The proposer.
    round: u64,
    /// What it wants chosen, until it learns what is.
    wants: Option<Value>,
    campaign: Option<Campaign>,
    waiting: Vec<RequestId>,
    // The acceptor: in memory what is on the disk, unless it is broken.
    promised: Option<Ballot>,
    accepted: Option<Proposal>,
    // The learner.
    /// The latest proposal that each acceptor is known to have accepted.
    heard: BTreeMap<NodeId, Proposal>,
    chosen: Option<Value>,
}

impl Process for Paxos {
    type Message = Message;
    type Timer = Timer;
    type Request = Value;
    type Output = Value;
    type Disk = Disk;

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => {}
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Timer(Timer::NextBallot) => self.begin_ballot(out),
            Input::Message { from, message } => match message {
                Message::Prepare(ballot) => self.on_prepare(from, ballot, out),
                Message::Promise { ballot, accepted } => {
                    self.on_promise(from, ballot, accepted, out);
                }
                Message::Accept(proposal) => self.on_accept(from, proposal, out),
                Message::Accepted(proposal) => self.on_accepted(from, proposal, out),
                Message::Reject { ballot, promised } => self.on_reject(ballot, promised, out),
                Message::Chosen(value) => self.learn(value, out),
                Message::Propose(value) => self.want(value, out),
            },
        }
    }

    fn timer(timer: &Timer) -> String {
        let Timer::NextBallot = timer;
        "time for the next ballot".to_owned()
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Prepare(_) => "Prepare",
            Message::Promise { .. } => "Promise",
            Message::Accept(_) => "Accept",
            Message::Accepted(_) => "Accepted",
            Message::Reject { .. } => "Reject",
            Message::Chosen(_) => "Chosen",
            Message::Propose(_) => "Propose",
        }
    }
}

impl Paxos {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            round: disk.round,
            wants: None,
            campaign: None,
            waiting: Vec::new(),
            promised: disk.promised,
            accepted: disk.accepted,
            heard: BTreeMap::new(),
            chosen: None,
        }
    }

    /// What it has learned to be chosen.
    #[must_use]
    pub fn chosen(&self) -> Option<Value> {
        self.chosen
    }

    /// What it wants chosen, until it learns what is.
    #[must_use]
    pub fn wants(&self) -> Option<Value> {
        self.wants
    }

    fn everyone(&self) -> impl Iterator<Item = NodeId> + use<> {
        NodeId::all(self.settings.n)
    }

    // The proposer.

    fn on_request(&mut self, id: RequestId, value: Value, out: &mut Out<'_, Self>) {
        if let Some(chosen) = self.chosen {
            out.reply(id, chosen);
            return;
        }
        self.waiting.push(id);
        match self.settings.leader {
            Some(leader) if leader != self.id => out.send(leader, Message::Propose(value)),
            _ => self.want(value, out),
        }
    }

    fn want(&mut self, value: Value, out: &mut Out<'_, Self>) {
        if self.chosen.is_none() && self.wants.is_none() {
            self.wants = Some(value);
            self.begin_ballot(out);
        }
    }

    /// Phase 1a.
    fn begin_ballot(&mut self, out: &mut Out<'_, Self>) {
        if self.wants.is_none() {
            return;
        }
        self.round += 1;
        let round = self.round;
        if !self.settings.reuse_ballot {
            // Before the ballot is used: a restart must not use it again.
            out.persist(|disk| disk.round = round);
        }
        let proposer = if self.settings.shared_ballots { NodeId(0) } else { self.id };
        let ballot = Ballot { round, proposer };
        self.campaign = Some(Campaign { ballot, promises: BTreeMap::new(), proposed: false });
        out.send_all(self.everyone(), &Message::Prepare(ballot));
        let jitter = out.dice().below(self.settings.patience_ms + 1);
        out.set(Timer::NextBallot, self.settings.timeout + Duration::from_millis(jitter));
    }

    /// Phase 2a, with a majority of promises.
    fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        accepted: Option<Proposal>,
        out: &mut Out<'_, Self>,
    ) {
        let Some(campaign) = self.campaign.as_mut().filter(|it| it.ballot == ballot) else {
            return; // Of an earlier ballot.
        };
        campaign.promises.insert(from, accepted);
        if campaign.proposed || campaign.promises.len() <= self.settings.n / 2 {
            return;
        }
        campaign.proposed = true;
        let Some(own) = self.wants else { return };
        let value = value_to_propose(&self.settings, &campaign.promises).unwrap_or(own);
        out.note(|| format!("a majority promised {ballot}: proposes {value}, wanted {own}"));
        out.send_all(self.everyone(), &Message::Accept(Proposal { ballot, value }));
    }

    fn on_reject(&mut self, ballot: Ballot, promised: Ballot, out: &mut Out<'_, Self>) {
        self.overtaken_by(promised, Some(ballot), out);
    }

    /// Somebody promised a higher ballot than the one under way: gives it up, and begins another later.
    fn overtaken_by(&mut self, higher: Ballot, mine: Option<Ballot>, out: &mut Out<'_, Self>) {
        self.round = self.round.max(higher.round);
        let current = self.campaign.as_ref().map(|campaign| campaign.ballot);
        let concerns_mine =
            current.is_some_and(|it| it < higher && mine.is_none_or(|mine| mine == it));
        if !concerns_mine {
            return;
        }
        self.campaign = None;
        let wait_ms = out.dice().below(self.settings.patience_ms + 1);
        out.set(Timer::NextBallot, Duration::from_millis(wait_ms));
        out.note(|| format!("overtaken by {higher}: the next ballot in {wait_ms} ms"));
    }

    // The acceptor.

    /// Phase 1b.
    fn on_prepare(&mut self, from: NodeId, ballot: Ballot, out: &mut Out<'_, Self>) {
        if let Some(chosen) = self.chosen {
            out.send(from, Message::Chosen(chosen));
            return;
        }
        if let Some(promised) = self.promised.filter(|&promised| promised > ballot) {
            out.send(from, Message::Reject { ballot, promised });
            return;
        }
        self.promised = Some(ballot);
        if !self.settings.forget_promise {
            out.persist(|disk| disk.promised = Some(ballot));
        }
        out.send(from, Message::Promise { ballot, accepted: self.accepted });
        self.overtaken_by(ballot, None, out);
    }

    /// Phase 2b.
    fn on_accept(&mut self, from: NodeId, proposal: Proposal, out: &mut Out<'_, Self>) {
        let ballot = proposal.ballot;
        let higher = self.promised.filter(|&promised| promised > ballot);
        if let Some(promised) = higher.filter(|_| !self.settings.accept_anything) {
            out.send(from, Message::Reject { ballot, promised });
            return;
        }
        if !self.settings.accept_without_promising {
            // Accepting b promises b, even if the prepare request never arrived.
            self.promised = Some(ballot);
            out.persist(|disk| disk.promised = Some(ballot));
        }
        self.accepted = Some(proposal);
        if !self.settings.forget_accepted {
            out.persist(|disk| disk.accepted = Some(proposal));
        }
        out.send_all(self.everyone(), &Message::Accepted(proposal));
        self.overtaken_by(ballot, None, out);
    }

    // The learner.

    fn on_accepted(&mut self, from: NodeId, proposal: Proposal, out: &mut Out<'_, Self>) {
        let latest = self.heard.entry(from).or_insert(proposal);
        *latest = (*latest).max(proposal);
        let counts = |other: &&Proposal| {
            other.ballot == proposal.ballot
                || self.settings.mixed_ballots && other.value == proposal.value
        };
        if self.heard.values().filter(counts).count() >= self.settings.enough_to_choose() {
            self.learn(proposal.value, out);
        }
    }

    fn learn(&mut self, value: Value, out: &mut Out<'_, Self>) {
        if self.chosen.is_some() {
            return;
        }
        self.chosen = Some(value);
        self.wants = None;
        self.campaign = None;
        out.cancel(Timer::NextBallot);
        out.decide(value);
        for id in self.waiting.drain(..) {
            out.reply(id, value);
        }
    }

    pub(super) fn view(&self) -> View {
        let role = match &self.campaign {
            _ if self.chosen.is_some() => "learned".to_owned(),
            Some(campaign) if campaign.proposed => format!("proposes in {}", campaign.ballot),
            Some(campaign) => format!("prepares {}", campaign.ballot),
            None if self.wants.is_some() => "waits".to_owned(),
            None => "acceptor".to_owned(),
        };
        let view = View {
            role,
            term: self.promised.map(|ballot| format!("promised {ballot}")).unwrap_or_default(),
            decided: self.chosen.map(|value| value.to_string()),
            ..View::default()
        };
        match self.wants {
            Some(value) => view.with("wants", value),
            None => view,
        }
    }
}

/// The value that the promises bind a proposer to, if any.
fn value_to_propose(
    settings: &Settings,
    promises: &BTreeMap<NodeId, Option<Proposal>>,
) -> Option<Value> {
    let accepted: Vec<Proposal> = promises.values().copied().flatten().collect();
    if settings.own_value {
        return None;
    }
    if settings.commonest_value {
        let votes = |value| accepted.iter().filter(|proposal| proposal.value == value).count();
        return accepted
            .iter()
            .map(|proposal| proposal.value)
            .max_by_key(|&value| (votes(value), value));
    }
    accepted.iter().max_by_key(|proposal| proposal.ballot).map(|proposal| proposal.value)
}
