//! The log without crashes of the machine: what goes in comes out, and space is reused.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use env::{Disk, RealDisk, SimDisk, SplitMix64};
use raft::{GroupId, LogIndex, LogPosition};

use super::super::{AppendError, GroupWrite, Log, OpenError, Options, ReadError};
use super::{DIR, Model, data, draw, hard_state, observe, open, small, write};

#[test]
fn a_new_log_is_empty_and_stays_so() {
    let disk = SimDisk::new(1);
    let (log, recovered) = open(&disk).unwrap();
    assert!(recovered.created && !recovered.torn && recovered.groups.is_empty());
    log.close().unwrap();
    let (_, recovered) = open(&disk).unwrap();
    assert!(!recovered.created && !recovered.torn && recovered.groups.is_empty());
}

#[test]
fn random_work_survives_restarts() {
    let (mut carried, mut torn) = (0, 0);
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut random = SplitMix64::new(seed);
        let mut model = Model::default();
        for _ in 0..6 {
            let (mut log, recovered) = open(&disk).unwrap();
            torn += u64::from(recovered.torn);
            assert_eq!(observe(&log), model, "seed {seed}");
            for _ in 0..40 {
                let writes = draw(&mut random, &model);
                log.append(&writes).unwrap();
                model.apply(&writes);
                if random.chance(2, 3) {
                    log.sync().unwrap();
                }
            }
            assert_eq!(observe(&log), model, "seed {seed}");
            carried += log.stats().carried_bytes;
            if random.chance(1, 2) {
                log.close().unwrap();
            }
            disk.kill();
        }
    }
    assert!(carried > 0, "cleaning was met");
    assert_eq!(torn, 0, "a killed process tears nothing");
}

