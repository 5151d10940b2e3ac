//! From settings to a running node.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use env::{Disk as _, RealDisk};
use etcd::{FoundingMember, Machine};
use raft::{Raft, ReplicaId};
use storage::log::{Log, Recovered};
use storage::{DataDir, DataDirError, Identity};
use store::{NodeId, RangeId, Store};
use tokio::sync::oneshot;

use super::aside;
use super::clock::Clock;
use super::core_thread::{Checkpoints, CoreThread, Ended, Waiting};
use super::log_thread::{self, LogThreads};
use super::peers::FromPeers;
use super::queue::queue;
use super::ranges::{self, RangesFound};
use super::restore::refuse_unfinished;
use super::snapshots::{Outgoing, Receiving, Snapshots};
use super::{Event, Inbox, Limit, checkpoint, force};
use crate::Engine;
use crate::boot::{self, BootError, LivenessLog};
use crate::config::{Config, InitialState};
use crate::core::{Core, CoreConfig, Standing};
use crate::engines::{Engines, EnginesError};
use crate::handle::{Handle, Shared};
use crate::metrics::Metrics;
use crate::transport::hello::DescribedMember;
use crate::transport::{self, Transport};

/// How long a member that joins asks the others who they are before it gives up.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a member that joins waits until those whom it asks know it, and how often it asks.
const KNOWN_TIMEOUT: Duration = Duration::from_secs(5);
const KNOWN_POLL: Duration = Duration::from_millis(100);

