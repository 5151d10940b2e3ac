//! A member that was away while the log was truncated, and a new learner, catch up by a streamed snapshot while
//! writes go on; the leader's memory does not grow by the snapshot's size.
//!
//! `QUORATE_SNAPSHOT_MIB` sets the size (default 96; the release figure is taken with 1024).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use e2e::cluster::Cluster;
use e2e::ctl::Session;
use e2e::rpc::{Client, block_on};
use e2e::tools::{Version, subject};
use proto::etcdserverpb as pb;
use proto::method;

const VALUE_BYTES: usize = 64 << 10;
const CATCH_UP_SECONDS_MAX: u64 = 300;
/// What the leader may need besides: buffers, writes that go on, its allocator's slack.
const SLACK_MIB: u64 = 128;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Anonymous memory of a process: what it has allocated, without mapped files.
fn anonymous_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? / 1024)
}

/// Values that do not compress, so that the snapshot is as large as it says.
fn noise(seed: u64) -> Bytes {
    let mut dice = e2e::differential::generate::Dice::new(seed, 1);
    (0..VALUE_BYTES / 8).flat_map(|_| dice.roll().to_le_bytes()).collect()
}

async fn put(client: &Client, key: &str, value: Bytes) -> Result<()> {
    let request =
        pb::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), value, ..Default::default() };
    let _answer: pb::PutResponse = client
        .call(method::kv::PUT, &request)
        .await
        .map_err(|error| anyhow::anyhow!("put: {error:?}"))?;
    Ok(())
}

/// How many keys a member has by itself, and its hash at a revision.
async fn own_state(client: &Client) -> Option<(i64, i64)> {
    let request = pb::RangeRequest {
        key: Bytes::from_static(b"bulk/"),
        range_end: Bytes::from_static(b"bulk0"),
        count_only: true,
        serializable: true,
        ..Default::default()
    };
    let answer: pb::RangeResponse = client.call(method::kv::RANGE, &request).await.ok()?;
    Some((answer.count, answer.header?.revision))
}

