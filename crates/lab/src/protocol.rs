//! What a protocol tells the lab about itself, and how it is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::process::{Effect, EffectOf, InputOf, NodeId, Process, RequestId};
use crate::script::{Script, What};
use crate::swarm;
use crate::view::View;

/// A protocol: how its processes begin, what its clients ask, and what must hold after every event.
///
/// A value of it is the observer of one run: it sees everything, remembers what it needs (what was ever
/// accepted, by whom), and takes no part. `crates/lab/README.md` says how to add one.
pub trait Protocol: fmt::Debug + Sized + 'static {
    /// Its process.
    type Process: Process;

    /// What it is, in words.
    const ABOUT: About;

    /// The observer of a run. The setup has been checked against [`Protocol::ABOUT`].
    fn new(setup: &Setup) -> Self;

    /// How many processes there are besides the `n`: clients that are processes, a configuration service.
    /// Their places follow those of the `n`.
    fn besides(_setup: &Setup) -> usize {
        0
    }

    /// The disk that a process begins with, or begins again with after it was lost.
    fn disk(&self, node: NodeId) -> DiskOf<Self>;

    /// A process that begins or begins again, with what is on its disk. Its first step follows.
    fn process(&self, node: NodeId, disk: &DiskOf<Self>) -> Self::Process;

    /// What a client asks for by the name of an operation and its arguments; `None` if they make no sense.
    fn request(&self, op: &str, args: &[u64]) -> Option<<Self::Process as Process>::Request>;

    /// What a traitor says instead of a message that its code would have sent: nothing, something else, more.
    /// `choice` is greater than 0; any number must mean something. What is returned must be in the traitor's
    /// power: it may lie, and may not sign for others.
    ///
    /// A protocol that is not made for traitors ([`Traitors::None`]) need not know any lies: the engine has some that
    /// need no words, and takes those where nothing is returned. Its rules are asked of the loyal alone, and its
    /// generated scripts have no traitors: that a rule breaks where somebody makes one is no mistake of its.
    fn forge(
        &self,
        _from: NodeId,
        _to: NodeId,
        _message: &<Self::Process as Process>::Message,
        _choice: u64,
    ) -> Vec<<Self::Process as Process>::Message> {
        Vec::new()
    }

    /// Checks every rule after an event.
    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict);

    /// Checks what must have happened by the end. Asked only if the run ended calm: all up (or down for good,
    /// if the protocol's generated scripts do not restart anybody: [`Bears::crashes`]), connected and undisturbed
    /// from [`Script::calm_from_us`] to [`crate::script::End::at_us`].
    fn at_end(&mut self, _seen: &Seen<'_, Self>, _verdict: &mut Verdict) {}

    /// Of what clients were told is done, how much the processes no longer have, or contradict. It is counted by what
    /// they have when all is over, on their disks and in their states, and by nothing that [`Protocol::check`]
    /// remembers: a second opinion on the rules. `None` where clients are told
    /// nothing: the generals, and who waits for all, only decide, and whether two decide differently is a rule of theirs.
    fn lost(&self, _acknowledged: &[Acknowledged<Self>], _nodes: &[Node<Self>]) -> Option<u64> {
        None
    }

    /// What is shown of a process. `None` if it is down: then its disk is all there is.
    fn view(&self, node: NodeId, process: Option<&Self::Process>, disk: &DiskOf<Self>) -> View;

    /// A script for a seed, with faults in swarm fashion. The default suits most.
    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::script::<Self>(setup, dice)
    }

    /// Something that a client may ask for, for generated scripts; `nth` counts from 0.
    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        swarm::wish(&Self::ABOUT, setup, dice, nth)
    }
}

/// The disk of a protocol's process.
pub type DiskOf<P> = <<P as Protocol>::Process as Process>::Disk;

/// A protocol in words: what the page and the command line show.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct About {
    /// For a command line and a URL.
    pub name: &'static str,
    /// For a heading.
    pub title: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// What a reader can learn it from: the text of the module's page.
    pub essay: &'static str,
    /// What is checked.
    pub rules: &'static [Rule],
    /// How it can be broken on purpose.
    pub variants: &'static [Variant],
    /// What can be set.
    pub knobs: &'static [Knob],
    /// What clients can ask for.
    pub operations: &'static [Operation],
    /// How many processes there may be.
    pub nodes: Nodes,
    /// What generated scripts may do to it: what it claims to bear.
    pub bears: Bears,
    /// Runs by hand that make its points, the first of them first.
    pub lessons: &'static [Lesson],
}

