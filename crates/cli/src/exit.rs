//! How a command ends: etcdctl's exit codes, so that scripts need not be changed.

use std::fmt::Display;

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Exit>;

/// Why a command ends other than well.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    error: anyhow::Error,
}

macro_rules! exits {
    ($($(#[$doc:meta])* $name:ident = $code:literal),*) => {
        impl Exit {
            $($(#[$doc])*
            pub(crate) fn $name(error: impl Display) -> Self {
                Self { code: $code, error: anyhow::anyhow!("{error}") }
            })*
        }
    };
}
exits! {
    /// The server or the network said no.
    failed = 1,
    /// A lease or a connection is not there.
    bad_connection = 2,
    /// What came on stdin cannot be read.
    invalid_input = 3,
    /// This combination does not exist.
    bad_feature = 4,
    /// The server ended what was going on.
    interrupted = 5,
    /// A file or a pipe.
    io = 6,
    /// The arguments do not fit.
    bad_args = 128
}

impl Exit {
    /// The exit code of a child that ran in our stead.
    pub(crate) fn child(code: u8) -> Self {
        Self { code, error: anyhow::anyhow!("exit status {code}") }
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<client::Error> for Exit {
    fn from(error: client::Error) -> Self {
        match error {
            // etcd's own words, without the code.
            client::Error::Rejected(status) => Self::failed(status.message),
            other => Self::failed(other),
        }
    }
}

impl From<node::RestoreError> for Exit {
    fn from(error: node::RestoreError) -> Self {
        Self::failed(error)
    }
}

impl From<client::WatchError> for Exit {
    fn from(error: client::WatchError) -> Self {
        Self::interrupted(error)
    }
}

impl From<client::lock::LockError> for Exit {
    fn from(error: client::lock::LockError) -> Self {
        match error {
            client::lock::LockError::Store(error) => error.into(),
            other => Self::failed(other),
        }
    }
}

impl From<anyhow::Error> for Exit {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}
