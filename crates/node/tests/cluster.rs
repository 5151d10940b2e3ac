//! Real nodes in one process: threads, files and sockets, without the door.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use std::time::Instant;

use bytes::Bytes;
use etcd::{Error, Request, Response};
use node::{Handle, Node};
use proto::etcdserverpb as pb;
use support::{PATIENCE, configs, run};

async fn put(handle: &Handle, key: &str, value: &str) -> i64 {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    match handle.execute(Request::Put(request)).await.unwrap() {
        Response::Put(mut put) => put.header.take().unwrap().revision,
        other => panic!("{other:?}"),
    }
}

async fn get(handle: &Handle, key: &str) -> Option<String> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    match handle.execute(Request::Range(request)).await.unwrap() {
        Response::Range(range) => range.kvs.first().map(|kv| {
            let kv: proto::mvccpb::KeyValue = prost::Message::decode(kv.clone()).unwrap();
            String::from_utf8(kv.value.to_vec()).unwrap()
        }),
        other => panic!("{other:?}"),
    }
}

fn leader(nodes: &[Node]) -> usize {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(n) = nodes.iter().position(|node| node.handle().standing().serving) {
            return n;
        }
        std::thread::yield_now();
    }
    panic!("no leader in time");
}

/// A request that is on its way to a leader when another takes over goes to that one at once, whichever of the
/// two pieces of news comes first.
#[test]
fn requests_find_their_way_while_leadership_moves() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    let nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    for round in 0..30 {
        let from = leader(&nodes);
        let to = nodes[(from + 1) % 3].handle().member_id();
        run(async {
            let began = Instant::now();
            let puts: Vec<_> = (0..60)
                .map(|number| {
                    let handle = nodes[number % 3].handle().clone();
                    tokio::spawn(async move { put(&handle, &format!("k{number}"), "v").await })
                })
                .collect();
            nodes[from].handle().move_leader(to).await.unwrap();
            for put in puts {
                put.await.unwrap();
            }
            let took = began.elapsed();
            assert!(took < configs[0].request_timeout / 2, "round {round}: {took:?}");
        });
    }
    nodes.iter().for_each(Node::stop);
}

/// A follower that is bound to a leader and starts again knows that leader, although nobody tells it: the
/// leader has nothing to say to those that are bound to it.
#[test]
fn a_follower_that_starts_again_knows_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    let mut nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let first = leader(&nodes);
    run(put(nodes[first].handle(), "k", "v"));
    // Once it reads by its lease, both others or one of them are bound.
    run(async {
        while nodes[first].handle().standing().confirmed_by_lease == 0 {
            get(nodes[first].handle(), "k").await;
        }
    });
    for follower in (0..3).filter(|&n| n != first) {
        nodes.remove(follower).stop();
        nodes.insert(follower, Node::start(&configs[follower]).unwrap());
        run(async {
            let began = Instant::now();
            assert_eq!(get(nodes[follower].handle(), "k").await.as_deref(), Some("v"));
            let took = began.elapsed();
            assert!(took < configs[0].request_timeout / 2, "{took:?}");
        });
    }
    nodes.iter().for_each(Node::stop);
}

/// Nothing is founded beside the data of an etcd.
#[test]
fn the_directory_of_an_etcd_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1).remove(0);
    let snap = config.data_dir.join("member/snap");
    std::fs::create_dir_all(&snap).unwrap();
    std::fs::write(snap.join("db"), b"x").unwrap();
    let refused = Node::start(&config).err().unwrap().to_string();
    assert!(refused.contains("snapshot restore"), "{refused}");
    assert!(!config.data_dir.join("state").exists());
    std::fs::remove_dir_all(config.data_dir.join("member")).unwrap();
    Node::start(&config).unwrap().stop();
}

#[test]
fn a_node_answers_and_finds_everything_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1).remove(0);
    let node = Node::start(&config).unwrap();
    run(async {
        let handle = node.handle();
        assert_eq!(get(handle, "k").await, None);
        assert_eq!(put(handle, "k", "1").await, 2);
        assert_eq!(put(handle, "k", "2").await, 3);
        assert_eq!(get(handle, "k").await.as_deref(), Some("2"));
        let parallel = (0..100).map(|n| {
            let handle = handle.clone();
            async move { put(&handle, &format!("p{n}"), "x").await }
        });
        let mut revisions = Vec::new();
        for future in parallel {
            revisions.push(future.await);
        }
        assert_eq!(revisions, (4..104).collect::<Vec<_>>());
        handle.defragment().await.unwrap();
        assert_eq!(put(handle, "k", "3").await, 104);
    });
    node.stop();
    drop(node);
    let node = Node::start(&config).unwrap();
    run(async {
        assert_eq!(get(node.handle(), "k").await.as_deref(), Some("3"));
        assert_eq!(get(node.handle(), "p99").await.as_deref(), Some("x"));
        assert_eq!(put(node.handle(), "k", "4").await, 105);
    });
    node.stop();
}

#[test]
fn three_nodes_serve_on_every_member_and_survive_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    let mut nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let first = leader(&nodes);
    run(async {
        for (n, node) in nodes.iter().enumerate() {
            put(node.handle(), "k", &n.to_string()).await;
            for node in &nodes {
                assert_eq!(get(node.handle(), "k").await, Some(n.to_string()));
            }
        }
    });
    nodes.remove(first).stop();
    leader(&nodes);
    run(async {
        assert_eq!(get(nodes[0].handle(), "k").await.as_deref(), Some("2"));
        put(nodes[1].handle(), "k", "after").await;
        assert_eq!(get(nodes[0].handle(), "k").await.as_deref(), Some("after"));
    });
    let back = Node::start(&configs[first]).unwrap();
    run(async {
        assert_eq!(get(back.handle(), "k").await.as_deref(), Some("after"));
    });
    back.stop();
    for node in nodes {
        node.stop();
    }
}

