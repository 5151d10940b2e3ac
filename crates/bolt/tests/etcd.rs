//! The layout of an etcd database, without etcd.

use std::io::Cursor;

use bolt::etcd::{
    Alarm, Auth, BUCKETS, Chunk, Chunks, Digest, Lease, Member, Meta, Named, RevisionKey, Snapshot,
    SnapshotError, SnapshotWriter, VerifyError, Version, verify,
};
use bolt::{Entry, Limits, WriteError, Writer};

fn version(main: i64, sub: i64, tombstone: bool) -> Version {
    let encoded = vec![0x0a, 1, b'k', 0x18, u8::try_from(main).expect("small")].into();
    Version { revision: RevisionKey { main, sub, tombstone }, encoded }
}

fn named(name: &'static str) -> Named {
    Named { name: name.into(), encoded: format!("{name}, encoded").into() }
}

struct Everything {
    meta: Meta,
    versions: Vec<Version>,
    leases: Vec<Lease>,
    members: Vec<Member>,
    removed: Vec<u64>,
    alarms: Vec<Alarm>,
    auth: Auth,
}

fn everything() -> Everything {
    let lease = |id| Lease { id, ttl_s: 60, remaining_ttl_s: 7 };
    let member = |id, is_learner| Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec!["http://a:1".into(), "http://b:1".into()],
        client_urls: vec!["http://a:2".into()],
        is_learner,
    };
    Everything {
        meta: Meta {
            consistent_index: 99,
            term: Some(4),
            scheduled_compact: Some(5),
            finished_compact: Some(4),
            conf_state: Some(r#"{"voters":[1]}"#.into()),
            storage_version: Some("3.6.0".into()),
        },
        versions: vec![version(2, 0, false), version(3, 0, true), version(3, 1, false)],
        leases: vec![lease(1), lease(i64::MAX)],
        members: vec![member(1, false), member(0xabc, true)],
        removed: vec![3, u64::MAX],
        alarms: vec![Alarm { member_id: 1, alarm: 1 }, Alarm { member_id: 9, alarm: 2 }],
        auth: Auth {
            enabled: true,
            revision: 8,
            users: vec![named("anna"), named("root")],
            roles: vec![named("root")],
        },
    }
}

fn write(all: &Everything) -> Result<Vec<u8>, WriteError> {
    let mut writer = SnapshotWriter::create(Cursor::new(Vec::new()))?;
    writer.auth(&all.auth)?;
    writer.versions(|put| all.versions.iter().try_for_each(put))?;
    writer.meta(&all.meta)?;
    writer.leases(all.leases.iter().copied())?;
    writer.members(&all.members, &all.removed)?;
    writer.cluster_version("3.6.0")?;
    writer.alarms(&all.alarms)?;
    Ok(writer.finish()?.0.into_inner())
}

fn open(bytes: &[u8]) -> Result<Snapshot<Vec<u8>>, SnapshotError> {
    Snapshot::open(bytes.to_vec(), Limits::default())
}

#[test]
fn everything_comes_back() {
    let all = everything();
    let snapshot = open(&write(&all).expect("sorted")).expect("valid");
    assert_eq!(snapshot.meta().expect("valid"), all.meta);
    let versions: Result<Vec<_>, _> = snapshot.versions().expect("there").collect();
    assert_eq!(versions.expect("valid"), all.versions);
    let leases: Result<Vec<_>, _> = snapshot.leases().expect("there").collect();
    assert_eq!(leases.expect("valid"), all.leases);
    assert_eq!(snapshot.members().expect("valid"), all.members);
    assert_eq!(snapshot.members_removed().expect("valid"), all.removed);
    assert_eq!(snapshot.alarms().expect("valid"), all.alarms);
    assert_eq!(snapshot.auth().expect("valid"), all.auth);
    assert_eq!(snapshot.cluster_version().expect("valid").as_deref(), Some("3.6.0"));
    let status = snapshot.status().expect("valid");
    assert_eq!((status.revision, status.total_keys), (3, 3 + 6 + 2 + 2 + 2 + 1 + 2 + 2 + 2 + 1));
}

