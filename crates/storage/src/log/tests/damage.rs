//! Damage is told, or harmless; never taken for a tear.

use std::path::Path;

use env::{Disk, DiskFile, SimDisk, SplitMix64};
use raft::{GroupId, HardState, LogIndex, LogPosition};

use super::super::format::{Frame, Position};
use super::super::{GroupWrite, Log, OpenError, ReadError};
use super::{DIR, Model, data, draw, observe, open, write};

/// A log of a few segments, everything synced, the process gone.
pub(super) fn quiet_log(seed: u64) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    let mut random = SplitMix64::new(seed);
    let mut model = Model::default();
    let (mut log, _) = open(&disk).unwrap();
    for _ in 0..12 {
        let writes = draw(&mut random, &model);
        log.append(&writes).unwrap();
        model.apply(&writes);
        log.sync().unwrap();
    }
    disk.kill();
    (disk, model)
}

pub(super) fn files(disk: &SimDisk) -> Vec<(String, u64)> {
    let dir = Path::new(DIR);
    let names = disk.list(dir).unwrap();
    let length = |name: &String| disk.open(&dir.join(name)).unwrap().len().unwrap();
    names.into_iter().map(|name| (name.clone(), length(&name))).collect()
}

/// File and sector of the last frame of the log.
fn last_frame(disk: &SimDisk) -> (String, u64) {
    let mut last = None;
    for (name, _) in files(disk) {
        let mut bytes = vec![0; 4096];
        disk.open(&Path::new(DIR).join(&name)).unwrap().read_at(&mut bytes, 0).unwrap();
        for offset in (0_u32..4096).step_by(8) {
            let segment = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
            let at = Position { segment, offset };
            if Frame::parse(super::small().log_id, at, &bytes).is_some() {
                last = last.max(Some((at, name.clone())));
            }
        }
    }
    let (at, name) = last.unwrap();
    (name, u64::from(at.offset / 512))
}

/// Opens a damaged log: the truth or a typed error. Returns whether the damage was told.
pub(super) fn told(disk: &SimDisk, model: &Model, what: &str) -> bool {
    match open(disk) {
        Ok((log, _)) => {
            assert_eq!(&observe(&log), model, "{what}");
            false
        }
        Err(
            OpenError::Corrupted { .. }
            | OpenError::MissingSegment { .. }
            | OpenError::Foreign { .. }
            | OpenError::Format { .. },
        ) => true,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn every_byte_may_rot() {
    let (disk, model) = quiet_log(11);
    let (mut errors, mut harmless) = (0, 0);
    for (name, length) in files(&disk) {
        for offset in 0..length {
            let damaged = disk.fork(offset);
            let mask = 1 << (offset % 8);
            assert!(damaged.rot(&Path::new(DIR).join(&name), offset, mask));
            match told(&damaged, &model, &format!("{name} byte {offset}")) {
                true => errors += 1,
                false => harmless += 1,
            }
        }
    }
    assert!(errors > 3000 && harmless > 1000, "{errors} told, {harmless} harmless");
}

/// Whole sectors read as zeros. All but one are told or harmless: the sector of the last seal may
/// hold the end of the last frame too, and a loss of both cannot be told from a tear.
#[test]
fn lost_sectors_are_told() {
    for seed in 20..30 {
        let (disk, model) = quiet_log(seed);
        let last_seal = last_frame(&disk);
        let mut errors = 0;
        for (name, length) in files(&disk) {
            let path = Path::new(DIR).join(&name);
            for sector in 0..length / 512 {
                let damaged = disk.fork(seed);
                let file = damaged.open(&path).unwrap();
                file.write_at(&[0; 512], sector * 512).unwrap();
                if last_seal == (name.clone(), sector) {
                    continue;
                }
                let what = format!("seed {seed} {name} sector {sector}");
                // A blank header is a file that never became a segment.
                errors += u64::from(told(&damaged, &model, &what));
            }
        }
        assert!(errors > 5, "seed {seed}: {errors}");
    }
}

/// A frame that is lost in the middle while later ones arrived, without power loss in between.
#[test]
fn a_misdirected_write_is_told() {
    let disk = SimDisk::new(31);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64)])]).unwrap();
    log.sync().unwrap();
    disk.misdirect_next_write(1024);
    log.append(&[write(1, vec![data(2, 1, 64)])]).unwrap();
    log.sync().unwrap();
    let read = log.reader().entries(GroupId(1), LogIndex(2), LogIndex(2), 1);
    assert!(matches!(read, Err(ReadError::Corrupted { index: LogIndex(2), .. })), "{read:?}");
    disk.kill();
    assert!(matches!(open(&disk), Err(OpenError::Corrupted { .. })));
    assert!(matches!(open(&disk), Err(OpenError::Corrupted { .. })), "and again: nothing is cut");
}

