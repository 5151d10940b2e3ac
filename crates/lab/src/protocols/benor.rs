//! Ben-Or's randomized consensus (M. Ben-Or, *Another Advantage of Free Choice*, PODC 1983), for crashes.
//!
#![doc = include_str!("benor.md")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use crate::dice::Dice;
use crate::facade::Run;
use crate::process::{Effect, Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::script::{Act, End, Script, Weather, What, When};
use crate::swarm;
use crate::view::View;

/// A value: 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bit(pub bool);

impl fmt::Display for Bit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", u8::from(self.0))
    }
}

/// What processes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// (1, r, x).
    Report {
        /// r.
        round: u64,
        /// x.
        value: Bit,
    },
    /// (2, r, v, D), or (2, r, ?).
    Proposal {
        /// r.
        round: u64,
        /// v, if more than half of all reported it.
        value: Option<Bit>,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Report { round, value } => write!(f, "(1, {round}, {value})"),
            Self::Proposal { round, value: Some(value) } => write!(f, "(2, {round}, {value}, D)"),
            Self::Proposal { round, value: None } => write!(f, "(2, {round}, ?)"),
        }
    }
}

/// It has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
struct Settings {
    n: usize,
    f: usize,
    decide_on_one: bool,
    majority_of_heard: bool,
    coin_always: bool,
    stop_at_once: bool,
}

/// Which of the two messages of a round it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Waits {
    Reports,
    Proposals,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BenOr {
    settings: Rc<Settings>,
    /// `None` before it has its input.
    x: Option<Bit>,
    round: u64,
    waits: Waits,
    /// What came, also for rounds to come: by round, from whom.
    reports: BTreeMap<u64, BTreeMap<NodeId, Bit>>,
    proposals: BTreeMap<u64, BTreeMap<NodeId, Option<Bit>>>,
    decided: Option<(u64, Bit)>,
    waiting: Vec<RequestId>,
}

impl Process for BenOr {
    type Message = Message;
    type Timer = Timer;
    type Request = Bit;
    type Output = Bit;
    type Disk = ();

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => {}
            Input::Timer(timer) => match timer {},
            Input::Request { id, request } => self.on_input(id, request, out),
            Input::Message { from, message: Message::Report { round, value } } => {
                self.reports.entry(round).or_default().insert(from, value);
            }
            Input::Message { from, message: Message::Proposal { round, value } } => {
                self.proposals.entry(round).or_default().insert(from, value);
            }
        }
        while self.advance(out) {}
    }

    fn timer(timer: &Timer) -> String {
        match *timer {}
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Report { .. } => "Report",
            Message::Proposal { .. } => "Proposal",
        }
    }
}

impl BenOr {
    /// What it has decided, and in which round.
    #[must_use]
    pub fn decided(&self) -> Option<(u64, Bit)> {
        self.decided
    }

    fn everyone(&self) -> impl Iterator<Item = NodeId> + use<> {
        NodeId::all(self.settings.n)
    }

    fn on_input(&mut self, id: RequestId, value: Bit, out: &mut Out<'_, Self>) {
        match self.decided {
            Some((_, decided)) => out.reply(id, decided),
            None => self.waiting.push(id),
        }
        if self.x.is_none() {
            self.x = Some(value);
            self.round = 1;
            out.send_all(self.everyone(), &Message::Report { round: 1, value });
        }
    }

    /// Takes one step of the algorithm, if what it waits for is there.
    fn advance(&mut self, out: &mut Out<'_, Self>) -> bool {
        let Settings { n, f, .. } = *self.settings;
        // Whoever has decided goes on for one round, for the others' sake.
        let rounds_more = if self.settings.stop_at_once { 0 } else { 1 };
        let over = self.decided.is_some_and(|(round, _)| self.round > round + rounds_more);
        if self.x.is_none() || over {
            return false;
        }
        match self.waits {
            Waits::Reports => {
                let Some(reports) = self.reports.get(&self.round) else { return false };
                if reports.len() < n - f {
                    return false;
                }
                let of = |bit| reports.values().filter(|&&value| value == Bit(bit)).count();
                let all = if self.settings.majority_of_heard { reports.len() } else { n };
                let value = [false, true].into_iter().find(|&bit| 2 * of(bit) > all).map(Bit);
                self.waits = Waits::Proposals;
                out.send_all(self.everyone(), &Message::Proposal { round: self.round, value });
            }
            Waits::Proposals => {
                let Some(proposals) = self.proposals.get(&self.round) else { return false };
                if proposals.len() < n - f {
                    return false;
                }
                let d: Vec<Bit> = proposals.values().copied().flatten().collect();
                self.end_round(&d, out);
            }
        }
        true
    }

