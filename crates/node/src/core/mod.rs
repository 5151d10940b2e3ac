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
mod frames;
mod group;
mod long;
mod pins;
mod range_jobs;
mod ranges;
mod reads;
mod route;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Machine, Request};
use mvcc::engine::Engine;
use mvcc::engine::partition::Partition;
use prost::Message as _;
use raft::{Body, FetchId, LogIndex, Membership, ReplicaId, SnapshotOutcome, Stopped};
use store::{Envelope, NodeId, RangeId, Store, WriteId};

pub(crate) use apply::membership_row;
pub use apply::stored_membership;
pub use effects::{DurableWrite, Effects, FrameOut, Frames, Lane, SnapshotOut, Standing, Token};
pub use long::{Work, Worked};
pub use range_jobs::{RangeJobs, RangesWritten};
pub use ranges::RangesConfig;
pub use reads::{Scan, Scanned};
pub use snapshot::snapshot_message;

use frames::FramesOut;
use group::{Group, Shared, Turn};
use pins::Pins;
use ranges::Ranges;

use crate::mutants::{self, Mutant};
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
    /// The same for each range beside the dense one.
    pub range_catchup_entries: u64,
    /// Bytes of log that are kept, beyond that, behind snapshots on their way.
    pub pinned_bytes_max: usize,
    /// A number that no earlier process of this member had. What is asked of peers is numbered
    /// from it on: an answer that was meant for an earlier process must find nobody.
    pub process: u32,
    /// Bytes of the longest payload that the log takes, as [`raft::Payload::size_bytes`] counts:
    /// nothing longer is proposed.
    pub entry_bytes_max: usize,
    /// Entries and changes that a range applies between two flushes, at least 1; what is left has its
    /// turn after that of others.
    pub apply_at_once: usize,
    /// How a leader makes sure that it leads when it is asked to read.
    pub reads: Reads,
}

/// How a leader makes sure that it leads when it is asked to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// By its range lease, without asking anybody; without one, as [`Reads::Quorum`]. Rests on clocks
    /// that run equally fast, within the drift that the store's settings cover, and that go on while
    /// the machine sleeps.
    #[cfg_attr(not(target_vendor = "apple"), default)]
    Lease,
    /// By asking a quorum, once for all reads that wait. Rests on no clock. The default where the
    /// clock that we have stands still in sleep (macOS).
    #[cfg_attr(target_vendor = "apple", default)]
    Quorum,
}

/// What can happen to a core.
pub enum Input<E: Engine> {
    /// A local client's request.
    Client(Token, Request),
    /// The same, of a range beside the dense one.
    ClientOf(RangeId, Token, Request),
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
    /// A scan has its answer.
    Scanned(Scanned),
    /// What takes long is done.
    Worked(Worked),
    /// The answer to a fetch.
    Fetched(RangeId, FetchId, Vec<raft::Entry>),
    /// What became of a snapshot on its way to a peer.
    SnapshotSent(RangeId, ReplicaId, SnapshotOutcome),
    /// A snapshot has arrived in full: the message that goes with it, and the opened state.
    SnapshotStaged(NodeId, store::Envelope, Box<mvcc::State<E>>),
    /// The same of a range beside the dense one.
    RangeSnapshotStaged(NodeId, store::Envelope, Box<mvcc::State<Partition<E>>>),
    /// A checkpoint is done.
    Checkpointed(mvcc::Done),
    /// Writes of ranges beside the dense one are done.
    RangesWritten(RangesWritten),
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
    shared: Shared,
    /// The range that holds all user data, and the members.
    dense: Group<E>,
    /// Ranges made beside it, as far as they have ever done anything ([`ranges`]).
    ranges: Ranges<E>,
    /// Groups with something to propose or to confirm.
    touched: BTreeSet<RangeId>,
    /// Groups that were stepped since the last flush: their deadlines may have changed.
    stepped: BTreeSet<RangeId>,
    deadlines: BTreeSet<(Duration, RangeId)>,
    /// Peers that have said something that this version does not understand.
    not_understood: BTreeSet<NodeId>,
}

/// Takes a [`Turn`] of a range, if it has a group, and evaluates an expression with it.
macro_rules! turn {
    ($core:ident, $range:expr, $turn:ident => $then:expr) => {{
        let range: RangeId = $range;
        if range == RangeId::DENSE {
            $core.stepped.insert(range);
            let mut $turn =
                $crate::core::group::Turn { group: &mut $core.dense, shared: &mut $core.shared };
            Some($then)
        } else if let Some(group) = $core.ranges.awake.get_mut(&range) {
            $core.stepped.insert(range);
            let mut $turn = $crate::core::group::Turn { group, shared: &mut $core.shared };
            Some($then)
        } else {
            None
        }
    }};
}
use turn;

