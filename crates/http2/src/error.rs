//! How a stream or a connection ends before its time.

use std::fmt;

/// An error code (RFC 9113 §7), known or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    /// Nothing is wrong.
    pub const NO_ERROR: Code = Code(0);
    /// The peer did what the protocol forbids.
    pub const PROTOCOL_ERROR: Code = Code(1);
    /// A fault of one's own.
    pub const INTERNAL_ERROR: Code = Code(2);
    /// More was sent than the window allows.
    pub const FLOW_CONTROL_ERROR: Code = Code(3);
    /// A frame for a stream that is closed in that direction.
    pub const STREAM_CLOSED: Code = Code(5);
    /// A frame of a size that it cannot have.
    pub const FRAME_SIZE_ERROR: Code = Code(6);
    /// Nothing was done with the stream: it can be tried again.
    pub const REFUSED_STREAM: Code = Code(7);
    /// The stream is not wanted any more.
    pub const CANCEL: Code = Code(8);
    /// The compression of headers is out of step.
    pub const COMPRESSION_ERROR: Code = Code(9);
    /// The peer makes too much work.
    pub const ENHANCE_YOUR_CALM: Code = Code(11);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "NO_ERROR",
            1 => "PROTOCOL_ERROR",
            2 => "INTERNAL_ERROR",
            3 => "FLOW_CONTROL_ERROR",
            4 => "SETTINGS_TIMEOUT",
            5 => "STREAM_CLOSED",
            6 => "FRAME_SIZE_ERROR",
            7 => "REFUSED_STREAM",
            8 => "CANCEL",
            9 => "COMPRESSION_ERROR",
            10 => "CONNECT_ERROR",
            11 => "ENHANCE_YOUR_CALM",
            12 => "INADEQUATE_SECURITY",
            13 => "HTTP_1_1_REQUIRED",
            other => return write!(f, "{other:#x}"),
        };
        f.write_str(name)
    }
}

/// Why we end a connection: what its GOAWAY says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// For the peer's program.
    pub code: Code,
    /// For people. grpc-go's clients look at one of them, `too_many_pings`.
    pub reason: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code, self.reason)
    }
}

impl std::error::Error for Fault {}

pub(crate) fn fault(code: Code, reason: &'static str) -> Fault {
    Fault { code, reason }
}

pub(crate) fn protocol(reason: &'static str) -> Fault {
    fault(Code::PROTOCOL_ERROR, reason)
}
