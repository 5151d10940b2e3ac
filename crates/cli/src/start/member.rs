//! A member: its node, its door, and the process around them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use etcd::{Publish, Request};
use node::{Handle, InitialState, Node, Outcome};
use server::Server;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::fmt::MakeWriter;

use super::config::{ClusterState, LogLevel, LogOutput, Logging};
use super::url::Url;
use super::{StartConfig, compactor, corrupt_check};
use crate::exit::{Exit, Result};

/// How long after a failed attempt a member tries again to make its name known.
const PUBLISH_RETRY: Duration = Duration::from_millis(200);

/// Runs a member until it is told to stop.
pub(super) fn run(config: &StartConfig) -> Result<()> {
    log_to(&config.logging)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Exit::io)?;
    let node = Node::start(&node_config(config)).map_err(|error| explained(&error))?;
    if config.initial_corrupt_check
        && let Err(error) = runtime.block_on(corrupt_check::run(config, node.handle()))
    {
        node.stop();
        return Err(error);
    }
    let server = match Server::start(server_config(config), node.handle().clone()) {
        Ok(server) => server,
        Err(error) => {
            node.stop();
            return Err(explained(&error));
        }
    };
    let outcome = runtime.block_on(serve(config, &node));
    server.shutdown();
    node.stop();
    match outcome? {
        Outcome::Stopped => Ok(()),
        Outcome::Removed => Err(Exit::failed("this member was removed from the cluster")),
        Outcome::Failed(reason) => Err(Exit::failed(reason)),
    }
}

/// The error, and what can be done about the commonest of them.
fn explained(error: &dyn std::fmt::Display) -> Exit {
    let text = error.to_string();
    let advice = if text.contains("Address already in use") {
        ". Something listens there already, another member perhaps: stop it, or give this one other \
         addresses by --listen-client-urls and --listen-peer-urls"
    } else if text.contains("Cannot assign requested address") {
        ". That is no address of this machine: listen on one that is, or on 0.0.0.0, and tell others \
         where to find it by --advertise-client-urls and --initial-advertise-peer-urls"
    } else if text.contains("in use by another process") {
        ". A member runs there already: stop it, or give this one another --data-dir"
    } else {
        ""
    };
    Exit::failed(format!("{text}{advice}"))
}

async fn serve(config: &StartConfig, node: &Node) -> Result<Outcome> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Exit::io)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Exit::io)?;
    let publish = tokio::spawn(publish(config.clone(), node.handle().clone()));
    let compactor = tokio::spawn(compactor::run(config.auto_compaction, node.handle().clone()));
    let outcome = tokio::select! {
        outcome = node.ended() => outcome,
        _ = terminate.recv() => Outcome::Stopped,
        _ = interrupt.recv() => Outcome::Stopped,
    };
    publish.abort();
    compactor.abort();
    tracing::info!(?outcome, "stopping");
    Ok(outcome)
}

/// Makes the member's name and addresses known to all, as soon as there is a leader.
async fn publish(config: StartConfig, handle: Handle) {
    let member = Publish {
        member_id: handle.member_id(),
        name: config.name,
        client_urls: texts(&config.advertise_client_urls),
    };
    while let Err(error) = handle.execute(Request::Publish(member.clone())).await {
        tracing::debug!(%error, "the member's name is not known to the others yet");
        tokio::time::sleep(PUBLISH_RETRY).await;
    }
    tracing::info!(
        member = format_args!("{:x}", handle.member_id()),
        cluster = format_args!("{:x}", handle.cluster_id()),
        clients = ?member.client_urls,
        "ready to serve client requests"
    );
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

fn limits(config: &StartConfig) -> etcd::Limits {
    etcd::Limits {
        max_txn_ops: config.limits.txn_ops_max,
        max_request_bytes: config.limits.request_bytes_max,
        quota_bytes: config.limits.quota_bytes,
        strict_reconfig_check: config.strict_reconfig_check,
        lease_extension: config.election_timeout,
        ..etcd::Limits::default()
    }
}

/// The node's settings.
pub(crate) fn node_config(config: &StartConfig) -> node::Config {
    let cluster = config.initial_cluster.iter();
    let defaults = node::Config::single(config.data_dir.clone());
    node::Config {
        name: config.name.clone(),
        log_dir: config.wal_dir.clone(),
        listen_peer_urls: texts(&config.listen_peer_urls),
        advertise_peer_urls: texts(&config.advertise_peer_urls),
        initial_cluster: cluster.map(|(name, urls)| (name.clone(), texts(urls))).collect(),
        initial_cluster_token: config.cluster_token.clone(),
        initial_state: match config.cluster_state {
            ClusterState::New => InitialState::New,
            ClusterState::Existing => InitialState::Existing,
        },
        ranges: config.limits.ranges,
        reads: config.limits.reads,
        force_new_cluster: config.force_new_cluster,
        heartbeat_interval: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        pre_vote: config.pre_vote,
        request_timeout: Duration::from_secs(5) + 2 * config.election_timeout,
        snapshot_catchup_entries: config.limits.snapshot_catchup_entries,
        compaction_batch: config.limits.compaction_batch.unwrap_or(defaults.compaction_batch),
        limits: limits(config),
        ..defaults
    }
}

fn server_config(config: &StartConfig) -> server::Config {
    // One thread decodes for two that agree and write.
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    server::Config {
        listen_client_urls: texts(&config.listen_client_urls),
        listen_http_urls: texts(&config.listen_client_http_urls),
        listen_metrics_urls: texts(&config.listen_metrics_urls),
        doors: NonZeroUsize::new(cores / 2).unwrap_or(NonZeroUsize::MIN),
        limits: limits(config),
        max_concurrent_streams: config.limits.concurrent_streams_max,
        election_timeout: config.election_timeout,
        watch_limits: etcd::watch::Limits {
            progress_interval: config.progress_notify_interval,
            ..etcd::watch::Limits::default()
        },
        extensive_metrics: config.extensive_metrics,
        snapshot_dir: config.snapshot_dir.clone(),
        snapshot_reserve_bytes: 2 * node_config(config).disk_reserve_bytes,
        ..server::Config::default()
    }
}

/// Every line goes to each of the outputs.
#[derive(Clone)]
struct Outputs(Vec<LogOutput>);

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &self.0 {
            match output {
                LogOutput::Stderr => io::stderr().write_all(line)?,
                LogOutput::Stdout => io::stdout().write_all(line)?,
                LogOutput::File(path) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    file?.write_all(line)?;
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = Outputs;

    fn make_writer(&'a self) -> Outputs {
        self.clone()
    }
}

fn log_to(logging: &Logging) -> Result<()> {
    let level = match logging.level {
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Error => tracing::Level::ERROR,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .with_writer(Outputs(logging.outputs.clone()));
    let set = if logging.json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    set.map_err(Exit::failed)
}
