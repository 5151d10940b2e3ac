//! Single faults of the disk beside the crashes, drawn from a seed; and the log broken on purpose,
//! which crashes, damage and these faults have to notice.

use std::path::Path;

use env::{Misread, SimDisk, SplitMix64};
use hunt::Hunt;
use raft::LogIndex;

use super::super::{OpenError, ReadError};
use super::crash::{Allowed, live_and_die, reopen, work};
use super::damage::{cut_and_written_again, files, quiet_log, told};
use super::{DIR, Model, observe, open};
use crate::mutants::{Mutant, switch};

/// Seeds a mutant may live through.
const SEEDS: u64 = 300;

/// One operation fails, whichever it is; then the power goes.
fn one_failure(seed: u64) {
    let disk = SimDisk::new(seed);
    let mut random = SplitMix64::new(seed);
    let mut allowed = Allowed::found(Model::default());
    let Ok((mut log, _)) = open(&disk) else { panic!("nothing fails yet") };
    disk.fail_after(random.below(60));
    work(&mut log, &mut random, 12, &mut allowed);
    disk.crash();
    reopen(&disk, &allowed, &format!("seed {seed}"));
}

/// One byte rots: it is told, whether the log is opened afterwards or read meanwhile.
fn one_rotten_byte(seed: u64) {
    let (disk, model) = quiet_log(seed % 8);
    let mut random = SplitMix64::new(seed);
    let (open_log, _) = open(&disk).unwrap();
    let files = files(&disk);
    let pick = usize::try_from(random.below(files.len() as u64)).unwrap();
    let (name, length) = &files[pick];
    let (offset, mask) = (random.below(*length), 1 << random.below(8));
    let what = format!("seed {seed}: {name} byte {offset}");
    assert!(disk.rot(&Path::new(DIR).join(name), offset, mask));
    for (id, group) in &model.0 {
        for entry in &group.entries {
            match open_log.reader().entries(*id, entry.index, entry.index, usize::MAX) {
                Ok(read) => assert_eq!(read, std::slice::from_ref(entry), "{what}: {id:?}"),
                Err(ReadError::Corrupted { .. }) => {}
                Err(other) => panic!("{what}: {other}"),
            }
        }
    }
    drop(open_log);
    disk.kill();
    told(&disk, &model, &what);
}

/// One read fails: that is an error, and neither the end of anything nor for ever.
fn one_failed_read(seed: u64) {
    let (disk, model) = quiet_log(seed % 8);
    let mut random = SplitMix64::new(seed);
    disk.fail_read_after(random.below(16));
    match open(&disk) {
        Ok((log, _)) => assert_eq!(observe_despite(&disk, &log), model, "seed {seed}"),
        Err(OpenError::Io { .. }) => disk.kill(),
        Err(other) => panic!("seed {seed}: {other}"),
    }
    disk.kill();
    let (log, _) = open(&disk).unwrap();
    for (id, group) in model.0.iter().filter(|(_, group)| !group.entries.is_empty()) {
        let first = group.truncated.index.next();
        disk.fail_read_after(random.below(2));
        match log.reader().entries(*id, first, LogIndex(u64::MAX), usize::MAX) {
            Ok(read) => assert_eq!(read, group.entries, "seed {seed}: {id:?}"),
            Err(ReadError::Io(_)) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
}

/// One read gives other bytes than are there, and says nothing: that is an error, or nobody notices because nothing
/// is wrong; and nothing is lost by it.
fn one_misread(seed: u64) {
    let (disk, model) = quiet_log(seed % 8);
    let mut random = SplitMix64::new(seed);
    let how = |random: &mut SplitMix64| match random.below(2) {
        0 => Misread::Stale,
        _ => Misread::Elsewhere(random.below(8) * 64),
    };
    disk.misread_after(random.below(16), how(&mut random));
    match open(&disk) {
        Ok((log, _)) => {
            disk.misread_after(u64::MAX, Misread::Stale);
            assert_eq!(observe(&log), model, "seed {seed}");
        }
        Err(_) => disk.kill(),
    }
    disk.misread_after(u64::MAX, Misread::Stale);
    disk.kill();
    let (log, _) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}, in peace: {error}"));
    assert_eq!(observe(&log), model, "seed {seed}");
    for (id, group) in model.0.iter().filter(|(_, group)| !group.entries.is_empty()) {
        let first = group.truncated.index.next();
        disk.misread_after(random.below(2), how(&mut random));
        match log.reader().entries(*id, first, LogIndex(u64::MAX), usize::MAX) {
            Ok(read) => assert_eq!(read, group.entries, "seed {seed}: {id:?}"),
            Err(ReadError::Corrupted { .. }) => {}
            Err(other) => panic!("seed {seed}: {other}"),
        }
    }
}

/// What a log holds that was opened before the planned failure came.
fn observe_despite(disk: &SimDisk, log: &super::Log<SimDisk>) -> Model {
    disk.fail_read_after(u64::MAX);
    observe(log)
}

/// Everything that may befall a log, for a seed.
fn live(seed: u64) {
    let mut random = SplitMix64::new(seed);
    let (cut, second_cut) = (random.below(120), random.below(90));
    live_and_die(seed, cut, second_cut, &mut 0);
    one_failure(seed);
    one_rotten_byte(seed);
    one_failed_read(seed);
    one_misread(seed);
    cut_and_written_again(seed);
}

#[test]
fn single_faults_are_survived_or_told() {
    (1000..1400).for_each(live);
}

/// The known way to get it wrong that a mutant stands for.
fn way(mutant: Mutant) -> Option<u8> {
    match mutant {
        Mutant::AckBeforeSync
        | Mutant::SyncTriedAgain
        | Mutant::DirectoryNotSynced
        | Mutant::FoundNotSynced
        | Mutant::ReleasedTooEarly => Some(11),
        Mutant::WitnessTooFar
        | Mutant::CorruptionTakenForTear
        | Mutant::UnitInPieces
        | Mutant::OverwrittenComesBack
        | Mutant::TruncatedComesBack
        | Mutant::EpochKept
        | Mutant::ChecksumOfDataAlone => Some(13),
        Mutant::ReadErrorEndsLog | Mutant::ReadErrorEndsEntries | Mutant::EndReadOnce => Some(14),
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("storage");
    for &mutant in Mutant::ALL {
        hunt.mutant(mutant, way(mutant), 0..SEEDS, |seed, mutant| {
            let _off = switch(mutant);
            live(seed);
            Ok(())
        });
    }
    hunt.end();
}
