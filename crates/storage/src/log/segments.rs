//! The files of the log: made ahead of need, reused, given back.
//!
//! A segment gets its number when it is *prepared*, before the log reaches it, so that crossing
//! into it costs nothing but a change of file. A prepared segment has its full length on disk:
//! writing into it neither grows the file nor can run out of space. Files of segments that are no
//! longer needed are renumbered (one sector written and synced) instead of removed.
//!
//! New files are filled with zeros in steps, so that no single sync waits for a whole segment;
//! the space is reserved at the first step.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, DiskFile};

use crate::mutants::{self, Mutant};

use super::format::{FRAME_HEADER_BYTES, Position, SEGMENT_HEADER_BYTES, SegmentHeader};

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// An open file of the log. Which segment it holds changes when it is reused.
#[derive(Debug)]
pub(super) struct SegmentFile<F> {
    pub name: String,
    pub file: F,
}

/// Segments that are readable, by number. Shared with readers.
pub(super) type Files<F> = BTreeMap<u64, Arc<SegmentFile<F>>>;

/// A file that is not full length yet.
#[derive(Debug)]
struct Growing<F> {
    file: SegmentFile<F>,
    filled_bytes: u32,
}

impl<F: DiskFile> Growing<F> {
    fn fill(&mut self, goal_bytes: u32) -> io::Result<()> {
        while self.filled_bytes < goal_bytes {
            let step = (goal_bytes - self.filled_bytes).min(64 * 1024);
            let zeros = &ZEROS[..step as usize];
            self.file.file.write_at(zeros, u64::from(self.filled_bytes))?;
            self.filled_bytes += step;
        }
        Ok(())
    }
}

/// Why no further segment could be prepared.
#[derive(Debug)]
pub(super) enum PrepareError {
    /// No room for another file. Nothing is lost.
    Full,
    /// Anything else. What is on disk is unknown.
    Io(io::Error),
}

impl From<io::Error> for PrepareError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// The segments from the oldest needed to the last prepared, and files to make more of.
#[derive(Debug)]
pub(super) struct Segments<D: Disk> {
    disk: D,
    dir: PathBuf,
    log_id: u64,
    segment_bytes: u32,
    pub files: Files<D::File>,
    free: Vec<Arc<SegmentFile<D::File>>>,
    growing: Option<Growing<D::File>>,
    next_name: u64,
}

impl<D: Disk> Segments<D> {
    pub(super) fn new(disk: D, dir: PathBuf, log_id: u64, segment_bytes: u32) -> Self {
        Self {
            disk,
            dir,
            log_id,
            segment_bytes,
            files: Files::new(),
            free: Vec::new(),
            growing: None,
            next_name: 1,
        }
    }

    /// The name of the n-th file.
    pub(super) fn name(number: u64) -> String {
        format!("{number:08}.log")
    }

    /// The reverse of [`Segments::name`].
    pub(super) fn number(name: &str) -> Option<u64> {
        let number = name.strip_suffix(".log")?.parse().ok()?;
        (Self::name(number) == name).then_some(number)
    }

