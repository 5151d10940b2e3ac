//! What is counted at the door, under the names etcd's dashboards know.
//!
//! Counters that every call touches are looked up once, at start; the door then only adds.
//! `/metrics` answers in OpenMetrics to those who ask for it, and in the older text format,
//! with etcd's exact names, to everybody else ([`plain_text`]).

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::backend::{MemberStatus, Standing};
use crate::call::Call;
use crate::grpc::Status;
use crate::grpc::status::code_name;

/// Versions of clients counted apart; the rest is `other`. They are the clients' to choose.
const CLIENT_VERSIONS_MAX: usize = 64;

/// Counters that etcd calls without the `_total` that the format asks for.
const BARE_COUNTERS: &[&str] = &["etcd_server_health_success", "etcd_server_health_failures"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    grpc_type: &'static str,
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientVersion {
    r#type: &'static str,
    client_api_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckOutcome {
    r#type: &'static str,
    name: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerVersion {
    server_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerId {
    server_id: String,
}

/// The counters of one call.
struct CallCounters {
    started: Counter,
    succeeded: Counter,
    received: Counter,
    sent: Counter,
    seconds: Option<Histogram>,
}

/// Everything counted at the door. Shared by all doors of a member.
pub(crate) struct Metrics {
    registry: Registry,
    calls: Vec<CallCounters>,
    handled: Family<Outcome, Counter>,
    client_versions: Family<ClientVersion, Counter>,
    versions_seen: std::sync::Mutex<Vec<String>>,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) slow_requests: Counter,
    pub(crate) health_success: Counter,
    pub(crate) health_failures: Counter,
    checks: Family<Check, Gauge>,
    check_outcomes: Family<CheckOutcome, Counter>,
    pub(crate) watch_streams: Gauge,
    pub(crate) watchers: Gauge,
    pub(crate) watch_events: Counter,
    pub(crate) connections: Gauge,
    member: MemberGauges,
    process: ProcessGauges,
}

struct MemberGauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge<u64, AtomicU64>,
    applied: Gauge<u64, AtomicU64>,
    db_size: Gauge<u64, AtomicU64>,
    db_in_use: Gauge<u64, AtomicU64>,
    quota: Gauge<u64, AtomicU64>,
    revision: Gauge,
    compacted: Gauge,
}

struct ProcessGauges {
    cpu_seconds: Gauge<f64, AtomicU64>,
    resident_bytes: Gauge<u64, AtomicU64>,
    open_fds: Gauge<u64, AtomicU64>,
    max_fds: Gauge<u64, AtomicU64>,
}

/// Registers a metric and returns it.
fn register<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    pub(crate) fn new(mut registry: Registry, extensive: bool) -> Metrics {
        let r = &mut registry;
        let started: Family<Method, Counter> = register(
            r,
            "grpc_server_started",
            "Total number of RPCs started on the server",
            Family::default(),
        );
        let received: Family<Method, Counter> = register(
            r,
            "grpc_server_msg_received",
            "Total number of RPC stream messages received on the server",
            Family::default(),
        );
        let sent: Family<Method, Counter> = register(
            r,
            "grpc_server_msg_sent",
            "Total number of gRPC stream messages sent by the server",
            Family::default(),
        );
        let handled: Family<Outcome, Counter> = register(
            r,
            "grpc_server_handled",
            "Total number of RPCs completed on the server, regardless of success or failure",
            Family::default(),
        );
        let seconds = extensive.then(|| {
            let family: Family<Method, Histogram, fn() -> Histogram> =
                Family::new_with_constructor(|| {
                    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
                });
            register(r, "grpc_server_handling_seconds", "Time calls took on the server", family)
        });
        let calls = Call::ALL
            .iter()
            .map(|call| {
                let method = method_of(*call);
                let ok = outcome_of(*call, "OK");
                CallCounters {
                    started: started.get_or_create(&method).clone(),
                    succeeded: handled.get_or_create(&ok).clone(),
                    received: received.get_or_create(&method).clone(),
                    sent: sent.get_or_create(&method).clone(),
                    seconds: seconds.as_ref().map(|family| family.get_or_create(&method).clone()),
                }
            })
            .collect();
        let client_versions = register(
            r,
            "etcd_server_client_requests",
            "The total number of client requests per client version",
            Family::default(),
        );
        let counter = |r: &mut Registry, name, help| register(r, name, help, Counter::default());
        let gauge = |r: &mut Registry, name, help| register(r, name, help, Gauge::default());
        Metrics {
            calls,
            handled,
            client_versions,
            versions_seen: std::sync::Mutex::default(),
            received_bytes: counter(
                r,
                "etcd_network_client_grpc_received_bytes",
                "The total number of bytes received from grpc clients",
            ),
            sent_bytes: counter(
                r,
                "etcd_network_client_grpc_sent_bytes",
                "The total number of bytes sent to grpc clients",
            ),
            slow_requests: counter(
                r,
                "quorate_server_slow_requests",
                "Calls that took longer than the limit for the log",
            ),
            health_success: counter(
                r,
                "etcd_server_health_success",
                "The total number of successful health checks",
            ),
            health_failures: counter(
                r,
                "etcd_server_health_failures",
                "The total number of failed health checks",
            ),
            checks: register(
                r,
                "etcd_server_healthcheck",
                "The result of each kind of healthcheck",
                Family::default(),
            ),
            check_outcomes: register(
                r,
                "etcd_server_healthchecks",
                "The total number of each kind of healthcheck",
                Family::default(),
            ),
            watch_streams: gauge(
                r,
                "etcd_debugging_mvcc_watch_stream_total",
                "Total number of watch streams",
            ),
            watchers: gauge(r, "etcd_debugging_mvcc_watcher_total", "Total number of watchers"),
            watch_events: counter(
                r,
                "etcd_debugging_mvcc_events",
                "Total number of events sent by this member",
            ),
            connections: gauge(r, "quorate_server_connections", "Open connections of clients"),
            member: MemberGauges::new(r),
            process: ProcessGauges::new(r),
            registry,
        }
    }

    /// Names the member, once it is known.
    pub(crate) fn describe(registry: &mut Registry, status: &MemberStatus, standing: Standing) {
        let versions: Family<ServerVersion, Gauge> = register(
            registry,
            "etcd_server_version",
            "Which version is running: 1 for the version of the label",
            Family::default(),
        );
        versions.get_or_create(&ServerVersion { server_version: status.version.clone() }).set(1);
        let ids: Family<ServerId, Gauge> = register(
            registry,
            "etcd_server_id",
            "Server or member id in hexadecimal: 1 for the id of the label",
            Family::default(),
        );
        ids.get_or_create(&ServerId { server_id: format!("{:x}", standing.member_id) }).set(1);
    }

    /// A call began.
    pub(crate) fn started(&self, call: Call) {
        self.calls[call as usize].started.inc();
    }

    /// A message of this size came in.
    pub(crate) fn received(&self, call: Call, bytes: usize) {
        self.calls[call as usize].received.inc();
        self.received_bytes.inc_by(bytes as u64);
    }

    /// A message of this size went out.
    pub(crate) fn sent(&self, call: Call, bytes: usize) {
        self.calls[call as usize].sent.inc();
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// A call ended.
    pub(crate) fn handled(&self, call: Call, failed: Option<&Status>, took: Duration) {
        let counters = &self.calls[call as usize];
        match failed {
            None => {
                counters.succeeded.inc();
            }
            Some(status) => {
                let outcome = outcome_of(call, code_name(Some(status.code)));
                self.handled.get_or_create(&outcome).inc();
            }
        }
        if let Some(seconds) = &counters.seconds {
            seconds.observe(took.as_secs_f64());
        }
    }

    /// A call came from a client of this version.
    pub(crate) fn client(&self, call: Call, version: Option<&str>) {
        let kind = if call.kind() == crate::call::Kind::Unary { "unary" } else { "stream" };
        let version = self.bounded_version(version.unwrap_or("unknown"));
        let labels = ClientVersion { r#type: kind, client_api_version: version };
        self.client_versions.get_or_create(&labels).inc();
    }

    fn bounded_version(&self, version: &str) -> String {
        let mut seen = match self.versions_seen.lock() {
            Ok(seen) => seen,
            Err(poisoned) => poisoned.into_inner(),
        };
        if seen.iter().any(|known| known == version) {
            return version.to_owned();
        }
        if seen.len() >= CLIENT_VERSIONS_MAX || version.len() > CLIENT_VERSIONS_MAX {
            return "other".to_owned();
        }
        seen.push(version.to_owned());
        version.to_owned()
    }

    /// A health check was made.
    pub(crate) fn checked(&self, kind: &'static str, name: &'static str, good: bool) {
        self.checks.get_or_create(&Check { r#type: kind, name }).set(i64::from(good));
        let status = if good { "success" } else { "error" };
        self.check_outcomes.get_or_create(&CheckOutcome { r#type: kind, name, status }).inc();
    }

    /// All of it as OpenMetrics text, with the figures of this moment.
    pub(crate) fn render(
        &self,
        standing: Standing,
        status: &MemberStatus,
        revisions: (i64, i64),
    ) -> String {
        self.member.set(standing, status, revisions);
        self.process.set();
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl MemberGauges {
    fn new(r: &mut Registry) -> MemberGauges {
        MemberGauges {
            has_leader: register(
                r,
                "etcd_server_has_leader",
                "Whether or not a leader is known: 1 is known, 0 is not",
                Gauge::default(),
            ),
            is_leader: register(
                r,
                "etcd_server_is_leader",
                "Whether or not this member leads: 1 if it does, 0 if not",
                Gauge::default(),
            ),
            is_learner: register(
                r,
                "etcd_server_is_learner",
                "Whether or not this member is a learner: 1 if it is, 0 if not",
                Gauge::default(),
            ),
            committed: register(
                r,
                "etcd_server_proposals_committed_total",
                "Newest log index known to be committed",
                Gauge::default(),
            ),
            applied: register(
                r,
                "etcd_server_proposals_applied_total",
                "Newest log index applied",
                Gauge::default(),
            ),
            db_size: register(
                r,
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of the state on disk",
                Gauge::default(),
            ),
            db_in_use: register(
                r,
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of the state in use",
                Gauge::default(),
            ),
            quota: register(
                r,
                "etcd_server_quota_backend_bytes",
                "Bytes the state may grow to; 0 for no quota",
                Gauge::default(),
            ),
            revision: register(
                r,
                "etcd_debugging_mvcc_current_revision",
                "The newest revision of the store",
                Gauge::default(),
            ),
            compacted: register(
                r,
                "etcd_debugging_mvcc_compact_revision",
                "The oldest revision that can be read",
                Gauge::default(),
            ),
        }
    }

    fn set(&self, standing: Standing, status: &MemberStatus, (revision, compacted): (i64, i64)) {
        self.has_leader.set(i64::from(standing.leader.is_some()));
        self.is_leader.set(i64::from(standing.leader == Some(standing.member_id)));
        self.is_learner.set(i64::from(standing.is_learner));
        self.committed.set(status.committed);
        self.applied.set(status.applied);
        self.db_size.set(status.db_size_bytes);
        self.db_in_use.set(status.db_in_use_bytes);
        self.quota.set(status.quota_bytes.unwrap_or(0));
        self.revision.set(revision);
        self.compacted.set(compacted);
    }
}

impl ProcessGauges {
    fn new(r: &mut Registry) -> ProcessGauges {
        let started: Gauge<f64, AtomicU64> = register(
            r,
            "process_start_time_seconds",
            "Start time of the process, in seconds since the epoch",
            Gauge::default(),
        );
        started.set(crate::process::started_s());
        ProcessGauges {
            cpu_seconds: register(
                r,
                "process_cpu_seconds_total",
                "CPU time of the process, user and system",
                Gauge::default(),
            ),
            resident_bytes: register(
                r,
                "process_resident_memory_bytes",
                "Memory of the process",
                Gauge::default(),
            ),
            open_fds: register(
                r,
                "process_open_fds",
                "Number of open file descriptors",
                Gauge::default(),
            ),
            max_fds: register(
                r,
                "process_max_fds",
                "Maximum number of open file descriptors",
                Gauge::default(),
            ),
        }
    }

    fn set(&self) {
        let usage = crate::process::usage();
        self.cpu_seconds.set(usage.cpu_s);
        self.resident_bytes.set(usage.resident_bytes);
        self.open_fds.set(usage.open_fds);
        self.max_fds.set(usage.max_fds);
    }
}

fn method_of(call: Call) -> Method {
    let (grpc_service, grpc_method) = call.names();
    Method { grpc_type: call.kind().name(), grpc_service, grpc_method }
}

fn outcome_of(call: Call, grpc_code: &'static str) -> Outcome {
    let (grpc_service, grpc_method) = call.names();
    Outcome { grpc_type: call.kind().name(), grpc_service, grpc_method, grpc_code }
}

/// OpenMetrics text as the text format 0.0.4: there a counter's family carries the `_total` of
/// its samples, and there is no end mark.
pub(crate) fn plain_text(open: &str) -> String {
    let mut text = String::with_capacity(open.len() + 1024);
    let mut counter = None;
    let mut help = None;
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type, which decides the name, comes on the next line.
            help = rest.split_once(' ');
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            counter = (kind == "counter").then_some(name);
            let suffix =
                if kind == "counter" && !BARE_COUNTERS.contains(&name) { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text += &format!("# HELP {name}{suffix} {help}\n");
            }
            text += &format!(
                "# TYPE {name}{suffix} {}\n",
                if kind == "unknown" { "untyped" } else { kind }
            );
            continue;
        }
        match counter.filter(|name| BARE_COUNTERS.contains(name)) {
            Some(_) => text += &line.replacen("_total", "", 1),
            None => text += line,
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use etcd::Error;

    use super::*;

    #[test]
    fn names_are_etcds() {
        let metrics = Metrics::new(Registry::default(), true);
        metrics.started(Call::Put);
        metrics.handled(Call::Put, None, Duration::from_millis(3));
        metrics.handled(Call::Put, Some(&Error::NoSpace.into()), Duration::from_millis(3));
        metrics.client(Call::Put, Some("3.5.1"));
        metrics.health_success.inc();
        metrics.checked("readyz", "linearizable_read", true);
        let standing =
            Standing { cluster_id: 1, member_id: 2, term: 3, leader: Some(2), is_learner: false };
        let status = MemberStatus {
            version: "3.7.0".into(),
            cluster_version: None,
            storage_version: None,
            committed: 9,
            applied: 8,
            db_size_bytes: 100,
            db_in_use_bytes: 50,
            quota_bytes: None,
        };
        let text = plain_text(&metrics.render(standing, &status, (7, 5)));
        for line in [
            "# TYPE grpc_server_started_total counter",
            "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"} 1",
            "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\",grpc_code=\"ResourceExhausted\"} 1",
            "# TYPE grpc_server_handling_seconds histogram",
            "etcd_server_client_requests_total{type=\"unary\",client_api_version=\"3.5.1\"} 1",
            "# TYPE etcd_server_health_success counter",
            "etcd_server_health_success 1",
            "etcd_server_healthcheck{type=\"readyz\",name=\"linearizable_read\"} 1",
            "etcd_server_has_leader 1",
            "etcd_server_is_leader 1",
            "etcd_server_proposals_committed_total 9",
            "etcd_mvcc_db_total_size_in_use_in_bytes 50",
            "etcd_debugging_mvcc_current_revision 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn clients_cannot_fill_memory_with_versions() {
        let metrics = Metrics::new(Registry::default(), false);
        for version in 0..1000 {
            metrics.client(Call::Put, Some(&format!("v{version}")));
        }
        metrics.client(Call::Put, Some(&"x".repeat(100_000)));
        let seen = metrics.versions_seen.lock().unwrap();
        assert_eq!(seen.len(), CLIENT_VERSIONS_MAX);
        assert!(seen.iter().all(|version| version.len() < 10));
    }
}
