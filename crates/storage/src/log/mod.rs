//! The shared log: one stream of records for all Raft groups of a store.
//!
//! # What it is for
//!
//! A store hosts many groups and has one disk, so their writes share one file and one `fdatasync`:
//! [`Log::append`] takes the writes of many groups, [`Log::sync`] makes everything appended so
//! far durable. The log is the write-ahead log of the whole store; nothing else syncs on the way
//! of a put. One thread writes; any number read entries through [`LogReader`]s meanwhile.
//!
//! # How it is kept
//!
//! Segments of fixed size hold *frames*, each written by one `pwrite`, each binding by its
//! checksum its place (segment, offset), the frame before it and the opening of the log that
//! wrote it. A frame holds *records*: entries, hard states with the position before the first
//! entry kept, resets, farewells. Every record has a checksum of its own that binds group, index,
//! term and place, so that a reader needs no more than that record to know that it got what it
//! asked for. `docs/storage-format.md` has the bytes.
//!
//! # A torn tail and corruption are told apart
//!
//! Both look like a frame that does not parse. Cutting a torn tail is right, cutting corruption
//! loses acknowledged writes. What distinguishes them is whether the place had been durable, and
//! the log says so itself: every frame carries the place up to which everything was durable when
//! it was written, and after every sync a *seal*, an empty frame, follows with the new place.
//! At opening, every frame that can be found, also behind the broken one, testifies:
//!
//! 1. if any says that the broken place was durable, it is corruption: [`OpenError::Corrupted`],
//!    and nothing is changed;
//! 2. else it was in flight: the tail is cut there.
//!
//! The seal itself is not synced (that would double the price), so after a *power cut* the last
//! group of writes may lack its witness: rot inside those very bytes, in the time between their
//! sync and the next, is then taken for a tear. After a mere crash of the process there is no
//! such window. [`Log::close`] leaves none either.
//!
//! # What overwritten means
//!
//! An append is one *unit*: found whole after a crash, or not at all. Within the log later
//! records win: an entry drops whatever its group held from its index on, a truncation drops what
//! is before. What lies behind the tail cannot come back to life when the tail moves over it: its
//! frames continue another chain, of an older epoch.
//!
//! # Space
//!
//! Segments are freed oldest first. A group that lags would pin the oldest for ever, so when most
//! of the log is dead its few live records are *carried*: written again at the end, as such, and
//! the segment is reused. The disk being full is met when a segment is prepared, long before it
//! is needed: entries are refused ([`AppendError::Full`]) while there is still headroom for hard
//! states, truncations and carrying, which is the way out.
//!
//! # Caveats
//!
//! - Damage to one record of the log stops the whole store, not only the group concerned.
//! - The last segment *file* being removed by hand looks like a log that ends earlier.
//! - Sectors of 512 bytes are taken to be written whole or not at all.
//!
//! Sources: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018),
//! on torn writes and corruption; Rebello et al. (ATC 2020), on failed fsyncs; Rosenblum and
//! Ousterhout, "The Design and Implementation of a Log-Structured File System" (1992), on
//! cleaning.

mod clean;
mod error;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod index;
mod payload;
mod reader;
mod recover;
mod segments;
mod unit;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use env::{Disk, DiskFile};
use raft::{Entry, GroupId, HardState, LogIndex, LogPosition, Term};

pub use error::{AppendError, Failed, OpenError, ReadError};
pub use reader::LogReader;

use crate::mutants::{self, Mutant};
use format::{
    FRAME_HEADER_BYTES, Frame, FrameHeader, Position, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES,
};
use index::Index;
use segments::{Files, PrepareError, Segments};
use unit::{Change, Unit};

/// Steps of cleaning that one sync takes at most when the disk is full.
const RELIEF_ROUNDS_MAX: u32 = 64;

/// Settings of a log. Those marked *fixed* cannot be changed once the log exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which log this is; files of another are refused. *Fixed.*
    pub log_id: u64,
    /// Bytes of a segment, a multiple of 512 and at least 4096. An entry must fit. *Fixed.*
    pub segment_bytes: u32,
    /// Bytes that entries must leave free for hard states, truncations and carrying.
    pub headroom_bytes: u32,
    /// The log is not cleaned while it has no more segments than this.
    pub segments_min: usize,
    /// Files kept for reuse beyond those in use and the one prepared.
    pub spares_max: usize,
    /// Bytes carried, and bytes of a new segment filled with zeros, before a sync at most.
    pub step_bytes: u32,
}

