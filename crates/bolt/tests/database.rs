//! What is written is what is read, and nothing that is read can hurt.

use std::collections::BTreeMap;
use std::io::Cursor;

use bolt::{
    Bucket, BucketWriter, Entry, KEY_BYTES_MAX, Limits, PAGE_SIZE, PageId, Problem, ReadError,
    Reader, WriteError, Writer,
};
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

type File = Cursor<Vec<u8>>;

#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Value(Vec<u8>),
    Bucket(BTreeMap<Vec<u8>, Tree>),
}

fn write_tree(
    writer: &mut BucketWriter<'_, File>,
    tree: &BTreeMap<Vec<u8>, Tree>,
) -> Result<(), WriteError> {
    tree.iter().try_for_each(|(key, entry)| match entry {
        Tree::Value(value) => writer.put(key, value),
        Tree::Bucket(tree) => writer.bucket(key, |bucket| write_tree(bucket, tree)),
    })
}

fn write(tree: &BTreeMap<Vec<u8>, Tree>) -> Vec<u8> {
    let mut writer = Writer::create(Cursor::new(Vec::new())).expect("memory");
    for (name, bucket) in tree {
        let Tree::Bucket(bucket) = bucket else { panic!("the root holds buckets only") };
        writer.bucket(name, |writer| write_tree(writer, bucket)).expect("sorted");
    }
    let (file, summary) = writer.finish().expect("memory");
    assert_eq!(summary.bytes, file.get_ref().len() as u64);
    assert_eq!(summary.bytes, summary.pages * PAGE_SIZE as u64);
    file.into_inner()
}

fn read_tree(bucket: &Bucket<'_, Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Tree>, ReadError> {
    let mut tree = BTreeMap::new();
    for entry in bucket.entries() {
        let (key, entry) = match entry? {
            Entry::Value { key, value } => (key, Tree::Value(value.to_vec())),
            Entry::Bucket { name, bucket } => (name, Tree::Bucket(read_tree(&bucket)?)),
        };
        tree.insert(key.to_vec(), entry);
    }
    Ok(tree)
}

fn open(bytes: Vec<u8>) -> Result<Reader<Vec<u8>>, ReadError> {
    Reader::open(bytes, Limits::default())
}

fn random_tree(random: &mut Pcg64, nesting: usize) -> BTreeMap<Vec<u8>, Tree> {
    let size = *[0, 1, 2, 40, 700].get(random.random_range(0..5)).expect("in range");
    let longest_key = *[3, 30, 900, 6000].get(random.random_range(0..4)).expect("in range");
    let longest_value = *[0, 50, 3000, 20_000].get(random.random_range(0..4)).expect("in range");
    let mut tree = BTreeMap::new();
    for _ in 0..size {
        let mut key = vec![0; random.random_range(1..=longest_key)];
        random.fill_bytes(&mut key);
        let entry = if nesting > 0 && random.random_range(0..30) == 0 {
            Tree::Bucket(random_tree(random, nesting - 1))
        } else {
            let mut value = vec![0; random.random_range(0..=longest_value)];
            random.fill_bytes(&mut value);
            Tree::Value(value)
        };
        tree.insert(key, entry);
    }
    tree
}

fn random_database(seed: u64) -> BTreeMap<Vec<u8>, Tree> {
    let mut random = Pcg64::seed_from_u64(seed);
    (0..random.random_range(0..4))
        .map(|name| (vec![b'a' + name], Tree::Bucket(random_tree(&mut random, 1))))
        .collect()
}

#[test]
fn what_was_written_is_read_back() {
    let mut deepest = 0;
    for seed in 0..40 {
        let tree = random_database(seed);
        let bytes = write(&tree);
        let reader = open(bytes.clone()).expect("valid");
        reader.check().expect("every page is accounted for");
        assert_eq!(read_tree(&reader.root()).expect("valid"), tree, "seed {seed}");
        deepest = deepest.max(bytes.len());
        for (name, bucket) in &tree {
            let Tree::Bucket(bucket) = bucket else { panic!("the root holds buckets only") };
            look_up(&reader.bucket(name).expect("valid").expect("there"), bucket);
        }
    }
    assert!(deepest > 4 << 20, "some databases have branches over branches: {deepest}");
}

