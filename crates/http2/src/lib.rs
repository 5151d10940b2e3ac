//! The server's side of HTTP/2 (RFC 9113), sans-io.
//!
//! Bytes of a client go in, what it does comes out as [`Event`]s; answers go in, bytes for it
//! come out. There is no socket, no clock, no task in here: time is an argument, and the same
//! bytes always make the same events.
//!
//! ```text
//! socket --bytes--> next_event() --Request, Data, Reset--> the caller
//! socket <--slices()/wrote()--- output <--send_head, send_data, send_trailers-- the caller
//! ```
//!
//! Why it is ours: a call of gRPC that is answered from memory costs about a microsecond here. In
//! the general libraries it costs five to ten, for tasks, locks, channels and header maps that a
//! server with one thread a connection does not need.
//!
//! # What bounds a client
//!
//! Each of these is a setting in [`Config`], and each is answered with the error that RFC 9113
//! names, or with ENHANCE_YOUR_CALM: the size of frames, of headers (encoded, decoded, in pieces,
//! in time), the streams at once, the bytes in flight in both directions, streams opened to be
//! reset (CVE-2023-44487), pings, settings and empty frames (CVE-2019-9512, 9515, 9518), header
//! blocks without end (CVE-2024-27316). Whoever drives a connection stops reading while it is
//! [congested](Connection::is_congested), so that nothing a client sends makes us queue without
//! bound (CVE-2019-9517).
//!
//! # Caveats
//!
//! - Priorities are ignored: streams take turns.
//! - `:authority` is not checked: some clients of etcd put a whole URL there.
//! - Trailers of requests end them, and are otherwise ignored. There is no push and no CONNECT.
//! - `max_frame_size` of the client is not used beyond 16,384: a larger frame would only make the
//!   other streams wait.

mod config;
mod connection;
mod error;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod head;
mod hpack;
mod mutant;
mod output;

#[cfg(test)]
mod tests;

pub use config::{Budget, Config, WORDS_MAX};
pub use connection::{Connection, Event, Fields, StreamId, Tag};
pub use error::{Code, Fault};
pub use head::{Head, Method};

/// What a client of HTTP/2 sends first; one of HTTP/1 never does.
pub const PREFACE: &[u8] = frame::PREFACE;