impl Options {
    /// Bytes of the longest payload that [`Log::append`] takes: a record fills a segment at most.
    #[must_use]
    pub const fn entry_bytes_max(&self) -> usize {
        let around = SEGMENT_HEADER_BYTES + 2 * FRAME_HEADER_BYTES + RECORD_HEADER_BYTES;
        self.segment_bytes.saturating_sub(around) as usize
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_id: 0,
            segment_bytes: 32 << 20,
            headroom_bytes: 4 << 20,
            segments_min: 4,
            spares_max: 2,
            step_bytes: 256 << 10,
        }
    }
}

/// What is to be written for one group, in this order: `forget`, `reset`, `entries`,
/// `hard_state` and `truncate_to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWrite {
    /// The group; unknown ones begin with an empty log at [`LogPosition::ORIGIN`].
    pub group: GroupId,
    /// Drop the group and everything of it.
    pub forget: bool,
    /// Drop all entries; the log goes on after this position.
    pub reset: Option<LogPosition>,
    /// Entries with consecutive indexes. The first one's index is at most one after the last
    /// entry; whatever the log holds from there on is dropped.
    pub entries: Vec<Entry>,
    /// Replaces the hard state.
    pub hard_state: Option<HardState>,
    /// Drop the entries up to and including this position. Ignored if they are dropped already;
    /// beyond the last entry it is a reset.
    pub truncate_to: Option<LogPosition>,
}

impl GroupWrite {
    /// Nothing to be written for `group`, to be filled in.
    #[must_use]
    pub const fn new(group: GroupId) -> Self {
        Self {
            group,
            forget: false,
            reset: None,
            entries: Vec::new(),
            hard_state: None,
            truncate_to: None,
        }
    }
}

/// What the log held of one group when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// As last written; the default if never.
    pub hard_state: HardState,
    /// The position before the first entry.
    pub truncated: LogPosition,
    /// Where each term begins: (first index, term), ascending; empty for an empty log.
    pub terms: Vec<(LogIndex, Term)>,
    /// The last entry; `truncated.index` for an empty log.
    pub last_index: LogIndex,
}

/// What the log held when it was opened. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The groups.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Whether there was no log, and a new one was made.
    pub created: bool,
    /// Whether writes in flight at the time of a crash were found and cut off.
    pub torn: bool,
}

/// Figures about a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Bytes of all its files.
    pub file_bytes: u64,
    /// Bytes of records that are needed.
    pub live_bytes: u64,
    /// Bytes written since it was opened, padding and seals included.
    pub written_bytes: u64,
    /// Bytes of those that were records carried forward.
    pub carried_bytes: u64,
    /// Syncs that had something to make durable.
    pub syncs: u64,
}

/// What writer and readers share.
#[derive(Debug)]
struct Shared<F> {
    log_id: u64,
    state: RwLock<SharedState<F>>,
}

#[derive(Debug)]
struct SharedState<F> {
    index: Index,
    files: Files<F>,
}

impl<F> Shared<F> {
    // A panic under the lock can only come from an assertion of the writer, before which the
    // index was consistent for readers.
    fn write(&self) -> RwLockWriteGuard<'_, SharedState<F>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer of the log. One at a time; the lock on the data directory sees to that.
#[derive(Debug)]
pub struct Log<D: Disk> {
    options: Options,
    segments: Segments<D>,
    shared: Arc<Shared<D::File>>,
    /// Where the next frame goes.
    tail: Position,
    /// Of the frame before it.
    previous_crc: u32,
    epoch: u32,
    /// Everything before is durable. The seal behind it is not.
    durable: Position,
    /// Whether there is more than a seal to be made durable.
    dirty: bool,
    /// The oldest segment needed, as the newest frame says, and as the newest durable one says.
    first_written: u64,
    first_durable: u64,
    cleaning: clean::Cleaning,
    unit: Unit,
    failed: Option<Failed>,
    stats: LogStats,
}

impl<D: Disk> Log<D> {
    /// Opens the log in `dir`, or makes one if there is none. Everything it recovers is synced
    /// before it returns.
    ///
    /// # Errors
    /// See [`OpenError`].
    ///
    /// # Panics
    /// If the options make no sense.
    pub fn open(disk: D, dir: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        assert!(options.segment_bytes >= 4096, "a segment holds at least a few records");
        assert_eq!(options.segment_bytes % SEGMENT_HEADER_BYTES, 0, "whole sectors");
        assert!(options.headroom_bytes <= options.segment_bytes / 2, "headroom is prepared");
        recover::open(disk, dir, options)
    }

