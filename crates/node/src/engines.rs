//! The engines of a member's state, each in a directory of its own.
//!
//! A member has one state, in `state/N`. While a snapshot is received there is a second
//! directory with a greater number; whichever holds a state further along is the member's, so that a
//! crash at any moment leaves one or the other in force and nothing in between.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use env::RealDisk;
use mvcc::engine::EngineError;
use storage::EngineOptions;

use crate::Engine;

/// Why no state can be opened.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// The directory cannot be used.
    #[error("{path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// An engine cannot be opened.
    #[error("{path}: {error}")]
    Engine {
        /// Which.
        path: PathBuf,
        /// Why.
        error: EngineError,
    },
    /// An engine holds no usable state.
    #[error("{path}: {error}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        error: mvcc::OpenError,
    },
}

/// The state engine's files in one directory.
pub(crate) struct Engines {
    dir: PathBuf,
    cache_bytes: usize,
    files: Mutex<Files>,
}

/// The numbers of the files there are, ascending, and of the one that is being received.
struct Files {
    all: Vec<u64>,
    staged: Option<u64>,
}

impl Engines {
    /// The files in `dir`, which is made if it is not there.
    pub(crate) fn open(dir: &Path, cache_bytes: usize) -> Result<Engines, EnginesError> {
        let io = |error| EnginesError::Io { path: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(io)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            files.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        files.sort_unstable();
        let files = Mutex::new(Files { all: files, staged: None });
        Ok(Engines { dir: dir.to_owned(), cache_bytes, files })
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn open_engine(&self, path: &Path) -> Result<Engine, EnginesError> {
        let options = EngineOptions { cache_bytes: self.cache_bytes };
        Engine::open(RealDisk, path, options)
            .map_err(|error| EnginesError::Engine { path: path.to_owned(), error })
    }

    /// A new, empty engine, in a file after all others. It is *staged* until it is
    /// [installed](Engines::install) or [discarded](Engines::discard).
    pub(crate) fn stage(&self) -> Result<Engine, EnginesError> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let number = files.all.last().map_or(1, |last| last + 1);
        let path = self.path(number);
        // What a crash may have left there holds nothing.
        let _ = fs::remove_dir_all(&path);
        let engine = self.open_engine(&path)?;
        files.all.push(number);
        files.staged = Some(number);
        Ok(engine)
    }

    /// The state that is furthest along, if there is any; other files go. A file in which an
    /// import was not finished holds none.
    pub(crate) fn recover(
        &self,
        limits: mvcc::Limits,
    ) -> Result<Option<mvcc::State<Engine>>, EnginesError> {
        let numbers = self.files.lock().unwrap_or_else(PoisonError::into_inner).all.clone();
        let mut states = BTreeMap::new();
        for &number in &numbers {
            let path = self.path(number);
            let engine = self.open_engine(&path)?;
            match mvcc::State::open_with(Arc::new(engine), limits) {
                Ok(state) => {
                    states.insert((state.applied().index, number), state);
                }
                Err(mvcc::OpenError::ImportUnfinished) => {
                    tracing::info!(path = %path.display(), "dropped an unfinished snapshot");
                }
                Err(error) => return Err(EnginesError::State { path, error }),
            }
        }
        let newest = states.pop_last();
        let kept = newest.as_ref().map(|((_, number), _)| *number);
        drop(states);
        self.keep(|number| Some(number) == kept);
        Ok(newest.map(|(_, state)| state))
    }

    /// The staged file is the state from now on: the others are removed.
    pub(crate) fn install(&self) {
        let staged = self.files.lock().unwrap_or_else(PoisonError::into_inner).staged.take();
        if staged.is_some() {
            self.keep(|number| Some(number) == staged);
        }
    }

    /// Removes the staged file, if there is one.
    pub(crate) fn discard(&self) {
        let staged = self.files.lock().unwrap_or_else(PoisonError::into_inner).staged.take();
        self.keep(|number| Some(number) != staged);
    }

    fn keep(&self, wanted: impl Fn(u64) -> bool) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.all.retain(|&number| {
            if wanted(number) {
                return true;
            }
            let path = self.path(number);
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove");
            }
            false
        });
    }
}
