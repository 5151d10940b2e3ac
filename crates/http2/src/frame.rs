//! The head of a frame (RFC 9113 §4.1), and the small frames.

use crate::error::Code;

/// Bytes before each frame's payload.
pub(crate) const HEAD_BYTES: usize = 9;

/// What a client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Of SETTINGS and PING.
pub(crate) const ACK: u8 = 1;
/// Of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 4;
/// Of DATA and HEADERS.
pub(crate) const PADDED: u8 = 8;
/// Of HEADERS.
pub(crate) const PRIORITIZED: u8 = 0x20;

pub(crate) const SETTING_HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const SETTING_ENABLE_PUSH: u16 = 2;
pub(crate) const SETTING_MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const SETTING_INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const SETTING_MAX_FRAME_SIZE: u16 = 5;
pub(crate) const SETTING_MAX_HEADER_LIST_SIZE: u16 = 6;

/// The largest window there can be.
pub(crate) const WINDOW_MAX: i64 = (1 << 31) - 1;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    /// Reads the head at the front of `input`, if it is there.
    pub(crate) fn read(input: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, s @ ..] = input.first_chunk::<HEAD_BYTES>()?;
        Some(Head {
            length: usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c),
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*s) & 0x7fff_ffff,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends the head of a frame.
pub(crate) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let bytes = u32::try_from(length).unwrap_or(0).to_be_bytes();
    assert!(bytes[0] == 0, "frames have at most 2^24 - 1 bytes");
    let id = stream.to_be_bytes();
    out.extend_from_slice(&[bytes[1], bytes[2], bytes[3], kind, flags, id[0], id[1], id[2], id[3]]);
}

pub(crate) fn rst_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    head(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

pub(crate) fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}

pub(crate) fn ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    head(out, 8, PING, flags, 0);
    out.extend_from_slice(&payload);
}

pub(crate) fn goaway(out: &mut Vec<u8>, last: u32, code: Code, reason: &str) {
    head(out, 8 + reason.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

pub(crate) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    head(out, settings.len() * 6, SETTINGS, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}
