//! The engine: a discrete-event simulation of processes, of the network between them, and of what breaks.
//!
//! Time is simulated, in microseconds. What is going to happen (a message arrives, a timer runs out) lies in
//! one queue, ordered by time and then by the order in which it was put there; what is done to the run lies
//! in its [`Script`]. [`World::step`] takes the next of both and lets it happen: that is an *event*. After
//! every event the protocol's observer checks its rules.
//!
//! # Deterministic
//!
//! A run is its setup and its script. Nothing else has a say: no clock, no thread, no order of a hash map.
//! Every event is taken into a running [`Digest`]; equal digests are equal runs.
//!
//! # Fork
//!
//! [`World`] cannot be copied (a protocol may be code that cannot), and need not be: a run that is made again
//! up to an event is the same run. `When::Event` in a script is how something else is done from there on.
//!
//! # Caveats
//!
//! - A step of a process takes no time. Slowness is a message's, or a pause.
//! - A disk is written at once. A protocol that cares about slow disks sets a timer and persists when it fires.
//! - A message is lost if its link is cut when it leaves or when it would arrive. A message to a process that
//!   is down is lost; one to a process that is paused waits.

mod acts;
mod lies;
mod network;
mod processes;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

pub use tally::{Replied, Tally};

use crate::digest::Digest;
use crate::process::{Effect, EffectOf, Input, InputOf, NodeId, Out, Process, RequestId};
use crate::protocol::{
    Acknowledged, Broken, BrokenAt, Node, Protocol, Seen, Setup, Stepped, Traitors, Verdict,
};
use crate::script::{Script, What};
use acts::Acts;
use network::Network;
use processes::{Body, Waiting};

type Message<P> = <<P as Protocol>::Process as Process>::Message;
type Timer<P> = <<P as Protocol>::Process as Process>::Timer;
type Request<P> = <<P as Protocol>::Process as Process>::Request;

/// Where something lies in the queue: its time, then its number.
type Key = (u64, u64);

/// Something that is going to happen by itself.
#[derive(Debug)]
enum Due<P: Protocol> {
    Start(NodeId),
    Arrive(u64),
    Timer { node: NodeId, timer: Timer<P>, depth: u64 },
    Request { node: NodeId, id: RequestId, request: Request<P> },
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Nothing was left to happen.
    Quiet,
    /// The script's end came.
    Limit,
    /// A rule broke.
    Broken,
}

/// What happened in one event, for whoever writes it down.
#[derive(Debug)]
pub struct Happened<P: Protocol> {
    /// How many events there were before.
    pub event: u64,
    /// When, in microseconds.
    pub at_us: u64,
    /// What.
    pub what: Occurred,
    /// Whom it happened to, if it was one process.
    pub node: Option<NodeId>,
    /// What the process was told, if it took a step.
    pub input: Option<InputOf<P::Process>>,
    /// What it did.
    pub effects: Vec<EffectOf<P::Process>>,
    /// The numbers of the messages that left.
    pub sent: Vec<u64>,
    /// Those of them that are lies.
    pub lies: Vec<u64>,
    /// What a traitor should have said and did not, and to whom; only written down while telling.
    pub kept_back: Vec<(NodeId, Message<P>)>,
    /// The numbers of the messages that were lost, and why.
    pub lost: Vec<(u64, Lost)>,
}

/// What sort of event it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Occurred {
    /// A process began, or began again.
    Began,
    /// A message, by its number, arrived.
    Arrived(u64),
    /// A timer ran out.
    Expired,
    /// A client's request reached a process.
    Asked(RequestId),
    /// What arrived had to wait: the process is paused.
    Waits,
    /// What was to happen did not: the process is down, the link is cut.
    Missed,
    /// Something was done.
    Act(What),
}

/// Why a message was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// By chance.
    Chance,
    /// The link was cut.
    Cut,
    /// The process was down.
    Down,
    /// By an act of the script.
    Act,
}

