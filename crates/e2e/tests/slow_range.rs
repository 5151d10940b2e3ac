//! One range deletes all of its keys, which takes long; another is written to meanwhile, at the same members.
//!
//! A figure, and a ratio that is asked for: the puts of the other range go on, at a good part of the rate that they
//! had before. Were the deletion evaluated or applied on the core's thread, there would be next to none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use client::{Client, Config, Delete, Put, Txn};
use e2e::cluster::Cluster;
use e2e::rpc::block_on;
use e2e::tools::subject;

const SLOW: u64 = 2;
const OTHER: u64 = 3;
/// Puts in a transaction, and transactions under way, while the keys are made.
const PUTS: u64 = 100;
const LOADERS: usize = 8;
/// How long the other range is written to before.
const BEFORE: Duration = Duration::from_secs(1);
/// The part of the rate of before that is asked for, as one in so many.
const PART: u128 = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

async fn load(slow: &Client, keys: u64) -> Result<()> {
    let mut loaders = tokio::task::JoinSet::new();
    for loader in 0..LOADERS {
        let slow = slow.clone();
        loaders.spawn(async move {
            for batch in (0..keys / PUTS).skip(loader).step_by(LOADERS) {
                let puts = (0..PUTS).map(|n| Put::new(format!("k{:08}", batch * PUTS + n), "v"));
                slow.txn(Txn::new().then(puts)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(loader) = loaders.join_next().await {
        loader??;
    }
    Ok(())
}

/// How long each put of the other range takes, one after the other, until that is over.
async fn puts(other: &Client, mut is_over: impl FnMut() -> bool) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    while !is_over() {
        let began = Instant::now();
        other.put(Put::new("k", "v")).await?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn told(what: &str, mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |part: usize| took.get((took.len() * part / 100).min(took.len() - 1));
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let (p50, p99, most) = (ms(at(50)), ms(at(99)), ms(took.last()));
    format!("{what}: {} puts, p50 {p50:.1}, p99 {p99:.1}, at most {most:.1} ms", took.len())
}

/// `QUORATE_KEYS=500000` measures with as many keys.
#[test]
#[cfg_attr(not(peers), ignore = "needs real processes: QUORATE_PEERS=1")]
fn a_long_deletion_delays_no_other_range() {
    let keys = number("QUORATE_KEYS", 200_000);
    block_on(async {
        let program = subject()?.with(&["--experimental-ranges", "2"]);
        let cluster = Cluster::start(&program, 3)?;
        let endpoints: Vec<String> =
            cluster.servers.iter().map(|server| server.settings.endpoint()).collect();
        let client = Client::new(Config::new(&endpoints)?);
        let (slow, other) = (client.in_range(SLOW), client.in_range(OTHER));
        load(&slow, keys).await.context("the keys")?;
        let end = Instant::now() + BEFORE;
        let before = puts(&other, || Instant::now() >= end).await?;
        let began = Instant::now();
        let deletes = {
            let slow = slow.clone();
            tokio::spawn(async move { slow.delete(Delete::prefix("k")).await })
        };
        let during = puts(&other, || deletes.is_finished()).await?;
        let took = began.elapsed();
        let deleted = deletes.await?.context("the deletion")?.deleted;
        ensure!(deleted == i64::try_from(keys / PUTS * PUTS)?, "{deleted} keys are deleted");
        let expected = before.len() as u128 * took.as_micros() / BEFORE.as_micros();
        let (many, enough) = (during.len() as u128, expected / PART);
        println!("{}", told("before", before));
        println!("{}", told(&format!("while {deleted} keys were deleted, {took:.2?}"), during));
        ensure!(many >= enough, "{many} puts in {took:?}, and {enough} would be a fifth of before");
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
}
