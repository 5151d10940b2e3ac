//! A cluster in a box: virtual time, a network that loses, repeats and reorders, disks that
//! forget what was not synced, and an application that is a running digest.
//!
//! Everything is drawn from one seed, and everything that can happen is an entry of one queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use raft::{
    Body, Config, Entry, Epoch, Event, FetchRequest, HardState, Input, LogIndex, LogPosition,
    Membership, MembershipChange, MembershipStep, Message, Payload, Persist, Raft, Ready,
    ReplicaId, Restored, SendSnapshot, SnapshotMeta, SnapshotOutcome, Term, TransferOutcome,
    Transition,
};

use crate::checks::{Broken, Checks};
use crate::dice::Dice;

mod chaos;
mod climate;
mod disk;
mod support;

pub(crate) use climate::{Climate, Tally};
pub(crate) use disk::{App, Disk};
use support::Support;

pub(crate) struct Node {
    pub(crate) id: ReplicaId,
    raft: Option<Raft>,
    /// Counts restarts; what an earlier life asked for does not reach a later one.
    life: u64,
    /// Removed from the group, its process gone for good.
    destroyed: bool,
    pub(crate) disk: Disk,
    /// The log as written, whether durable or not.
    pub(crate) written: BTreeMap<LogIndex, Entry>,
    app: App,
    writes: VecDeque<Persist>,
    applying: VecDeque<Entry>,
    /// What membership changes led to, to be stored when their entries are applied.
    memberships: BTreeMap<LogIndex, Membership>,
    /// Term and first own index while it leads.
    pub(crate) led_from: Option<(Term, LogIndex)>,
    pub(crate) commit_checked: LogIndex,
    /// What was committed anywhere when a read was asked for.
    reads: BTreeMap<u64, LogIndex>,
}

impl Node {
    pub(crate) fn is_up(&self) -> bool {
        self.raft.is_some()
    }

    pub(crate) fn raft(&self) -> &Raft {
        self.raft.as_ref().expect("the node is up")
    }

    /// Everything that is in memory is gone, but for the writes under way.
    fn switch_off(&mut self) {
        self.raft = None;
        self.applying.clear();
        self.memberships.clear();
        self.reads.clear();
    }

    fn prev_of(&self, first: LogIndex) -> LogPosition {
        let prev = first.prev().unwrap_or_default();
        match self.written.get(&prev) {
            Some(entry) => entry.position(),
            None => self.app_or_truncated(prev),
        }
    }

    fn app_or_truncated(&self, index: LogIndex) -> LogPosition {
        let term = self.raft().term_at(index).unwrap_or_default();
        LogPosition { index, term }
    }
}

enum Happening {
    Deliver(Message),
    DiskDone(ReplicaId, u64),
    Apply(ReplicaId, u64),
    Fetch(ReplicaId, u64, FetchRequest),
    Snapshot(ReplicaId, u64, SendSnapshot),
    SnapshotSent(ReplicaId, u64, ReplicaId, SnapshotOutcome),
    /// A store to its replica, true only under this epoch.
    Tell(ReplicaId, Input, Epoch),
    Client,
    Chaos,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    climate: Climate,
    dice: Dice,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    pub(crate) nodes: BTreeMap<ReplicaId, Node>,
    /// Replicas of a version that knows of no support.
    classical: BTreeSet<ReplicaId>,
    blocked: BTreeSet<(ReplicaId, ReplicaId)>,
    healed: bool,
    pub(crate) checks: Checks,
    snapshots: BTreeMap<LogPosition, App>,
    digests: BTreeMap<LogIndex, u64>,
    latest_membership: (LogIndex, Membership),
    /// Was removed, and its disk is to be wiped.
    to_wipe: Option<ReplicaId>,
    /// The one whose disk is gone, and when it was removed.
    wiped: Option<(ReplicaId, LogIndex)>,
    next_value: u64,
    pub(crate) tally: Tally,
    /// From (supporter, holder).
    support: BTreeMap<(ReplicaId, ReplicaId), Support>,
    /// Clients are asleep.
    resting: bool,
    sent: u64,
    /// A digest of everything that happened.
    pub(crate) trace: u64,
}

