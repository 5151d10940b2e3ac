//! OM(m): oral messages.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::{BEARS, COMMANDER, M, Memory, OPERATIONS, Order, ROUND, RULES, TRAITORS, all_decide};
use crate::dice::Dice;
use crate::facade::Run;
use crate::process::{Input, InputOf, NodeId, Now, Out, Process};
use crate::protocol::{About, Lesson, Nodes, Protocol, Seen, Setup, Variant, Verdict};
use crate::script::{Act, Conduct, End, Script, Weather, What};
use crate::swarm;
use crate::view::View;
use crate::words::count;

/// Who said it to whom, from the commander on: the last one said it to the receiver.
pub type Path = Vec<NodeId>;

/// "By this path, the commander says this."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    /// Through whom it came.
    pub path: Path,
    /// What the commander is said to have said.
    pub order: Order,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<String> = self.path.iter().rev().map(ToString::to_string).collect();
        write!(f, "{} says: {}", path.join(" says that "), self.order)
    }
}

/// How the generals of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Settings {
    n: usize,
    m: usize,
    obey_at_once: bool,
    last_word: bool,
}

/// A general.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct General {
    settings: Rc<Settings>,
    id: NodeId,
    /// The commander's, before the first round.
    order: Order,
    heard: BTreeMap<Path, Order>,
    decided: Option<Order>,
}

/// The end of a round, by its number from 0: messages of the next are sent.
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
            Input::Message { from, message } => self.hear(from, message),
            Input::Timer(Timer(round)) => self.end_round(round, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        format!("the end of round {}", timer.0)
    }

    fn kind(_message: &Message) -> &'static str {
        "Oral"
    }
}

impl General {
    /// What it does in the end.
    #[must_use]
    pub fn decided(&self) -> Option<Order> {
        self.decided
    }

    /// A message counts if its path begins with the commander, ends with the sender, visits nobody twice and
    /// not this general, and is no longer than the algorithm goes deep.
    fn hear(&mut self, from: NodeId, message: Message) {
        let path = &message.path;
        let twice = (1..path.len()).any(|place| path[..place].contains(&path[place]));
        let proper = path.first() == Some(&COMMANDER)
            && path.last() == Some(&from)
            && path.len() <= self.settings.m + 1
            && !twice
            && !path.contains(&self.id);
        if proper {
            self.heard.entry(message.path).or_insert(message.order);
        }
    }

    /// What came by this path; retreat, if nothing did.
    fn value(&self, path: &Path) -> Order {
        self.heard.get(path).copied().unwrap_or_default()
    }

    fn others(&self, path: &Path) -> impl Iterator<Item = NodeId> + use<> {
        let (id, path) = (self.id, path.clone());
        NodeId::all(self.settings.n).filter(move |&other| other != id && !path.contains(&other))
    }

    fn end_round(&mut self, round: usize, out: &mut Out<'_, Self>) {
        if round == 0 {
            if self.id == COMMANDER {
                let message = Message { path: vec![COMMANDER], order: self.order };
                out.send_all(self.others(&vec![]), &message);
            }
        } else if self.id != COMMANDER && round <= self.settings.m {
            // OM(m - round), as its commander: passes on what came by every path of this length.
            for path in self.paths(round) {
                let order = self.value(&path);
                let others = self.others(&path);
                let path = path.iter().copied().chain([self.id]).collect();
                out.send_all(others, &Message { path, order });
            }
        }
        if round <= self.settings.m {
            out.set(Timer(round + 1), ROUND);
        } else if self.id != COMMANDER {
            let order = self.resolve(&vec![COMMANDER]);
            self.decided = Some(order);
            out.decide(order);
        }
    }

    /// Every path of this length by which something should have come.
    fn paths(&self, length: usize) -> Vec<Path> {
        let mut paths = vec![vec![COMMANDER]];
        for _ in 1..length {
            let longer = |path: &Path| {
                let path = path.clone();
                self.others(&path).map(move |other| path.iter().copied().chain([other]).collect())
            };
            paths = paths.iter().flat_map(longer).collect();
        }
        paths
    }