/// A property that is checked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rule {
    /// Short, for lists: `chosen-once`.
    pub name: &'static str,
    /// In the paper's words.
    pub says: &'static str,
    /// Whether it says how the protocol works, or what is promised.
    pub kind: RuleKind,
    /// Whether it says that something good happens in the end (liveness), and not that nothing bad ever does (safety).
    /// Where both break, the second is the worse.
    pub eventual: bool,
}

/// What sort of property a rule is. Where both sorts break, a reader wants to see the second: the first only says
/// that a step was not as it should be, the second what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// How the protocol works: a step that it must take or not take, an invariant that its proof rests on. That one
    /// broke is a mistake, and nobody need have been harmed by it yet.
    Mechanism,
    /// What the protocol promises to whoever uses it: that one broke is the harm. Something committed is lost, two
    /// decide differently, a client is told what is not so, or is never told anything.
    Promise,
}

impl Rule {
    /// A property of how the protocol works.
    #[must_use]
    pub const fn mechanism(name: &'static str, says: &'static str) -> Self {
        Self { name, says, kind: RuleKind::Mechanism, eventual: false }
    }

    /// A property that is promised to whoever uses the protocol.
    #[must_use]
    pub const fn promise(name: &'static str, says: &'static str) -> Self {
        Self { name, says, kind: RuleKind::Promise, eventual: false }
    }

    /// Something that is promised to happen in the end.
    #[must_use]
    pub const fn eventual(name: &'static str, says: &'static str) -> Self {
        Self { name, says, kind: RuleKind::Promise, eventual: true }
    }

    /// What is worse to break comes first: a promise that nothing bad happens, one that something good does, a rule
    /// of the mechanism.
    fn rank(&self) -> u8 {
        match (self.kind, self.eventual) {
            (RuleKind::Promise, false) => 0,
            (RuleKind::Promise, true) => 1,
            (RuleKind::Mechanism, _) => 2,
        }
    }
}

impl About {
    /// The kind of the rule of this name; none of [`crate::facade::ASSERTION`], which is no rule.
    #[must_use]
    pub fn kind_of(&self, rule: &str) -> Option<RuleKind> {
        self.rules.iter().find(|known| known.name == rule).map(|known| known.kind)
    }

    /// Whether it is a promise that nothing bad happens.
    #[must_use]
    pub fn is_safety(&self, rule: &str) -> bool {
        self.rules.iter().any(|known| known.name == rule && known.rank() == 0)
    }

    /// Whether it is a promise that something happens in the end.
    #[must_use]
    pub fn is_eventual(&self, rule: &str) -> bool {
        self.rules.iter().any(|known| known.name == rule && known.eventual)
    }

    /// The names of the rules that are promises.
    pub fn promises(&self) -> impl Iterator<Item = &'static str> + use<> {
        let promises = self.rules.iter().filter(|rule| rule.kind == RuleKind::Promise);
        promises.map(|rule| rule.name)
    }
}

/// A way to break the protocol.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Variant {
    /// Short, for a toggle: `forget-promise`.
    pub name: &'static str,
    /// What is done wrong.
    pub says: &'static str,
    /// The seeds within which `check` must catch it.
    pub seeds_max: u64,
    /// What must be set for it to show, if not the default.
    pub with: &'static [(&'static str, u64)],
    /// How many processes it needs to show, if not the default.
    pub n: Option<usize>,
}

impl Variant {
    /// One that shows with the defaults.
    #[must_use]
    pub const fn new(name: &'static str, says: &'static str, seeds_max: u64) -> Self {
        Self { name, says, seeds_max, with: &[], n: None }
    }
}

/// Something that can be set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Knob {
    /// Its name.
    pub name: &'static str,
    /// What it does, with its unit.
    pub says: &'static str,
    /// What it is if it is not set.
    pub default: u64,
    /// The least it can be.
    pub min: u64,
    /// The most it can be.
    pub max: u64,
}

/// Something that clients can ask for.
///
/// What any replicated log or register can do has the same name everywhere, so that one script runs on all:
/// `write` with one value.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    /// Names of its arguments.
    pub args: &'static [&'static str],
    /// What it does.
    pub says: &'static str,
}

