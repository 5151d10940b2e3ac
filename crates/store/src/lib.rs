//! Many Raft groups on one node, stepped as one.
//!
//! A *store* hosts *replicas*; each replica is a member of one *range's* Raft group. What is done
//! for one group costs little; what is done for ten thousand must not cost ten thousand times
//! that, so the store gathers at each of its borders:
//!
//! - **the log**: all groups that have something to persist put it into one [`LogWrite`], which
//!   the driver appends and syncs with one `fdatasync`;
//! - **peers**: all messages for one node leave in one batch;
//! - **time**: one ordered set of deadlines; a replica that waits for nothing is not touched;
//! - **readiness**: only the replicas that were touched since the last [`Store::flush`] are asked.
//!
//! The store is a state machine: it is told what happened ([`Store::receive`],
//! [`Store::log_written`], [`Store::timeout`], ...), and [`Store::flush`] says what is to be done.
//! It has no clock, no thread, no I/O.
//!
//! INVARIANT: a message that claims something durable is inside the [`LogWrite`] that makes it so
//! ([`LogWrite::then`]); there is no other way for it to leave.
//!
//! INVARIANT: writes complete in the order in which they were given out.
//!
//! With [`Config::liveness`], stores tell each other that they are there, replicas bind themselves
//! to leaders on the strength of it, and a replica to whom nothing happens has no deadline:
//! `support.rs` and `waves.rs` say how. [`Store::lease`] tells whether a read may be served.

mod config;
pub mod liveness;
mod mutants;
mod output;
mod replica;
mod support;
mod types;
mod waves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use liveness::{Liveness, Record};
use raft::{Body, Input, Raft, ReplicaId, Stopped, WriteToken};
use waves::Waves;

pub use config::Config;
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use output::{GroupWrite, LogWrite, Outbox, Output};
pub use replica::Replica;
pub use types::{Envelope, NodeId, RangeId, WriteId};

/// A write that is under way, and who has to know when it is durable.
struct UnderWay {
    id: WriteId,
    groups: Vec<(RangeId, WriteToken)>,
    liveness: Option<liveness::WriteToken>,
}

/// The replicas of one node.
pub struct Store {
    node: NodeId,
    config: Config,
    /// The latest time given; never goes back.
    now: Duration,
    /// Boxed: the map's nodes have room for more than they hold.
    replicas: BTreeMap<RangeId, Box<Replica>>,
    touched: BTreeSet<RangeId>,
    deadlines: BTreeSet<(Duration, RangeId)>,
    writes: VecDeque<UnderWay>,
    next_write: WriteId,
    liveness: Option<Liveness>,
    /// To be put into the next write.
    liveness_write: Option<liveness::Write>,
    /// Stores that supported this one and do not any more; when anything was last heard of them
    /// since.
    gone: BTreeMap<NodeId, Option<Duration>>,
    waves: Waves,
    /// Answers for replicas that are not here.
    answers: Outbox,
}

impl Store {
    /// A store without replicas and without store liveness.
    #[must_use]
    pub fn new(node: NodeId) -> Store {
        Store::with(Duration::ZERO, node, Config::default(), None)
    }

