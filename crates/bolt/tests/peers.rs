//! Real etcd reads what is written here, and what it writes is read here.
//!
//! Runs only with `QUORATE_PEERS=1`; then a missing tool is a failure. `QUORATE_PEERS_PATH` is a
//! list of directories like `PATH`: each holds one version of `etcd` and `etcdctl`, and from 3.5
//! on `etcdutl`. Without it, the first directory of `PATH` with an `etcd` counts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bolt::Limits;
use bolt::etcd::{
    Alarm, Chunks, Digest, Lease, Member, Meta, RevisionKey, Snapshot, SnapshotWriter, Status,
    Version, verify,
};
use serde_json::Value;

/// Ports of the servers started here; each takes two.
const PORT_FIRST: u16 = 12_400;

/// How long a server may take to start.
const START_MAX: Duration = Duration::from_secs(60);

struct Peer {
    directory: PathBuf,
    port: u16,
}

impl Peer {
    fn all() -> Vec<Peer> {
        if std::env::var("QUORATE_PEERS").as_deref() != Ok("1") {
            eprintln!("QUORATE_PEERS is not 1: not comparing with real etcd");
            return Vec::new();
        }
        let has_etcd = |directory: &PathBuf| directory.join("etcd").is_file();
        let directories: Vec<_> = match std::env::var_os("QUORATE_PEERS_PATH") {
            Some(path) => std::env::split_paths(&path).collect(),
            None => {
                let path = std::env::var_os("PATH").expect("a PATH");
                std::env::split_paths(&path).filter(has_etcd).take(1).collect()
            }
        };
        assert!(!directories.is_empty(), "QUORATE_PEERS=1, but there is no etcd on PATH");
        assert!(directories.iter().all(has_etcd), "no etcd in one of {directories:?}");
        let ports = (PORT_FIRST..).step_by(4);
        directories
            .into_iter()
            .zip(ports)
            .map(|(directory, port)| Peer { directory, port })
            .collect()
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(self.directory.join(tool));
        command.env("ETCDCTL_API", "3").args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{tool}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool} {arguments:?}: {text} {errors}");
        text
    }

    /// The tool that looks at snapshot files: `etcdutl` where there is one.
    fn file_tool(&self) -> &'static str {
        let has_etcdutl = self.directory.join("etcdutl").is_file();
        if has_etcdutl { "etcdutl" } else { "etcdctl" }
    }

    fn status(&self, file: &Path) -> Status {
        let file = file.to_str().expect("a plain path");
        let text = self.run(self.file_tool(), &["snapshot", "status", file, "-w", "json"]);
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let number = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("{name}: {text}"));
        Status {
            hash: u32::try_from(number("hash")).expect("32 bits"),
            revision: number("revision").cast_signed(),
            total_keys: number("totalKey"),
            total_bytes: number("totalSize"),
        }
    }

    fn start(&self, data: &Path) -> Server<'_> {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.port + 1);
        let mut child = Command::new(self.directory.join("etcd"))
            .args(["--name", "m1", "--data-dir", data.to_str().expect("a plain path")])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("m1={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd starts");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let (ready, served) = mpsc::channel();
        std::thread::spawn(move || {
            let mut ready = Some(ready);
            for line in log.lines().map_while(Result::ok) {
                // 3.4 and 3.5 word it differently; both say it once the member serves.
                if line.contains("serving insecure client requests")
                    || line.contains("serving client traffic insecurely")
                {
                    ready.take().map(|ready| ready.send(()));
                }
            }
        });
        let server = Server { peer: self, child };
        assert_eq!(served.recv_timeout(START_MAX), Ok(()), "etcd does not serve");
        server
    }
}

struct Server<'a> {
    peer: &'a Peer,
    child: Child,
}

