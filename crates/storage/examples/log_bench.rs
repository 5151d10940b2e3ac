//! What the log costs: entries a second and CPU microseconds an entry.
//!
//! `cargo run --release -p quorate-storage --example log_bench [DIR] [SECONDS]`
//!
//! 1,000 groups in turn, each append one entry of 256 bytes and a hard state for one group, 64 of
//! them to a sync; every group is truncated to its last 64 entries now and then, and one group in
//! a hundred lags and is truncated never, until it has 1,000 entries.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use env::RealDisk;
use raft::{Entry, GroupId, HardState, LogIndex, LogPosition, Payload, Term};
use storage::log::{GroupWrite, Log, Options};

const GROUPS: u64 = 1000;
const ENTRIES_PER_SYNC: u64 = 64;
const ENTRY_BYTES: usize = 256;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let dir = arguments.next().map_or(temporary.path().to_path_buf(), PathBuf::from);
    let seconds = arguments.next().map_or(5, |text| text.parse().expect("a number of seconds"));
    let (mut log, _) = Log::open(RealDisk, &dir, Options::default()).expect("the log opens");
    let mut last = vec![0_u64; usize::try_from(GROUPS).expect("a small number")];
    let payload = Bytes::from(vec![0x5a; ENTRY_BYTES]);
    // The first round through the files fills them with zeros; it is not what is measured.
    let mut next = 0;
    for measured in [false, true] {
        let goal = Duration::from_secs(if measured { seconds } else { 2 });
        let (start, cpu, before) = (Instant::now(), cpu_seconds(), log.stats());
        let (mut entries, mut syncs, mut slowest) = (0_u64, 0_u64, Duration::ZERO);
        while start.elapsed() < goal {
            let batch: Vec<_> = (0..ENTRIES_PER_SYNC)
                .map(|_| {
                    next = (next + 1) % GROUPS;
                    write(next, &mut last, &payload)
                })
                .collect();
            let round = Instant::now();
            log.append(&batch).expect("appended");
            log.sync().expect("synced");
            slowest = slowest.max(round.elapsed());
            entries += ENTRIES_PER_SYNC;
            syncs += 1;
        }
        let (elapsed, after) = (start.elapsed().as_secs_f64(), log.stats());
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (entries, syncs) = (entries as f64, syncs as f64);
        println!(
            "{}: {:.0} entries/s, {:.2} CPU us/entry, {:.0} us/sync, slowest {:.1} ms, \
             {} MiB written of which {} carried, {} MiB of files",
            if measured { "measured" } else { "warm-up" },
            entries / elapsed,
            (cpu_seconds() - cpu) * 1e6 / entries,
            elapsed * 1e6 / syncs,
            slowest.as_secs_f64() * 1e3,
            (after.written_bytes - before.written_bytes) >> 20,
            (after.carried_bytes - before.carried_bytes) >> 20,
            after.file_bytes >> 20,
        );
    }
    drop(log);
    reopen(&dir);
}

fn reopen(dir: &Path) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (log, recovered) = Log::open(RealDisk, dir, Options::default()).expect("the log opens");
    let entries: u64 =
        recovered.groups.values().map(|group| group.last_index.0 - group.truncated.index.0).sum();
    println!(
        "reopened: {entries} entries, {} MiB of files in {:.3} s, {:.3} CPU s",
        log.stats().file_bytes >> 20,
        start.elapsed().as_secs_f64(),
        cpu_seconds() - cpu
    );
}

fn write(group: u64, last: &mut [u64], payload: &Bytes) -> GroupWrite {
    let slot = &mut last[usize::try_from(group).expect("a small number")];
    *slot += 1;
    let (index, term) = (LogIndex(*slot), Term(1));
    let mut write = GroupWrite::new(GroupId(group));
    write.entries.push(Entry { index, term, payload: Payload::Data(payload.clone()) });
    write.hard_state =
        Some(HardState { term, commit: LogIndex(*slot - 1), ..HardState::default() });
    let lags = group.is_multiple_of(100);
    if !lags && slot.is_multiple_of(64) && *slot > 64 {
        write.truncate_to = Some(LogPosition::new(*slot - 64, 1));
    } else if lags && slot.is_multiple_of(1000) {
        write.truncate_to = Some(LogPosition::new(*slot - 1, 1));
    }
    write
}

/// User and system time of this process so far, from the operating system.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |nth: usize| fields[nth].parse::<f64>().expect("a number of ticks");
    (ticks(11) + ticks(12)) / 100.0
}