/// Point reads, the last key and seeks to places that exist and that do not.
fn look_up(bucket: &Bucket<'_, Vec<u8>>, tree: &BTreeMap<Vec<u8>, Tree>) {
    let last = bucket.last().expect("valid").map(|entry| match entry {
        Entry::Value { key, .. } | Entry::Bucket { name: key, .. } => key.to_vec(),
    });
    assert_eq!(last.as_ref(), tree.keys().last());
    for (key, entry) in tree.iter().step_by(7) {
        let found = bucket.get(key).expect("valid").map(|value| Tree::Value(value.to_vec()));
        let expected = Some(entry).filter(|entry| matches!(entry, Tree::Value(_)));
        assert_eq!(found.as_ref(), expected);
        let mut beside = key.clone();
        beside.push(0);
        for from in [&key[..key.len() - 1], &key[..], &beside[..]] {
            let first = bucket.entries_from(from).next().transpose().expect("valid");
            let first = first.map(|entry| match entry {
                Entry::Value { key, .. } | Entry::Bucket { name: key, .. } => key.to_vec(),
            });
            assert_eq!(first.as_ref(), tree.range(from.to_vec()..).next().map(|(key, _)| key));
        }
    }
}

#[test]
fn the_order_of_keys_and_the_sizes_are_checked() {
    let mut writer = Writer::create(Cursor::new(Vec::new())).expect("memory");
    let wrong = writer.bucket(b"a", |bucket| {
        bucket.put(b"b", b"")?;
        assert!(matches!(bucket.put(b"b", b""), Err(WriteError::OutOfOrder { .. })));
        assert!(matches!(bucket.put(b"a", b""), Err(WriteError::OutOfOrder { .. })));
        assert!(matches!(bucket.bucket(b"a", |_| Ok(())), Err(WriteError::OutOfOrder { .. })));
        assert!(matches!(bucket.put(b"", b""), Err(WriteError::EmptyKey)));
        bucket.put(&[b'c'; KEY_BYTES_MAX], b"")?;
        bucket.put(&[b'd'; KEY_BYTES_MAX + 1], b"")
    });
    assert!(matches!(wrong, Err(WriteError::KeyTooLong { bytes }) if bytes == KEY_BYTES_MAX + 1));
    writer.bucket(b"b", |_| Ok(())).expect("new");
    assert!(matches!(writer.bucket(b"b", |_| Ok(())), Err(WriteError::OutOfOrder { .. })));
    assert!(matches!(writer.bucket(b"", |_| Ok(())), Err(WriteError::EmptyKey)));
}

/// A database of a few pages that has every kind of them.
fn small() -> Vec<u8> {
    let pairs = |count: u32, value: usize| {
        let pair = |at: u32| (at.to_be_bytes().to_vec(), Tree::Value(vec![7; value]));
        (0..count).map(pair).collect::<BTreeMap<_, _>>()
    };
    let mut first = pairs(60, 150);
    first.insert(b"large".to_vec(), Tree::Value(vec![9; 5000]));
    first.insert(b"nested".to_vec(), Tree::Bucket(pairs(2, 3)));
    let tree = [(b"a".to_vec(), Tree::Bucket(first)), (b"b".to_vec(), Tree::Bucket(pairs(0, 0)))];
    write(&tree.into_iter().collect())
}

#[test]
fn every_damaged_byte_is_an_error_or_harmless() {
    let bytes = small();
    let tree = read_tree(&open(bytes.clone()).expect("valid").root()).expect("valid");
    let (mut refused, mut changed, mut harmless) = (0, 0, 0);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let outcome = open(damaged).and_then(|reader| {
                reader.check()?;
                read_tree(&reader.root())
            });
            match outcome {
                Err(_) => refused += 1,
                Ok(read) if read == tree => harmless += 1,
                Ok(_) => changed += 1,
            }
        }
    }
    // bbolt sums nothing but its metas, so damage inside of a value is for the SHA-256 to find.
    assert!(
        refused > 3000 && changed > 10_000 && harmless > 1000,
        "{refused} {changed} {harmless}"
    );
}

