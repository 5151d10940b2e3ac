//! The deterministic heart of a member: routes, evaluates, agrees, applies, answers.
//!
//! [`Core::step`] is told what happened, [`Core::flush`] says what is to be done. Between the two
//! there is no clock, no thread, no I/O but reads of the state engine, so that a simulator can
//! run a whole cluster of cores from one seed.
//!
//! The way of a request:
//!
//! 1. [`Input::Client`] arrives. If this member leads and serves, it is evaluated at once
//!    (`route`); if another leads, it is passed on to that one and the answer comes back
//!    (`wire`); if nobody is known to lead, it waits for a leader, at most
//!    [`CoreConfig::request_timeout`].
//! 2. Evaluation gives effects to be agreed upon. All that is evaluated between two flushes is
//!    proposed at once, becomes one write to the log and one message to each peer.
//! 3. What is committed is applied (`apply`), and then the request is answered: with what
//!    evaluation said if the entry at its index is of its term, with
//!    [`Error::LeaderChanged`] if it is not, for then it never happened.
//!
//! The way of a read (`reads`): leadership is confirmed once for all reads between two flushes;
//! an answer computed from proposals in flight waits for them as well. A follower asks the leader
//! for the index and waits until it has applied that much.
//!
//! Nothing here retries a write: whatever may have been proposed is answered by "unknown".

mod apply;
mod effects;
mod reads;
mod route;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Machine, Request};
use mvcc::engine::Engine;
use prost::Message as _;
use raft::{FetchId, LogIndex, ReplicaId, RoleKind, SnapshotOutcome, Stopped, Term};
use store::{NodeId, RangeId, Store, WriteId};

pub(crate) use apply::membership_row;
pub use apply::stored_membership;
pub use effects::{DurableWrite, Effects, Frames, SnapshotOut, Standing, Token};
pub use snapshot::snapshot_message;

use crate::wire::{self, pb};

/// The settings of a core.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// The node.
    pub node: NodeId,
    /// How long a request may wait, for a leader and for agreement.
    pub request_timeout: Duration,
    /// Entries kept in the log behind a checkpoint, for followers that lag.
    pub catchup_entries: u64,
    /// A number that no earlier process of this member had. What is asked of peers is numbered
    /// from it on: an answer that was meant for an earlier process must find nobody.
    pub process: u32,
}

/// What can happen to a core.
pub enum Input<E: Engine> {
    /// A local client's request.
    Client(Token, Request),
    /// A local client wants to read the newest state.
    ReadPoint(Token),
    /// Hand leadership over.
    MoveLeader(Token, NodeId),
    /// A frame from a peer.
    Frame(NodeId, Bytes),
    /// A peer cannot be reached.
    Unreachable(NodeId),
    /// This write, and every earlier one, is durable.
    LogWritten(WriteId),
    /// The answer to a fetch.
    Fetched(RangeId, FetchId, Vec<raft::Entry>),
    /// What became of a snapshot on its way to a peer.
    SnapshotSent(RangeId, ReplicaId, SnapshotOutcome),
    /// A snapshot has arrived in full: the message that goes with it, and the opened state.
    SnapshotStaged(NodeId, store::Envelope, Box<mvcc::State<E>>),
    /// A checkpoint is done.
    Checkpointed(mvcc::Done),
    /// The wall clock's, in whole seconds since 1970. Nothing about safety hangs on it.
    WallTime(u64),
    /// There is no room on this member's disk, or there is again.
    DiskFull(bool),
    /// The size of the state on disk, for the quota.
    StateBytes(u64),
    /// Time has passed: the deadline that [`Core::next_deadline`] gave, or none.
    Tick,
}

/// Why a member cannot go on. It stops; its peers carry on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Safety is broken, here or elsewhere.
    #[error("consensus stopped: {0}")]
    Consensus(#[from] Stopped),
    /// The state cannot be read, or an entry of the log makes no sense.
    #[error("the state machine stopped: {0}")]
    State(String),
}

/// A leader without room gives leadership away at most once in this.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(30);

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A client of this member.
    Local(Token),
    /// A client of a peer, under the number that the peer gave it.
    Peer(NodeId, u64),
    /// Nobody: the member itself proposed it.
    None,
}