impl<E: Engine> Core<E> {
    /// A member with its one data range, on a store without liveness.
    #[must_use]
    pub fn new(config: CoreConfig, raft: raft::Raft, machine: Machine<E>) -> Core<E> {
        let store = Store::new(config.node);
        Core::on(store, config, raft, machine)
    }

    /// A member with its one data range, on a store without replicas.
    ///
    /// # Panics
    /// If the store is another node's, or has a replica of the range.
    #[must_use]
    pub fn on(
        mut store: Store,
        config: CoreConfig,
        raft: raft::Raft,
        machine: Machine<E>,
    ) -> Core<E> {
        assert_eq!(store.node(), config.node, "the store of this node");
        let nodes = nodes_of(raft.membership());
        let dense = Group::new(RangeId::DENSE, machine, &raft);
        store.add(RangeId::DENSE, raft, nodes);
        let mut core = Core {
            shared: Shared {
                next_id: (u64::from(config.process) << 32) + 1,
                store,
                config,
                turn: 1,
                unix_time_s: 0,
                disk_full: false,
                heard_since: BTreeMap::new(),
                asked: BTreeMap::new(),
                pins: Pins::default(),
                frames: FramesOut::default(),
                effects: Effects::default(),
                confirmed_by_lease: 0,
                confirmed_by_quorum: 0,
            },
            dense,
            ranges: Ranges::default(),
            touched: BTreeSet::new(),
            not_understood: BTreeSet::new(),
            stepped: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        };
        core.dense().note_peers(Duration::ZERO);
        core
    }

