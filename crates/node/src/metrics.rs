//! What a node counts. Names are etcd's where the meaning is the same.

use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::core::Standing;

/// The node's metrics; cheap to update from any thread.
pub(crate) struct Metrics {
    /// Seconds of a sync of the log.
    pub(crate) wal_fsync_seconds: Histogram,
    /// Seconds of a checkpoint into the state engine.
    pub(crate) backend_commit_seconds: Histogram,
    pub(crate) has_leader: Gauge,
    pub(crate) is_leader: Gauge,
    pub(crate) is_learner: Gauge,
    pub(crate) leader_changes: Counter,
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_committed: Gauge,
    pub(crate) proposals_applied: Gauge,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_received: Counter,
    /// Entries appended to the log, of all ranges.
    pub(crate) log_entries: Counter,
    pub(crate) ranges_led: Gauge,
    pub(crate) confirmed_by_lease: Counter,
    pub(crate) confirmed_by_quorum: Counter,
    pub(crate) sent: Sent,
}

/// What went out to peers, snapshots aside.
#[derive(Clone, Default)]
pub(crate) struct Sent {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        // From 100 us to 6.5 s, doubling.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 2.0, 17));
        Metrics {
            wal_fsync_seconds: seconds(),
            backend_commit_seconds: seconds(),
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            is_learner: Gauge::default(),
            leader_changes: Counter::default(),
            proposals_pending: Gauge::default(),
            proposals_committed: Gauge::default(),
            proposals_applied: Gauge::default(),
            snapshots_sent: Counter::default(),
            snapshots_received: Counter::default(),
            log_entries: Counter::default(),
            ranges_led: Gauge::default(),
            confirmed_by_lease: Counter::default(),
            confirmed_by_quorum: Counter::default(),
            sent: Sent::default(),
        }
    }

    /// Brings the gauges to where the member stands.
    pub(crate) fn observe(&self, standing: &Standing, own: store::NodeId) {
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.has_leader.set(i64::from(standing.leader.is_some()));
        self.is_leader.set(i64::from(standing.leader == Some(own)));
        self.is_learner.set(i64::from(standing.is_learner));
        let seen = self.leader_changes.get();
        self.leader_changes.inc_by(standing.leader_changes.saturating_sub(seen));
        self.proposals_pending.set(int(standing.proposals_in_flight as u64));
        for (counter, count) in [
            (&self.confirmed_by_lease, standing.confirmed_by_lease),
            (&self.confirmed_by_quorum, standing.confirmed_by_quorum),
        ] {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.ranges_led.set(int(standing.ranges_led as u64));
        self.proposals_committed.set(int(standing.committed.0));
        self.proposals_applied.set(int(standing.applied.0));
    }

    /// Makes the metrics known.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(name, help, gauge.clone());
        };
        gauge("etcd_server_has_leader", "Whether a leader is known", &self.has_leader);
        gauge("etcd_server_is_leader", "Whether this member leads", &self.is_leader);
        gauge("etcd_server_is_learner", "Whether this member has no vote", &self.is_learner);
        gauge(
            "etcd_server_proposals_pending",
            "Proposals evaluated and not applied",
            &self.proposals_pending,
        );
        gauge(
            "etcd_server_proposals_committed_total",
            "Last log index known to be committed",
            &self.proposals_committed,
        );
        gauge(
            "etcd_server_proposals_applied_total",
            "Last log index applied",
            &self.proposals_applied,
        );
        gauge("quorate_ranges_led", "Ranges that this member leads", &self.ranges_led);
        registry.register(
            "quorate_reads_confirmed_by_lease",
            "Times that the reads waiting then were confirmed by a range lease",
            self.confirmed_by_lease.clone(),
        );
        registry.register(
            "quorate_reads_confirmed_by_quorum",
            "Times that the reads waiting then were confirmed by asking a quorum",
            self.confirmed_by_quorum.clone(),
        );
        registry.register(
            "quorate_log_entries",
            "Entries appended to the log, of all ranges",
            self.log_entries.clone(),
        );
        registry.register(
            "quorate_peer_sent_frames",
            "Frames sent to peers, snapshots aside",
            self.sent.frames.clone(),
        );
        registry.register(
            "quorate_peer_sent_bytes",
            "Bytes sent to peers, snapshots aside",
            self.sent.bytes.clone(),
        );
        registry.register(
            "etcd_server_leader_changes_seen",
            "Leader changes since the start",
            self.leader_changes.clone(),
        );
        registry.register(
            "etcd_network_snapshot_send_success",
            "Snapshots streamed to peers",
            self.snapshots_sent.clone(),
        );
        registry.register(
            "etcd_network_snapshot_receive_success",
            "Snapshots received from peers",
            self.snapshots_received.clone(),
        );
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "Seconds of a sync of the log",
            self.wal_fsync_seconds.clone(),
        );
        registry.register(
            "etcd_disk_backend_commit_duration_seconds",
            "Seconds of a checkpoint into the state engine",
            self.backend_commit_seconds.clone(),
        );
    }
}

/// Observes the seconds that `work` takes.
pub(crate) fn timed<T>(histogram: &Histogram, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    histogram.observe(start.elapsed().as_secs_f64());
    result
}
