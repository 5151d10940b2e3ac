//! KRaft: Raft whose followers pull (KIP-595, *A Raft Protocol for the Metadata Quorum*, 2020).
//!
#![doc = include_str!("essay.md")]

mod leader;
mod lessons;
mod process;
mod rules;
mod voter;

pub use process::{Disk, Message, Output, Timer};
pub use voter::Voter;

use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::protocols::kafka::Content;
use crate::script::Script;
use crate::swarm;
use crate::view::View;
use process::Settings;
use rules::Memory;

/// The observer of a run.
#[derive(Debug)]
pub struct KRaft {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::mechanism("election-safety", "At most one leader can be elected in a given epoch."),
    Rule::mechanism(
        "leader-append-only",
        "A leader never overwrites or deletes records in its log; it only appends new ones.",
    ),
    Rule::mechanism(
        "log-matching",
        "If two logs contain a record with the same offset and epoch, then the logs are identical in all \
               records up through the given offset.",
    ),
    Rule::promise(
        "leader-completeness",
        "If a record is committed in a given epoch, then it will be present in the logs of the leaders for all \
               higher-numbered epochs.",
    ),
    Rule::promise(
        "state-machine-safety",
        "If a voter has applied a record at a given offset to its state machine, no other will ever apply a \
               different one for the same offset.",
    ),
    Rule::mechanism("one-vote", "Each voter votes for at most one candidate in a given epoch."),
    Rule::mechanism(
        "durable-before-sent",
        "Votes, requests for votes and fetches leave when what they say is on disk.",
    ),
    Rule::mechanism(
        "commit-own-epoch",
        "The high watermark comes to records of the leader's own epoch only.",
    ),
    Rule::mechanism(
        "commit-is-backed",
        "What is below a leader's high watermark is on the disks of a majority of the voters.",
    ),
    Rule::promise(
        "acknowledged-survives",
        "A record that a client was told to be committed is in the log of whoever leads later.",
    ),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm there is a leader, and all have applied its whole log.",
    ),
];

const VARIANTS: &[Variant] = &[
    Variant {
        with: &[("fetch_max", 1)],
        n: Some(5),
        ..Variant::new(
            "count-old-epochs",
            "The high watermark counts records of earlier epochs (Raft §5.4.2, figure 8).",
            5_000,
        )
    },
    Variant::new("forget-vote", "The vote is not written to quorum-state.", 100),
    Variant::new("vote-twice", "Every candidate of an epoch gets the vote.", 1_000),
    Variant::new(
        "vote-without-log-check",
        "Votes are granted without comparing the ends of the logs.",
        1_000,
    ),
    Variant::new(
        "keep-diverging",
        "A follower that is told where its log parts from the leader's does not truncate, and appends to what it has.",
        5_000,
    ),
    Variant::new(
        "believe-late-answers",
        "A follower truncates whatever fetch it was that diverged.",
        10_000,
    ),
    Variant::new(
        "count-connected",
        "The high watermark is the end of the leader's log while a majority is connected.",
        100,
    ),
    Variant {
        with: &[("fetch_timeout_ms", 50), ("election_timeout_ms", 20)],
        ..Variant::new(
            "count-older-fetches",
            "A leader counts the offsets of fetches of an earlier epoch, which are not those of its own log.",
            2_000,
        )
    },
    Variant::new(
        "lead-into-next-epoch",
        "A leader that hears of a later epoch goes on leading in it.",
        1_000,
    ),
    Variant::new(
        "begin-at-watermark",
        "A new leader throws away what it does not know to be committed.",
        1_000,
    ),
    Variant {
        n: Some(5),
        ..Variant::new(
            "apply-at-fetch",
            "A follower applies what it has fetched, wherever the high watermark is.",
            5_000,
        )
    },
    Variant::new("answer-at-append", "A leader answers when the record is in its own log.", 1_000),
];

