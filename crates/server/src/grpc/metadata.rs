//! The headers of a request that mean something.

use std::time::Duration;

use bytes::Bytes;
use etcd::{Code, Error};
use http2::Head;

use super::Status;
use super::frame::Encoding;

/// What the headers of a call say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// How long the caller waits; `None` for ever.
    pub(crate) timeout: Option<Duration>,
    /// How its messages are compressed.
    pub(crate) encoding: Encoding,
    /// The caller wants no answer from a member that knows no leader.
    pub(crate) require_leader: bool,
    /// The version of the API it was written for, if it says so.
    pub(crate) client_api_version: Option<Bytes>,
    /// The range that is asked, if not the one that holds all of a cluster's keys.
    pub(crate) range: Option<u64>,
}

/// The headers that are looked for; the others are not kept.
pub(crate) const WORDS: &[&str] = &[
    "content-type",
    "grpc-timeout",
    "grpc-encoding",
    "hasleader",
    "client-api-version",
    "accept",
    "quorate-range",
];
const CONTENT_TYPE: usize = 0;
const TIMEOUT: usize = 1;
const ENCODING: usize = 2;
const HAS_LEADER: usize = 3;
const CLIENT_API_VERSION: usize = 4;
/// What a page is wanted as.
pub(crate) const ACCEPT: usize = 5;
const RANGE: usize = 6;

/// Whether these are the headers of a gRPC call.
pub(crate) fn is_grpc(head: &Head) -> bool {
    head.word(CONTENT_TYPE).is_some_and(|value| value.starts_with(b"application/grpc"))
}

impl Metadata {
    /// Reads the headers.
    ///
    /// # Errors
    /// A compression nobody knows; a version that is no text; a malformed timeout.
    pub(crate) fn read(head: &Head) -> Result<Metadata, Status> {
        Self::of(|word| head.word(word))
    }

    pub(crate) fn of<'a>(word: impl Fn(usize) -> Option<&'a Bytes>) -> Result<Metadata, Status> {
        let encoding = match word(ENCODING).map(Bytes::as_ref) {
            None | Some(b"identity") => Encoding::Identity,
            Some(b"gzip") => Encoding::Gzip,
            Some(other) => {
                return Err(Status::unimplemented(format!(
                    "grpc: Decompressor is not installed for grpc-encoding \"{}\"",
                    String::from_utf8_lossy(other)
                )));
            }
        };
        let timeout = match word(TIMEOUT) {
            None => None,
            Some(value) => Some(parse_timeout(value).ok_or_else(|| {
                Status::internal(format!(
                    "malformed grpc-timeout: {}",
                    String::from_utf8_lossy(value)
                ))
            })?),
        };
        let require_leader = word(HAS_LEADER).is_some_and(|value| value == "true");
        let client_api_version = word(CLIENT_API_VERSION).cloned();
        if client_api_version.as_ref().is_some_and(|version| std::str::from_utf8(version).is_err())
        {
            return Err(Error::InvalidClientApiVersion.into());
        }
        let range = word(RANGE).map(|value| {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            number.ok_or_else(|| {
                let value = String::from_utf8_lossy(value);
                Status::new(
                    Code::InvalidArgument,
                    format!("quorate-range \"{value}\" is no number"),
                )
            })
        });
        let range = range.transpose()?;
        Ok(Metadata { timeout, encoding, require_leader, client_api_version, range })
    }
}

/// The status of a call whose time is over.
pub(crate) fn deadline_exceeded() -> Status {
    Status::new(Code::DeadlineExceeded, "context deadline exceeded")
}

/// At most eight digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_strictly() {
        assert_eq!(parse_timeout(b"5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout(b"250m"), Some(Duration::from_millis(250)));
        for bad in [&b""[..], b"S", b"5", b"-5S", b"5s", b"123456789S", b"5 S"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn headers_are_read() {
        let mut headers = vec![None; WORDS.len()];
        let read = |headers: &[Option<Bytes>]| Metadata::of(|word| headers[word].as_ref());
        let plain = read(&headers).unwrap();
        assert_eq!(plain.encoding, Encoding::Identity);
        assert!(!plain.require_leader);
        headers[HAS_LEADER] = Some("true".into());
        headers[ENCODING] = Some("gzip".into());
        headers[CLIENT_API_VERSION] = Some("3.5.1".into());
        let given = read(&headers).unwrap();
        assert_eq!(given.encoding, Encoding::Gzip);
        assert!(given.require_leader);
        assert_eq!(given.client_api_version.as_deref(), Some(&b"3.5.1"[..]));
        headers[CLIENT_API_VERSION] = Some(Bytes::from_static(b"\xff"));
        assert_eq!(read(&headers), Err(Error::InvalidClientApiVersion.into()));
        headers[CLIENT_API_VERSION] = None;
        headers[RANGE] = Some("17".into());
        assert_eq!(read(&headers).unwrap().range, Some(17));
        headers[RANGE] = Some("-1".into());
        assert_eq!(read(&headers).unwrap_err().code, Code::InvalidArgument);
        headers[RANGE] = None;
        headers[ENCODING] = Some("snappy".into());
        assert_eq!(read(&headers).unwrap_err().code, Code::Unimplemented);
    }

    #[test]
    fn words_stand_where_they_are_looked_for() {
        for (place, name) in [
            (CONTENT_TYPE, "content-type"),
            (TIMEOUT, "grpc-timeout"),
            (ENCODING, "grpc-encoding"),
            (HAS_LEADER, "hasleader"),
            (CLIENT_API_VERSION, "client-api-version"),
            (ACCEPT, "accept"),
            (RANGE, "quorate-range"),
        ] {
            assert_eq!(WORDS[place], name);
        }
    }
}
