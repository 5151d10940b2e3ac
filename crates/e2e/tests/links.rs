//! Links between members that are cut for longer than TCP likes, and links that are slow.
//!
//! Each test runs in a network namespace of its own, so it takes root, `unshare`, `ip`, `tc` and `iptables`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::rpc::{Client, block_on};
use e2e::tools::subject;
use proto::etcdserverpb as pb;
use proto::method;
use tokio::task::JoinSet;

/// Set in the process that is inside.
const INSIDE: &str = "QUORATE_LINKS_INSIDE";

/// Runs this test once more, in a network of its own: there, this is `true`; outside it has passed then.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        call("ip", "link set lo up");
        return true;
    }
    let program = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{test}, in a network of its own: {status}");
    false
}

fn call(program: &str, words: &str) {
    let status = Command::new(program).args(words.split(' ')).status();
    let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {words}: {status}");
}

fn start() -> Result<(Cluster, Vec<Client>)> {
    let cluster = Cluster::start(&subject()?, 3)?;
    let endpoints = cluster.servers.iter().map(|server| server.settings.endpoint());
    let clients = endpoints.map(|one| Client::new(&one)).collect::<Result<Vec<_>>>()?;
    Ok((cluster, clients))
}

fn peer_ports(cluster: &Cluster) -> Vec<u16> {
    cluster.servers.iter().map(|server| server.settings.peer_port).collect()
}

async fn status(member: &Client) -> Result<pb::StatusResponse> {
    let asked = member.call(method::maintenance::STATUS, &pb::StatusRequest {});
    asked.await.map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

async fn put(member: Client, key: String, bytes: usize) -> Result<()> {
    let put = pb::PutRequest { key: key.into(), value: vec![b'v'; bytes].into(), ..<_>::default() };
    let call = member.call::<_, pb::PutResponse>(method::kv::PUT, &put);
    call.await.map(drop).map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

/// Puts through a member until it is acknowledged; each try has half a second.
async fn insist(member: &Client, patience: Duration) -> Result<Duration> {
    let began = Instant::now();
    while began.elapsed() < patience {
        let try_it = put(member.clone(), "k".to_owned(), 1);
        if matches!(tokio::time::timeout(Duration::from_millis(500), try_it).await, Ok(Ok(()))) {
            return Ok(began.elapsed());
        }
    }
    bail!("nothing is acknowledged within {} s", patience.as_secs())
}

/// So long that TCP, which tries again at intervals that double, does so nearly 20 s later, on either side. (After a
/// minute it would be nearly one more.)
const CUT: Duration = Duration::from_secs(31);
/// What a new connection takes, and an election, and more.
const BACK_WITHIN: Duration = Duration::from_secs(10);

async fn cut_and_heal() -> Result<()> {
    let (cluster, clients) = start()?;
    let rules: Vec<String> = peer_ports(&cluster)
        .iter()
        .flat_map(|port| {
            ["--dport", "--sport"].map(|side| format!("INPUT -p tcp {side} {port} -j DROP"))
        })
        .collect();
    rules.iter().for_each(|rule| call("iptables", &format!("-A {rule}")));
    tokio::time::sleep(CUT).await;
    let cut = insist(&clients[0], Duration::from_secs(1)).await;
    ensure!(cut.is_err(), "nothing was cut");
    rules.iter().for_each(|rule| call("iptables", &format!("-D {rule}")));
    for (place, client) in clients.iter().enumerate() {
        let took = insist(client, BACK_WITHIN).await;
        let took = took.with_context(|| format!("m{} after the links were healed", place + 1))?;
        println!("links: m{} serves {took:?} after", place + 1);
    }
    Ok(())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn members_that_were_cut_off_from_each_other_serve_again_soon() {
    if inside("members_that_were_cut_off_from_each_other_serve_again_soon") {
        block_on(cut_and_heal()).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Between members, not for clients.
fn slow_down(cluster: &Cluster, rate: &str) {
    call("tc", "qdisc add dev lo root handle 1: htb default 1");
    call("tc", "class add dev lo parent 1: classid 1:1 htb rate 10gbit quantum 60000");
    call("tc", &format!("class add dev lo parent 1: classid 1:2 htb rate {rate} quantum 60000"));
    // What a switch may hold: 0.2 s of it.
    call("tc", "qdisc add dev lo parent 1:2 bfifo limit 2500000");
    for port in peer_ports(cluster) {
        for side in ["--dport", "--sport"] {
            let rule = format!("OUTPUT -p tcp {side} {port} -j CLASSIFY --set-class 1:2");
            call("iptables", &format!("-t mangle -A {rule}"));
        }
    }
}

/// Values of 1 MB, which fill such a link for a second: stores hear of each other all the same.
async fn burst_on_slow_links() -> Result<()> {
    let (cluster, clients) = start()?;
    let before = status(&clients[0]).await?;
    let leader = {
        let mut found = None;
        for client in &clients {
            let status = status(client).await?;
            if status.header.unwrap_or_default().member_id == status.leader {
                found = Some(client.clone());
            }
        }
        found.context("nobody leads")?
    };
    slow_down(&cluster, "100mbit");
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(10) {
        let mut puts = JoinSet::new();
        for number in 0..16 {
            puts.spawn(put(leader.clone(), format!("k{number}"), 1_000_000));
        }
        while let Some(answer) = puts.join_next().await {
            answer.context("a put")??;
            done += 1;
        }
    }
    let after = status(&clients[0]).await?;
    println!("links: {done} puts of 1 MB; term {} -> {}", before.raft_term, after.raft_term);
    ensure!(before.raft_term == after.raft_term, "the leader has lost its support");
    Ok(())
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_burst_on_slow_links_costs_no_leader() {
    if inside("a_burst_on_slow_links_costs_no_leader") {
        block_on(burst_on_slow_links()).unwrap_or_else(|error| panic!("{error:#}"));
    }
}
