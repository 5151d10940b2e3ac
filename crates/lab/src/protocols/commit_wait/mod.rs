//! Commit wait with uncertain clocks (J. Corbett and others, *Spanner: Google's Globally-Distributed Database*,
//! OSDI 2012, §3 and §4.1.2).
//!
#![doc = include_str!("essay.md")]

mod process;

pub use process::{Committed, Disk, Message, Replica, Stamp, Timer, Txn, Write};

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dice::Dice;
use crate::facade::Run;
use crate::process::{Effect, Input, NodeId, RequestId};
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::script::{Act, End, Script, Weather, What, When};
use crate::swarm;
use crate::view::{Cell, CellState, View};
use crate::words::count;
use process::Settings;

/// The observer of a run of commit wait.
#[derive(Debug)]
pub struct CommitWait {
    settings: Rc<Settings>,
    /// The highest timestamp that any client was told.
    told: Stamp,
    /// For each transaction that was asked for: the highest timestamp told before.
    begun: BTreeMap<RequestId, Stamp>,
}

const RULES: &[Rule] = &[
    Rule::promise(
        "external-consistency",
        "If a transaction was answered before another began, it has the lower timestamp.",
    ),
    Rule::mechanism(
        "start",
        "A transaction's timestamp is no lower than the true time at which its request came.",
    ),
    Rule::mechanism("commit-wait", "No client is told before true time has passed the timestamp."),
    Rule::eventual("ends-when-calm", "Once all is calm, every leader has answered its clients."),
];

const VARIANTS: &[Variant] = &[
    Variant::new("no-wait", "The client is told as soon as a majority has it.", 100),
    Variant::new(
        "wait-to-latest",
        "The leader waits for its own clock, not for `earliest`.",
        1_000,
    ),
    Variant::new("stamp-of-the-wall", "The timestamp is what the clock says, not `latest`.", 1_000),
    Variant::new("understated", "Clocks are wrong by four times as much as is believed.", 1_000),
];

const KNOBS: &[Knob] = &[Knob {
    name: "epsilon_us",
    says: "How wrong clocks are at most, in microseconds: half the width of what TT.now() gives.",
    default: 7_000,
    min: 0,
    max: 1_000_000,
}];

impl Protocol for CommitWait {
    type Process = Replica;

    const ABOUT: About = About {
        name: "commit-wait",
        title: "Commit wait",
        paper: "J. Corbett and others, Spanner: Google's Globally-Distributed Database, OSDI 2012",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "A transaction that writes a value. Answered with its timestamp.",
        }],
        nodes: Nodes { min: 1, default: 5, max: 9 },
        bears: Bears { wishes: 12, length_us: 400_000, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let settings = Rc::new(Settings::of(setup));
        Self { settings, told: Stamp::default(), begun: BTreeMap::new() }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, _disk: &Disk) -> Replica {
        Replica::new(Rc::clone(&self.settings), node)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Write> {
        match (op, args) {
            ("write", &[value]) => Some(Write(value)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        if let Input::Request { id, .. } = step.input {
            self.begun.insert(*id, self.told);
            for (_, _, message) in seen.sent() {
                if let Message::Accept { stamp, .. } = message {
                    verdict.require("start", stamp.0 >= seen.now, || {
                        let now = Stamp(seen.now);
                        format!(
                            "request {id} comes at {now} and gets the earlier timestamp {stamp}"
                        )
                    });
                }
            }
        }
        for effect in step.effects {
            let Effect::Reply { id, output: Committed(stamp) } = effect else { continue };
            verdict.require("commit-wait", seen.now > stamp.0, || {
                let now = Stamp(seen.now);
                format!(
                    "at {now} a client is told that its request {id} is committed at {stamp}, which \
                     has not passed yet"
                )
            });
            let before = self.begun.get(id).copied().unwrap_or_default();
            verdict.require("external-consistency", *stamp > before, || {
                format!(
                    "request {id} is committed at {stamp}, and before it began a client had been \
                     told of a commit at {before}"
                )
            });
            self.told = self.told.max(*stamp);
        }
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        for (place, node) in seen.nodes.iter().enumerate() {
            let waits = node.process.as_ref().map_or(0, Replica::waits);
            verdict.require("ends-when-calm", waits == 0, || {
                let clients = count(waits, "client", "clients");
                format!("n{place} still owes an answer to {clients}")
            });
        }
    }

    /// What is not on the disks of a majority.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let has = |node: &Node<Self>, told: &Acknowledged<Self>| {
            let Committed(stamp) = told.output;
            node.disk.log.keys().any(|(at, txn)| (*at, txn.leader) == (stamp, told.by))
        };
        let lost = acknowledged
            .iter()
            .filter(|told| 2 * nodes.iter().filter(|node| has(node, told)).count() <= nodes.len());
        Some(lost.count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&Replica>, disk: &Disk) -> View {
        let mut view = process.map(Replica::view).unwrap_or_default();
        let cell = |((stamp, txn), value): (&(Stamp, Txn), &u64)| Cell {
            at: u64::try_from(stamp.0.as_micros()).unwrap_or(u64::MAX),
            text: format!("{txn}={value}"),
            state: CellState::Durable,
        };
        view.log = disk.log.iter().map(cell).collect();
        view
    }

    /// Clocks are as wrong as the knob says and no more, and they do not drift.
    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::script::<Self>(setup, dice);
        let most = setup.knob("epsilon_us");
        let offset = |dice: &mut Dice| {
            let width = dice.within(0, 2 * most).cast_signed() - most.cast_signed();
            // As wrong as can be, more often than not.
            if dice.coin() { width.signum() * most.cast_signed() } else { width }
        };
        for act in &mut script.acts {
            if let What::Clock { offset_us, drift_ppm, .. } = &mut act.what {
                *drift_ppm = 0;
                *offset_us = if *offset_us == 0 { 0 } else { offset(dice) };
            }
        }
        for node in NodeId::all(setup.n) {
            let what = What::Clock { node, offset_us: offset(dice), drift_ppm: 0 };
            script.acts.insert(0, Act { when: When::Us(0), what });
        }
        script
    }
}

const LESSONS: &[Lesson] = &[Lesson {
    name: "two-clocks",
    says: "n0's clock is fast and n1's slow. A client is answered by n0, and then asks n1. n0 waits until its \
           timestamp has passed on every clock, so n1's timestamp is higher.",
    run: two_clocks,
}];

/// Every message takes one millisecond; the clocks of n0 and n1 are as far apart as they may be.
fn two_clocks() -> Run {
    let clock = |node, offset_us| What::Clock { node: NodeId(node), offset_us, drift_ppm: 0 };
    let write = |node, value| What::Client {
        node: NodeId(node),
        op: "write".to_owned(),
        args: vec![value],
    };
    let at_us = |us, what| Act { when: When::Us(us), what };
    let acts = vec![
        at_us(0, clock(0, 7_000)),
        at_us(0, clock(1, -7_000)),
        at_us(20_000, write(0, 1)),
        // n0 answers at 34 ms with the timestamp 34 ms: 20 ms, 7 fast, and 7 uncertain.
        at_us(35_000, write(1, 2)),
    ];
    let end = End { events: 20_000, at_us: 200_000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("commit-wait", 3, script)
}
