//! The members of a cluster, and what happens to them, one event at a time.

mod clients;
mod disks;
mod faults;
pub(crate) mod host;
mod net;
mod record;
mod repair;
mod turn;
pub(crate) mod watchers;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd::FoundingMember;
use history::record::{Commits, History};
use mvcc::View;
use node::core::SnapshotOut;
use raft::{FetchRequest, ReplicaId, RoleKind, SnapshotOutcome};
use store::{NodeId, RangeId};

use crate::check::{Broken, Fault, Rules};
use crate::climate::Version;
use crate::judge;
use crate::plan::{Event, Plan};
use crate::tally::Tally;
use crate::trace::{Tell, Trace};
use crate::{Mutants, Outcome};
use clients::Clients;
use host::{BootFailure, Clock, Host};
use net::Network;
use record::Recorded;
use repair::Repair;
use watchers::Watchers;

/// After everything is healed, the cluster must serve and agree within this.
const CONVERGE_WITHIN: Duration = Duration::from_secs(120);
/// How long the world sleeps before messages of long ago come.
const HOURS: Duration = Duration::from_secs(3 * 3_600);
/// Faults that strike at their moment, at most, in one seed.
const AMBUSHES_MAX: u64 = 60;
/// Events that a seed may take; more is a loop without end.
const EVENTS_MAX: u64 = 3_000_000;

/// What happens next.
pub(crate) enum Happening {
    /// An event of the plan.
    Planned(usize),
    /// A frame arrives.
    Arrives(Sent),
    /// Something within a process; void if that process is gone.
    Within(NodeId, u64, What),
    /// A snapshot has crossed the network.
    SnapshotArrives(Box<Crossing>),
    /// A process is started.
    Restart(NodeId),
    /// An answer reaches its client.
    Answered(u64),
    /// A watcher looks for a member.
    WatcherConnects(usize),
    /// A watcher takes a message, on which of its connections.
    WatcherReads(usize, usize),
    /// The operator looks whether something is to be done.
    OperatorLooks,
    /// A member makes its name known, until somebody has heard.
    Publishes(NodeId),
    /// A member that was cut off can be reached again.
    Rejoins(NodeId),
    /// A client waits no longer.
    GivesUp(u64),
    /// The disk has room again.
    Room(NodeId),
}

/// What happens within a process.
#[derive(Debug)]
pub(crate) enum What {
    Tick,
    Flush,
    LogBegins,
    LogEnds,
    JobEnds,
    Chores,
    Door,
    Ambush(&'static str),
    Fetched(RangeId, FetchRequest),
    Worked(Box<node::core::Worked>),
    SnapshotSent(RangeId, ReplicaId, SnapshotOutcome),
    Unreachable(NodeId),
}

/// A frame on its way.
pub(crate) struct Sent {
    /// Of all frames and snapshots, for the record.
    number: u64,
    from: NodeId,
    to: NodeId,
    frame: Bytes,
}

/// A snapshot on its way.
pub(crate) struct Crossing {
    /// Of all frames and snapshots, for the record.
    number: u64,
    from: (NodeId, u64),
    to: NodeId,
    out: SnapshotOut,
    view: View,
}

/// A cluster and its surroundings.
pub(crate) struct World {
    plan: Plan,
    mutants: Mutants,
    now: Duration,
    next: u64,
    agenda: BTreeMap<(Duration, u64), Happening>,
    hosts: BTreeMap<NodeId, Host>,
    net: Network,
    clients: Clients,
    watchers: Watchers,
    /// What is to be done about a member that is lost.
    repair: Option<Repair>,
    /// Messages that come when all is over.
    late: Vec<Sent>,
    /// Faults that may still lie in wait.
    ambushes: u64,
    rules: Rules,
    trace: Trace,
    recorded: Recorded,
    tally: Tally,
    /// No more faults.
    healed: bool,
    /// The operator has asked for a member to be removed.
    removals: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, tell: Tell, mutants: Mutants) -> Self {
        Self {
            mutants,
            now: Duration::ZERO,
            next: 0,
            agenda: BTreeMap::new(),
            hosts: BTreeMap::new(),
            net: Network::new(plan.seed),
            clients: Clients::default(),
            watchers: Watchers::default(),
            repair: None,
            late: Vec::new(),
            ambushes: AMBUSHES_MAX,
            rules: Rules::default(),
            trace: Trace::new(tell),
            recorded: Recorded::default(),
            tally: Tally::default(),
            healed: false,
            removals: false,
            plan,
        }
    }

