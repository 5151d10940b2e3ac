//! Multi-Paxos (L. Lamport, *The Part-Time Parliament*, 1998; *Paxos Made Simple*, 2001, section 3; T. Chandra,
//! R. Griesemer and J. Redstone, *Paxos Made Live*, 2007).
//!
#![doc = include_str!("essay.md")]

mod leader;
mod learner;
mod lessons;
mod message;
mod process;
mod rules;
mod settings;
mod words;

pub use message::{Command, Disk, Message, Output, Proposal, Slot, State, Value};
pub use process::{MultiPaxos, Timer};

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Lesson, Node, Nodes, Operation, Protocol, Seen, Setup, Verdict,
};
use crate::script::{Act, Script, What};
use crate::swarm;
use crate::view::{Cell, CellState, View};
use leader::Role;
use rules::Memory;
use settings::Settings;
use words::{KNOBS, RULES, VARIANTS};

/// The observer of a run of Multi-Paxos.
#[derive(Debug)]
pub struct Multi {
    settings: Rc<Settings>,
    memory: Memory,
}

impl Protocol for Multi {
    type Process = MultiPaxos;

    const ABOUT: About = About {
        name: "multi-paxos",
        title: "Multi-Paxos",
        paper: "L. Lamport, The Part-Time Parliament, ACM TOCS 1998; Paxos Made Simple, 2001; T. Chandra, R. \
                Griesemer and J. Redstone, Paxos Made Live, PODC 2007",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Appends a value. Answered with the slot in which it took effect. The same request takes effect \
                   once; another one for the same value takes effect by itself.",
        }],
        nodes: Nodes { min: 1, default: 5, max: 9 },
        bears: Bears { wishes: 12, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self { settings: Rc::new(Settings::of(setup)), memory: Memory::new(setup.n) }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, disk: &Disk) -> MultiPaxos {
        MultiPaxos::new(Rc::clone(&self.settings), node, disk)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<u64> {
        match (op, args) {
            ("write", &[value]) => Some(value),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        Memory::at_end(seen, verdict);
    }

    /// It has accepted nothing, and proposes nothing to every other process where it proposes something to the rest.
    fn forge(&self, _: NodeId, to: NodeId, message: &Message, _choice: u64) -> Vec<Message> {
        let nothing = |proposal: Proposal| Proposal { value: Value::Noop, ..proposal };
        let odd = to.0 % 2 == 1;
        let lie = match message {
            &Message::Promise { ballot, .. } => {
                Message::Promise { ballot, accepted: BTreeMap::new(), snapshot: None }
            }
            &Message::Accept { slot, proposal, commit } if odd => {
                Message::Accept { slot, proposal: nothing(proposal), commit }
            }
            Message::Chosen { from, values } if odd => {
                Message::Chosen { from: *from, values: vec![Value::Noop; values.len()] }
            }
            truth => truth.clone(),
        };
        vec![lie]
    }

    /// What is not what the proposal of the highest ballot says that anybody has accepted in that slot (whoever leads
    /// next proposes it again), or is missing where the slot has been applied.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let loyal = || nodes.iter().filter(|node| !node.traitor);
        let is_lost = |told: &&Acknowledged<Self>| {
            let Output::Written { slot } = told.output else { return false };
            // Where a snapshot covers the slot, those that chose it may have discarded what they accepted.
            let covered = loyal().any(|node| node.disk.snapshot.next > slot);
            let accepted = loyal().filter_map(|node| node.disk.accepted.get(&slot)).max();
            let accepted = accepted.filter(|_| !covered);
            let states = loyal().flat_map(|node| {
                [Some(&node.disk.snapshot), node.process.as_ref().map(MultiPaxos::state)]
            });
            let mut applied = states.flatten().filter(|state| state.next > slot).peekable();
            let is = |value| matches!(value, Value::Write(command) if command.id == told.id);
            let nowhere = accepted.is_none() && applied.peek().is_none();
            let elsewhere = accepted.is_some_and(|proposal| !is(proposal.value));
            let has = |state: &State| state.written.iter().any(|(_, it)| it.id == told.id);
            nowhere || elsewhere || !applied.all(has)
        };
        Some(acknowledged.iter().filter(is_lost).count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&MultiPaxos>, disk: &Disk) -> View {
        process.map_or_else(|| view_of_disk(disk), |process| view_of(process, disk))
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::led::<Self>(setup, dice);
        if dice.coin() {
            bursts(&mut script, dice);
        }
        script
    }
}

/// Several clients ask at once, so that several slots are in flight.
fn bursts(script: &mut Script, dice: &mut Dice) {
    let asked = |act: &&Act| matches!(act.what, What::Client { .. });
    let asked: Vec<Act> = script.acts.iter().filter(asked).cloned().collect();
    let mut value = 100;
    for act in asked {
        let What::Client { node, op, .. } = act.what else { continue };
        for _ in 0..dice.below(4) {
            value += 1;
            let what = What::Client { node, op: op.clone(), args: vec![value] };
            script.acts.push(Act { when: act.when, what });
        }
    }
}

fn view_of_disk(disk: &Disk) -> View {
    let durable = |(slot, proposal): (&Slot, &Proposal)| Cell {
        at: slot.0,
        text: proposal.to_string(),
        state: CellState::Durable,
    };
    let view = View {
        term: disk.promised.map(|ballot| format!("promised {ballot}")).unwrap_or_default(),
        log: disk.accepted.iter().map(durable).collect(),
        ..View::default()
    };
    if disk.snapshot == State::default() {
        return view;
    }
    view.with("snapshot", format!("below slot {}", disk.snapshot.next))
}

fn view_of(process: &MultiPaxos, disk: &Disk) -> View {
    let role = match &process.role {
        Role::Leader(leader) => format!("leads in {}", leader.ballot),
        Role::Candidate(candidate) => format!("prepares {}", candidate.ballot),
        Role::Follower => {
            process.leader.map_or_else(|| "waits".to_owned(), |it| format!("follows {it}"))
        }
    };
    let mut view = view_of_disk(disk);
    let mut log: BTreeMap<u64, Cell> = view.log.drain(..).map(|cell| (cell.at, cell)).collect();
    for (slot, value) in &process.learned {
        let at = slot.0;
        let state = CellState::Committed;
        log.insert(at, Cell { at, text: value.to_string(), state });
    }
    view.log = log.into_values().collect();
    View { role, ..view }.with("applied", process.state())
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "steady-state",
        says: "One phase 1, for all slots. Then ten writes, each with phase 2 only: chosen one round trip after the \
               leader is asked.",
        run: lessons::steady_state,
    },
    Lesson {
        name: "fill-a-gap",
        says: "n0 gets C chosen in slot 3, and B in slot 2 reached nobody: C cannot be applied. Then n0 is gone. \
               n1 hears of C and of nothing in slot 2, fills it with a no-op, and applies both.",
        run: lessons::fill_a_gap,
    },
    Lesson {
        name: "highest-not-commonest",
        says: "In slot 1, B is chosen by n2, n3 and n4. Then n0 hears from n0, n1 and n2: two of the three promises \
               name A there, one names B in a higher ballot, and so it proposes B.",
        run: lessons::highest_not_commonest,
    },
    Lesson {
        name: "lagging-replica",
        says: "n2 misses six writes, and the others have discarded the first four. It asks, and gets a snapshot of \
               those and the other two by themselves.",
        run: lessons::lagging_replica,
    },
    Lesson {
        name: "candidate-lags",
        says: "n2 missed four writes, which n1 has discarded, and leads next. n1's promise has the snapshot, and D \
               goes into slot 5.",
        run: lessons::candidate_lags,
    },
];
