//! Opening a log: finding its segments, replaying its frames, telling a tear from damage.
//!
//! 1. Headers name the segments. Those in use are the longest run without a gap that ends with
//!    the highest number; files below it were free.
//! 2. Frames are followed from the start of the run as long as they form a chain. The units that
//!    are complete are replayed; behind the last of them is the tail.
//! 3. Everything behind the tail is searched for frames of any life. If one of them, or any
//!    frame of the chain, says that more was durable than is found, that is corruption.
//! 4. What was found is synced before anyone is told of it: after a crash of the process alone it
//!    may be in the page cache only, and a replica acknowledges what its log holds.
//!
//! Nothing is written before the judgement of step 3.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use env::disk::SECTOR_BYTES;
use env::{Disk, DiskFile};
use raft::{GroupId, HardState, LogIndex, LogPosition, Term};

use crate::mutants::{self, Mutant};

use super::error::OpenError;
use super::format::{
    ALIGNMENT, FRAME_HEADER_BYTES, Frame, HeaderFound, Position, Record, RecordKind,
    SEGMENT_HEADER_BYTES, SegmentHeader, VERSION, decode_hard_state,
};
use super::index::{Group, Index, Place};
use super::segments::{PrepareError, SegmentFile, Segments};
use super::unit::Unit;
use super::{Log, LogStats, Options, Recovered, RecoveredGroup, Shared, SharedState};

/// No epoch is that high: a log is not opened every second for 68 years.
const EPOCH_END: u32 = 1 << 31;

/// What [`Log::open`] does.
pub(super) fn open<D: Disk>(
    disk: D,
    dir: &Path,
    options: Options,
) -> Result<(Log<D>, Recovered), OpenError> {
    disk.create_dir_all(dir).map_err(|source| io_error(dir, source))?;
    let found = Found::scan(&disk, dir, &options)?;
    let mut replay = Replay::new(dir, &options);
    replay.follow(&found)?;
    replay.judge(&found)?;
    let groups = replay.finish_groups()?;
    replay.judge_first(&groups)?;
    let created = found.run.is_empty();
    let torn = replay.torn;
    let position = Resumption {
        tail: replay.tail,
        previous_crc: replay.tail_crc,
        epoch: replay.next_epoch()?,
        first: replay.first,
    };
    let log = resume(disk, dir, options, found, position, groups)?;
    let recovered = Recovered { groups: log.recovered_groups(), created, torn };
    Ok((log, recovered))
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_path_buf(), source }
}

fn two_answers(path: &Path) -> OpenError {
    io_error(path, io::Error::other("the disk gives two answers to one question"))
}

/// Files of the log by what they are.
struct Found<F> {
    /// The run of segments in use and prepared, oldest first.
    run: Vec<(u64, SegmentFile<F>)>,
    /// Segments that were freed.
    free: Vec<SegmentFile<F>>,
    /// Files whose making was interrupted.
    blank: Vec<SegmentFile<F>>,
}

impl<F: DiskFile> Found<F> {
    fn scan<D: Disk<File = F>>(disk: &D, dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let mut segments: BTreeMap<u64, SegmentFile<F>> = BTreeMap::new();
        let mut blank = Vec::new();
        for name in disk.list(dir).map_err(|source| io_error(dir, source))? {
            if Segments::<D>::number(&name).is_none() {
                continue;
            }
            let path = dir.join(&name);
            let file = disk.open(&path).map_err(|source| io_error(&path, source))?;
            match read_header(&path, &file, options)? {
                None => blank.push(SegmentFile { name, file }),
                Some(segment) => {
                    if let Some(twin) = segments.insert(segment, SegmentFile { name, file }) {
                        let what = format!("{} says to be segment {segment} too", twin.name);
                        return Err(OpenError::Corrupted { path, offset: 0, what });
                    }
                }
            }
        }
        let mut run = Vec::new();
        while let Some((segment, file)) = segments.pop_last() {
            if run.last().is_some_and(|(above, _)| *above != segment + 1) {
                segments.insert(segment, file);
                break;
            }
            run.push((segment, file));
        }
        run.reverse();
        Ok(Self { run, free: segments.into_values().collect(), blank })
    }
}