const KNOBS: &[Knob] = &[
    Knob {
        name: "fetch_timeout_ms",
        says: "After how long without an answer a follower stands for election, and after how long without fetches of \
               a majority a leader resigns, in milliseconds: quorum.fetch.timeout.ms.",
        default: 120,
        min: 50,
        max: 60_000,
    },
    Knob {
        name: "election_timeout_ms",
        says: "How long a candidate waits at least for votes, in milliseconds; at most twice as long: \
               quorum.election.timeout.ms.",
        default: 60,
        min: 10,
        max: 60_000,
    },
    Knob {
        name: "fetch_max",
        says: "How many records an answer to a fetch has at most.",
        default: 1_000,
        min: 1,
        max: 1_000,
    },
];

impl Protocol for KRaft {
    type Process = Voter;

    const ABOUT: About = About {
        name: "kraft",
        title: "KRaft: Raft by pulling",
        paper: "KIP-595: A Raft Protocol for the Metadata Quorum, Apache Kafka, 2020",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[Operation {
            name: "write",
            args: &["value"],
            says: "Appends a value. Answered when it is committed.",
        }],
        nodes: Nodes { min: 1, default: 3, max: 9 },
        bears: Bears { wishes: 20, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        Self { settings: Rc::new(Settings::of(setup)), memory: Memory::default() }
    }

    fn disk(&self, _node: NodeId) -> Disk {
        Disk::default()
    }

    fn process(&self, node: NodeId, disk: &Disk) -> Voter {
        Voter::new(Rc::clone(&self.settings), node, disk)
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

    /// It votes for everybody, and tells every other voter of other values.
    fn forge(&self, _: NodeId, to: NodeId, message: &Message, _choice: u64) -> Vec<Message> {
        let mut lie = message.clone();
        match &mut lie {
            Message::Voted { granted, .. } => *granted = true,
            Message::Records { records, .. } if to.0 % 2 == 1 => {
                for record in records {
                    if let Content::Value(value) = &mut record.content {
                        *value += 1_000;
                    }
                }
            }
            _ => {}
        }
        vec![lie]
    }

    /// What is not in the log that the voters go on from: of those on disks, the one whose last record is of the
    /// latest epoch, and of those the longest.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let disks = nodes.iter().filter(|node| !node.traitor).map(|node| &node.disk);
        let newest = disks.max_by_key(|disk| (disk.log.last_epoch(), disk.log.end()))?;
        let lost = acknowledged.iter().filter(|told| match told.output {
            Output::Acknowledged { offset, record } => newest.log.get(offset) != Some(record),
            _ => false,
        });
        Some(lost.count() as u64)
    }

    fn view(&self, _node: NodeId, process: Option<&Voter>, disk: &Disk) -> View {
        let view = process.map(Voter::view).unwrap_or_default();
        let high_watermark = process.map_or(0, Voter::high_watermark);
        let log = process.map_or(&disk.log, Voter::log).cells(high_watermark, &disk.log);
        View { term: format!("epoch {}", disk.epoch), log, ..view }
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::led::<Self>(setup, dice)
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "pulled",
        says: "A fetch waits at the leader; so a record is committed one round trip after it was appended, as with a leader \
               that pushes. The followers hear of it half a round trip later.",
        run: lessons::pulled,
    },
    Lesson {
        name: "diverging",
        says: "A leader that was cut off comes back with records of its own. The answer to its first fetch says where its \
               log parts from the new leader's, and it truncates.",
        run: lessons::diverging,
    },
    Lesson {
        name: "resigns",
        says: "A leader from which a majority does not fetch resigns: it cannot see that its followers have gone, but by \
               their silence.",
        run: lessons::resigns,
    },
    Lesson {
        name: "figure-8",
        says: "A record of epoch 1 is on a majority, and is overwritten. With `count-old-epochs` it had been committed.",
        run: lessons::figure_8,
    },
];