#[test]
fn a_read_of_rotten_bytes_is_an_error() {
    let disk = SimDisk::new(32);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64), data(2, 1, 64)])]).unwrap();
    log.sync().unwrap();
    let path = Path::new(DIR).join("00000001.log");
    let content = {
        let mut bytes = vec![0; 4096];
        disk.open(&path).unwrap().read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let second = 2 * 31 + 7;
    let offset = content.windows(64).position(|window| window == [second; 64]).unwrap();
    assert!(disk.rot(&path, offset as u64 + 10, 4));
    let reader = log.reader();
    let read = |first, last| reader.entries(GroupId(1), LogIndex(first), LogIndex(last), 9999);
    assert_eq!(read(1, 1).unwrap(), [data(1, 1, 64)], "what is whole is readable");
    assert!(matches!(read(1, 2), Err(ReadError::Corrupted { index: LogIndex(2), .. })));
}

/// Rot in what is to be carried closes the log instead of spreading.
#[test]
fn rot_is_not_carried() {
    let disk = SimDisk::new(33);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64)])]).unwrap();
    log.sync().unwrap();
    assert!(disk.rot(&Path::new(DIR).join("00000001.log"), 512 + 64 + 64 + 64 + 50, 1));
    let mut failed = None;
    for index in 1..200 {
        let mut busy = write(2, vec![data(index, 1, 300)]);
        busy.truncate_to = Some(LogPosition::new(index - 1, u64::from(index > 1)));
        if log.append(&[busy]).is_err() {
            break;
        }
        if let Err(error) = log.sync() {
            failed = Some(error);
            break;
        }
    }
    let failed = failed.expect("the lagging group's entry had to be carried");
    assert!(failed.reason.contains("corrupted"), "{failed}");
}

/// The chain and the epoch keep frames of an earlier life, left behind the tail, from coming
/// back when the tail moves over them.
#[test]
fn what_was_cut_stays_cut() {
    let cut = (0..300).filter(|&seed| cut_and_written_again(seed)).count();
    assert!(cut > 100, "{cut}");
}

/// A tail is cut, its first entry appended again, and the process dies. Says whether there was
/// anything to cut.
pub(super) fn cut_and_written_again(seed: u64) -> bool {
    let disk = SimDisk::new(seed);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64)])]).unwrap();
    log.sync().unwrap();
    for index in 2..=6 {
        log.append(&[write(1, vec![data(index, 1, 600)])]).unwrap();
    }
    disk.crash();
    let (mut log, _) = open(&disk).unwrap();
    let last = observe(&log).0[&GroupId(1)].last().index;
    if last == LogIndex(6) {
        return false;
    }
    log.append(&[write(1, vec![data(last.0 + 1, 1, 600)])]).unwrap();
    log.sync().unwrap();
    disk.kill();
    let (log, _) = open(&disk).unwrap();
    assert_eq!(observe(&log).0[&GroupId(1)].last().index, last.next(), "seed {seed}");
    true
}

#[test]
fn a_segment_that_is_needed_is_missed() {
    let (disk, model) = quiet_log(40);
    let mut missed = 0;
    for (name, _) in files(&disk) {
        let damaged = disk.fork(1);
        damaged.remove(&Path::new(DIR).join(&name)).unwrap();
        match Log::open(damaged, Path::new(DIR), super::small()) {
            Err(OpenError::MissingSegment { .. } | OpenError::Corrupted { .. }) => missed += 1,
            // The prepared segment behind the tail is missed by nobody.
            Ok((log, _)) => assert_eq!(observe(&log), model, "{name}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(missed > 0);
}

/// A forgotten group does not return, even if the farewell is the last thing written.
#[test]
fn a_forgotten_group_stays_forgotten() {
    let disk = SimDisk::new(41);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64)]), write(2, vec![data(1, 1, 64)])]).unwrap();
    let mut farewell = GroupWrite::new(GroupId(1));
    farewell.forget = true;
    log.append(&[farewell]).unwrap();
    log.sync().unwrap();
    disk.crash();
    let (log, recovered) = open(&disk).unwrap();
    assert_eq!(recovered.groups.keys().copied().collect::<Vec<_>>(), [GroupId(2)]);
    drop(log);
}

/// The bytes of a small log are those of `docs/storage-format.md`, version 1. Whoever has to
/// change the figure has changed the format, and changes the version and the page as well.
#[test]
fn the_format_is_pinned() {
    let disk = SimDisk::new(50);
    let (mut log, _) = open(&disk).unwrap();
    log.append(&[write(1, vec![data(1, 1, 64)])]).unwrap();
    let mut state = write(2, vec![data(1, 3, 9)]);
    // Without a binding, as in logs from before there were any.
    let unbound = HardState { binding: None, ..super::hard_state(3, 2, 0) };
    state.hard_state = Some(unbound);
    let mut reset = GroupWrite::new(GroupId(1));
    reset.reset = Some(LogPosition::new(40, 7));
    let mut farewell = GroupWrite::new(GroupId(3));
    farewell.forget = true;
    log.append(&[state, reset, farewell]).unwrap();
    log.close().unwrap();
    let mut bytes = vec![0; 4096];
    let file = disk.open(&Path::new(DIR).join("00000001.log")).unwrap();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 4096);
    assert_eq!(&bytes[..8], b"QuorLog1");
    assert_eq!(format!("{:08x}", crc32c::crc32c(&bytes)), "37dedc54");
}
