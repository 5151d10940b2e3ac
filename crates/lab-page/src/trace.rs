//! A trace of the simulator of whole clusters, for the page to show.
//!
//! The page reads it (`page/trace.js`), and says what is wrong with one that it cannot show. Here is looked only at what
//! tells a trace from any other file, so that whoever gives another is told at once.

use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The longest trace that is read; the page has the same bound.
pub const TRACE_BYTES_MAX: usize = 64 << 20;

/// The form that the page reads; `sim::trace` describes it.
const FORMAT: u64 = 2;

/// A file that looks like a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    name: String,
    bytes: Bytes,
}

/// Why a file is not shown.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is longer than [`TRACE_BYTES_MAX`].
    #[error("it has more than {} MiB, which is the most for a trace", TRACE_BYTES_MAX >> 20)]
    TooLong,
    /// It is something else.
    #[error(
        "it is no trace ({0}): a trace is what `quorate-sim trace SEED > FILE` writes, all that happened in a run of a \
         whole cluster, as JSON"
    )]
    NoTrace(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "it is a trace of format {0}, and this lab shows format {FORMAT}: write it again with \
         `quorate-sim trace SEED > FILE` of the same version"
    )]
    Format(u64),
}

#[derive(Deserialize)]
struct Form {
    format: u64,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "hash")]
    _hash: IgnoredAny,
    #[serde(rename = "events")]
    _events: Vec<IgnoredAny>,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or is no trace of this version.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let mut bytes = Vec::new();
        let most = TRACE_BYTES_MAX as u64 + 1;
        std::fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        // What a header of HTTP can hold.
        let name = name.to_string_lossy().replace(|c: char| !(' '..='~').contains(&c), "?");
        Self::read(name, bytes)
    }

    /// Takes bytes for a trace, if they look like one.
    ///
    /// # Errors
    /// If they do not.
    pub fn read(name: String, bytes: Vec<u8>) -> Result<Self, TraceError> {
        if bytes.len() > TRACE_BYTES_MAX {
            return Err(TraceError::TooLong);
        }
        // One of another form may lack what this one has.
        let Form { format } = serde_json::from_slice(&bytes)?;
        if format != FORMAT {
            return Err(TraceError::Format(format));
        }
        let _head: Head = serde_json::from_slice(&bytes)?;
        Ok(Self { name, bytes: bytes.into() })
    }

    /// The name of its file, in ASCII.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trace, String> {
        Trace::read("t.json".to_owned(), text.into()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_trace_is_refused_in_words() {
        assert!(
            read(r#"{"format":2,"hash":"0123456789abcdef","events":[{"kind":"told"}]}"#).is_ok()
        );
        for other in
            ["", "no JSON", "[]", "{}", r#"{"format":2}"#, r#"{"format":2,"hash":1,"events":{}}"#]
        {
            let why = read(other).unwrap_err();
            assert!(why.contains("quorate-sim trace SEED"), "{other}: {why}");
        }
        for other in [r#"{"format":1,"events":[]}"#, r#"{"format":3,"hash":"","events":[]}"#] {
            let why = read(other).unwrap_err();
            assert!(why.contains("format 2") && why.contains("quorate-sim trace SEED"), "{why}");
        }
        let long = vec![b' '; TRACE_BYTES_MAX + 1];
        let why = Trace::read("t.json".to_owned(), long).unwrap_err().to_string();
        assert!(why.contains("64 MiB"), "{why}");
    }

    /// The page, which reads a trace in earnest, has the same form and the same bound.
    #[test]
    fn the_page_says_the_same() {
        let page = include_str!("../page/trace.js");
        assert!(page.contains(&format!("export const FORMAT = {FORMAT};")));
        assert_eq!(TRACE_BYTES_MAX, 64 << 20);
        assert!(page.contains("export const TRACE_BYTES_MAX = 64 << 20;"));
    }
}
