//! What a member's flags mean, checked as a whole.
//!
//! Everything that can be known to be wrong before a file is touched or a port is bound is found
//! here, with etcd's words where etcd has some. What would be dangerous to ignore (TLS, a proxy
//! mode) is refused; what merely means nothing here is accepted with a warning, so that a member
//! of a running cluster can be replaced without touching its command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::flags::Flags;
use super::url::{self, Url};
use crate::exit::{Exit, Result};
use crate::print::text::parse_duration;

/// Where clients are served if nothing else is said.
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
/// Where peers are served if nothing else is said.
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
/// Heartbeats that must fit into an election timeout.
const HEARTBEATS_PER_ELECTION_MIN: u32 = 5;
/// Longer than this a cluster would seem dead.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(50);
/// Beyond this a single request holds up everyone else's.
const REQUEST_BYTES_RECOMMENDED_MAX: u64 = 10 << 20;

/// Flags that are honoured under the names that they had while etcd called them experimental.
const HONOURED_BY_OLD_NAME: [&str; 3] = [
    "experimental-initial-corrupt-check",
    "experimental-snapshot-catchup-entries",
    "experimental-watch-progress-notify-interval",
];

/// Whether the cluster is being made or joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterState {
    /// All members of `initial_cluster` start for the first time.
    New,
    /// This member was added to a cluster that runs.
    Existing,
}

/// What is forgotten without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AutoCompaction {
    /// Nothing.
    Off,
    /// What is older than this.
    Periodic(Duration),
    /// All but so many revisions.
    Revision(i64),
}

/// How much is said in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogOutput {
    Stderr,
    Stdout,
    File(PathBuf),
}

/// The log of what happens, as opposed to Raft's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logging {
    pub(crate) level: LogLevel,
    /// At least one.
    pub(crate) outputs: Vec<LogOutput>,
    /// One JSON object a line, or text for people.
    pub(crate) json: bool,
}

/// The bounds of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Entries kept for slow followers after a snapshot.
    pub(crate) snapshot_catchup_entries: u64,
    /// Ranges founded beside the one that holds all keys.
    pub(crate) ranges: u64,
    /// How a leader makes sure that it leads before a linearizable read.
    pub(crate) reads: node::Reads,
    /// Size of the database beyond which writes are refused.
    pub(crate) quota_bytes: Option<u64>,
    /// Most operations of a transaction.
    pub(crate) txn_ops_max: usize,
    /// Most bytes of a request.
    pub(crate) request_bytes_max: usize,
    /// Most concurrent calls on one client connection.
    pub(crate) concurrent_streams_max: u32,
    /// Changes looked at in one step of a compaction, if not as many as usual.
    pub(crate) compaction_batch: Option<usize>,
}

/// A member that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartConfig {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    /// Where the Raft log is, if not in the data directory.
    pub(crate) wal_dir: Option<PathBuf>,
    /// Where snapshots for clients are made: a directory for nothing else.
    pub(crate) snapshot_dir: PathBuf,
    pub(crate) listen_client_urls: Vec<Url>,
    pub(crate) advertise_client_urls: Vec<Url>,
    /// Where HTTP without gRPC is served; empty: with gRPC.
    pub(crate) listen_client_http_urls: Vec<Url>,
    pub(crate) listen_peer_urls: Vec<Url>,
    pub(crate) advertise_peer_urls: Vec<Url>,
    pub(crate) listen_metrics_urls: Vec<Url>,
    /// The first members by name, this one included, each with its peer URLs.
    pub(crate) initial_cluster: BTreeMap<String, Vec<Url>>,
    pub(crate) cluster_token: String,
    pub(crate) cluster_state: ClusterState,
    pub(crate) force_new_cluster: bool,
    pub(crate) strict_reconfig_check: bool,
    pub(crate) pre_vote: bool,
    pub(crate) initial_corrupt_check: bool,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) election_timeout: Duration,
    pub(crate) auto_compaction: AutoCompaction,
    pub(crate) progress_notify_interval: Duration,
    pub(crate) limits: Limits,
    pub(crate) logging: Logging,
    /// Whether histograms are among the metrics.
    pub(crate) extensive_metrics: bool,
    /// What was accepted and means nothing here.
    pub(crate) warnings: Vec<String>,
}