/// The number of the segment in `file`; `None` for a file that never became one.
fn read_header<F: DiskFile>(
    path: &Path,
    file: &F,
    options: &Options,
) -> Result<Option<u64>, OpenError> {
    let (mut sector, mut again) = ([0; SECTOR_BYTES], [0; SECTOR_BYTES]);
    file.read_at(&mut sector, 0).map_err(|source| io_error(path, source))?;
    // The header of a segment's life before would put the segment elsewhere.
    file.read_at(&mut again, 0).map_err(|source| io_error(path, source))?;
    if sector != again && !mutants::on(Mutant::EndReadOnce) {
        return Err(two_answers(path));
    }
    let foreign = |what: String| OpenError::Foreign { path: path.to_path_buf(), what };
    let damaged = |what: &str| OpenError::Corrupted {
        path: path.to_path_buf(),
        offset: 0,
        what: what.into(),
    };
    let header = match SegmentHeader::decode(&sector) {
        HeaderFound::Blank if is_blank(path, file)? => return Ok(None),
        HeaderFound::Blank => return Err(damaged("the segment's header is gone")),
        HeaderFound::Damaged => return Err(damaged("the segment's header is damaged")),
        HeaderFound::Newer(found) => {
            return Err(OpenError::Format { path: path.to_path_buf(), found, known: VERSION });
        }
        HeaderFound::Valid(header) => header,
    };
    if header.log_id != options.log_id {
        let what = format!("it belongs to log {:x}, not {:x}", header.log_id, options.log_id);
        return Err(foreign(what));
    }
    if header.segment_bytes != options.segment_bytes {
        let (is, asked) = (header.segment_bytes, options.segment_bytes);
        return Err(foreign(format!("its segments have {is} bytes, not {asked}")));
    }
    let bytes = file.len().map_err(|source| io_error(path, source))?;
    if bytes < u64::from(header.segment_bytes) {
        return Err(damaged(&format!("the file has {bytes} of {} bytes", header.segment_bytes)));
    }
    Ok(Some(header.segment))
}

/// Whether nothing was ever written into the file.
fn is_blank<F: DiskFile>(path: &Path, file: &F) -> Result<bool, OpenError> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at).map_err(|source| io_error(path, source))? {
            0 => return Ok(true),
            filled if buffer[..filled].iter().any(|byte| *byte != 0) => return Ok(false),
            filled => at += filled as u64,
        }
    }
}

/// One group while records are replayed. Entries may come in any order: those carried forward
/// come after younger ones.
#[derive(Default)]
struct ReplayGroup {
    hard_state: HardState,
    truncated: LogPosition,
    state: Option<Place>,
    entries: BTreeMap<LogIndex, (Term, Place)>,
}

/// A record, reduced to what replay needs of it.
struct Replayed {
    kind: RecordKind,
    group: GroupId,
    position: LogPosition,
    hard_state: HardState,
    place: Place,
}

struct Replay<'a> {
    dir: &'a Path,
    log_id: u64,
    segment_bytes: u32,
    groups: BTreeMap<GroupId, ReplayGroup>,
    /// Records of frames whose unit is not complete yet.
    pending: Vec<Replayed>,
    /// Behind the last complete unit.
    tail: Position,
    tail_crc: u32,
    /// Where the chain ends, complete or not.
    chain_end: Position,
    first: u64,
    epoch: u32,
    /// Of all frames met, in the chain or not.
    epoch_max: u32,
    /// Of the frames behind the end of the chain.
    epoch_behind: u32,
    durable_max: Option<Position>,
    torn: bool,
}

impl<'a> Replay<'a> {
    fn new(dir: &'a Path, options: &Options) -> Self {
        let start = Position::start_of(1);
        Self {
            dir,
            log_id: options.log_id,
            segment_bytes: options.segment_bytes,
            groups: BTreeMap::new(),
            pending: Vec::new(),
            tail: start,
            tail_crc: 0,
            chain_end: start,
            first: 1,
            epoch: 0,
            epoch_max: 0,
            epoch_behind: 0,
            durable_max: None,
            torn: false,
        }
    }

    /// Above every epoch that was met.
    fn next_epoch(&self) -> Result<u32, OpenError> {
        let step = u32::from(!mutants::on(Mutant::EpochKept));
        let next = self.epoch_max.checked_add(step).filter(|next| *next < EPOCH_END);
        next.ok_or_else(|| OpenError::Corrupted {
            path: self.dir.to_path_buf(),
            offset: 0,
            what: format!("a frame is of epoch {}, to which nobody comes", self.epoch_max),
        })
    }