/// A member's heart. See the [module](self).
pub struct Core<E: Engine> {
    config: CoreConfig,
    range: RangeId,
    store: Store,
    machine: Machine<E>,
    role: RoleKind,
    term: Term,
    leader: Option<NodeId>,
    leader_changes: u64,
    /// This member leads, and an entry of its term is applied.
    serving: bool,
    /// Numbers for what is asked of peers and of the consensus core.
    next_id: u64,
    routes: route::Routes,
    reads: reads::Reads,
    staged: Option<snapshot::Staged<E>>,
    transfers: Vec<(Origin, ReplicaId)>,
    unix_time_s: u64,
    disk_full: bool,
    /// When leadership was last given away for want of room.
    handed_over: Option<Duration>,
    /// Since when each peer has been heard from, without a break.
    heard_since: BTreeMap<NodeId, Duration>,
    /// Frames under construction.
    frames: BTreeMap<NodeId, pb::Frame>,
    effects: Effects,
}

impl<E: Engine> Core<E> {
    /// A member with its one data range.
    #[must_use]
    pub fn new(config: CoreConfig, raft: raft::Raft, machine: Machine<E>) -> Core<E> {
        let mut store = Store::new(config.node);
        let range = RangeId::DENSE;
        let nodes = nodes_of(raft.membership());
        store.add(range, raft, nodes);
        let mut core = Core {
            range,
            store,
            machine,
            role: RoleKind::Follower,
            term: Term::ZERO,
            leader: None,
            leader_changes: 0,
            serving: false,
            next_id: (u64::from(config.process) << 32) + 1,
            config,
            routes: route::Routes::default(),
            reads: reads::Reads::default(),
            staged: None,
            transfers: Vec::new(),
            unix_time_s: 0,
            disk_full: false,
            handed_over: None,
            heard_since: BTreeMap::new(),
            frames: BTreeMap::new(),
            effects: Effects::default(),
        };
        core.effects.peers = Some(core.peers()).filter(|peers| !peers.is_empty());
        core
    }

    /// The state machine, to be looked at.
    #[must_use]
    pub fn machine(&self) -> &Machine<E> {
        &self.machine
    }

    /// The state machine, for the driver's checkpoints.
    pub fn machine_mut(&mut self) -> &mut Machine<E> {
        &mut self.machine
    }