    /// A store without replicas that starts with the liveness record it last wrote
    /// ([`LogWrite::liveness`]), or without one if it has never written any. It asks nobody for
    /// support before [`Store::set_peers`].
    ///
    /// # Errors
    /// A sentence that names the setting that cannot work.
    pub fn open(
        now: Duration,
        node: NodeId,
        config: Config,
        record: Option<Record>,
    ) -> Result<Store, &'static str> {
        config.check()?;
        let liveness = config.liveness.clone();
        let liveness = liveness.map(|config| Liveness::new(now, config, record)).transpose()?;
        Ok(Store::with(now, node, config, liveness))
    }

    fn with(now: Duration, node: NodeId, config: Config, liveness: Option<Liveness>) -> Store {
        Store {
            node,
            config,
            now,
            replicas: BTreeMap::new(),
            touched: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            writes: VecDeque::new(),
            next_write: WriteId(1),
            liveness,
            liveness_write: None,
            gone: BTreeMap::new(),
            waves: Waves::default(),
            answers: Outbox::new(),
        }
    }

    /// The node this store is on.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Hosts a replica. `nodes` tells where the members of its group live.
    ///
    /// # Panics
    /// If the range has a replica here already: two replicas of a range on one store would vote
    /// twice from one disk.
    pub fn add(&mut self, range: RangeId, raft: Raft, nodes: BTreeMap<ReplicaId, NodeId>) {
        let mut replica = Box::new(Replica::new(raft, nodes));
        if let Some((_, last)) = self.replicas.last_key_value() {
            replica.share_nodes(last);
        }
        let before = self.replicas.insert(range, replica);
        assert!(before.is_none(), "range {range:?} has a replica here already");
        self.touched.insert(range);
        self.tell_if_withdrawn(range);
    }

    /// Hosts the replica of `range` no more, and gives it back. What it has under way is lost. A
    /// replica that led must not go before it has released those that are bound to it.
    pub fn remove(&mut self, range: RangeId) -> Option<Raft> {
        let replica = self.replicas.remove(&range)?;
        if let Some(deadline) = replica.deadline {
            self.deadlines.remove(&(deadline, range));
        }
        Some(replica.raft)
    }

    /// The replica of `range`.
    #[must_use]
    pub fn replica(&self, range: RangeId) -> Option<&Replica> {
        self.replicas.get(&range).map(Box::as_ref)
    }

    /// The core of the replica of `range`, to be stepped; it is asked what it wants at the next
    /// flush. `None` if the range has no replica here.
    pub fn raft_mut(&mut self, range: RangeId) -> Option<&mut Raft> {
        let replica = self.replicas.get_mut(&range)?;
        self.touched.insert(range);
        Some(&mut replica.raft)
    }

    /// Takes note of where the members of a range live.
    pub fn set_nodes(&mut self, range: RangeId, nodes: BTreeMap<ReplicaId, NodeId>) {
        if let Some(replica) = self.replicas.get_mut(&range) {
            replica.nodes = nodes.into_iter().collect();
        }
    }

    /// Ranges and their replicas, in order.
    pub fn replicas(&self) -> impl Iterator<Item = (RangeId, &Replica)> {
        self.replicas.iter().map(|(&range, replica)| (range, replica.as_ref()))
    }

    /// A message from a peer on `node`. One for a range or a replica that is not here is dropped:
    /// it is late, or early. Where its sender lives is remembered: a replica that has just been
    /// added knows nobody yet.
    ///
    /// # Errors
    /// [`Stopped`] if the message shows that safety is broken.
    pub fn receive(
        &mut self,
        now: Duration,
        node: NodeId,
        envelope: Envelope,
    ) -> Result<(), Stopped> {
        self.now = self.now.max(now);
        self.heard_of(node);
        let replica = self.replicas.get_mut(&envelope.range);
        if replica.is_none_or(|replica| replica.raft.id() != envelope.message.to) {
            self.answer_for_absent(node, &envelope);
            return Ok(());
        }
        if matches!(envelope.message.body, Body::PreVote { .. } | Body::Vote { .. }) {
            self.tell_if_withdrawn(envelope.range);
        }
        let Some(replica) = self.replicas.get_mut(&envelope.range) else { return Ok(()) };
        replica.meet(envelope.message.from, node);
        self.touched.insert(envelope.range);
        replica.raft.step(now, Input::Receive(envelope.message))
    }

    /// The driver has made `write` durable.
    ///
    /// # Errors
    /// [`Stopped`] if a replica cannot go on.
    ///
    /// # Panics
    /// If writes complete out of order: what a later one makes durable rests on the earlier.
    pub fn log_written(&mut self, now: Duration, write: WriteId) -> Result<(), Stopped> {
        self.now = self.now.max(now);
        let done = self.writes.pop_front().expect("a write is under way");
        assert_eq!(done.id, write, "writes complete in order");
        if let Some(token) = done.liveness {
            self.step_liveness(liveness::Input::Written(token));
        }
        for (range, token) in done.groups {
            // A replica may have been removed while its last write was under way.
            if let Some(replica) = self.replicas.get_mut(&range) {
                self.touched.insert(range);
                replica.raft.step(now, Input::LogWritten(token))?;
            }
        }
        Ok(())
    }

    /// When [`Store::timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let replicas = self.deadlines.first().map(|&(deadline, _)| deadline);
        let liveness = self.liveness.as_ref().and_then(Liveness::next_deadline);
        let deadlines = replicas.into_iter().chain(liveness).chain(self.waves.next_deadline());
        deadlines.min()
    }

    /// Tells every replica whose deadline has come; those that would campaign wait for a wave.
    ///
    /// # Errors
    /// [`Stopped`] if a replica cannot go on.
    pub fn timeout(&mut self, now: Duration) -> Result<(), Stopped> {
        self.now = self.now.max(now);
        self.step_liveness(liveness::Input::Timeout);
        while let Some(&(deadline, range)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            let Some(replica) = self.replicas.get_mut(&range) else { continue };
            let raft = &replica.raft;
            let campaigns = !raft.is_leader()
                && raft.binding().is_none()
                && raft.membership().is_voter(raft.id());
            if self.liveness.is_some() && campaigns {
                // The deadline stays noted: if it is still the replica's when the wave comes, it
                // is due, and if not, it has heard of a leader.
                self.waves.campaign_due(deadline, range);
                continue;
            }
            replica.deadline = None;
            self.touched.insert(range);
            replica.raft.step(now, Input::Timeout)?;
        }
        self.wave()
    }

    /// `node` cannot be reached: every leader slows down towards its replica there.
    ///
    /// # Errors
    /// [`Stopped`] if a replica cannot go on.
    pub fn unreachable(&mut self, now: Duration, node: NodeId) -> Result<(), Stopped> {
        for (&range, replica) in &mut self.replicas {
            if !replica.raft.is_leader() {
                continue;
            }
            let there: Vec<_> = replica.on(node).collect();
            for id in there {
                self.touched.insert(range);
                replica.raft.step(now, Input::PeerUnreachable(id))?;
            }
        }
        Ok(())
    }

    /// Collects what the touched replicas want done, in the order in which it must be begun:
    /// the log write and the free messages may go side by side.
    pub fn flush(&mut self) -> Output {
        let mut output =
            Output { messages: std::mem::take(&mut self.answers), ..Output::default() };
        let mut tokens = Vec::new();
        let gone: Vec<NodeId> =
            self.gone.keys().copied().filter(|&node| self.is_gone(node)).collect();
        let mut write = LogWrite::new(self.next_write);
        while let Some(range) = self.touched.pop_first() {
            let Some(replica) = self.replicas.get_mut(&range) else { continue };
            while let Some(mut ready) = replica.raft.ready() {
                let about = support::Surroundings {
                    now: self.now,
                    liveness: self.liveness.as_ref(),
                    gone: &gone,
                };
                about.attend(replica, &mut ready.events);
                if let Some(persist) = ready.persist.take() {
                    tokens.push((range, persist.token));
                    write.add(range, replica, persist);
                }
                output.add(range, replica, ready);
            }
            let deadline = replica.raft.next_deadline();
            if deadline.is_none() && replica.deadline.is_some() {
                // It comes to rest, perhaps for long.
                replica.raft.release_recent();
            }
            if deadline != replica.deadline {
                if let Some(old) = replica.deadline.take() {
                    self.deadlines.remove(&(old, range));
                }
                if let Some(new) = deadline {
                    self.deadlines.insert((new, range));
                }
                replica.deadline = deadline;
            }
        }
        let liveness = self.liveness_write.take().map(|liveness| {
            write.liveness = Some(liveness.record.encode());
            write.support = liveness.then;
            liveness.token
        });
        if !tokens.is_empty() || liveness.is_some() {
            self.writes.push_back(UnderWay { id: write.id, groups: tokens, liveness });
            self.next_write = WriteId(self.next_write.0 + 1);
            output.write = Some(write);
        }
        output
    }
}
