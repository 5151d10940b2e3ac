//! In-sync replicas, as Kafka replicates a partition (J. Kreps, N. Narkhede, J. Rao, *Kafka: a Distributed Messaging
//! System for Log Processing*, 2011, and Kafka's replication since 0.8; KIP-101, KIP-279, KIP-497).
//!
#![doc = include_str!("essay.md")]

mod broker;
mod controller;
mod follower;
mod leader;
mod lessons;
mod process;
mod rules;

pub use broker::Broker;
pub use controller::Controller;
pub use process::{Disk, Message, Output, Partition, Request, Server, Timer};

use std::rc::Rc;

use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{
    About, Acknowledged, Bears, Knob, Lesson, Node, Nodes, Operation, Protocol, Rule, Seen, Setup,
    Variant, Verdict,
};
use crate::protocols::kafka::Log;
use crate::script::{Script, What};
use crate::swarm;
use crate::view::View;
use process::Settings;
use rules::Memory;

/// The observer of a run.
#[derive(Debug)]
pub struct Isr {
    settings: Rc<Settings>,
    memory: Memory,
}

const RULES: &[Rule] = &[
    Rule::mechanism("one-leader-an-epoch", "No two brokers lead under the same leader epoch."),
    Rule::promise(
        "committed-once",
        "Below the high watermark all logs are the same: no two records can be read at one offset.",
    ),
    Rule::mechanism(
        "isr-has-committed",
        "Every in-sync replica, that is every one that may come to lead, has every committed record.",
    ),
    Rule::promise(
        "acknowledged-survives",
        "A record that was acknowledged with acks=all is in the log of whoever leads, as long as one in-sync \
               replica survives.",
    ),
    Rule::mechanism(
        "one-lineage",
        "If two logs have the same record at the same offset, they are the same up to there.",
    ),
    Rule::promise(
        "min-insync",
        "What is acknowledged is in the logs of at least `min_insync` replicas.",
    ),
    Rule::promise(
        "watermark-forward",
        "What leaders tell to be the latest offset never goes back (KIP-207).",
    ),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm there is a leader, all replicas are in sync, and all that is in a log can be read.",
    ),
];

const VARIANTS: &[Variant] = &[
    Variant::new(
        "truncate-by-high-watermark",
        "Who becomes a follower cuts its log off at its own high watermark: Kafka before KIP-101.",
        1_000,
    ),
    Variant::new(
        "truncate-once",
        "A follower cuts its log off at the offset that the leader names, whatever epoch it is of: KIP-101 before \
         KIP-279.",
        10_000,
    ),
    Variant::new(
        "believe-late-answers",
        "A broker that came again believes where an epoch ended when an earlier life of it asked. Only if it \
         leads next is anything lost: searches end at the mechanism.",
        10_000,
    ),
    Variant::new(
        "unclean-election",
        "If nobody in sync is alive, another leads: unclean.leader.election.enable.",
        1_000,
    ),
    Variant::new(
        "power-failure",
        "A crash takes what was not flushed: Kafka acknowledges what is in its page cache only.",
        1_000,
    ),
    Variant::new("epoch-not-raised", "A new leader leads under the epoch of the last.", 1_000),
    Variant::new(
        "any-partition-epoch",
        "The controller sets the ISR without comparing which state was to be changed.",
        10_000,
    ),
    Variant::new(
        "expand-by-lagging-watermark",
        "A follower comes into the ISR when it has what is below the leader's high watermark, which may not have \
         come to where its epoch begins. Only if it leads next is anything lost: searches end at the \
         mechanism.",
        10_000,
    ),
    Variant::new(
        "expansion-not-counted",
        "The high watermark does not wait for a replica that the controller may have put into the ISR by now.",
        10_000,
    ),
    Variant::new(
        "shrink-before-confirmed",
        "The high watermark no longer waits for a replica that the leader wants out of the ISR.",
        1_000,
    ),
    Variant {
        with: &[("session_ms", 50), ("lag_ms", 40)],
        n: Some(4),
        ..Variant::new(
            "fetches-of-any-epoch",
            "A leader counts fetches of followers that have not heard of its epoch, and may have another log. \
             Only if such a one leads next is anything lost: searches end at the mechanism.",
            10_000,
        )
    },
    Variant::new(
        "watermark-by-majority",
        "What a majority has is taken to be committed, though one of the ISR will lead.",
        1_000,
    ),
    Variant::new("answer-at-append", "Acknowledged when the leader has it: acks=1.", 1_000),
    Variant {
        with: &[("min_insync", 2)],
        ..Variant::new("ignore-min-insync", "However few are in sync, writes are taken.", 1_000)
    },
    Variant::new(
        "tell-lagging-watermark",
        "A new leader tells its high watermark, which it heard one fetch late: Kafka before KIP-207.",
        5_000,
    ),
];

const KNOBS: &[Knob] = &[
    Knob {
        name: "min_insync",
        says: "With fewer replicas in sync nothing is written: min.insync.replicas.",
        default: 1,
        min: 1,
        max: 9,
    },
    Knob {
        name: "lag_ms",
        says: "How long a follower may lag before it goes out of the ISR, in milliseconds: replica.lag.time.max.ms.",
        default: 80,
        min: 40,
        max: 60_000,
    },
    Knob {
        name: "session_ms",
        says: "After how long without a heartbeat the controller takes a broker to be gone, in milliseconds.",
        default: 100,
        min: 50,
        max: 60_000,
    },
];

