//! The candidates: engines behind the port of `mvcc`, opened on a directory.
//!
//! Ours is the product's own. The others are written for this page, as a member would need them: durable
//! batches, snapshots that any thread may read, errors instead of panics. The suite of the port
//! ([`mvcc::engine::conformance`]) runs on each; what is slow here is not slow for being half an engine.
//!
//! Caveats. `shrink` of LMDB does nothing: LMDB gives nothing back to the file system while it is open, and
//! copying and swapping, as ours does, would be the same code again. Nothing here measures `shrink`.

mod fjall;
mod lmdb;

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use env::RealDisk;
use mvcc::engine::mem::MemEngine;
use mvcc::engine::{Engine, EngineError};
use storage::{EngineOptions, RedbEngine};

use fjall::FjallEngine;
use lmdb::LmdbEngine;

/// An engine that can be measured.
pub(crate) trait Candidate: Engine + Sized {
    /// Whether another process finds what this one wrote.
    const PERSISTS: bool = true;

    /// Opens what `dir` holds, or makes an empty engine there.
    ///
    /// `cache_bytes` is the engine's own cache; LMDB has none but the kernel's.
    fn open(dir: &Path, cache_bytes: usize) -> Result<Self, EngineError>;

    /// Whether work goes on that earlier writes have caused.
    fn is_busy(&self) -> bool {
        false
    }
}

impl Candidate for RedbEngine<RealDisk> {
    fn open(dir: &Path, cache_bytes: usize) -> Result<Self, EngineError> {
        RedbEngine::open(RealDisk, dir, EngineOptions { cache_bytes })
    }
}

/// The floor: what the same work costs above an engine that costs nearly nothing.
impl Candidate for MemEngine {
    const PERSISTS: bool = false;

    fn open(_: &Path, _: usize) -> Result<Self, EngineError> {
        Ok(MemEngine::new())
    }
}

/// Their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// redb as the product uses it.
    Redb,
    /// LMDB through heed, default flags.
    Lmdb,
    /// fjall, default settings but for the cache.
    Fjall,
    /// fjall with values of 1 KiB and more in files of their own.
    FjallBlobs,
    /// Ordered maps in memory: no candidate, the floor.
    Mem,
}

impl Kind {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Redb => "redb",
            Kind::Lmdb => "lmdb",
            Kind::Fjall => "fjall",
            Kind::FjallBlobs => "fjall-blobs",
            Kind::Mem => "mem",
        }
    }
}

/// What is done with an engine, whichever it is.
pub(crate) trait Task {
    /// Does it.
    fn run<E: Candidate>(&self) -> Result<()>;
}

/// Does a task with the engine of this name.
pub(crate) fn run(kind: Kind, task: &impl Task) -> Result<()> {
    match kind {
        Kind::Redb => task.run::<RedbEngine<RealDisk>>(),
        Kind::Lmdb => task.run::<LmdbEngine>(),
        Kind::Fjall => task.run::<FjallEngine<false>>(),
        Kind::FjallBlobs => task.run::<FjallEngine<true>>(),
        Kind::Mem => task.run::<MemEngine>(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mvcc::engine::conformance;

    use super::*;

    const CACHE_BYTES: usize = 16 << 20;

    /// The suite of the port, on directories of a temporary one.
    fn conforms<E: Candidate>() {
        let root = tempfile::tempdir().unwrap();
        let mut dirs: Vec<PathBuf> = Vec::new();
        let dirs = std::cell::RefCell::new(&mut dirs);
        conformance::run(
            || {
                let mut dirs = dirs.borrow_mut();
                let dir = root.path().join(dirs.len().to_string());
                dirs.push(dir.clone());
                E::open(&dir, CACHE_BYTES).unwrap()
            },
            // The suite reopens only what it has made last.
            |engine: E| {
                drop(engine);
                E::open(dirs.borrow().last().unwrap(), CACHE_BYTES).unwrap()
            },
        );
    }

    #[test]
    fn lmdb_conforms() {
        conforms::<LmdbEngine>();
    }

    #[test]
    fn fjall_conforms() {
        conforms::<FjallEngine<false>>();
    }

    #[test]
    fn fjall_with_blobs_conforms() {
        conforms::<FjallEngine<true>>();
    }
}
