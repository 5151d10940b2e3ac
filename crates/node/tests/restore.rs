//! Members whose data directory was made from a backup.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use etcd::{Request, Response};
use mvcc::{LeaseId, Record, Revision, version_place};
use node::{Config, Handle, Node, Restore, RestoreError, RestoredRevisions, restore};
use proto::etcdserverpb as pb;
use support::{applied, configs, run, serves};

const AT: RestoredRevisions = RestoredRevisions { revision: Revision(5), compacted: Revision(2) };

/// k is put at 2, 3 and, on a lease, at 5; gone is put at 3 and deleted at 4.
fn history(restore: &mut Restore) -> Result<(), RestoreError> {
    restore.lease(LeaseId(7), 500)?;
    let record = |key: &[u8], create, revision, version, lease: Option<i64>| {
        let (create, revision) = (Revision(create), Revision(revision));
        let record = Record::new(key, create, revision, version, b"v", lease.map(LeaseId));
        (version_place(key, revision), Some(record.encoded))
    };
    let mut versions = vec![
        record(b"k", 2, 2, 1, None),
        record(b"k", 2, 3, 2, None),
        record(b"gone", 3, 3, 1, None),
        (version_place(b"gone", Revision(4)), None),
        record(b"k", 2, 5, 3, Some(7)),
        record(b"lost", 5, 5, 1, Some(8)),
    ];
    let change = |key: &'static str, deleted| (Bytes::from(key), deleted);
    restore.commit(Revision(2), vec![change("k", false)])?;
    restore.commit(Revision(3), vec![change("k", false), change("gone", false)])?;
    restore.commit(Revision(4), vec![change("gone", true)])?;
    restore.commit(Revision(5), vec![change("k", false), change("lost", false)])?;
    versions.sort();
    versions.into_iter().try_for_each(|(place, encoded)| restore.version(place, encoded))
}

async fn range(handle: &Handle, key: &str, revision: i64) -> Vec<proto::mvccpb::KeyValue> {
    let request = pb::RangeRequest { key: key.to_owned().into(), revision, ..Default::default() };
    match handle.execute(Request::Range(request)).await.unwrap() {
        Response::Range(range) => {
            range.kvs.iter().map(|kv| prost::Message::decode(kv.clone()).unwrap()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_restored_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1).remove(0);
    let identity = restore(&config, AT, history).unwrap();
    let node = Node::start(&config).unwrap();
    let handle = node.handle();
    assert_eq!(
        (handle.cluster_id(), handle.member_id()),
        (identity.cluster_id, identity.member_id)
    );
    run(async {
        serves(handle).await;
        let version = |kvs: Vec<proto::mvccpb::KeyValue>| kvs.first().map(|kv| kv.version);
        for (key, at, expected) in [
            ("k", 0, Some(3)),
            ("k", 2, Some(1)),
            ("k", 4, Some(2)),
            ("gone", 3, Some(1)),
            ("gone", 4, None),
        ] {
            assert_eq!(version(range(handle, key, at).await), expected, "{key} at {at}");
        }
        assert_eq!(handle.view().revision(), Revision(5));
        assert_eq!(handle.view().live_keys(), 2);
        // The lease goes, and with it what is attached to it, and nothing else.
        let revoke = pb::LeaseRevokeRequest { id: 7 };
        handle.execute(Request::LeaseRevoke(revoke)).await.unwrap();
        assert_eq!(version(range(handle, "k", 0).await), None);
        assert_eq!(version(range(handle, "lost", 0).await), Some(1));
        assert_eq!(handle.view().revision(), Revision(6));
    });
    node.stop();
}

#[test]
fn a_restore_that_was_cut_off_is_never_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = configs(dir.path(), 1).remove(0);
    let cut_off = catch_unwind(AssertUnwindSafe(|| {
        restore(&config, AT, |restore| -> Result<(), RestoreError> {
            history(restore)?;
            panic!("the power goes");
        })
    }));
    assert!(cut_off.is_err());
    let refused = Node::start(&config).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|why| why.contains("restore that was interrupted")));
    let again = restore(&config, AT, history).unwrap_err().to_string();
    assert!(again.contains("restore that was interrupted"), "{again}");
    std::fs::remove_dir_all(&config.data_dir).unwrap();
    restore(&config, AT, history).unwrap();
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = configs(dir.path(), 1).remove(0);
    config.log_dir = Some(dir.path().join("log"));
    let fails = |restore: &mut Restore| {
        history(restore)?;
        restore.commit(Revision(5), vec![])
    };
    assert!(matches!(restore(&config, AT, fails), Err(RestoreError::History(_))));
    assert!(!config.data_dir.exists());
    std::fs::create_dir(&config.data_dir).unwrap();
    assert!(restore(&config, AT, fails).is_err());
    assert_eq!(std::fs::read_dir(&config.data_dir).unwrap().count(), 0);
    restore(&config, AT, history).unwrap();
    let before = std::fs::read(config.data_dir.join("identity")).unwrap();
    assert!(matches!(restore(&config, AT, history), Err(RestoreError::Occupied { .. })));
    assert_eq!(std::fs::read(config.data_dir.join("identity")).unwrap(), before);
    let elsewhere = Config { data_dir: dir.path().join("other"), ..config.clone() };
    let refused = restore(&elsewhere, AT, history).unwrap_err().to_string();
    assert!(refused.contains("directory of the log is not empty"), "{refused}");
    assert!(!elsewhere.data_dir.exists());
    Node::start(&config).unwrap().stop();
}

/// One of three is started empty by mistake: the others bring it what they have.
#[test]
fn a_member_that_was_forgotten_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let configs = configs(dir.path(), 3);
    for config in &configs[..2] {
        restore(config, AT, history).unwrap();
    }
    let nodes: Vec<Node> = configs.iter().map(|config| Node::start(config).unwrap()).collect();
    run(async {
        serves(nodes[2].handle()).await;
        let put = pb::PutRequest { key: "new".into(), value: "1".into(), ..Default::default() };
        nodes[0].handle().execute(Request::Put(put)).await.unwrap();
    });
    let hash = |node: &Node| {
        let view = node.handle().view();
        (view.revision(), view.hash().unwrap())
    };
    for node in &nodes {
        run(applied(node.handle(), || hash(node) == hash(&nodes[0])));
    }
    assert_eq!(hash(&nodes[2]).0, Revision(6));
    for node in &nodes {
        node.stop();
    }
}
