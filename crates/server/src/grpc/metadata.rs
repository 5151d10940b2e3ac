//! The headers of a request that mean something.

use std::time::Duration;

use etcd::{Code, Error};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

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
    pub(crate) client_api_version: Option<String>,
}

/// Whether these are the headers of a gRPC call.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

impl Metadata {
    /// Reads the headers.
    ///
    /// # Errors
    /// A compression nobody knows; a version that is no text; a malformed timeout.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Metadata, Status> {
        let encoding = match headers.get("grpc-encoding").map(http::HeaderValue::as_bytes) {
            None | Some(b"identity") => Encoding::Identity,
            Some(b"gzip") => Encoding::Gzip,
            Some(other) => {
                return Err(Status::unimplemented(format!(
                    "grpc: Decompressor is not installed for grpc-encoding \"{}\"",
                    String::from_utf8_lossy(other)
                )));
            }
        };
        let timeout = match headers.get("grpc-timeout") {
            None => None,
            Some(value) => Some(parse_timeout(value.as_bytes()).ok_or_else(|| {
                Status::internal(format!(
                    "malformed grpc-timeout: {}",
                    String::from_utf8_lossy(value.as_bytes())
                ))
            })?),
        };
        let require_leader =
            headers.get("hasleader").is_some_and(|value| value.as_bytes() == b"true");
        let client_api_version = match headers.get("client-api-version") {
            None => None,
            Some(value) => match std::str::from_utf8(value.as_bytes()) {
                Ok(version) => Some(version.to_owned()),
                Err(_) => return Err(Error::InvalidClientApiVersion.into()),
            },
        };
        Ok(Metadata { timeout, encoding, require_leader, client_api_version })
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
    use http::HeaderValue;

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
        let mut headers = HeaderMap::new();
        let plain = Metadata::read(&headers).unwrap();
        assert_eq!(plain.encoding, Encoding::Identity);
        assert!(!plain.require_leader);
        headers.insert("hasleader", HeaderValue::from_static("true"));
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        headers.insert("client-api-version", HeaderValue::from_static("3.5.1"));
        let read = Metadata::read(&headers).unwrap();
        assert_eq!(read.encoding, Encoding::Gzip);
        assert!(read.require_leader);
        assert_eq!(read.client_api_version.as_deref(), Some("3.5.1"));
        headers.insert("client-api-version", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Metadata::read(&headers), Err(Error::InvalidClientApiVersion.into()));
        headers.remove("client-api-version");
        headers.insert("grpc-encoding", HeaderValue::from_static("snappy"));
        assert_eq!(Metadata::read(&headers).unwrap_err().code, Code::Unimplemented);
    }
}
