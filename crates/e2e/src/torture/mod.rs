//! Faults under load, and what must hold afterwards.
//!
//! Writers, one reader for each member, and a watcher run all the time. Round after round a process is killed by
//! SIGKILL, or stopped by SIGSTOP and continued, and the next round begins once the cluster has gone on without it
//! and has it back. At the end [`check()`] looks at everything that was recorded.
//!
//! Every put writes a value that no other put writes, to one key, in a transaction of its own. So each revision
//! belongs to exactly one put, and the watcher's events are the whole history. A put whose answer did not come is
//! *unknown*, never failed: it may be there once, or not at all.
//!
//! Caveat: kill -9 loses what a process has not yet written, not what the kernel holds. Power cuts are the
//! business of the simulated disk.

pub mod check;
pub mod load;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::etcdserverpb as pb;
use proto::method;

use crate::cluster::Cluster;
use crate::differential::generate::Dice;
use crate::rpc::Client;
use crate::tools::Program;
use check::{FinalState, Recorded, check};
use load::{Load, Shared};

/// What is done in each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of the leader.
    KillLeader,
    /// kill -9 of a follower.
    KillFollower,
    /// kill -9 of all members at once.
    KillAll,
    /// SIGSTOP of the leader, and SIGCONT after [`Plan::pause`].
    PauseLeader,
    /// kill -9 of all members and removal of their data: must be found out. Only the tests of this test use it.
    WipeAll,
}

impl Fault {
    /// From its name on the command line.
    ///
    /// # Errors
    /// When there is no such fault.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "leader" => Self::KillLeader,
            "follower" => Self::KillFollower,
            "all" => Self::KillAll,
            "pause" => Self::PauseLeader,
            _ => bail!("no fault {name:?}; there are leader, follower, all, pause"),
        })
    }
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Members.
    pub members: usize,
    /// The fault of each round.
    pub fault: Fault,
    /// Rounds.
    pub rounds: u32,
    /// For the choice of victims and keys.
    pub seed: u64,
    /// How long a paused member stands still.
    pub pause: Duration,
}

/// What was seen, when nothing was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Puts that were acknowledged.
    pub acknowledged: usize,
    /// Puts whose answer did not come.
    pub unknown: usize,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Times that the watcher connected again.
    pub watch_resumed: u64,
    /// The longest time from a fault to the next acknowledged put.
    pub outage_max: Duration,
    /// The revision at the end.
    pub revision: i64,
}

/// How long the cluster may take to go on after a fault.
const RECOVERY_SECONDS_MAX: u64 = 30;
/// So many more puts must be acknowledged before a round counts as survived.
const PROGRESS_PUTS: u64 = 200;

/// Runs the plan.
///
/// # Errors
/// With what was violated, or when the cluster does not go on.
pub async fn run(program: &Program, plan: Plan) -> Result<Report> {
    let mut cluster = Cluster::start(program, plan.members)?;
    let endpoints: Vec<String> =
        cluster.servers.iter().map(|server| server.settings.endpoint()).collect();
    let clients =
        endpoints.iter().map(|endpoint| Client::new(endpoint)).collect::<Result<Vec<_>>>()?;
    let shared = Arc::new(Shared::default());
    let load = Load::start(&shared, &clients, plan.seed);
    let mut dice = Dice::new(plan.seed, 0);
    let mut outage_max = Duration::ZERO;
    progress(&shared, &mut cluster).await?;
    for round in 1..=plan.rounds {
        let began = Instant::now();
        let outage = one_round(&mut cluster, &clients, &shared, plan, &mut dice)
            .await
            .with_context(|| format!("round {round} of {:?}\n{}", plan.fault, logs(&cluster)))?;
        outage_max = outage_max.max(outage);
        println!(
            "torture: {:?} round {round} of {}: {} puts acknowledged, first after {:.2} s, round {:.2} s",
            plan.fault,
            plan.rounds,
            shared.acknowledged.load(Ordering::Relaxed),
            outage.as_secs_f32(),
            began.elapsed().as_secs_f32(),
        );
    }
    let finished = finish(&mut cluster, &clients, &shared, load).await;
    let recorded = finished.with_context(|| logs(&cluster))?;
    let violations = check(&recorded);
    if !violations.is_empty() {
        let shown: Vec<String> = violations.iter().take(20).map(|one| format!("{one:?}")).collect();
        bail!(
            "{} violations (seed {}):\n{}\n{}",
            violations.len(),
            plan.seed,
            shown.join("\n"),
            logs(&cluster)
        );
    }
    let acknowledged = recorded.writes.iter().filter(|write| write.acknowledged.is_some()).count();
    Ok(Report {
        acknowledged,
        unknown: recorded.writes.len() - acknowledged,
        reads: shared.reads.load(Ordering::Relaxed),
        watch_resumed: shared.watch_resumed.load(Ordering::Relaxed),
        outage_max,
        revision: recorded.finals.first().map_or(0, |state| state.revision),
    })
}

fn logs(cluster: &Cluster) -> String {
    cluster
        .servers
        .iter()
        .map(|server| format!("-- {}\n{}", server.settings.name, server.log_end()))
        .collect()
}