    /// Step 3, with the values of the D-messages.
    fn end_round(&mut self, d: &[Bit], out: &mut Out<'_, Self>) {
        let enough = if self.settings.decide_on_one { 1 } else { self.settings.f + 1 };
        if let Some(&value) = d.first().filter(|_| d.len() >= enough && self.decided.is_none()) {
            self.decided = Some((self.round, value));
            out.decide(value);
            for id in self.waiting.drain(..) {
                out.reply(id, value);
            }
        }
        let value = match d.first() {
            Some(&value) if !self.settings.coin_always || self.decided.is_some() => value,
            _ => {
                let coin = Bit(out.dice().coin());
                out.note(|| format!("tosses {coin}"));
                coin
            }
        };
        self.x = Some(value);
        self.reports.remove(&self.round);
        self.proposals.remove(&self.round);
        self.round += 1;
        self.waits = Waits::Reports;
        out.send_all(self.everyone(), &Message::Report { round: self.round, value });
    }
}

/// The observer of a run of Ben-Or's protocol.
#[derive(Debug)]
pub struct Observer {
    settings: Rc<Settings>,
    inputs: BTreeMap<NodeId, Bit>,
    decided: BTreeMap<NodeId, Bit>,
    /// The values of the D-messages of each round.
    d: BTreeMap<u64, BTreeSet<Bit>>,
    crashed: BTreeSet<NodeId>,
}

impl Protocol for Observer {
    type Process = BenOr;

    const ABOUT: About = About {
        name: "ben-or",
        title: "Ben-Or's randomized consensus",
        paper: "M. Ben-Or, Another Advantage of Free Choice, PODC 1983",
        essay: include_str!("benor.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: &[Knob {
            name: "f",
            says: "How many processes may crash; n must be greater than 2f. 9: as many as n allows.",
            default: 9,
            min: 0,
            max: 9,
        }],
        operations: &[Operation {
            name: "write",
            args: &["bit"],
            says: "Gives a process its input (odd is 1), and with it the start. Answered with the decision.",
        }],
        nodes: Nodes { min: 1, default: 5, max: 9 },
        bears: Bears { loss: false, cuts: false, crashes: false, wishes: 0, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let most = (setup.n - 1) / 2;
        let settings = Settings {
            n: setup.n,
            f: usize::try_from(setup.knob("f")).unwrap_or(most).min(most),
            decide_on_one: setup.broken("decide-on-one"),
            majority_of_heard: setup.broken("majority-of-heard"),
            coin_always: setup.broken("coin-always"),
            stop_at_once: setup.broken("stop-at-once"),
        };
        Self {
            settings: Rc::new(settings),
            inputs: BTreeMap::new(),
            decided: BTreeMap::new(),
            d: BTreeMap::new(),
            crashed: BTreeSet::new(),
        }
    }

    fn disk(&self, _node: NodeId) {}

