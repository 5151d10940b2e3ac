//! Store liveness: which stores stand by which, without a timer for each range.
//!
//! Every store asks every other, at an interval, for *support*: a promise not to desert it for a
//! while. All ranges of two stores share that one exchange. A leader whose store is supported by
//! the stores of a quorum of its followers holds its range lease for as long, and its followers
//! need no timers: they stand by it until their store withdraws its support.
//!
//! ```text
//!   requester                                            supporter
//!   epoch e, stamp s   --- Heartbeat(e, s, D) --->       received at t
//!   counts on it until <-- Support(e, s) ----------      holds it until t + D
//!   s + D - margin         (stored before it leaves)     then: epoch := e + 1, stored, acted upon
//!   epoch := e + 1     <-- Refusal(e + 1) ---------      to whoever asks under e
//! ```
//!
//! An epoch belongs to a pair of stores: that B has withdrawn from A costs A nothing with C.
//!
//! # Why it is safe
//!
//! *Promise.* If A counts on B's support under epoch e at some true time, then B has not acted on
//! a withdrawal of e by then. Clocks are monotonic, and run within a factor 1 - r to 1 + r of true
//! time; r is [`Config::drift_ppm_max`].
//!
//! 1. A stamps a heartbeat when it hands it to its disk, at s by its own clock, and counts on the
//!    answer until s + D - margin. In true time that is at most (D - margin) / (1 - r) after the
//!    stamp.
//! 2. B has it later than that, at t by its own clock, and withdraws at t + D at the earliest: at
//!    least D / (1 + r) after the receipt. The margin is such that this is the later of the two.
//! 3. The answer leaves B with the write that stores the promise. Should B restart, it does not
//!    know when the promise ends, but how long it is: it holds it for that long from its start.
//! 4. B withdraws by raising the epoch, which is stored before anybody hears of it. So e is never
//!    given again, neither to a heartbeat that was long under way nor after a restart.
//! 5. A restarted A asks under a higher epoch than ever before, which is stored before it asks. So
//!    nothing that was sent to an earlier life, with a stamp of another clock, counts. And B, when
//!    asked under a higher epoch, knows that A has given up the lower.
//!
//! *Quorum.* Let a leader of term T count at some true time on the stores of a quorum of voters,
//! each of whom had *bound* itself to it under the epoch that is counted on: promised in writing
//! that it votes for nobody else while its store supports the leader's in that epoch. Then nobody
//! has been elected in a later term. For that took the votes of another quorum, and some replica
//! is in both. It voted for the later term while it was not bound: before it bound itself, but
//! then it was past T and could not; or after, but then its store had acted on a withdrawal before
//! it voted, and by *Promise* nobody counts on that epoch. In a joint configuration the quorums of
//! both halves must agree to either, and consecutive configurations have quorums in common.
//!
//! # What goes wrong, and what then
//!
//! - *A process is paused.* Its clock goes on. A requester finds its support expired as soon as it
//!   looks at its clock: whoever serves under a lease looks after it has the answer. A supporter
//!   withdraws late, which hurts nobody.
//! - *A clock jumps ahead.* A requester gives up too early. A supporter withdraws too early: this
//!   is drift beyond the bound, and the one thing that can break the promise, as is a requester's
//!   clock that stands still. `now` must come from a clock that goes on while the machine is
//!   suspended (on Linux `CLOCK_BOOTTIME`) and that nobody sets. A clock that goes back is taken
//!   to stand still.
//! - *A disk hangs.* Heartbeats and answers leave with a completed write, and that write has to
//!   reach the disk even if nothing in it is new. So a store that cannot write loses what it is
//!   given, and gives nothing.
//! - *A network loses, repeats, delays, reorders.* What counts is the stamp. An old heartbeat can
//!   only prolong support that has not been withdrawn.
//!
//! # Caveats
//!
//! - `now` is to be read from the clock *after* the input is there. A supporter that counts from
//!   an earlier moment promises too little: a message that arrives during a pause, taken in with
//!   the time from before the pause, would break the promise.
//! - A store that has lost its record but not its replicas' votes must not start.
//! - A node's entry is kept for good, in 24 bytes: an epoch that was withdrawn must stay so.
//!
//! # Sources
//!
//! Gray and Cheriton, *Leases*, 1989: the holder counts from the sending, the grantor from the
//! receipt. Support between stores instead of leases of ranges: CockroachDB's store liveness and
//! leader leases; here epochs belong to pairs and heartbeats pass through the log's own disk.

