//! Failover as a client sees it; see `e2e::failover`.

use std::time::Duration;

use client::Prefer;
use e2e::failover::{Plan, report, run};
use e2e::rpc::block_on;
use e2e::tools::{Version, etcd, subject};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// `cargo xtask failover --rounds N --election-ms N --heartbeat-ms N --server ours|etcd`.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_leader_is_killed() {
    let rounds = u32::try_from(number("QUORATE_ROUNDS", 3)).expect("QUORATE_ROUNDS");
    let (election, heartbeat) =
        (number("QUORATE_ELECTION_MS", 1000), number("QUORATE_HEARTBEAT_MS", 100));
    let interval = Duration::from_millis(number("QUORATE_INTERVAL_MS", 5));
    let json = std::env::var("QUORATE_FORMAT").is_ok_and(|format| format == "json");
    let which = std::env::var("QUORATE_SERVER").unwrap_or_else(|_| "ours".to_owned());
    let program = match which.as_str() {
        "ours" => subject(),
        "etcd" => etcd(Version::V34),
        other => panic!("QUORATE_SERVER: {other:?} is neither ours nor etcd"),
    };
    let (election_flag, heartbeat_flag) = (election.to_string(), heartbeat.to_string());
    let program = program.unwrap_or_else(|error| panic!("{error:#}")).with(&[
        "--election-timeout",
        &election_flag,
        "--heartbeat-interval",
        &heartbeat_flag,
    ]);
    let plan = Plan { rounds, interval, prefer: Prefer::First };
    let before = load();
    let outages = block_on(run(&program, &plan)).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{}", report(&which, &outages, json));
    println!(
        "settings: election timeout {election} ms, heartbeat {heartbeat} ms, a put and a get every {} ms; load {before} \
         before, {} after",
        interval.as_millis(),
        load()
    );
    assert_eq!(outages.len(), rounds as usize);
    let impossible = outages.iter().find(|one| one.put < one.noticed && one.noticed.is_zero());
    assert_eq!(impossible, None, "an answer without a new leader");
}
