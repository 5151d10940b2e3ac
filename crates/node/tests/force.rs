//! A member that goes on alone after the others are lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use etcd::{Request, Response};
use node::{Config, Handle, InitialState, Node};
use proto::etcdserverpb as pb;

const PATIENCE: Duration = Duration::from_secs(20);

fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn configs(dir: &Path, count: usize) -> Vec<Config> {
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
        request_timeout: Duration::from_secs(1),
        ..Config::single(dir.join(format!("n{n}")))
    };
    (0..count).map(config).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("in time") })
}

async fn put(handle: &Handle, key: &str) -> Result<Response, etcd::Error> {
    let key = key.to_owned().into();
    handle.execute(Request::Put(pb::PutRequest { key, ..Default::default() })).await
}

async fn serves(handle: &Handle) {
    while handle.read_point().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn members(node: &Node) -> Vec<u64> {
    let view = node.handle().view();
    etcd::members(&view).unwrap().iter().map(|member| member.id).collect()
}

fn has(node: &Node, key: &str) -> bool {
    let view = node.handle().view();
    view.get(key.as_bytes(), view.revision()).unwrap().is_some()
}

#[test]
fn the_last_member_goes_on_alone() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    let nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let ids: Vec<u64> = nodes.iter().map(|node| node.handle().member_id()).collect();
    run(async {
        serves(nodes[0].handle()).await;
        put(nodes[0].handle(), "committed").await.unwrap();
    });
    // The leader stays, and takes one more write that can no longer be agreed on.
    let leads = |node: &&Node| node.handle().standing().serving;
    let began = Instant::now();
    let kept = loop {
        if let Some(at) = nodes.iter().position(|node| leads(&node)) {
            break at;
        }
        assert!(began.elapsed() < PATIENCE, "nobody leads");
        std::thread::sleep(Duration::from_millis(10));
    };
    let lost: Vec<u64> = ids.iter().copied().filter(|id| *id != ids[kept]).collect();
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| *at != kept) {
        node.stop();
        std::fs::remove_dir_all(&configs[at].data_dir).unwrap();
    }
    assert!(run(put(nodes[kept].handle(), "unknown")).is_err());
    nodes[kept].stop();
    drop(nodes);

    let forced = Config { force_new_cluster: true, ..configs[kept].clone() };
    // With the flag, with it again, and without.
    for (round, config) in [&forced, &forced, &configs[kept]].into_iter().enumerate() {
        let node = Node::start(config).unwrap();
        run(serves(node.handle()));
        assert_eq!(members(&node), [ids[kept]], "round {round}");
        for id in &lost {
            assert!(etcd::was_removed(&node.handle().view(), *id).unwrap());
        }
        assert!(has(&node, "committed") && has(&node, "unknown"), "round {round}");
        run(put(node.handle(), &format!("round {round}"))).unwrap();
        node.stop();
    }
    a_new_member_joins(dir.path(), &configs[kept], ids[kept]);
}

fn a_new_member_joins(dir: &Path, first: &Config, first_id: u64) {
    let node = Node::start(first).unwrap();
    let url = free_url();
    run(async {
        serves(node.handle()).await;
        let peer_urls = vec![url.clone()];
        let add = pb::MemberAddRequest { peer_urls, ..Default::default() };
        node.handle().execute(Request::MemberAdd(add)).await.unwrap();
    });
    let config = Config {
        name: "new".to_owned(),
        listen_peer_urls: vec![url.clone()],
        advertise_peer_urls: vec![url.clone()],
        initial_cluster: BTreeMap::from([
            (first.name.clone(), first.advertise_peer_urls.clone()),
            ("new".to_owned(), vec![url]),
        ]),
        initial_state: InitialState::Existing,
        ..Config { data_dir: dir.join("new"), ..first.clone() }
    };
    let joined = Node::start(&config).unwrap();
    run(serves(joined.handle()));
    run(put(joined.handle(), "together")).unwrap();
    assert!(has(&joined, "unknown") && has(&joined, "round 2"));
    assert_eq!(members(&joined).len(), 2);
    assert!(members(&joined).contains(&first_id));
    joined.stop();
    node.stop();
}