    fn process(&self, _node: NodeId, _disk: &()) -> BenOr {
        BenOr {
            settings: Rc::clone(&self.settings),
            x: None,
            round: 0,
            waits: Waits::Reports,
            reports: BTreeMap::new(),
            proposals: BTreeMap::new(),
            decided: None,
            waiting: Vec::new(),
        }
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Bit> {
        match (op, args) {
            ("write", &[bit]) => Some(Bit(bit % 2 == 1)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        if let Some(What::Crash(node)) = seen.act {
            self.crashed.insert(*node);
        }
        let Some(step) = seen.stepped else { return };
        if let Input::Request { request, .. } = step.input {
            self.inputs.entry(step.node).or_insert(*request);
        }
        for (node, _, message) in seen.sent() {
            if let Message::Proposal { round, value: Some(value) } = message {
                let values = self.d.entry(*round).or_default();
                values.insert(*value);
                verdict.require("one-d", values.len() == 1, || {
                    let other = u8::from(!value.0);
                    format!("{node} sends D for {value} in round {round}, in which another has sent D for {other}")
                });
            }
        }
        for effect in step.effects {
            if let Effect::Decide(value) = effect {
                self.decides(step.node, *value, seen, verdict);
            }
        }
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        // With an input for all that are up, and no more down than may be.
        let up = seen.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some());
        let up: Vec<NodeId> = up.map(|(place, _)| NodeId(place)).collect();
        let inputs = up.iter().all(|node| self.inputs.contains_key(node))
            && seen.nodes.len() - up.len() <= self.settings.f;
        for (place, node) in seen.nodes.iter().enumerate() {
            let decided = node.process.as_ref().is_none_or(|it| it.decided.is_some());
            verdict
                .require("all-decide", !inputs || decided, || format!("n{place} has not decided"));
        }
    }

    /// What a loyal process that is up has decided otherwise. Nothing is stored: who crashes forgets.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let loyal = nodes.iter().filter(|node| !node.traitor);
        let decided = loyal.filter_map(|node| node.process.as_ref()?.decided);
        let decided: Vec<Bit> = decided.map(|(_, bit)| bit).collect();
        let otherwise = |told: &&Acknowledged<Self>| decided.iter().any(|bit| *bit != told.output);
        Some(acknowledged.iter().filter(otherwise).count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&BenOr>, _disk: &()) -> View {
        let Some(process) = process else { return View::default() };
        let Some(x) = process.x else { return View::default() };
        let view = View {
            role: match process.waits {
                Waits::Reports => "reports".to_owned(),
                Waits::Proposals => "proposes".to_owned(),
            },
            term: format!("round {}", process.round),
            decided: process.decided.map(|(_, value)| value.to_string()),
            ..View::default()
        };
        view.with("x", x)
    }

    /// Everyone has an input, soon; at most f crash, for good; the rest is the swarm's.
    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::script::<Self>(setup, dice);
        let f = Self::new(setup).settings.f;
        let spread_us = dice.within(1, 50_000);
        let same = dice.chance(100).then(|| dice.below(2));
        for node in NodeId::all(setup.n) {
            let bit = dice.below(2);
            let args = vec![same.unwrap_or(bit)];
            let what = What::Client { node, op: "write".to_owned(), args };
            script.acts.push(Act { when: When::Us(dice.below(spread_us)), what });
        }
        let mut left: Vec<NodeId> = NodeId::all(setup.n).collect();
        for _ in 0..dice.within(0, f as u64) {
            let node = left.swap_remove(dice.index(left.len()));
            let at_us = dice.below(spread_us * 4);
            script.acts.push(Act { when: When::Us(at_us), what: What::Crash(node) });
        }
        script
    }
}

impl Observer {
    fn decides(&mut self, node: NodeId, value: Bit, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.decided.insert(node, value);
        let other = self.decided.iter().find(|(_, other)| **other != value);
        verdict.require("agreement", other.is_none(), || {
            let other =
                other.map_or_else(String::new, |(who, other)| format!("{who} has decided {other}"));
            format!("{node} decides {value}, and {other}")
        });
        let valid = self.inputs.values().any(|input| *input == value);
        verdict.require("validity", valid, || {
            format!("{node} decides {value}, which is nobody's input")
        });
        let equal = self.inputs.len() == self.settings.n
            && self.inputs.values().all(|input| *input == value);
        let round = seen.process(node).and_then(BenOr::decided).map(|(round, _)| round);
        verdict.require("equal-inputs", !equal || round == Some(1), || {
            format!(
                "all inputs are {value}, and {node} decides in round {}",
                round.unwrap_or_default()
            )
        });
    }
}

const RULES: &[Rule] = &[
    Rule::promise("agreement", "No two processes decide different values."),
    Rule::promise("validity", "What is decided was somebody's input."),
    Rule::mechanism("one-d", "In one round no two processes send D with different values."),
    Rule::promise("equal-inputs", "If all inputs are equal, every process decides in round 1."),
    Rule::eventual("all-decide", "Whoever does not crash decides (with probability 1)."),
];

const VARIANTS: &[Variant] = &[
    Variant::new("decide-on-one", "One D-message is enough to decide, not more than f.", 2_000),
    Variant::new(
        "majority-of-heard",
        "D needs more than half of the reports heard, not of all n.",
        500,
    ),
    Variant::new("coin-always", "A coin is tossed even if there was a D-message.", 2_000),
    Variant::new("stop-at-once", "Who has decided says nothing more.", 5_000),
];

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "equal",
        says: "All inputs are 1, and two of five crash: everyone else decides in round 1, without a coin.",
        run: || by_hand(&[1; 5], &[3, 4]),
    },
    Lesson {
        name: "split",
        says: "Two of four have 0, two have 1: no majority, no D, and everyone tosses. A lucky round ends it.",
        run: || by_hand(&[0, 1, 0, 1], &[]),
    },
];

fn by_hand(inputs: &[u64], crashed: &[usize]) -> Run {
    let crash = |&node: &usize| Act::at_ms(0, What::Crash(NodeId(node)));
    let input = |(node, &bit): (usize, &u64)| {
        let what = What::Client { node: NodeId(node), op: "write".to_owned(), args: vec![bit] };
        Act::at_ms(0, what)
    };
    let acts = crashed.iter().map(crash).chain(inputs.iter().enumerate().map(input)).collect();
    let end = End { events: 20_000, at_us: 10_000_000 };
    let script = Script { weather: Weather::calm(), acts, end, calm_from_us: Some(0) };
    Run::by_hand("ben-or", inputs.len(), script)
}