mod config;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::mutants::Mutant;
use crate::types::NodeId;

pub use config::Config;
pub use raft::Epoch;
pub use record::{Record, RecordError, Supported};

/// An epoch so far beyond the last one that is known of a store was never counted to: each is one expiry or one life
/// of a process further. It is refused, so that one bad frame does not use up the epochs there are.
const EPOCH_JUMP_MAX: u64 = 1 << 32;

fn is_plausible(epoch: Epoch, known: Epoch) -> bool {
    epoch.0 >= 1 && epoch.0.saturating_sub(known.0) <= EPOCH_JUMP_MAX
}

/// What stores say to each other, once for all their ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Support me for this long."
    Heartbeat {
        /// Under this epoch.
        epoch: Epoch,
        /// When it was made, on the sender's clock. Means nothing to anyone else.
        stamp: Duration,
        /// For how long, from the receipt.
        duration: Duration,
    },
    /// "I do, and will not desert you before that time is over."
    Support {
        /// Of the heartbeat.
        epoch: Epoch,
        /// Of the heartbeat.
        stamp: Duration,
    },
    /// "I have withdrawn from that epoch; the least I may support you under is this."
    Refusal {
        /// The epoch to ask under.
        epoch: Epoch,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// [`Liveness::next_deadline`] has come. Harmless when it has not.
    Timeout,
    /// These are the other stores to exchange support with, from now on. What was promised to
    /// others stands until it ends.
    Peers(BTreeSet<NodeId>),
    /// A message arrived. Foreign data: what makes no sense is dropped.
    Receive(NodeId, Message),
    /// This write is durable.
    Written(WriteToken),
}

/// Names one write of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteToken(pub u64);

/// A write of the record. It must reach the disk although the record may be the one before: what
/// it proves is that the disk works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its name, for [`Input::Written`].
    pub token: WriteToken,
    /// Replaces the record before.
    pub record: Record,
    /// Messages that may leave once the write is durable, not before.
    pub then: Vec<(NodeId, Message)>,
}

/// What the store has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// This store no longer supports that node under this epoch, and never will again: it was
    /// withdrawn, or the node asks under a higher epoch by itself. Durable.
    Withdrawn(NodeId, Epoch),
    /// That node supports this store under this epoch, and did not a moment ago.
    Gained(NodeId, Epoch),
    /// That node's support has run out, for now or for good.
    Lapsed(NodeId),
}

/// Work for the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A write of the record; the next is given out when this one is durable.
    pub write: Option<Write>,
    /// What the store has to know, in order.
    pub events: Vec<Event>,
}

/// Support that another store gives to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// Under this epoch.
    pub epoch: Epoch,
    /// Counted on before this time on this store's clock, not at it and not after.
    pub until: Duration,
}

/// The requester's side of a pair.
#[derive(Debug)]
struct Asked {
    epoch: Epoch,
    /// Given under `epoch`; may have run out.
    until: Option<Duration>,
    /// Whether the store believes it to be given: whether `Gained` was said after `Lapsed`.
    live: bool,
}

/// The supporter's side of a pair.
#[derive(Debug)]
struct Granted {
    epoch: Epoch,
    promise: Option<Promise>,
}

/// A promise under the epoch of its [`Granted`].
#[derive(Clone, Copy, Debug)]
struct Promise {
    longest: Duration,
    until: Duration,
}

/// Messages to one node that wait for the next write: of each kind the latest.
#[derive(Debug, Default)]
struct Waiting {
    heartbeat: Option<Message>,
    answer: Option<Message>,
}

