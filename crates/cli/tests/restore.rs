//! `quorate snapshot restore` and `status` on files that are good, damaged, or something else.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use bolt::etcd::{Auth, Chunks, Meta, RevisionKey, SnapshotWriter, Version};
use mvcc::{Record, Revision};

fn version(main: i64, key: &str, create: i64, number: i64) -> Version {
    let (create, at) = (Revision(create), Revision(main));
    let encoded = Record::new(key.as_bytes(), create, at, number, &[b'v'; 700], None).encoded;
    Version { revision: RevisionKey { main, sub: 0, tombstone: false }, encoded }
}

fn deletion(main: i64, sub: i64, key: &str) -> Version {
    let gone = proto::mvccpb::KeyValue { key: key.to_owned().into(), ..Default::default() };
    let encoded = prost::Message::encode_to_vec(&gone).into();
    Version { revision: RevisionKey { main, sub, tombstone: true }, encoded }
}

/// Forty versions of four keys, one of them deleted; a key that its own transaction deletes; and
/// the empty version that a restore with --bump-revision leaves.
fn versions() -> Vec<Version> {
    let mut all: Vec<Version> =
        (0..40).map(|n| version(2 + n, &format!("k{}", n % 4), 2 + n % 4, 1 + n / 4)).collect();
    all.push(deletion(42, 0, "k3"));
    all.push(version(43, "unborn", 43, 1));
    all.push(deletion(43, 1, "unborn"));
    let revision = RevisionKey { main: 1000, sub: 0, tombstone: false };
    all.push(Version { revision, encoded: bytes::Bytes::new() });
    all
}

/// A snapshot as it is downloaded, checksum and all.
fn snapshot(path: &Path, auth: &Auth) {
    let database = path.with_extension("db");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&database);
    let mut writer = SnapshotWriter::create(file.unwrap()).unwrap();
    let all = versions();
    writer.versions(|put| all.iter().try_for_each(put)).unwrap();
    writer.auth(auth).unwrap();
    let meta = Meta { consistent_index: 50, scheduled_compact: Some(20), ..Meta::default() };
    writer.meta(&meta).unwrap();
    let (file, _) = writer.finish().unwrap();
    let chunks = Chunks::new(file, 4096).unwrap().map(|chunk| chunk.unwrap().blob);
    fs::write(path, chunks.collect::<Vec<_>>().concat()).unwrap();
}

fn quorate(dir: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(line.split_whitespace()).current_dir(dir).output().unwrap()
}

fn error_of(dir: &Path, line: &str) -> String {
    let output = quorate(dir, line);
    assert!(!output.status.success(), "{line}: {output:?}");
    assert!(!dir.join("data").exists(), "{line} left something behind");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_good_file_is_restored_and_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    snapshot(&dir.join("good"), &Auth::default());
    let status = quorate(dir, "snapshot status good -w json");
    assert!(status.status.success(), "{status:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"revision\":1000"), "{status:?}");
    let restored = quorate(dir, "snapshot restore good --data-dir data");
    assert!(restored.status.success(), "{restored:?}");
    // The ids are those that etcd computes from the same flags.
    let text = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(text.contains("revision 1000"), "{text}");
    assert!(text.contains("Member 8e9e05c52164694d of cluster cdf818194e3a8c32"), "{text}");
    let identity = fs::read(dir.join("data/identity")).unwrap();
    let again = quorate(dir, "snapshot restore good --data-dir data");
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"), "{again:?}");
    assert_eq!(fs::read(dir.join("data/identity")).unwrap(), identity);
    // The database alone, as it lies in a data directory of etcd's.
    let refused = quorate(dir, "snapshot restore good.db --data-dir alone");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--skip-hash-check"), "{refused:?}");
    let taken = quorate(dir, "snapshot restore good.db --data-dir alone --skip-hash-check");
    assert!(taken.status.success(), "{taken:?}");
    let bumped =
        quorate(dir, "snapshot restore good --data-dir later --bump-revision 500 --mark-compacted");
    assert!(String::from_utf8_lossy(&bumped.stdout).contains("revision 1500"), "{bumped:?}");
}

#[test]
fn a_bad_file_is_an_error_that_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    snapshot(&dir.join("good"), &Auth::default());
    let good = fs::read(dir.join("good")).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let half = good.len() / 2 / 4096 * 4096;
    for (name, bytes, why) in [
        ("flipped", &flipped[..], "SHA-256 does not match"),
        ("cut", &good[..good.len() - 7], "cut short"),
        ("half", &good[..half], "does not end with the checksum"),
        ("text", &b"not a database at all\n"[..], "cut short"),
        ("empty", &b""[..], "does not end with the checksum"),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        let error = error_of(dir, &format!("snapshot restore {name} --data-dir data"));
        assert!(error.contains(why) && error.contains(name), "{name}: {error}");
        if name == "flipped" {
            continue;
        }
        let skip = format!("snapshot restore {name} --data-dir data --skip-hash-check");
        if name == "cut" {
            // All that is missing is a piece of the checksum.
            assert!(quorate(dir, &skip).status.success());
            fs::remove_dir_all(dir.join("data")).unwrap();
            continue;
        }
        let error = error_of(dir, &skip);
        assert!(error.contains(name), "{name}: {error}");
    }
    let error = error_of(dir, "snapshot restore nowhere --data-dir data");
    assert!(error.contains("nowhere") && error.contains("No such file"), "{error}");
}

#[test]
fn what_is_not_served_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    snapshot(&dir.join("secret"), &Auth { enabled: true, revision: 3, ..Auth::default() });
    let error = error_of(dir, "snapshot restore secret --data-dir data");
    assert!(error.contains("authentication is on"), "{error}");
}

#[test]
fn flags_that_do_not_fit_are_refused_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    snapshot(&dir.join("good"), &Auth::default());
    for (flags, why) in [
        ("--bump-revision 5", "--mark-compacted required"),
        ("--mark-compacted", "--bump-revision"),
        ("--bump-revision 9223372036854775807 --mark-compacted", "too large"),
        ("--name b --initial-cluster a=http://localhost:2380", "couldn't find local name"),
        ("--initial-cluster default=http://localhost:1", "--initial-advertise-peer-urls"),
        ("--initial-advertise-peer-urls nonsense", "nonsense"),
    ] {
        let error = error_of(dir, &format!("snapshot restore good --data-dir data {flags}"));
        assert!(error.contains(why), "{flags}: {error}");
    }
}