    fn dense(&mut self) -> Turn<'_, E> {
        self.stepped.insert(RangeId::DENSE);
        Turn { group: &mut self.dense, shared: &mut self.shared }
    }

    /// The state machine, to be looked at.
    #[must_use]
    pub fn machine(&self) -> &Machine<E> {
        &self.dense.machine
    }

    /// The state machine, for the driver's checkpoints.
    pub fn machine_mut(&mut self) -> &mut Machine<E> {
        &mut self.dense.machine
    }

    /// The replicas, to be looked at.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The last entry that this member's own log has on disk, of the range that holds all user data.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.raft().durable()
    }

    /// Where this member stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let raft = self.raft();
        let own = raft.id();
        Standing {
            leader: self.dense.leader,
            term: self.dense.term,
            committed: raft.committed(),
            last: raft.last().index,
            applied: LogIndex(self.dense.machine.applied().index),
            is_learner: !raft.membership().is_voter(own),
            serving: self.dense.serving,
            leader_changes: self.dense.leader_changes,
            proposals_in_flight: self.dense.routes.in_flight(),
            ranges_led: self.ranges.led.len(),
            confirmed_by_lease: self.shared.confirmed_by_lease,
            confirmed_by_quorum: self.shared.confirmed_by_quorum,
        }
    }

    /// Until when this member holds the range lease of the range that holds all user data; `None` if
    /// it does not hold it at `now`.
    pub fn lease(&mut self, now: Duration) -> Option<Duration> {
        self.shared.store.lease(RangeId::DENSE, now)
    }

    /// Campaigns at once if nobody else could: a cluster of one need not wait for a leader. Otherwise
    /// one of the voters of each range goes first.
    ///
    /// # Errors
    /// [`Fatal`], if the replica has stopped.
    pub fn begin(&mut self, now: Duration) -> Result<(), Fatal> {
        self.dense().note_peers(now);
        let own = self.raft().id();
        let membership = self.raft().membership();
        if membership.voters.iter().eq([&own]) && !membership.is_joint() {
            for range in self.ranges_here() {
                self.raft_input(range, now, raft::Input::Campaign)?;
            }
        } else {
            self.shared.store.begin(now);
        }
        Ok(())
    }

    fn ranges_here(&self) -> Vec<RangeId> {
        self.shared.store.replicas().map(|(range, _)| range).collect()
    }

    fn raft(&self) -> &raft::Raft {
        self.shared.store.replica(RangeId::DENSE).expect("the data range lives here").raft()
    }

    /// When [`Input::Tick`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let group = self.deadlines.first().map(|&(deadline, _)| deadline);
        self.shared.store.next_deadline().into_iter().chain(group).min()
    }

    /// Takes in what happened at `now`. What is to be done about it collects until
    /// [`Core::flush`].
    ///
    /// # Errors
    /// [`Fatal`]: the core must not be stepped again.
    pub fn step(&mut self, now: Duration, input: Input<E>) -> Result<(), Fatal> {
        match input {
            Input::Client(token, request) => {
                self.request(now, RangeId::DENSE, Origin::Local(token), request)?;
            }
            Input::ClientOf(range, token, request) => {
                self.request(now, range, Origin::Local(token), request)?;
            }
            Input::ReadPoint(token) => {
                self.touched.insert(RangeId::DENSE);
                self.dense().read_point(now, Origin::Local(token));
            }
            Input::MoveLeader(token, to) => self.dense().move_leader(now, token, to)?,
            Input::Frame(from, bytes) => self.frame(now, from, bytes)?,
            Input::Unreachable(node) => self.unreachable(now, node)?,
            Input::LogWritten(id) => self.shared.store.log_written(now, id)?,
            Input::Scanned(Scanned { range, origin, answer }) => {
                turn!(self, range, turn => turn.scanned(origin, answer));
            }
            Input::Worked(worked) => {
                let range = worked.range;
                self.touched.insert(range);
                turn!(self, range, turn => turn.worked(now, worked)?);
            }
            Input::Fetched(range, id, entries) => {
                self.raft_input(range, now, raft::Input::Fetched { id, entries })?;
            }
            Input::SnapshotSent(range, to, outcome) => {
                self.snapshot_sent(now, range, to, outcome)?;
            }
            Input::SnapshotStaged(from, envelope, state) => {
                self.snapshot_staged(now, from, envelope, state)?;
            }
            Input::RangeSnapshotStaged(from, envelope, state) => {
                self.range_snapshot_staged(now, from, envelope, state)?;
            }
            Input::Checkpointed(done) => self.dense().checkpointed(now, done)?,
            Input::RangesWritten(written) => self.ranges_written(now, written)?,
            Input::WallTime(seconds) => self.shared.unix_time_s = seconds,
            Input::DiskFull(full) => {
                let before = std::mem::replace(&mut self.shared.disk_full, full);
                self.dense().hand_over_if_full(now)?;
                if full {
                    self.hand_over_ranges(now)?;
                }
                if full && !before {
                    self.shared.pins.clear();
                    self.cut_logs(now)?;
                }
            }
            Input::StateBytes(bytes) => self.dense.machine.observe_size(bytes),
            Input::Tick => self.tick(now)?,
        }
        Ok(())
    }

    fn request(
        &mut self,
        now: Duration,
        range: RangeId,
        origin: Origin,
        request: Request,
    ) -> Result<(), Fatal> {
        self.wake(now, range)?;
        if self.is_crowded(range) {
            self.shared.answer(Some(range.0), 0, origin, Err(Error::TooManyRequests));
            return Ok(());
        }
        self.touched.insert(range);
        if turn!(self, range, turn => turn.request(now, origin, request)).is_none() {
            self.shared.answer(Some(range.0), 0, origin, Err(Error::RangeNotHere));
        }
        Ok(())
    }

    fn raft_input(
        &mut self,
        range: RangeId,
        now: Duration,
        input: raft::Input,
    ) -> Result<(), Stopped> {
        match self.shared.store.raft_mut(range) {
            Some(raft) => raft.step(now, input),
            None => Ok(()),
        }
    }

    fn unreachable(&mut self, now: Duration, node: NodeId) -> Result<(), Fatal> {
        self.propose_touched(now);
        // Whoever was not heard from since the last time streams nothing: a stream begins with an answer. So
        // a peer that stays away does not concern every range again and again.
        if self.shared.heard_since.remove(&node).is_some() {
            self.shared.store.unreachable(now, node)?;
        }
        self.unpin_lost(now, node)?;
        // Only where something was asked: there may be many ranges, and the peer may stay away for long.
        let asked = self.shared.asked.remove(&node).unwrap_or_default();
        for range in std::iter::once(RangeId::DENSE).chain(asked) {
            turn!(self, range, turn => turn.peer_lost(now, node));
            self.touched.insert(range);
        }
        Ok(())
    }

    /// The ranges that have a group.
    fn groups(&self) -> Vec<RangeId> {
        std::iter::once(RangeId::DENSE).chain(self.ranges.awake.keys().copied()).collect()
    }

    fn propose_touched(&mut self, now: Duration) {
        for range in std::mem::take(&mut self.touched) {
            turn!(self, range, turn => turn.propose(now));
            // Its reads are still to be confirmed.
            self.touched.insert(range);
        }
    }

    fn tick(&mut self, now: Duration) -> Result<(), Fatal> {
        self.propose_touched(now);
        self.shared.store.timeout(now)?;
        while let Some(&(deadline, range)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            self.touched.insert(range);
            turn!(self, range, turn => {
                turn.group.deadline = None;
                turn.go_on_applying(now)?;
                turn.go_on(now);
                turn.expire_leases(now)?;
                turn.routes_timeout(now);
                turn.long_timeout(now);
                turn.reads_timeout(now);
            });
        }
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
            while let Some(range) = self.touched.pop_first() {
                turn!(self, range, turn => {
                    turn.propose(now);
                    turn.hand_over_if_leaving(now)?;
                    turn.begin_reads(now)?;
                });
            }
            let output = self.shared.store.flush();
            let idle = output == store::Output::default();
            self.take(now, output)?;
            if idle && self.touched.is_empty() {
                break;
            }
        }
        self.unpin_stepped(now)?;
        while let Some(range) = self.stepped.pop_first() {
            let deadlines = &mut self.deadlines;
            if range == RangeId::DENSE {
                note_deadline(deadlines, &mut self.dense);
            } else if let Some(group) = self.ranges.awake.get_mut(&range) {
                note_deadline(deadlines, group);
            }
        }
        self.shared.turn += 1;
        let frames = std::mem::take(&mut self.shared.frames);
        self.shared.effects.send.extend(frames.encode());
        Ok(std::mem::take(&mut self.shared.effects))
    }

    fn take(&mut self, now: Duration, output: store::Output) -> Result<(), Fatal> {
        if let Some(write) = output.write {
            self.take_write(now, write)?;
        }
        for (node, envelopes) in output.messages {
            for envelope in envelopes {
                self.shared.frames.message(node, envelope);
            }
        }
        let memberships = self.take_events(now, output.events);
        for (range, entries) in output.committed {
            if self.asleep(now, range, &entries)? {
                continue;
            }
            let known = memberships.get(&range);
            if turn!(self, range, turn => turn.apply(now, entries, known)?).is_some() {
                self.touched.insert(range);
            }
        }
        for (range, ready) in output.reads {
            turn!(self, range, turn => turn.read_confirmed(now, ready));
        }
        for (range, failed) in output.failed_reads {
            self.touched.insert(range);
            turn!(self, range, turn => turn.read_failed(now, failed.ctx));
        }
        self.shared.effects.fetch.extend(output.fetch);
        for (range, send) in output.snapshots {
            self.send_snapshot(range, send);
        }
        Ok(())
    }

    /// What happened in each range; gives back the membership changes, by range and entry.
    fn take_events(
        &mut self,
        now: Duration,
        events: Vec<(RangeId, raft::Event)>,
    ) -> BTreeMap<RangeId, BTreeMap<LogIndex, Membership>> {
        let mut memberships = BTreeMap::new();
        let mut events = events.into_iter().peekable();
        while let Some((range, event)) = events.next() {
            let mut of_range = vec![event];
            while let Some((_, event)) = events.next_if(|&(other, _)| other == range) {
                of_range.push(event);
            }
            self.ranges.observe(range, &of_range);
            self.touched.insert(range);
            let changes = turn!(self, range, turn => turn.take_events(now, of_range));
            if let Some(changes) = changes.filter(|changes| !changes.is_empty()) {
                memberships.insert(range, changes);
            }
        }
        memberships
    }

    /// Writes leave as they come: `flush` may find several, and their order is their numbers'.
    fn take_write(&mut self, now: Duration, write: store::LogWrite) -> Result<(), Fatal> {
        for group in &write.groups {
            if let Some(snapshot) = &group.snapshot {
                let installed = turn!(self, group.range, turn => turn.install(now, snapshot)?);
                installed.ok_or_else(|| {
                    Fatal::State(format!("range {} takes a snapshot asleep", group.range.0))
                })?;
            }
        }
        let mut frames = FramesOut::default();
        for (node, message) in write.support {
            let message = wire::liveness::encode(message);
            frames.first(node, message.encoded_len()).liveness.push(message);
        }
        for (node, envelopes) in write.then {
            for envelope in envelopes {
                frames.message(node, envelope);
            }
        }
        self.shared.effects.writes.push(DurableWrite {
            id: write.id,
            groups: write.groups,
            liveness: write.liveness.map(Bytes::from),
            then: frames.encode(),
        });
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
        self.shared.heard_since.entry(from).or_insert(now);
        for message in frame.liveness {
            match wire::liveness::decode(message) {
                Ok(message) => self.shared.store.receive_liveness(now, from, message),
                Err(error) => {
                    self.not_understood(from, &error);
                    if mutants::on(Mutant::UnknownSinksFrame) {
                        return Ok(());
                    }
                }
            }
        }
        for message in frame.messages {
            match wire::message::decode(message) {
                // INVARIANT: a snapshot's message comes with its data, on a stream of its own. Without, it would
                // have this member claim to have applied what it has nothing of.
                Ok(Envelope {
                    message: raft::Message { body: Body::InstallSnapshot { .. }, .. },
                    ..
                }) => {
                    tracing::warn!(
                        peer = format_args!("{:x}", from.0),
                        "dropped a snapshot without its data"
                    );
                }
                Ok(envelope) => {
                    turn!(self, envelope.range, turn => turn.propose(now));
                    self.shared.store.receive(now, from, envelope)?;
                }
                Err(error) => {
                    self.not_understood(from, &error);
                    if mutants::on(Mutant::UnknownSinksFrame) {
                        return Ok(());
                    }
                }
            }
        }
        for forward in frame.forwards {
            self.forwarded(now, from, forward)?;
        }
        for reply in frame.forward_replies {
            let range = named(reply.range);
            self.touched.insert(range);
            turn!(self, range, turn => turn.forward_answered(now, from, reply));
        }
        for point in frame.read_points {
            self.touched.insert(RangeId::DENSE);
            self.dense().read_point(now, Origin::Peer(from, point.id));
        }
        for reply in frame.read_point_replies {
            self.touched.insert(RangeId::DENSE);
            self.dense().read_point_answered(now, from, reply);
        }
        Ok(())
    }

    /// A message is left out. A peer of a later version may send such as often as it likes: it is told of once.
    fn not_understood(&mut self, from: NodeId, error: &wire::Malformed) {
        if self.not_understood.insert(from) {
            let peer = format_args!("{:x}", from.0);
            tracing::warn!(peer, %error, "dropped, as all of its kind from there will be");
        }
    }

    /// A request that a peer passed on.
    fn forwarded(
        &mut self,
        now: Duration,
        from: NodeId,
        forward: pb::Forward,
    ) -> Result<(), Fatal> {
        let (range, origin) = (named(forward.range), Origin::Peer(from, forward.id));
        match wire::request::decode_request(forward.kind, forward.request) {
            Ok(request) => self.request(now, range, origin, request)?,
            Err(error) => {
                tracing::warn!(peer = format_args!("{:x}", from.0), %error, "forwarded request");
                let answer = Err(Error::Storage(error.to_string()));
                self.shared.answer(forward.range, 0, origin, answer);
            }
        }
        Ok(())
    }
}