impl Server<'_> {
    fn ctl(&self, arguments: &[&str]) -> String {
        let endpoint = format!("http://127.0.0.1:{}", self.peer.port);
        let mut all = vec!["--endpoints", &endpoint];
        all.extend_from_slice(arguments);
        self.peer.run("etcdctl", &all)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend_from_slice(&["-w", "json"]);
        let text = self.ctl(&all);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `mvccpb.KeyValue`; of a tombstone only the key.
fn key_value(key: &[u8], numbers: [i64; 3], value: &[u8], lease: i64) -> Vec<u8> {
    fn varint(bytes: &mut Vec<u8>, mut value: usize) {
        while value >= 0x80 {
            bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        bytes.push(value.to_le_bytes()[0]);
    }
    let mut bytes = vec![0x0a];
    varint(&mut bytes, key.len());
    bytes.extend_from_slice(key);
    for (tag, number) in [0x10, 0x18, 0x20].into_iter().zip(numbers) {
        if number != 0 {
            bytes.push(tag);
            varint(&mut bytes, usize::try_from(number).expect("positive"));
        }
    }
    if !value.is_empty() {
        bytes.push(0x2a);
        varint(&mut bytes, value.len());
        bytes.extend_from_slice(value);
    }
    if lease != 0 {
        bytes.push(0x30);
        varint(&mut bytes, usize::try_from(lease).expect("positive"));
    }
    bytes
}

const COMPACTED: i64 = 3000;
const LAST: i64 = 9000;
const LEASE: i64 = 0x1234_5678;

/// One write a revision over 2,000 keys in turns, each tenth a deletion, some values of 1 MB;
/// what is compacted is left out. The last revision has three operations.
fn history() -> Vec<Version> {
    let mut versions = Vec::new();
    let mut live: BTreeMap<Vec<u8>, (i64, i64)> = BTreeMap::new();
    let mut newest_compacted = BTreeMap::new();
    for main in 2..=LAST {
        let key = format!("/key/{:05}", (main * 7) % 2000).into_bytes();
        let tombstone = main % 10 == 0 && live.contains_key(&key);
        let encoded = if tombstone {
            live.remove(&key);
            key_value(&key, [0; 3], b"", 0)
        } else {
            let (created, version) = live.get(&key).map_or((main, 1), |(at, n)| (*at, n + 1));
            live.insert(key.clone(), (created, version));
            let value = vec![b'v'; if main % 1000 == 1 { 1_000_000 } else { 20 }];
            let lease = if main % 100 == 1 { LEASE } else { 0 };
            key_value(&key, [created, main, version], &value, lease)
        };
        let revision = RevisionKey { main, sub: 0, tombstone };
        let version = Version { revision, encoded: encoded.into() };
        if main <= COMPACTED {
            newest_compacted.insert(key, version);
        } else {
            versions.push(version);
        }
    }
    for (sub, key) in [(1, b"one"), (2, b"two")] {
        let encoded = key_value(key, [LAST, LAST, 1], b"of a transaction", 0).into();
        let revision = RevisionKey { main: LAST, sub, tombstone: false };
        versions.push(Version { revision, encoded });
    }
    versions.extend(newest_compacted.into_values().filter(|version| !version.revision.tombstone));
    versions.sort_by_key(|version| version.revision);
    versions
}

fn write_snapshot(path: &Path, versions: &[Version]) -> Meta {
    let file = File::options().read(true).write(true).create_new(true).open(path).expect("new");
    let mut writer = SnapshotWriter::create(file).expect("writes");
    let meta = Meta {
        consistent_index: 12_345,
        term: Some(3),
        scheduled_compact: Some(COMPACTED),
        finished_compact: Some(COMPACTED),
        ..Meta::default()
    };
    writer.versions(|put| versions.iter().try_for_each(put)).expect("ascending");
    writer.meta(&meta).expect("writes");
    let lease = Lease { id: LEASE, ttl_s: 5000, remaining_ttl_s: 0 };
    writer.leases([lease]).expect("ascending");
    let member = Member {
        id: 0xdead_beef,
        name: "old".into(),
        peer_urls: vec!["http://127.0.0.1:9".into()],
        ..Member::default()
    };
    writer.members(&[member], &[0xbad]).expect("writes");
    writer.cluster_version("3.4.0").expect("writes");
    writer.alarms(&[]).expect("writes");
    let (file, _) = writer.finish().expect("writes");
    let mut out = File::options().append(true).open(path).expect("there");
    let digest = Chunks::new(file, 1 << 20).expect("whole").last().expect("there").expect("reads");
    out.write_all(&digest.blob).expect("writes");
    meta
}

#[test]
fn etcd_serves_a_snapshot_that_was_written_here() {
    for peer in Peer::all() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("snapshot.db");
        let versions = history();
        write_snapshot(&file, &versions);

        let snapshot = Snapshot::open(File::open(&file).expect("there"), Limits::default());
        let status = snapshot.expect("valid").status().expect("valid");
        assert_eq!(peer.status(&file), status, "snapshot status of {:?}", peer.directory);
        assert_eq!(status.revision, LAST);

        let data = directory.path().join("data");
        let url = format!("http://127.0.0.1:{}", peer.port + 1);
        let arguments = ["snapshot", "restore", file.to_str().expect("plain"), "--name", "m1"];
        let mut arguments = arguments.to_vec();
        let cluster = format!("m1={url}");
        arguments.extend(["--data-dir", data.to_str().expect("plain")]);
        arguments.extend(["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &url]);
        peer.run(peer.file_tool(), &arguments);
        let server = peer.start(&data);
        check_restored(&server, &versions);

        // What etcd makes of it is what went in.
        let saved = directory.path().join("saved.db");
        server.ctl(&["snapshot", "save", saved.to_str().expect("plain")]);
        let snapshot = open_saved(&saved);
        let read: Vec<_> = snapshot.versions().expect("there").map(|v| v.expect("valid")).collect();
        let (of_ours, later) = read.split_at(versions.len());
        assert!(of_ours == versions, "etcd kept other versions");
        assert_eq!(later.len(), 1, "the put of this test");
    }
}

fn check_restored(server: &Server<'_>, versions: &[Version]) {
    let live_at = |at: i64| {
        let mut live = BTreeMap::new();
        for version in versions.iter().filter(|version| version.revision.main <= at) {
            let length = usize::from(version.encoded[1]);
            let key = version.encoded[2..2 + length].to_vec();
            if version.revision.tombstone {
                live.remove(&key);
            } else {
                live.insert(key, version.revision.main);
            }
        }
        live
    };
    for at in [COMPACTED, 4321, LAST] {
        let rev = format!("--rev={at}");
        let got = server.json(&["get", "", "--from-key", "--keys-only", &rev]);
        assert_eq!(got["header"]["revision"], LAST);
        let kvs = got["kvs"].as_array().expect("keys");
        let expected = live_at(at);
        assert_eq!(kvs.len(), expected.len(), "at {at}");
        for (kv, main) in kvs.iter().zip(expected.values()) {
            assert_eq!(kv["mod_revision"].as_i64(), Some(*main));
        }
    }
    let got = server.json(&["get", "two"]);
    assert_eq!(got["kvs"][0]["value"], "b2YgYSB0cmFuc2FjdGlvbg==");
    let leases = server.json(&["lease", "timetolive", &format!("{LEASE:x}"), "--keys"]);
    assert_eq!(leases["granted-ttl"], 5000);
    assert!(leases["keys"].as_array().is_some_and(|keys| keys.len() > 10), "{leases}");
    let members = server.json(&["member", "list"]);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1), "{members}");
    assert_eq!(members["members"][0]["name"], "m1");
    assert_eq!(server.json(&["put", "new", "value"])["header"]["revision"], LAST + 1);
}

fn open_saved(path: &Path) -> Snapshot<File> {
    let file = File::open(path).expect("there");
    assert_eq!(verify(&file).expect("whole"), Digest::Verified);
    Snapshot::open(file, Limits::default()).expect("valid")
}

#[test]
fn a_snapshot_of_etcd_is_read_here() {
    for mut peer in Peer::all() {
        peer.port += 2;
        let directory = tempfile::tempdir().expect("a directory");
        let server = peer.start(&directory.path().join("data"));
        for at in 0..20 {
            server.ctl(&["put", &format!("key{at}"), &"x".repeat(at * 1000)]);
        }
        server.ctl(&["del", "key3"]);
        let grant = server.json(&["lease", "grant", "500"]);
        let lease = grant["ID"].as_i64().expect("an id");
        server.ctl(&["put", "leased", "value", "--lease", &format!("{lease:x}")]);
        server.ctl(&["compact", "10", "--physical"]);
        server.ctl(&["user", "add", "root", "--new-user-password", "secret"]);
        server.ctl(&["role", "add", "reader"]);
        let members = server.json(&["member", "list"]);
        let saved = directory.path().join("saved.db");
        server.ctl(&["snapshot", "save", saved.to_str().expect("plain")]);

        let snapshot = open_saved(&saved);
        let status = snapshot.status().expect("every page is accounted for");
        assert_eq!(peer.status(&saved), status);
        assert_eq!((snapshot.revision().expect("valid"), status.revision), (23, 23));
        let versions = snapshot.versions().expect("there").map(|version| version.expect("valid"));
        let mains: Vec<_> =
            versions.map(|version| (version.revision.main, version.revision.tombstone)).collect();
        let expected: Vec<_> = (2..=23).map(|main| (main, main == 22)).collect();
        assert_eq!(mains, expected);
        let meta = snapshot.meta().expect("valid");
        assert_eq!((meta.finished_compact, meta.scheduled_compact), (Some(10), Some(10)));
        assert!(meta.consistent_index >= 26, "{meta:?}");
        let leases: Vec<_> = snapshot.leases().expect("there").map(|l| l.expect("valid")).collect();
        assert_eq!(leases, [Lease { id: lease, ttl_s: 500, remaining_ttl_s: 0 }]);
        let stored = snapshot.members().expect("valid");
        assert_eq!((stored.len(), stored[0].name.as_str()), (1, "m1"));
        assert_eq!(Some(stored[0].id), members["members"][0]["ID"].as_u64());
        assert!(snapshot.members_removed().expect("valid").is_empty());
        assert!(snapshot.cluster_version().expect("valid").is_some_and(|v| v.starts_with("3.")));
        assert_eq!(snapshot.alarms().expect("valid"), Vec::<Alarm>::new());
        let auth = snapshot.auth().expect("valid");
        assert_eq!((auth.enabled, auth.users.len(), auth.roles.len()), (false, 1, 1));
        assert_eq!(
            (&auth.users[0].name[..], &auth.roles[0].name[..]),
            (&b"root"[..], &b"reader"[..])
        );
    }
}
