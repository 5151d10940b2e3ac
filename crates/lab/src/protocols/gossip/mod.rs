//! Gossip, hash slots and failover as Redis Cluster has them (S. Sanfilippo, *Redis cluster specification*).
//!
#![doc = include_str!("essay.md")]

mod lessons;
mod process;
mod rules;
mod slots;

pub use process::{Disk, Gossip, Message, Owner, SHARES, Server, Set, Share, Stored, Timer};
pub use slots::{SLOTS, slot_of};

use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::script::What;
use crate::view::{Cell, CellState, View};
use process::Settings;
use rules::Memory;

/// The observer of a run.
#[derive(Debug)]
pub struct Gossiping {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::mechanism("one-vote-an-epoch", "A master votes at most once in an epoch."),
    Rule::mechanism(
        "one-owner-an-epoch",
        "No two nodes serve the same slots under the same configuration epoch.",
    ),
    Rule::mechanism(
        "majority-elects",
        "A replica takes over only with the votes of a majority of masters.",
    ),
    Rule::promise(
        "lost-only-in-failover",
        "An acknowledged write is lost only if its slot has changed hands since.",
    ),
    Rule::eventual("agree-when-calm", "Once all is calm, all agree who serves which slots."),
];

const VARIANTS: &[Variant] = &[
    Variant { n: Some(9), ..Variant::new("vote-again", "A master votes for whoever asks.", 5_000) },
    Variant::new(
        "minority-elects",
        "One vote less than a majority is enough. What is lost by it is lost in a failover, which this protocol \
         allows: searches end at the mechanism.",
        1_000,
    ),
    Variant::new(
        "last-heard-wins",
        "Whoever claims slots for itself is believed, whatever its configuration epoch.",
        2_000,
    ),
    Variant::new(
        "answers-without-storing",
        "A master answers some writes and does not store them.",
        500,
    ),
];

const KNOBS: &[Knob] = &[Knob {
    name: "node_timeout_ms",
    says: "After how long without a sign a node is suspected, in milliseconds.",
    default: 80,
    min: 40,
    max: 10_000,
}];

impl Protocol for Gossiping {
    type Process = Server;

    const ABOUT: About = About {
        name: "gossip",
        title: "Gossip and hash slots",
        paper: "S. Sanfilippo, Redis cluster specification, 2011 to 2015",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Sets the key that is called like the value.",
        }],
        nodes: Nodes { min: 6, default: 6, max: 9 },
        bears: Bears { wishes: 12, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self { settings: Rc::new(Settings::of(setup)), memory: Memory::default() }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, _disk: &Disk) -> Server {
        Server::new(Rc::clone(&self.settings), node)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Set> {
        match (op, args) {
            ("write", &[value]) => Some(Set(value)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    /// What whoever serves the key's slots has not got.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let lost = acknowledged.iter().filter(|told| {
            let Set(key) = told.request;
            let owner = nodes.iter().map(|node| node.disk.owners[Share::of(key).0]).max();
            owner.is_none_or(|owner| !nodes[owner.node.0].disk.keys.contains(&key))
        });
        Some(lost.count() as u64)
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.at_end(seen, verdict);
    }

    fn view(&self, node: NodeId, process: Option<&Server>, disk: &Disk) -> View {
        let mut view = process.map(|process| process.view(disk)).unwrap_or_default();
        let owner = disk.owners[Share::home(node).0];
        view.term = format!("epoch {}, share {} of {owner}", disk.epoch, Share::home(node).0);
        let cell = |key: &u64| Cell { at: *key, text: key.to_string(), state: CellState::Durable };
        view.log = disk.keys.iter().map(cell).collect();
        view
    }

    /// Any node is asked; keys differ.
    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        let node = NodeId(dice.index(setup.n));
        What::Client { node, op: "write".to_owned(), args: vec![nth + 1] }
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "acknowledged-and-lost",
        says: "A master answers, and dies before its replica has heard of it. The replica is elected: the write is gone, \
               and the client was told that it is stored.",
        run: lessons::acknowledged_and_lost,
    },
    Lesson {
        name: "minority",
        says: "A master is cut off from all others, and with it a client. It goes on for as long as it takes it to notice; \
               what it answers meanwhile is thrown away.",
        run: lessons::minority,
    },
    Lesson {
        name: "failover",
        says: "A master dies when nothing is under way: its replica takes over, nothing is lost, and the old master comes \
               back as a replica.",
        run: lessons::failover,
    },
];