/// The range that a frame speaks of.
fn named(range: Option<u64>) -> RangeId {
    range.map_or(RangeId::DENSE, RangeId)
}

/// Puts the deadline of a group into the set of all.
fn note_deadline<E: Engine>(set: &mut BTreeSet<(Duration, RangeId)>, group: &mut Group<E>) {
    let deadline = group.next_deadline();
    if deadline == group.deadline {
        return;
    }
    if let Some(old) = group.deadline.take() {
        set.remove(&(old, group.range));
    }
    if let Some(new) = deadline {
        set.insert((new, group.range));
    }
    group.deadline = deadline;
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

/// The messages between stores that a frame carries, for the same.
#[must_use]
pub fn liveness_messages(frame: &[u8]) -> Vec<store::liveness::Message> {
    let messages = pb::Frame::decode(frame).map(|frame| frame.liveness).unwrap_or_default();
    messages.into_iter().filter_map(|message| wire::liveness::decode(message).ok()).collect()
}

/// In dense mode a node has one replica, and both have the member's id.
fn nodes_of(membership: &raft::Membership) -> BTreeMap<ReplicaId, NodeId> {
    membership.members().into_iter().map(|id| (id, NodeId(id.get()))).collect()
}

/// Bounded first-in-first-out queues of what waits, by deadline: every wait is equally long.
type Waiting<T> = VecDeque<(Duration, T)>;
