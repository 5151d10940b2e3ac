//! The holder of the lease is stopped for longer than its lease, and asked before it knows that it lost it.
//!
//! SIGSTOP of the leader; a put through the others, which only a new leader can acknowledge; then gets to the stopped
//! one, which lie in its sockets until SIGCONT: the first things that it sees when it wakes, with the old value in its
//! state and, as far as it remembers, with a lease. Each of these gets began after the put was acknowledged, so an
//! answer without it is stale.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::Cluster;
use e2e::rpc::{Client, block_on};
use e2e::tools::{Program, subject};
use proto::etcdserverpb as pb;
use proto::method;
use tokio::task::JoinSet;

const KEY: &[u8] = b"paused";
const ROUNDS: u32 = 8;
/// Connections with a get each in the stopped member's sockets.
const READERS: usize = 24;
/// How long a new leader may take, and an answer of the member that wakes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the gets of all rounds were answered.
#[derive(Debug, Default)]
struct Seen {
    fresh: usize,
    stale: usize,
    refused: usize,
}

struct Readers {
    all: Vec<Client>,
    serializable: bool,
}

impl Readers {
    fn get(&self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: KEY.to_vec().into(),
            serializable: self.serializable,
            ..Default::default()
        }
    }

    /// Sends a get on every connection, without waiting for answers.
    fn ask(&self) -> JoinSet<Option<Vec<u8>>> {
        let mut asked = JoinSet::new();
        for reader in &self.all {
            let (reader, get) = (reader.clone(), self.get());
            asked.spawn(async move {
                let call = reader.call::<_, pb::RangeResponse>(method::kv::RANGE, &get);
                let answer = tokio::time::timeout(PATIENCE, call).await.ok()?.ok()?;
                Some(answer.kvs.first().map(|pair| pair.value.to_vec()).unwrap_or_default())
            });
        }
        asked
    }
}

async fn put(member: &Client, value: &str) -> bool {
    let put = pb::PutRequest {
        key: KEY.to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..Default::default()
    };
    let call = member.call::<_, pb::PutResponse>(method::kv::PUT, &put);
    matches!(tokio::time::timeout(Duration::from_millis(500), call).await, Ok(Ok(_)))
}

/// Puts through any of `members`, until it is acknowledged.
async fn insist(members: &[&Client], value: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for member in members {
            if put(member, value).await {
                return Ok(());
            }
        }
    }
    bail!("{value} is not acknowledged within {} s", PATIENCE.as_secs())
}

/// The place of the member that says that it leads, once all agree about it.
async fn leader(members: &[Client]) -> Result<usize> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let mut told = Vec::new();
        for member in members {
            let asked = member
                .call::<_, pb::StatusResponse>(method::maintenance::STATUS, &pb::StatusRequest {});
            if let Ok(Ok(status)) = tokio::time::timeout(Duration::from_millis(500), asked).await {
                told.push((status.header.unwrap_or_default().member_id, status.leader));
            }
        }
        if told.len() == members.len()
            && told.iter().all(|(_, leads)| *leads == told[0].1)
            && let Some(place) = told.iter().position(|(id, leads)| id == leads)
        {
            return Ok(place);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the members do not agree on a leader within {} s", PATIENCE.as_secs())
}

async fn round(
    cluster: &mut Cluster,
    members: &[Client],
    serializable: bool,
    number: u32,
) -> Result<Seen> {
    let holder = leader(members).await?;
    let others: Vec<&Client> = members
        .iter()
        .enumerate()
        .filter(|(place, _)| *place != holder)
        .map(|(_, one)| one)
        .collect();
    let (old, new) = (format!("old {number}"), format!("new {number}"));
    insist(&[&members[holder]], &old).await?;
    let endpoint = cluster.servers[holder].settings.endpoint();
    let all = (0..READERS).map(|_| Client::new(&endpoint)).collect::<Result<Vec<_>>>()?;
    let readers = Readers { all, serializable };
    // Connections are made, and the lease is in use.
    for answer in readers.ask().join_all().await {
        ensure!(answer.as_deref() == Some(old.as_bytes()), "before the pause: {answer:?}");
    }
    cluster.servers[holder].pause()?;
    let put = insist(&others, &new).await;
    let asked = readers.ask();
    // So that they lie in the sockets.
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.servers[holder].resume()?;
    put.context("while the holder stands still")?;
    let mut seen = Seen::default();
    for answer in asked.join_all().await {
        match answer {
            Some(value) if value == new.as_bytes() => seen.fresh += 1,
            Some(value) if value == old.as_bytes() => seen.stale += 1,
            Some(value) => bail!("a value of no round: {}", String::from_utf8_lossy(&value)),
            None => seen.refused += 1,
        }
    }
    Ok(seen)
}

async fn play(program: &Program, serializable: bool) -> Result<Seen> {
    let mut cluster = Cluster::start(program, 3)?;
    let endpoints: Vec<String> =
        cluster.servers.iter().map(|server| server.settings.endpoint()).collect();
    let members = endpoints.iter().map(|one| Client::new(one)).collect::<Result<Vec<_>>>()?;
    let mut sum = Seen::default();
    for number in 1..=ROUNDS {
        let seen = round(&mut cluster, &members, serializable, number).await;
        let seen = seen.with_context(|| format!("round {number}"))?;
        println!("paused: round {number} of {ROUNDS}: {seen:?}");
        sum.fresh += seen.fresh;
        sum.stale += seen.stale;
        sum.refused += seen.refused;
    }
    Ok(sum)
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_holder_that_was_stopped_for_longer_than_its_lease_answers_nothing_stale() {
    let subject = subject().expect("the server under test");
    let seen = block_on(play(&subject, false)).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(seen.stale, 0, "{seen:?}");
    // They wait for the next leader rather than fail.
    assert!(seen.fresh > seen.refused, "few were answered: {seen:?}");
}

/// Reads that ask nobody are stale there: the test can see it.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_test_itself() {
    let subject = subject().expect("the server under test");
    let seen = block_on(play(&subject, true)).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(seen.stale > 0, "a member that slept through a write knew of it at once: {seen:?}");
}
