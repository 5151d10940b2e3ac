//! lock and elect.

use std::ffi::OsString;

use client::Get;
use client::lock::Held;
use proto::etcdserverpb as pb;

use super::Cluster;
use super::session::Session;
use crate::exit::{Exit, Result};
use crate::print::print;

/// How long an elected leader's lease lives without a renewal, in seconds.
const ELECTION_TTL: i64 = 60;

/// Hold a lock, alone or while a command runs
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Waits until the lock is ours, prints its key, and holds it until interrupted; or runs COMMAND with
ETCD_LOCK_KEY and ETCD_LOCK_REV set, releases the lock, and ends with the command's exit code. If
this process dies, the lock is free after the TTL.

Examples:
  quorate lock deploy
  quorate lock deploy ./deploy.sh --fast
  quorate lock deploy --ttl 30 -- sh -c 'echo revision $ETCD_LOCK_REV'")]
pub(crate) struct LockArgs {
    /// The lock's name
    name: String,
    /// What to run while it is held
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Seconds after which the lock is free if this process dies
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: i64,
}

impl LockArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let mut session = Session::start(&cluster.client, self.ttl).await?;
        let lease = session.id();
        let held = session.during(cluster.client.lock(&self.name, lease)).await.finished();
        let result = match held {
            Ok(Some(Ok(held))) => self.hold(&cluster, &mut session, &held).await,
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let ended = session.end().await;
        result.and(ended)
    }

    async fn hold(&self, cluster: &Cluster, session: &mut Session, held: &Held) -> Result<()> {
        let Some((program, args)) = self.command.split_first() else {
            print(&read_own(cluster, held).await?, cluster.style)?;
            return session.during(std::future::pending::<()>()).await.finished().map(|_| ());
        };
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .env("ETCD_LOCK_KEY", String::from_utf8_lossy(&held.key).as_ref())
            .env("ETCD_LOCK_REV", held.revision.to_string())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Exit::failed(format!("{}: {e}", program.display())))?;
        match session.during(child.wait()).await.finished()? {
            Some(status) => child_exit(status.map_err(Exit::io)?),
            None => Ok(()),
        }
    }
}

fn child_exit(status: std::process::ExitStatus) -> Result<()> {
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Exit::child(u8::try_from(code).unwrap_or(1))),
        None => Err(Exit::failed(status)),
    }
}

async fn read_own(cluster: &Cluster, held: &Held) -> Result<pb::RangeResponse> {
    Ok(cluster.client.get(Get::key(held.key.clone())).await?)
}

/// Stand for election, or watch one
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
A candidate waits until it leads, prints its key and proposal, and leads until interrupted.

Examples:
  quorate elect primary host-a       stand for election, proposing host-a
  quorate elect primary --listen     print every leader from now on")]
pub(crate) struct ElectArgs {
    /// The election's name
    name: String,
    /// What to proclaim as the leader
    #[arg(required_unless_present = "listen", conflicts_with = "listen")]
    proposal: Option<String>,
    /// Watch instead of standing
    #[arg(short, long)]
    listen: bool,
}

impl ElectArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it.
    pub(crate) async fn run(self, cluster: Cluster) -> Result<()> {
        let Some(proposal) = self.proposal else {
            return listen(&self.name, &cluster).await;
        };
        let client = &cluster.client;
        let mut session = Session::start(client, ELECTION_TTL).await?;
        let lease = session.id();
        let led = async {
            let campaign = session.during(client.campaign(&self.name, lease, proposal)).await;
            let Some(held) = campaign.finished()?.transpose()? else {
                return Ok(());
            };
            print(&read_own(&cluster, &held).await?, cluster.style)?;
            session.during(std::future::pending::<()>()).await.finished()?;
            client.resign(&held).await?;
            Ok(())
        }
        .await;
        let ended = session.end().await;
        led.and(ended)
    }
}

async fn listen(name: &str, cluster: &Cluster) -> Result<()> {
    let mut observer = cluster.client.observe(name).await?;
    loop {
        let (header, leader) = observer.next().await?;
        let response =
            pb::RangeResponse { header: Some(header), kvs: vec![leader], ..Default::default() };
        print(&response, cluster.style)?;
    }
}