/// A member, its threads and its disk: what does more than an entry of the log holds is refused or done in parts, and
/// nobody ends of it.
#[test]
fn a_member_outlives_what_no_entry_holds() {
    let dir = tempfile::tempdir().unwrap();
    let config = &configs(dir.path(), 1)[0];
    let node = Node::start(config).unwrap();
    let handle = node.handle().clone();
    let all = Bytes::from_static(b"\0");
    run(async {
        let grant = Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 5, id: 7 });
        handle.execute(grant).await.unwrap();
        for letter in b'a'..=b'n' {
            let key = Bytes::from(vec![letter; 1_400_000]);
            let put = pb::PutRequest { key, lease: 7, ..Default::default() };
            handle.execute(Request::Put(put)).await.unwrap();
            let alive = Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: 7 });
            handle.execute(alive).await.unwrap();
        }
        let (key, range_end) = (all.clone(), all.clone());
        let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: false };
        let refused = handle.execute(Request::DeleteRange(delete)).await;
        assert_eq!(refused, Err(Error::RequestTooLarge));
        let revoke = Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 });
        assert_eq!(handle.execute(revoke).await, Err(Error::RequestTooLarge));
    });
    // Its end is begun by one life of the member, and may be completed by the next.
    let count = |node: &Node| node.handle().view().live_keys();
    let began = Instant::now();
    while count(&node) == 14 {
        assert!(began.elapsed() < PATIENCE, "the lease does not end");
        std::thread::yield_now();
    }
    node.stop();
    drop(node);
    let node = Node::start(config).unwrap();
    while count(&node) > 0 {
        assert!(began.elapsed() < 2 * PATIENCE, "the lease does not end whole: {}", count(&node));
        std::thread::yield_now();
    }
    assert_eq!(run(put(node.handle(), "k", "v")), 19, "the end took three revisions");
    node.stop();
}

/// What no log could hold is refused before anything is written.
#[test]
fn a_member_with_limits_that_cannot_work_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = configs(dir.path(), 1).remove(0);
    config.limits.max_request_bytes = 20 << 20;
    let refused = Node::start(&config).err().unwrap().to_string();
    assert!(refused.contains("--max-request-bytes=20971520"), "{refused}");
    assert!(refused.contains("the most is 15728640"), "{refused}");
    config.limits.max_request_bytes = 15 << 20;
    config.limits.effects_bytes_max = 32 << 20;
    assert!(Node::start(&config).err().unwrap().to_string().contains("33554432"));
    assert!(!config.data_dir.exists());
}

/// A put of the longest that may be allowed goes from a member that is asked to the leader, into every log, and to a
/// member that was away.
#[test]
fn requests_of_the_longest_reach_every_member() {
    let dir = tempfile::tempdir().unwrap();
    let mut configs = configs(dir.path(), 3);
    for config in &mut configs {
        config.limits.max_request_bytes = config.limits.request_bytes_max();
    }
    let bytes = configs[0].limits.max_request_bytes - 100;
    let mut nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let first = leader(&nodes);
    let (asked, away) = ((first + 1) % 3, (first + 2) % 3);
    let handle = nodes[asked].handle().clone();
    nodes.remove(away).stop();
    let long = |letter: &str| letter.repeat(bytes);
    for letter in ["x", "y", "z"] {
        run(put(&handle, "k", &long(letter)));
    }
    nodes.insert(away, Node::start(&configs[away]).unwrap());
    let found = run(get(nodes[away].handle(), "k")).unwrap();
    assert!(found == long("z"), "{} bytes", found.len());
    nodes.iter().for_each(Node::stop);
}

/// A member whose directory is empty, and that the others know as one that has served, has lost what it
/// promised and acknowledged. It is refused with `--initial-cluster-state new`, and must be with `existing`, which
/// is what every member that was ever added is started with.
#[test]
fn a_member_that_lost_its_data_does_not_join_as_the_one_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    let mut nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    let first = leader(&nodes);
    let (behind, wiped) = ((first + 1) % 3, (first + 2) % 3);
    run(async {
        put(nodes[first].handle(), "k", "before").await;
        for (n, node) in nodes.iter().enumerate() {
            let publish = etcd::Publish {
                member_id: node.handle().member_id(),
                name: format!("n{n}"),
                client_urls: vec![format!("http://c{n}:1")],
            };
            nodes[first].handle().execute(Request::Publish(publish)).await.unwrap();
        }
        // What a member knows to be committed it writes down with the next entries: it is to know of all that.
        for _ in 0..5 {
            put(nodes[first].handle(), "k", "before").await;
            nodes[behind].handle().read_point().await.unwrap();
        }
        assert_eq!(get(nodes[behind].handle(), "k").await.as_deref(), Some("before"));
    });
    nodes[behind].stop();
    // Acknowledged on the strength of two disks: the leader's, and the one that will be lost.
    run(put(nodes[first].handle(), "k", "acknowledged"));
    nodes[first].stop();
    nodes[wiped].stop();
    drop(std::mem::take(&mut nodes));
    std::fs::remove_dir_all(&configs[wiped].data_dir).unwrap();
    // One that was behind, and one with an empty disk. The third is down, and has what was acknowledged.
    let one = Node::start(&configs[behind]).unwrap();
    // It may have its log to go through first: until it has, it does not say who the members are.
    let existing =
        node::Config { initial_state: node::InitialState::Existing, ..configs[wiped].clone() };
    let Err(error) = Node::start(&existing) else { panic!("what was acknowledged is lost") };
    assert!(error.to_string().contains("has already been bootstrapped"), "{error}");
    one.stop();
}