    /// The replicas, to be looked at.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where this member stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let raft = self.raft();
        let own = raft.id();
        Standing {
            leader: self.leader,
            term: self.term,
            committed: raft.committed(),
            last: raft.last().index,
            applied: LogIndex(self.machine.applied().index),
            is_learner: !raft.membership().is_voter(own),
            serving: self.serving,
            leader_changes: self.leader_changes,
            proposals_in_flight: self.routes.in_flight(),
        }
    }

    /// Campaigns at once if nobody else could: a cluster of one need not wait for a leader.
    ///
    /// # Errors
    /// [`Fatal`], if the replica has stopped.
    pub fn begin(&mut self, now: Duration) -> Result<(), Fatal> {
        let own = self.raft().id();
        let membership = self.raft().membership();
        if membership.voters.iter().eq([&own]) && !membership.is_joint() {
            self.raft_mut().step(now, raft::Input::Campaign)?;
        }
        Ok(())
    }

    fn raft(&self) -> &raft::Raft {
        self.store.replica(self.range).expect("the data range lives here").raft()
    }

    fn raft_mut(&mut self) -> &mut raft::Raft {
        self.store.raft_mut(self.range).expect("the data range lives here")
    }

    /// When [`Input::Tick`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        // While leadership is being handed over no lease is ended: its time has come, and waits.
        let expires = self.serving && self.transfers.is_empty();
        let machine = if expires { self.machine.next_deadline() } else { None };
        [
            self.store.next_deadline(),
            machine,
            self.routes.next_deadline(),
            self.reads.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes in what happened at `now`. What is to be done about it collects until
    /// [`Core::flush`].
    ///
    /// # Errors
    /// [`Fatal`]: the core must not be stepped again.
    pub fn step(&mut self, now: Duration, input: Input<E>) -> Result<(), Fatal> {
        match input {
            Input::Client(token, request) => self.request(now, Origin::Local(token), request),
            Input::ReadPoint(token) => self.read_point(now, Origin::Local(token)),
            Input::MoveLeader(token, to) => self.move_leader(now, token, to)?,
            Input::Frame(from, bytes) => self.frame(now, from, bytes)?,
            Input::Unreachable(node) => {
                self.propose(now);
                self.heard_since.remove(&node);
                self.store.unreachable(now, node)?;
                self.peer_lost(now, node);
            }
            Input::LogWritten(id) => self.store.log_written(now, id)?,
            Input::Fetched(range, id, entries) => {
                self.raft_input(range, now, raft::Input::Fetched { id, entries })?;
            }
            Input::SnapshotSent(range, to, outcome) => {
                self.raft_input(range, now, raft::Input::SnapshotSent { to, outcome })?;
            }
            Input::SnapshotStaged(from, envelope, state) => {
                self.snapshot_staged(now, from, envelope, state)?;
            }
            Input::Checkpointed(done) => self.checkpointed(now, done)?,
            Input::WallTime(seconds) => self.unix_time_s = seconds,
            Input::DiskFull(full) => {
                self.disk_full = full;
                self.hand_over_if_full(now)?;
            }
            Input::StateBytes(bytes) => self.machine.observe_size(bytes),
            Input::Tick => self.tick(now)?,
        }
        Ok(())
    }

    fn raft_input(
        &mut self,
        range: RangeId,
        now: Duration,
        input: raft::Input,
    ) -> Result<(), Stopped> {
        match self.store.raft_mut(range) {
            Some(raft) => raft.step(now, input),
            None => Ok(()),
        }
    }

    fn tick(&mut self, now: Duration) -> Result<(), Fatal> {
        self.propose(now);
        self.store.timeout(now)?;
        self.expire_leases(now)?;
        self.routes_timeout(now);
        self.reads_timeout(now);
        Ok(())
    }

    /// Carries on until nothing is left that this member can do alone, and says what the driver
    /// is to do.
    ///
    /// # Errors
    /// [`Fatal`]: the core must not be stepped again.
    pub fn flush(&mut self, now: Duration) -> Result<Effects, Fatal> {
        // Each round of the loop was made possible by the one before: a new leader serves what
        // waited for it, an applied entry allows the next to be handed out. One write collects
        // all of them.
        loop {
            self.propose(now);
            self.hand_over_if_leaving(now)?;
            self.begin_reads(now)?;
            let output = self.store.flush();
            let idle = output == store::Output::default();
            self.take(now, output)?;
            if idle {
                break;
            }
        }
        let frames = std::mem::take(&mut self.frames);
        for (node, frame) in frames {
            self.effects.send.push((node, frame.encode_to_vec().into()));
        }
        Ok(std::mem::take(&mut self.effects))
    }

    fn take(&mut self, now: Duration, output: store::Output) -> Result<(), Fatal> {
        if let Some(write) = output.write {
            self.take_write(write)?;
        }
        for (node, envelopes) in output.messages {
            let frame = self.frames.entry(node).or_default();
            frame.messages.extend(envelopes.into_iter().map(wire::message::encode));
        }
        let memberships = self.take_events(now, output.events);
        for (_, entries) in output.committed {
            self.apply(now, entries, &memberships)?;
        }
        for (_, ready) in output.reads {
            self.read_confirmed(now, ready);
        }
        for (_, failed) in output.failed_reads {
            self.read_failed(now, failed.ctx);
        }
        self.effects.fetch.extend(output.fetch);
        for (range, send) in output.snapshots {
            self.send_snapshot(range, send);
        }
        Ok(())
    }

    /// Writes leave as they come: `flush` may find several, and their order is their numbers'.
    fn take_write(&mut self, write: store::LogWrite) -> Result<(), Fatal> {
        for group in &write.groups {
            if let Some(snapshot) = &group.snapshot {
                self.install(snapshot)?;
            }
        }
        let mut then = Frames::new();
        for (node, envelopes) in write.then {
            let messages = envelopes.into_iter().map(wire::message::encode).collect();
            let frame = pb::Frame { messages, ..Default::default() };
            then.push((node, frame.encode_to_vec().into()));
        }
        self.effects.writes.push(DurableWrite { id: write.id, groups: write.groups, then });
        Ok(())
    }

    fn frame(&mut self, now: Duration, from: NodeId, bytes: Bytes) -> Result<(), Fatal> {
        let frame = match pb::Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(peer = format_args!("{:x}", from.0), %error, "malformed frame");
                return Ok(());
            }
        };
        self.heard_since.entry(from).or_insert(now);
        if !frame.messages.is_empty() {
            self.propose(now);
        }
        for message in frame.messages {
            match wire::message::decode(message) {
                Ok(envelope) => self.store.receive(now, from, envelope)?,
                Err(error) => {
                    tracing::warn!(peer = format_args!("{:x}", from.0), %error, "dropped");
                }
            }
        }
        for forward in frame.forwards {
            self.forwarded(now, from, forward);
        }
        for reply in frame.forward_replies {
            self.forward_answered(now, from, reply);
        }
        for point in frame.read_points {
            self.read_point(now, Origin::Peer(from, point.id));
        }
        for reply in frame.read_point_replies {
            self.read_point_answered(now, from, reply);
        }
        Ok(())
    }

    /// Numbers rise: queues by number are queues by deadline.
    fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The members' addresses, as applied.
    fn peers(&self) -> BTreeMap<NodeId, Vec<String>> {
        let members = self.machine.members().unwrap_or_else(|error| {
            tracing::error!(%error, "the members cannot be read");
            Vec::new()
        });
        addresses(members)
    }

    /// A leader without room refuses writes that a peer may have room for, so it gives leadership away,
    /// to whoever has most of the log. If all are full it goes round, slowly.
    fn hand_over_if_full(&mut self, now: Duration) -> Result<(), Fatal> {
        let recently = self.handed_over.is_some_and(|then| now < then + HAND_OVER_INTERVAL);
        if !self.disk_full || !self.serving || !self.transfers.is_empty() || recently {
            return Ok(());
        }
        let Some(to) = self.successor() else { return Ok(()) };
        tracing::warn!(
            to = format_args!("{:x}", to.get()),
            "no room here: leadership is given away"
        );
        self.handed_over = Some(now);
        self.propose(now);
        self.transfers.push((Origin::None, to));
        Ok(self.raft_mut().step(now, raft::Input::TransferLeadership { to })?)
    }

    /// The voter that is connected and has most of the log.
    fn successor(&self) -> Option<ReplicaId> {
        let raft = self.raft();
        let voters = &raft.membership().voters;
        let heard = |id: ReplicaId| self.heard_since.contains_key(&NodeId(id.get()));
        let peers = raft.peers().filter(|peer| voters.contains(&peer.id) && heard(peer.id));
        peers.max_by_key(|peer| peer.matched).map(|peer| peer.id)
    }

    /// A leader that is asked to remove itself hands leadership over first, and the request goes to
    /// whoever leads then. Otherwise:
    /// 1. It leads a group of two, commits its own removal and ends.
    /// 2. The message that says so is lost.
    /// 3. The other, which does not know, needs the vote of the one that is gone.
    fn hand_over_if_leaving(&mut self, now: Duration) -> Result<(), Fatal> {
        if self.routes.leaving.is_empty() || !self.serving || !self.transfers.is_empty() {
            return Ok(());
        }
        let Some(to) = self.successor() else {
            self.stay();
            return Ok(());
        };
        self.propose(now);
        self.transfers.push((Origin::None, to));
        Ok(self.raft_mut().step(now, raft::Input::TransferLeadership { to })?)
    }

    fn move_leader(&mut self, now: Duration, token: Token, to: NodeId) -> Result<(), Fatal> {
        let origin = Origin::Local(token);
        let target = ReplicaId::new(to.0);
        let error = match target {
            _ if self.role != RoleKind::Leader => Some(Error::NotLeader),
            Some(target) if self.raft().membership().voters.contains(&target) => None,
            _ => Some(Error::BadLeaderTransferee),
        };
        match (error, target) {
            (None, Some(target)) => {
                self.propose(now);
                self.transfers.push((origin, target));
                let input = raft::Input::TransferLeadership { to: target };
                Ok(self.raft_mut().step(now, input)?)
            }
            (error, _) => {
                self.answer(origin, Err(error.unwrap_or(Error::BadLeaderTransferee)));
                Ok(())
            }
        }
    }
}