const SPARE_IDS: u64 = 7;

fn replica(id: u64) -> ReplicaId {
    ReplicaId::new(id).expect("not zero")
}

/// When all is well again, clients wait while more than so many entries are not committed.
const WAITING_MAX: u64 = 50;

impl World {
    pub(crate) fn new(seed: u64, climate: Climate) -> Self {
        let founders = Membership::of_voters((1..=climate.founders).map(replica));
        let mut world = Self {
            now: Duration::ZERO,
            dice: Dice::new(seed),
            queue: BTreeMap::new(),
            queued: 0,
            nodes: BTreeMap::new(),
            classical: (1..=climate.founders)
                .filter(|id| climate.classical >> (id - 1) & 1 == 1)
                .map(replica)
                .collect(),
            blocked: BTreeSet::new(),
            healed: false,
            checks: Checks::default(),
            snapshots: BTreeMap::new(),
            digests: BTreeMap::new(),
            latest_membership: (LogIndex::ZERO, founders.clone()),
            to_wipe: None,
            wiped: None,
            next_value: 1,
            tally: Tally::default(),
            support: BTreeMap::new(),
            resting: false,
            sent: 0,
            trace: 0,
            climate,
        };
        for id in founders.voters.clone() {
            world.create(id, Disk::new(founders.clone()));
        }
        world.after(1, Happening::Client);
        world.after(1, Happening::Chaos);
        world
    }

