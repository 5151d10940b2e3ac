//! Failover as a client sees it.
//!
//! Three members on loopback, and a client of ours with all their endpoints, which begins a put and a get every few
//! milliseconds whether those before have been answered or not (an open loop: a slow cluster is not asked less).
//! Round after round the leader is killed by SIGKILL; the outage is the time from then to the first answer to a
//! request that was begun after it. The next round begins once the killed member has caught up.
//!
//! Where the time goes is looked up beside it, at the members that are left: when one of them says a higher term
//! (the death was noticed, and a vote begun), and when one of them knows a new leader. What is left until the
//! answer is the way of the request: the client's attempts and pauses, the way to the leader, the disk.
//!
//! Caveat: on a machine that is busy with other things elections wait for the processor too. The load is printed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use client::{Config, Get, Prefer, Put};
use proto::etcdserverpb as pb;
use proto::method;

use crate::cluster::Cluster;
use crate::rpc::Client;
use crate::tools::Program;

/// How long a cluster may take to go on, and a member to catch up.
const RECOVERY: Duration = Duration::from_secs(30);
/// How often the members that are left are asked.
const LOOK: Duration = Duration::from_millis(5);

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often the leader is killed.
    pub rounds: u32,
    /// Between two puts, and between two gets.
    pub interval: Duration,
    /// Members that a client asks first.
    pub prefer: Prefer,
}

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// To the first acknowledged put that was begun after the kill.
    pub put: Duration,
    /// To the first answered linearizable get that was begun after the kill.
    pub get: Duration,
    /// Until a member that is left says a higher term.
    pub noticed: Duration,
    /// From then until one knows a new leader.
    pub elected: Duration,
    /// From then until the put is answered.
    pub way: Duration,
    /// The longest that a put took which was begun in the outage and acknowledged.
    pub slowest_put: Duration,
}

/// A request that was answered well.
#[derive(Debug, Clone, Copy)]
struct Answered {
    began: Instant,
    ended: Instant,
}

#[derive(Debug, Default)]
struct Requests {
    answered: Mutex<Vec<Answered>>,
    failed: AtomicU64,
}

impl Requests {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Answered>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first answer to a request that was begun after `after`.
    fn first_after(&self, after: Instant) -> Option<Answered> {
        let answered = self.lock();
        answered.iter().filter(|one| one.began > after).min_by_key(|one| one.ended).copied()
    }
}

/// The load: runs until it is dropped.
struct Load {
    puts: Arc<Requests>,
    gets: Arc<Requests>,
    stop: Arc<AtomicBool>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Load {
    fn start(client: &client::Client, interval: Duration) -> Load {
        let load = Load { puts: Arc::default(), gets: Arc::default(), stop: Arc::default() };
        let (puts, gets, stop) =
            (Arc::clone(&load.puts), Arc::clone(&load.gets), Arc::clone(&load.stop));
        let client = client.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(interval);
            let mut number = 0_u64;
            while !stop.load(Ordering::SeqCst) {
                tick.tick().await;
                number += 1;
                let key = format!("failover/{:03}", number % 1000);
                let put = Put::new(key.clone(), number.to_string());
                let (one, two) = (client.clone(), client.clone());
                ask(&puts, async move { one.put(put).await.is_ok() });
                ask(&gets, async move { two.get(Get::key(key)).await.is_ok() });
            }
        });
        load
    }
}

