//! Three members under load, killed and stopped; see `e2e::torture`.

use std::time::Duration;

use e2e::rpc::block_on;
use e2e::tools::{Version, etcd, subject};
use e2e::torture::{Fault, Plan, Report, run};

fn plan(fault: Fault, rounds: u32) -> Plan {
    let seed = std::env::var("QUORATE_SEED")
        .map_or(1, |text| text.parse().expect("QUORATE_SEED is a number"));
    Plan { members: 3, fault, rounds, seed, pause: Duration::from_secs(10) }
}

fn survive(plan: Plan) -> Report {
    let subject = subject().expect("the server under test");
    let report = block_on(run(&subject, plan)).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{report:?}");
    assert!(report.acknowledged > 0 && report.reads > 0, "nothing happened: {report:?}");
    report
}

/// `cargo xtask torture --kind KIND --rounds N`.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn rounds_of_one_kind() {
    let kind = std::env::var("QUORATE_KIND").unwrap_or_else(|_| "leader".to_owned());
    let rounds = std::env::var("QUORATE_ROUNDS")
        .map_or(1, |text| text.parse().expect("QUORATE_ROUNDS is a number"));
    survive(plan(Fault::from_name(&kind).expect("QUORATE_KIND"), rounds));
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_leader_is_killed() {
    let report = survive(plan(Fault::KillLeader, 5));
    assert!(report.watch_resumed > 0, "the watcher never had to resume: {report:?}");
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_follower_is_killed() {
    survive(plan(Fault::KillFollower, 5));
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn all_are_killed_at_once() {
    let report = survive(plan(Fault::KillAll, 3));
    assert!(report.watch_resumed > 0, "the watcher never had to resume: {report:?}");
}

#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_leader_stands_still_for_ten_seconds() {
    survive(plan(Fault::PauseLeader, 1));
}

/// A store that forgets must be found out. A real etcd forgets when its files are taken away.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn the_test_itself() {
    let etcd = etcd(Version::V37).expect("etcd 3.7");
    let plan = Plan { members: 1, ..plan(Fault::WipeAll, 1) };
    let found = block_on(run(&etcd, plan)).expect_err("a store that forgets everything passed");
    let text = format!("{found:#}");
    assert!(
        text.contains("violations") && (text.contains("Lost") || text.contains("Stale")),
        "{text}"
    );
}