    fn create(&mut self, id: ReplicaId, disk: Disk) {
        let node = Node {
            id,
            raft: None,
            life: 0,
            destroyed: false,
            written: BTreeMap::new(),
            app: disk.app.clone(),
            disk,
            writes: VecDeque::new(),
            applying: VecDeque::new(),
            memberships: BTreeMap::new(),
            led_from: None,
            commit_checked: LogIndex::ZERO,
            reads: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
        self.start(id);
    }

    fn config(&mut self, id: ReplicaId) -> Config {
        let mut config = Config::new(id, self.dice.below(1 << 30));
        config.election_timeout = Duration::from_millis(self.climate.election_ms);
        config.heartbeat_interval = Duration::from_millis(self.climate.election_ms / 5);
        config.pre_vote = self.climate.pre_vote;
        config.check_quorum = self.climate.check_quorum;
        config.fortify = self.climate.fortify && !self.classical.contains(&id);
        config.mutant = self.climate.mutant;
        if self.climate.small_limits {
            let dice = &mut self.dice;
            config.append_bytes_max = if dice.chance(500) { 1 } else { dice.size(1, 200) };
            config.inflight_messages_max = dice.size(1, 4);
            config.inflight_bytes_max = dice.size(1, 600);
            config.uncommitted_bytes_max = dice.size(100, 2_000);
            config.committed_bytes_max = dice.size(1, 300);
            config.applying_bytes_max = dice.size(1, 600);
            config.recent_bytes_max = dice.size(0, 400);
            config.reads_pending_max = dice.size(1, 20);
            config.read_rounds_max = dice.size(1, 3);
        }
        if self.climate.one_by_one {
            config.append_bytes_max = 1;
            config.inflight_messages_max = 1;
        }
        config
    }

    /// Starts a replica from its disk.
    fn start(&mut self, id: ReplicaId) {
        self.upgrade(id);
        let config = self.config(id);
        let recent = self.dice.size(0, 11);
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("it exists");
        node.life += 1;
        node.app = node.disk.app.clone();
        node.written = node.disk.entries.clone();
        node.commit_checked = LogIndex::ZERO;
        node.led_from = None;
        let raft = Raft::new(now, config, node.disk.restored(recent));
        node.raft = Some(raft.expect("what it wrote it can start from"));
        self.support_restarts(id);
    }

    /// One that was there before comes back with the next version, perhaps.
    fn upgrade(&mut self, id: ReplicaId) {
        let again = self.nodes[&id].life > 0;
        if again && self.classical.contains(&id) && self.dice.chance(self.climate.upgrade) {
            self.classical.remove(&id);
            self.tally.add("upgraded");
        }
    }

    /// Loses everything that is not on the disk, except that some writes that were under way may
    /// have made it there.
    fn crash(&mut self, id: ReplicaId) {
        self.tally.add("crash");
        let survive = self.dice.size(0, 2);
        let node = self.nodes.get_mut(&id).expect("it exists");
        node.switch_off();
        self.support_crashes(id);
        let node = self.nodes.get_mut(&id).expect("it exists");
        let writes: Vec<Persist> = node.writes.drain(..).collect();
        if writes.len() > survive {
            self.tally.add("writes lost in a crash");
        }
        for persist in writes.iter().take(survive) {
            self.reach_disk(id, persist).expect("a write that was under way is sound");
        }
    }

    fn after(&mut self, milliseconds: u64, what: Happening) {
        self.queued += 1;
        let at = self.now + Duration::from_millis(milliseconds);
        self.queue.insert((at, self.queued), what);
    }

    /// Lets the next thing happen and checks everything.
    pub(crate) fn step(&mut self) -> Result<(), Broken> {
        let next = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let timeouts = self.nodes.values().filter_map(|node| {
            let deadline = node.raft.as_ref()?.next_deadline()?;
            Some((deadline, node.id))
        });
        if let Some((deadline, id)) = timeouts.min()
            && next.is_none_or(|next| deadline < next)
        {
            self.now = self.now.max(deadline);
            return self.input(id, Input::Timeout);
        }
        let Some(((at, _), what)) = self.queue.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        match what {
            Happening::Deliver(message) => self.deliver(message),
            Happening::DiskDone(id, life) => self.disk_done(id, life),
            Happening::Apply(id, life) => self.apply(id, life),
            Happening::Fetch(id, life, request) => self.fetch(id, life, request),
            Happening::Snapshot(id, life, request) => self.snapshot(id, life, request),
            Happening::SnapshotSent(id, life, to, outcome) => {
                if self.alive(id, life) {
                    self.input(id, Input::SnapshotSent { to, outcome })?;
                }
                Ok(())
            }
            Happening::Tell(id, input, under) => self.tell(id, input, under),
            Happening::Client => {
                let pause = self.dice.within(1, self.climate.client_ms_max);
                self.after(pause, Happening::Client);
                if self.resting { Ok(()) } else { self.client() }
            }
            Happening::Chaos => {
                self.after(50, Happening::Chaos);
                if self.healed { Ok(()) } else { self.chaos() }
            }
        }
    }

    fn alive(&self, id: ReplicaId, life: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_up() && node.life == life)
    }

    /// Steps a replica and does what it asks for.
    pub(crate) fn input(&mut self, id: ReplicaId, input: Input) -> Result<(), Broken> {
        self.note(&format!("{:?} {id} {input:?}", self.now));
        self.act(id, |raft, now| {
            raft.step(now, input).map_err(|stopped| format!("{id} stopped: {stopped}"))
        })
    }

