//! What both disks promise, and what the simulated one forgets.

use std::io;
use std::path::Path;

use super::{Disk, DiskFile, Misread, RealDisk, SECTOR_BYTES, SimDisk};

/// The promises that hold without a crash, on any disk.
fn behaves<D: Disk>(disk: &D, root: &Path) {
    let dir = root.join("a/b");
    disk.create_dir_all(&dir).unwrap();
    disk.create_dir_all(&dir).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), Vec::<String>::new());
    let path = dir.join("file");
    assert_eq!(kind(disk.open(&path)), io::ErrorKind::NotFound);
    let file = disk.create(&path).unwrap();
    assert_eq!(kind(disk.create(&path)), io::ErrorKind::AlreadyExists);
    assert!(file.is_empty().unwrap());
    file.write_at(b"world", 6).unwrap();
    file.write_at(b"hello ", 0).unwrap();
    assert_eq!(file.len().unwrap(), 11);
    let mut buffer = [9; 16];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 11);
    assert_eq!(&buffer[..11], b"hello world");
    assert_eq!(file.read_at(&mut buffer[..4], 8).unwrap(), 3);
    assert_eq!(file.read_at(&mut buffer, 99).unwrap(), 0);
    file.allocate(4096).unwrap();
    assert_eq!(file.len().unwrap(), 4096);
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 4096, "an allocation never shrinks");
    assert_eq!(file.read_at(&mut buffer, 8).unwrap(), 16);
    assert_eq!(&buffer[..5], b"rld\0\0");
    file.set_len(3).unwrap();
    file.set_len(4096).unwrap();
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 16);
    assert_eq!(&buffer[..6], b"hel\0\0\0");
    file.sync().unwrap();
    disk.sync_dir(&dir).unwrap();
    let other = dir.join("other");
    disk.rename(&path, &other).unwrap();
    assert_eq!(kind(disk.rename(&path, &other)), io::ErrorKind::NotFound);
    disk.create(&path).unwrap();
    assert_eq!(disk.list(&dir).unwrap(), ["file", "other"]);
    disk.remove(&path).unwrap();
    assert_eq!(kind(disk.remove(&path)), io::ErrorKind::NotFound);
    assert_eq!(disk.open(&other).unwrap().len().unwrap(), 4096);
    assert!(disk.free_bytes(&dir).unwrap() > 0);
    let lock = disk.lock(&dir.join("lock")).unwrap();
    assert_eq!(kind(disk.lock(&dir.join("lock"))), io::ErrorKind::WouldBlock);
    drop(lock);
    disk.lock(&dir.join("lock")).unwrap();
}

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn the_real_disk_behaves() {
    let root = tempfile::tempdir().unwrap();
    behaves(&RealDisk, root.path());
}

#[test]
fn the_simulated_disk_behaves() {
    behaves(&SimDisk::new(1), Path::new("/sim"));
}

fn disk_with_file(seed: u64) -> (SimDisk, super::sim::SimFile) {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.create(Path::new("/d/f")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open(Path::new("/d/f")).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_is_synced_survives_and_what_is_not_is_torn_by_sector() {
    let (mut lost, mut kept, mut torn, mut reordered) = (0, 0, 0, 0);
    for seed in 0..200 {
        let (disk, file) = disk_with_file(seed);
        file.write_at(&[1; 4 * SECTOR_BYTES], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; 2 * SECTOR_BYTES], 0).unwrap();
        file.write_at(&[3; 2 * SECTOR_BYTES], 2 * SECTOR_BYTES as u64).unwrap();
        disk.crash();
        let bytes = content(&disk);
        assert_eq!(bytes.len(), 4 * SECTOR_BYTES);
        let mut sectors = Vec::new();
        for sector in bytes.chunks(SECTOR_BYTES) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is never torn");
            sectors.push(sector[0]);
        }
        match sectors[..] {
            [1, 1, 1, 1] => lost += 1,
            [2, 2, 3, 3] => kept += 1,
            [1, 1, 3, 3] => reordered += 1,
            [a, b, c, d] => {
                assert!([a, b].iter().all(|s| [1, 2].contains(s)), "{sectors:?}");
                assert!([c, d].iter().all(|s| [1, 3].contains(s)), "{sectors:?}");
                torn += 1;
            }
            _ => unreachable!("four sectors"),
        }
    }
    assert!(lost > 10 && kept > 10 && torn > 10 && reordered > 0, "{lost} {kept} {torn}");
}

#[test]
fn names_are_lost_without_a_sync_of_the_directory() {
    let (mut present, mut absent) = (0, 0);
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync().unwrap();
        disk.crash();
        match disk.open(Path::new("/d/f")) {
            Ok(_) => present += 1,
            Err(_) => absent += 1,
        }
    }
    assert!(present > 5 && absent > 5, "{present} {absent}");
}

