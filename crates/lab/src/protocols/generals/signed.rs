//! SM(m): signed messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use super::{BEARS, COMMANDER, M, Memory, OPERATIONS, Order, ROUND, RULES, TRAITORS, all_decide};
use crate::dice::Dice;
use crate::digest::Digest;
use crate::facade::Run;
use crate::process::{Input, InputOf, NodeId, Now, Out, Process};
use crate::protocol::{About, Lesson, Nodes, Protocol, Seen, Setup, Variant, Verdict};
use crate::script::{Act, Conduct, End, Script, Weather, What};
use crate::swarm;
use crate::view::View;

/// An order, and who signed it, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// The order.
    pub order: Order,
    /// The signatures, the commander's first.
    pub signatures: Vec<Signature>,
}

/// A signature under an order and the signatures before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// Whose it is said to be.
    pub signer: NodeId,
    /// What only the signer can make.
    seal: u64,
}

impl Message {
    /// Signed by one more.
    fn signed(mut self, signer: NodeId) -> Self {
        let seal = seal(signer, self.order, &self.signatures);
        self.signatures.push(Signature { signer, seal });
        self
    }

    /// Whether every signature is its signer's, the first is the commander's, and nobody signed twice.
    fn is_proper(&self) -> bool {
        let signers: BTreeSet<NodeId> = self.signatures.iter().map(|it| it.signer).collect();
        let sealed = |(place, it): (usize, &Signature)| {
            it.seal == seal(it.signer, self.order, &self.signatures[..place])
        };
        self.signatures.first().is_some_and(|first| first.signer == COMMANDER)
            && signers.len() == self.signatures.len()
            && self.signatures.iter().enumerate().all(sealed)
    }
}

/// What only the signer can make: stands for a digital signature.
fn seal(signer: NodeId, order: Order, before: &[Signature]) -> u64 {
    Digest::of(&("the secret of", signer, order, before))
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.order)?;
        let signed = if self.signatures.is_empty() { "" } else { ", signed by" };
        f.write_str(signed)?;
        self.signatures.iter().try_for_each(|signature| write!(f, " {}", signature.signer))?;
        if self.is_proper() { Ok(()) } else { write!(f, " (forged)") }
    }
}

/// How the generals of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Settings {
    n: usize,
    m: usize,
    believe_all: bool,
    keep_to_oneself: bool,
    obey_the_first: bool,
}

/// A general.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct General {
    settings: Rc<Settings>,
    id: NodeId,
    order: Order,
    round: usize,
    /// The properly signed orders that came, and which came first.
    orders: BTreeMap<Order, usize>,
    decided: Option<Order>,
}

/// The end of a round, by its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer(usize);

impl Process for General {
    type Message = Message;
    type Timer = Timer;
    type Request = Order;
    type Output = Order;
    type Disk = ();

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start => out.set(Timer(0), ROUND),
            Input::Restart => {}
            Input::Request { request, .. } => self.order = request,
            Input::Message { message, .. } => self.receive(message, out),
            Input::Timer(Timer(round)) => self.end_round(round, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        format!("the end of round {}", timer.0)
    }

    fn kind(_message: &Message) -> &'static str {
        "Signed"
    }
}

impl General {
    /// What it does in the end.
    #[must_use]
    pub fn decided(&self) -> Option<Order> {
        self.decided
    }

    fn receive(&mut self, message: Message, out: &mut Out<'_, Self>) {
        if self.id == COMMANDER || self.decided.is_some() {
            return;
        }
        if !message.is_proper() && !self.settings.believe_all {
            out.note(|| format!("{message} is refused"));
            return;
        }
        // k signatures are due in round k: what comes later may be too late to pass on.
        if message.signatures.len() < self.round {
            out.note(|| format!("{message} is late"));
            return;
        }
        let place = self.orders.len();
        if self.orders.contains_key(&message.order) {
            return;
        }
        self.orders.insert(message.order, place);
        if message.signatures.len() > self.settings.m || self.settings.keep_to_oneself {
            return;
        }
        let signers: BTreeSet<NodeId> = message.signatures.iter().map(|it| it.signer).collect();
        let message = message.signed(self.id);
        let others = NodeId::all(self.settings.n).filter(|other| !signers.contains(other));
        out.send_all(others.filter(|&other| other != self.id), &message);
    }

    fn end_round(&mut self, round: usize, out: &mut Out<'_, Self>) {
        self.round = round + 1;
        if round == 0 && self.id == COMMANDER {
            let message = Message { order: self.order, signatures: vec![] }.signed(self.id);
            out.send_all(NodeId::all(self.settings.n).skip(1), &message);
        }
        // Rounds 1 to m + 1 bring messages.
        if round <= self.settings.m {
            out.set(Timer(round + 1), ROUND);
        } else if self.id != COMMANDER {
            let order = self.choice();
            self.decided = Some(order);
            out.decide(order);
        }
    }

