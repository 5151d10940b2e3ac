//! How a member is set up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::core::Reads;

/// Whether the member starts a cluster or joins one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitialState {
    /// Every member of the initial cluster starts with the same, empty state.
    #[default]
    New,
    /// The cluster is there; this member was added to it and fetches the state.
    Existing,
}

/// The settings of a member. [`Config::single`] is a cluster of one on the default ports.
#[derive(Clone, Debug)]
pub struct Config {
    /// Human-readable name, unique in the cluster.
    pub name: String,
    /// Where everything durable is kept.
    pub data_dir: PathBuf,
    /// Where the log is kept, if not in the data directory.
    pub log_dir: Option<PathBuf>,
    /// URLs on which peers are listened to.
    pub listen_peer_urls: Vec<String>,
    /// URLs at which peers reach this member.
    pub advertise_peer_urls: Vec<String>,
    /// URLs at which clients reach this member, as told to those who ask.
    pub advertise_client_urls: Vec<String>,
    /// The members to begin with: name -> peer URLs. Ignored once the member has a state.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    /// Keeps clusters with the same URLs apart.
    pub initial_cluster_token: String,
    /// Start a cluster or join one. Ignored once the member has a state.
    pub initial_state: InitialState,
    /// Ranges founded beside the one that holds all user data, each with keys and revisions of its own.
    /// Ignored once the member has a state.
    pub ranges: u64,
    /// Make a cluster of one from what this member has: for when the majority is lost for good.
    pub force_new_cluster: bool,
    /// How often a leader is heard from.
    pub heartbeat_interval: Duration,
    /// How long a silent leader is waited for; the wait is drawn from this to twice this.
    pub election_timeout: Duration,
    /// How a leader makes sure that it leads when it is asked to read.
    pub reads: Reads,
    /// Ask whether an election can be won before disturbing anyone.
    pub pre_vote: bool,
    /// How long a request may wait for a leader and for agreement.
    pub request_timeout: Duration,
    /// Requests that may be under way at once; more are refused with "too many requests".
    pub requests_in_flight_max: usize,
    /// Of those, requests that may wait in one range beside the dense one.
    pub range_requests_max: usize,
    /// Entries and changes that a range applies at once: then others have their turn.
    pub apply_at_once: usize,
    /// Bytes of proposals under way; more are refused with "too many requests".
    pub uncommitted_bytes_max: usize,
    /// Bytes of changes kept in memory before they are written to the state engine.
    pub checkpoint_bytes: usize,
    /// At the latest after this long a change is written to the state engine.
    pub checkpoint_interval: Duration,
    /// Entries kept in the log for followers that lag behind a checkpoint.
    pub snapshot_catchup_entries: u64,
    /// The same for each range beside the one that holds all user data, if it is fewer: there may be
    /// many of them, and each entry kept takes 16 bytes of memory beside its place in the log.
    pub range_catchup_entries: u64,
    /// Bytes of log that are kept, beyond that, behind snapshots on their way, for all ranges together:
    /// what a follower will need once it has installed one. With more, it may need another.
    pub snapshot_pinned_bytes_max: usize,
    /// Changes that one step of the collection behind a compaction looks at.
    pub compaction_batch: usize,
    /// Bytes of the file system that must stay free, beside what is in memory and has to be written
    /// yet; with less, writes that make the state grow are refused, and reads and deletions go on.
    /// Enough for a segment of the log, a checkpoint that a crash cut off, and some deletions.
    pub disk_reserve_bytes: u64,
    /// The state engine's cache of pages.
    pub engine_cache_bytes: usize,
    /// Bounds of the API.
    pub limits: etcd::Limits,
}

