//! The engine against the conformance suite, against crashes, and against damage.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use env::{Disk, DiskFile, RealDisk, SimDisk, SplitMix64};
use mvcc::engine::{Engine, EngineError, Snapshot, Table, Write, conformance};

use super::{EngineOptions, FILE, NEW_FILE, RedbEngine};

const DIR: &str = "/state";

fn options() -> EngineOptions {
    EngineOptions { cache_bytes: 16 << 20 }
}

fn open(disk: &SimDisk) -> Result<RedbEngine<SimDisk>, EngineError> {
    RedbEngine::open(disk.clone(), Path::new(DIR), options())
}

#[test]
fn it_conforms_on_a_real_disk() {
    let root = tempfile::tempdir().unwrap();
    let mut count = 0;
    conformance::run(
        || {
            count += 1;
            let dir = root.path().join(count.to_string());
            RedbEngine::open(RealDisk, &dir, options()).unwrap()
        },
        |engine: RedbEngine<RealDisk>| {
            let dir = engine.dir.clone();
            drop(engine);
            RedbEngine::open(RealDisk, &dir, options()).unwrap()
        },
    );
}

#[test]
fn it_conforms_on_a_simulated_disk() {
    conformance::run(
        || open(&SimDisk::new(1)).unwrap(),
        |engine: RedbEngine<SimDisk>| {
            let disk = engine.disk.clone();
            drop(engine);
            open(&disk).unwrap()
        },
    );
}

type Rows = BTreeMap<Bytes, Bytes>;

fn rows(engine: &RedbEngine<impl Disk>) -> Rows {
    let snapshot = engine.snapshot().unwrap();
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    };
    snapshot.scan(Table::Latest, b"", None, &mut visit).unwrap();
    rows
}

fn batch(random: &mut SplitMix64, rows: &mut Rows) -> Vec<Write> {
    let mut batch = BTreeMap::new();
    for _ in 0..random.below(40) {
        let key = Bytes::from(format!("key {:03}", random.below(100)));
        let length = usize::try_from(random.below(600)).unwrap();
        let value = random.chance(3, 4).then(|| Bytes::from(vec![b'v'; length]));
        batch.insert(key, value);
    }
    for (key, value) in &batch {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
    let writes = batch.into_iter().map(|(key, value)| match value {
        Some(value) => Write::Put(Table::Latest, key, value),
        None => Write::Delete(Table::Latest, key),
    });
    writes.collect()
}

/// Works until the power goes off. Returns the states that may be found afterwards: the last
/// acknowledged one, and the one that was being written.
fn work(disk: &SimDisk, seed: u64) -> Vec<Rows> {
    let mut random = SplitMix64::new(seed);
    let mut states = vec![Rows::new()];
    let Ok(engine) = open(disk) else { return states };
    for round in 0..6 {
        let mut next = states[states.len() - 1].clone();
        let writes = batch(&mut random, &mut next);
        states.push(next);
        if engine.write(&writes).is_err() {
            return states;
        }
        states.remove(0);
        if round == 3 && engine.shrink().is_err() {
            return states;
        }
    }
    states
}

#[test]
fn every_crash_point_leaves_what_was_acknowledged() {
    let mut points = 0;
    for seed in 0..3 {
        let disk = SimDisk::new(seed);
        work(&disk, seed);
        let changes = disk.changes();
        for cut in 0..changes {
            let disk = SimDisk::new(seed * 7919 + cut);
            disk.power_off_after(cut);
            let allowed = work(&disk, seed);
            disk.crash();
            let engine = open(&disk).unwrap_or_else(|error| panic!("{seed} {cut}: {error}"));
            let found = rows(&engine);
            assert!(allowed.contains(&found), "seed {seed}, cut {cut}");
            let names = disk.list(Path::new(DIR)).unwrap();
            assert!(!names.contains(&NEW_FILE.to_owned()), "an interrupted shrink is swept up");
            points += 1;
        }
    }
    assert!(points > 300, "{points}");
}

#[test]
fn a_failed_write_is_the_last() {
    let disk = SimDisk::new(1);
    let engine = open(&disk).unwrap();
    let put = [Write::Put(Table::Latest, "k".into(), "v".into())];
    engine.write(&put).unwrap();
    disk.fail_after(0);
    engine.write(&put).unwrap_err();
    engine.write(&put).unwrap_err();
    engine.shrink().unwrap_err();
    let snapshot = engine.snapshot();
    assert!(snapshot.is_err() || snapshot.unwrap().get(Table::Latest, b"k").is_ok());
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let disk = SimDisk::new(2);
    let engine = open(&disk).unwrap();
    engine.write(&[Write::Put(Table::Latest, "k".into(), "v".into())]).unwrap();
    let (total, _) = engine.size_bytes().unwrap();
    disk.set_capacity_bytes(Some(total + 100));
    let big = Bytes::from(vec![7; 1 << 20]);
    let mut full = None;
    for key in 0..200_u8 {
        let write = Write::Put(Table::Latest, Bytes::from(vec![key]), big.clone());
        if let Err(error) = engine.write(&[write]) {
            full = Some(error);
            break;
        }
    }
    let Some(EngineError::Full { needed_bytes, free_bytes }) = full else { panic!("{full:?}") };
    assert!(free_bytes < needed_bytes && needed_bytes > 4 << 20);
    // Nothing was begun, so reads go on, and with room the same engine takes the batch.
    assert_eq!(rows(&engine).get(&b"k"[..]), Some(&Bytes::from("v")));
    disk.set_capacity_bytes(None);
    engine.write(&[Write::Put(Table::Latest, "big".into(), big.clone())]).unwrap();
    assert_eq!(rows(&engine).get(&b"big"[..]), Some(&big));
    drop(engine);
    assert_eq!(rows(&open(&disk).unwrap()).len(), 2);
}

/// A shrink that finds no room gives up, and the engine goes on.
#[test]
fn a_shrink_without_room_changes_nothing() {
    let disk = SimDisk::new(3);
    let engine = open(&disk).unwrap();
    let value = Bytes::from(vec![7; 100_000]);
    let puts: Vec<_> =
        (0..50_u8).map(|k| Write::Put(Table::Latest, vec![k].into(), value.clone())).collect();
    engine.write(&puts).unwrap();
    let (total, _) = engine.size_bytes().unwrap();
    disk.set_capacity_bytes(Some(total + 1000));
    engine.shrink().unwrap_err();
    disk.set_capacity_bytes(None);
    engine.write(&[Write::Delete(Table::Latest, vec![0].into())]).unwrap();
    assert_eq!(rows(&engine).len(), 49);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), [FILE]);
}