impl Lost {
    /// Why, in words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Chance => "by chance",
            Self::Cut => "the link is cut",
            Self::Down => "nobody is there",
            Self::Act => "taken away",
        }
    }
}

/// A message on its way, as others see it.
#[derive(Debug)]
pub struct InFlight<'a, M> {
    /// Its number.
    pub id: u64,
    /// From.
    pub from: NodeId,
    /// To.
    pub to: NodeId,
    /// What.
    pub message: &'a M,
    /// When it will arrive, if nothing comes between; `None` if it is held.
    pub arrives_us: Option<u64>,
}

/// A run that is under way.
#[derive(Debug)]
pub struct World<P: Protocol> {
    setup: Setup,
    script: Script,
    protocol: P,
    nodes: Vec<Node<P>>,
    bodies: Vec<Body<P>>,
    queue: BTreeMap<Key, Due<P>>,
    next_key: u64,
    network: Network<Message<P>>,
    acts: Acts,
    next_request: u64,
    /// What clients asked for...
    requests: BTreeMap<RequestId, Request<P>>,
    /// ...and what they were told.
    acknowledged: Vec<Acknowledged<P>>,
    now_us: u64,
    events: u64,
    digest: Digest,
    tally: Tally,
    telling: bool,
    verdict: Verdict,
    happened: Option<Happened<P>>,
}

impl<P: Protocol> World<P> {
    /// A run that is about to begin. The setup and the script have been checked. With `telling`, processes
    /// say why they do what they do.
    #[must_use]
    pub fn new(setup: Setup, script: Script, telling: bool) -> Self {
        let protocol = P::new(&setup);
        let all = setup.n + P::besides(&setup);
        let node =
            |id| Node { process: None, disk: protocol.disk(id), paused: false, traitor: false };
        let mut world = Self {
            nodes: NodeId::all(all).map(node).collect(),
            bodies: NodeId::all(all).map(|id| Body::new(setup.seed, id)).collect(),
            queue: BTreeMap::new(),
            next_key: 0,
            network: Network::new(all, setup.seed, script.weather.clone()),
            acts: Acts::new(&script.acts),
            next_request: 0,
            requests: BTreeMap::new(),
            acknowledged: Vec::new(),
            now_us: 0,
            events: 0,
            digest: Digest::default(),
            tally: Tally::default(),
            telling,
            verdict: Verdict::new(const { &P::ABOUT }, &setup),
            happened: None,
            setup,
            script,
            protocol,
        };
        for id in NodeId::all(all) {
            world.enqueue(0, Due::Start(id));
        }
        world
    }