/// Where the peers reach each member: `host:port`, by node. A URL that this version cannot dial is
/// left out.
pub(crate) fn addresses(
    members: Vec<proto::etcdserverpb::Member>,
) -> BTreeMap<NodeId, Vec<String>> {
    let dial = |urls: &[String]| {
        urls.iter().filter_map(|url| crate::transport::address_of(url).ok()).collect()
    };
    members.into_iter().map(|member| (NodeId(member.id), dial(&member.peer_urls))).collect()
}

/// Whether a frame asks for something that would be done twice if the frame came twice. A peer
/// connection delivers a frame once or not at all; a network that is simulated has to know which
/// frames bear more than that.
#[must_use]
pub fn asks(frame: &[u8]) -> bool {
    pb::Frame::decode(frame).is_ok_and(|frame| !frame.forwards.is_empty())
}

/// The messages between replicas that a frame carries; what cannot be decoded is left out. For a
/// network that is simulated, which holds what members say against what they have on disk.
#[must_use]
pub fn messages(frame: &[u8]) -> Vec<raft::Message> {
    let messages = pb::Frame::decode(frame).map(|frame| frame.messages).unwrap_or_default();
    let decoded = messages.into_iter().filter_map(|message| wire::message::decode(message).ok());
    decoded.map(|envelope| envelope.message).collect()
}

/// In dense mode a node has one replica, and both have the member's id.
fn nodes_of(membership: &raft::Membership) -> BTreeMap<ReplicaId, NodeId> {
    membership.members().into_iter().map(|id| (id, NodeId(id.get()))).collect()
}

/// Bounded first-in-first-out queues of what waits, by deadline: every wait is equally long.
type Waiting<T> = VecDeque<(Duration, T)>;
