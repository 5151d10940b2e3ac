//! etcd's snapshots: a database of ours, with changes that the input says.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::LazyLock;

use bolt::etcd::{Alarm, Lease, Member, Meta, RevisionKey, Snapshot, SnapshotWriter, Version};
use bolt::{Bucket, BucketWriter, Entry, Limits, PAGE_SIZE, ReadError, Reader, WriteError, Writer};
use mvcc::{LeaseId, Record, Revision};

/// Bytes of a page's header, and of a meta without its sum.
const HEADER_BYTES: usize = 16;
const META_BYTES: usize = 56;

/// Nesting of buckets that is written again.
const NESTING_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Value(Vec<u8>),
    Bucket(BTreeMap<Vec<u8>, Tree>),
}

/// A database that the input changes. The first byte says which, and whether the sums of its two
/// metas are made right (0x80); then come changes: where (2 bytes, little-endian), how many bytes,
/// the bytes. With 0x40 the input is the database itself.
///
/// What passes [`Reader::check`] can be walked and, written by us, is the same again.
pub(crate) fn etcd_snapshot(data: &[u8]) -> bool {
    let Some((&shape, rest)) = data.split_first() else { return false };
    let mut bytes = if shape & 0x40 == 0 {
        changed(&BASES[usize::from(shape) % BASES.len()], rest)
    } else {
        rest.to_vec()
    };
    if shape & 0x80 != 0 {
        sum_up(&mut bytes);
    }
    let _may_be_cut = bolt::etcd::verify(&bytes);
    let limits = Limits { node_bytes_max: 64 << 10 };
    let accepted = Snapshot::open(bytes.clone(), limits).is_ok_and(|snapshot| walked(&snapshot));
    let Ok(reader) = Reader::open(bytes, limits) else { return false };
    if reader.check().is_ok()
        && let Ok(tree) = read_tree(&reader.root(), NESTING_MAX)
    {
        written_again(&tree);
    }
    accepted
}