#[test]
fn shrinking_gives_space_back_while_others_write() {
    let root = tempfile::tempdir().unwrap();
    let engine = RedbEngine::open(RealDisk, root.path(), options()).unwrap();
    let key = |key: u32| Bytes::copy_from_slice(&key.to_be_bytes());
    let value = Bytes::from(vec![7; 1000]);
    let puts: Vec<_> =
        (0..20_000).map(|k| Write::Put(Table::Latest, key(k), value.clone())).collect();
    engine.write(&puts).unwrap();
    let deletes: Vec<_> = (500..20_000).map(|k| Write::Delete(Table::Latest, key(k))).collect();
    engine.write(&deletes).unwrap();
    let (before, used) = engine.size_bytes().unwrap();
    assert_eq!(used, 500 * (4 + 1000 + 8));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200_u32 {
                let value = Bytes::copy_from_slice(&round.to_be_bytes());
                engine.write(&[Write::Put(Table::Latest, key(round % 50), value)]).unwrap();
            }
        });
        engine.shrink().unwrap();
    });
    let (after, _) = engine.size_bytes().unwrap();
    assert!(after < before / 4, "{before} bytes before, {after} after");
    let rows = rows(&engine);
    assert_eq!(rows.len(), 500);
    for k in 0..50 {
        assert_eq!(rows[&key(k)][..], (150 + k).to_be_bytes(), "nothing written meanwhile is lost");
    }
}