impl Config {
    /// A cluster of one member that keeps its data in `data_dir`.
    #[must_use]
    pub fn single(data_dir: PathBuf) -> Config {
        let peer = "http://localhost:2380".to_owned();
        Config {
            name: "default".to_owned(),
            data_dir,
            log_dir: None,
            listen_peer_urls: vec![peer.clone()],
            advertise_peer_urls: vec![peer.clone()],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            initial_cluster: BTreeMap::from([("default".to_owned(), vec![peer])]),
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_state: InitialState::New,
            ranges: 0,
            force_new_cluster: false,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            reads: Reads::default(),
            pre_vote: true,
            request_timeout: Duration::from_secs(7),
            requests_in_flight_max: 65_536,
            range_requests_max: 4_096,
            uncommitted_bytes_max: 512 << 20,
            checkpoint_bytes: 32 << 20,
            checkpoint_interval: Duration::from_secs(30),
            snapshot_catchup_entries: 5_000,
            range_catchup_entries: 500,
            snapshot_pinned_bytes_max: 512 << 20,
            apply_at_once: 4096,
            compaction_batch: mvcc::Limits::default().collect_changes,
            disk_reserve_bytes: 96 << 20,
            engine_cache_bytes: 128 << 20,
            limits: etcd::Limits::default(),
        }
    }

    /// What is wrong with the settings, if anything.
    ///
    /// # Errors
    /// The first fault found, in words for the operator.
    pub fn validate(&self) -> Result<(), String> {
        for url in self.listen_peer_urls.iter().chain(&self.advertise_peer_urls) {
            crate::transport::address_of(url)?;
        }
        if self.election_timeout < 5 * self.heartbeat_interval {
            return Err(format!(
                "--election-timeout[{}ms] should be at least as 5 times as \
                 --heartbeat-interval[{}ms]",
                self.election_timeout.as_millis(),
                self.heartbeat_interval.as_millis()
            ));
        }
        if self.ranges > crate::runtime::RANGES_MAX {
            return Err(format!(
                "{} ranges are more than the {} that a cluster may be founded with",
                self.ranges,
                crate::runtime::RANGES_MAX
            ));
        }
        self.validate_initial_cluster()
    }

    /// What is wrong with the bounds of the API, if anything: unlike those of a new cluster they
    /// are looked at whenever a member starts.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn validate_limits(&self) -> Result<(), String> {
        let entry_bytes_max = storage::log::Options::default().entry_bytes_max();
        let etcd::Limits { effects_bytes_max, max_request_bytes, .. } = self.limits;
        if effects_bytes_max > entry_bytes_max - raft::Payload::OVERHEAD_BYTES {
            return Err(format!(
                "effects of {effects_bytes_max} bytes are more than the {entry_bytes_max} of the \
                 longest entry of the log"
            ));
        }
        if self.apply_at_once == 0 {
            return Err("apply_at_once must not be 0: nothing would ever be applied".to_owned());
        }
        let request_bytes_max = self.limits.request_bytes_max();
        if max_request_bytes > request_bytes_max {
            return Err(format!(
                "--max-request-bytes={max_request_bytes} is more than an entry of the log holds: \
                 the most is {request_bytes_max}"
            ));
        }
        Ok(())
    }

    fn validate_initial_cluster(&self) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (name, urls) in &self.initial_cluster {
            if urls.is_empty() {
                return Err(format!("member {name} of --initial-cluster has no URL"));
            }
            for url in urls {
                crate::transport::address_of(url)?;
                if let Some(other) = seen.insert(url, name) {
                    return Err(format!(
                        "--initial-cluster gives {url} to both {other} and {name}"
                    ));
                }
            }
        }
        let Some(own) = self.initial_cluster.get(&self.name) else {
            return Err(format!(
                "couldn't find local name \"{}\" in the initial cluster configuration: add it \
                 to --initial-cluster or set --name to one of {:?}",
                self.name,
                self.initial_cluster.keys().collect::<Vec<_>>()
            ));
        };
        let sorted = |urls: &[String]| {
            let mut urls = urls.to_vec();
            urls.sort();
            urls
        };
        if sorted(own) != sorted(&self.advertise_peer_urls) {
            return Err(format!(
                "--initial-cluster has {}={own:?} but --initial-advertise-peer-urls is {:?}: \
                 they must be the same",
                self.name, self.advertise_peer_urls
            ));
        }
        Ok(())
    }
}