#[test]
fn a_rename_is_one_name_or_the_other() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..50 {
        let (disk, _file) = disk_with_file(seed);
        disk.rename(Path::new("/d/f"), Path::new("/d/g")).unwrap();
        disk.crash();
        match &disk.list(Path::new("/d")).unwrap()[..] {
            [name] if name == "f" => old += 1,
            [name] if name == "g" => new += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(old > 5 && new > 5, "{old} {new}");
}

#[test]
fn a_failed_sync_is_not_repaired_by_a_second_one() {
    let mut lost = 0;
    for seed in 0..50 {
        let (disk, file) = disk_with_file(seed);
        file.write_at(&[0; SECTOR_BYTES], 0).unwrap();
        file.sync().unwrap();
        file.write_at(&[7; SECTOR_BYTES], 0).unwrap();
        disk.fail_after(0);
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(content(&disk), [7; SECTOR_BYTES], "the cache still shows it");
        disk.crash();
        lost += u64::from(content(&disk) == [0; SECTOR_BYTES]);
    }
    assert!(lost > 5, "{lost}");
}

#[test]
fn power_goes_off_at_the_operation_named() {
    let (disk, file) = disk_with_file(3);
    disk.power_off_after(1);
    file.write_at(b"one", 0).unwrap();
    file.sync().unwrap_err();
    assert!(disk.open(Path::new("/d/f")).is_err(), "off is off");
    disk.crash();
    assert!(file.len().is_err(), "a handle does not survive its process");
    assert!(disk.open(Path::new("/d/f")).is_ok());
    assert_eq!(disk.faults().crashes, 1);
}

#[test]
fn a_full_disk_refuses_but_keeps_what_was_allocated() {
    let (disk, file) = disk_with_file(4);
    disk.set_capacity_bytes(Some(1000));
    file.allocate(800).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 200);
    let other = disk.create(Path::new("/d/o")).unwrap();
    assert_eq!(kind(other.write_at(&[1; 300], 0)), io::ErrorKind::StorageFull);
    file.write_at(&[1; 800], 0).unwrap();
    disk.remove(Path::new("/d/f")).unwrap();
    other.write_at(&[1; 300], 0).unwrap();
    assert_eq!(disk.faults().full, 1);
}

#[test]
fn rot_and_misdirection_do_what_they_say() {
    let (disk, file) = disk_with_file(5);
    file.write_at(&[0; 64], 0).unwrap();
    disk.misdirect_next_write(8);
    file.write_at(b"x", 0).unwrap();
    file.sync().unwrap();
    assert!(disk.rot(Path::new("/d/f"), 1, 0x80));
    assert!(!disk.rot(Path::new("/d/f"), 64, 0x80));
    disk.crash();
    let bytes = content(&disk);
    assert_eq!((bytes[0], bytes[1], bytes[8]), (0, 0x80, b'x'));
}

#[test]
fn one_planned_read_fails_and_changes_nothing() {
    let (disk, file) = disk_with_file(1);
    file.write_at(b"here", 0).unwrap();
    disk.fail_read_after(1);
    let mut buffer = [0; 4];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 4);
    assert_eq!(kind(file.read_at(&mut buffer, 0)), io::ErrorKind::Other);
    assert_eq!((file.read_at(&mut buffer, 0).unwrap(), &buffer), (4, b"here"));
    assert_eq!(disk.faults().reads_failed, 1);
}

#[test]
fn a_read_gives_what_was_there_before_or_what_is_elsewhere_once() {
    let (disk, file) = disk_with_file(6);
    let sector = SECTOR_BYTES;
    file.write_at(&vec![1; 2 * sector], 0).unwrap();
    file.write_at(&vec![2; sector], 0).unwrap();
    file.sync().unwrap();
    let mut buffer = vec![0; sector + 1];
    let mut read = |offset: u64| {
        let filled = file.read_at(&mut buffer, offset).unwrap();
        (filled, buffer[0], buffer[filled - 1])
    };
    disk.misread_after(1, Misread::Stale);
    assert_eq!(read(0), (sector + 1, 2, 1));
    assert_eq!(read(0), (sector + 1, 1, 0), "the first sector held 1, the second nothing");
    assert_eq!(read(0), (sector + 1, 2, 1));
    disk.misread_after(0, Misread::Elsewhere(SECTOR_BYTES as u64));
    assert_eq!(read(0), (sector + 1, 1, 0), "there is no more behind");
    assert_eq!(read(0), (sector + 1, 2, 1));
    assert_eq!(disk.faults().misread, 2);
    disk.misread_after(0, Misread::Elsewhere(0));
    assert_eq!(read(3), (sector + 1, 2, 1));
    assert_eq!(disk.faults().misread, 2, "nothing was wrong with it");
}