/// How long each of the other founders may take to say whether this member has lived before.
const SECOND_LIFE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot work.
    #[error("{0}")]
    Config(String),
    /// A peer URL cannot be listened on.
    #[error("{0}")]
    Listen(String),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error("the log cannot be opened: {0}")]
    Log(String),
    /// The state engine.
    #[error("the state cannot be opened: {0}")]
    Engines(#[from] EnginesError),
    /// Log and state do not fit together.
    #[error("the data directory is damaged: {0}")]
    Damaged(String),
    /// The data are another program's.
    #[error("{0}")]
    OfEtcd(String),
    /// The cluster to be joined.
    #[error("cannot join the cluster: {0}")]
    Join(String),
    /// Threads and sockets.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A running node. Dropping it does not stop it: [`Node::stop`] does.
pub struct Node {
    handle: Handle,
    ended: Mutex<Option<oneshot::Receiver<Ended>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Stops the peer runtime when it is dropped.
    peers: Mutex<Option<oneshot::Sender<()>>>,
    _data: DataDir<RealDisk>,
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to.
    Stopped,
    /// The member was removed from the cluster.
    Removed,
    /// It could not go on; this is why.
    Failed(String),
}

impl From<BootError> for StartError {
    fn from(error: BootError) -> StartError {
        match error {
            BootError::Damaged(reason) => StartError::Damaged(reason),
            BootError::Log(reason) => StartError::Log(reason),
        }
    }
}

impl Node {
    /// Starts a node and returns once it is up; it may not know a leader yet.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config) -> Result<Node, StartError> {
        config.validate_limits().map_err(StartError::Config)?;
        let mut data = DataDir::open(RealDisk, &config.data_dir)?;
        refuse_unfinished(&data)?;
        refuse_etcd(&data)?;
        let identity = match data.identity() {
            Some(identity) => identity,
            None => found(config, &mut data)?,
        };
        let engines = Arc::new(Engines::open(&data.engine_dir(), config.engine_cache_bytes)?);
        let listeners = transport::bind(&config.listen_peer_urls).map_err(StartError::Listen)?;
        let parts = restore(config, &data, &engines, identity)?;
        run(config, data, engines, identity, listeners, parts)
    }

    /// The way in for the door.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the node has ended, of itself or by [`Node::stop`].
    pub async fn ended(&self) -> Outcome {
        let ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(ended) = ended else { return Outcome::Stopped };
        match ended.await {
            Ok(Ended::Stopped) => Outcome::Stopped,
            Ok(Ended::Removed) => Outcome::Removed,
            Ok(Ended::Fatal(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed("the core thread panicked".to_owned()),
        }
    }

    /// Stops the node: everything acknowledged is in the log. Blocks until its threads are done.
    pub fn stop(&self) {
        self.handle.inbox.send(Event::Stop);
        drop(self.peers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        let threads = std::mem::take(
            &mut *self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn replica(id: u64) -> Result<ReplicaId, StartError> {
    ReplicaId::new(id).ok_or_else(|| StartError::Damaged("a member with id 0".to_owned()))
}

/// The mark of a first start that is under way.
const FOUNDING: &str = "founding";

/// A member's first start: it founds the cluster together with the others, or joins it.
///
/// The directory is marked first and claimed last, when log and state are in place. A start that
/// is interrupted in between is begun anew; a directory with data but neither mark nor identity
/// was damaged, and is left alone.
fn found(config: &Config, data: &mut DataDir<RealDisk>) -> Result<Identity, StartError> {
    config.validate().map_err(StartError::Config)?;
    if config.initial_state == InitialState::New {
        let (_, identity) = founding_identity(config)?;
        refuse_second_life(config, identity)?;
    }
    let mark = data.path().join(FOUNDING);
    let log = log_dir(config, data);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { path, source }
    };
    let holds_data =
        |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    if !mark.exists() && (holds_data(&log) || holds_data(&data.engine_dir())) {
        return Err(StartError::Damaged(format!(
            "{} holds data, but does not say whose: its file `identity` is gone. Restore it, or \
             move the directory away and let the member join anew",
            data.path().display()
        )));
    }
    fs::File::create(&mark).and_then(|file| file.sync_all()).map_err(io(&mark))?;
    RealDisk.sync_dir(data.path()).map_err(io(data.path()))?;
    for path in [&log, &data.engine_dir(), &ranges::engine_dir(data)] {
        match fs::remove_dir_all(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(path)(source).into());
            }
            _ => {}
        }
    }
    let identity = match config.initial_state {
        InitialState::New => {
            let (members, identity) = founding_identity(config)?;
            let engines = Engines::open(&data.engine_dir(), config.engine_cache_bytes)?;
            boot::write_founding_state(Arc::new(engines.stage()?), &config.limits, &members)?;
            engines.install();
            ranges::found(config, data, ranges::membership(&members)?)?;
            identity
        }
        InitialState::Existing => {
            let identity = join(config)?;
            let engines = Engines::open(&data.engine_dir(), config.engine_cache_bytes)?;
            drop(engines.stage()?);
            engines.install();
            identity
        }
    };
    make_log(config, data, identity)?;
    data.claim(identity)?;
    fs::remove_file(&mark).map_err(io(&mark))?;
    Ok(identity)
}

/// Makes an empty log.
pub(super) fn make_log(
    config: &Config,
    data: &DataDir<RealDisk>,
    identity: Identity,
) -> Result<(), StartError> {
    let (log, _) = open_log(config, data, identity)?;
    log.close().map_err(|error| StartError::Log(error.to_string()))
}

fn open_log(
    config: &Config,
    data: &DataDir<RealDisk>,
    identity: Identity,
) -> Result<(Log<RealDisk>, Recovered), StartError> {
    let options =
        storage::log::Options { log_id: identity.member_id, ..storage::log::Options::default() };
    Log::open(RealDisk, &log_dir(config, data), options)
        .map_err(|error| StartError::Log(error.to_string()))
}

fn log_dir(config: &Config, data: &DataDir<RealDisk>) -> PathBuf {
    config.log_dir.clone().unwrap_or_else(|| data.log_dir())
}

/// The members that found the cluster of these settings, and which of them this one is.
pub(super) fn founding_identity(
    config: &Config,
) -> Result<(Vec<FoundingMember>, Identity), StartError> {
    let members = config.initial_cluster.iter().map(|(name, urls)| FoundingMember {
        id: etcd::member_id(urls, &config.initial_cluster_token, None),
        name: name.clone(),
        peer_urls: urls.clone(),
    });
    let members: Vec<_> = members.collect();
    let ids: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    let own = members.iter().find(|member| member.name == config.name);
    let own = own.ok_or_else(|| StartError::Config("not a member".to_owned()))?;
    // Members that would found it with other numbers of ranges do not speak with each other.
    let cluster_id = etcd::cluster_id(&ids) ^ config.ranges.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let identity = Identity { cluster_id, member_id: own.id };
    Ok((members, identity))
}

/// A data directory of etcd's is not founded anew beside what is in it.
fn refuse_etcd(data: &DataDir<RealDisk>) -> Result<(), StartError> {
    let database = data.path().join("member/snap/db");
    if data.identity().is_some() || !database.exists() {
        return Ok(());
    }
    Err(StartError::OfEtcd(format!(
        "{} is the data directory of an etcd, and is left as it is: `quorate snapshot restore {} \
         --skip-hash-check --data-dir ANOTHER` takes its data over, once that etcd has stopped",
        data.path().display(),
        database.display()
    )))
}

/// Where the other members are that `--initial-cluster` names.
fn others(config: &Config) -> Vec<String> {
    config
        .initial_cluster
        .iter()
        .filter(|(name, _)| **name != config.name)
        .flat_map(|(_, urls)| urls)
        .filter_map(|url| transport::address_of(url).ok())
        .collect()
}

/// A member that comes with an empty directory, and that the others know as one that has served, or, if it founds,
/// that is not of them any more, has lost what it promised: votes, entries it acknowledged, support. It could vote
/// twice, and what a quorum acknowledged be gone. Of the others, those that run are asked, each of them, for one may
/// have missed what another knows; in a cluster that is being founded none does.
///
/// Caveat: if none runs that knows it, nobody can say.
fn refuse_second_life(config: &Config, identity: Identity) -> Result<(), StartError> {
    let others = others(config);
    if others.is_empty() {
        return Ok(());
    }
    let founds = config.initial_state == InitialState::New;
    for address in others {
        let Some((cluster_id, members)) = ask_member(&address)? else { continue };
        if cluster_id != identity.cluster_id {
            continue;
        }
        let known = members.iter().find(|member| member.id == identity.member_id);
        let what = match known {
            Some(member) if member.started => "has already been bootstrapped",
            // Whoever joins may not be known everywhere yet.
            None if founds => "was removed",
            _ => continue,
        };
        return Err(second_life(config, identity.member_id, what, &address));
    }
    Ok(())
}

/// Asks the member at this address who the members are, if it runs: (cluster, members). One that has just started may
/// have to go through its log first.
fn ask_member(address: &String) -> Result<Option<(u64, Vec<DescribedMember>)>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let deadline = Instant::now() + KNOWN_TIMEOUT;
    loop {
        let asked = runtime.block_on(async {
            let described = transport::describe(std::slice::from_ref(address));
            tokio::time::timeout(SECOND_LIFE_TIMEOUT, described).await
        });
        let Ok(Ok((cluster_id, members))) = asked else { return Ok(None) };
        if !members.is_empty() {
            return Ok(Some((cluster_id, members)));
        }
        if Instant::now() >= deadline {
            tracing::warn!(address, "does not say who the members are, having just started");
            return Ok(None);
        }
    }
}

fn second_life(config: &Config, id: u64, what: &str, witness: &str) -> StartError {
    let name = &config.name;
    StartError::Join(format!(
        "member {id:x} ({name}) {what}, says {witness}, and its data directory is empty: what it had promised is \
         lost, so it cannot take that place again. Restore its data; or remove it (`quorate member remove \
         {id:x}`), add it (`quorate member add {name} --peer-urls=...`), and start it with \
         --initial-cluster-state existing"
    ))
}

/// Asks the members of the cluster who they are: (cluster, members).
fn ask_members(config: &Config) -> Result<(u64, Vec<DescribedMember>), StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let others = others(config);
    if others.is_empty() {
        return Err(StartError::Join(
            "--initial-cluster names no other member: give it as `member add` has printed it"
                .to_owned(),
        ));
    }
    let deadline = Instant::now() + JOIN_TIMEOUT;
    loop {
        match runtime.block_on(transport::describe(&others)) {
            Ok(described) => return Ok(described),
            Err(error) if Instant::now() >= deadline => {
                return Err(StartError::Join(format!(
                    "none of {others:?} answers ({error}): check --initial-cluster, and that a \
                     member of the cluster runs"
                )));
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for a member of the cluster");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }
}

/// Finds out which member of the cluster this one is.
///
/// Whoever is asked may not have applied the addition yet that another member has acknowledged. So a member that is
/// not known yet asks again for a while.
fn join(config: &Config) -> Result<Identity, StartError> {
    let deadline = Instant::now() + KNOWN_TIMEOUT;
    let mut told = false;
    loop {
        let (cluster_id, members) = ask_members(config)?;
        let own: BTreeSet<&String> = config.advertise_peer_urls.iter().collect();
        let me = members.iter().find(|m| m.peer_urls.iter().collect::<BTreeSet<_>>() == own);
        let Some(me) = me else {
            if Instant::now() >= deadline {
                return Err(unknown_member(config));
            }
            if !told {
                tracing::warn!("waiting to be known to the cluster");
                told = true;
            }
            std::thread::sleep(KNOWN_POLL);
            continue;
        };
        if !me.name.is_empty() && me.name != config.name {
            return Err(StartError::Join(format!(
                "the member with these peer URLs has started already, as {}",
                me.name
            )));
        }
        let identity = Identity { cluster_id, member_id: me.id };
        let refused = match me.started {
            true => Err(second_life(config, me.id, "has already been bootstrapped", "the cluster")),
            false => refuse_second_life(config, identity),
        };
        match refused {
            // Whoever says so may not have applied yet that it was removed, and added anew.
            Err(_) if Instant::now() < deadline => std::thread::sleep(KNOWN_POLL),
            refused => return refused.map(|()| identity),
        }
    }
}

fn unknown_member(config: &Config) -> StartError {
    StartError::Join(format!(
        "the cluster has no member with the peer URLs {:?}: run `quorate member add {} \
         --peer-urls={}` first",
        config.advertise_peer_urls,
        config.name,
        config.advertise_peer_urls.join(",")
    ))
}

/// What was on disk, fit together.
struct Parts {
    log: Log<RealDisk>,
    liveness: LivenessLog,
    core: Core<Engine>,
}

fn restore(
    config: &Config,
    data: &DataDir<RealDisk>,
    engines: &Engines,
    identity: Identity,
) -> Result<Parts, StartError> {
    let state = engines.recover(mvcc_limits(config))?.ok_or_else(|| {
        StartError::Damaged(format!("{} holds no state", data.engine_dir().display()))
    })?;
    let (mut log, mut recovered) = open_log(config, data, identity)?;
    if recovered.created {
        return Err(StartError::Damaged(format!(
            "the log in {} is gone, and with it what this member has promised: remove the \
             member from the cluster and let it join anew",
            log_dir(config, data).display()
        )));
    }
    if recovered.torn {
        tracing::info!("writes that were under way at the last crash were cut from the log");
    }
    let (liveness, record) = LivenessLog::open(&log, &mut recovered.groups)?;
    let group = RangeId::DENSE.group();
    let found = recovered.groups.remove(&group).unwrap_or_default();
    let mut restored = boot::reconcile(&mut log, group, found, &state)?;
    let own = replica(identity.member_id)?;
    let seed = process_seed(identity.member_id);
    let machine_config =
        etcd::Config { member_id: identity.member_id, limits: config.limits.clone(), seed };
    let mut machine = Machine::open(state, machine_config.clone());
    if config.force_new_cluster {
        restored = force::alone(&mut log, group, restored, &mut machine, own)?;
    }
    let raft_config = raft::Config {
        election_timeout: config.election_timeout,
        heartbeat_interval: config.heartbeat_interval,
        pre_vote: config.pre_vote,
        fortify: true,
        uncommitted_bytes_max: config.uncommitted_bytes_max,
        ..raft::Config::new(own, seed)
    };
    let groups = &mut recovered.groups;
    let ranges = ranges::restore(config, data, &mut log, groups, &raft_config, &machine_config)?;
    let raft = Raft::new(Duration::ZERO, raft_config, restored)
        .map_err(|error| StartError::Damaged(error.to_string()))?;
    let core_config = CoreConfig {
        node: NodeId(identity.member_id),
        request_timeout: config.request_timeout,
        catchup_entries: config.snapshot_catchup_entries,
        range_catchup_entries: config.range_catchup_entries.min(config.snapshot_catchup_entries),
        pinned_bytes_max: config.snapshot_pinned_bytes_max,
        process: process_number(seed),
        entry_bytes_max: storage::log::Options::default().entry_bytes_max(),
        apply_at_once: config.apply_at_once,
        reads: config.reads,
    };
    let store = Store::open(Duration::ZERO, core_config.node, store_config(config), record)
        .map_err(|error| StartError::Config(error.to_owned()))?;
    let mut core = Core::on(store, core_config, raft, machine);
    if let Some(RangesFound { config, rafts }) = ranges {
        core.host(config, rafts).map_err(|error| StartError::Damaged(error.to_string()))?;
    }
    Ok(Parts { log, liveness, core })
}

/// A store is given up for gone somewhat before a leader's silence would end in an election.
fn store_config(config: &Config) -> store::Config {
    let support_duration = config.election_timeout * 7 / 10;
    let liveness = store::liveness::Config {
        heartbeat_interval: config.heartbeat_interval,
        support_duration,
        drift_margin: support_duration / 100,
        ..store::liveness::Config::default()
    };
    store::Config { liveness: Some(liveness), ..store::Config::default() }
}

pub(super) fn mvcc_limits(config: &Config) -> mvcc::Limits {
    mvcc::Limits { collect_changes: config.compaction_batch, ..mvcc::Limits::default() }
}

/// Different at every start and on every member: ids of leases and the jitter of elections.
fn process_seed(member_id: u64) -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    member_id ^ since.as_secs().rotate_left(32) ^ u64::from(since.subsec_nanos())
}

/// Of `seed`, 31 bits to which all of it has contributed (the finalizer of SplitMix64).
fn process_number(seed: u64) -> u32 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap_or(0)
}

fn shared(
    config: &Config,
    identity: Identity,
    state: &mvcc::State<Engine>,
    metrics: &Arc<Metrics>,
) -> Shared {
    Shared {
        cluster_id: identity.cluster_id,
        node: NodeId(identity.member_id),
        limits: config.limits.clone(),
        election_timeout: config.election_timeout,
        reader: ArcSwap::from_pointee(state.reader()),
        engine: ArcSwap::new(Arc::clone(state.engine())),
        standing: ArcSwap::from_pointee(Standing::default()),
        feeds: Mutex::default(),
        in_flight: Limit::new(config.requests_in_flight_max),
        metrics: Arc::clone(metrics),
    }
}

fn run(
    config: &Config,
    data: DataDir<RealDisk>,
    engines: Arc<Engines>,
    identity: Identity,
    listeners: Vec<TcpListener>,
    parts: Parts,
) -> Result<Node, StartError> {
    let node = NodeId(identity.member_id);
    let Parts { log, liveness, core } = parts;
    let (inbox, events) = Inbox::new(Clock::start());
    let metrics = Arc::new(Metrics::new());
    let shared = Arc::new(shared(config, identity, core.machine().state(), &metrics));
    let mut threads = Vec::new();
    let (runtime, peers_stop, peers_thread) = peer_runtime()?;
    threads.push(peers_thread);
    let receiving = Arc::new(Receiving::new(
        (runtime.clone(), inbox.clone()),
        Arc::clone(&engines),
        mvcc_limits(config),
        Arc::clone(&metrics),
    ));
    let from_peers = Arc::new(FromPeers {
        inbox: inbox.clone(),
        shared: Arc::clone(&shared),
        receiving: Arc::clone(&receiving),
        committed_at_start: core.standing().committed,
    });
    let transport_identity = transport::Identity {
        cluster_id: identity.cluster_id,
        node,
        instance: process_seed(identity.member_id),
    };
    let transport = {
        let sent = metrics.sent.clone();
        Transport::start(transport_identity, listeners, from_peers, runtime.clone(), sent)?
    };
    transport.set_peers(&known_peers(config, core.machine())?);

    let (jobs, job_queue) = crossbeam_channel::unbounded();
    let current = {
        let shared = Arc::clone(&shared);
        move || shared.engine.load_full()
    };
    threads.push(checkpoint::spawn(job_queue, inbox.clone(), Arc::clone(&metrics), current)?);
    let log = log_threads((log, liveness), &mut threads, &transport, &inbox, metrics)?;

    let core_thread = CoreThread {
        core,
        clock: inbox.clock,
        events,
        inbox: inbox.clone(),
        shared: Arc::clone(&shared),
        transport,
        log,
        jobs,
        scans: aside::spawn(&inbox, &mut threads)?,
        evaluations: aside::spawn(&inbox, &mut threads)?,
        insertions: aside::spawn(&inbox, &mut threads)?,
        snapshots: Snapshots { runtime, inbox: inbox.clone(), engines, receiving },
        outgoing: Outgoing::default(),
        waiting: Waiting::default(),
        checkpoints: Checkpoints::new(config.checkpoint_bytes, config.checkpoint_interval),
        log_dir: log_dir(config, &data),
        disk_reserve_bytes: config.disk_reserve_bytes,
    };
    let (ended_sender, ended) = oneshot::channel();
    threads.push(core_thread.spawn(move |end| {
        let _ = ended_sender.send(end);
    })?);
    Ok(Node {
        handle: Handle { shared, inbox },
        ended: Mutex::new(Some(ended)),
        threads: Mutex::new(threads),
        peers: Mutex::new(Some(peers_stop)),
        _data: data,
    })
}

/// Starts the log's writer and reader. Their queues are bounded by what they are given for: the
/// proposals under way, and one fetch for each peer.
fn log_threads(
    (log, liveness): (Log<RealDisk>, LivenessLog),
    threads: &mut Vec<JoinHandle<()>>,
    transport: &Arc<Transport>,
    inbox: &Inbox,
    metrics: Arc<Metrics>,
) -> Result<LogThreads, StartError> {
    let (commands, command_queue) = queue();
    let (fetches, fetch_queue) = crossbeam_channel::unbounded();
    threads.push(log_thread::spawn_reader(log.reader(), fetch_queue, inbox.clone())?);
    let transport = Arc::clone(transport);
    let writer = log_thread::spawn_writer(
        (log, liveness),
        command_queue,
        transport,
        inbox.clone(),
        metrics,
    )?;
    threads.push(writer);
    Ok(LogThreads { commands, fetches })
}

/// A tokio runtime on a thread of its own, until the sender is dropped.
fn peer_runtime()
-> Result<(tokio::runtime::Handle, oneshot::Sender<()>, JoinHandle<()>), std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("peers".to_owned()).spawn(move || {
        let _ = runtime.block_on(stopped);
    })?;
    Ok((handle, stop, thread))
}

/// The members' addresses: those in the state, or, for one that has no state yet, those that the
/// others tell, so that it can answer whoever brings the state.
fn known_peers(
    config: &Config,
    machine: &Machine<Engine>,
) -> Result<BTreeMap<NodeId, Vec<String>>, StartError> {
    let members = machine.members().map_err(|error| StartError::Damaged(error.to_string()))?;
    if !members.is_empty() {
        return Ok(crate::core::addresses(members));
    }
    let (_, members) = ask_members(config)?;
    let dial =
        |urls: &[String]| urls.iter().filter_map(|url| transport::address_of(url).ok()).collect();
    Ok(members.iter().map(|member| (NodeId(member.id), dial(&member.peer_urls))).collect())
}