    /// Appends the writes of any number of groups as one unit: after a crash all of it is there
    /// or nothing. Readable at once, durable after [`Log::sync`].
    ///
    /// # Errors
    /// See [`AppendError`], which says what became of the writes.
    ///
    /// # Panics
    /// If entries are not consecutive, leave a gap, overwrite what is truncated, or fall in term.
    pub fn append(&mut self, writes: &[GroupWrite]) -> Result<(), AppendError> {
        self.alive()?;
        let entries = writes.iter().any(|write| !write.entries.is_empty());
        self.begin_unit();
        {
            let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
            self.unit.add_writes(&state.index, writes)?;
        }
        self.make_room(entries)?;
        self.write_unit().map_err(Into::into)
    }

    fn begin_unit(&mut self) {
        let max = self.segments.records_bytes_max();
        self.unit.begin(self.options.log_id, self.tail, self.segments.records_end(), max);
    }

    /// Sees to it that the unit fits, with headroom to spare behind entries.
    fn make_room(&mut self, entries: bool) -> Result<(), AppendError> {
        let end = self.unit.end();
        let mut prepared = self.segments.prepare_through(end.segment);
        let headroom = u64::from(self.options.headroom_bytes);
        while prepared.is_ok() && entries && self.segments.left_bytes(end) < headroom {
            let last = self.segments.last().unwrap_or(0);
            prepared = self.segments.prepare_through(last + 1);
        }
        self.publish_files();
        match prepared {
            Ok(()) => Ok(()),
            Err(PrepareError::Full) => Err(AppendError::Full {
                needed_bytes: self.unit.bytes() + if entries { headroom } else { 0 },
                left_bytes: self.segments.left_bytes(self.tail),
            }),
            Err(PrepareError::Io(error)) => {
                Err(self.fail("no segment could be prepared", &error).into())
            }
        }
    }

    /// Writes the unit, which fits, and makes it visible.
    fn write_unit(&mut self) -> Result<(), Failed> {
        let header = self.frame_header();
        let Some((end, crc)) = self.unit.seal(header) else { return Ok(()) };
        self.dirty = true;
        let written = self.unit.frames().try_for_each(|(at, bytes)| {
            self.stats.written_bytes += bytes.len() as u64;
            self.segments.file(at.segment).write_at(bytes, u64::from(at.offset))
        });
        if let Err(error) = written {
            return Err(self.fail("a write failed", &error));
        }
        self.tail = end;
        self.previous_crc = crc;
        self.first_written = header.first_segment;
        let mut state = self.shared.write();
        for (change, place) in self.unit.changes() {
            match *change {
                Change::Entry(group, position) => state.index.put_entry(group, position, *place),
                Change::State(group, hard_state, truncated) => {
                    state.index.put_state(group, hard_state, truncated, *place);
                }
                Change::Reset(group, hard_state, truncated) => {
                    state.index.reset(group, hard_state, truncated, *place);
                }
                Change::Forget(group) => state.index.forget(group),
                Change::Carry(group, index) => state.index.carry(group, index, *place),
            }
        }
        Ok(())
    }

    fn frame_header(&self) -> FrameHeader {
        FrameHeader {
            epoch: self.epoch,
            continues: false,
            previous_crc: self.previous_crc,
            durable: if mutants::on(Mutant::WitnessTooFar) { self.tail } else { self.durable },
            first_segment: self.first_needed(),
        }
    }

