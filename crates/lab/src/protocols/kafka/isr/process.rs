//! What is said, what is kept, and who is who: brokers, and the controller besides.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::broker::Broker;
use super::controller::Controller;
use crate::process::{InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Setup;
use crate::protocols::kafka::{Epoch, EpochEnd, Log, Record};

/// What the controller decides about the partition. Brokers know an older or the newest state of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Who leads; `None` while nobody of the ISR is alive: the partition is offline.
    pub leader: Option<NodeId>,
    /// Raised with each election.
    pub leader_epoch: Epoch,
    /// The in-sync replicas. Never empty.
    pub isr: BTreeSet<NodeId>,
    /// Raised with each change: what changes are compared with.
    pub partition_epoch: u64,
}

impl Partition {
    /// In the beginning all `n` are in sync, and the first leads.
    #[must_use]
    pub fn founding(n: usize) -> Self {
        let isr = NodeId::all(n).collect();
        Self { leader: Some(NodeId(0)), leader_epoch: Epoch(1), isr, partition_epoch: 1 }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.leader {
            Some(leader) => write!(f, "{leader} leads epoch {}", self.leader_epoch)?,
            None => write!(f, "offline since epoch {}", self.leader_epoch)?,
        }
        write!(f, ", ISR {} (partition epoch {})", names(&self.isr), self.partition_epoch)
    }
}

/// `{n0 n2}`.
pub(super) fn names(nodes: &BTreeSet<NodeId>) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    format!("{{{}}}", names.join(" "))
}

/// What brokers and the controller say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// A broker is alive.
    Heartbeat {
        /// How many times it has come up: Kafka's *broker epoch*.
        broker_epoch: u64,
        /// The state that it knows.
        partition_epoch: Option<u64>,
    },
    /// The controller's state, to a broker.
    LeaderAndIsr {
        /// The life of the broker that it is meant for: a later one has yet to be heard of.
        broker_epoch: u64,
        /// The state.
        partition: Partition,
    },
    /// The leader asks the controller for another ISR.
    AlterPartition {
        /// The epoch that it leads.
        leader_epoch: Epoch,
        /// The state that it changes.
        partition_epoch: u64,
        /// The ISR that it wants.
        isr: BTreeSet<NodeId>,
    },
    /// A follower asks its leader where an epoch ends.
    OffsetsForLeaderEpoch {
        /// The epoch that the follower follows.
        current: Epoch,
        /// The last epoch of its log.
        epoch: Epoch,
        /// The life of the follower that asks.
        broker_epoch: u64,
    },
    /// The leader's answer.
    EpochEndOffset {
        /// The life of the follower that asked.
        broker_epoch: u64,
        /// The epoch that it leads.
        current: Epoch,
        /// The end of the last epoch not above the one asked for.
        end: EpochEnd,
    },
    /// A follower asks for records. It has all before.
    Fetch {
        /// The epoch that it follows.
        epoch: Epoch,
        /// The end of its log.
        offset: u64,
    },
    /// Records for a follower.
    Fetched {
        /// The epoch that the leader leads.
        epoch: Epoch,
        /// Where they begin.
        offset: u64,
        /// What follows in the leader's log.
        records: Vec<Record>,
        /// The leader's high watermark.
        high_watermark: u64,
    },
    /// The leader's log is shorter than what the follower has.
    OffsetOutOfRange {
        /// The epoch that it leads.
        epoch: Epoch,
        /// Where its log ends.
        end: u64,
    },
    /// What a client asked of a broker that does not lead, for the leader.
    Forward {
        /// The client's request.
        id: RequestId,
        /// What it asks for.
        request: Request,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heartbeat { broker_epoch, partition_epoch: None } => {
                write!(f, "BrokerRegistration, broker epoch {broker_epoch}")
            }
            Self::Heartbeat { partition_epoch: Some(known), .. } => {
                write!(f, "BrokerHeartbeat, partition epoch {known}")
            }
            Self::LeaderAndIsr { partition, .. } => write!(f, "LeaderAndIsr: {partition}"),
            Self::AlterPartition { partition_epoch, isr, .. } => {
                write!(
                    f,
                    "AlterPartition: ISR {} after partition epoch {partition_epoch}",
                    names(isr)
                )
            }
            Self::OffsetsForLeaderEpoch { epoch, .. } => {
                write!(f, "OffsetsForLeaderEpoch {epoch}")
            }
            Self::EpochEndOffset { end, .. } => write!(f, "OffsetsForLeaderEpoch: {end}"),
            Self::Fetch { epoch, offset } => write!(f, "Fetch from {offset}, epoch {epoch}"),
            Self::Fetched { offset, records, high_watermark, .. } => {
                let records: Vec<String> = records.iter().map(Record::to_string).collect();
                write!(
                    f,
                    "Records from {offset}: {}; high watermark {high_watermark}",
                    if records.is_empty() { "none".to_owned() } else { records.join(" ") }
                )
            }
            Self::OffsetOutOfRange { end, .. } => {
                write!(f, "OffsetOutOfRange, the log ends at {end}")
            }
            Self::Forward { request: Request::Produce(value), .. } => write!(f, "Produce v{value}"),
            Self::Forward { request: Request::Latest, .. } => f.write_str("ListOffsets latest"),
        }
    }
}

/// Timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A broker: tell the controller that it is alive.
    Heartbeat,
    /// A follower: nothing came, ask again.
    Fetch,
    /// A leader: look who lags.
    Lag,
    /// A broker whose crashes are power failures: write to the disk.
    Flush,
    /// The controller: look who is alive.
    Sessions,
}

/// What clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// Append a value, and answer when all in-sync replicas have it: acks=all.
    Produce(u64),
    /// Up to where can be read?
    Latest,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce(value) => write!(f, "write({value})"),
            Self::Latest => f.write_str("latest()"),
        }
    }
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Consumers of this broker may read the record: it is below its high watermark.
    Readable {
        /// Its offset.
        offset: u64,
        /// The record.
        record: Record,
    },
    /// The record is written: its producer may forget it.
    Acknowledged {
        /// Its offset.
        offset: u64,
        /// The record.
        record: Record,
    },
    /// Fewer than `min_insync` replicas are in sync. Nothing was written.
    NotEnoughReplicas,
    /// It was written, and then there were fewer: nothing is promised.
    NotEnoughReplicasAfterAppend,
    /// The broker does not lead, or not any more: nothing is promised.
    NotLeaderOrFollower,
    /// Where the records that can be read end.
    Latest {
        /// There.
        offset: u64,
        /// By the leader of which epoch.
        epoch: Epoch,
    },
    /// A new leader does not know yet (KIP-207).
    OffsetNotAvailable,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readable { offset, record } => write!(f, "{record} at {offset} can be read"),
            Self::Acknowledged { offset, record } => {
                write!(f, "acknowledged: {record} at {offset}")
            }
            Self::NotEnoughReplicas => f.write_str("NotEnoughReplicas"),
            Self::NotEnoughReplicasAfterAppend => f.write_str("NotEnoughReplicasAfterAppend"),
            Self::NotLeaderOrFollower => f.write_str("NotLeaderOrFollower"),
            Self::Latest { offset, epoch } => {
                write!(f, "the latest offset is {offset}, in epoch {epoch}")
            }
            Self::OffsetNotAvailable => f.write_str("OffsetNotAvailable"),
        }
    }
}