    /// Lives through the plan; then heals everything, and waits until the cluster has recovered.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        let done = self.live();
        done.map_err(|(rule, what)| Broken { rule, what, at: self.now })
    }

    fn live(&mut self) -> Result<(), Fault> {
        self.found()?;
        for (at, planned) in self.plan.events.iter().enumerate() {
            let key = (Duration::from_micros(planned.at_us), self.next);
            self.next += 1;
            self.agenda.insert(key, Happening::Planned(at));
        }
        let end = Duration::from_secs(self.plan.climate.seconds);
        while self.agenda.first_key_value().is_some_and(|(&(at, _), _)| at < end) {
            self.next_event()?;
        }
        self.heal_all();
        self.converge()?;
        if self.plan.climate.late_by_hours {
            self.hours_later();
            self.converge()?;
        }
        self.rules.no_gap()?;
        judge::judge(&self.history(), &self.plan, &mut self.tally)
    }

    /// All that clients asked and were told, and all that the store did.
    fn history(&self) -> History {
        let commits = self.rules.commits.values();
        let commits = commits.map(|(commit, seen)| judge::record::commit(commit, *seen)).collect();
        History {
            operations: self.clients.operations(),
            watches: self.watchers.records(),
            commits: Commits::of_fresh_store(commits),
        }
    }

    /// The world sleeps, and wakes up to messages of long ago.
    fn hours_later(&mut self) {
        self.trace.tell(self.now, format_args!("hours pass"));
        self.now += HOURS;
        for sent in std::mem::take(&mut self.late) {
            self.tally.count("message hours late");
            let at = self.now + self.draw_us(3_000_000);
            self.post(at, Happening::Arrives(sent));
        }
    }

    /// An assertion of the code under test failed.
    pub(crate) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Broken {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        Broken { rule: "no assertion fails", what: text.to_owned(), at: self.now }
    }

    pub(crate) fn outcome(mut self, broken: Option<Broken>) -> Outcome {
        if let Some(broken) = &broken {
            self.trace.tell(self.now, format_args!("BROKEN: {broken}"));
        }
        self.tally.add("election", self.rules.elections);
        self.tally.add("state compared at one index", self.rules.states_compared);
        self.tally.add("entry overwritten", self.rules.overwritten);
        self.tally.add("log truncated", self.rules.truncated);
        self.tally.add("revision", self.rules.commits.len() as u64);
        for host in self.hosts.values() {
            let faults = host.disk.faults();
            self.tally.add("sectors lost", faults.sectors_lost);
            self.tally.add("files torn", faults.files_torn);
            self.tally.add("bits rotten", faults.bits_flipped);
            self.tally.add("read that gave other bytes", faults.misread);
            self.tally.add("refused by a full disk", faults.full);
        }
        Outcome {
            broken,
            hash: self.trace.hash(),
            story: self.trace.lines().to_vec(),
            tally: self.tally,
            seen: self.trace.seen(),
            simulated_us: u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The founding members, all up.
    fn found(&mut self) -> Result<(), Fault> {
        let ids = 1..=self.plan.climate.members;
        let founder = |id| FoundingMember {
            id,
            name: format!("n{id}"),
            peer_urls: vec![format!("http://n{id}:1")],
        };
        let founders: Vec<_> = ids.map(founder).collect();
        for founder in &founders {
            self.add_host(NodeId(founder.id), Some(&founders))?;
        }
        Ok(())
    }

    /// A machine with a member on it, which starts at once.
    fn add_host(&mut self, id: NodeId, founders: Option<&[FoundingMember]>) -> Result<(), Fault> {
        let climate = &self.plan.climate;
        let (drift, wrong) = (climate.drift_ppm, climate.wall_error_s);
        let ppm = self.net.draw(2 * drift + 1).cast_signed() - drift.cast_signed();
        let wall_s = self.net.draw(2 * wrong + 1).cast_signed() - wrong.cast_signed();
        let version = match founders {
            Some(_) => climate.versions.of_founder(id.0 - 1),
            None => Version::Ours,
        };
        let seed = self.plan.seed ^ id.0.rotate_left(29);
        let mut host = Host::new(id, seed, Clock::new(ppm, wall_s), version);
        host.found(climate, founders).map_err(|what| ("founding", what))?;
        host.named = founders.is_some();
        self.post(self.now, Happening::Publishes(id));
        self.hosts.insert(id, host);
        self.restart(id)
    }

    pub(crate) fn post(&mut self, at: Duration, what: Happening) {
        self.agenda.insert((at.max(self.now), self.next), what);
        self.next += 1;
    }

    /// Has something happen within the process that runs on a host now.
    pub(crate) fn post_within(&mut self, id: NodeId, at: Duration, what: What) {
        let incarnation = self.hosts[&id].incarnation;
        self.post(at, Happening::Within(id, incarnation, what));
    }

    pub(crate) fn draw_us(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.net.draw(most + 1))
    }

    fn next_event(&mut self) -> Result<(), Fault> {
        let Some(((at, number), what)) = self.agenda.pop_first() else {
            return Err(("liveness", "nothing will ever happen again".to_owned()));
        };
        if number > EVENTS_MAX {
            return Err(("liveness", format!("more than {EVENTS_MAX} events")));
        }
        // What was to happen while the world slept happens now.
        let at = at.max(self.now);
        self.now = at;
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.trace.mix(&[nanos, number]);
        self.look_around();
        let done = self.happens(what);
        self.look_around();
        done
    }

    fn happens(&mut self, what: Happening) -> Result<(), Fault> {
        match what {
            Happening::Planned(planned) => match self.plan.events[planned].event.clone() {
                Event::Ask { client, at, ask } => self.ask(client, at, ask),
                Event::Watch { at, wish } => self.watch(at, wish),
                Event::Fault(fault) => self.befall(fault),
            },
            Happening::WatcherConnects(number) => self.watcher_connects(number),
            Happening::WatcherReads(number, connection) => self.watcher_reads(number, connection),
            Happening::OperatorLooks => self.operator_looks(),
            Happening::Publishes(id) => self.publishes(id),
            Happening::Rejoins(id) => {
                self.net.rejoin(id);
                Ok(())
            }
            Happening::Arrives(sent) => self.arrives(sent),
            Happening::Within(id, incarnation, what) => self.within(id, incarnation, what),
            Happening::SnapshotArrives(crossing) => self.snapshot_arrives(*crossing),
            Happening::Restart(id) => self.restart(id),
            Happening::Answered(op) => {
                self.answered(op);
                Ok(())
            }
            Happening::GivesUp(op) => {
                self.gives_up(op);
                Ok(())
            }
            Happening::Room(id) => {
                self.room(id);
                Ok(())
            }
        }
    }

    fn restart(&mut self, id: NodeId) -> Result<(), Fault> {
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        if host.is_up() || host.removed || host.damaged {
            return Ok(());
        }
        let misread = host.disk.faults().misread;
        let booted = host.boot(self.now, &self.plan.climate, self.plan.seed, self.mutants);
        let misread = host.disk.faults().misread > misread;
        self.tally.add("misread at start", u64::from(misread));
        match booted {
            Ok(()) => {
                self.tally.count("start");
                self.trace.tell(self.now, format_args!("n{:x} starts", id.0));
                self.checked(id)?;
                self.post_within(id, self.now, What::Flush);
                let chores = self.draw_us(self.plan.climate.checkpoint_us);
                self.post_within(id, self.now + chores, What::Chores);
                Ok(())
            }
            Err(BootFailure::Disk(reason)) => {
                self.trace.tell(self.now, format_args!("n{:x} cannot start: {reason}", id.0));
                self.hosts[&id].disk.kill();
                self.post(self.now + Duration::from_secs(1), Happening::Restart(id));
                Ok(())
            }
            Err(BootFailure::Damaged(reason)) if misread => {
                // The disk is as it should be: another look shows it.
                self.trace.tell(self.now, format_args!("n{:x} cannot start: {reason}", id.0));
                self.hosts[&id].disk.kill();
                self.post(self.now + Duration::from_secs(1), Happening::Restart(id));
                Ok(())
            }
            Err(BootFailure::Damaged(reason)) if self.rotten(id) => {
                self.tally.count("damage refused");
                self.trace.tell(self.now, format_args!("n{:x} refuses to start: {reason}", id.0));
                self.lose(id);
                Ok(())
            }
            Err(BootFailure::Damaged(what)) => Err(("a log without rot is not damaged", what)),
            Err(BootFailure::Broken(what)) => Err(("a member comes back as it was", what)),
        }
    }

    fn rotten(&self, id: NodeId) -> bool {
        self.hosts[&id].disk.faults().bits_flipped > 0
    }

    /// The member that leads, as it believes itself, of the highest term.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leads = |host: &&Host| host.raft().is_some_and(|raft| raft.role() == RoleKind::Leader);
        let leaders = self.hosts.values().filter(leads);
        leaders.max_by_key(|host| host.raft().map(raft::Raft::term)).map(|host| host.id)
    }

    /// Takes all faults away.
    fn heal_all(&mut self) {
        self.trace.tell(self.now, format_args!("everything is healed"));
        self.net.heal();
        self.healed = true;
        let climate = &mut self.plan.climate;
        (climate.loss_one_in, climate.duplicate_one_in, climate.late_one_in) = (0, 0, 0);
        climate.sync_us.1 = climate.sync_us.1.min(10_000);
        climate.doors.read_us = climate.doors.read_us.min(5_000);
        self.post(self.now, Happening::OperatorLooks);
        let ids: Vec<NodeId> = self.hosts.keys().copied().collect();
        for id in ids {
            let Some(host) = self.hosts.get_mut(&id) else { continue };
            host.paused_until = host.paused_until.min(self.now);
            host.slow_disk = (Duration::ZERO, 0);
            host.disk.set_capacity_bytes(None);
            if !host.is_up() {
                self.post(self.now, Happening::Restart(id));
            }
        }
    }

    /// A healed cluster serves, all its members come to the same state, and leases that nobody keeps alive end.
    fn converge(&mut self) -> Result<(), Fault> {
        let deadline = self.now + CONVERGE_WITHIN;
        let mut asked = None;
        let mut left = 0;
        loop {
            if let Some(op) = asked.filter(|&op| self.clients.is_over(op)) {
                if self.clients.succeeded(op) {
                    left = self.leases()?;
                    if left == 0 && self.agree()? {
                        self.tally.count("converged");
                        return self.watchers_end(deadline);
                    }
                } else {
                    asked = None;
                }
            }
            if asked.is_none() {
                asked = self.probe();
            }
            if self.now > deadline {
                let rule = if left == 0 { "liveness" } else { "a lease ends" };
                return Err((rule, self.standings()));
            }
            self.next_event()?;
        }
    }

    fn standings(&self) -> String {
        let of = |host: &Host| match &host.process {
            Some(process) => format!("n{:x}: {:?}", host.id.0, process.core.standing()),
            None => format!("n{:x}: down", host.id.0),
        };
        let all: Vec<String> = self.hosts.values().map(of).collect();
        format!("healed, and not recovered within {CONVERGE_WITHIN:?}: {}", all.join("; "))
    }

    /// How many leases there are, as the leader has it; 1 if nobody leads.
    fn leases(&mut self) -> Result<usize, Fault> {
        let leader = self.leader().and_then(|leader| self.process(leader));
        let Some(process) = leader else { return Ok(1) };
        let leases = etcd::leases(&process.core.machine().view());
        leases.map(|leases| leases.len()).map_err(|error| ("leases", error.to_string()))
    }

    /// Whether all members have applied the same; if so, their states must be the same.
    fn agree(&mut self) -> Result<bool, Fault> {
        if self.repair.is_some() {
            return Ok(false);
        }
        let Some(leader) = self.leader() else { return Ok(false) };
        let Some(raft) = self.hosts[&leader].raft() else { return Ok(false) };
        let members = raft.membership().members();
        let mut states = Vec::new();
        for member in members {
            let Some(host) = self.hosts.get(&NodeId(member.get())) else {
                // Whoever asked for it was not told that it was added; the list of members says so.
                self.joined(NodeId(member.get()));
                return Ok(false);
            };
            if host.damaged {
                continue;
            }
            let Some(process) = &host.process else { return Ok(false) };
            states.push((host.id, process.core.machine().view()));
        }
        let (first, rest) = states.split_first().ok_or(("liveness", "no members".to_owned()))?;
        if rest.iter().any(|(_, view)| view.applied().index != first.1.applied().index) {
            return Ok(false);
        }
        let hash = |view: &View| view.hash().map_err(|error| ("hash", error.to_string()));
        let expected = hash(&first.1)?;
        for (id, view) in rest {
            let found = hash(view)?;
            if found != expected {
                let what = format!("n{:x} has {found:?}, n{:x} {expected:?}", id.0, first.0.0);
                return Err(("same state", what));
            }
        }
        Ok(true)
    }
}
