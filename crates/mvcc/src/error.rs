//! Why a read has no answer.

use crate::engine::EngineError;
use crate::record::RecordError;
use crate::types::Revision;

/// Why a read of the state has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision lies below what compaction left. No retry will find it again.
    #[error("revision compacted: {compacted} is the oldest that can be read")]
    Compacted {
        /// The oldest revision that can be read.
        compacted: Revision,
    },
    /// The revision has not happened in this view. A later view may have it.
    #[error("revision in the future: the view ends at {newest}")]
    Future {
        /// The newest revision of the view.
        newest: Revision,
    },
    /// It looks at more rows than it was given ([`Scan::look_at`](crate::Scan::look_at)).
    #[error("more rows than a read here may look at")]
    TooLong,
    /// The engine failed. The store stops.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<RecordError> for ReadError {
    fn from(error: RecordError) -> Self {
        Self::Engine(error.into())
    }
}

impl From<RecordError> for EngineError {
    fn from(error: RecordError) -> Self {
        Self::Corrupted(error.to_string())
    }
}
