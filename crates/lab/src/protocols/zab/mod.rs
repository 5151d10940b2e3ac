//! Zab (F. Junqueira, B. Reed, M. Serafini, *Zab: High-performance broadcast for primary-backup systems*, 2011).
//!
#![doc = include_str!("essay.md")]

mod election;
mod leader;
mod lessons;
mod link;
mod message;
mod process;
mod rules;
mod settings;

pub use link::{Conn, Frame};
pub use message::{Body, Change, Doing, Message, Notification, Txn, Vote, Zxid};
pub use process::{Disk, Timer, Zab as ZabProcess};

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
use rules::Memory;
use settings::Settings;

/// The observer of a run of Zab.
#[derive(Debug)]
pub struct Zab {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::promise(
        "integrity",
        "If some process delivers <v, z>, then some process has broadcast <v, z>.",
    ),
    Rule::promise(
        "total-order",
        "If some process delivers <v, z> before <v', z'>, then any process that delivers <v', z'> also \
               delivers <v, z>, and delivers it before <v', z'>.",
    ),
    Rule::promise(
        "agreement",
        "If some process delivers <v, z> and some process delivers <v', z'>, then the first one delivers \
               <v', z'> or the second one delivers <v, z>.",
    ),
    Rule::promise(
        "local-primary-order",
        "If a primary broadcasts <v, z> before <v', z'>, then a process that delivers <v', z'> has \
               delivered <v, z> before.",
    ),
    Rule::promise(
        "global-primary-order",
        "If a primary broadcasts <v, z> and a later primary broadcasts <v', z'>, then a process that \
               delivers both delivers <v, z> before <v', z'>.",
    ),
    Rule::promise(
        "primary-integrity",
        "If a primary broadcasts <v, z> and some process delivers <v', z'> of an earlier primary, then \
               the primary has delivered <v', z'> before it broadcast <v, z>.",
    ),
    Rule::promise(
        "state-as-computed",
        "A process delivers a state change in the state in which the primary computed it.",
    ),
    Rule::mechanism(
        "no-lost-write",
        "What was delivered, so that a client may have been told, stays on the disks of a majority.",
    ),
    Rule::mechanism(
        "one-primary",
        "An epoch has one primary and one initial history, and a zxid one transaction.",
    ),
    Rule::mechanism(
        "keeps-promises",
        "Who promised an epoch acknowledges nothing of an earlier one, and no other \
               leader of the same epoch counts it.",
    ),
    Rule::mechanism(
        "most-recent-history",
        "The initial history of an epoch is that of a follower in a quorum of which none has a later \
               currentEpoch, or the same and a later zxid.",
    ),
    Rule::mechanism(
        "synchronized",
        "Whose currentEpoch is e has accepted the initial history of epoch e.",
    ),
    Rule::mechanism("acks-are-durable", "What a follower acknowledges is on its disk."),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm there is a primary, and everyone delivers all that it has broadcast.",
    ),
];

const VARIANTS: &[Variant] = &[
    Variant {
        name: "skip-discovery",
        says: "A new leader begins with its own history, not with the most recent one of a quorum.",
        seeds_max: 200,
        with: &[("election", 1)],
        n: None,
    },
    Variant {
        name: "longest-history",
        says: "The longest history is taken for the most recent.",
        seeds_max: 2_000,
        with: &[],
        n: None,
    },
    Variant {
        name: "slot-by-slot",
        says: "The initial history is put together place by place, each from the latest leader, as \
               Multi-Paxos fills its slots.",
        seeds_max: 2_000,
        with: &[],
        n: None,
    },
    Variant::new(
        "forget-accepted-epoch",
        "acceptedEpoch is not on the disk: a restart forgets which epoch was promised.",
        100,
    ),
    Variant::new(
        "accept-old-epoch",
        "A follower promises any epoch, even one before its last. It takes two leaders that both get through \
         discovery and synchronization to do harm: searches end at the mechanism.",
        1_000,
    ),
    Variant::new("same-epoch", "A new leader's epoch is not later than those before.", 100),
    Variant::new(
        "skip-synchronization",
        "A new leader broadcasts at once: followers go on with the history that they have.",
        200,
    ),
    Variant::new(
        "commit-initial-at-once",
        "The initial history is taken to be committed before a quorum has accepted it from the new leader.",
        1_000,
    ),
    Variant::new(
        "ready-too-soon",
        "A new leader broadcasts before it has delivered the initial history.",
        200,
    ),
    Variant::new("commit-without-quorum", "One ack less than a quorum is taken for enough.", 100),
    Variant::new(
        "commits-overtake",
        "A follower delivers what a COMMIT names when it comes, before what should come before.",
        200,
    ),
    Variant::new("not-fifo", "Links are not FIFO: messages are taken as they come.", 200),
    Variant::new(
        "ack-before-persisting",
        "A follower acknowledges a proposal first and writes it to its disk later.",
        100,
    ),
    Variant::new(
        "epoch-before-history",
        "currentEpoch is on the disk some time before the initial history is.",
        200,
    ),
];