    /// The oldest segment of which something is needed; the tail's if nothing is.
    fn first_needed(&self) -> u64 {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .index
            .oldest_live_segment()
            .map_or(self.tail.segment, |old| old.min(self.tail.segment))
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// [`Failed`]: what was appended since the last sync may or may not be found after a restart,
    /// and the log is closed. Never to be tried again.
    pub fn sync(&mut self) -> Result<(), Failed> {
        self.alive()?;
        if !self.dirty {
            return Ok(());
        }
        self.clean_step(false)?;
        self.sync_files()?;
        self.seal()?;
        self.after_sync()
    }

    fn sync_files(&mut self) -> Result<(), Failed> {
        for segment in self.durable.segment..=self.tail.segment {
            let mut synced = match mutants::on(Mutant::AckBeforeSync) {
                true => Ok(()),
                false => self.segments.file(segment).sync(),
            };
            if synced.is_err() && mutants::on(Mutant::SyncTriedAgain) {
                synced = self.segments.file(segment).sync();
            }
            if let Err(error) = synced {
                return Err(self.fail("a sync failed", &error));
            }
        }
        self.durable = self.tail;
        self.dirty = false;
        self.first_durable = self.first_written;
        self.stats.syncs += 1;
        Ok(())
    }

    /// Writes the witness that everything so far is durable.
    fn seal(&mut self) -> Result<(), Failed> {
        let header = self.frame_header();
        // Behind the last seal of a full segment there may be no room for another.
        if self.tail.offset > self.segments.records_end() {
            return Ok(());
        }
        let mut seal = [0; FRAME_HEADER_BYTES as usize];
        let crc = Frame::seal(self.options.log_id, self.tail, header, &mut seal);
        let file = self.segments.file(self.tail.segment);
        if let Err(error) = file.write_at(&seal, u64::from(self.tail.offset)) {
            return Err(self.fail("a seal failed", &error));
        }
        self.stats.written_bytes += u64::from(FRAME_HEADER_BYTES);
        self.tail.offset += FRAME_HEADER_BYTES;
        self.previous_crc = crc;
        self.first_written = header.first_segment;
        Ok(())
    }

    /// Gives back what is durably not needed, and prepares for what comes.
    fn after_sync(&mut self) -> Result<(), Failed> {
        if self.release_and_prepare()? {
            return Ok(());
        }
        // The disk is full. What the newest seal no longer needs can be reused once that seal is
        // durable; and what lives in the oldest segment may fit what is left.
        for _ in 0..RELIEF_ROUNDS_MAX {
            let before = self.tail;
            self.clean_step(true)?;
            if self.tail == before && self.first_written == self.first_durable {
                break;
            }
            self.sync_files()?;
            self.seal()?;
            if self.release_and_prepare()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes a step towards one prepared segment; false if the disk is too full for it.
    fn release_and_prepare(&mut self) -> Result<bool, Failed> {
        let spares_max = self.options.spares_max;
        let early = mutants::on(Mutant::ReleasedTooEarly);
        let first = if early { self.first_written } else { self.first_durable };
        if let Err(error) = self.segments.release_before(first, spares_max) {
            return Err(self.fail("a segment could not be given back", &error));
        }
        let prepared = if self.segments.last() == Some(self.tail.segment) {
            self.segments.prepare(self.options.step_bytes)
        } else {
            Ok(())
        };
        self.publish_files();
        match prepared {
            Ok(()) => Ok(true),
            Err(PrepareError::Full) => Ok(false),
            Err(PrepareError::Io(error)) => Err(self.fail("no segment could be prepared", &error)),
        }
    }

    /// Shows readers the files as they are now.
    fn publish_files(&self) {
        let mut state = self.shared.write();
        if !state.files.keys().eq(self.segments.files.keys()) {
            state.files.clone_from(&self.segments.files);
        }
    }

    /// Syncs, and leaves a durable witness of it.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn close(mut self) -> Result<(), Failed> {
        self.sync()?;
        self.sync_files()
    }

    /// A handle for reading entries, from any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Figures as of now.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        LogStats {
            file_bytes: self.segments.total_bytes(),
            live_bytes: state.index.live_bytes(),
            ..self.stats
        }
    }

    fn alive(&self) -> Result<(), Failed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> Failed {
        let failed =
            Failed { reason: format!("{what} in {}: {error}", self.segments.dir().display()) };
        self.failed.get_or_insert(failed).clone()
    }
}