    /// The value of OM(m - length + 1) with the path's last general as its commander.
    fn resolve(&self, path: &Path) -> Order {
        let own = self.value(path);
        if path.len() > self.settings.m || self.settings.obey_at_once {
            return own;
        }
        let said = self.others(path).map(|other| {
            let path = path.iter().copied().chain([other]).collect();
            self.resolve(&path)
        });
        let mut all: Vec<Order> = said.collect();
        if self.settings.last_word {
            return all.last().copied().unwrap_or(own);
        }
        all.push(own);
        let attack = all.iter().filter(|&&order| order == Order::Attack).count();
        if 2 * attack > all.len() { Order::Attack } else { Order::Retreat }
    }
}

/// The observer of a run of OM(m).
#[derive(Debug)]
pub struct Oral {
    settings: Rc<Settings>,
    memory: Memory,
}

impl Protocol for Oral {
    type Process = General;

    const ABOUT: About = About {
        name: "generals-oral",
        title: "Byzantine generals, oral messages: OM(m)",
        paper: "L. Lamport, R. Shostak, M. Pease, The Byzantine Generals Problem, ACM TOPLAS 1982",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: &[
            Variant::new("obey-at-once", "A lieutenant obeys what the commander said to him.", 200),
            Variant::new("last-word", "A lieutenant believes the last of the others.", 200),
        ],
        knobs: &[M, TRAITORS],
        operations: OPERATIONS,
        nodes: Nodes { min: 2, default: 4, max: 10 },
        bears: BEARS,
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let settings = Settings {
            n: setup.n,
            m: usize::try_from(setup.knob("m")).unwrap_or(0),
            obey_at_once: setup.broken("obey-at-once"),
            last_word: setup.broken("last-word"),
        };
        Self { settings: Rc::new(settings), memory: Memory::default() }
    }

    fn disk(&self, _node: NodeId) {}

    fn process(&self, node: NodeId, _disk: &()) -> General {
        General {
            settings: Rc::clone(&self.settings),
            id: node,
            order: Order::default(),
            heard: BTreeMap::new(),
            decided: None,
        }
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Order> {
        Order::of(op, args)
    }

    /// An odd number is the other order, an even one silence.
    fn forge(&self, _: NodeId, _: NodeId, message: &Message, choice: u64) -> Vec<Message> {
        let lie = Message { path: message.path.clone(), order: message.order.other() };
        if choice % 2 == 1 { vec![lie] } else { vec![] }
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
        let view = View { decided, ..view };
        match general.heard.get(&vec![COMMANDER]) {
            Some(order) => {
                let more = match general.heard.len() - 1 {
                    0 => String::new(),
                    more => format!(", and {}", count(more, "word of others", "words of others")),
                };
                view.with("heard", format!("{order}{more}"))
            }
            None => view,
        }
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::script::<Self>(setup, dice);
        super::synchronous(&mut script, dice);
        script
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "four-and-one-lieutenant",
        says: "n3 is a traitor and says the opposite of what he heard. The majority of three still is the \
               commander's order.",
        run: || traitor(4, 3),
    },
    Lesson {
        name: "four-and-the-commander",
        says: "The commander is the traitor, and tells one of them something else. They exchange what they \
               heard, and all see the same three values.",
        run: || traitor(4, 0),
    },
    Lesson {
        name: "three-and-one",
        says: "With three generals, n1 hears attack from the commander and retreat from n2, and cannot know \
               who lies: IC2 breaks.",
        run: || traitor(3, 2),
    },
];

/// The commander orders to attack; one general is a traitor, and lies in his first and last message.
fn traitor(n: usize, who: usize) -> Run {
    let conduct = Conduct::Script(vec![1, 0, 1]);
    let order = What::Client { node: COMMANDER, op: "order".to_owned(), args: vec![1] };
    let acts =
        vec![Act::at_ms(0, What::Traitor { node: NodeId(who), conduct }), Act::at_ms(0, order)];
    let end = End { events: 20_000, at_us: 100_000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: Some(0) };
    Run::by_hand("generals-oral", n, script)
}