#[test]
fn every_bucket_exists_even_in_an_empty_store() {
    let writer = SnapshotWriter::create(Cursor::new(Vec::new())).expect("memory");
    let (file, summary) = writer.finish().expect("memory");
    assert_eq!(summary.bytes % 512, 0);
    let snapshot = open(file.get_ref()).expect("valid");
    let names = snapshot.reader().root().entries().map(|entry| match entry {
        Ok(Entry::Bucket { name, .. }) => String::from_utf8(name.to_vec()).expect("text"),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), BUCKETS);
    assert_eq!(snapshot.meta().expect("valid"), Meta::default());
    assert_eq!(snapshot.revision().expect("valid"), 1);
    assert_eq!(snapshot.auth().expect("valid"), Auth::default());
}

#[test]
fn the_revision_is_the_last_ones_or_the_compacted() {
    let mut all = everything();
    all.versions = vec![version(2, 0, false)];
    all.meta.finished_compact = Some(70);
    let snapshot = open(&write(&all).expect("sorted")).expect("valid");
    assert_eq!(snapshot.revision().expect("valid"), 70);
    assert_eq!(snapshot.status().expect("valid").revision, 2, "as etcd prints it");
}

#[test]
fn versions_must_ascend() {
    let mut all = everything();
    all.versions.reverse();
    assert!(matches!(write(&all), Err(WriteError::OutOfOrder { .. })));
}

#[test]
fn what_etcd_does_not_write_is_refused() {
    let make = |bucket: &[u8], key: &[u8], value: &[u8]| {
        let mut writer = Writer::create(Cursor::new(Vec::new())).expect("memory");
        for name in BUCKETS.iter().map(|name| name.as_bytes()) {
            let fill = |writer: &mut bolt::BucketWriter<'_, _>| match name == bucket {
                true => writer.put(key, value),
                false => Ok(()),
            };
            writer.bucket(name, fill).expect("memory");
        }
        open(&writer.finish().expect("memory").0.into_inner()).expect("a database")
    };
    let key = make(b"key", b"no revision", b"");
    assert!(key.versions().expect("there").next().is_some_and(|version| version.is_err()));
    assert!(key.revision().is_err() && key.status().is_err());
    assert!(make(b"meta", b"consistent_index", b"short").meta().is_err());
    assert!(make(b"meta", b"finishedCompactRev", b"short").meta().is_err());
    assert!(make(b"meta", b"confState", b"\xff").meta().is_err());
    assert_eq!(make(b"meta", b"unknown", b"x").meta().expect("ignored"), Meta::default());
    let other_id = make(b"lease", &[0; 8], &[0x08, 1]);
    assert!(other_id.leases().expect("there").next().is_some_and(|lease| lease.is_err()));
    assert!(make(b"members", b"1", b"{").members().is_err());
    assert!(make(b"members_removed", b"xyz", b"removed").members_removed().is_err());
    assert!(make(b"alarm", b"\x0a", b"").alarms().is_err());
    assert!(make(b"auth", b"authRevision", b"1").auth().is_err());

    let mut writer = Writer::create(Cursor::new(Vec::new())).expect("memory");
    writer.bucket(b"meta", |_| Ok(())).expect("memory");
    let foreign = open(&writer.finish().expect("memory").0.into_inner());
    assert!(matches!(foreign, Err(SnapshotError::MissingBucket("key"))));
}