    /// The one order that came; retreat, if none or more did.
    fn choice(&self) -> Order {
        if self.settings.obey_the_first {
            let first = self.orders.iter().min_by_key(|(_, place)| **place);
            return first.map(|(&order, _)| order).unwrap_or_default();
        }
        match self.orders.len() {
            1 => self.orders.keys().next().copied().unwrap_or_default(),
            _ => Order::Retreat,
        }
    }
}

/// The observer of a run of SM(m).
#[derive(Debug)]
pub struct Signed {
    settings: Rc<Settings>,
    memory: Memory,
}

impl Protocol for Signed {
    type Process = General;

    const ABOUT: About = About {
        name: "generals-signed",
        title: "Byzantine generals, signed messages: SM(m)",
        paper: "L. Lamport, R. Shostak, M. Pease, The Byzantine Generals Problem, ACM TOPLAS 1982",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: &[
            Variant::new("believe-all", "Signatures are not looked at.", 200),
            Variant::new("keep-to-oneself", "Orders are not passed on.", 200),
            Variant::new(
                "obey-the-first",
                "The first order that came is obeyed, though two did.",
                200,
            ),
        ],
        knobs: &[M, TRAITORS],
        operations: OPERATIONS,
        nodes: Nodes { min: 2, default: 3, max: 10 },
        bears: BEARS,
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let settings = Settings {
            n: setup.n,
            m: usize::try_from(setup.knob("m")).unwrap_or(0),
            believe_all: setup.broken("believe-all"),
            keep_to_oneself: setup.broken("keep-to-oneself"),
            obey_the_first: setup.broken("obey-the-first"),
        };
        Self { settings: Rc::new(settings), memory: Memory::default() }
    }

    fn disk(&self, _node: NodeId) {}

    fn process(&self, node: NodeId, _disk: &()) -> General {
        General {
            settings: Rc::clone(&self.settings),
            id: node,
            order: Order::default(),
            round: 0,
            orders: BTreeMap::new(),
            decided: None,
        }
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Order> {
        Order::of(op, args)
    }

    /// Modulo 4: 1 is the other order, with the traitors' own signatures made anew and all others left as
    /// they are; 2 is both orders; 3 is an order as if it had just come from the commander; 0 is silence.
    fn forge(&self, from: NodeId, _to: NodeId, message: &Message, choice: u64) -> Vec<Message> {
        let other = self.resigned(message, &message.signatures, from);
        match choice % 4 {
            1 => vec![other],
            2 => vec![message.clone(), other],
            3 => {
                let first: Vec<Signature> = message.signatures.iter().take(1).copied().collect();
                let own = Signature { signer: from, seal: 0 };
                let own = (from != COMMANDER).then_some(own);
                let signatures: Vec<Signature> = first.into_iter().chain(own).collect();
                vec![self.resigned(message, &signatures, from)]
            }
            _ => vec![],
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.act(seen.act);
        for (node, order) in seen.decided() {
            self.memory.obeys(node, *order, verdict);
        }
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        all_decide(seen, |general| general.decided.is_some(), verdict);
    }

    fn view(&self, node: NodeId, process: Option<&General>, _disk: &()) -> View {
        let role = if node == COMMANDER { "commander" } else { "lieutenant" };
        let view = View { role: role.to_owned(), ..View::default() };
        let Some(general) = process else { return view };
        let decided = general.decided.map(|order| order.to_string());
        let orders: Vec<String> = general.orders.keys().map(ToString::to_string).collect();
        View { decided, ..view }.with("V", format!("{{{}}}", orders.join(" ")))
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::script::<Self>(setup, dice);
        super::synchronous(&mut script, dice);
        script
    }
}

impl Signed {
    /// The other order under the same names. The traitors' signatures hold; those of others do not any more.
    fn resigned(&self, message: &Message, signatures: &[Signature], from: NodeId) -> Message {
        let mut other = Message { order: message.order.other(), signatures: vec![] };
        for signature in signatures {
            let signer = signature.signer;
            if signer == from || self.memory.traitors.contains(&signer) {
                other = other.signed(signer);
            } else {
                other.signatures.push(*signature);
            }
        }
        other
    }
}

const LESSONS: &[Lesson] = &[Lesson {
    name: "three-and-the-commander",
    says: "The commander signs two orders. The lieutenants show them to each other, know that he is a traitor, \
           and both retreat.",
    run: || {
        let traitor = What::Traitor { node: COMMANDER, conduct: Conduct::Script(vec![1]) };
        let order = What::Client { node: COMMANDER, op: "order".to_owned(), args: vec![1] };
        let acts = vec![Act::at_ms(0, traitor), Act::at_ms(0, order)];
        let end = End { events: 20_000, at_us: 100_000 };
        let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: Some(0) };
        Run::by_hand("generals-signed", 3, script)
    },
}];