/// One fault, and the way back; the time until the next acknowledged put.
async fn one_round(
    cluster: &mut Cluster,
    clients: &[Client],
    shared: &Arc<Shared>,
    plan: Plan,
    dice: &mut Dice,
) -> Result<Duration> {
    let leader = leader(clients).await?;
    let victims: Vec<usize> = match plan.fault {
        Fault::KillLeader | Fault::PauseLeader => vec![leader],
        Fault::KillFollower => {
            let followers: Vec<usize> =
                (0..clients.len()).filter(|member| *member != leader).collect();
            vec![dice.pick(&followers)]
        }
        Fault::KillAll | Fault::WipeAll => (0..clients.len()).collect(),
    };
    let began = Instant::now();
    if plan.fault == Fault::PauseLeader {
        cluster.servers[leader].pause()?;
        let outage = acknowledged_after(shared, began, cluster).await?;
        tokio::time::sleep(plan.pause.saturating_sub(began.elapsed())).await;
        cluster.servers[leader].resume()?;
        cluster.servers[leader].wait_ready()?;
        progress(shared, cluster).await?;
        return Ok(outage);
    }
    for victim in &victims {
        cluster.servers[*victim].kill()?;
    }
    let whole = victims.len() == clients.len();
    let mut outage = Duration::ZERO;
    if !whole {
        outage = acknowledged_after(shared, began, cluster).await?;
        progress(shared, cluster).await?;
    }
    for victim in &victims {
        if plan.fault == Fault::WipeAll {
            cluster.servers[*victim].wipe()?;
        }
        cluster.servers[*victim].restart()?;
    }
    for victim in &victims {
        cluster.servers[*victim].wait_ready()?;
    }
    if whole {
        outage = acknowledged_after(shared, began, cluster).await?;
    }
    progress(shared, cluster).await?;
    Ok(outage)
}

/// Waits for the next acknowledged put; the time since `began`.
async fn acknowledged_after(
    shared: &Arc<Shared>,
    began: Instant,
    cluster: &mut Cluster,
) -> Result<Duration> {
    // Puts that were on their way when the fault came may still be acknowledged: those are not the next.
    let in_flight = shared.next_write.load(Ordering::SeqCst);
    wait(cluster, "a put after the fault", || {
        shared.newest_acknowledged.load(Ordering::SeqCst) > in_flight
    })
    .await?;
    Ok(began.elapsed())
}

async fn progress(shared: &Arc<Shared>, cluster: &mut Cluster) -> Result<()> {
    let before = shared.acknowledged.load(Ordering::SeqCst);
    wait(cluster, "puts go on", || {
        shared.acknowledged.load(Ordering::SeqCst) >= before + PROGRESS_PUTS
    })
    .await
}

async fn wait(cluster: &mut Cluster, what: &str, done: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(RECOVERY_SECONDS_MAX);
    while !done() {
        cluster.check_alive()?;
        ensure!(Instant::now() < end, "not within {RECOVERY_SECONDS_MAX} s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The member that says of itself that it leads.
async fn leader(clients: &[Client]) -> Result<usize> {
    let end = Instant::now() + Duration::from_secs(RECOVERY_SECONDS_MAX);
    while Instant::now() < end {
        for (index, client) in clients.iter().enumerate() {
            let status: Result<pb::StatusResponse, _> =
                client.call(method::maintenance::STATUS, &pb::StatusRequest {}).await;
            if let Ok(status) = status
                && status.leader != 0
                && status.header.is_some_and(|header| header.member_id == status.leader)
            {
                return Ok(index);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("no leader within {RECOVERY_SECONDS_MAX} s")
}

/// Ends the load and reads what is there from every member.
async fn finish(
    cluster: &mut Cluster,
    clients: &[Client],
    shared: &Arc<Shared>,
    load: Load,
) -> Result<Recorded> {
    cluster.wait_ready()?;
    load.stop_writers(shared).await;
    let mut finals = Vec::new();
    for client in clients {
        finals.push(final_state(client, None).await?);
    }
    let revision = finals.iter().map(|state| state.revision).max().context("no member")?;
    for (state, client) in finals.iter_mut().zip(clients) {
        *state = final_state(client, Some(revision)).await?;
    }
    // A watcher that does not get there is not an error of the harness: the check will say what is missing.
    let caught_up = || shared.watched_up_to.load(Ordering::SeqCst) >= revision;
    let _checked_below = wait(cluster, "the watcher catches up", caught_up).await;
    load.stop(shared).await;
    Ok(shared.recorded(finals))
}

/// All keys, linearizable, and the hash at `revision`.
async fn final_state(client: &Client, revision: Option<i64>) -> Result<FinalState> {
    let request = pb::RangeRequest {
        key: b"\0"[..].into(),
        range_end: b"\0"[..].into(),
        revision: revision.unwrap_or(0),
        ..Default::default()
    };
    let answer: pb::RangeResponse = retry(|| client.call(method::kv::RANGE, &request)).await?;
    let hash_request = pb::HashKvRequest { revision: revision.unwrap_or(0) };
    let hash: pb::HashKvResponse =
        retry(|| client.call(method::maintenance::HASH_KV, &hash_request)).await?;
    Ok(FinalState {
        revision: answer.header.context("a header")?.revision,
        keys: answer
            .kvs
            .into_iter()
            .map(|kv| (kv.key.to_vec(), (kv.value.to_vec(), kv.mod_revision)))
            .collect(),
        hash: hash.hash,
    })
}

/// A read, again until the cluster has settled.
async fn retry<T, F: Future<Output = Result<T, crate::rpc::Refused>>>(
    call: impl Fn() -> F,
) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(RECOVERY_SECONDS_MAX);
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(refused) => ensure!(Instant::now() < end, "after the last round: {refused:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