#[test]
fn a_stream_is_the_file_and_then_its_digest() {
    let bytes = write(&everything()).expect("sorted");
    for chunk_bytes in [1000, 4096, 1 << 20] {
        let chunks = Chunks::new(bytes.clone(), chunk_bytes).expect("whole sectors");
        assert_eq!(chunks.length(), bytes.len() as u64);
        let chunks: Vec<Chunk> = chunks.map(|chunk| chunk.expect("memory")).collect();
        let mut sent = 0;
        for chunk in &chunks[..chunks.len() - 1] {
            sent += chunk.blob.len();
            assert_eq!(chunk.remaining_bytes, (bytes.len() - sent) as u64);
            assert!(chunk.blob.len() <= chunk_bytes);
        }
        let mut file: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.blob.to_vec()).collect();
        assert_eq!(&file[..bytes.len()], bytes);
        assert_eq!(file.len(), bytes.len() + 32);
        assert_eq!(verify(&file).expect("right"), Digest::Verified);
        assert!(open(&file).is_ok(), "the digest is not in the way");
        file[5000] ^= 1;
        assert!(matches!(verify(&file), Err(VerifyError::Mismatch)));
        file.pop();
        assert!(matches!(verify(&file), Err(VerifyError::Length { .. })));
    }
    assert_eq!(verify(&bytes).expect("nothing to check"), Digest::Absent);
    assert!(Chunks::new(bytes[1..].to_vec(), 10).is_err());
}

/// SHA-256 of 512 zero bytes, as any other tool computes it.
#[test]
fn the_digest_is_sha_256() {
    let digest = Chunks::new(vec![0; 512], 512).expect("a sector").last().expect("there");
    let hex: String =
        digest.expect("memory").blob.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560");
}

/// A snapshot that etcd 3.5.1 saved after: put a, put a, put b, delete a, put c with a lease,
/// compact at 3, add a user. Its small buckets are inline and it has free pages.
#[test]
fn a_snapshot_of_etcd_is_read() {
    let file = include_bytes!("data/etcd-3.5.1.snapshot").to_vec();
    assert_eq!(verify(&file).expect("whole"), Digest::Verified);
    let snapshot = open(&file).expect("valid");
    let status = snapshot.status().expect("every page is accounted for");
    // What `etcdutl snapshot status` printed of it.
    let printed = (3_590_217_758, 6, 14, 20_480);
    let ours = (status.hash, status.revision, status.total_keys, status.total_bytes);
    assert_eq!(ours, printed);

    let versions = snapshot.versions().expect("there").map(|version| version.expect("valid"));
    let versions: Vec<_> = versions.collect();
    let expected: [(i64, bool, &[u8]); 4] = [
        (3, false, b"\x0a\x01a\x10\x02\x18\x03\x20\x02\x2a\x012"),
        (4, false, b"\x0a\x01b\x10\x04\x18\x04\x20\x01\x2a\x011"),
        (5, true, b"\x0a\x01a"),
        (
            6,
            false,
            b"\x0a\x01c\x10\x06\x18\x06\x20\x01\x2a\x013\x30\x89\xb4\x9c\xfa\xa6\xc1\xe8\xb3\x3c",
        ),
    ];
    assert_eq!(versions.len(), expected.len());
    for (version, (main, tombstone, encoded)) in versions.iter().zip(expected) {
        assert_eq!(version.revision, RevisionKey { main, sub: 0, tombstone });
        assert_eq!(version.encoded, encoded, "revision {main}");
    }
    let meta = snapshot.meta().expect("valid");
    assert_eq!((meta.finished_compact, meta.scheduled_compact), (Some(3), Some(3)));
    assert_eq!((meta.term, meta.storage_version), (Some(2), None));
    let leases: Result<Vec<_>, _> = snapshot.leases().expect("there").collect();
    let lease = Lease { id: 4_352_625_730_577_177_097, ttl_s: 600, remaining_ttl_s: 0 };
    assert_eq!(leases.expect("valid"), [lease]);
    let members = snapshot.members().expect("valid");
    assert_eq!((members.len(), members[0].name.as_str()), (1, "m1"));
    assert_eq!(snapshot.cluster_version().expect("valid").as_deref(), Some("3.5.0"));
    let auth = snapshot.auth().expect("valid");
    assert_eq!((auth.enabled, &auth.users[0].name[..]), (false, &b"root"[..]));
}
