//! PBFT (M. Castro and B. Liskov, *Practical Byzantine Fault Tolerance*, OSDI 1999).
//!
#![doc = include_str!("essay.md")]

mod checkpoint;
mod client;
mod forge;
mod lessons;
mod message;
mod process;
mod replica;
mod rules;
mod view_change;

pub use message::{
    Assignment, Certificate, Checkpoint, Message, NewView, Phase, Proof, Request, Seq, Signature,
    State, ViewChange, ViewNumber, Vote, Written,
};
pub use process::{Disk, Output, Party, Timer};
pub use replica::{Log, Slot};

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Traitors, Variant, Verdict,
};
use crate::script::{Script, What};
use crate::swarm;
use crate::view::{Cell, CellState, View};
use forge::{Overheard, Traitor};
use process::Settings;
use rules::Memory;

/// The observer of a run of PBFT.
#[derive(Debug)]
pub struct Pbft {
    settings: Rc<Settings>,
    memory: Memory,
    overheard: Overheard,
}

const RULES: &[Rule] = &[
    Rule::promise(
        "agreement",
        "Loyal replicas execute the same request under each sequence number, and are in the same state \
               after it.",
    ),
    Rule::mechanism(
        "prepared-once",
        "If a request is prepared at a loyal replica under a view and a sequence number, no other is at \
               any (§4.2).",
    ),
    Rule::mechanism(
        "one-vote",
        "A loyal replica accepts one request under a view and a sequence number.",
    ),
    Rule::mechanism(
        "executed-is-committed",
        "What a loyal replica executes is committed: in some view f+1 loyal replicas have prepared it \
               (§4.2), or a quorum less f where n is not 3f+1.",
    ),
    Rule::mechanism(
        "survives",
        "What is committed in a view is what loyal replicas accept under its sequence number in all later \
               views (§4.5.1).",
    ),
    Rule::mechanism(
        "leaves-view",
        "A replica that has sent a view-change takes no part in earlier views any more.",
    ),
    Rule::mechanism(
        "tells-prepared",
        "A view-change has a certificate for all that its sender has prepared since its stable checkpoint.",
    ),
    Rule::promise("asked", "Only what a client asked for is executed."),
    Rule::promise("exactly-once", "No request is executed twice."),
    Rule::promise(
        "believed-is-computed",
        "A client believes a result only if a loyal replica computed it.",
    ),
    Rule::eventual("answered", "Once all is calm, every client is answered (§4.5.2)."),
];

const VARIANTS: &[Variant] = &[
    Variant::new("small-quorum", "2f replicas are taken for a quorum everywhere, not 2f+1.", 1_000),
    Variant::new(
        "small-prepare-quorum",
        "A replica is prepared with 2f votes, not 2f+1; all other quorums are as they should be.",
        1_000,
    ),
    Variant::new("no-commit-phase", "What is prepared is executed.", 1_000),
    Variant::new(
        "mixed-views",
        "Commits of different views are counted together. To part two replicas by it takes a traitor and four \
         views: searches end at the mechanism.",
        1_000,
    ),
    Variant::new(
        "accept-twice",
        "A backup accepts a second pre-prepare under the same view and sequence number. Replicas part by it \
         only if one of them prepares both in time: searches end at the mechanism.",
        1_000,
    ),
    Variant::new("forget-certificates", "View-changes name nothing that was prepared.", 1_000),
    Variant::new("lowest-view", "Of two certificates that of the lower view is taken.", 2_000),
    Variant::new("unchecked-o", "Backups take whatever the new primary says follows.", 1_000),
    Variant::new(
        "unsigned-certificates",
        "The signatures in view-changes are not looked at.",
        1_000,
    ),
    Variant::new(
        "stay-in-view",
        "A replica votes on in the view that it has sent a view-change for.",
        1_000,
    ),
    Variant::new("no-view-change", "Backups wait for their primary for ever.", 100),
    Variant::new(
        "forget-on-restart",
        "What a replica accepted and prepared is not on its disk.",
        1_000,
    ),
    Variant::new(
        "unproved-state",
        "A replica that was left behind takes the state from anyone.",
        1_000,
    ),
    Variant::new("unsigned-requests", "Clients' signatures are not looked at.", 1_000),
    Variant::new("no-timestamps", "A request is executed even if it has been.", 1_000),
    Variant::new("first-reply", "A client believes the first reply.", 100),
];

const KNOBS: &[Knob] = &[
    Knob {
        name: "clients",
        says: "How many clients there are. Their places follow those of the replicas.",
        default: 2,
        min: 1,
        max: 4,
    },
    Knob {
        name: "checkpoint",
        says: "After how many requests a checkpoint is taken; the high watermark is twice as far.",
        default: 4,
        min: 1,
        max: 100,
    },
    Knob {
        name: "timeout_ms",
        says: "How long a client waits before it asks all replicas, and a replica with a request that is not \
               executed before it begins a view change. That doubles with each view change in vain.",
        default: 40,
        min: 1,
        max: 60_000,
    },
];

impl Protocol for Pbft {
    type Process = Party;