/// How many processes there may be.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Nodes {
    /// At least.
    pub min: usize,
    /// If nothing is said.
    pub default: usize,
    /// At most.
    pub max: usize,
}

/// What generated scripts may do to a protocol.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a list of kinds of faults")]
pub struct Bears {
    /// Messages are lost.
    pub loss: bool,
    /// Messages arrive twice.
    pub duplicates: bool,
    /// Messages overtake each other.
    pub disorder: bool,
    /// Links are cut.
    pub cuts: bool,
    /// Processes crash, and come again with their disk.
    pub crashes: bool,
    /// Processes come again without their disk.
    pub lost_disks: bool,
    /// Processes stop for a while.
    pub pauses: bool,
    /// Clocks are wrong.
    pub clocks: bool,
    /// The rule for how many traitors there may be.
    pub traitors: Traitors,
    /// How long a generated run is before it may become calm, in microseconds.
    pub length_us: u64,
    /// How many times clients ask for something in it.
    pub wishes: u64,
}

impl Bears {
    /// Everything that an asynchronous network and processes with disks can do; no traitors.
    pub const CRASHES: Self = Self {
        loss: true,
        duplicates: true,
        disorder: true,
        cuts: true,
        crashes: true,
        lost_disks: false,
        pauses: true,
        clocks: true,
        traitors: Traitors::None,
        length_us: 1_000_000,
        wishes: 6,
    };
}

/// How many traitors generated scripts may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Traitors {
    /// None.
    None,
    /// At most `(n - 1) / 3`.
    BelowThird,
    /// As many as a knob says.
    Knob(&'static str),
}

/// A run by hand that makes a point.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lesson {
    /// Its name.
    pub name: &'static str,
    /// What to see in it.
    pub says: &'static str,
    /// How to make it.
    #[serde(skip)]
    pub run: fn() -> crate::facade::Run,
}

/// What a run is set up with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// How many processes.
    pub n: usize,
    /// Where everything that is drawn comes from.
    pub seed: u64,
    /// The ways in which the protocol is broken.
    #[serde(default)]
    pub variants: BTreeSet<String>,
    /// What is set.
    #[serde(default)]
    pub knobs: BTreeMap<String, u64>,
    /// The rules that end the run when they break; all of them, if none is named. With the rule for the
    /// mechanism left out, a run goes on to what comes of it.
    #[serde(default)]
    pub watched: BTreeSet<String>,
}

impl Setup {
    /// Whether the protocol is broken in this way.
    #[must_use]
    pub fn broken(&self, variant: &str) -> bool {
        self.variants.contains(variant)
    }

    /// What a knob is set to. After [`crate::facade::Subject::setup`] all of them are set.
    ///
    /// # Panics
    /// If the protocol has no such knob.
    #[must_use]
    pub fn knob(&self, name: &str) -> u64 {
        *self.knobs.get(name).expect("a protocol asks for its own knobs")
    }
}

/// A rule that broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which.
    pub rule: String,
    /// How.
    pub what: String,
}

/// What an observer finds in one event. It goes on checking whatever it finds, so that its own memory stays
/// whole; the first rule that broke, of those that are watched, is the one that is named. Of several that broke in one
/// event that is the worst: a promise before the mechanism, and what must never happen before what must happen once.
#[derive(Debug)]
pub struct Verdict {
    rules: &'static [Rule],
    watched: BTreeSet<String>,
    broken: Option<BrokenAt>,
    /// How many events there were before the one that is checked.
    event: u64,
    /// Where each rule first broke, watched or not.
    first: Vec<BrokenAt>,
}

/// Where a rule first broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenAt {
    /// The event, by its number.
    pub event: u64,
    /// The rule, and how it broke.
    pub broken: Broken,
    /// What kind of rule it is; none if it is [`crate::facade::ASSERTION`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RuleKind>,
}

impl Verdict {
    /// Nothing is found yet.
    #[must_use]
    pub fn new(about: &'static About, setup: &Setup) -> Self {
        Self {
            rules: about.rules,
            watched: setup.watched.clone(),
            broken: None,
            event: 0,
            first: Vec::new(),
        }
    }

