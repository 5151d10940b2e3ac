//! What the tests of real nodes share.

#![allow(dead_code, reason = "each test file takes what it needs")]
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use node::{Config, Handle};

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Settings of the members of a cluster of `count`.
pub(crate) fn configs(dir: &Path, count: usize) -> Vec<Config> {
    let urls: Vec<String> = (0..count).map(|_| free_url()).collect();
    let cluster: BTreeMap<_, _> =
        urls.iter().enumerate().map(|(n, url)| (format!("n{n}"), vec![url.clone()])).collect();
    let config = |n: usize| Config {
        name: format!("n{n}"),
        listen_peer_urls: vec![urls[n].clone()],
        advertise_peer_urls: vec![urls[n].clone()],
        initial_cluster: cluster.clone(),
        election_timeout: Duration::from_millis(300),
        heartbeat_interval: Duration::from_millis(30),
        ..Config::single(dir.join(format!("n{n}")))
    };
    (0..count).map(config).collect()
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
}

/// Waits until the member knows of a leader that serves.
pub(crate) async fn serves(handle: &Handle) {
    // A read waits by itself, for as long as a request may.
    while handle.read_point().await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// Waits until what the member has applied makes `condition` true.
pub(crate) async fn applied(handle: &Handle, condition: impl Fn() -> bool) {
    loop {
        let mut feed = handle.subscribe();
        while !condition() {
            if feed.recv().await.is_none() {
                break;
            }
        }
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
}