async fn hash(client: &Client, revision: i64) -> Option<u32> {
    let request = pb::HashKvRequest { revision };
    let answer: pb::HashKvResponse =
        client.call(method::maintenance::HASH_KV, &request).await.ok()?;
    Some(answer.hash)
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn by_a_streamed_snapshot() {
    let size_mib = variable("QUORATE_SNAPSHOT_MIB", 96);
    let program = subject().expect("the server under test");
    let quota = ((size_mib * 4 + 512) << 20).to_string();
    let mut program = program.with(&["--snapshot-count", "100", "--quota-backend-bytes", &quota]);
    if !program.is_etcd() {
        // etcd 3.5 always keeps 5,000 entries; there this test shows only that it is sound itself.
        program = program.with(&["--snapshot-catchup-entries", "50"]);
    }
    let mut cluster = Cluster::start(&program, 3).expect("a cluster");
    // The one that will be away must not lead, so that nothing else happens meanwhile.
    let session = Session::new(cluster, Version::V34).expect("a session");
    let leader = session.leader().expect("a leader");
    let Session { cluster: taken, .. } = session;
    cluster = taken;
    let away = usize::from(cluster.servers[0].settings.name == leader);
    let at = cluster
        .servers
        .iter()
        .position(|server| server.settings.name == leader)
        .expect("the leader");
    cluster.servers[away].kill().expect("kill");
    let result = block_on(scenario(&mut cluster, at, away, size_mib));
    let logs: String =
        cluster.servers.iter().map(e2e::server::Server::log_end).collect::<Vec<_>>().join("\n--\n");
    result.unwrap_or_else(|error| panic!("{error:#}\n{logs}"));
}

async fn scenario(cluster: &mut Cluster, leader: usize, away: usize, size_mib: u64) -> Result<()> {
    let to_leader = Client::new(&cluster.servers[leader].settings.endpoint())?;
    let values = (size_mib << 20) / VALUE_BYTES as u64;
    let began = Instant::now();
    for number in 0..values {
        put(&to_leader, &format!("bulk/{number:08}"), noise(number)).await?;
    }
    println!("{size_mib} MiB in {values} puts: {:.1} s", began.elapsed().as_secs_f32());

    // Writes go on from here to the end.
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (stop, written, client) = (Arc::clone(&stop), Arc::clone(&written), to_leader.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let number = written.fetch_add(1, Ordering::SeqCst);
                put(&client, &format!("live/{}", number % 100), Bytes::from(number.to_string()))
                    .await?;
            }
            anyhow::Ok(())
        }
    });
    let pid = cluster.servers[leader].pid().context("the leader runs")?;
    let before_mib = anonymous_mib(pid)?;

    cluster.servers[away].restart()?;
    let to_away = Client::new(&cluster.servers[away].settings.endpoint())?;
    let peak = caught_up(&to_away, values, pid, "the one that was away").await?;
    println!("leader: {before_mib} MiB before, at most {peak} MiB while a member caught up");

    let learner = cluster.joining("m4")?;
    let request = pb::MemberAddRequest { peer_urls: vec![learner.peer_url()], is_learner: true };
    let end = Instant::now() + Duration::from_secs(30);
    let added = loop {
        let added: Result<pb::MemberAddResponse, _> =
            to_leader.call(method::cluster::ADD, &request).await;
        match added {
            Ok(added) => break added,
            Err(refused) => ensure!(Instant::now() < end, "member add: {refused:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let to_learner = Client::new(&learner.endpoint())?;
    cluster.join(learner)?;
    let peak = peak.max(caught_up(&to_learner, values, pid, "the learner").await?);
    println!(
        "leader: at most {peak} MiB while a learner caught up; {} writes meanwhile",
        written.load(Ordering::SeqCst)
    );

    stop.store(true, Ordering::SeqCst);
    writer.await?.context("the writes that went on")?;
    ensure!(written.load(Ordering::SeqCst) > 10, "hardly any write went on");
    // A learner does not answer for its hash, a member with a vote does.
    let id = added.member.context("the member that was added")?.id;
    let promote = pb::MemberPromoteRequest { id };
    let _promoted: pb::MemberPromoteResponse = to_leader
        .call(method::cluster::PROMOTE, &promote)
        .await
        .map_err(|error| anyhow::anyhow!("member promote: {error:?}"))?;
    let (_, revision) = own_state(&to_leader).await.context("the leader's state")?;
    let expected = hash(&to_leader, revision).await.context("the leader's hash")?;
    for (client, who) in [(&to_away, "the one that was away"), (&to_learner, "the learner")] {
        let end = Instant::now() + Duration::from_secs(30);
        while hash(client, revision).await != Some(expected) {
            ensure!(Instant::now() < end, "{who}: its hash at {revision} is not the leader's");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    if !cluster.servers[leader].settings.program.is_etcd() {
        let allowed = before_mib + size_mib / 4 + SLACK_MIB;
        ensure!(
            peak <= allowed,
            "the leader grew from {before_mib} to {peak} MiB, more than {allowed}"
        );
    }
    Ok(())
}

/// Waits until a member has all of the bulk; the most memory that the leader had meanwhile.
async fn caught_up(client: &Client, values: u64, leader: u32, who: &str) -> Result<u64> {
    let began = Instant::now();
    let mut peak = 0;
    loop {
        peak = peak.max(anonymous_mib(leader)?);
        let count = own_state(client).await.map_or(0, |(count, _)| count);
        if count.unsigned_abs() == values {
            println!("{who} caught up in {:.1} s", began.elapsed().as_secs_f32());
            return Ok(peak);
        }
        ensure!(
            began.elapsed() < Duration::from_secs(CATCH_UP_SECONDS_MAX),
            "{who} has {count} of {values} keys"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
