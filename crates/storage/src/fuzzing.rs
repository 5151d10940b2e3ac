//! What opening a log promises of any files, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::path::PathBuf;

use bytes::Bytes;
use env::{Disk as _, DiskFile as _, SimDisk};
use raft::{
    Entry, GroupId, HardState, LogIndex, LogPosition, MembershipChange, MembershipStep, Payload,
    ReplicaId, Term, Transition,
};

use crate::log::fuzzing::{Frames, RecordShape};
use crate::log::{GroupWrite, Log, OpenError, Options, Recovered};

const LOG_ID: u64 = 1;
const SEGMENT_BYTES: u32 = 4096;
const SEGMENTS_MAX: usize = 4;
/// Of the samples: what makes groups, entries and terms small enough to be met by chance.
const GROUPS: u64 = 4;

fn options() -> Options {
    Options {
        log_id: LOG_ID,
        segment_bytes: SEGMENT_BYTES,
        headroom_bytes: 1024,
        step_bytes: 4096,
        ..Options::default()
    }
}

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn file(number: usize) -> PathBuf {
    dir().join(format!("{number:08}.log"))
}

/// A disk with these files of the log.
fn disk_of<'a>(files: impl Iterator<Item = &'a [u8]>) -> SimDisk {
    let disk = SimDisk::new(0);
    disk.create_dir_all(&dir()).expect("an empty disk");
    for (number, bytes) in (1..).zip(files) {
        let file = disk.create(&file(number)).expect("each name once");
        file.write_at(bytes, 0).expect("there is room");
        file.sync().expect("no faults are planned");
    }
    disk.sync_dir(&dir()).expect("no faults are planned");
    disk
}

/// Files of a log, 4096 bytes each, the last filled up with zeros.
#[must_use]
pub fn log_files(data: &[u8]) -> bool {
    let whole = data.len().div_ceil(SEGMENT_BYTES as usize).min(SEGMENTS_MAX);
    let mut bytes = data.to_vec();
    bytes.resize(whole * SEGMENT_BYTES as usize, 0);
    opened(&disk_of(bytes.chunks(SEGMENT_BYTES as usize)))
}

/// Opening either refuses, and has changed nothing then unless the files were in order; or makes a
/// log that can be read and written, and that holds the same when it is opened again.
fn opened(disk: &SimDisk) -> bool {
    let before = disk.changes();
    let (mut log, recovered) = match Log::open(disk.clone(), &dir(), options()) {
        Ok(opened) => opened,
        Err(error) => {
            let is_verdict = !matches!(error, OpenError::Io { .. } | OpenError::Full { .. });
            assert!(is_verdict, "a disk without faults gives no errors: {error}");
            assert_eq!(disk.changes(), before, "nothing is written before the judgement");
            return false;
        }
    };
    let mut readable = true;
    let reader = log.reader();
    for (&id, group) in &recovered.groups {
        let first = group.truncated.index;
        if group.last_index > first {
            readable &= reader.entries(id, first.next(), group.last_index, usize::MAX).is_ok();
        }
    }
    drop(reader);
    let written = write_to(&mut log, &recovered);
    log.close().expect("a disk without faults");
    let (_, again) = Log::open(disk.clone(), &dir(), options()).expect("a log of our own opens");
    assert!(!again.torn && !again.created, "it was closed");
    for (id, group) in &recovered.groups {
        let now = again.groups.get(id).expect("a group stays");
        assert_eq!(now.truncated, group.truncated, "{id:?}");
        assert_eq!(now.hard_state.term, group.hard_state.term, "{id:?}");
    }
    for (id, last) in written {
        assert_eq!(again.groups[&id].last_index, last, "{id:?}: what was written is there");
    }
    readable
}

/// Appends an entry to a few groups; tells where they end then.
fn write_to(log: &mut Log<SimDisk>, recovered: &Recovered) -> Vec<(GroupId, LogIndex)> {
    let mut written = Vec::new();
    for (&id, group) in recovered.groups.iter().take(3) {
        let index = group.last_index.next();
        let term = group.terms.last().map_or(group.truncated.term, |(_, term)| *term);
        let entry = Entry { index, term, payload: Payload::Data(Bytes::from_static(b"new")) };
        let write = GroupWrite { entries: vec![entry], ..GroupWrite::new(id) };
        log.append(&[write]).expect("a disk without end");
        written.push((id, index));
    }
    written
}