const KNOBS: &[Knob] = &[
    Knob {
        name: "ping_ms",
        says: "How often a leader pings its followers, and who looks for a leader tells its vote again.",
        default: 20,
        min: 1,
        max: 10_000,
    },
    Knob {
        name: "timeout_ms",
        says: "How long a follower goes on without its leader and a leader without a quorum. Far-away places \
               need longer.",
        default: 120,
        min: 1,
        max: 60_000,
    },
    Knob {
        name: "election",
        says: "0: fast leader election, for the most recent history. 1: for the highest place, whatever its \
               history, which is worse and just as safe.",
        default: 0,
        min: 0,
        max: 1,
    },
];

impl Protocol for Zab {
    type Process = ZabProcess;

    const ABOUT: About = About {
        name: "zab",
        title: "Zab, the broadcast of ZooKeeper",
        paper: "F. Junqueira, B. Reed and M. Serafini, Zab: High-performance broadcast for primary-backup \
                systems, DSN 2011",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Adds a value to the state. Answered with the transaction, when it is delivered.",
        }],
        nodes: Nodes { min: 1, default: 3, max: 9 },
        bears: Bears { length_us: 2_000_000, wishes: 30, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self { settings: Rc::new(Settings::of(setup)), memory: Memory::new(setup.n) }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, disk: &Disk) -> ZabProcess {
        ZabProcess::new(Rc::clone(&self.settings), node, disk)
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
        rules::at_end(seen, verdict);
    }

    /// It has no history, of the latest epoch; and it proposes another change to every other process.
    fn forge(&self, _: NodeId, to: NodeId, message: &Message, _choice: u64) -> Vec<Message> {
        let odd = to.0 % 2 == 1;
        let twist = |body: &mut Body| match body {
            Body::AckEpoch { epoch, current, history, .. } => {
                *current = epoch.saturating_sub(1);
                history.clear();
            }
            Body::Propose(txn) if odd => txn.change.to += 1_000,
            _ => {}
        };
        let mut lie = message.clone();
        if let Message::Up(Frame { data: Some((_, body)), .. })
        | Message::Down(Frame { data: Some((_, body)), .. }) = &mut lie
        {
            twist(body);
        }
        vec![lie]
    }

    /// What is not in the history that the next leader begins with: of those on disks, the one of the latest
    /// currentEpoch, and of those the one that goes furthest (phase 1).
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let disks = nodes.iter().filter(|node| !node.traitor).map(|node| &node.disk);
        let recent = |disk: &&Disk| (disk.current_epoch, disk.history.last().map(|txn| txn.zxid));
        let newest = disks.max_by_key(recent)?;
        let lost = acknowledged.iter().filter(|told| !newest.history.contains(&told.output));
        Some(lost.count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&ZabProcess>, disk: &Disk) -> View {
        if let Some(process) = process {
            return process.view(disk);
        }
        let cell = |(place, txn): (usize, &Txn)| Cell {
            at: place as u64 + 1,
            text: txn.to_string(),
            state: CellState::Durable,
        };
        View {
            term: format!("epoch {}", disk.current_epoch),
            log: disk.history.iter().enumerate().map(cell).collect(),
            ..View::default()
        }
        .with("promised epoch", disk.accepted_epoch)
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::led::<Self>(setup, dice)
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "four-phases",
        says: "Election, discovery, synchronization, broadcast; then two writes are outstanding at once, the \
               second one computed from the first.",
        run: lessons::four_phases,
    },
    Lesson {
        name: "dies-before-commit",
        says: "The primary dies between PROPOSE and COMMIT. n0 has accepted the proposal, n1 has not heard of \
               it. The next primary keeps it.",
        run: lessons::dies_before_commit,
    },
    Lesson {
        name: "old-leader-truncates",
        says: "n2 broadcasts alone, while the others have a new primary. When it is back, it takes the history \
               of epoch 2, and its own proposal is gone.",
        run: lessons::old_leader_truncates,
    },
    Lesson {
        name: "latest-not-longest",
        says: "n2 has three transactions of epoch 1, which nobody else has; n1 has one of epoch 2, which is \
               committed. The later currentEpoch wins, not the longer history.",
        run: lessons::latest_not_longest,
    },
    Lesson {
        name: "primary-order",
        says: "Two primaries leave A and B, and C behind. Multi-Paxos may choose C and then B, which was \
               computed after A. Here all of A and B or nothing is kept: nothing.",
        run: lessons::primary_order,
    },
    Lesson {
        name: "why-epochs",
        says: "A paused primary wakes and broadcasts 1.1, after 2.1 was. Nobody hears it, and as the epochs \
               differ, nobody can take the one for the other.",
        run: lessons::why_epochs,
    },
];
