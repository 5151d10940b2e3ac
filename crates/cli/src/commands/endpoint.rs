//! endpoint: status, health and hashkv of each endpoint by itself.

use std::time::Instant;

use client::{Client, Endpoint, Get};
use proto::etcdserverpb as pb;

use super::Cluster;
use crate::exit::{Exit, Result};
use crate::print::cluster::{Hashes, Health, Healths, Statuses};
use crate::print::print;

/// The key that a health check reads; whether it exists does not matter.
const HEALTH_KEY: &str = "health";

/// Ask each endpoint by itself
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  quorate endpoint status -w table             of the endpoints given by --endpoints
  quorate endpoint status --cluster -w table   of every member of the cluster
  quorate endpoint health                      can each of them have a proposal committed?
  quorate endpoint hashkv --cluster            equal hashes: equal data")]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
    /// Every member of the cluster instead of the endpoints given
    #[arg(long, global = true)]
    cluster: bool,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum EndpointCommand {
    /// Who leads, terms, indexes, sizes
    Status,
    /// Whether a linearizable read succeeds through each endpoint
    Health,
    /// The hash of each member's keys
    Hashkv {
        /// Up to this revision; 0 is each member's newest
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        rev: i64,
    },
}

impl EndpointArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it; also if one endpoint of several cannot be asked.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let endpoints = endpoints(&cluster.client, self.cluster).await?;
        match self.command {
            EndpointCommand::Status => {
                let mut statuses = Statuses::default();
                let mut failed = Vec::new();
                for (endpoint, one) in each(&cluster.client, &endpoints) {
                    match one.status().await {
                        Ok(status) => statuses.0.push((endpoint, status)),
                        Err(error) => failed.push((endpoint, error)),
                    }
                }
                print(&statuses, cluster.style)?;
                all_answered("status", &failed)
            }
            EndpointCommand::Health => {
                let checks: Vec<_> = each(&cluster.client, &endpoints)
                    .map(|(endpoint, one)| tokio::spawn(health(endpoint, one)))
                    .collect();
                let mut healths = Healths::default();
                for check in checks {
                    healths.0.push(check.await.map_err(Exit::failed)?);
                }
                print(&healths, cluster.style)?;
                if healths.0.iter().any(|health| health.error.is_some()) {
                    return Err(Exit::failed("unhealthy cluster"));
                }
                Ok(())
            }
            EndpointCommand::Hashkv { rev } => {
                let mut hashes = Hashes::default();
                let mut failed = Vec::new();
                for (endpoint, one) in each(&cluster.client, &endpoints) {
                    match one.hash_kv(rev).await {
                        Ok(hash) => hashes.0.push((endpoint, hash)),
                        Err(error) => failed.push((endpoint, error)),
                    }
                }
                print(&hashes, cluster.style)?;
                all_answered("hash", &failed)
            }
        }
    }
}

/// The endpoints to ask: those configured, or those that the members advertise.
///
/// # Errors
/// If the members cannot be listed.
pub(crate) async fn endpoints(client: &Client, whole_cluster: bool) -> Result<Vec<Endpoint>> {
    if !whole_cluster {
        return Ok(client.config().endpoints.clone());
    }
    let members = client.members(true).await?.members;
    let urls = members.iter().flat_map(|member| &member.client_urls);
    urls.map(|url| Endpoint::parse(url).map_err(Exit::failed)).collect()
}

/// A client for each endpoint alone.
pub(crate) fn each(
    client: &Client,
    endpoints: &[Endpoint],
) -> impl Iterator<Item = (String, Client)> {
    endpoints.iter().map(|endpoint| (endpoint.to_string(), client.only(endpoint)))
}

fn all_answered(what: &str, failed: &[(String, client::Error)]) -> Result<()> {
    for (endpoint, error) in failed {
        eprintln!("Failed to get the {what} of endpoint {endpoint} ({error})");
    }
    if failed.is_empty() { Ok(()) } else { Err(Exit::failed("not every endpoint answered")) }
}

/// Reads a key with a majority's confirmation, then looks for alarms, as etcdctl does.
async fn health(endpoint: String, one: Client) -> Health {
    let started = Instant::now();
    let error = match one.get(Get::key(HEALTH_KEY)).await {
        Ok(_) => None,
        // It was able to say no.
        Err(client::Error::Rejected(status)) if status.code == client::Code::PermissionDenied => {
            None
        }
        Err(error) => Some(error.to_string()),
    };
    let took = started.elapsed();
    let alarms = match (&error, one.alarms().await) {
        (None, Ok(alarms)) => alarms.alarms,
        _ => Vec::new(),
    };
    let raised: Vec<&str> = alarms
        .iter()
        .filter_map(|alarm| match alarm.alarm() {
            pb::AlarmType::None => None,
            pb::AlarmType::Nospace => Some("NOSPACE"),
            pb::AlarmType::Corrupt => Some("CORRUPT"),
        })
        .collect();
    let error = match raised.as_slice() {
        [] => error,
        raised => Some(format!("Active Alarm(s): {}", raised.join(", "))),
    };
    Health { endpoint, took, error }
}
