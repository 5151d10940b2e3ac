//! The settings of the door.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use crate::grpc::metadata::WORDS;
use crate::link::REPEATED;

/// Bytes a message may have beyond the largest request: what gRPC and the protocol add to it.
pub const OVERHEAD_BYTES: usize = 512 * 1024;

/// How the door is set up. The defaults are etcd's where etcd has the setting.
#[derive(Clone, Debug)]
pub struct Config {
    /// URLs on which clients are listened to: `http://host:port`.
    pub listen_client_urls: Vec<String>,
    /// URLs on which plain HTTP is answered (health, version, metrics), and gRPC is not. If there
    /// are any, the clients' URLs answer gRPC and nothing else.
    pub listen_http_urls: Vec<String>,
    /// URLs on which only metrics and health are answered, besides the clients'.
    pub listen_metrics_urls: Vec<String>,
    /// Threads that serve clients, each with a runtime of its own; connections are dealt out.
    pub doors: NonZeroUsize,
    /// The limits of the API. The largest message has [`OVERHEAD_BYTES`] more than the largest
    /// request.
    pub limits: etcd::Limits,
    /// Calls under way on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes a client may send ahead on a stream, and on a connection.
    pub http2_window_bytes: u32,
    /// Bytes of answers held for a stream whose client does not read.
    pub send_buffer_bytes: usize,
    /// A connection that is silent for this long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// And closed if it does not say so within this.
    pub keepalive_timeout: Duration,
    /// A client that asks more often than this whether we live is sent away.
    pub keepalive_min_time: Duration,
    /// How long a peer may take to send its request's headers.
    pub header_timeout: Duration,
    /// The cluster's election timeout: after three without a leader, streams that asked for one
    /// are ended.
    pub election_timeout: Duration,
    /// The bounds of watches, and how often they hear of progress.
    pub watch_limits: etcd::watch::Limits,
    /// A call that takes longer is logged.
    pub slow_request: Duration,
    /// How long running calls may take to finish when the server stops.
    pub drain_timeout: Duration,
    /// Answers of a stream that may wait for its client.
    pub stream_queue_len: usize,
    /// Ranges of more keys than this are read on a thread of their own, not on the door's.
    pub inline_range_keys: usize,
    /// Bytes in one part of a snapshot.
    pub snapshot_chunk_bytes: usize,
    /// Where a snapshot is made before it is sent. A directory for nothing else: it is made if it
    /// is not there, and what is found in it at the start is removed.
    pub snapshot_dir: PathBuf,
    /// Bytes of that file system that a snapshot leaves free. More than the reserve at which the
    /// member refuses writes, so that no snapshot makes it do so.
    pub snapshot_reserve_bytes: u64,
    /// The TTL of leases that locks and elections take for those who bring none, in seconds.
    pub session_ttl_s: i64,
    /// Measure how long each call takes, per method (`--metrics extensive`).
    pub extensive_metrics: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen_client_urls: vec!["http://localhost:2379".to_owned()],
            listen_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            doors: NonZeroUsize::MIN,
            limits: etcd::Limits::default(),
            max_concurrent_streams: u32::MAX,
            http2_window_bytes: 1 << 20,
            send_buffer_bytes: 1 << 20,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            keepalive_min_time: Duration::from_secs(5),
            header_timeout: Duration::from_secs(30),
            election_timeout: Duration::from_secs(1),
            watch_limits: etcd::watch::Limits::default(),
            slow_request: Duration::from_millis(300),
            drain_timeout: Duration::from_secs(5),
            stream_queue_len: 16,
            inline_range_keys: 256,
            snapshot_chunk_bytes: 32 << 10,
            snapshot_dir: std::env::temp_dir().join("quorate-snapshots"),
            snapshot_reserve_bytes: 128 << 20,
            session_ttl_s: 60,
            extensive_metrics: false,
        }
    }
}

impl Config {
    /// Bytes of the largest message that is accepted.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.limits.max_request_bytes + OVERHEAD_BYTES
    }

    /// The settings of a connection.
    pub(crate) fn http2(&self) -> http2::Config {
        http2::Config {
            stream_window_bytes: self.http2_window_bytes,
            connection_window_bytes: self.http2_window_bytes,
            streams_max: self.max_concurrent_streams,
            header_timeout: self.header_timeout,
            ping_interval_min: self.keepalive_min_time,
            keepalive_interval: self.keepalive_interval,
            keepalive_timeout: self.keepalive_timeout,
            stream_send_bytes: self.send_buffer_bytes,
            words: WORDS,
            keep_others: false,
            repeated: REPEATED,
            ..http2::Config::default()
        }
    }
}