#[test]
fn a_database_that_is_cut_is_refused() {
    let bytes = small();
    for length in (0..bytes.len()).step_by(97) {
        match open(bytes[..length].to_vec()) {
            Err(ReadError::NoValidMeta) => assert!(length < PAGE_SIZE, "{length}"),
            Err(ReadError::Truncated { .. }) => assert!(length >= 80, "{length}"),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn one_valid_meta_is_enough() {
    let bytes = small();
    let whole = read_tree(&open(bytes.clone()).expect("valid").root()).expect("valid");
    for at in [20, PAGE_SIZE + 20] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let reader = open(damaged).expect("the other one is valid");
        assert_eq!(read_tree(&reader.root()).expect("valid"), whole);
    }
    let mut damaged = bytes;
    damaged[20] ^= 1;
    damaged[PAGE_SIZE + 20] ^= 1;
    assert!(matches!(open(damaged), Err(ReadError::NoValidMeta)));
}

fn problem(bytes: Vec<u8>) -> Option<(PageId, Problem)> {
    match open(bytes).and_then(|reader| reader.check()) {
        Ok(()) => None,
        Err(ReadError::Page { page, problem }) => Some((page, problem)),
        Err(other) => panic!("{other}"),
    }
}

/// First page with these flags.
fn page_of(bytes: &[u8], flags: u8) -> usize {
    let pages = bytes.chunks(PAGE_SIZE);
    pages.enumerate().find(|(_, page)| page[8] == flags && page[0] != 0).expect("there").0
}

#[test]
fn damage_to_the_structure_has_a_name() {
    let bytes = small();
    assert_eq!(problem(bytes.clone()), None);
    let branch = page_of(&bytes, 0x01);
    let freelist = page_of(&bytes, 0x10);
    let damage = |page: usize, at: usize, with: &[u8]| {
        let mut damaged = bytes.clone();
        let at = page * PAGE_SIZE + at;
        damaged[at..at + with.len()].copy_from_slice(with);
        problem(damaged).expect("noticed").1
    };
    let child = |index: usize| 16 + index * 16 + 8;
    let word = |value: usize| (value as u64).to_le_bytes();
    assert_eq!(damage(branch, 0, &word(3)), Problem::WrongId);
    assert_eq!(damage(branch, 8, &[0x10, 0]), Problem::WrongKind);
    assert_eq!(damage(branch, 8, &[0x40, 0]), Problem::WrongKind);
    assert_eq!(damage(branch, 10, &[0, 0]), Problem::EmptyBranch);
    assert_eq!(damage(branch, 10, &[255, 255]), Problem::ElementOutOfBounds);
    assert_eq!(damage(branch, 12, &[255; 4]), Problem::OutOfBounds);
    assert_eq!(damage(branch, child(0), &word(0)), Problem::OutOfBounds);
    assert_eq!(damage(branch, child(0), &word(1 << 40)), Problem::OutOfBounds);
    assert_eq!(damage(branch, child(0), &word(branch)), Problem::UsedTwice, "a cycle");
    assert_eq!(damage(branch, child(1), &word(2)), Problem::KeyOrder, "the first child again");
    assert_eq!(damage(branch, 16 + 4, &[255; 4]), Problem::ElementOutOfBounds);
    assert_eq!(damage(2, 16 + 8, &[0; 4]), Problem::KeyOrder, "an empty key");
    assert_eq!(damage(freelist, 8, &[2, 0]), Problem::WrongKind);
    assert_eq!(damage(freelist, 10, &[1, 0]), Problem::UsedTwice, "page 0 is free, it says");
    let limits = Limits { node_bytes_max: PAGE_SIZE as u64 };
    let limited = Reader::open(bytes.clone(), limits).expect("metas are fine").check();
    let large = Problem::TooLarge { limit: PAGE_SIZE as u64 };
    assert!(matches!(limited, Err(ReadError::Page { problem, .. }) if problem == large));
}

/// A walk without the account of pages ends, too.
#[test]
fn a_cycle_ends_by_the_order_of_keys() {
    let mut bytes = small();
    let branch = page_of(&bytes, 0x01);
    let at = branch * PAGE_SIZE + 16 + 16 + 8;
    bytes[at..at + 8].copy_from_slice(&(branch as u64).to_le_bytes());
    let reader = open(bytes).expect("metas are fine");
    let failed = read_tree(&reader.root()).expect_err("a cycle");
    assert!(matches!(failed, ReadError::Page { problem: Problem::KeyOrder, .. }), "{failed}");
}

#[test]
fn random_bytes_in_the_structure_never_panic() {
    let bytes = small();
    let mut refused = 0;
    for seed in 0..3000 {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut damaged = bytes.clone();
        let page = random.random_range(2..bytes.len() / PAGE_SIZE);
        for _ in 0..random.random_range(1..5) {
            // Headers and tables of elements rather than values.
            let at = page * PAGE_SIZE + random.random_range(0..200);
            damaged[at] = random.random();
        }
        let reader = open(damaged).expect("metas are fine");
        refused += u32::from(reader.check().is_err() | read_tree(&reader.root()).is_err());
        let _ = reader.bucket(b"a").map(|bucket| bucket.map(|bucket| bucket.last().is_ok()));
    }
    assert!(refused > 1000, "{refused}");
}