    /// Lets the next thing happen. What it was is in [`World::happened`].
    ///
    /// # Errors
    /// Why the run is over, if it is; then nothing has happened.
    pub fn step(&mut self) -> Result<(), Ended> {
        if self.verdict.broken().is_some() {
            return Err(Ended::Broken);
        }
        if self.events >= self.script.end.events {
            return Err(Ended::Limit);
        }
        let next_us = self.queue.first_key_value().map(|(&(at_us, _), _)| at_us);
        // First of all every process begins: what is done at time 0 is done to something.
        let begun = self.events >= self.nodes.len() as u64;
        let act = self.acts.due(self.events, next_us).filter(|_| begun);
        let at_us = match act {
            Some((_, at_us)) => at_us.unwrap_or(self.now_us),
            None => next_us.ok_or(Ended::Quiet)?,
        };
        if at_us > self.script.end.at_us {
            return Err(Ended::Limit);
        }
        self.now_us = self.now_us.max(at_us);
        self.sweep();
        if let Some((index, _)) = act {
            self.acts.done(index);
            let what = self.script.acts[index].what.clone();
            self.act(what);
        } else if let Some((_, due)) = self.queue.pop_first() {
            self.occur(due);
        }
        self.close_event();
        Ok(())
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Ended {
        loop {
            if let Err(ended) = self.step() {
                return self.finish(ended);
            }
        }
    }

    /// Asks for what must have happened by the end, if the script promises a calm end.
    pub fn finish(&mut self, ended: Ended) -> Ended {
        // Where no generated script crashes anybody who is to come again, who is down is down for good.
        let up = |node: &Node<P>| node.process.is_some() || !P::ABOUT.bears.crashes;
        let made_for = P::ABOUT.bears.traitors != Traitors::None;
        let calm = (made_for || self.nodes.iter().all(|node| !node.traitor))
            && self.script.calm_from_us.is_some_and(|from_us| from_us <= self.now_us)
            && self.events < self.script.end.events
            && self.nodes.iter().all(|node| up(node) && !node.paused)
            && !self.network.any_cut();
        if ended == Ended::Broken || !calm {
            return ended;
        }
        let now = Duration::from_micros(self.now_us);
        let seen = Seen { event: self.events, now, stepped: None, act: None, nodes: &self.nodes };
        self.verdict.at(self.events);
        self.protocol.at_end(&seen, &mut self.verdict);
        if self.verdict.broken().is_some() { Ended::Broken } else { ended }
    }

    fn enqueue(&mut self, at_us: u64, due: Due<P>) -> Key {
        let key = (at_us, self.next_key);
        self.next_key += 1;
        self.queue.insert(key, due);
        key
    }

    /// Begins to write down an event.
    fn open_event(&mut self, what: Occurred, node: Option<NodeId>) -> &mut Happened<P> {
        assert!(self.happened.is_none(), "one event at a time");
        self.happened.insert(Happened {
            event: self.events,
            at_us: self.now_us,
            what,
            node,
            input: None,
            effects: Vec::new(),
            sent: Vec::new(),
            lies: Vec::new(),
            kept_back: Vec::new(),
            lost: Vec::new(),
        })
    }

    /// Takes the event into the digest, and checks the rules.
    fn close_event(&mut self) {
        let happened = self.happened.as_ref().expect("every event is written down");
        self.digest.absorb(&(happened.at_us, &happened.what, happened.node, &happened.input));
        for effect in &happened.effects {
            // Notes are left out: they are only made when somebody listens.
            if !matches!(effect, Effect::Note(_)) {
                self.digest.absorb(effect);
            }
        }
        self.digest.absorb(&happened.lost);
        // Nothing is promised for a traitor. Where the protocol is made for traitors its rules see to that.
        let made_for = P::ABOUT.bears.traitors != Traitors::None;
        let judged = |node: &NodeId| made_for || !self.nodes[node.0].traitor;
        let stepped = match (happened.node.filter(judged), &happened.input) {
            (Some(node), Some(input)) => Some(Stepped { node, input, effects: &happened.effects }),
            _ => None,
        };
        let act = match &happened.what {
            Occurred::Act(what) => Some(what),
            _ => None,
        };
        let now = Duration::from_micros(self.now_us);
        let seen = Seen { event: self.events, now, stepped, act, nodes: &self.nodes };
        self.verdict.at(self.events);
        self.protocol.check(&seen, &mut self.verdict);
        self.events += 1;
    }

    /// Something happens by itself.
    fn occur(&mut self, due: Due<P>) {
        match due {
            Due::Start(node) => self.begin(node, Input::Start),
            Due::Arrive(id) => self.arrive(id),
            Due::Timer { node, timer, depth } => {
                self.bodies[node.0].timers.remove(&timer);
                if self.nodes[node.0].paused {
                    self.bodies[node.0].waiting.push(Waiting::Timer { timer, depth });
                    self.open_event(Occurred::Waits, Some(node));
                } else {
                    self.open_event(Occurred::Expired, Some(node));
                    self.feed(node, Input::Timer(timer), depth);
                }
            }
            Due::Request { node, id, request } => self.ask(node, id, request),
        }
    }

    fn arrive(&mut self, id: u64) {
        let flying = self.network.land(id);
        let to = flying.to;
        if self.network.is_cut(flying.from, to) {
            self.open_event(Occurred::Missed, Some(to)).lost.push((id, Lost::Cut));
            self.tally.lost += 1;
        } else if self.nodes[to.0].process.is_none() {
            self.open_event(Occurred::Missed, Some(to)).lost.push((id, Lost::Down));
            self.tally.lost += 1;
        } else if self.nodes[to.0].paused {
            self.network.hold(id, flying);
            self.bodies[to.0].waiting.push(Waiting::Message(id));
            self.open_event(Occurred::Waits, Some(to));
        } else {
            self.tally.delivered += 1;
            self.open_event(Occurred::Arrived(id), Some(to));
            let input = Input::Message { from: flying.from, message: flying.message };
            self.feed(to, input, flying.depth);
        }
    }

    /// Lets a process take a step, and carries out what it wants.
    fn feed(&mut self, id: NodeId, input: InputOf<P::Process>, depth: u64) {
        let now = self.bodies[id.0].now(self.now_us);
        let node = &mut self.nodes[id.0];
        let process = node.process.as_mut().expect("only processes that are up take steps");
        assert!(!node.paused, "a paused process takes no steps");
        let mut out = Out::new(&mut node.disk, &mut self.bodies[id.0].dice, self.telling);
        process.step(now, input.clone(), &mut out);
        let effects = out.into_effects();
        for effect in &effects {
            match effect {
                Effect::Send { to, message } => self.say(id, *to, message, depth),
                Effect::Set { timer, after } => self.set(id, *timer, *after, depth),
                Effect::Cancel(timer) => self.cancel(id, *timer),
                Effect::Reply { id: request, output } => {
                    self.acknowledge(id, *request, output);
                    self.tally.replied(*request, self.now_us, depth);
                }
                Effect::Decide(_) => self.tally.decided += 1,
                Effect::Persist => self.tally.persisted += 1,
                Effect::Note(_) => {}
            }
        }
        let happened = self.happened.as_mut().expect("a step is part of an event");
        happened.input = Some(input);
        happened.effects = effects;
    }

    /// Remembers what a client is told, if it had not been told anything.
    fn acknowledge(&mut self, by: NodeId, id: RequestId, output: &<P::Process as Process>::Output) {
        let Some(request) = self.requests.remove(&id) else { return };
        if !self.nodes[by.0].traitor {
            self.acknowledged.push(Acknowledged { id, request, by, output: output.clone() });
        }
    }

    /// How much of what clients were told is done is gone: see [`Protocol::lost`].
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.protocol.lost(&self.acknowledged, &self.nodes)
    }

    /// The setup.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The observer.
    #[must_use]
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// All processes.
    #[must_use]
    pub fn nodes(&self) -> &[Node<P>] {
        &self.nodes
    }

    /// What happened last.
    #[must_use]
    pub fn happened(&self) -> Option<&Happened<P>> {
        self.happened.as_ref()
    }

    /// The rule that broke.
    #[must_use]
    pub fn broken(&self) -> Option<&Broken> {
        self.verdict.broken()
    }

    /// Where each rule first broke, watched or not.
    #[must_use]
    pub fn all_broken(&self) -> &[BrokenAt] {
        self.verdict.all()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The time, in microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The digest of all events so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What was counted.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether nothing passes from one to the other.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.network.is_cut(from, to)
    }

    /// The messages on their way, in the order of their numbers.
    pub fn in_flight(&self) -> impl Iterator<Item = InFlight<'_, Message<P>>> {
        self.network.in_flight()
    }

    /// A message that has left and not arrived.
    #[must_use]
    pub fn message(&self, id: u64) -> Option<InFlight<'_, Message<P>>> {
        self.network.message(id)
    }
}