fn changed(base: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    while let [low, high, length, rest @ ..] = changes {
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        let (new, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        changes = rest;
        for (offset, byte) in new.iter().enumerate() {
            if let Some(old) = bytes.get_mut(at + offset) {
                *old = *byte;
            }
        }
    }
    bytes
}

/// FNV-64a over each meta, as bbolt has it.
fn sum_up(bytes: &mut [u8]) {
    for page in [0, PAGE_SIZE] {
        let at = page + HEADER_BYTES;
        let Some(meta) = bytes.get_mut(at..at + META_BYTES + 8) else { continue };
        let sum = meta[..META_BYTES].iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        meta[META_BYTES..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Reads everything that a restore reads.
fn walked(snapshot: &Snapshot<Vec<u8>>) -> bool {
    let versions = snapshot.versions().and_then(Iterator::collect::<Result<Vec<Version>, _>>);
    let leases = snapshot.leases().and_then(Iterator::collect::<Result<Vec<Lease>, _>>);
    let mut all = versions.is_ok() && leases.is_ok();
    all &= snapshot.meta().is_ok() && snapshot.members().is_ok() && snapshot.alarms().is_ok();
    all &= snapshot.members_removed().is_ok() && snapshot.cluster_version().is_ok();
    all &= snapshot.auth().is_ok();
    if let Ok(revision) = snapshot.revision() {
        assert!(revision >= 1, "a store begins at 1");
    }
    all && snapshot.status().is_ok()
}

fn read_tree(
    bucket: &Bucket<'_, Vec<u8>>,
    nesting: usize,
) -> Result<BTreeMap<Vec<u8>, Tree>, ReadError> {
    let mut tree = BTreeMap::new();
    for entry in bucket.entries() {
        let (key, entry) = match entry? {
            Entry::Value { key, value } => (key, Tree::Value(value.to_vec())),
            Entry::Bucket { .. } if nesting == 0 => continue,
            Entry::Bucket { name, bucket } => {
                (name, Tree::Bucket(read_tree(&bucket, nesting - 1)?))
            }
        };
        let before = tree.insert(key.to_vec(), entry);
        assert_eq!(before, None, "each key comes once");
    }
    Ok(tree)
}

fn write_tree(
    writer: &mut BucketWriter<'_, Cursor<Vec<u8>>>,
    tree: &BTreeMap<Vec<u8>, Tree>,
) -> Result<(), WriteError> {
    tree.iter().try_for_each(|(key, entry)| match entry {
        Tree::Value(value) => writer.put(key, value),
        Tree::Bucket(tree) => writer.bucket(key, |bucket| write_tree(bucket, tree)),
    })
}

fn written_again(tree: &BTreeMap<Vec<u8>, Tree>) {
    // Ours has buckets at the top alone.
    let top: BTreeMap<_, _> = tree
        .iter()
        .filter(|(_, entry)| matches!(entry, Tree::Bucket(_)))
        .map(|(name, entry)| (name.clone(), entry.clone()))
        .collect();
    let mut writer = Writer::create(Cursor::new(Vec::new())).expect("memory takes it");
    for (name, bucket) in &top {
        if let Tree::Bucket(bucket) = bucket {
            writer.bucket(name, |writer| write_tree(writer, bucket)).expect("it ascends");
        }
    }
    let (file, _) = writer.finish().expect("memory takes it");
    let reader = Reader::open(file.into_inner(), Limits::default()).expect("one of ours");
    reader.check().expect("every page is accounted for");
    let again = read_tree(&reader.root(), NESTING_MAX).expect("one of ours");
    assert_eq!(again, top, "a database survives the way");
}

static BASES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [snapshot(3, 5), snapshot(90, 120)]);

/// A snapshot with everything in it.
fn snapshot(keys: i64, value_bytes: usize) -> Vec<u8> {
    let written = || -> Result<Vec<u8>, WriteError> {
        let mut writer = SnapshotWriter::create(Cursor::new(Vec::new()))?;
        writer.alarms(&[Alarm { member_id: 7, alarm: 1 }])?;
        writer.cluster_version("3.5.0")?;
        writer.versions(|put| {
            for key in 0..keys {
                let revision = RevisionKey { main: 2 + key, sub: 0, tombstone: key % 7 == 6 };
                let (at, value) = (Revision(2 + key), vec![7; value_bytes]);
                let record = Record::new(&key.to_be_bytes(), at, at, 1, &value, Some(LeaseId(7)));
                put(&Version { revision, encoded: record.encoded })?;
            }
            Ok::<(), WriteError>(())
        })?;
        writer.leases([Lease { id: 7, ttl_s: 60, remaining_ttl_s: 5 }])?;
        let member = Member {
            id: 7,
            name: "a".into(),
            peer_urls: vec!["http://a:2380".into()],
            ..Member::default()
        };
        writer.members(&[member], &[9])?;
        writer.meta(&Meta {
            consistent_index: 9,
            term: Some(2),
            finished_compact: Some(1),
            storage_version: Some("3.6.0".into()),
            ..Meta::default()
        })?;
        Ok(writer.finish()?.0.into_inner())
    };
    written().expect("memory takes it")
}

/// The databases as they are, and a few changes of each.
pub(crate) fn etcd_snapshot_samples() -> Vec<Vec<u8>> {
    let change = |shape: u8, at: u16, new: &[u8]| {
        let length = u8::try_from(new.len()).expect("changes are short");
        [&[shape], &at.to_le_bytes()[..], &[length], new].concat()
    };
    let page = u16::try_from(PAGE_SIZE).expect("a page is short");
    vec![
        vec![0],
        vec![1],
        change(0x80, 16 + 16, &[3]),
        change(0x81, page + 16 + 40, &[3]),
        change(0, 2 * page + 10, &[1, 0]),
        change(1, 3 * page + 16, &[9, 9]),
        change(0, 4 * page + 8, &[1]),
    ]
}