    fn note(&mut self, text: &str) {
        if std::env::var_os("RAFT_TRACE").is_some() {
            eprintln!("{text}");
        }
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn act(
        &mut self,
        id: ReplicaId,
        act: impl FnOnce(&mut Raft, Duration) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let now = self.now;
        let node = self.nodes.get_mut(&id).expect("it exists");
        let Some(raft) = node.raft.as_mut() else { return Ok(()) };
        let membership_before = raft.membership().clone();
        act(raft, now)?;
        self.check(id, &membership_before)?;
        // A driver need not ask after every step.
        if self.dice.chance(150) && !self.healed {
            return Ok(());
        }
        self.drain(id)
    }

    fn drain(&mut self, id: ReplicaId) -> Result<(), Broken> {
        loop {
            let node = self.nodes.get_mut(&id).expect("it exists");
            let Some(raft) = node.raft.as_mut() else { return Ok(()) };
            let membership_before = raft.membership().clone();
            let Some(ready) = raft.ready() else { return Ok(()) };
            self.note(&format!("{id} {ready:?}"));
            self.take(id, ready)?;
            self.check(id, &membership_before)?;
        }
    }

    fn check(&mut self, id: ReplicaId, membership_before: &Membership) -> Result<(), Broken> {
        self.checks.after_event(&self.nodes, id, membership_before)?;
        // Not before: with the change a leader that it removes may have committed more, and nobody else may ever
        // have been asked on what grounds.
        if let Some(removed) = self.to_wipe.take() {
            self.crash(removed);
            self.nodes.get_mut(&removed).expect("it exists").destroyed = true;
        }
        self.check_leases()?;
        let node = self.nodes.get_mut(&id).expect("it exists");
        if let Some(raft) = &node.raft {
            node.commit_checked = raft.committed();
            let term = raft.term();
            match node.led_from {
                _ if !raft.is_leader() => node.led_from = None,
                Some((led, _)) if led == term => {}
                _ => node.led_from = Some((term, raft.last().index)),
            }
        }
        Ok(())
    }

    fn take(&mut self, id: ReplicaId, ready: Ready) -> Result<(), Broken> {
        let life = self.nodes[&id].life;
        for message in ready.messages {
            self.send(message)?;
        }
        if let Some(persist) = ready.persist {
            self.write(id, life, persist)?;
        }
        if !ready.committed.is_empty() {
            let node = self.nodes.get_mut(&id).expect("it exists");
            node.applying.extend(ready.committed);
            let delay = self.dice.below(5);
            self.after(delay, Happening::Apply(id, life));
        }
        for read in ready.reads {
            let node = self.nodes.get_mut(&id).expect("it exists");
            let floor = node.reads.remove(&read.ctx).ok_or("a read was answered twice")?;
            if read.index < floor {
                return Err(format!("stale read at {id}: {} below {floor}", read.index));
            }
            self.tally.add("read");
        }
        for failed in ready.failed_reads {
            let node = self.nodes.get_mut(&id).expect("it exists");
            node.reads.remove(&failed.ctx).ok_or("a read was answered twice")?;
            self.tally.add("read failed");
        }
        for request in ready.fetch {
            let delay = self.dice.within(0, self.climate.disk_ms_max);
            let kind = if request.peer.is_some() { "fetch for a peer" } else { "fetch to apply" };
            self.tally.add(kind);
            self.after(delay, Happening::Fetch(id, life, request));
        }
        for request in ready.snapshots {
            let delay = self.dice.within(1, 100);
            self.after(delay, Happening::Snapshot(id, life, request));
        }
        for event in ready.events {
            self.event(id, event);
        }
        Ok(())
    }

    fn event(&mut self, id: ReplicaId, event: Event) {
        match event {
            Event::Membership { index, membership } => {
                let node = self.nodes.get_mut(&id).expect("it exists");
                node.memberships.insert(index, membership.clone());
                if index > self.latest_membership.0 {
                    self.membership_changed(index, membership);
                }
            }
            Event::TransferEnded { outcome, .. } => self.tally.add(match outcome {
                TransferOutcome::Yielded => "transfer",
                TransferOutcome::Aborted => "transfer aborted",
                TransferOutcome::Refused => "transfer refused",
            }),
            Event::Role { role, .. } => {
                if role == raft::RoleKind::Leader {
                    self.tally.add("election");
                }
            }
            Event::TermCommitted { .. } => {}
            Event::EntriesLost { .. } => self.tally.add("entries said to be lost"),
            Event::SupportWanted { term, leader } => self.support_wanted(id, term, leader),
        }
    }

    /// The operator's part: starts what was added, ends what was removed.
    fn membership_changed(&mut self, index: LogIndex, membership: Membership) {
        self.tally.add(if membership.is_joint() { "joint membership" } else { "membership" });
        let before = std::mem::replace(&mut self.latest_membership, (index, membership.clone())).1;
        let (before, after) = (before.members(), membership.members());
        for &id in after.difference(&before) {
            match self.nodes.get(&id) {
                None => self.create(id, Disk::new(Membership::default())),
                Some(node) if node.destroyed => {
                    self.tally.add("wiped replica rejoined");
                    let life = node.life;
                    let mut disk = Disk::new(Membership::default());
                    // The log is gone, term and vote are not: see `ReplicaId`.
                    disk.hard_state = HardState { commit: LogIndex::ZERO, ..node.disk.hard_state };
                    self.create(id, disk);
                    self.nodes.get_mut(&id).expect("just created").life = life + 1;
                }
                Some(node) if self.healed && !node.is_up() => self.start(id),
                Some(_) => {}
            }
        }
        for &id in before.difference(&after) {
            // An id whose disk is gone may come back once in a world: see `ReplicaId`.
            if self.climate.rejoin_wiped && self.wiped.is_none() && self.dice.chance(500) {
                self.wiped = Some((id, index));
                self.to_wipe = Some(id);
            }
        }
    }

    fn send(&mut self, message: Message) -> Result<(), Broken> {
        Checks::message_leaves(&self.nodes[&message.from], &message)?;
        self.sent += 1;
        if self.blocked.contains(&(message.from, message.to)) {
            self.tally.add("blocked");
            return Ok(());
        }
        let faulty = !self.healed;
        if faulty && self.dice.chance(self.climate.drop) {
            self.tally.add("drop");
            return Ok(());
        }
        if matches!(message.body, Body::AppendRejected { .. }) {
            self.tally.add("append rejected");
        }
        if faulty && self.dice.chance(self.climate.duplicate) {
            self.tally.add("duplicate");
            let latency = self.latency();
            self.after(latency, Happening::Deliver(message.clone()));
        }
        let latency = self.latency();
        self.after(latency, Happening::Deliver(message));
        Ok(())
    }

    fn latency(&mut self) -> u64 {
        if !self.healed && self.dice.chance(self.climate.straggler) {
            self.tally.add("straggler");
            return self.dice.within(500, 8_000);
        }
        self.dice.within(0, self.climate.latency_ms_max)
    }

    fn deliver(&mut self, message: Message) -> Result<(), Broken> {
        let to = message.to;
        if self.classical.contains(&to) && !support::is_classical(&message.body) {
            return Ok(());
        }
        if self.nodes.get(&to).is_some_and(Node::is_up) {
            self.input(to, Input::Receive(message))?;
        } else if let Body::Fortified { .. } = message.body
            && self.nodes.get(&to).is_some_and(|node| node.destroyed)
        {
            // Its store answers for it: it does not lead.
            let answer =
                Message { from: to, to: message.from, term: message.term, body: Body::Release };
            self.after(1, Happening::Deliver(answer));
        }
        Ok(())
    }

    fn write(&mut self, id: ReplicaId, life: u64, persist: Persist) -> Result<(), Broken> {
        if let Some(snapshot) = &persist.snapshot {
            self.tally.add("snapshot installed");
            let app = self.snapshots.get(&snapshot.position).ok_or("a snapshot out of nowhere")?;
            let node = self.nodes.get_mut(&id).expect("it exists");
            node.app = app.clone();
            node.applying.clear();
            node.written.clear();
        }
        let node = self.nodes.get_mut(&id).expect("it exists");
        if let Some(first) = persist.entries.first() {
            if !node.written.split_off(&first.index).is_empty() {
                self.tally.add("conflicting entries overwritten");
            }
            let prev = node.prev_of(first.index);
            self.checks.entries_written(node, prev, &persist.entries)?;
            let entries = persist.entries.iter().map(|entry| (entry.index, entry.clone()));
            node.written.extend(entries);
        }
        node.writes.push_back(persist);
        let delay = self.dice.within(0, self.climate.disk_ms_max);
        self.after(delay, Happening::DiskDone(id, life));
        Ok(())
    }

    /// Applies a write to the disk, in full.
    fn reach_disk(&mut self, id: ReplicaId, persist: &Persist) -> Result<(), Broken> {
        let node = self.nodes.get_mut(&id).expect("it exists");
        if let Some(hard_state) = persist.hard_state {
            Checks::hard_state_written(id, node.disk.hard_state, hard_state)?;
            node.disk.hard_state = hard_state;
        }
        if let Some(snapshot) = &persist.snapshot {
            node.disk.truncated = snapshot.position;
            node.disk.entries.clear();
            node.disk.app = self.snapshots[&snapshot.position].clone();
        }
        if let Some(first) = persist.entries.first() {
            node.disk.entries.split_off(&first.index);
            let entries = persist.entries.iter().map(|entry| (entry.index, entry.clone()));
            node.disk.entries.extend(entries);
        }
        Ok(())
    }

    /// The oldest writes under way complete.
    fn disk_done(&mut self, id: ReplicaId, life: u64) -> Result<(), Broken> {
        if !self.alive(id, life) {
            return Ok(());
        }
        let together = self.dice.within(1, 3);
        let mut token = None;
        for _ in 0..together {
            let Some(persist) = self.nodes.get_mut(&id).and_then(|node| node.writes.pop_front())
            else {
                break;
            };
            self.reach_disk(id, &persist)?;
            token = Some(persist.token);
            for message in persist.then {
                self.send(message)?;
            }
        }
        match token {
            Some(token) => self.input(id, Input::LogWritten(token)),
            None => Ok(()),
        }
    }

    fn apply(&mut self, id: ReplicaId, life: u64) -> Result<(), Broken> {
        if !self.alive(id, life) {
            return Ok(());
        }
        let count = self.dice.size(1, 8);
        let node = self.nodes.get_mut(&id).expect("it exists");
        for _ in 0..count {
            let Some(entry) = node.applying.pop_front() else { break };
            if entry.index != node.app.applied.index.next() {
                return Err(format!("{id} was given {} after {}", entry.index, node.app.applied));
            }
            self.checks.applied(id, entry.position())?;
            node.app.apply(&entry);
            if let Some(membership) = node.memberships.remove(&entry.index) {
                node.app.membership = membership;
            }
            let digest = *self.digests.entry(entry.index).or_insert(node.app.digest);
            if digest != node.app.digest {
                return Err(format!("states differ at {id} after {}", entry.index));
            }
        }
        let applied = node.app.applied.index;
        if !node.applying.is_empty() {
            self.after(1, Happening::Apply(id, life));
        }
        self.input(id, Input::Applied(applied))?;
        self.checkpoint_and_truncate(id);
        Ok(())
    }

    /// Makes the application's state durable now and then, and cuts the log behind it.
    fn checkpoint_and_truncate(&mut self, id: ReplicaId) {
        if !self.dice.chance(self.climate.truncate) {
            return;
        }
        let node = self.nodes.get_mut(&id).expect("it exists");
        // What it applied may have been its own removal.
        let Some(raft) = &mut node.raft else { return };
        let applied = node.app.applied;
        if !node.disk.holds(applied) || applied.index > node.disk.last() {
            return;
        }
        node.disk.app = node.app.clone();
        let behind = self.dice.below(4);
        let index = LogIndex(applied.index.0.saturating_sub(behind)).min(raft.durable());
        let Some(term) = raft.term_at(index) else { return };
        if index <= raft.truncated().index {
            return;
        }
        self.tally.add("truncation");
        let position = LogPosition { index, term };
        raft.step(self.now, Input::Truncate(position)).expect("nothing to object to");
        node.disk.entries = node.disk.entries.split_off(&index.next());
        node.disk.truncated = position;
    }

    fn fetch(&mut self, id: ReplicaId, life: u64, request: FetchRequest) -> Result<(), Broken> {
        if !self.alive(id, life) {
            return Ok(());
        }
        let node = &self.nodes[&id];
        let mut entries = Vec::new();
        let mut bytes = 0;
        if node.disk.entries.contains_key(&request.first) {
            for entry in node.disk.entries.range(request.first..=request.last).map(|(_, e)| e) {
                bytes += entry.size_bytes();
                if bytes > request.bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
        }
        self.input(id, Input::Fetched { id: request.id, entries })
    }

    fn snapshot(&mut self, id: ReplicaId, life: u64, request: SendSnapshot) -> Result<(), Broken> {
        if !self.alive(id, life) {
            return Ok(());
        }
        let SendSnapshot { to, term, session, at_least } = request;
        let app = self.nodes[&id].app.clone();
        if app.applied.index < at_least {
            self.after(20, Happening::Snapshot(id, life, request));
            return Ok(());
        }
        let position = app.applied;
        let membership = app.membership.clone();
        self.snapshots.insert(position, app);
        let snapshot = Box::new(SnapshotMeta { position, membership });
        let body = Body::InstallSnapshot { session, snapshot };
        let latency = self.dice.within(10, 300);
        let lost = self.blocked.contains(&(id, to)) || self.dice.chance(self.climate.drop);
        let outcome = if lost {
            self.tally.add("snapshot lost");
            SnapshotOutcome::Failed
        } else {
            self.after(latency, Happening::Deliver(Message { from: id, to, term, body }));
            SnapshotOutcome::Delivered(position.index)
        };
        self.after(latency + 1, Happening::SnapshotSent(id, life, to, outcome));
        Ok(())
    }

    fn leaders(&self) -> Vec<ReplicaId> {
        let up = self.nodes.values().filter(|node| node.is_up());
        up.filter(|node| node.raft().is_leader()).map(|node| node.id).collect()
    }

    fn client(&mut self) -> Result<(), Broken> {
        let leaders = self.leaders();
        let Some(&leader) = self.dice.pick(&leaders) else { return Ok(()) };
        if self.dice.chance(300) {
            self.next_value += 1;
            let ctx = self.next_value;
            let floor = self.checks.max_committed();
            self.nodes.get_mut(&leader).expect("it exists").reads.insert(ctx, floor);
            return self.input(leader, Input::ReadIndex(ctx));
        }
        // Whatever the windows and the disks of this seed: a group that is well again gets through its work.
        let raft = self.nodes[&leader].raft();
        let waiting = raft.last().index.0 - raft.committed().0;
        if self.healed && waiting > WAITING_MAX {
            return Ok(());
        }
        let count = self.dice.within(1, 4);
        let payloads = (0..count).map(|_| self.value()).collect();
        self.propose(leader, payloads)
    }

    fn value(&mut self) -> Payload {
        self.next_value += 1;
        let mut data = self.next_value.to_be_bytes().to_vec();
        data.resize(8 + self.dice.size(0, 59), 0);
        Payload::Data(data.into())
    }

    pub(crate) fn propose(&mut self, id: ReplicaId, payloads: Vec<Payload>) -> Result<(), Broken> {
        self.note(&format!("{id} propose {payloads:?}"));
        let mut accepted = false;
        self.act(id, |raft, now| {
            accepted = raft.propose(now, payloads).is_ok();
            Ok(())
        })?;
        self.tally.add(if accepted { "proposal" } else { "proposal refused" });
        Ok(())
    }
}
