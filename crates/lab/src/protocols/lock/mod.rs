//! A lock service with leases and fencing (M. Burrows, *The Chubby lock service for loosely-coupled distributed
//! systems*, OSDI 2006; the file that is lost is M. Kleppmann's, *How to do distributed locking*, 2016).
//!
#![doc = include_str!("essay.md")]

mod lessons;
mod process;
mod rules;

pub use process::{
    Disk, Done, FILE_SERVER, File, Held, Message, Party, SERVICE, Timer, Token, Update,
};

use std::rc::Rc;
use std::time::Duration;

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

/// The observer of a run of the lock service.
#[derive(Debug)]
pub struct Lock {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::mechanism("tokens-rise", "Each grant has a higher sequencer than all grants before it."),
    Rule::promise(
        "one-holder",
        "The lock is granted to nobody while the lease of another runs that has not given it back.",
    ),
    Rule::mechanism(
        "stale-is-refused",
        "The file server does nothing under a sequencer lower than the highest that it has seen.",
    ),
    Rule::promise("no-lost-update", "What is written was computed from what it is written over."),
    Rule::promise(
        "told-is-done",
        "A client that is told that its update is done: it is in the file.",
    ),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm, every update that a client still wants is done.",
    ),
];

const VARIANTS: &[Variant] = &[
    Variant::new("no-fencing", "The file server takes whatever sequencer it is shown.", 200),
    Variant::new(
        "reads-not-fenced",
        "The file server takes no note of the sequencer of a read.",
        1_000,
    ),
    Variant::new("tokens-forgotten", "The lock service's counter is not on its disk.", 200),
    Variant::new(
        "same-token-again",
        "A client that lost its memory in a crash is given the sequencer of its life before.",
        2_000,
    ),
    Variant::new(
        "no-grace",
        "A lock service that comes again does not wait for the lease it gave.",
        500,
    ),
    Variant::new(
        "wall-clock",
        "The lock service counts the lease by the clock on its wall.",
        1_000,
    ),
];

const KNOBS: &[Knob] = &[Knob {
    name: "lease_ms",
    says: "How long a client has the lock if it does not give it back, in milliseconds.",
    default: 60,
    min: 1,
    max: 10_000,
}];

impl Protocol for Lock {
    type Process = Party;

    const ABOUT: About = About {
        name: "lock",
        title: "Locks, leases and fencing",
        paper: "M. Burrows, The Chubby lock service for loosely-coupled distributed systems, OSDI 2006",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Adds a value to what is in the file: under the lock, reads it, adds, writes it back.",
        }],
        nodes: Nodes { min: 3, default: 5, max: 9 },
        bears: Bears { wishes: 10, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let memory = Memory::new(Duration::from_millis(setup.knob("lease_ms")));
        Self { settings: Rc::new(Settings::of(setup)), memory }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, _disk: &Disk) -> Party {
        Party::new(Rc::clone(&self.settings), node)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Update> {
        match (op, args) {
            ("write", &[value]) => Some(Update(value)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        rules::at_end(seen, verdict);
    }

    /// The file is a sum, in which no single update can be looked for: so many at least are not in it. Updates that
    /// nobody was told of can hide some.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let file = nodes.get(FILE_SERVER.0)?.disk.file;
        let mut updates: Vec<u64> = acknowledged.iter().map(|told| told.request.0).collect();
        updates.sort_unstable();
        let told = updates.iter().fold(0, |sum: u64, &update| sum.saturating_add(update));
        let mut missing = told.saturating_sub(file.sum);
        let mut lost = 0;
        while missing > 0 {
            missing = missing.saturating_sub(updates.pop()?);
            lost += 1;
        }
        Some(lost)
    }

    fn view(&self, node: NodeId, process: Option<&Party>, disk: &Disk) -> View {
        let mut view = process.map(Party::view).unwrap_or_default();
        if node == SERVICE {
            let held =
                disk.held.map_or("free".to_owned(), |it| format!("{} has {}", it.by, it.token));
            view.term = held;
        }
        if node == FILE_SERVER {
            view.term = format!("seen {}", disk.fence);
            let File { version, sum } = disk.file;
            let text = sum.to_string();
            view.log = vec![Cell { at: version, text, state: CellState::Committed }];
        }
        view
    }

    /// Clients are asked, and not the servers.
    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        let clients = FILE_SERVER.0 + 1..setup.n;
        let node = NodeId(clients.start + dice.index(clients.len()));
        What::Client { node, op: "write".to_owned(), args: vec![nth + 1] }
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "paused-holder",
        says: "n2 stops while it holds the lock. Its lease ends, n3 gets the lock and writes. n2 wakes and writes \
               what it had computed: its token is stale, and it is turned away, and begins again.",
        run: lessons::paused_holder,
    },
    Lesson {
        name: "late-write",
        says: "Nobody stops. n2's write is on its way for longer than the lease; it is turned away all the same.",
        run: lessons::late_write,
    },
];