/// Whose defaults count where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// `quorate start`.
    Quorate,
    /// Run under the name `etcd`.
    Etcd,
}

impl StartConfig {
    /// What the flags mean.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub(crate) fn new(flags: &Flags, manner: Manner) -> Result<Self> {
        Self::build(flags, manner).map_err(Exit::failed)
    }

    fn build(flags: &Flags, manner: Manner) -> std::result::Result<Self, String> {
        refuse_tls(flags)?;
        let name = flags.name.clone().unwrap_or_else(|| "default".into());
        let data_dir = flags.data_dir.clone().unwrap_or_else(|| match manner {
            Manner::Quorate => "quorate.data".into(),
            Manner::Etcd => format!("{name}.etcd"),
        });
        let listen_client_urls =
            urls("listen-client-urls", &flags.listen_client_urls, DEFAULT_CLIENT_URL)?;
        let advertise_client_urls = advertised_client_urls(flags, &listen_client_urls, manner)?;
        let listen_peer_urls = urls("listen-peer-urls", &flags.listen_peer_urls, DEFAULT_PEER_URL)?;
        let advertise_peer_urls = urls(
            "initial-advertise-peer-urls",
            &flags.initial_advertise_peer_urls,
            DEFAULT_PEER_URL,
        )?;
        let cluster_state = match flags.initial_cluster_state.as_deref() {
            None | Some("new") => ClusterState::New,
            Some("existing") => ClusterState::Existing,
            Some(other) => {
                return Err(format!(
                    "invalid value {other:?} for --initial-cluster-state: it is new, or existing for \
                     a member that was added to a running cluster"
                ));
            }
        };
        let initial_cluster = initial_cluster(flags, &name, &advertise_peer_urls)?;
        let (heartbeat_interval, election_timeout) = timing(flags)?;
        let mut warnings: Vec<String> = flags
            .without_meaning()
            .iter()
            .filter(|(flag, _)| !HONOURED_BY_OLD_NAME.contains(flag))
            .map(|(flag, value)| format!("--{flag}={value} means nothing here and is ignored"))
            .collect();
        let limits = limits(flags, &mut warnings)?;
        Ok(Self {
            snapshot_dir: snapshot_dir(flags, &data_dir),
            data_dir: data_dir.into(),
            wal_dir: flags.wal_dir.clone().filter(|dir| !dir.is_empty()).map(PathBuf::from),
            listen_client_urls,
            advertise_client_urls,
            listen_client_http_urls: optional_urls(
                "listen-client-http-urls",
                &flags.listen_client_http_urls,
            )?,
            listen_peer_urls,
            advertise_peer_urls,
            listen_metrics_urls: optional_urls("listen-metrics-urls", &flags.listen_metrics_urls)?,
            initial_cluster,
            cluster_token: flags
                .initial_cluster_token
                .clone()
                .unwrap_or_else(|| "etcd-cluster".into()),
            cluster_state,
            force_new_cluster: flags.force_new_cluster.unwrap_or(false),
            strict_reconfig_check: flags.strict_reconfig_check.unwrap_or(true),
            pre_vote: flags.pre_vote.unwrap_or(true),
            initial_corrupt_check: initial_corrupt_check(flags),
            heartbeat_interval,
            election_timeout,
            auto_compaction: auto_compaction(flags)?,
            progress_notify_interval: progress_interval(flags)?,
            limits,
            logging: logging(flags)?,
            extensive_metrics: extensive_metrics(flags)?,
            warnings,
            name,
        })
    }
}

/// A directory of its own in the one that was named, for what is in it is removed.
fn snapshot_dir(flags: &Flags, data_dir: &str) -> PathBuf {
    match flags.snapshot_dir.as_deref() {
        None | Some("") => PathBuf::from(data_dir).join("snapshots"),
        Some(dir) => PathBuf::from(dir).join("quorate-snapshots"),
    }
}