    /// Takes over a file found on disk, as the segment given or for reuse.
    pub(super) fn adopt(&mut self, segment: Option<u64>, file: SegmentFile<D::File>) {
        if let Some(number) = Self::number(&file.name) {
            self.next_name = self.next_name.max(number + 1);
        }
        match segment {
            Some(segment) => {
                let before = self.files.insert(segment, Arc::new(file));
                assert!(before.is_none(), "one file a segment");
            }
            None => self.free.push(Arc::new(file)),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The last segment that is ready to be written, if there is any.
    pub(super) fn last(&self) -> Option<u64> {
        self.files.keys().next_back().copied()
    }

    pub(super) fn file(&self, segment: u64) -> &D::File {
        &self.files.get(&segment).expect("the writer stays within what is prepared").file
    }

    /// Where records must end in a segment: behind them there is always room for a seal.
    pub(super) fn records_end(&self) -> u32 {
        self.segment_bytes - FRAME_HEADER_BYTES
    }

    /// The most records a segment can hold, in bytes.
    pub(super) fn records_bytes_max(&self) -> u32 {
        self.records_end() - SEGMENT_HEADER_BYTES - FRAME_HEADER_BYTES
    }

    /// Bytes that can be written from `tail` on without asking the disk for more.
    pub(super) fn left_bytes(&self, tail: Position) -> u64 {
        let ahead = self.files.range(tail.segment + 1..).count() as u64;
        let growing = u64::from(self.growing.is_some());
        u64::from(self.records_end().saturating_sub(tail.offset))
            + (ahead + growing + self.free.len() as u64) * u64::from(self.records_bytes_max())
    }

    /// Bytes of all files.
    pub(super) fn total_bytes(&self) -> u64 {
        let files = self.files.len() + self.free.len() + usize::from(self.growing.is_some());
        files as u64 * u64::from(self.segment_bytes)
    }

    /// Prepares segments up to and including `segment`, however long it takes.
    pub(super) fn prepare_through(&mut self, segment: u64) -> Result<(), PrepareError> {
        while self.last().is_none_or(|last| last < segment) {
            self.prepare(u32::MAX)?;
        }
        Ok(())
    }

    /// Takes a step of at most `fill_bytes` towards one more prepared segment. `Ok` means that a
    /// step was taken, not that the segment is ready.
    pub(super) fn prepare(&mut self, fill_bytes: u32) -> Result<(), PrepareError> {
        if let Some(file) = self.free.pop() {
            return self.number_file(file);
        }
        let mut growing = match self.growing.take() {
            Some(growing) => growing,
            None => self.begin()?,
        };
        let goal = growing.filled_bytes.saturating_add(fill_bytes).min(self.segment_bytes);
        if let Err(error) = growing.fill(goal) {
            // Where reserving space does not reserve it. The file is kept for a better time.
            self.growing = Some(growing);
            return Err(error.into());
        }
        if growing.filled_bytes < self.segment_bytes {
            self.growing = Some(growing);
            return Ok(());
        }
        // Zeros first, durably: a header promises a whole file behind it.
        growing.file.file.sync()?;
        if !mutants::on(Mutant::DirectoryNotSynced) {
            self.disk.sync_dir(&self.dir)?;
        }
        self.number_file(Arc::new(growing.file))
    }

    fn begin(&mut self) -> Result<Growing<D::File>, PrepareError> {
        let name = Self::name(self.next_name);
        let path = self.dir.join(&name);
        let file = self.disk.create(&path)?;
        self.next_name += 1;
        if let Err(error) = file.allocate(u64::from(self.segment_bytes)) {
            // Blank files are swept up at the next opening, should this fail as well.
            let _ = self.disk.remove(&path);
            return Err(error.into());
        }
        Ok(Growing { file: SegmentFile { name, file }, filled_bytes: 0 })
    }

    /// Makes a file the segment after the last.
    fn number_file(&mut self, file: Arc<SegmentFile<D::File>>) -> Result<(), PrepareError> {
        let segment = self.last().map_or(1, |last| last + 1);
        let header =
            SegmentHeader { log_id: self.log_id, segment, segment_bytes: self.segment_bytes };
        file.file.write_at(&header.encode(), 0)?;
        file.file.sync()?;
        self.files.insert(segment, file);
        Ok(())
    }

    /// Sets files of segments before `first` free for reuse, keeping `spares_max` of them, and
    /// removes the others. Durable knowledge that they are not needed must come first.
    pub(super) fn release_before(&mut self, first: u64, spares_max: usize) -> io::Result<()> {
        let kept = self.files.split_off(&first);
        for (_, file) in std::mem::replace(&mut self.files, kept) {
            if self.free.len() < spares_max {
                self.free.push(file);
            } else {
                self.disk.remove(&self.dir.join(&file.name))?;
            }
        }
        Ok(())
    }
}