impl Protocol for Isr {
    type Process = Server;

    const ABOUT: About = About {
        name: "isr",
        title: "In-sync replicas",
        paper: "J. Kreps, N. Narkhede and J. Rao, Kafka: a Distributed Messaging System for Log Processing, NetDB 2011; \
                KIP-101, 2016; KIP-279, 2018; KIP-497, 2019",
        essay: include_str!("essay.md"),
        rules: RULES,
        variants: VARIANTS,
        knobs: KNOBS,
        operations: &[
            Operation { name: "write", args: &["value"], says: "Produces a value, with acks=all." },
            Operation {
                name: "latest",
                args: &[],
                says: "Asks where the records that can be read end.",
            },
        ],
        nodes: Nodes { min: 1, default: 3, max: 9 },
        bears: Bears { wishes: 20, ..Bears::CRASHES },
        lessons: LESSONS,
    };

    fn new(setup: &Setup) -> Self {
        let settings = Rc::new(Settings::of(setup));
        let memory = Memory::new(settings.n, settings.min_insync);
        Self { settings, memory }
    }

    /// The controller.
    fn besides(_setup: &Setup) -> usize {
        1
    }

    fn disk(&self, _node: NodeId) -> Disk {
        let partition = Partition::founding(self.settings.n);
        Disk { broker_epoch: 0, log: Log::default(), high_watermark: 0, partition }
    }

    fn process(&self, node: NodeId, disk: &Disk) -> Server {
        Server::new(Rc::clone(&self.settings), node, disk)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Request> {
        match (op, args) {
            ("write", &[value]) => Some(Request::Produce(value)),
            ("latest", &[]) => Some(Request::Latest),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        rules::at_end(self.settings.n, seen, verdict);
    }

    /// What is not in the log of the partition's leader; while it is offline, of any of the replicas in sync, one of
    /// which will lead.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let partition = &nodes.last()?.disk.partition;
        let log = |id: &NodeId| {
            let Node { process, disk, .. } = &nodes[id.0];
            let broker = process.as_ref().and_then(Server::broker);
            broker.map_or(&disk.log, Broker::log)
        };
        let serving: Vec<&Log> = match &partition.leader {
            Some(leader) => vec![log(leader)],
            None => partition.isr.iter().map(log).collect(),
        };
        let lost = acknowledged.iter().filter(|told| match told.output {
            Output::Acknowledged { offset, record } => {
                serving.iter().any(|log| log.get(offset) != Some(record))
            }
            _ => false,
        });
        Some(lost.count() as u64)
    }

    fn view(&self, node: NodeId, process: Option<&Server>, disk: &Disk) -> View {
        if node == self.settings.controller() {
            let controller = match process {
                Some(Server::Controller(controller)) => controller.view(),
                _ => View::default(),
            };
            return View { term: disk.partition.to_string(), ..controller };
        }
        let broker = process.and_then(Server::broker);
        let view = broker.map(Broker::view).unwrap_or_default();
        let log = broker.map_or(&disk.log, Broker::log);
        let high_watermark = broker.map_or(disk.high_watermark, Broker::high_watermark);
        View { log: log.cells(high_watermark, &disk.log), ..view }
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::led::<Self>(setup, dice)
    }

    /// Mostly writes, to any broker.
    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        let node = NodeId(dice.index(setup.n));
        let latest = dice.chance(200);
        let (op, args) = if latest { ("latest", vec![]) } else { ("write", vec![nth + 1]) };
        What::Client { node, op: op.to_owned(), args }
    }
}

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "watermark-is-no-truncation-point",
        says: "KIP-101, scenario 1. A follower has v2 and has not heard that it is committed; it restarts, and then the \
               leader fails. With `truncate-by-high-watermark` it has thrown v2 away, and leads.",
        run: lessons::watermark_is_no_truncation_point,
    },
    Lesson {
        name: "power-failure",
        says: "KIP-101, scenario 2. Both lose power, the one with the shorter log comes first and goes on in it. With \
               `truncate-by-high-watermark` the logs then differ for ever, below the high watermark of both.",
        run: lessons::power_failure,
    },
    Lesson {
        name: "two-fast-failovers",
        says: "KIP-279. Leadership goes over and comes back, and each leader has appended a record that the other has not \
               got. With `truncate-once` both records stay at one offset.",
        run: lessons::two_fast_failovers,
    },
    Lesson {
        name: "min-insync",
        says: "Two of three are gone: what is written is not acknowledged, and later is not even taken.",
        run: lessons::min_insync,
    },
    Lesson {
        name: "unclean-election",
        says: "The last in sync fails. The partition waits for it; with `unclean-election` another leads, and what was \
               acknowledged is gone.",
        run: lessons::unclean_election,
    },
    Lesson {
        name: "slowest-in-sync",
        says: "An answer takes as long as the farthest replica in sync, and when that fails, as long as it may lag.",
        run: lessons::slowest_in_sync,
    },
];