/// Serving without TLS where TLS was asked for would expose what was to be hidden.
fn refuse_tls(flags: &Flags) -> std::result::Result<(), String> {
    let given = |file: &Option<String>| file.as_deref().is_some_and(|file| !file.is_empty());
    let asked = [
        ("cert-file", given(&flags.cert_file)),
        ("key-file", given(&flags.key_file)),
        ("trusted-ca-file", given(&flags.trusted_ca_file)),
        ("client-crl-file", given(&flags.client_crl_file)),
        ("peer-cert-file", given(&flags.peer_cert_file)),
        ("peer-key-file", given(&flags.peer_key_file)),
        ("peer-trusted-ca-file", given(&flags.peer_trusted_ca_file)),
        ("client-cert-auth", flags.client_cert_auth == Some(true)),
        ("peer-client-cert-auth", flags.peer_client_cert_auth == Some(true)),
        ("auto-tls", flags.auto_tls == Some(true)),
        ("peer-auto-tls", flags.peer_auto_tls == Some(true)),
    ];
    if let Some((flag, _)) = asked.iter().find(|(_, asked)| *asked) {
        return Err(format!("--{flag}: TLS is not served yet, and serving without it is refused"));
    }
    match flags.auth_token.as_deref() {
        None | Some("simple" | "") => {}
        Some(other) => return Err(format!("--auth-token={other}: only simple tokens are served")),
    }
    match flags.proxy.as_deref() {
        None | Some("off" | "") => Ok(()),
        Some(other) => Err(format!("--proxy={other}: there is no proxy mode")),
    }
}

fn urls(
    flag: &str,
    given: &Option<String>,
    default: &str,
) -> std::result::Result<Vec<Url>, String> {
    let urls =
        url::list(given.as_deref().unwrap_or(default)).map_err(|e| format!("--{flag}: {e}"))?;
    match urls.iter().find(|url| url.tls) {
        Some(url) => Err(format!("--{flag}: {url}: TLS is not served yet")),
        None => Ok(urls),
    }
}

fn optional_urls(flag: &str, given: &Option<String>) -> std::result::Result<Vec<Url>, String> {
    match given.as_deref() {
        None | Some("") => Ok(Vec::new()),
        Some(_) => urls(flag, given, ""),
    }
}