/// One store's part in store liveness. See the [module's page](self).
#[derive(Debug)]
pub struct Liveness {
    config: Config,
    /// The latest time given; never goes back.
    now: Duration,
    peers: BTreeSet<NodeId>,
    /// The epoch with which this life began to ask.
    first_epoch: Epoch,
    /// The highest epoch asked under.
    last_epoch: Epoch,
    asked: BTreeMap<NodeId, Asked>,
    granted: BTreeMap<NodeId, Granted>,
    next_heartbeat: Duration,
    /// Whether the record has to be written even if no message waits for it.
    unwritten: bool,
    waiting: BTreeMap<NodeId, Waiting>,
    /// The write under way. One at a time: what comes meanwhile waits, and the later heartbeat
    /// takes the place of the earlier, so a disk that hangs piles nothing up.
    under_way: Option<(WriteToken, Record)>,
    next_token: WriteToken,
    /// What is on disk: what replicas may act upon.
    durable: Record,
    events: Vec<Event>,
}

impl Liveness {
    /// A store that starts, or starts again with the record it last wrote; without one if it has
    /// never written any.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot work.
    pub fn new(
        now: Duration,
        config: Config,
        restored: Option<Record>,
    ) -> Result<Liveness, &'static str> {
        config.check()?;
        let record = restored.unwrap_or_default();
        let first_epoch = if config.broken(Mutant::RestartKeepsEpoch) {
            Epoch(record.asked.0.max(1))
        } else {
            record.asked.next()
        };
        let sits_out = !config.broken(Mutant::RestartDoesNotSitOut);
        let granted = |(&node, supported): (&NodeId, &Supported)| {
            let promise = supported.promise.map(|longest| {
                let until = if sits_out { now + longest } else { now };
                Promise { longest, until }
            });
            (node, Granted { epoch: supported.epoch, promise })
        };
        Ok(Liveness {
            config,
            now,
            peers: BTreeSet::new(),
            first_epoch,
            last_epoch: first_epoch,
            asked: BTreeMap::new(),
            granted: record.supported.iter().map(granted).collect(),
            next_heartbeat: now,
            unwritten: false,
            waiting: BTreeMap::new(),
            under_way: None,
            next_token: WriteToken(1),
            durable: record,
            events: Vec::new(),
        })
    }

    /// The settings it runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes in what happened. `now` is read from a monotonic clock after the input is there.
    ///
    /// # Panics
    /// If a write completes that is not under way.
    pub fn step(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        let heard = matches!(input, Input::Receive(..));
        match input {
            Input::Timeout => {}
            Input::Peers(peers) => self.on_peers(peers),
            Input::Receive(from, message) if self.peers.contains(&from) => match message {
                Message::Heartbeat { epoch, stamp, duration } => {
                    self.on_heartbeat(from, epoch, stamp, duration);
                }
                Message::Support { epoch, stamp } => self.on_support(from, epoch, stamp),
                Message::Refusal { epoch } => self.on_refusal(from, epoch),
            },
            Input::Receive(..) => {}
            Input::Written(token) => self.on_written(token),
        }
        // What is heard comes first: a heartbeat that is there counts although the promise that it prolongs
        // has just run out, and others may lie behind it, as when the whole process stood still. Then the
        // driver finds the deadline past.
        if !heard {
            self.on_time();
        }
    }

    /// When to step [`Input::Timeout`] next; linear in the number of peers.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let beat = (!self.peers.is_empty()).then_some(self.next_heartbeat);
        let given = self.granted.values().filter_map(|granted| granted.promise).map(|p| p.until);
        let had = self.asked.values().filter(|asked| asked.live).filter_map(|asked| asked.until);
        beat.into_iter().chain(given).chain(had).min()
    }

    /// Work for the driver, or `None` if there is none.
    pub fn ready(&mut self) -> Option<Ready> {
        let events = std::mem::take(&mut self.events);
        let write = self.begin_write();
        (write.is_some() || !events.is_empty()).then_some(Ready { write, events })
    }

    /// What that node has promised to this store, whether it has run out or not.
    #[must_use]
    pub fn support_from(&self, node: NodeId) -> Option<Support> {
        let asked = self.asked.get(&node)?;
        Some(Support { epoch: asked.epoch, until: asked.until? })
    }

    /// Whether this store counts on that node at `now`.
    #[must_use]
    pub fn is_supported_by(&self, node: NodeId, now: Duration) -> bool {
        self.support_from(node).is_some_and(|support| now < support.until)
    }

    /// The epoch under which this store supports that node, durably; what replicas bind
    /// themselves to, and are bound by.
    #[must_use]
    pub fn support_for(&self, node: NodeId) -> Option<Epoch> {
        if self.config.broken(Mutant::WithdrawalNotPersisted) {
            let granted = self.granted.get(&node)?;
            return granted.promise.map(|_| granted.epoch);
        }
        let supported = self.durable.supported.get(&node)?;
        supported.promise.map(|_| supported.epoch)
    }

    fn on_peers(&mut self, peers: BTreeSet<NodeId>) {
        self.asked.retain(|node, _| peers.contains(node));
        self.waiting.retain(|node, _| peers.contains(node));
        // New peers are asked at once.
        for &node in peers.difference(&self.peers.clone()) {
            self.asked.insert(node, Asked { epoch: self.first_epoch, until: None, live: false });
            self.ask(node);
        }
        self.peers = peers;
    }

    /// Puts a heartbeat to this node into the next write.
    fn ask(&mut self, node: NodeId) {
        let Some(asked) = self.asked.get(&node) else { return };
        assert!(asked.epoch <= self.last_epoch, "what is asked under is in the record");
        let heartbeat = Message::Heartbeat {
            epoch: asked.epoch,
            stamp: self.now,
            duration: self.config.support_duration,
        };
        self.waiting.entry(node).or_default().heartbeat = Some(heartbeat);
    }

    fn on_heartbeat(&mut self, from: NodeId, epoch: Epoch, stamp: Duration, duration: Duration) {
        let known = self.granted.get(&from).map_or(Epoch(0), |granted| granted.epoch);
        let sane = is_plausible(epoch, known)
            && !duration.is_zero()
            && duration <= self.config.promise_max;
        if !sane {
            return;
        }
        let granted = self.granted.entry(from).or_insert(Granted { epoch, promise: None });
        let answer = if epoch < granted.epoch {
            Message::Refusal { epoch: granted.epoch }
        } else {
            let earlier = granted.promise.filter(|_| granted.epoch == epoch);
            let until = self.now + duration;
            granted.epoch = epoch;
            granted.promise = Some(Promise {
                longest: earlier.map_or(duration, |promise| promise.longest.max(duration)),
                until: earlier.map_or(until, |promise| promise.until.max(until)),
            });
            Message::Support { epoch, stamp }
        };
        self.waiting.entry(from).or_default().answer = Some(answer);
    }

    fn on_support(&mut self, from: NodeId, epoch: Epoch, stamp: Duration) {
        let from_receipt = self.config.broken(Mutant::CountedFromReceipt);
        let start = if from_receipt { self.now } else { stamp };
        let until = start.saturating_add(self.config.counted());
        let now = self.now;
        let Some(asked) = self.asked.get_mut(&from) else { return };
        if epoch != asked.epoch || stamp > now {
            return;
        }
        asked.until = asked.until.max(Some(until));
        if !asked.live && now < until {
            asked.live = true;
            self.events.push(Event::Gained(from, epoch));
        }
    }

    fn on_refusal(&mut self, from: NodeId, epoch: Epoch) {
        let counted = self.config.counted();
        let mistaken = self.config.broken(Mutant::RefusalTakenForSupport);
        let Some(asked) = self.asked.get_mut(&from) else { return };
        if epoch <= asked.epoch || !is_plausible(epoch, self.last_epoch) {
            if mistaken && epoch == asked.epoch {
                asked.until = asked.until.max(Some(self.now + counted));
            }
            return;
        }
        asked.epoch = epoch;
        asked.until = None;
        if std::mem::take(&mut asked.live) {
            self.events.push(Event::Lapsed(from));
        }
        self.last_epoch = self.last_epoch.max(epoch);
        self.ask(from);
    }

    /// What time brings: heartbeats, withdrawals, lapses.
    fn on_time(&mut self) {
        let now = self.now;
        if now >= self.next_heartbeat && !self.peers.is_empty() {
            for node in self.peers.clone() {
                self.ask(node);
            }
            self.next_heartbeat = now + self.config.heartbeat_interval;
        }
        let keeps = self.config.broken(Mutant::ExpiryKeepsEpoch);
        for granted in self.granted.values_mut() {
            if granted.promise.take_if(|promise| promise.until <= now).is_some() {
                granted.epoch = if keeps { granted.epoch } else { granted.epoch.next() };
                self.unwritten = true;
            }
        }
        for (&node, asked) in &mut self.asked {
            if asked.live && asked.until.is_none_or(|until| until <= now) {
                asked.live = false;
                self.events.push(Event::Lapsed(node));
            }
        }
    }

    /// The record as it is to be on disk.
    fn record(&self) -> Record {
        let supported = |(&node, granted): (&NodeId, &Granted)| {
            let promise = granted.promise.map(|promise| promise.longest);
            (node, Supported { epoch: granted.epoch, promise })
        };
        Record { asked: self.last_epoch, supported: self.granted.iter().map(supported).collect() }
    }

    fn begin_write(&mut self) -> Option<Write> {
        if self.under_way.is_some() || (!self.unwritten && self.waiting.is_empty()) {
            return None;
        }
        let token = self.next_token;
        self.next_token = WriteToken(token.0 + 1);
        let record = self.record();
        self.unwritten = false;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let then = waiting.flat_map(|(node, waiting)| {
            waiting.heartbeat.into_iter().chain(waiting.answer).map(move |message| (node, message))
        });
        let mut written = record.clone();
        if self.config.broken(Mutant::PromiseNotPersisted) {
            written.supported.values_mut().for_each(|supported| supported.promise = None);
        }
        self.under_way = Some((token, record));
        Some(Write { token, record: written, then: then.collect() })
    }

    fn on_written(&mut self, token: WriteToken) {
        let (expected, record) = self.under_way.take().expect("a write is under way");
        assert_eq!(expected, token, "the write that completes is the one under way");
        for (&node, before) in &self.durable.supported {
            let after = record.supported.get(&node).copied();
            let after = after.expect("a node that was ever supported is kept");
            assert!(after.epoch >= before.epoch, "epochs never fall");
            let ended = before.promise.is_some()
                && (after.promise.is_none() || after.epoch != before.epoch);
            if ended {
                self.events.push(Event::Withdrawn(node, before.epoch));
            }
        }
        self.durable = record;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of a peer that is broken is refused, and a sound one is served afterwards.
    #[test]
    fn one_bad_epoch_does_not_use_up_the_others() {
        let peer = NodeId(2);
        let mut liveness = Liveness::new(Duration::ZERO, Config::default(), None).unwrap();
        liveness.step(Duration::ZERO, Input::Peers([peer].into()));
        let stamp = Duration::ZERO;
        let duration = Config::default().support_duration;
        let mut answers = Vec::new();
        for epoch in [Epoch(1), Epoch(u64::MAX), Epoch(1 << 40), Epoch(2)] {
            let heartbeat = Message::Heartbeat { epoch, stamp, duration };
            liveness.step(Duration::ZERO, Input::Receive(peer, heartbeat));
            liveness.step(Duration::ZERO, Input::Receive(peer, Message::Refusal { epoch }));
            while let Some(ready) = liveness.ready() {
                let Some(write) = ready.write else { continue };
                liveness.step(Duration::ZERO, Input::Written(write.token));
                let answer = |(_, message)| match message {
                    Message::Support { epoch, .. } => Some(epoch),
                    Message::Heartbeat { epoch, .. } => {
                        assert!(epoch <= Epoch(2), "asks under {epoch:?}");
                        None
                    }
                    Message::Refusal { .. } => None,
                };
                answers.extend(write.then.into_iter().filter_map(answer));
            }
        }
        assert_eq!(answers, [Epoch(1), Epoch(2)]);
    }
}
