//! A data directory made from a backup: a member of a new cluster, with the old one's history.
//!
//! The cluster's and the member's ids follow from the flags, as they do when a cluster is founded,
//! and every member builds the same state from the same backup; none of them needs the others for
//! it. What the backup says is brought by the caller, who knows its format.
//!
//! # A restore that is interrupted
//!
//! must not be mistaken for anything else: a start that found half of it and founded a cluster of
//! its own, empty, would answer clients as if their data had never been. So
//!
//! 1. the directory must be empty, and its first file is the mark `restoring`;
//! 2. state and log are built, and made durable;
//! 3. the identity is written, and from then on the directory is a member's;
//! 4. the mark goes.
//!
//! [`Node::start`](super::Node::start) refuses a directory with a mark and no identity, and so
//! does a second restore. One that fails, rather than being cut off, clears up after itself.
//!
//! # Where the log begins
//!
//! One entry after that of a cluster founded empty ([`POSITION`]). Should one member of the new
//! cluster be started empty by mistake, it is behind the others, who bring it their state; with
//! the same position it would pass for one of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{Disk as _, RealDisk};
use mvcc::{AppliedMark, ImportError, LeaseId, Load, Revision};
use raft::{LogIndex, LogPosition, Membership, Restored};
use storage::{DataDir, DataDirError, Identity};

use super::start::{self, StartError};
use crate::Engine;
use crate::boot;
use crate::config::Config;
use crate::core::membership_row;
use crate::engines::{Engines, EnginesError};

/// The mark of a restore that is under way.
const RESTORING: &str = "restoring";

/// The entry as whose outcome the restored state counts.
const POSITION: LogPosition = LogPosition {
    index: LogIndex(Restored::FOUNDED_AT.index.0 + 1),
    term: Restored::FOUNDED_AT.term,
};

/// So much is written at once: every write is synced, so that few large ones are faster.
const WRITE_BYTES: usize = 32 << 20;

/// The engine's cache while it is filled in the order of keys; half of it takes what is written.
const CACHE_BYTES: usize = 128 << 20;

/// Why nothing was restored. Whatever was written is gone again.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The settings cannot work.
    #[error("{0}")]
    Config(String),
    /// The directory is not free for a new member.
    #[error("{}: {why}", .path.display())]
    Occupied {
        /// Which.
        path: PathBuf,
        /// What is there.
        why: &'static str,
    },
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The state engine.
    #[error("the state cannot be written: {0}")]
    Engines(#[from] EnginesError),
    /// The history is not one, or could not be written.
    #[error(transparent)]
    History(#[from] ImportError),
    /// The log.
    #[error("the log cannot be made: {0}")]
    Log(String),
    /// A file or directory.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl From<StartError> for RestoreError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::DataDir(error) => Self::DataDir(error),
            StartError::Engines(error) => Self::Engines(error),
            StartError::Log(reason) => Self::Log(reason),
            other => Self::Config(other.to_string()),
        }
    }
}

/// What a restored state is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredRevisions {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest that can be read; `Revision(0)` for all.
    pub compacted: Revision,
}

/// A state under construction: leases first, then what each revision changed, then the versions.
pub struct Restore {
    load: Load<Engine>,
    leases: BTreeSet<LeaseId>,
    scratch: PathBuf,
}

impl Restore {
    /// A lease, with the time to live it was granted, in seconds.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn lease(&mut self, id: LeaseId, ttl_s: i64) -> Result<(), RestoreError> {
        self.leases.insert(id);
        self.row(etcd::restore::lease_row(id, ttl_s))
    }

    /// An alarm that is raised, by kind and member.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn alarm(&mut self, kind: i32, member: u64) -> Result<(), RestoreError> {
        self.row(etcd::restore::alarm_row(kind, member))
    }

    /// What one revision changed: see [`Load::commit`].
    ///
    /// # Errors
    /// As there.
    pub fn commit(
        &mut self,
        revision: Revision,
        changes: Vec<(Bytes, bool)>,
    ) -> Result<(), RestoreError> {
        Ok(self.load.commit(revision, changes)?)
    }

    /// The next version: see [`Load::version`]. A live key is attached to its lease, if there is
    /// such a lease.
    ///
    /// # Errors
    /// As there.
    pub fn version(&mut self, place: Bytes, encoded: Option<Bytes>) -> Result<(), RestoreError> {
        let Some(live) = self.load.version(place, encoded)? else { return Ok(()) };
        match live.lease.filter(|lease| self.leases.contains(lease)) {
            Some(lease) => self.row(etcd::restore::attached_row(lease, &live.key())),
            None => Ok(()),
        }
    }

    /// A directory for files that are needed until the end of the restore.
    #[must_use]
    pub fn scratch_dir(&self) -> &Path {
        &self.scratch
    }

    fn row(&mut self, (key, value): etcd::restore::Row) -> Result<(), RestoreError> {
        Ok(self.load.meta(&key, value)?)
    }
}