fn advertised_client_urls(
    flags: &Flags,
    listen: &[Url],
    manner: Manner,
) -> std::result::Result<Vec<Url>, String> {
    match (&flags.advertise_client_urls, &flags.listen_client_urls) {
        (Some(_), _) => urls("advertise-client-urls", &flags.advertise_client_urls, ""),
        (None, Some(_)) if manner == Manner::Etcd => {
            Err("--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .into())
        }
        (None, _) => Ok(listen.to_vec()),
    }
}

/// Reads the first members, and checks that this one is among them as it describes itself.
fn initial_cluster(
    flags: &Flags,
    name: &str,
    advertised: &[Url],
) -> std::result::Result<BTreeMap<String, Vec<Url>>, String> {
    let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
    match flags.initial_cluster.as_deref() {
        None | Some("") => {
            members.insert(name.to_owned(), advertised.to_vec());
        }
        Some(text) => {
            for part in text.split(',') {
                let (name, url) = part
                    .split_once('=')
                    .ok_or_else(|| format!("--initial-cluster: {part:?} is not NAME=URL"))?;
                let url = url.parse().map_err(|e| format!("--initial-cluster: {e}"))?;
                members.entry(name.trim().to_owned()).or_default().push(url);
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = members.values().flatten().find(|url| !seen.insert(*url)) {
        return Err(format!("--initial-cluster has duplicate URL {twice}"));
    }
    let own = members.get(name).ok_or_else(|| {
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        format!(
            "couldn't find local name {name:?} in the initial cluster configuration: add it to \
             --initial-cluster, or set --name to one of {}",
            names.join(", ")
        )
    })?;
    let sorted = |urls: &[Url]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    if sorted(own) != sorted(advertised) {
        let join = |urls: &[Url]| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
        return Err(format!(
            "--initial-cluster has {name}={} but --initial-advertise-peer-urls={}: they must be the \
             same",
            join(own),
            join(advertised)
        ));
    }
    Ok(members)
}

fn timing(flags: &Flags) -> std::result::Result<(Duration, Duration), String> {
    let heartbeat = Duration::from_millis(flags.heartbeat_interval.unwrap_or(100));
    let election = Duration::from_millis(flags.election_timeout.unwrap_or(1000));
    if heartbeat.is_zero() {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".into());
    }
    if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) > election {
        return Err(format!(
            "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
            election.as_millis(),
            heartbeat.as_millis()
        ));
    }
    if election > ELECTION_TIMEOUT_MAX {
        return Err(format!(
            "--election-timeout[{}ms] is too long, and should be set less than {}ms",
            election.as_millis(),
            ELECTION_TIMEOUT_MAX.as_millis()
        ));
    }
    Ok((heartbeat, election))
}

fn limits(flags: &Flags, warnings: &mut Vec<String>) -> std::result::Result<Limits, String> {
    let request_bytes = flags.max_request_bytes.unwrap_or(3 << 19);
    let request_bytes_max = etcd::Limits::default().request_bytes_max() as u64;
    if request_bytes > request_bytes_max {
        return Err(format!(
            "--max-request-bytes={request_bytes} is more than an entry of the log holds: the most \
             is {request_bytes_max}"
        ));
    }
    if request_bytes > REQUEST_BYTES_RECOMMENDED_MAX {
        warnings.push(format!(
            "--max-request-bytes={request_bytes} exceeds the recommended {REQUEST_BYTES_RECOMMENDED_MAX}"
        ));
    }
    if let Some(entries) = flags.snapshot_count {
        warnings.push(format!(
            "--snapshot-count={entries} is ignored: the state is written out after so many bytes of \
             changes, or some seconds, not after so many entries"
        ));
    }
    let above_zero = |flag: &str, value: u64| {
        if value == 0 { Err(format!("--{flag} must be greater than 0")) } else { Ok(value) }
    };
    let size = |flag: &str, value: u64| {
        usize::try_from(above_zero(flag, value)?).map_err(|_| format!("--{flag} is too large"))
    };
    Ok(Limits {
        snapshot_catchup_entries: catchup_entries(flags)?,
        ranges: flags.experimental_ranges.unwrap_or(0),
        reads: reads(flags)?,
        quota_bytes: flags
            .quota_backend_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .filter(|bytes| *bytes > 0),
        txn_ops_max: size("max-txn-ops", flags.max_txn_ops.unwrap_or(128))?,
        request_bytes_max: size("max-request-bytes", request_bytes)?,
        concurrent_streams_max: flags.max_concurrent_streams.unwrap_or(u32::MAX),
        compaction_batch: flags
            .compaction_batch_limit
            .map(|changes| size("compaction-batch-limit", changes))
            .transpose()?,
    })
}

fn initial_corrupt_check(flags: &Flags) -> bool {
    let old = || flags.experimental_initial_corrupt_check.as_deref().map(|value| value == "true");
    flags.initial_corrupt_check.or_else(old).unwrap_or(false)
}

fn reads(flags: &Flags) -> std::result::Result<node::Reads, String> {
    match flags.linearizable_reads.as_deref() {
        None => Ok(node::Reads::default()),
        Some("lease") => Ok(node::Reads::Lease),
        Some("quorum") => Ok(node::Reads::Quorum),
        Some(other) => Err(format!("--linearizable-reads={other}: it is lease or quorum")),
    }
}

fn catchup_entries(flags: &Flags) -> std::result::Result<u64, String> {
    match (flags.snapshot_catchup_entries, &flags.experimental_snapshot_catchup_entries) {
        (Some(entries), _) => Ok(entries),
        (None, Some(text)) => text
            .parse()
            .map_err(|_| format!("--experimental-snapshot-catchup-entries: bad number {text:?}")),
        (None, None) => Ok(5_000),
    }
}

fn auto_compaction(flags: &Flags) -> std::result::Result<AutoCompaction, String> {
    let retention = flags.auto_compaction_retention.as_deref().unwrap_or("0");
    let bad = || format!("error parsing CompactionRetention: {retention:?}");
    match flags.auto_compaction_mode.as_deref().unwrap_or("periodic") {
        _ if matches!(retention, "" | "0") => Ok(AutoCompaction::Off),
        "revision" => {
            let revisions: i64 = retention.parse().map_err(|_| bad())?;
            if revisions < 0 { Err(bad()) } else { Ok(AutoCompaction::Revision(revisions)) }
        }
        "periodic" => {
            // A bare number is hours.
            let time = match retention.parse::<u32>() {
                Ok(hours) => Duration::from_secs(3600) * hours,
                Err(_) => parse_duration(retention).map_err(|_| bad())?,
            };
            Ok(if time.is_zero() { AutoCompaction::Off } else { AutoCompaction::Periodic(time) })
        }
        other => Err(format!("unknown auto-compaction-mode {other:?}")),
    }
}

fn progress_interval(flags: &Flags) -> std::result::Result<Duration, String> {
    let text = flags
        .watch_progress_notify_interval
        .as_deref()
        .or(flags.experimental_watch_progress_notify_interval.as_deref())
        .unwrap_or("10m");
    let interval =
        parse_duration(text).map_err(|e| format!("--watch-progress-notify-interval: {e}"))?;
    if interval.is_zero() {
        return Err("--watch-progress-notify-interval must be greater than 0".into());
    }
    Ok(interval)
}

fn logging(flags: &Flags) -> std::result::Result<Logging, String> {
    let level = match flags.log_level.as_deref().unwrap_or("info") {
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warn" => LogLevel::Warn,
        "error" | "dpanic" | "panic" | "fatal" => LogLevel::Error,
        other => return Err(format!("unknown log level {other:?}")),
    };
    let outputs = match flags.log_outputs.as_deref() {
        None | Some("") => vec![LogOutput::Stderr],
        Some(text) => text
            .split(',')
            .map(|output| match output.trim() {
                "default" | "stderr" => LogOutput::Stderr,
                "stdout" => LogOutput::Stdout,
                path => LogOutput::File(path.into()),
            })
            .collect(),
    };
    let json = match flags.log_format.as_deref().unwrap_or("json") {
        "json" => true,
        "console" => false,
        other => return Err(format!("unknown log format {other:?}")),
    };
    Ok(Logging { level, outputs, json })
}

fn extensive_metrics(flags: &Flags) -> std::result::Result<bool, String> {
    match flags.metrics.as_deref().unwrap_or("basic") {
        "basic" => Ok(false),
        "extensive" => Ok(true),
        other => Err(format!("--metrics={other}: one of basic, extensive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(change: impl FnOnce(&mut Flags)) -> std::result::Result<StartConfig, String> {
        let mut flags = Flags::default();
        change(&mut flags);
        StartConfig::build(&flags, Manner::Quorate)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn no_flag_is_a_member_alone_on_localhost() {
        let config = start(|_| {}).unwrap();
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("quorate.data"));
        assert_eq!(config.listen_client_urls[0].to_string(), "http://localhost:2379");
        assert_eq!(config.advertise_client_urls, config.listen_client_urls);
        assert_eq!(config.initial_cluster["default"], config.advertise_peer_urls);
        assert_eq!(config.limits.txn_ops_max, 128);
        assert_eq!(config.limits.request_bytes_max, 1_572_864);
        assert_eq!(config.limits.quota_bytes, None);
        assert_eq!(config.auto_compaction, AutoCompaction::Off);
        assert_eq!(config.warnings, [""; 0]);
        let etcd = StartConfig::build(&Flags::default(), Manner::Etcd).unwrap();
        assert_eq!(etcd.data_dir, PathBuf::from("default.etcd"));
    }

    #[test]
    fn a_member_must_be_in_its_cluster_as_it_says() {
        let three = some("a=http://h:1,b=http://h:2,c=http://h:3,c=http://i:3");
        let config = start(|flags| {
            flags.name = some("c");
            flags.initial_cluster = three.clone();
            flags.initial_advertise_peer_urls = some("http://i:3,http://h:3");
        })
        .unwrap();
        assert_eq!(config.initial_cluster.len(), 3);
        let error = |name: &str, urls: &str, cluster: Option<String>| {
            start(|flags| {
                flags.name = some(name);
                flags.initial_advertise_peer_urls = some(urls);
                flags.initial_cluster = cluster;
            })
            .unwrap_err()
        };
        assert!(error("d", "http://h:4", three.clone()).contains("couldn't find local name \"d\""));
        assert!(error("a", "http://h:9", three).contains("--initial-cluster has a=http://h:1 but"));
        let twice = some("a=http://h:1,b=http://h:1");
        assert!(error("a", "http://h:1", twice).contains("duplicate"));
        assert!(error("a", "http://h:1", some("a")).contains("not NAME=URL"));
    }

    #[test]
    fn timing_is_checked_as_a_whole() {
        let timing = |heartbeat, election| {
            start(|flags| {
                (flags.heartbeat_interval, flags.election_timeout) = (heartbeat, election)
            })
        };
        assert!(timing(Some(100), Some(500)).is_ok());
        assert!(timing(Some(100), Some(499)).unwrap_err().contains("at least as 5 times"));
        assert!(timing(Some(0), None).unwrap_err().contains("must be >0"));
        assert!(timing(None, Some(60_000)).unwrap_err().contains("too long"));
    }

    #[test]
    fn what_would_be_dangerous_to_ignore_is_refused() {
        assert!(
            start(|flags| flags.cert_file = some("c.pem")).unwrap_err().contains("--cert-file")
        );
        assert!(start(|flags| flags.auto_tls = Some(true)).unwrap_err().contains("--auto-tls"));
        assert!(start(|flags| flags.auto_tls = Some(false)).is_ok());
        let tls = start(|flags| flags.listen_client_urls = some("https://h:1"));
        assert!(tls.unwrap_err().contains("TLS"));
        assert!(start(|flags| flags.auth_token = some("jwt,pub-key=x")).is_err());
        assert!(start(|flags| flags.proxy = some("on")).is_err());
        let warned = start(|flags| flags.logger = some("zap")).unwrap();
        assert_eq!(warned.warnings, ["--logger=zap means nothing here and is ignored"]);
    }

    #[test]
    fn etcd_wants_to_be_told_what_to_advertise() {
        let mut flags =
            Flags { listen_client_urls: some("http://0.0.0.0:2379"), ..Flags::default() };
        assert!(StartConfig::build(&flags, Manner::Quorate).is_ok());
        assert!(StartConfig::build(&flags, Manner::Etcd).unwrap_err().contains("is required"));
        flags.advertise_client_urls = some("http://h:2379");
        assert!(StartConfig::build(&flags, Manner::Etcd).is_ok());
    }

    #[test]
    fn compaction_takes_times_hours_and_revisions() {
        let compaction = |mode: &str, retention: &str| {
            start(|flags| {
                flags.auto_compaction_mode = some(mode);
                flags.auto_compaction_retention = some(retention);
            })
            .map(|config| config.auto_compaction)
        };
        let minutes = |minutes: u64| AutoCompaction::Periodic(Duration::from_secs(60 * minutes));
        assert_eq!(compaction("periodic", "5m"), Ok(minutes(5)));
        assert_eq!(compaction("periodic", "2"), Ok(minutes(120)));
        assert_eq!(compaction("revision", "1000"), Ok(AutoCompaction::Revision(1000)));
        assert_eq!(compaction("revision", "0"), Ok(AutoCompaction::Off));
        assert!(compaction("revision", "5m").is_err());
        assert!(compaction("weekly", "1").is_err());
    }

    #[test]
    fn limits_and_logs_are_read() {
        let config = start(|flags| {
            flags.quota_backend_bytes = Some(-1);
            flags.max_request_bytes = Some(15 << 20);
            flags.log_outputs = some("stdout,/tmp/x.log");
            flags.log_level = some("panic");
        })
        .unwrap();
        assert_eq!(config.limits.quota_bytes, None);
        assert_eq!(config.warnings.len(), 1);
        assert_eq!(
            config.logging.outputs,
            [LogOutput::Stdout, LogOutput::File("/tmp/x.log".into())]
        );
        assert_eq!(config.logging.level, LogLevel::Error);
        assert!(start(|flags| flags.max_txn_ops = Some(0)).is_err());
        let refused = start(|flags| flags.max_request_bytes = Some((15 << 20) + 1)).unwrap_err();
        assert!(refused.contains("--max-request-bytes=15728641"), "{refused}");
        assert!(refused.contains("the most is 15728640"), "{refused}");
        assert!(start(|flags| flags.compaction_batch_limit = Some(0)).is_err());
        let warned = start(|flags| flags.snapshot_count = Some(9)).unwrap();
        assert!(warned.warnings[0].contains("--snapshot-count=9 is ignored"));
        assert_eq!(config.snapshot_dir, PathBuf::from("quorate.data/snapshots"));
        let elsewhere = start(|flags| flags.snapshot_dir = some("/big")).unwrap();
        assert_eq!(elsewhere.snapshot_dir, PathBuf::from("/big/quorate-snapshots"));
        assert!(start(|flags| flags.log_level = some("loud")).is_err());
        assert!(start(|flags| flags.metrics = some("none")).is_err());
    }
}
