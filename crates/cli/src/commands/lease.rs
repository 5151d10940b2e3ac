//! lease: grant, revoke, timetolive, list, keep-alive.

use super::{Cluster, lease_id};
use crate::exit::{Exit, Result};
use crate::print::lease::{Revoked, TimeToLive};
use crate::print::{print, put};
use proto::etcdserverpb as pb;

/// Grant, renew and end leases
#[derive(Debug, Clone, clap::Subcommand)]
#[command(after_help = "\
A lease lives for its TTL and longer as long as somebody renews it. When it ends, every key put
with --lease ID is deleted, all at one revision. Ids are hexadecimal.

Examples:
  quorate lease grant 60                       a lease of a minute; prints its id
  quorate put lock/a me --lease 694d8c...      a key that lives as long
  quorate lease keep-alive 694d8c...           renew until interrupted
  quorate lease timetolive 694d8c... --keys    what is left, and its keys
  quorate lease revoke 694d8c...               end it now")]
pub(crate) enum LeaseCommand {
    /// Grant a lease
    Grant {
        /// Time to live in seconds
        ttl: String,
        /// The lease's id in hexadecimal, instead of one of the server's choice
        #[arg(long, value_name = "ID", default_value = "0")]
        id: String,
    },
    /// End a lease and delete its keys
    Revoke {
        /// The lease's id
        id: String,
    },
    /// Show how long a lease has left
    Timetolive {
        /// The lease's id
        id: String,
        /// Show its keys as well
        #[arg(long)]
        keys: bool,
    },
    /// List every lease
    List,
    /// Renew a lease until interrupted
    KeepAlive {
        /// The lease's id
        id: String,
        /// Renew once
        #[arg(long)]
        once: bool,
    },
}

impl LeaseCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let Cluster { client, style } = &cluster;
        match self {
            Self::Grant { ttl, id } => {
                let ttl = ttl.parse().map_err(|e| Exit::bad_args(format!("bad TTL ({e})")))?;
                let id = Some(lease_id(&id)?).filter(|id| *id != 0);
                print(&client.grant(ttl, id).await?, *style)
            }
            Self::Revoke { id } => {
                let id = lease_id(&id)?;
                print(&Revoked { id, response: client.revoke(id).await? }, *style)
            }
            Self::Timetolive { id, keys } => {
                let response = client.time_to_live(lease_id(&id)?, keys).await?;
                print(&TimeToLive { keys_asked: keys, response }, *style)
            }
            Self::List => print(&client.leases().await?, *style),
            Self::KeepAlive { id, once: true } => {
                let response = client.keep_alive_once(lease_id(&id)?).await?;
                if response.ttl <= 0 {
                    return Err(Exit::bad_connection("etcdserver: requested lease not found"));
                }
                print(&response, *style)
            }
            Self::KeepAlive { id, once: false } => keep_alive(lease_id(&id)?, &cluster).await,
        }
    }
}

async fn keep_alive(id: i64, cluster: &Cluster) -> Result<()> {
    let expired = format!("lease {id:016x} expired or revoked.\n");
    let Some(mut lease) = cluster.client.keep_alive(id).await? else {
        return put(&expired);
    };
    let mut renewal = lease.alive();
    while let Some(alive) = renewal {
        let ttl = i64::try_from(alive.ttl.as_secs()).unwrap_or(i64::MAX);
        print(&pb::LeaseKeepAliveResponse { header: None, id, ttl }, cluster.style)?;
        renewal = lease.renewed().await;
    }
    put(&expired)
}
