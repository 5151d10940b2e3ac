//! What can go wrong with the log, and what that means for the caller.

use std::io;
use std::path::PathBuf;

use raft::{GroupId, LogIndex};

/// Why the log could not be opened. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file system refused. May be tried again.
    #[error("log {}: {source}", .path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The disk has no room for the first segments. Nothing is lost; make room, then try again.
    #[error("log {}: the disk is full", .path.display())]
    Full {
        /// The file that could not be made.
        path: PathBuf,
    },
    /// What is stored is not what was written, at a place that was durable. The replicas of this
    /// store must not vote or acknowledge until they have been rebuilt from their peers.
    #[error("log {}: corrupted at byte {offset}: {what}", .path.display())]
    Corrupted {
        /// The segment's file.
        path: PathBuf,
        /// Where the first damage was met.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// A segment that is still needed is not there.
    #[error("log {}: segment {segment} is missing", .dir.display())]
    MissingSegment {
        /// The directory of the log.
        dir: PathBuf,
        /// The segment.
        segment: u64,
    },
    /// The files belong to another log, or to one made with another segment size.
    #[error("log {}: {what}", .path.display())]
    Foreign {
        /// The segment's file.
        path: PathBuf,
        /// How it differs.
        what: String,
    },
    /// A newer version of this program wrote the files.
    #[error("log {}: format {found}, this program reads up to {known}", .path.display())]
    Format {
        /// The segment's file.
        path: PathBuf,
        /// The version found.
        found: u32,
        /// The newest version known.
        known: u32,
    },
}

/// Why writes were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The disk is full. *Not applied*: the log is as it was, and goes on working. Truncate some
    /// groups (which needs only the reserved headroom), sync, and try again.
    #[error("the log's disk is full: {needed_bytes} bytes wanted, {left_bytes} left")]
    Full {
        /// What the writes need.
        needed_bytes: u64,
        /// What is left in segments that exist, headroom included.
        left_bytes: u64,
    },
    /// An entry exceeds what a segment can hold. *Not applied*; never worth a retry.
    #[error("entry {index} of {group:?} takes {bytes} bytes, a segment holds {limit_bytes}")]
    TooLarge {
        /// Its group.
        group: GroupId,
        /// Its index.
        index: LogIndex,
        /// Its size on disk.
        bytes: u64,
        /// The most a record may take.
        limit_bytes: u64,
    },
    /// The log failed. *Unknown* what of this write, or of those not yet synced, will be found
    /// after a restart; everything synced before will. Nothing works from now on.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// The log can no longer be trusted to store anything, and refuses everything until it is opened
/// anew. What a failed fsync leaves behind is not knowable, so it is never tried again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log failed and is closed: {reason}")]
pub struct Failed {
    /// The first failure.
    pub reason: String,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The group is not in the log.
    #[error("{0:?} is not in the log")]
    UnknownGroup(GroupId),
    /// The entries were truncated: a snapshot is needed instead.
    #[error("entries up to {through} are truncated")]
    Truncated {
        /// The last truncated index.
        through: LogIndex,
    },
    /// The log ends before the first entry asked for.
    #[error("the log ends at {last}")]
    Beyond {
        /// Its last index.
        last: LogIndex,
    },
    /// What is stored is not what was written.
    #[error("entry {index} of {group:?} is corrupted in segment {segment} at byte {offset}")]
    Corrupted {
        /// Its group.
        group: GroupId,
        /// Its index.
        index: LogIndex,
        /// Where it lies.
        segment: u64,
        /// Where in it.
        offset: u32,
    },
    /// The file system refused.
    #[error("log read: {0}")]
    Io(#[from] io::Error),
}
