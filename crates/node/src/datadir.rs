//! The data directory: whose it is, and that nobody else uses it.
//!
//! ```text
//! data/
//!   lock        held by the process that uses the directory
//!   identity    cluster and member, written once everything else is there
//!   log/        the shared log
//!   state/      the state engine
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Version of the layout of the directory.
const FORMAT: &str = "quorate data 1";

/// Whose the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("{0} is in use by another process: stop that one, or give this one another --data-dir")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The identity makes no sense.
    #[error("{0} is damaged or of a version that this one does not know")]
    Identity(PathBuf),
}

/// A data directory that is ours while this lives.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes `path`, which is made if it is not there.
    pub(crate) fn take(path: &Path) -> Result<DataDir, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| DataDirError::Io { path, error }
        };
        fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(DataDir { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(io(&lock_path)(error)),
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Whose the data is; `None` in a directory in which no member has started yet.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        let path = self.path.join("identity");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataDirError::Io { path, error }),
        };
        parse(&text).map(Some).ok_or(DataDirError::Identity(path))
    }

    /// Writes whose the data is. A directory has an identity only once all else is in place: a
    /// crash before leaves one that is begun anew.
    pub(crate) fn set_identity(&self, identity: Identity) -> Result<(), DataDirError> {
        let path = self.path.join("identity");
        let write = || {
            let new = self.path.join("identity.new");
            let mut file = File::create(&new)?;
            write!(
                file,
                "{FORMAT}\ncluster {:016x}\nmember {:016x}\n",
                identity.cluster_id, identity.member_id
            )?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| DataDirError::Io { path: path.clone(), error })
    }

    /// Removes what a start that was not finished has left.
    pub(crate) fn clear(&self) -> Result<(), DataDirError> {
        for path in [self.log(), self.state()] {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(DataDirError::Io { path, error });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<Identity> {
    let mut lines = text.lines();
    if lines.next()? != FORMAT {
        return None;
    }
    let mut id = |name: &str| {
        let value = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
        u64::from_str_radix(value, 16).ok()
    };
    Some(Identity { cluster_id: id("cluster")?, member_id: id("member")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_comes_back_and_a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::take(dir.path()).unwrap();
        assert!(matches!(DataDir::take(dir.path()), Err(DataDirError::InUse(_))));
        assert_eq!(data.identity().unwrap(), None);
        let identity = Identity { cluster_id: u64::MAX, member_id: 7 };
        data.set_identity(identity).unwrap();
        assert_eq!(data.identity().unwrap(), Some(identity));
        drop(data);
        fs::write(dir.path().join("identity"), "quorate data 9\n").unwrap();
        let data = DataDir::take(dir.path()).unwrap();
        assert!(matches!(data.identity(), Err(DataDirError::Identity(_))));
    }
}
