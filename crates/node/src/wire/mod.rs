//! What peers say to each other, as bytes: protocol buffers, so that members of neighbouring
//! versions understand each other.

pub(crate) mod liveness;
#[cfg(test)]
mod mangled;
pub(crate) mod message;
pub(crate) mod pb;
pub(crate) mod request;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod samples;

/// A peer sent something that decodes but makes no sense. It is dropped and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed peer frame: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);
