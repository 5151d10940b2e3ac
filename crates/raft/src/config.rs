//! The settings of a replica. Every limit has a name here.

use std::time::Duration;

use crate::types::ReplicaId;

/// The settings of a replica.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this replica is.
    pub id: ReplicaId,
    /// Seeds the jitter of election timeouts; give each replica another.
    pub seed: u64,
    /// A follower that hears nothing from a leader for this long, plus a jitter of up to as
    /// much again, campaigns. A leader that hears nothing from a quorum for this long steps
    /// down.
    pub election_timeout: Duration,
    /// How often a leader shows that it is there. Below `election_timeout`.
    pub heartbeat_interval: Duration,
    /// Ask whether an election can be won before disturbing anyone (thesis §9.6).
    pub pre_vote: bool,
    /// Leaders step down without a quorum, and followers stand by a leader they hear
    /// (thesis §6.2, §4.2.3).
    pub check_quorum: bool,
    /// Ask followers to stand by this leader for as long as their stores support its store, and
    /// stay silent towards those who do (see `raft/fortify.rs`); answer when asked. Needs a
    /// driver that answers [`Event::SupportWanted`](crate::Event::SupportWanted); without one, or
    /// with peers that do not know of it, everything goes on by timers.
    pub fortify: bool,
    /// Bytes of entries in one append message; one entry is always allowed.
    pub append_bytes_max: usize,
    /// Append messages under way to one peer.
    pub inflight_messages_max: usize,
    /// Bytes of entries under way to one peer; one message is always allowed.
    pub inflight_bytes_max: usize,
    /// Bytes of proposals that are not delivered to the application yet; one batch is always
    /// allowed.
    pub uncommitted_bytes_max: usize,
    /// Bytes of committed entries in one [`Ready`](crate::Ready); one entry is always allowed.
    pub committed_bytes_max: usize,
    /// Bytes of entries handed out to be applied and not reported applied; one is always
    /// allowed.
    pub applying_bytes_max: usize,
    /// Bytes of recent entries kept in memory; what is not durable or not committed is kept
    /// besides.
    pub recent_bytes_max: usize,
    /// Reads that wait for confirmation.
    pub reads_pending_max: usize,
    /// Confirmation rounds under way at once; reads that come meanwhile share the next one.
    pub read_rounds_max: usize,
    /// Break the protocol in this way, to see whether a check notices.
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::Mutant>,
}

impl Config {
    /// Settings for a local network: elections after 1 to 2 s, a heartbeat each 100 ms.
    pub fn new(id: ReplicaId, seed: u64) -> Self {
        Self {
            id,
            seed,
            election_timeout: Duration::from_millis(1000),
            heartbeat_interval: Duration::from_millis(100),
            pre_vote: true,
            check_quorum: true,
            fortify: false,
            append_bytes_max: 1 << 20,
            inflight_messages_max: 256,
            inflight_bytes_max: 16 << 20,
            uncommitted_bytes_max: 64 << 20,
            committed_bytes_max: 4 << 20,
            applying_bytes_max: 32 << 20,
            recent_bytes_max: 16 << 20,
            reads_pending_max: 65_536,
            read_rounds_max: 4,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// Checks that the settings can work.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.heartbeat_interval.is_zero() {
            return Err("heartbeat_interval is zero");
        }
        if self.heartbeat_interval >= self.election_timeout {
            return Err("heartbeat_interval is not below election_timeout");
        }
        if self.inflight_messages_max == 0 {
            return Err("inflight_messages_max is zero");
        }
        if self.reads_pending_max == 0 || self.read_rounds_max == 0 {
            return Err("reads_pending_max or read_rounds_max is zero");
        }
        Ok(())
    }
}