    const ABOUT: About = About {
        name: "pbft",
        title: "Practical Byzantine fault tolerance",
        paper: "M. Castro and B. Liskov, Practical Byzantine Fault Tolerance, OSDI 1999",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Asks a client to write a value. Answered with how many writes there were, and what this one \
                   replaced. A replica sends you to a client.",
        }],
        nodes: Nodes { min: 4, default: 4, max: 10 },
        bears: Bears { traitors: Traitors::BelowThird, wishes: 10, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self {
            settings: Rc::new(Settings::of(setup)),
            memory: Memory::new(setup.n),
            overheard: Overheard::default(),
        }
    }

    fn besides(setup: &Setup) -> usize {
        usize::try_from(setup.knob("clients")).unwrap_or(1)
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, disk: &Disk) -> Party {
        Party::new(Rc::clone(&self.settings), node, disk)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<u64> {
        match (op, args) {
            ("write", &[value]) => Some(value),
            _ => None,
        }
    }

    /// Modulo 8: 0 is silence; 1 is the lie to those with even numbers, 2 to those with odd ones, and the truth
    /// to the others: another request in the place of the one that is voted for. 3 to 7 are other sorts of lies.
    fn forge(&self, from: NodeId, to: NodeId, message: &Message, choice: u64) -> Vec<Message> {
        let overheard = &self.overheard;
        Traitor { settings: &self.settings, overheard, me: from, to }.say(message, choice)
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.overheard.hear(seen);
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        rules::at_end(seen, &self.settings, verdict);
    }

    /// What no loyal replica has executed, or one of them has gone past without it, or with another result; and of
    /// several answers that take the same place in the order, all but one.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let replicas = nodes.iter().take(self.settings.n).filter(|node| !node.traitor);
        let states: Vec<&State> = replicas.map(|node| &node.disk.log.state).collect();
        let mut places = BTreeSet::new();
        let is_lost = |told: &&Acknowledged<Self>| {
            let Output::Accepted { timestamp, result } = told.output else { return false };
            let has = |state: &State| {
                let last = state.replies.get(&told.by);
                last.is_some_and(|&(at, last)| {
                    at > timestamp || (at == timestamp && last == result)
                })
            };
            let past = |state: &&&State| state.writes >= result.nth;
            let (mut those, taken) =
                (states.iter().filter(past).peekable(), !places.insert(result.nth));
            taken || those.peek().is_none() || !those.all(|state| has(state))
        };
        Some(acknowledged.iter().filter(is_lost).count() as u64)
    }

    fn view(&self, node: NodeId, process: Option<&Party>, disk: &Disk) -> View {
        if !self.settings.is_replica(node) {
            let view = View { role: "client".to_owned(), ..View::default() };
            return match process.and_then(Party::asked) {
                Some((request, replies)) => view.with("asks", request).with("replies", replies),
                None => view,
            };
        }
        // What is on the disk is all that there is between two steps.
        let log = &disk.log;
        let role = match self.settings.primary(log.view) == node {
            _ if process.is_none() => "",
            _ if !log.active => "changes view",
            true => "primary",
            false => "backup",
        };
        let cells = log.slots.iter().filter_map(|(&seq, slot)| cell(seq, slot, log.executed));
        let view = View {
            role: role.to_owned(),
            term: log.view.to_string(),
            log: cells.collect(),
            ..View::default()
        };
        view.with("executed up to", log.executed)
            .with("stable checkpoint", log.stable.seq)
            .with("value", log.state.value)
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        let mut script = swarm::script::<Self>(setup, dice);
        if dice.coin() {
            swarm::turmoil::<Self>(&mut script, setup, dice);
        }
        script
    }

    /// Clients are asked.
    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        let node = NodeId(setup.n + dice.index(Self::besides(setup)));
        What::Client { node, op: "write".to_owned(), args: vec![nth + 1] }
    }
}

/// What is shown of a slot of the log: accepted, prepared or committed.
fn cell(seq: Seq, slot: &Slot, executed: Seq) -> Option<Cell> {
    let assignment = slot.committed.or(slot.accepted.map(|vote| vote.assignment))?;
    let state = if seq <= executed || slot.committed.is_some() {
        CellState::Committed
    } else if slot.certificate.as_ref().is_some_and(|it| it.assignment == assignment) {
        CellState::Durable
    } else {
        CellState::Tentative
    };
    let text = assignment.request.map_or("null".to_owned(), |request| request.value.to_string());
    Some(Cell { at: seq.0, text, state })
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "three-phases",
        says: "Nobody is a traitor. Pre-prepare, prepare, commit: five messages one after the other from the \
               request to the reply, and four replicas need 28 to write one value.",
        run: lessons::three_phases,
    },
    Lesson {
        name: "silent-primary",
        says: "n0 says nothing. The client asks all, the backups lose their patience, and n1 is the primary of \
               view 1.",
        run: lessons::silent_primary,
    },
    Lesson {
        name: "equivocating-primary",
        says: "n0 gives the number 1 to one request before n1 and to the other before n2. Neither gets a quorum; \
               both are executed in view 1. With `small-quorum` n1 and n2 part.",
        run: lessons::equivocating_primary,
    },
    Lesson {
        name: "carried-over",
        says: "Only n3 has executed the write of 1 when n0 stops. The certificates in the view-changes bind n1 to \
               it: it has the number 1 in view 1 as well, and what n5 asks for has the number 2.",
        run: lessons::carried_over,
    },
    Lesson {
        name: "lying-new-primary",
        says: "The same, and n1 says that it is to be a write of 2 that has the number 1. The backups do the \
               sum themselves, and move on to view 2.",
        run: lessons::lying_new_primary,
    },
    Lesson {
        name: "false-reply",
        says: "The first reply is a traitor's, and false. The client waits until two are equal.",
        run: lessons::false_reply,
    },
];