    fn read<F: DiskFile>(&self, file: &SegmentFile<F>) -> Result<Vec<u8>, OpenError> {
        let mut bytes = vec![0; self.segment_bytes as usize];
        let path = self.dir.join(&file.name);
        let read = file.file.read_at(&mut bytes, 0).map_err(|source| io_error(&path, source));
        if !mutants::on(Mutant::ReadErrorEndsLog) {
            read?;
        }
        Ok(bytes)
    }

    /// What is taken for the end must not be a read that went wrong: the log would be written anew from
    /// there, over what it holds. So the segment in which the chain ends is read twice, and the next
    /// one, in which it does not go on.
    fn read_again<F: DiskFile>(&self, file: &SegmentFile<F>, crc: u32) -> Result<(), OpenError> {
        let once = [Mutant::EndReadOnce, Mutant::ReadErrorEndsLog].into_iter().any(mutants::on);
        if once || crc32c::crc32c(&self.read(file)?) == crc {
            return Ok(());
        }
        Err(two_answers(&self.dir.join(&file.name)))
    }

    /// Notes what any frame testifies.
    fn hear(&mut self, frame: &Frame) {
        self.epoch_max = self.epoch_max.max(frame.header.epoch);
        self.durable_max = self.durable_max.max(Some(frame.header.durable));
    }

    /// Follows the chain of frames, replays complete units, and hears the frames behind its end.
    fn follow<F: DiskFile>(&mut self, found: &Found<F>) -> Result<(), OpenError> {
        let Some((start, _)) = found.run.first() else { return Ok(()) };
        self.tail = Position::start_of(*start);
        self.chain_end = self.tail;
        self.first = *start;
        let mut crc: Option<u32> = None;
        let mut ended = false;
        let mut reached = None;
        for (segment, file) in &found.run {
            let bytes = self.read(file)?;
            let mut at = Position::start_of(*segment);
            let continuing = |replay: &Self, at, crc: Option<u32>| {
                Frame::parse(replay.log_id, at, &bytes).filter(|frame| {
                    !ended && crc.is_none_or(|crc| crc == frame.header.previous_crc)
                })
            };
            while let Some(frame) = continuing(self, at, crc) {
                self.replay_frame(file, at, &frame, &bytes)?;
                crc = Some(frame.crc);
                at.offset += frame.total_bytes();
                self.chain_end = at;
                if !frame.header.continues {
                    self.tail = at;
                    self.tail_crc = frame.crc;
                    self.first = frame.header.first_segment;
                }
            }
            if !ended && self.chain_end.segment == *segment {
                reached = Some((file, crc32c::crc32c(&bytes)));
            } else if !ended {
                self.read_again(file, crc32c::crc32c(&bytes))?;
            }
            // The chain may go on in the next segment, but only from one that it has reached.
            ended |= self.chain_end.segment < *segment || crc.is_none();
            self.search(at, &bytes);
        }
        if let Some((file, crc)) = reached {
            self.read_again(file, crc)?;
        }
        // What lies behind the tail of an older epoch was cut by an earlier opening.
        self.torn = self.chain_end != self.tail || self.epoch_behind >= self.epoch.max(1);
        self.pending.clear();
        Ok(())
    }

    /// Hears every whole frame from `at` on, wherever it begins.
    fn search(&mut self, mut at: Position, bytes: &[u8]) {
        while at.offset <= self.segment_bytes - FRAME_HEADER_BYTES {
            match Frame::parse(self.log_id, at, bytes) {
                Some(frame) => {
                    self.hear(&frame);
                    self.epoch_behind = self.epoch_behind.max(frame.header.epoch);
                    at.offset += frame.total_bytes();
                }
                None => at.offset += ALIGNMENT,
            }
        }
    }

