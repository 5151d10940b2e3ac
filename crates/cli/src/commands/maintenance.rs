//! alarm, defrag, move-leader.

use proto::etcdserverpb as pb;

use super::endpoint::{each, endpoints};
use super::{Cluster, member_id};
use crate::exit::{Exit, Result};
use crate::print::cluster::Moved;
use crate::print::{print, put};

/// Show alarms and switch them off
#[derive(Debug, Clone, clap::Subcommand)]
#[command(after_help = "\
NOSPACE stops writes when the quota is used up: compact, defrag, then disarm. CORRUPT stops
everything that could spread a difference found between members.")]
pub(crate) enum AlarmCommand {
    /// List the alarms that are on
    List,
    /// Switch every alarm off
    Disarm,
}

impl AlarmCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let response = match self {
            Self::List => cluster.client.alarms().await?,
            Self::Disarm => {
                let raised = cluster.client.alarms().await?;
                let mut disarmed = pb::AlarmResponse::default();
                for alarm in raised.alarms {
                    let answer = cluster.client.disarm(alarm.member_id, alarm.alarm()).await?;
                    disarmed.header = answer.header;
                    disarmed.alarms.extend(answer.alarms);
                }
                disarmed
            }
        };
        print(&response, cluster.style)
    }
}

/// Give unused space back to the disk, on each endpoint in turn
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DefragArgs {
    /// Every member of the cluster instead of the endpoints given
    #[arg(long)]
    cluster: bool,
}

impl DefragArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// If an endpoint fails; the others are done all the same.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let mut failures = 0;
        for (endpoint, one) in
            each(&cluster.client, &endpoints(&cluster.client, self.cluster).await?)
        {
            match one.defragment().await {
                Ok(_) => put(&format!("Finished defragmenting etcd member[{endpoint}]\n"))?,
                Err(error) => {
                    eprintln!("Failed to defragment etcd member[{endpoint}] ({error})");
                    failures += 1;
                }
            }
        }
        if failures == 0 { Ok(()) } else { Err(Exit::failed("not every member was defragmented")) }
    }
}

/// Hand leadership over to another member
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  quorate endpoint status --cluster -w table     who leads, and the others' ids
  quorate move-leader 8e9e05c52164694d")]
pub(crate) struct MoveLeaderArgs {
    /// The id in hexadecimal of the member that is to lead
    target: String,
}

impl MoveLeaderArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let to = member_id(&self.target)?;
        let leader = cluster.client.find_leader().await?;
        let from = cluster.client.only(&leader).status().await?.leader;
        let response = cluster.client.move_leader(to).await?;
        print(&Moved { from, to, response }, cluster.style)
    }
}
