//! `--initial-corrupt-check` finds a member whose state has rotted, also one that the others have left far behind.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::rpc::{Client, block_on};
use e2e::tools::subject;
use prost::Message;
use proto::etcdserverpb as pb;
use proto::method;

const PATTERN: &[u8] = &[b'R'; 64];
const EXIT_BOUND: Duration = Duration::from_secs(40);
const PUT_BOUND: Duration = Duration::from_secs(20);

async fn call<Q: Message, A: Message + Default>(
    client: &Client,
    path: &'static str,
    request: &Q,
) -> Result<A> {
    client.call(path, request).await.map_err(|refused| anyhow::anyhow!("{refused:?}"))
}

/// Puts until it is acknowledged: the member that was killed may have led.
async fn put(client: &Client, key: &str, value: &[u8]) -> Result<i64> {
    let (key, value) = (key.to_owned().into(), value.to_vec().into());
    let request = pb::PutRequest { key, value, ..Default::default() };
    let end = Instant::now() + PUT_BOUND;
    loop {
        match call::<_, pb::PutResponse>(client, method::kv::PUT, &request).await {
            Ok(answer) => return Ok(answer.header.map_or(0, |header| header.revision)),
            Err(error) if Instant::now() >= end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Turns a bit in every copy of the pattern below a directory; how many there were.
fn rot(directory: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found += rot(&path)?;
            continue;
        }
        let mut bytes = std::fs::read(&path)?;
        let copies: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(PATTERN)).collect();
        for at in &copies {
            bytes[*at] ^= 1;
        }
        if !copies.is_empty() {
            std::fs::write(&path, bytes)?;
        }
        found += copies.len();
    }
    Ok(found)
}

/// The third member writes its state and is killed. The others go on, and compact beyond all that it knows, so that
/// nothing of what it has can be compared. A value in its state rots. Started, it must catch up first, be compared
/// then, and end.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_rotten_member_that_was_left_behind_does_not_serve() {
    let program = subject().expect("the server under test").with(&["--initial-corrupt-check"]);
    if program.is_etcd() {
        // Its state lies elsewhere, in another format.
        return;
    }
    let mut cluster = Cluster::start(&program, 3).expect("three members");
    let endpoints: Vec<String> =
        cluster.servers.iter().map(|server| server.settings.endpoint()).collect();
    let outcome = block_on(async {
        let (first, third) = (Client::new(&endpoints[0])?, Client::new(&endpoints[2])?);
        put(&first, "rotten", PATTERN).await?;
        // A linearizable read there: the put has arrived.
        let key = "rotten".into();
        let read = pb::RangeRequest { key, ..Default::default() };
        let _: pb::RangeResponse = call(&third, method::kv::RANGE, &read).await?;
        let defragment = pb::DefragmentRequest {};
        let _: pb::DefragmentResponse =
            call(&third, method::maintenance::DEFRAGMENT, &defragment).await?;
        cluster.servers[2].kill()?;
        let mut revision = 0;
        for number in 0..50 {
            revision = put(&first, &format!("other {number}"), b"v").await?;
        }
        let request = pb::CompactionRequest { revision, physical: true };
        let _: pb::CompactionResponse = call(&first, method::kv::COMPACT, &request).await?;
        let state = cluster.servers[2].settings.data_dir.join("state");
        ensure!(rot(&state)? > 0, "the value is not in the state");
        cluster.servers[2].restart()?;
        let status = cluster.servers[2].wait_exit(EXIT_BOUND)?;
        let log = cluster.servers[2].log_end();
        ensure!(!status.success() && log.contains("found data inconsistency"), "{status}:\n{log}");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.servers[2].log_end()));
}
