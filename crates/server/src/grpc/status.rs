//! How a call ended: a code, and a text for people (and for etcd's clients, who compare it).

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use etcd::Code;

/// The failure of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: Cow<'static, str>,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Status {
        Status { code, message: message.into() }
    }

    /// There is no such call.
    pub(crate) fn unimplemented(message: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::Unimplemented, message)
    }

    /// The server is at fault, or the client does not speak the protocol.
    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Status {
        Status::new(Code::Internal, message)
    }

    /// The text as a header: bytes that a header cannot carry are written `%XX`.
    pub(crate) fn message_header(&self) -> Bytes {
        let mut escaped = String::with_capacity(self.message.len());
        for &byte in self.message.as_bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'%' {
                escaped.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped.into()
    }
}

impl From<etcd::Error> for Status {
    fn from(error: etcd::Error) -> Status {
        Status::new(error.code(), error.to_string())
    }
}

/// The number of a code as a header.
pub(crate) fn code_bytes(code: Code) -> Bytes {
    (code as u16).to_string().into()
}

/// The name of a code, as metrics have it.
pub(crate) fn code_name(code: Option<Code>) -> &'static str {
    match code {
        None => "OK",
        Some(Code::Canceled) => "Canceled",
        Some(Code::Unknown) => "Unknown",
        Some(Code::InvalidArgument) => "InvalidArgument",
        Some(Code::DeadlineExceeded) => "DeadlineExceeded",
        Some(Code::NotFound) => "NotFound",
        Some(Code::PermissionDenied) => "PermissionDenied",
        Some(Code::ResourceExhausted) => "ResourceExhausted",
        Some(Code::FailedPrecondition) => "FailedPrecondition",
        Some(Code::OutOfRange) => "OutOfRange",
        Some(Code::Unimplemented) => "Unimplemented",
        Some(Code::Internal) => "Internal",
        Some(Code::Unavailable) => "Unavailable",
        Some(Code::DataLoss) => "DataLoss",
        Some(Code::Unauthenticated) => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_headers_need_it() {
        let status = Status::internal("50 % of\ngrün");
        assert_eq!(status.message_header(), "50 %25 of%0Agr%C3%BCn");
    }

    #[test]
    fn etcds_errors_keep_code_and_text() {
        let status = Status::from(etcd::Error::Compacted);
        assert_eq!(code_bytes(status.code), "11");
        assert_eq!(
            status.message_header(),
            "etcdserver: mvcc: required revision has been compacted"
        );
    }
}