#[test]
fn a_lagging_group_does_not_pin_the_log() {
    let disk = SimDisk::new(7);
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let mut lagging = [write(1, vec![data(1, 1, 100), data(2, 1, 100)])];
    lagging[0].hard_state = Some(hard_state(1, 3, 1));
    log.append(&lagging).unwrap();
    model.apply(&lagging);
    for round in 0..500 {
        let mut busy = write(2, vec![data(round + 1, 1, 300)]);
        busy.hard_state = Some(hard_state(1, 1, round));
        busy.truncate_to = Some(LogPosition::new(round, u64::from(round > 0)));
        model.apply(std::slice::from_ref(&busy));
        log.append(&[busy]).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(observe(&log), model);
    let stats = log.stats();
    let files_max = small().segments_min + small().spares_max + 3;
    assert!(stats.file_bytes <= files_max as u64 * 4096, "{stats:?}");
    assert!(stats.carried_bytes > 0 && stats.carried_bytes < stats.written_bytes / 10, "{stats:?}");
    assert!(disk.list(Path::new(DIR)).unwrap().len() <= files_max);
    log.close().unwrap();
    disk.kill();
    assert_eq!(observe(&open(&disk).unwrap().0), model);
}

#[test]
fn much_that_lives_is_not_carried_round_and_round() {
    let disk = SimDisk::new(8);
    let (mut log, _) = open(&disk).unwrap();
    for index in 1..=200 {
        log.append(&[write(1, vec![data(index, 1, 300)])]).unwrap();
        log.sync().unwrap();
    }
    assert_eq!(log.stats().carried_bytes, 0, "all of it is needed: there is nothing to gain");
}

#[test]
fn reading_honours_bounds_and_budget() {
    let disk = SimDisk::new(2);
    let (mut log, _) = open(&disk).unwrap();
    let entries: Vec<_> = (1..=40).map(|index| data(index, 1 + index / 10, 200)).collect();
    log.append(&[write(1, entries.clone())]).unwrap();
    let mut cut = GroupWrite::new(GroupId(1));
    cut.truncate_to = Some(LogPosition::new(5, 1));
    log.append(&[cut]).unwrap();
    let reader = log.reader();
    let group = GroupId(1);
    let read = |first, last, bytes| reader.entries(group, LogIndex(first), LogIndex(last), bytes);
    assert_eq!(read(6, 40, usize::MAX).unwrap(), entries[5..]);
    assert_eq!(read(6, 99, usize::MAX).unwrap(), entries[5..], "up to the end");
    assert_eq!(read(10, 12, usize::MAX).unwrap(), entries[9..12]);
    assert_eq!(read(10, 12, 0).unwrap(), entries[9..10], "at least one");
    let three = 3 * entries[0].size_bytes();
    assert_eq!(read(10, 40, three + 7).unwrap(), entries[9..12]);
    assert!(matches!(read(5, 9, 1), Err(ReadError::Truncated { through: LogIndex(5) })));
    assert!(matches!(read(41, 41, 1), Err(ReadError::Beyond { last: LogIndex(40) })));
    let unknown = reader.entries(GroupId(9), LogIndex(1), LogIndex(1), 1);
    assert!(matches!(unknown, Err(ReadError::UnknownGroup(GroupId(9)))));
}

#[test]
fn a_unit_may_span_segments_and_an_entry_may_not() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let wide = [write(1, (1..=60).map(|index| data(index, 1, 700)).collect())];
    log.append(&wide).unwrap();
    model.apply(&wide);
    let limit = small().entry_bytes_max();
    let refused = log.append(&[write(1, vec![data(61, 1, 10), data(62, 1, limit + 1)])]);
    let Err(AppendError::TooLarge { index, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(index, LogIndex(62));
    let widest = [write(1, vec![data(61, 1, limit)])];
    log.append(&widest).unwrap();
    model.apply(&widest);
    assert_eq!(observe(&log), model, "nothing of what was refused is there");
    log.close().unwrap();
    disk.kill();
    assert_eq!(observe(&open(&disk).unwrap().0), model);
}

#[test]
fn a_full_disk_refuses_entries_but_lets_truncation_make_room() {
    let disk = SimDisk::new(4);
    disk.set_capacity_bytes(Some(6 * 4096));
    let (mut log, _) = open(&disk).unwrap();
    let mut model = Model::default();
    let mut refusals = 0;
    let mut index = 1;
    for _ in 0..400 {
        let next = [write(1, vec![data(index, 1, 500)])];
        match log.append(&next) {
            Ok(()) => {
                model.apply(&next);
                index += 1;
                log.sync().unwrap();
            }
            Err(AppendError::Full { left_bytes, .. }) => {
                refusals += 1;
                assert!(left_bytes > 900, "headroom is left: {left_bytes}");
                assert_eq!(observe(&log), model, "nothing is lost, and reading goes on");
                for term in 1..4 {
                    let mut vote = GroupWrite::new(GroupId(1));
                    vote.hard_state = Some(hard_state(term, 2, 0));
                    log.append(std::slice::from_ref(&vote)).expect("a vote finds room");
                    model.apply(&[vote]);
                    log.sync().unwrap();
                }
                let mut cut = GroupWrite::new(GroupId(1));
                cut.hard_state = Some(hard_state(1, 2, index - 1));
                cut.truncate_to = Some(LogPosition::new(index - 2, 1));
                log.append(std::slice::from_ref(&cut)).unwrap();
                model.apply(&[cut]);
                log.sync().unwrap();
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refusals > 3 && index > 100, "{refusals} refusals, {index} entries");
    assert!(disk.faults().full > 0);
    log.close().unwrap();
    disk.kill();
    assert_eq!(observe(&open(&disk).unwrap().0), model);
}

/// The disk is full when the process starts: the log opens, votes, and makes room.
#[test]
fn a_full_disk_does_not_keep_the_log_from_opening() {
    for segments in 2..8 {
        let disk = SimDisk::new(9);
        disk.set_capacity_bytes(Some(segments * 4096 + 1000));
        let (mut log, _) = open(&disk).unwrap();
        let mut model = Model::default();
        for index in 1.. {
            let next = [write(1, vec![data(index, 1, 500)])];
            if log.append(&next).is_err() {
                break;
            }
            model.apply(&next);
            log.sync().unwrap();
        }
        let last = model.0[&GroupId(1)].last();
        disk.crash();
        let (mut log, _) = open(&disk).unwrap();
        assert_eq!(observe(&log), model, "{segments} segments");
        let mut cut = GroupWrite::new(GroupId(1));
        cut.hard_state = Some(hard_state(2, 1, last.index.0));
        cut.truncate_to = Some(last);
        log.append(std::slice::from_ref(&cut)).unwrap();
        model.apply(&[cut]);
        log.sync().unwrap();
        let next = [write(1, vec![data(last.index.0 + 1, 2, 500)])];
        log.append(&next).unwrap_or_else(|error| panic!("{segments} segments: {error}"));
        model.apply(&next);
        log.sync().unwrap();
        assert_eq!(observe(&log), model);
    }
}

#[test]
fn a_failed_sync_closes_the_log_for_good() {
    for fail_after in 0..3 {
        let disk = SimDisk::new(5);
        let (mut log, _) = open(&disk).unwrap();
        log.append(&[write(1, vec![data(1, 1, 10)])]).unwrap();
        log.sync().unwrap();
        disk.fail_after(fail_after);
        let mut appended = 1;
        let failure = loop {
            let attempt = log.append(&[write(1, vec![data(appended + 1, 1, 10)])]);
            if let Err(AppendError::Failed(failure)) = attempt {
                break failure;
            }
            appended += 1;
            if let Err(failure) = log.sync() {
                break failure;
            }
        };
        assert!(failure.reason.contains("simulated I/O error"), "{failure}");
        log.sync().unwrap_err();
        log.append(&[write(1, vec![])]).unwrap_err();
        disk.crash();
        let (log, _) = open(&disk).unwrap();
        assert!(observe(&log).0[&GroupId(1)].last().index >= LogIndex(1), "what was synced");
    }
}

#[test]
fn another_log_is_refused() {
    let disk = SimDisk::new(6);
    open(&disk).unwrap().0.close().unwrap();
    let dir = Path::new(DIR);
    let other = Options { log_id: 1, ..small() };
    assert!(matches!(Log::open(disk.clone(), dir, other), Err(OpenError::Foreign { .. })));
    let other = Options { segment_bytes: 8192, ..small() };
    assert!(matches!(Log::open(disk, dir, other), Err(OpenError::Foreign { .. })));
}

/// Readers on threads of their own while the writer overwrites, truncates, carries and reuses.
#[test]
fn readers_keep_pace_with_reuse() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 16 << 10, ..small() };
    let (mut log, _) = Log::open(RealDisk, dir.path(), options).unwrap();
    log.append(&[write(1, vec![data(1, 1, 50), data(2, 1, 50)])]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (reader, stop) = (log.reader(), &stop);
                scope.spawn(move || {
                    let (mut read, mut truncated) = (0_u64, 0_u64);
                    while !stop.load(Ordering::Relaxed) {
                        let lagging = reader.entries(GroupId(1), LogIndex(1), LogIndex(2), 999);
                        assert_eq!(lagging.unwrap(), [data(1, 1, 50), data(2, 1, 50)]);
                        let first = LogIndex(read.max(1));
                        match reader.entries(GroupId(2), first, LogIndex(u64::MAX - 1), 9999) {
                            Ok(entries) => {
                                for entry in entries {
                                    assert_eq!(entry, data(entry.index.0, 1, 120));
                                    read = entry.index.0;
                                }
                            }
                            Err(ReadError::Truncated { through }) => {
                                read = through.0 + 1;
                                truncated += 1;
                            }
                            Err(ReadError::UnknownGroup(_) | ReadError::Beyond { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                    (read, truncated)
                })
            })
            .collect();
        for index in 1..=20_000_u64 {
            let mut busy = write(2, vec![data(index, 1, 120)]);
            if index % 16 == 0 {
                busy.truncate_to = Some(LogPosition::new(index - 8, 1));
            }
            log.append(&[busy]).unwrap();
            if index % 256 == 0 {
                log.sync().unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap().0 > 1000, "the reader kept pace");
        }
    });
    assert!(log.stats().carried_bytes > 0, "the lagging group moved under the readers");
}
