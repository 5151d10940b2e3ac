//! The flags of a member, with etcd's names. What they mean is said in [`super::config`].

use clap::builder::ValueParser;

/// Reads a boolean as Go does.
fn go_bool() -> ValueParser {
    ValueParser::new(|text: &str| match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("bad boolean {text:?}")),
    })
}

macro_rules! flags {
    ($(#[$struct_doc:meta])* $name:ident {
        texts { $($(#[$text_doc:meta])* $text:ident: $text_flag:literal $text_env:literal $value:literal;)* }
        numbers { $($(#[$number_doc:meta])* $number:ident: $number_flag:literal $number_env:literal $kind:ty;)* }
        switches { $($(#[$switch_doc:meta])* $switch:ident: $switch_flag:literal $switch_env:literal;)* }
        unused { $($unused:ident: $unused_flag:literal $unused_env:literal;)* }
    }) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone, Default, PartialEq, clap::Args)]
        pub(crate) struct $name {
            $($(#[$text_doc])*
            #[arg(long = $text_flag, env = $text_env, value_name = $value, hide_env = true)]
            pub(crate) $text: Option<String>,)*
            $($(#[$number_doc])*
            #[arg(
                long = $number_flag, env = $number_env, value_name = "N", hide_env = true,
                allow_negative_numbers = true
            )]
            pub(crate) $number: Option<$kind>,)*
            $($(#[$switch_doc])*
            #[arg(
                long = $switch_flag, env = $switch_env, hide_env = true, value_name = "BOOL",
                num_args = 0..=1, require_equals = true, default_missing_value = "true",
                value_parser = go_bool()
            )]
            pub(crate) $switch: Option<bool>,)*
            $(#[arg(
                long = $unused_flag, env = $unused_env, hide = true, num_args = 0..=1,
                default_missing_value = "true"
            )]
            pub(crate) $unused: Option<String>,)*
        }

        impl $name {
            /// The flags that were given and mean nothing here, with their values.
            pub(crate) fn without_meaning(&self) -> Vec<(&'static str, &str)> {
                let all: Vec<(&'static str, &Option<String>)> =
                    vec![$(($unused_flag, &self.$unused),)*];
                all.into_iter()
                    .filter_map(|(flag, value)| value.as_deref().map(|value| (flag, value)))
                    .collect()
            }

            /// Every environment variable that is read.
            pub(crate) const VARIABLES: &[&str] = &[
                $($text_env,)* $($number_env,)* $($switch_env,)* $($unused_env,)*
            ];
        }
    };
}

flags! {
    /// A member's flags as they were given; `None` is the default.
    Flags {
        texts {
            /// This member's name, by which --initial-cluster knows it [default: default]
            name: "name" "ETCD_NAME" "NAME";
            /// Where its data is [default: ./quorate.data]
            data_dir: "data-dir" "ETCD_DATA_DIR" "DIR";
            /// Where its log is, if not in the data directory
            wal_dir: "wal-dir" "ETCD_WAL_DIR" "DIR";
            /// Where snapshots for clients are made before they are sent; they take as much room as the
            /// data [default: in the data directory]
            snapshot_dir: "snapshot-dir" "QUORATE_SNAPSHOT_DIR" "DIR";
            /// Where clients are served [default: http://localhost:2379]
            listen_client_urls: "listen-client-urls" "ETCD_LISTEN_CLIENT_URLS" "URL,...";
            /// Where clients are told to find this member [default: where it listens]
            advertise_client_urls: "advertise-client-urls" "ETCD_ADVERTISE_CLIENT_URLS" "URL,...";
            /// Where plain HTTP (health, metrics) is served to clients; the client addresses serve gRPC
            /// alone then [default: both at the client addresses]
            listen_client_http_urls: "listen-client-http-urls" "ETCD_LISTEN_CLIENT_HTTP_URLS" "URL,...";
            /// Where peers are served [default: http://localhost:2380]
            listen_peer_urls: "listen-peer-urls" "ETCD_LISTEN_PEER_URLS" "URL,...";
            /// Where peers find this member [default: http://localhost:2380]
            initial_advertise_peer_urls: "initial-advertise-peer-urls" "ETCD_INITIAL_ADVERTISE_PEER_URLS" "URL,...";
            /// Where /metrics and /health are served besides the client addresses
            listen_metrics_urls: "listen-metrics-urls" "ETCD_LISTEN_METRICS_URLS" "URL,...";
            /// Every first member with its peer address: a=http://host:2380,b=... [default: alone]
            initial_cluster: "initial-cluster" "ETCD_INITIAL_CLUSTER" "NAME=URL,...";
            /// How a leader makes sure that it leads before it answers a linearizable read: lease (no round
            /// trip; rests on clocks that run equally fast, within half a percent) or quorum
            /// [default: lease; on macOS, whose clock stands still in sleep, quorum]
            linearizable_reads: "linearizable-reads" "QUORATE_LINEARIZABLE_READS" "HOW";
            /// What tells this cluster from another with the same addresses [default: etcd-cluster]
            initial_cluster_token: "initial-cluster-token" "ETCD_INITIAL_CLUSTER_TOKEN" "TEXT";
            /// new, or existing for a member that was added to a running cluster [default: new]
            initial_cluster_state: "initial-cluster-state" "ETCD_INITIAL_CLUSTER_STATE" "STATE";
            /// periodic or revision [default: periodic]
            auto_compaction_mode: "auto-compaction-mode" "ETCD_AUTO_COMPACTION_MODE" "MODE";
            /// How much history to keep: a time like 5m (periodic) or a number of revisions; 0 is all
            /// of it [default: 0]
            auto_compaction_retention: "auto-compaction-retention" "ETCD_AUTO_COMPACTION_RETENTION" "AMOUNT";
            /// How often an idle watch is told how far it is [default: 10m]
            watch_progress_notify_interval: "watch-progress-notify-interval" "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL" "TIME";
            /// debug, info, warn or error [default: info]
            log_level: "log-level" "ETCD_LOG_LEVEL" "LEVEL";
            /// stderr, stdout, or files, separated by commas [default: stderr]
            log_outputs: "log-outputs" "ETCD_LOG_OUTPUTS" "WHERE,...";
            /// json or console [default: json]
            log_format: "log-format" "ETCD_LOG_FORMAT" "FORMAT";
            /// basic or extensive [default: basic]
            metrics: "metrics" "ETCD_METRICS" "DETAIL";
            /// simple; other kinds of tokens are not served
            auth_token: "auth-token" "ETCD_AUTH_TOKEN" "KIND";
            /// TLS is not served yet: refused, rather than served without
            cert_file: "cert-file" "ETCD_CERT_FILE" "FILE";
            /// TLS is not served yet
            key_file: "key-file" "ETCD_KEY_FILE" "FILE";
            /// TLS is not served yet
            trusted_ca_file: "trusted-ca-file" "ETCD_TRUSTED_CA_FILE" "FILE";
            /// TLS is not served yet
            client_crl_file: "client-crl-file" "ETCD_CLIENT_CRL_FILE" "FILE";
            /// TLS is not served yet
            peer_cert_file: "peer-cert-file" "ETCD_PEER_CERT_FILE" "FILE";
            /// TLS is not served yet
            peer_key_file: "peer-key-file" "ETCD_PEER_KEY_FILE" "FILE";
            /// TLS is not served yet
            peer_trusted_ca_file: "peer-trusted-ca-file" "ETCD_PEER_TRUSTED_CA_FILE" "FILE";
        }
        numbers {
            /// Ignored: the state is written out by size and time, not by entries
            snapshot_count: "snapshot-count" "ETCD_SNAPSHOT_COUNT" u64;
            /// Entries kept for slow followers after a snapshot [default: 5000]
            snapshot_catchup_entries: "snapshot-catchup-entries" "ETCD_SNAPSHOT_CATCHUP_ENTRIES" u64;
            /// Milliseconds between heartbeats of the leader [default: 100]
            heartbeat_interval: "heartbeat-interval" "ETCD_HEARTBEAT_INTERVAL" u64;
            /// Milliseconds without a leader before an election; at least 5 heartbeats
            /// [default: 1000]
            election_timeout: "election-timeout" "ETCD_ELECTION_TIMEOUT" u64;
            /// Bytes of the database beyond which writes are refused; 0 or less: no limit
            /// [default: 0]
            quota_backend_bytes: "quota-backend-bytes" "ETCD_QUOTA_BACKEND_BYTES" i64;
            /// Most operations of a transaction [default: 128]
            max_txn_ops: "max-txn-ops" "ETCD_MAX_TXN_OPS" u64;
            /// Most bytes of a request; more than 15728640 is refused [default: 1572864]
            max_request_bytes: "max-request-bytes" "ETCD_MAX_REQUEST_BYTES" u64;
            /// Most concurrent calls on one client connection [default: 4294967295]
            max_concurrent_streams: "max-concurrent-streams" "ETCD_MAX_CONCURRENT_STREAMS" u32;
            /// Changes looked at in one step of a compaction [default: 8192]
            compaction_batch_limit: "compaction-batch-limit" "ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT" u64;
            /// Ranges founded beside the one that holds all keys, each with keys and revisions of its
            /// own, asked by the gRPC header quorate-range; only when a cluster is founded [default: 0]
            experimental_ranges: "experimental-ranges" "QUORATE_EXPERIMENTAL_RANGES" u64;
        }
        switches {
            /// Refuse membership changes that would lose the quorum [default: true]
            strict_reconfig_check: "strict-reconfig-check" "ETCD_STRICT_RECONFIG_CHECK";
            /// Ask before an election whether it could be won [default: true]
            pre_vote: "pre-vote" "ETCD_PRE_VOTE";
            /// Go on as a cluster of this member alone, keeping its data, when the majority is lost for
            /// good: all other members are removed
            force_new_cluster: "force-new-cluster" "ETCD_FORCE_NEW_CLUSTER";
            /// Compare hashes with the members that answer before serving, and end if they differ
            initial_corrupt_check: "initial-corrupt-check" "ETCD_INITIAL_CORRUPT_CHECK";
            /// TLS is not served yet
            client_cert_auth: "client-cert-auth" "ETCD_CLIENT_CERT_AUTH";
            /// TLS is not served yet
            peer_client_cert_auth: "peer-client-cert-auth" "ETCD_PEER_CLIENT_CERT_AUTH";
            /// TLS is not served yet
            auto_tls: "auto-tls" "ETCD_AUTO_TLS";
            /// TLS is not served yet
            peer_auto_tls: "peer-auto-tls" "ETCD_PEER_AUTO_TLS";
        }
        unused {
            logger: "logger" "ETCD_LOGGER";
            max_snapshots: "max-snapshots" "ETCD_MAX_SNAPSHOTS";
            max_wals: "max-wals" "ETCD_MAX_WALS";
            cors: "cors" "ETCD_CORS";
            host_whitelist: "host-whitelist" "ETCD_HOST_WHITELIST";
            enable_v2: "enable-v2" "ETCD_ENABLE_V2";
            enable_pprof: "enable-pprof" "ETCD_ENABLE_PPROF";
            enable_grpc_gateway: "enable-grpc-gateway" "ETCD_ENABLE_GRPC_GATEWAY";
            proxy: "proxy" "ETCD_PROXY";
            bcrypt_cost: "bcrypt-cost" "ETCD_BCRYPT_COST";
            auth_token_ttl: "auth-token-ttl" "ETCD_AUTH_TOKEN_TTL";
            backend_batch_interval: "backend-batch-interval" "ETCD_BACKEND_BATCH_INTERVAL";
            backend_batch_limit: "backend-batch-limit" "ETCD_BACKEND_BATCH_LIMIT";
            backend_bbolt_freelist_type: "backend-bbolt-freelist-type" "ETCD_BACKEND_BBOLT_FREELIST_TYPE";
            grpc_keepalive_min_time: "grpc-keepalive-min-time" "ETCD_GRPC_KEEPALIVE_MIN_TIME";
            grpc_keepalive_interval: "grpc-keepalive-interval" "ETCD_GRPC_KEEPALIVE_INTERVAL";
            grpc_keepalive_timeout: "grpc-keepalive-timeout" "ETCD_GRPC_KEEPALIVE_TIMEOUT";
            socket_reuse_port: "socket-reuse-port" "ETCD_SOCKET_REUSE_PORT";
            socket_reuse_address: "socket-reuse-address" "ETCD_SOCKET_REUSE_ADDRESS";
            initial_election_tick_advance: "initial-election-tick-advance" "ETCD_INITIAL_ELECTION_TICK_ADVANCE";
            unsafe_no_fsync: "unsafe-no-fsync" "ETCD_UNSAFE_NO_FSYNC";
            feature_gates: "feature-gates" "ETCD_FEATURE_GATES";
            cipher_suites: "cipher-suites" "ETCD_CIPHER_SUITES";
            tls_min_version: "tls-min-version" "ETCD_TLS_MIN_VERSION";
            corrupt_check_time: "corrupt-check-time" "ETCD_CORRUPT_CHECK_TIME";
            experimental_corrupt_check_time: "experimental-corrupt-check-time" "ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME";
            experimental_initial_corrupt_check: "experimental-initial-corrupt-check" "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK";
            experimental_watch_progress_notify_interval: "experimental-watch-progress-notify-interval" "ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL";
            experimental_snapshot_catchup_entries: "experimental-snapshot-catchup-entries" "ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES";
            enable_log_rotation: "enable-log-rotation" "ETCD_ENABLE_LOG_ROTATION";
            log_rotation_config_json: "log-rotation-config-json" "ETCD_LOG_ROTATION_CONFIG_JSON";
        }
    }
}