    /// The rule holds if `holds`; else it broke, and `how` says how.
    ///
    /// # Panics
    /// If the protocol has no such rule: a checker's mistake.
    pub fn require(&mut self, rule: &'static str, holds: bool, how: impl FnOnce() -> String) {
        if holds {
            return;
        }
        let known = |name: &str| self.rules.iter().find(|known| known.name == name);
        let kind = known(rule).unwrap_or_else(|| panic!("there is no rule {rule}")).kind;
        if self.first.iter().any(|first| first.broken.rule == rule) {
            return;
        }
        let broken = Broken { rule: rule.to_owned(), what: how() };
        let at = BrokenAt { event: self.event, broken, kind: Some(kind) };
        let rank = |name: &str| known(name).map(Rule::rank);
        let worse = self
            .broken
            .as_ref()
            .is_none_or(|named| named.event == self.event && rank(rule) < rank(&named.broken.rule));
        if worse && (self.watched.is_empty() || self.watched.contains(rule)) {
            self.broken = Some(at.clone());
        }
        self.first.push(at);
    }

    /// The event that is checked from now on.
    pub(crate) fn at(&mut self, event: u64) {
        self.event = event;
    }

    /// Where each rule first broke, watched or not, in the order in which they did.
    #[must_use]
    pub fn all(&self) -> &[BrokenAt] {
        &self.first
    }

    /// The first watched rule that broke.
    #[must_use]
    pub fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref().map(|at| &at.broken)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What an observer sees after an event.
#[derive(Debug)]
pub struct Seen<'a, P: Protocol> {
    /// How many events there were before this one.
    pub event: u64,
    /// True time.
    pub now: Duration,
    /// Whose step it was, if a process took one.
    pub stepped: Option<Stepped<'a, P>>,
    /// What was done, if it was an act of the script.
    pub act: Option<&'a What>,
    /// All processes, after the event.
    pub nodes: &'a [Node<P>],
}

/// A step of a process.
#[derive(Debug)]
pub struct Stepped<'a, P: Protocol> {
    /// Whose.
    pub node: NodeId,
    /// What happened to it.
    pub input: &'a InputOf<P::Process>,
    /// What it did, as it would have it: if it is a traitor, other words may have left.
    pub effects: &'a [EffectOf<P::Process>],
}

impl<P: Protocol> Clone for Stepped<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Protocol> Copy for Stepped<'_, P> {}

impl<'a, P: Protocol> Seen<'a, P> {
    /// What was decided in this event, and by whom.
    pub fn decided(
        &self,
    ) -> impl Iterator<Item = (NodeId, &'a <P::Process as Process>::Output)> + use<'a, P> {
        let steps = self.stepped.into_iter();
        steps
            .flat_map(|step| step.effects.iter().map(move |effect| (step.node, effect)))
            .filter_map(|(node, effect)| match effect {
                Effect::Decide(output) => Some((node, output)),
                _ => None,
            })
    }

    /// What was sent in this event by a loyal process: from, to, what.
    pub fn sent(
        &self,
    ) -> impl Iterator<Item = (NodeId, NodeId, &'a <P::Process as Process>::Message)> + use<'a, P>
    {
        let loyal = |step: &Stepped<'a, P>| !self.nodes[step.node.0].traitor;
        let step = self.stepped.filter(loyal);
        step.into_iter().flat_map(|step| {
            step.effects.iter().filter_map(move |effect| match effect {
                Effect::Send { to, message } => Some((step.node, *to, message)),
                _ => None,
            })
        })
    }

    /// The process of this place, if it is up.
    #[must_use]
    pub fn process(&self, node: NodeId) -> Option<&'a P::Process> {
        self.nodes[node.0].process.as_ref()
    }
}

/// What a client was told, by a loyal process. Of several answers to one request it is the first.
#[derive(Debug)]
pub struct Acknowledged<P: Protocol> {
    /// Which request.
    pub id: RequestId,
    /// What was asked for.
    pub request: <P::Process as Process>::Request,
    /// Who answered.
    pub by: NodeId,
    /// What it said.
    pub output: <P::Process as Process>::Output,
}

/// A process as the observer sees it.
#[derive(Debug)]
pub struct Node<P: Protocol> {
    /// The process; `None` while it is down.
    pub process: Option<P::Process>,
    /// Its disk.
    pub disk: DiskOf<P>,
    /// Whether it is paused.
    pub paused: bool,
    /// Whether it is or was a traitor: nothing is promised for it.
    pub traitor: bool,
}
