//! Ranges beside the dense one, on real nodes.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use etcd::{Error, Request, Response};
use node::{Config, Handle, Node, RangeId};
use proto::etcdserverpb as pb;
use support::{configs, run, serves};

async fn put(handle: &Handle, range: u64, key: &str, value: &str) -> Result<i64, Error> {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    match handle.execute_in(RangeId(range), Request::Put(request)).await? {
        Response::Put(put) => Ok(put.header.unwrap().revision),
        other => panic!("{other:?}"),
    }
}

/// The same, until it is known to be done; twice does no harm.
async fn put_surely(handle: &Handle, range: u64, key: &str, value: &str) -> i64 {
    loop {
        if let Ok(revision) = put(handle, range, key, value).await {
            return revision;
        }
    }
}

async fn get(handle: &Handle, range: u64, key: &str) -> Result<Option<String>, Error> {
    let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    match handle.execute_in(RangeId(range), Request::Range(request)).await? {
        Response::Range(range) => Ok(range.kvs.first().map(|kv| {
            let kv: proto::mvccpb::KeyValue = prost::Message::decode(kv.clone()).unwrap();
            String::from_utf8(kv.value.to_vec()).unwrap()
        })),
        other => panic!("{other:?}"),
    }
}

async fn get_surely(handle: &Handle, range: u64, key: &str) -> Option<String> {
    loop {
        if let Ok(value) = get(handle, range, key).await {
            return value;
        }
    }
}

const RANGES: u64 = 20;

fn start(configs: &[Config]) -> Vec<Node> {
    configs.iter().map(|config| Node::start(config).unwrap()).collect()
}

fn with_ranges(dir: &std::path::Path, count: usize) -> Vec<Config> {
    let settings = configs(dir, count).into_iter();
    settings.map(|config| Config { ranges: RANGES, ..config }).collect()
}

/// Each range has keys and revisions of its own, whichever member is asked, over restarts too.
#[test]
fn ranges_are_apart_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let configs = with_ranges(dir.path(), 3);
    let nodes = start(&configs);
    run(async {
        let handle = |n: u64| nodes[usize::try_from(n % 3).unwrap()].handle();
        serves(handle(0)).await;
        for range in 2..2 + RANGES / 2 {
            assert_eq!(put_surely(handle(range), range, "k", &format!("of {range}")).await, 2);
            assert_eq!(put_surely(handle(range + 1), range, "other", "x").await, 3);
        }
        for range in 2..2 + RANGES / 2 {
            let value = get_surely(handle(range + 2), range, "k").await;
            assert_eq!(value, Some(format!("of {range}")));
        }
        assert_eq!(get_surely(handle(1), 1 + RANGES, "k").await, None);
        let nowhere = get(handle(0), 2 + RANGES, "k").await;
        assert_eq!(nowhere, Err(Error::RangeNotHere));
        // The range that holds all keys knows nothing of theirs.
        let all = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let Response::Range(found) = handle(0).execute(Request::Range(all)).await.unwrap() else {
            panic!("another answer");
        };
        assert_eq!((found.kvs.len(), found.header.unwrap().revision), (0, 1));
    });
    nodes.iter().for_each(Node::stop);
    drop(nodes);
    let nodes = start(&configs);
    run(async {
        for range in 2..2 + RANGES / 2 {
            let value = get_surely(nodes[0].handle(), range, "k").await;
            assert_eq!(value, Some(format!("of {range}")));
            assert_eq!(put_surely(nodes[1].handle(), range, "k", "again").await, 4);
        }
    });
    nodes.iter().for_each(Node::stop);
}

/// A member that was away for longer than the log reaches back is given the states of the ranges.
#[test]
fn a_member_that_was_away_is_sent_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let configs: Vec<Config> = with_ranges(dir.path(), 3)
        .into_iter()
        .map(|config| Config {
            snapshot_catchup_entries: 0,
            checkpoint_interval: std::time::Duration::from_millis(50),
            ..config
        })
        .collect();
    let mut nodes = start(&configs);
    let ranges = 2..6_u64;
    run(async {
        for range in ranges.clone() {
            put_surely(nodes[0].handle(), range, "before", "x").await;
        }
    });
    nodes.pop().unwrap().stop();
    run(async {
        for round in 0..30 {
            for range in ranges.clone() {
                let value = format!("{range} in round {round}");
                put_surely(nodes[0].handle(), range, "k", &value).await;
            }
        }
    });
    let again = Node::start(&configs[2]).unwrap();
    // It can only serve with what it was sent once one of the others is gone.
    run(async {
        loop {
            let received = received(&again);
            if received >= 4 {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
    nodes[0].stop();
    run(async {
        for range in ranges.clone() {
            let value = get_surely(again.handle(), range, "k").await;
            assert_eq!(value, Some(format!("{range} in round 29")));
            assert_eq!(get_surely(again.handle(), range, "before").await.as_deref(), Some("x"));
        }
    });
    again.stop();
    nodes[1].stop();
    drop((again, nodes));
    // What was received is what it starts with.
    let [one, two] = [1, 2].map(|n| Node::start(&configs[n]).unwrap());
    run(async {
        for range in ranges {
            let value = get_surely(two.handle(), range, "k").await;
            assert_eq!(value, Some(format!("{range} in round 29")));
        }
    });
    one.stop();
    two.stop();
}

/// How many snapshots a node says that it has received.
fn received(node: &Node) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    node.handle().register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line =
        text.lines().find(|line| line.starts_with("etcd_network_snapshot_receive_success_total "));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}