/// Begins a request now, and notes what becomes of it.
fn ask(requests: &Arc<Requests>, request: impl Future<Output = bool> + Send + 'static) {
    let requests = Arc::clone(requests);
    let began = Instant::now();
    tokio::spawn(async move {
        if request.await {
            requests.lock().push(Answered { began, ended: Instant::now() });
        } else {
            requests.failed.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Measures.
///
/// # Errors
/// When the cluster does not go on after a kill.
pub async fn run(program: &Program, plan: &Plan) -> Result<Vec<Outage>> {
    let mut cluster = Cluster::start(program, 3)?;
    let endpoints: Vec<String> =
        cluster.servers.iter().map(|server| server.settings.endpoint()).collect();
    let members = endpoints.iter().map(|one| Client::new(one)).collect::<Result<Vec<_>>>()?;
    let config = Config { prefer: plan.prefer, ..Config::new(&endpoints)? };
    let load = Load::start(&client::Client::new(config), plan.interval);
    let mut outages = Vec::new();
    for round in 1..=plan.rounds {
        settle(&mut cluster, &members, &load).await.with_context(|| format!("round {round}"))?;
        let outage =
            kill(&mut cluster, &members, &load).await.with_context(|| format!("round {round}"))?;
        println!(
            "failover: round {round} of {}: put {} ms, get {} ms (noticed {}, elected {}, way {})",
            plan.rounds,
            outage.put.as_millis(),
            outage.get.as_millis(),
            outage.noticed.as_millis(),
            outage.elected.as_millis(),
            outage.way.as_millis(),
        );
        outages.push(outage);
    }
    Ok(outages)
}

async fn status(member: &Client) -> Option<pb::StatusResponse> {
    let asked = member.call(method::maintenance::STATUS, &pb::StatusRequest {});
    tokio::time::timeout(Duration::from_millis(500), asked).await.ok()?.ok()
}

/// All three are there, agree on the leader, and are as far; and the load has been served for a while.
async fn settle(cluster: &mut Cluster, members: &[Client], load: &Load) -> Result<()> {
    for server in &mut cluster.servers {
        if !server.is_running() {
            server.restart()?;
        }
        server.wait_ready()?;
    }
    let end = Instant::now() + RECOVERY;
    let mut calm_since = None;
    loop {
        let mut all = Vec::new();
        for member in members {
            all.extend(status(member).await);
        }
        let agree = all.len() == members.len()
            && all.iter().all(|one| one.leader != 0 && one.leader == all[0].leader);
        let applied = all.iter().map(|one| one.raft_applied_index);
        // The load goes on between the three answers.
        let near = applied.clone().max().zip(applied.min()).is_some_and(|(a, b)| a - b < 500);
        let calm = *calm_since.get_or_insert_with(Instant::now);
        if !(agree && near) {
            calm_since = None;
        } else if calm.elapsed() > Duration::from_millis(500)
            && load.puts.first_after(calm).is_some()
        {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the cluster is not whole within {} s", RECOVERY.as_secs());
        tokio::time::sleep(POLL_SETTLED).await;
    }
}

const POLL_SETTLED: Duration = Duration::from_millis(50);

async fn kill(cluster: &mut Cluster, members: &[Client], load: &Load) -> Result<Outage> {
    let (leader, term, leader_id) = leader(members).await?;
    load.puts.lock().clear();
    load.gets.lock().clear();
    let killed = Instant::now();
    cluster.servers[leader].kill()?;
    let (mut noticed, mut elected) = (None, None);
    let end = killed + RECOVERY;
    while elected.is_none() {
        for (place, member) in members.iter().enumerate() {
            if place == leader {
                continue;
            }
            let Some(now) = status(member).await else { continue };
            if now.raft_term > term {
                noticed.get_or_insert_with(|| killed.elapsed());
                if now.leader != 0 && now.leader != leader_id {
                    elected.get_or_insert_with(|| killed.elapsed());
                }
            }
        }
        ensure!(Instant::now() < end, "no new leader within {} s", RECOVERY.as_secs());
        tokio::time::sleep(LOOK).await;
    }
    let (Some(noticed), Some(elected)) = (noticed, elected) else { bail!("found above") };
    let (put, get) = loop {
        if let (Some(put), Some(get)) =
            (load.puts.first_after(killed), load.gets.first_after(killed))
        {
            break (put, get);
        }
        ensure!(Instant::now() < end, "no answer within {} s", RECOVERY.as_secs());
        tokio::time::sleep(LOOK).await;
    };
    // Those that were begun meanwhile have time to be answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let slowest_put = {
        let answered = load.puts.lock();
        let meanwhile = answered.iter().filter(|one| one.began > killed && one.began < put.ended);
        meanwhile.map(|one| one.ended - one.began).max().unwrap_or_default()
    };
    let put = put.ended - killed;
    Ok(Outage {
        put,
        get: get.ended - killed,
        noticed,
        elected: elected.saturating_sub(noticed),
        way: put.saturating_sub(elected),
        slowest_put,
    })
}

/// The member that says that it leads; its term and its id.
async fn leader(members: &[Client]) -> Result<(usize, u64, u64)> {
    for (place, member) in members.iter().enumerate() {
        if let Some(now) = status(member).await
            && now.leader != 0
            && now.header.is_some_and(|header| header.member_id == now.leader)
        {
            return Ok((place, now.raft_term, now.leader));
        }
    }
    bail!("no member says that it leads")
}

/// p50, p99 and the most, in milliseconds.
#[must_use]
pub fn percentiles(mut of: Vec<Duration>) -> [u128; 3] {
    of.sort();
    let at = |percent: usize| {
        // The nearest rank: of few rounds, the 99th of a hundred is the last.
        let rank = (of.len() * percent).div_ceil(100).max(1);
        of.get(rank - 1).map_or(0, Duration::as_millis)
    };
    [at(50), at(99), at(100)]
}

/// What is printed of an outage, and its name.
type Column = (&'static str, fn(&Outage) -> Duration);

/// The table, and with `json` one object instead.
#[must_use]
pub fn report(title: &str, outages: &[Outage], json: bool) -> String {
    let columns: [Column; 6] = [
        ("put", |one| one.put),
        ("get", |one| one.get),
        ("noticed", |one| one.noticed),
        ("elected", |one| one.elected),
        ("way", |one| one.way),
        ("slowest_put", |one| one.slowest_put),
    ];
    let rows: Vec<(&str, [u128; 3])> = columns
        .iter()
        .map(|(name, of)| (*name, percentiles(outages.iter().map(of).collect())))
        .collect();
    if json {
        let fields: Vec<String> = rows
            .iter()
            .map(|(name, [p50, p99, max])| {
                format!("\"{name}_ms\":{{\"p50\":{p50},\"p99\":{p99},\"max\":{max}}}")
            })
            .collect();
        let rounds = outages.len();
        return format!("{{\"server\":\"{title}\",\"rounds\":{rounds},{}}}", fields.join(","));
    }
    let mut text = format!("{title}: {} kills of the leader, ms\n", outages.len());
    text += &format!("{:>12} {:>7} {:>7} {:>7}\n", "", "p50", "p99", "max");
    for (name, [p50, p99, max]) in rows {
        text += &format!("{name:>12} {p50:>7} {p99:>7} {max:>7}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let ms = |numbers: &[u64]| numbers.iter().map(|n| Duration::from_millis(*n)).collect();
        assert_eq!(percentiles(ms(&[])), [0, 0, 0]);
        assert_eq!(percentiles(ms(&[7])), [7, 7, 7]);
        assert_eq!(percentiles(ms(&[4, 1, 3, 2])), [2, 4, 4]);
        assert_eq!(percentiles(ms(&(1..=200).collect::<Vec<_>>())), [100, 198, 200]);
    }

    #[test]
    fn only_answers_to_what_began_after_count() {
        let requests = Requests::default();
        let killed = Instant::now();
        let at = |ms| killed + Duration::from_millis(ms);
        let before = killed.checked_sub(Duration::from_millis(5)).unwrap();
        requests.lock().push(Answered { began: before, ended: at(1) });
        assert!(requests.first_after(killed).is_none());
        requests.lock().push(Answered { began: at(2), ended: at(90) });
        requests.lock().push(Answered { began: at(40), ended: at(70) });
        assert_eq!(requests.first_after(killed).unwrap().ended, at(70));
    }
}