/// What survives a crash: a broker's part, and the controller's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// How many times the broker has come up.
    pub broker_epoch: u64,
    /// Its log.
    pub log: Log,
    /// Its checkpoint of the high watermark.
    pub high_watermark: u64,
    /// What the controller has decided.
    pub partition: Partition,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    pub(super) n: usize,
    pub(super) min_insync: usize,
    pub(super) lag: Duration,
    pub(super) session: Duration,
    pub(super) truncate_by_high_watermark: bool,
    pub(super) truncate_once: bool,
    pub(super) believe_late_answers: bool,
    pub(super) unclean_election: bool,
    pub(super) power_failure: bool,
    pub(super) epoch_not_raised: bool,
    pub(super) any_partition_epoch: bool,
    pub(super) expand_by_lagging_watermark: bool,
    pub(super) expansion_not_counted: bool,
    pub(super) shrink_before_confirmed: bool,
    pub(super) fetches_of_any_epoch: bool,
    pub(super) watermark_by_majority: bool,
    pub(super) answer_at_append: bool,
    pub(super) ignore_min_insync: bool,
    pub(super) tell_lagging_watermark: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        let ms = |knob| Duration::from_millis(setup.knob(knob));
        Self {
            n: setup.n,
            min_insync: usize::try_from(setup.knob("min_insync")).unwrap_or(usize::MAX),
            lag: ms("lag_ms"),
            session: ms("session_ms"),
            truncate_by_high_watermark: setup.broken("truncate-by-high-watermark"),
            truncate_once: setup.broken("truncate-once"),
            believe_late_answers: setup.broken("believe-late-answers"),
            unclean_election: setup.broken("unclean-election"),
            power_failure: setup.broken("power-failure"),
            epoch_not_raised: setup.broken("epoch-not-raised"),
            any_partition_epoch: setup.broken("any-partition-epoch"),
            expand_by_lagging_watermark: setup.broken("expand-by-lagging-watermark"),
            expansion_not_counted: setup.broken("expansion-not-counted"),
            shrink_before_confirmed: setup.broken("shrink-before-confirmed"),
            fetches_of_any_epoch: setup.broken("fetches-of-any-epoch"),
            watermark_by_majority: setup.broken("watermark-by-majority"),
            answer_at_append: setup.broken("answer-at-append"),
            ignore_min_insync: setup.broken("ignore-min-insync"),
            tell_lagging_watermark: setup.broken("tell-lagging-watermark"),
        }
    }

    /// The controller's place: after the brokers.
    pub(super) fn controller(&self) -> NodeId {
        NodeId(self.n)
    }
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Server {
    /// One of the `n`.
    Broker(Broker),
    /// The one besides.
    Controller(Controller),
}

impl Server {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        if id == settings.controller() {
            Self::Controller(Controller::new(settings, disk))
        } else {
            Self::Broker(Broker::new(settings, id, disk))
        }
    }

    /// The broker, if it is one.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        match self {
            Self::Broker(broker) => Some(broker),
            Self::Controller(_) => None,
        }
    }
}

impl Process for Server {
    type Message = Message;
    type Timer = Timer;
    type Request = Request;
    type Output = Output;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match self {
            Self::Broker(broker) => broker.step(now, input, out),
            Self::Controller(controller) => controller.step(now, input, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Heartbeat => "heartbeat to the controller",
            Timer::Fetch => "time to fetch again",
            Timer::Lag => "replica lag",
            Timer::Flush => "flush",
            Timer::Sessions => "sessions of brokers",
        };
        name.to_owned()
    }

    fn decides(output: &Output) -> String {
        match output {
            Output::Readable { offset, record } => format!("lets {record} at {offset} be read"),
            _ => format!("decides {output}"),
        }
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Heartbeat { .. } => "BrokerHeartbeat",
            Message::LeaderAndIsr { .. } => "LeaderAndIsr",
            Message::AlterPartition { .. } => "AlterPartition",
            Message::OffsetsForLeaderEpoch { .. } => "OffsetsForLeaderEpoch",
            Message::EpochEndOffset { .. } => "EpochEndOffset",
            Message::Fetch { .. } => "Fetch",
            Message::Fetched { .. } => "Records",
            Message::OffsetOutOfRange { .. } => "OffsetOutOfRange",
            Message::Forward { .. } => "Forward",
        }
    }
}