/// Makes the data directory of `config`'s member, whose state is what `fill` brings. Gives the
/// ids of the new cluster and of the member.
///
/// # Errors
/// See [`RestoreError`], and `fill`'s own.
pub fn restore<X: From<RestoreError>>(
    config: &Config,
    revisions: RestoredRevisions,
    fill: impl FnOnce(&mut Restore) -> Result<(), X>,
) -> Result<Identity, X> {
    config.validate().map_err(RestoreError::Config)?;
    let existed = is_free(&config.data_dir, "the data directory")?;
    if let Some(log_dir) = &config.log_dir {
        is_free(log_dir, "the directory of the log")?;
    }
    let mut data = DataDir::open(RealDisk, &config.data_dir).map_err(RestoreError::from)?;
    let built = build(config, &mut data, revisions, fill);
    if built.is_err() {
        clear(config, &data, existed);
    }
    built
}

/// Whether the directory exists; that it is empty.
fn is_free(path: &Path, what: &'static str) -> Result<bool, RestoreError> {
    let io = |source| RestoreError::Io { path: path.to_owned(), source };
    let mut entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(io)?,
    };
    if entries.next().is_none() {
        return Ok(true);
    }
    let why = if path.join(RESTORING).exists() {
        "it holds a restore that was interrupted: remove it and restore again"
    } else if what == "the data directory" {
        "the data directory is not empty: a restore makes a new one and never writes into another"
    } else {
        "the directory of the log is not empty: a restore makes a new one"
    };
    Err(RestoreError::Occupied { path: path.to_owned(), why })
}

fn build<X: From<RestoreError>>(
    config: &Config,
    data: &mut DataDir<RealDisk>,
    revisions: RestoredRevisions,
    fill: impl FnOnce(&mut Restore) -> Result<(), X>,
) -> Result<Identity, X> {
    let mark = data.path().join(RESTORING);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    fs::File::create(&mark).and_then(|file| file.sync_all()).map_err(io(&mark))?;
    RealDisk.sync_dir(data.path()).map_err(io(data.path()))?;
    let (members, identity) = start::founding_identity(config).map_err(RestoreError::from)?;
    let engines = Engines::open(&data.engine_dir(), CACHE_BYTES).map_err(RestoreError::from)?;
    let engine = Arc::new(engines.stage().map_err(RestoreError::from)?);
    let RestoredRevisions { revision, compacted } = revisions;
    let limits = mvcc::Limits { import_write_bytes: WRITE_BYTES, ..mvcc::Limits::default() };
    let load = Load::begin(engine, limits, revision, compacted).map_err(RestoreError::from)?;
    let scratch = data.path().to_owned();
    let mut restore = Restore { load, leases: BTreeSet::new(), scratch };
    for member in &members {
        restore.row(etcd::restore::member_row(member))?;
    }
    if compacted > Revision(0) {
        restore.row(etcd::restore::compacted_row(compacted))?;
    }
    let voters = boot::replicas(&members).map_err(StartError::from).map_err(RestoreError::from)?;
    if let (key, Some(value)) = membership_row(&Membership::of_voters(voters)) {
        restore.row((key, value))?;
    }
    fill(&mut restore)?;
    let applied = AppliedMark { index: POSITION.index.0, term: POSITION.term.0 };
    drop(restore.load.finish(applied).map_err(RestoreError::from)?);
    engines.install();
    start::make_log(config, data, identity).map_err(RestoreError::from)?;
    data.claim(identity).map_err(RestoreError::from)?;
    fs::remove_file(&mark).map_err(io(&mark))?;
    Ok(identity)
}

/// Removes what a restore that failed has made; the mark, and what depends on it, last.
fn clear(config: &Config, data: &DataDir<RealDisk>, existed: bool) {
    let log = config.log_dir.clone().unwrap_or_else(|| data.log_dir());
    for dir in [log, data.engine_dir()] {
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %dir.display(), %error, "cannot remove");
            return;
        }
    }
    let _may_not_be_there = fs::remove_file(data.path().join(RESTORING));
    let _may_not_be_there = fs::remove_file(data.path().join(storage::data_dir::LOCK));
    if !existed {
        let _may_hold_something = fs::remove_dir(data.path());
    }
}

/// A start takes no directory in which a restore was cut off. One that was cut off after its last
/// step is whole.
///
/// # Errors
/// [`StartError::Damaged`].
pub(super) fn refuse_unfinished(data: &DataDir<RealDisk>) -> Result<(), StartError> {
    let mark = data.path().join(RESTORING);
    if !mark.exists() {
        return Ok(());
    }
    if data.identity().is_none() {
        return Err(StartError::Damaged(format!(
            "{} holds a restore that was interrupted: remove it, and run `quorate snapshot \
             restore` again",
            data.path().display()
        )));
    }
    Ok(fs::remove_file(&mark)?)
}