    fn replay_frame<F>(
        &mut self,
        file: &SegmentFile<F>,
        at: Position,
        frame: &Frame,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        self.hear(frame);
        self.epoch = frame.header.epoch;
        let end = at.offset + frame.total_bytes();
        let mut at = Position { offset: at.offset + FRAME_HEADER_BYTES, ..at };
        while at.offset < end {
            let rest = &bytes[at.offset as usize..end as usize];
            let replayed = Record::parse(self.log_id, at, rest).and_then(|record| {
                let place = Place { at, bytes: record.total_bytes };
                let hard_state = match record.header.kind {
                    RecordKind::State | RecordKind::Reset => decode_hard_state(record.data)?,
                    _ => HardState::default(),
                };
                let header = record.header;
                let (kind, group, position) = (header.kind, header.group, header.position);
                Some(Replayed { kind, group, position, hard_state, place })
            });
            let Some(replayed) = replayed else {
                let what = "a record inside a whole frame is not whole".into();
                let (path, offset) = (self.dir.join(&file.name), u64::from(at.offset));
                return Err(OpenError::Corrupted { path, offset, what });
            };
            at.offset += replayed.place.bytes;
            self.pending.push(replayed);
        }
        if !frame.header.continues || mutants::on(Mutant::UnitInPieces) {
            for replayed in std::mem::take(&mut self.pending) {
                self.apply(&replayed);
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: &Replayed) {
        let index = record.position.index;
        if record.kind == RecordKind::Forget {
            self.groups.remove(&record.group);
            return;
        }
        let group = self.groups.entry(record.group).or_default();
        match record.kind {
            RecordKind::Entry => {
                if !mutants::on(Mutant::OverwrittenComesBack) {
                    group.entries.split_off(&index);
                }
                group.entries.insert(index, (record.position.term, record.place));
            }
            RecordKind::Carried => {
                group.entries.insert(index, (record.position.term, record.place));
            }
            RecordKind::State | RecordKind::Reset => {
                group.hard_state = record.hard_state;
                group.state = Some(record.place);
                group.truncated = record.position;
                group.entries = match record.kind {
                    RecordKind::Reset => BTreeMap::new(),
                    _ if mutants::on(Mutant::TruncatedComesBack) => {
                        std::mem::take(&mut group.entries)
                    }
                    _ => group.entries.split_off(&index.next()),
                };
            }
            RecordKind::Forget => unreachable!("handled above"),
        }
    }

    /// Decides whether what ends the chain is a tear. Anything else is an error.
    fn judge<F>(&self, found: &Found<F>) -> Result<(), OpenError> {
        let torn = mutants::on(Mutant::CorruptionTakenForTear);
        if let Some(durable) = self.durable_max.filter(|durable| *durable > self.tail && !torn) {
            let file = found.run.iter().find(|(segment, _)| *segment == self.chain_end.segment);
            let path = self.dir.join(file.map_or("", |(_, file)| &file.name));
            let what = format!(
                "the chain of frames breaks here, in segment {}; it was durable up to segment {} \
                 byte {}",
                self.chain_end.segment, durable.segment, durable.offset
            );
            let offset = u64::from(self.chain_end.offset);
            return Err(OpenError::Corrupted { path, offset, what });
        }
        let Some((oldest, _)) = found.run.first() else { return Ok(()) };
        let missing = |segment| OpenError::MissingSegment { dir: self.dir.to_path_buf(), segment };
        if self.first < *oldest {
            return Err(missing(self.first));
        }
        // Only the very first segment can have been prepared without any frame before it.
        if self.epoch == 0 && *oldest > 1 {
            return Err(missing(oldest - 1));
        }
        Ok(())
    }

    /// What the newest frame says that is needed no more must not be: it would be given back.
    fn judge_first(&self, groups: &Index) -> Result<(), OpenError> {
        let needed = groups
            .oldest_live_segment()
            .map_or(self.tail.segment, |oldest| oldest.min(self.tail.segment));
        if self.first <= needed {
            return Ok(());
        }
        Err(OpenError::Corrupted {
            path: self.dir.to_path_buf(),
            offset: 0,
            what: format!(
                "a frame says that segment {} is the first needed, and {needed} is",
                self.first
            ),
        })
    }

    /// The groups as the index has them, once their entries are found to be without gaps.
    fn finish_groups(&mut self) -> Result<Index, OpenError> {
        let mut index = Index::default();
        for (id, group) in std::mem::take(&mut self.groups) {
            match group.state {
                Some(place) => index.reset(id, group.hard_state, group.truncated, place),
                None => *index.group(id) = Group::new(),
            }
            let mut before = group.truncated;
            for (nth, (term, place)) in group.entries {
                if nth != before.index.next() || term < before.term {
                    let what = format!(
                        "{id:?} has entry {nth} of term {term} after entry {} of term {}",
                        before.index, before.term
                    );
                    let (path, offset) = (self.dir.to_path_buf(), u64::from(place.at.offset));
                    return Err(OpenError::Corrupted { path, offset, what });
                }
                before = LogPosition { index: nth, term };
                index.put_entry(id, before, place);
            }
        }
        Ok(index)
    }
}

/// Where the log goes on.
struct Resumption {
    tail: Position,
    previous_crc: u32,
    epoch: u32,
    first: u64,
}

/// Makes a log of what was found, and everything of it durable.
fn resume<D: Disk>(
    disk: D,
    dir: &Path,
    options: Options,
    found: Found<D::File>,
    at: Resumption,
    index: Index,
) -> Result<Log<D>, OpenError> {
    for file in &found.blank {
        let path = dir.join(&file.name);
        disk.remove(&path).map_err(|source| io_error(&path, source))?;
    }
    let (log_id, segment_bytes) = (options.log_id, options.segment_bytes);
    let mut segments = Segments::new(disk.clone(), dir.to_path_buf(), log_id, segment_bytes);
    for (segment, file) in found.run {
        let path = dir.join(&file.name);
        // The file system may have forgotten what it had reserved.
        let ready = file.file.allocate(u64::from(segment_bytes)).and_then(|()| {
            if mutants::on(Mutant::FoundNotSynced) { Ok(()) } else { file.file.sync() }
        });
        ready.map_err(|source| io_error(&path, source))?;
        segments.adopt(Some(segment), file);
    }
    for file in found.free {
        segments.adopt(None, file);
    }
    disk.sync_dir(dir).map_err(|source| io_error(dir, source))?;
    segments.prepare_through(at.tail.segment).map_err(|error| prepare_error(dir, error))?;
    let state = SharedState { index, files: segments.files.clone() };
    let mut log = Log {
        options,
        segments,
        shared: Arc::new(Shared { log_id, state: RwLock::new(state) }),
        tail: at.tail,
        previous_crc: at.previous_crc,
        epoch: at.epoch,
        durable: at.tail,
        dirty: false,
        first_written: at.first,
        first_durable: at.first,
        cleaning: super::clean::Cleaning::default(),
        unit: Unit::default(),
        failed: None,
        stats: LogStats::default(),
    };
    log.begin_epoch().map_err(|error| match error {
        PrepareError::Full => OpenError::Full { path: dir.to_path_buf() },
        PrepareError::Io(source) => io_error(dir, source),
    })?;
    Ok(log)
}

fn prepare_error(dir: &Path, error: PrepareError) -> OpenError {
    let path: PathBuf = dir.to_path_buf();
    match error {
        PrepareError::Full => OpenError::Full { path },
        PrepareError::Io(source) => OpenError::Io { path, source },
    }
}

impl<D: Disk> Log<D> {
    /// Writes and syncs the first frame of this opening, so that whatever an earlier one left
    /// behind the tail is of an older epoch than what comes now.
    fn begin_epoch(&mut self) -> Result<(), PrepareError> {
        if self.tail.offset > self.segments.records_end() {
            self.tail = Position::start_of(self.tail.segment + 1);
        }
        // On a full disk the log must open all the same: truncating it is a way out.
        self.segments.release_before(self.first_durable, self.options.spares_max)?;
        self.segments.prepare_through(self.tail.segment)?;
        match self.segments.prepare_through(self.tail.segment + 1) {
            Ok(()) | Err(PrepareError::Full) => {}
            Err(error) => return Err(error),
        }
        self.publish_files();
        let failed = |failed: super::Failed| PrepareError::Io(io::Error::other(failed));
        self.seal().map_err(failed)?;
        self.sync_files().map_err(failed)?;
        self.seal().map_err(failed)?;
        self.stats = LogStats::default();
        Ok(())
    }

    /// The groups as they are now.
    pub(super) fn recovered_groups(&self) -> BTreeMap<GroupId, RecoveredGroup> {
        let state = self.shared.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let groups = state.index.groups.iter().map(|(id, group)| {
            let recovered = RecoveredGroup {
                hard_state: group.hard_state,
                truncated: group.truncated,
                terms: group.terms.iter().copied().collect(),
                last_index: group.last_index(),
            };
            (*id, recovered)
        });
        groups.collect()
    }
}

const _: () =
    assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT), "the search meets every frame");
