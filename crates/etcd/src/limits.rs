//! The limits, each with its name and its default.

use std::time::Duration;

/// What a request may ask for, and how much may be under way. Every field may be set; the
/// defaults are etcd's where etcd has the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in a transaction: the longest of its compares, its success and its failure
    /// branch; what a level uses is no longer there for the levels inside.
    pub max_txn_ops: usize,
    /// Bytes of a request that is proposed, as encoded in an entry of etcd's log.
    pub max_request_bytes: usize,
    /// Bytes of the effects of a request, or of a part of a lease's end, as the entry carries
    /// them. A request that would do more is refused. The log must take such an entry: the
    /// default is half of a segment, and two of the largest are under way in any range.
    pub effects_bytes_max: usize,
    /// Keys and rows that a request may look at while others wait, and changes that an entry may
    /// hold to be applied while others wait: more is done in a thread where it may take its time
    /// ([`crate::Long`], [`crate::Insertion`]).
    pub rows_at_once: usize,
    /// A lease is granted at least this long, in seconds.
    pub min_lease_ttl_s: i64,
    /// A lease of more seconds is refused.
    pub max_lease_ttl_s: i64,
    /// Expired leases that are revoked at once; the rest follows with the next call.
    pub max_expiries_at_once: usize,
    /// Added to every lease's TTL when a leader takes over, for what clients could not do
    /// while there was none. Usually one election timeout.
    pub lease_extension: Duration,
    /// Bytes of the state at which writes that add to it are refused; `None` is no quota.
    pub quota_bytes: Option<u64>,
    /// Proposals evaluated and not yet applied.
    pub max_proposals_in_flight: usize,
    /// Learners in the cluster.
    pub max_learners: usize,
    /// Percent of the leader's log a learner must hold before it may be promoted.
    pub learner_ready_percent: u64,
    /// Membership changes that could cost the quorum are refused.
    pub strict_reconfig_check: bool,
    /// A member counts as connected once it has been so this long.
    pub healthy_after: Duration,
    /// Bytes of keys and values after which a streamed range begins a new part.
    pub stream_chunk_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_txn_ops: 128,
            max_request_bytes: 3 << 19,
            effects_bytes_max: 16 << 20,
            rows_at_once: 256,
            min_lease_ttl_s: 2,
            max_lease_ttl_s: 9_000_000_000,
            max_expiries_at_once: 500,
            lease_extension: Duration::from_secs(1),
            quota_bytes: None,
            max_proposals_in_flight: 1 << 14,
            max_learners: 1,
            learner_ready_percent: 90,
            strict_reconfig_check: true,
            healthy_after: Duration::from_secs(5),
            stream_chunk_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// The most that [`Limits::max_request_bytes`] may be. The effects of a put are a little
    /// longer than the put, and those of a transaction a little for each operation.
    #[must_use]
    pub const fn request_bytes_max(&self) -> usize {
        self.effects_bytes_max - self.effects_bytes_max / 16
    }
}