/// What a log of ours has on disk.
#[must_use]
pub fn log_files_samples() -> Vec<Vec<u8>> {
    let disk = SimDisk::new(0);
    let (mut log, _) = Log::open(disk.clone(), &dir(), options()).expect("an empty disk");
    let mut samples = vec![contents(&disk)];
    let entry = |index, payload| Entry { index: LogIndex(index), term: Term(2), payload };
    let data = |bytes| Payload::Data(Bytes::from(vec![7; bytes]));
    let change = MembershipChange {
        transition: Transition::JointImplicit,
        steps: vec![MembershipStep::AddVoter(ReplicaId::new(4).expect("not 0"))],
        context: Bytes::from_static(b"context"),
    };
    let state =
        HardState { term: Term(2), vote: ReplicaId::new(3), commit: LogIndex(1), binding: None };
    let entries = vec![entry(1, Payload::Empty), entry(2, data(5)), entry(3, data(900))];
    let writes = [
        GroupWrite { entries, hard_state: Some(state), ..GroupWrite::new(GroupId(1)) },
        GroupWrite {
            reset: Some(LogPosition::new(9, 2)),
            entries: vec![entry(10, Payload::membership(change))],
            ..GroupWrite::new(GroupId(2))
        },
    ];
    log.append(&writes).expect("there is room");
    log.sync().expect("no faults are planned");
    samples.push(contents(&disk));
    let more = vec![entry(4, data(1500)), entry(5, data(1500)), entry(6, data(100))];
    let writes = [
        GroupWrite { entries: more, ..GroupWrite::new(GroupId(1)) },
        GroupWrite { forget: true, ..GroupWrite::new(GroupId(2)) },
        GroupWrite { truncate_to: Some(LogPosition::new(2, 2)), ..GroupWrite::new(GroupId(1)) },
    ];
    log.append(&writes).expect("there is room");
    log.close().expect("no faults are planned");
    samples.push(contents(&disk));
    samples
}

fn contents(disk: &SimDisk) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in disk.list(&dir()).expect("the directory is there").iter().take(SEGMENTS_MAX) {
        let file = disk.open(&dir().join(name)).expect("it was listed");
        let mut segment = vec![0; SEGMENT_BYTES as usize];
        file.read_at(&mut segment, 0).expect("no faults are planned");
        bytes.extend(segment);
    }
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// Frames and records whose sums are right, and whose contents are anything: what a log holds
/// that was written by a member gone mad. The bytes are a script, see `Script`.
#[must_use]
pub fn log_records(data: &[u8]) -> bool {
    let mut frames = Frames::new(LOG_ID, SEGMENT_BYTES);
    let mut script = Script(data);
    while let Some(shape) = script.byte() {
        let count = script.byte().unwrap_or(0) % 6;
        let records: Vec<_> = (0..count).map(|_| script.record()).collect();
        let odd = if shape & 0x80 == 0 { 0 } else { script.number() };
        if !frames.push(shape, odd, &records) {
            break;
        }
    }
    opened(&disk_of(frames.segments().iter().take(SEGMENTS_MAX).map(Vec::as_slice)))
}

/// Reads records out of bytes: kind, group, index, term, length of the data, data.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A small number, or one from the end of its range.
    fn number(&mut self) -> u64 {
        let byte = u64::from(self.byte().unwrap_or(0));
        if byte < 240 { byte } else { u64::MAX - (255 - byte) }
    }

    fn record(&mut self) -> RecordShape<'a> {
        let kind = self.byte().unwrap_or(0);
        let group = self.number() % GROUPS;
        let (index, term) = (self.number(), self.number());
        let length = usize::from(self.byte().unwrap_or(0));
        let (data, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        RecordShape { kind: kind % 8, payload_kind: kind >> 4, group, index, term, data }
    }
}

/// Scripts of logs that open, and of some that do not.
#[must_use]
pub fn log_records_samples() -> Vec<Vec<u8>> {
    // Entries 1 and 2 of group 1, then its state, term 2.
    let state = [&2_u64.to_le_bytes()[..], &3_u64.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let entries: &[u8] = &[0, 2, 0x11, 1, 1, 2, 3, 1, 2, 3, 0x01, 1, 2, 2, 0];
    let states = [&[0, 1, 3, 1, 1, 2, 24], &state[..]].concat();
    let reset = [&[0, 2, 4, 2, 9, 2, 24], &state[..], &[0x11, 2, 10, 2, 1, 9]].concat();
    let forget: &[u8] = &[0, 1, 5, 1, 0, 0, 0];
    let carried: &[u8] = &[0, 1, 0x12, 1, 1, 2, 1, 5];
    let continued: &[u8] = &[1, 1, 0x11, 3, 1, 1, 1, 5, 0, 1, 0x11, 3, 2, 1, 1, 6];
    let membership: &[u8] =
        &[0, 1, 0x21, 1, 3, 2, 15, 1, 1, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, b'x'];
    let odd: &[u8] = &[0x80, 0, 255, 0x90, 0, 255, 0xa0, 0, 9];
    let next: &[u8] = &[2, 1, 0x11, 1, 3, 2, 1, 7];
    let all = [entries, &states, carried, &reset, continued, next, membership, forget].concat();
    vec![entries.to_vec(), states, reset, continued.to_vec(), odd.to_vec(), all]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_open_and_are_readable() {
        for (nth, sample) in log_files_samples().iter().enumerate() {
            assert!(log_files(sample), "files {nth}");
        }
        let verdicts: Vec<bool> = log_records_samples().iter().map(|s| log_records(s)).collect();
        assert_eq!(verdicts, [true, true, true, true, false, true]);
    }
}
