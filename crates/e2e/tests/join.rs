//! A member that joins, and is not known yet to those whom it asks.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::Cluster;
use e2e::rpc::{Client, block_on};
use e2e::server::{Server, wait_for};
use e2e::tools::subject;
use proto::etcdserverpb as pb;
use proto::method;

const SOON: Duration = Duration::from_secs(4);

/// `member add` is acknowledged by one member, and the new one may ask another that has not applied it yet. Here
/// nobody has: it is started first.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn it_waits_a_little_to_be_known() {
    let program = subject().expect("the server under test");
    if program.is_etcd() {
        // This is a promise of ours.
        return;
    }
    let cluster = Cluster::start(&program, 1).expect("a member");
    let settings = cluster.joining("m2").expect("ports");
    let (url, log) = (settings.peer_url(), settings.data_dir.with_extension("log"));
    let mut second = Server::start(settings).expect("a process");
    let outcome: Result<()> = (|| {
        wait_for("it asks", SOON, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("waiting to be known to the cluster").then_some(())
        })?;
        block_on(async {
            let client = Client::new(&cluster.servers[0].settings.endpoint())?;
            let request = pb::MemberAddRequest { peer_urls: vec![url], is_learner: false };
            let _: pb::MemberAddResponse = client
                .call(method::cluster::ADD, &request)
                .await
                .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
            Ok(())
        })?;
        second.wait_ready().context("after `member add`")
    })();
    outcome.unwrap_or_else(|error| panic!("{error:#}\n{}", second.log_end()));
}

/// One that nobody adds ends by itself, and says what is missing.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_member_that_nobody_adds_ends() {
    let program = subject().expect("the server under test");
    let cluster = Cluster::start(&program, 1).expect("a member");
    let mut second = Server::start(cluster.joining("m2").expect("ports")).expect("a process");
    let status = second.wait_exit(Duration::from_secs(20)).expect("it ends");
    assert!(!status.success(), "{status}");
    let text = second.log_end();
    assert!(program.is_etcd() || text.contains("member add m2"), "{text}");
}

/// A member whose data are gone has forgotten its votes and what it acknowledged: it is not founded a second time
/// beside the others that still count on both. etcd refuses it too.
#[test]
#[cfg_attr(not(peers), ignore = "needs real peers: QUORATE_PEERS=1")]
fn a_founder_that_lost_its_data_is_not_founded_again() {
    let program = subject().expect("the server under test");
    let mut cluster = Cluster::start(&program, 3).expect("members");
    let victim = &mut cluster.servers[2];
    victim.kill().expect("it ran");
    victim.wipe().expect("it has data");
    victim.restart().expect("a process");
    let status = victim.wait_exit(Duration::from_secs(20)).expect("it ends");
    assert!(!status.success(), "{status}");
    let text = victim.log_end();
    assert!(text.contains("has already been bootstrapped"), "{text}");
    assert!(program.is_etcd() || text.contains("member remove"), "{text}");
}
