//! A member that goes on alone after the others are lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use etcd::{Request, Response};
use node::{Config, Handle, InitialState, Node};
use proto::etcdserverpb as pb;
use support::{configs, free_url, run, serves};

async fn put(handle: &Handle, key: &str) -> Result<Response, etcd::Error> {
    let key = key.to_owned().into();
    handle.execute(Request::Put(pb::PutRequest { key, ..Default::default() })).await
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
    let mut configs = configs(dir.path(), 3);
    configs.iter_mut().for_each(|config| config.request_timeout = Duration::from_secs(1));
    let nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let ids: Vec<u64> = nodes.iter().map(|node| node.handle().member_id()).collect();
    run(async {
        serves(nodes[0].handle()).await;
        put(nodes[0].handle(), "committed").await.unwrap();
    });
    // The leader stays, and takes one more write that can no longer be agreed on.
    let leader = nodes[0].handle().standing().leader.unwrap();
    let kept = ids.iter().position(|id| *id == leader.0).unwrap();
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