/// A writer that never rests while the engine is shrunk again and again, with batches so wide
/// that what it touches takes several rounds.
#[test]
fn nothing_written_during_a_shrink_is_lost() {
    const KEYS: u32 = 8000;
    const WIDTH: u32 = 500;
    let engine = open(&SimDisk::new(7)).unwrap();
    let key = |key: u32| Bytes::copy_from_slice(&key.to_be_bytes());
    let ballast = Bytes::from(vec![7; 500]);
    let puts: Vec<_> =
        (0..KEYS).map(|k| Write::Put(Table::Latest, key(k), ballast.clone())).collect();
    engine.write(&puts).unwrap();
    let over = AtomicBool::new(false);
    let (written, shrinks) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = BTreeMap::new();
            let mut round = 0_u32;
            while !over.load(Ordering::Relaxed) {
                let first = round * WIDTH % KEYS;
                let value = (!round.is_multiple_of(7)).then(|| key(round));
                let batch: Vec<_> = (first..first + WIDTH)
                    .map(|k| match &value {
                        Some(value) => Write::Put(Table::Latest, key(k), value.clone()),
                        None => Write::Delete(Table::Latest, key(k)),
                    })
                    .collect();
                engine.write(&batch).unwrap();
                written.extend((first..first + WIDTH).map(|k| (key(k), value.clone())));
                round += 1;
            }
            written
        });
        let mut shrinks = 0;
        while shrinks < 5 {
            engine.shrink().unwrap();
            shrinks += 1;
        }
        over.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), shrinks)
    });
    assert_eq!(shrinks, 5);
    assert!(written.len() >= WIDTH as usize, "the writer was not held up");
    let rows = rows(&engine);
    for (key, value) in &written {
        assert_eq!(rows.get(key), value.as_ref(), "{key:?}");
    }
    let untouched = (0..KEYS).filter(|k| !written.contains_key(&key(*k)));
    for k in untouched {
        assert_eq!(rows.get(&key(k)), Some(&ballast));
    }
}

#[test]
fn keys_of_any_length_keep_their_order() {
    let engine = open(&SimDisk::new(4)).unwrap();
    let lengths = [1, 511, 512, 4096, 65_535, 65_536, 1_000_000, 1_572_864];
    let keys = lengths.map(|length| Bytes::from(vec![b'k'; length]));
    let puts = keys.iter().map(|key| Write::Put(Table::Latest, key.clone(), "v".into()));
    engine.write(&puts.collect::<Vec<_>>()).unwrap();
    assert!(rows(&engine).keys().eq(keys.iter()));
    let snapshot = engine.snapshot().unwrap();
    for key in &keys {
        assert_eq!(snapshot.get(Table::Latest, key).unwrap(), Some("v".into()));
    }
}

/// The file is damaged while nobody has it open. What is read is the truth or an error; what was
/// not meant to be read may be unreadable, but nothing panics.
#[test]
fn damage_is_an_error_or_harmless() {
    let disk = SimDisk::new(5);
    let path = Path::new(DIR).join(FILE);
    let mut expected = Rows::new();
    {
        let engine = open(&disk).unwrap();
        let mut random = SplitMix64::new(5);
        for _ in 0..20 {
            let writes = batch(&mut random, &mut expected);
            engine.write(&writes).unwrap();
        }
    }
    disk.kill();
    let length = disk.open(&path).unwrap().len().unwrap();
    let mut errors = 0;
    for cut in [0, 1, 100, 4096, length / 2, length - 1] {
        let damaged = disk.fork(cut);
        damaged.open(&path).unwrap().set_len(cut).unwrap();
        match readable(&damaged) {
            Err(_) => errors += 1,
            // Nothing at all is an empty engine: that there should be one, others know.
            Ok(rows) => assert!(rows.is_empty() && cut == 0 || rows == expected, "cut at {cut}"),
        }
    }
    assert!(errors >= 3, "{errors} of the cuts are told");
    let mut random = SplitMix64::new(6);
    for _ in 0..300 {
        let damaged = disk.fork(random.next_u64());
        let file = damaged.open(&path).unwrap();
        let page = random.below(length / 4096) * 4096;
        let noise: Vec<u8> = (0..512).map(|_| random.next_u64().to_le_bytes()[0]).collect();
        file.write_at(&noise, page + random.below(8) * 512).unwrap();
        errors += u64::from(readable(&damaged).is_err());
    }
    assert!(errors > 10, "{errors}");
}

fn readable(disk: &SimDisk) -> Result<Rows, EngineError> {
    let engine = open(disk)?;
    let snapshot = engine.snapshot()?;
    let mut rows = Rows::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    };
    snapshot.scan(Table::Latest, b"", None, &mut visit)?;
    Ok(rows)
}
