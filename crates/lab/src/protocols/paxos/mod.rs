//! Single-decree Paxos (L. Lamport, *The Part-Time Parliament*, 1998; *Paxos Made Simple*, 2001).
//!
#![doc = include_str!("essay.md")]

mod lessons;
mod process;
mod rules;

pub use process::{Ballot, Disk, Message, Paxos as PaxosProcess, Proposal, Timer, Value};

use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::script::Script;
use crate::swarm;
use crate::view::{Cell, CellState, View};
use process::Settings;
use rules::Memory;

/// The observer of a run of Paxos.
#[derive(Debug)]
pub struct Paxos {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::promise("chosen-once", "Only a single value is chosen."),
    Rule::promise("proposed", "Only a value that has been proposed may be chosen."),
    Rule::promise(
        "learned-is-chosen",
        "A process never learns that a value has been chosen unless it actually has been: a majority \
               accepted it in one ballot.",
    ),
    Rule::mechanism(
        "keeps-promises",
        "An acceptor accepts a proposal of ballot b only if it has not promised a higher one.",
    ),
    Rule::mechanism(
        "accepting-promises",
        "Who accepted a proposal of ballot b promises and accepts nothing lower any more.",
    ),
    Rule::mechanism("ballot-once", "No ballot is begun twice, and none has two values."),
    Rule::mechanism(
        "highest-ballot",
        "The value proposed is that of the highest-numbered proposal among the promises, if there is one.",
    ),
    Rule::eventual("ends-when-calm", "Once all is calm, who proposes learns what is chosen."),
];

const VARIANTS: &[Variant] = &[
    Variant::new(
        "commonest-value",
        "A proposer takes the value that most promises name, not that of the highest ballot.",
        1_000,
    ),
    Variant::new(
        "own-value",
        "A proposer proposes its own value, whatever the promises name.",
        100,
    ),
    Variant {
        n: Some(3),
        ..Variant::new(
            "forget-promise",
            "A promise is not on the disk: a restart forgets it.",
            1_000,
        )
    },
    Variant::new("forget-accepted", "What was accepted is not on the disk.", 1_000),
    Variant::new(
        "accept-without-promising",
        "Accepting a proposal does not raise the promise to its ballot.",
        1_000,
    ),
    Variant::new(
        "accept-anything",
        "An acceptor does not look at its promise when it accepts.",
        100,
    ),
    Variant {
        n: Some(3),
        ..Variant::new(
            "reuse-ballot",
            "The last ballot begun is not on the disk. A value is lost by it only if a message of the \
             first use comes after the second has been answered: searches end at the mechanism.",
            1_000,
        )
    },
    Variant::new(
        "shared-ballots",
        "Ballots are plain numbers: two proposers may use the same.",
        100,
    ),
    Variant::new("minority-chooses", "One acceptor less than a majority is taken for enough.", 100),
    Variant::new(
        "mixed-ballots",
        "A majority that accepted one value in different ballots is taken to have chosen it.",
        1_000,
    ),
];

const KNOBS: &[Knob] = &[
    Knob {
        name: "patience_ms",
        says: "How long at most a proposer that was overtaken waits before its next ballot, drawn anew each \
               time. With 0 it does not wait, and two proposers may overtake each other for ever.",
        default: 20,
        min: 0,
        max: 1_000,
    },
    Knob {
        name: "timeout_ms",
        says: "How long a proposer waits for a ballot before it begins the next. Far-away acceptors need longer.",
        default: 50,
        min: 1,
        max: 60_000,
    },
    Knob {
        name: "leader",
        says: "0: everyone proposes. 1: only n0 does, 2: only n1, and so on; the others hand it their values.",
        default: 0,
        min: 0,
        max: 9,
    },
];

impl Protocol for Paxos {
    type Process = PaxosProcess;

    const ABOUT: About = About {
        name: "paxos",
        title: "Paxos, one decree",
        paper: "L. Lamport, The Part-Time Parliament, ACM TOCS 1998; Paxos Made Simple, 2001",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Proposes a value. Answered with the value that was chosen.",
        }],
        nodes: Nodes { min: 1, default: 5, max: 9 },
        bears: Bears::CRASHES,
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self { settings: Rc::new(Settings::of(setup)), memory: Memory::new(setup.n) }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, disk: &Disk) -> PaxosProcess {
        PaxosProcess::new(Rc::clone(&self.settings), node, disk)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Value> {
        match (op, args) {
            ("write", &[value]) => Some(Value(value)),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        rules::at_end(seen, verdict);
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::led::<Self>(setup, dice)
    }

    /// It promises everybody, has accepted nothing or something else, and tells every other process another value.
    fn forge(&self, _: NodeId, to: NodeId, message: &Message, choice: u64) -> Vec<Message> {
        let other = |Value(value)| Value(value + 1_000);
        let twisted = |proposal: Proposal| Proposal { value: other(proposal.value), ..proposal };
        let odd = to.0 % 2 == 1;
        let lie = match message {
            Message::Promise { ballot, accepted } => {
                let accepted = accepted.map(twisted).filter(|_| choice.is_multiple_of(2));
                Message::Promise { ballot: *ballot, accepted }
            }
            Message::Reject { ballot, .. } => Message::Promise { ballot: *ballot, accepted: None },
            Message::Accept(proposal) if odd => Message::Accept(twisted(*proposal)),
            Message::Accepted(proposal) if odd => Message::Accepted(twisted(*proposal)),
            Message::Chosen(value) if odd => Message::Chosen(other(*value)),
            truth => truth.clone(),
        };
        vec![lie]
    }

    /// What is not the value of the highest ballot that anybody has accepted: whoever asks a majority next proposes that.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let loyal = nodes.iter().filter(|node| !node.traitor);
        let last = loyal.filter_map(|node| node.disk.accepted).max_by_key(|it| it.ballot);
        let lost = acknowledged.iter().filter(|told| last.map(|it| it.value) != Some(told.output));
        Some(lost.count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&PaxosProcess>, disk: &Disk) -> View {
        let mut view = process.map(PaxosProcess::view).unwrap_or_default();
        if process.is_none() {
            view.term =
                disk.promised.map(|ballot| format!("promised {ballot}")).unwrap_or_default();
        }
        view.log = disk
            .accepted
            .map(|accepted| Cell {
                at: 1,
                text: accepted.to_string(),
                state: if view.decided.is_some() {
                    CellState::Committed
                } else {
                    CellState::Durable
                },
            })
            .into_iter()
            .collect();
        view
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "highest-not-commonest",
        says: "B is chosen by n2, n3 and n4. Then n0 hears from n0, n1 and n2: two of the three promises name \
               A, one names B in a higher ballot, and so it proposes B.",
        run: lessons::highest_not_commonest,
    },
    Lesson {
        name: "minority-comes-back",
        says: "Only n0 accepted A. Later n1, who wants B, hears of it, and proposes A.",
        run: lessons::minority_comes_back,
    },
    Lesson {
        name: "mixed-ballots",
        says: "Two of three acceptors hold A, from different ballots. A is not chosen, and B will be.",
        run: lessons::mixed_ballots,
    },
    Lesson {
        name: "duel",
        says: "Two proposers that do not wait overtake each other for ever: nothing is ever chosen.",
        run: lessons::duel,
    },
    Lesson {
        name: "leader-ends-it",
        says: "The same, with one distinguished proposer: chosen after two round trips.",
        run: lessons::leader_ends_it,
    },
];
