//! One connection: frames in, events out; answers in, bytes out.
//!
//! - `receive.rs` reads frames, `control.rs` those that are about the
//!   connection, `send.rs` writes, `streams.rs` keeps the streams.
//!
//! `INVARIANT:` every byte that the client may send is counted in exactly one place: in its
//! window, in `unreleased` of a stream, or in `untold` (of a stream, of the connection).
//!
//! `INVARIANT:` a stream stands in the line of senders if and only if it has data, or an end, to
//! send and its own window allows it; the connection's window holds up the whole line.

mod control;
mod receive;
mod send;
mod streams;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::{Config, Meter};
use crate::error::{Code, Fault, fault};
use crate::frame;
use crate::head::Head;
use crate::hpack::{Decoder, Encoder};
use crate::output::Output;
use streams::Streams;

pub use send::Fields;

/// The window of a connection before anybody says otherwise (RFC 9113 §6.9.2).
const WINDOW_BEFORE: u32 = 65_535;

/// The largest number of a stream: in a GOAWAY that only announces.
const STREAM_MAX: u32 = 0x7fff_ffff;

/// What the PING behind that GOAWAY carries.
const SHUTDOWN_PING: [u8; 8] = *b"shutdown";

/// What the PINGs that ask for a sign of life carry.
const KEEPALIVE_PING: [u8; 8] = *b"alive???";

/// The number of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u32);

/// What the caller has attached to a stream, to find its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub u32);

/// Something a client did.
#[derive(Debug)]
pub enum Event {
    /// A stream begins.
    Request {
        /// The stream.
        stream: StreamId,
        /// What is asked.
        head: Box<Head>,
        /// Nothing follows.
        end: bool,
    },
    /// A piece of the request. Its bytes count against the windows until they are given to
    /// [`Connection::release`].
    Data {
        /// The stream.
        stream: StreamId,
        /// What the caller attached.
        tag: Option<Tag>,
        /// The bytes; perhaps none.
        bytes: Bytes,
        /// Nothing follows.
        end: bool,
    },
    /// The stream has ended before its time, by the client's will or its fault. Nothing can be
    /// sent on it any more.
    Reset {
        /// The stream.
        stream: StreamId,
        /// What the caller attached.
        tag: Option<Tag>,
        /// Why.
        code: Code,
    },
    /// The connection has ended by the client's fault: all streams are gone, and only what
    /// [`Connection::slices`] has is still to be written.
    Failed(Fault),
}

/// What the client says of itself in its settings.
#[derive(Debug)]
struct Peer {
    initial_window: i64,
    frame_bytes_max: usize,
}

/// A header block that is not complete.
#[derive(Debug)]
struct Block {
    stream: u32,
    flags: u8,
    bytes: BytesMut,
    continuations: u32,
    deadline: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The preface is awaited.
    Preface,
    /// The first settings are awaited.
    Settings,
    Open,
    /// It was announced that no new streams are taken.
    Announced,
    /// New streams are not taken.
    Draining,
    /// Ended by a fault.
    Failed,
}

/// A connection, seen from the server.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    phase: Phase,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams,
    peer: Peer,
    /// The highest number of a client's stream.
    last_stream: u32,
    block: Option<Block>,
    /// Bytes all streams together may still receive, and those released but not yet told.
    recv_window: i64,
    untold: u32,
    /// Bytes all streams together may send.
    send_window: i64,
    output: Output,
    scratch: Vec<u8>,
    /// Streams with something to send, by place.
    line: VecDeque<usize>,
    /// Senders that waited and have room.
    roomy: Vec<Tag>,
    /// Bytes queued in all streams.
    held: usize,
    resets: Meter,
    idle_frames: Meter,
    pings: control::Pings,
    /// When the preface has to be complete.
    begin_deadline: Duration,
    last_received: Duration,
    /// Until when a sign of life has to come.
    alive_deadline: Option<Duration>,
    peer_leaves: bool,
}

impl Connection {
    /// A connection that has just been accepted. Our settings are the first it sends.
    #[must_use]
    pub fn new(now: Duration, config: Arc<Config>) -> Connection {
        let mut output = Output::default();
        let settings = [
            (frame::SETTING_HEADER_TABLE_SIZE, config.header_table_bytes),
            (frame::SETTING_INITIAL_WINDOW_SIZE, config.stream_window_bytes),
            (frame::SETTING_MAX_FRAME_SIZE, config.frame_bytes_max),
            (frame::SETTING_MAX_HEADER_LIST_SIZE, config.header_list_bytes_max),
            (frame::SETTING_MAX_CONCURRENT_STREAMS, config.streams_max),
        ];
        // No bound is said by saying nothing.
        let said = if config.streams_max == u32::MAX { 4 } else { 5 };
        frame::settings(output.tail(), &settings[..said]);
        let window = config.connection_window_bytes.max(WINDOW_BEFORE);
        if window > WINDOW_BEFORE {
            frame::window_update(output.tail(), 0, window - WINDOW_BEFORE);
        }
        let table = usize::try_from(config.header_table_bytes).unwrap_or(usize::MAX);
        Connection {
            phase: Phase::Preface,
            decoder: Decoder::new(table, config.words),
            encoder: Encoder::new(config.repeated),
            streams: Streams::default(),
            peer: Peer { initial_window: i64::from(WINDOW_BEFORE), frame_bytes_max: 16_384 },
            last_stream: 0,
            block: None,
            recv_window: i64::from(window),
            untold: 0,
            send_window: i64::from(WINDOW_BEFORE),
            output,
            scratch: Vec::new(),
            line: VecDeque::new(),
            roomy: Vec::new(),
            held: 0,
            resets: Meter::new(now, config.resets),
            idle_frames: Meter::new(now, config.idle_frames),
            pings: control::Pings::default(),
            begin_deadline: now + config.header_timeout,
            last_received: now,
            alive_deadline: None,
            peer_leaves: false,
            config,
        }
    }

    /// Attaches `tag` to a stream, or takes it away.
    pub fn set_tag(&mut self, stream: StreamId, tag: Option<Tag>) {
        if let Some((_, stream)) = self.streams.get(stream) {
            stream.tag = tag;
        }
    }

    /// Streams that are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// When [`Connection::tick`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Duration {
        let mut deadline = match self.alive_deadline {
            Some(deadline) => deadline,
            None => self.last_received.saturating_add(self.config.keepalive_interval),
        };
        if let Some(block) = &self.block {
            deadline = deadline.min(block.deadline);
        }
        if matches!(self.phase, Phase::Preface | Phase::Settings) {
            deadline = deadline.min(self.begin_deadline);
        }
        deadline
    }

    /// Does what is due: asks a silent client for a sign of life, gives up one that gave none.
    ///
    /// # Errors
    /// If the client has taken too long; the connection has ended then.
    pub fn tick(&mut self, now: Duration) -> Result<(), Fault> {
        if self.phase == Phase::Failed || now < self.next_deadline() {
            return Ok(());
        }
        let begins = matches!(self.phase, Phase::Preface | Phase::Settings);
        let late = if begins && now >= self.begin_deadline {
            Some("the preface took too long")
        } else if self.block.as_ref().is_some_and(|block| now >= block.deadline) {
            Some("a header block took too long")
        } else if self.alive_deadline.is_some_and(|deadline| now >= deadline) {
            Some("no sign of life")
        } else {
            None
        };
        if let Some(reason) = late {
            let fault = fault(Code::NO_ERROR, reason);
            self.fail(fault);
            return Err(fault);
        }
        if self.alive_deadline.is_none()
            && now >= self.last_received.saturating_add(self.config.keepalive_interval)
        {
            frame::ping(self.output.tail(), 0, KEEPALIVE_PING);
            self.alive_deadline = Some(now.saturating_add(self.config.keepalive_timeout));
        }
        Ok(())
    }

    /// Announces that no new streams will be taken, and takes none from the moment on at which
    /// the client must have heard it (RFC 9113 §6.8). Streams that are open go on.
    pub fn shutdown(&mut self) {
        if matches!(self.phase, Phase::Preface | Phase::Settings | Phase::Open) {
            self.phase = Phase::Announced;
            frame::goaway(self.output.tail(), STREAM_MAX, Code::NO_ERROR, "");
            frame::ping(self.output.tail(), 0, SHUTDOWN_PING);
        }
    }

    /// Whether nothing can happen any more: ended by a fault, or told to stop by either side with
    /// no stream left, and everything written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let is_ending = match self.phase {
            Phase::Failed => return self.output.len() == 0,
            Phase::Draining => true,
            Phase::Preface | Phase::Settings | Phase::Open | Phase::Announced => self.peer_leaves,
        };
        is_ending && self.streams.len() == 0 && self.output.len() == 0
    }

    /// Bytes that are ready to be written.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    /// Whether the client reads so slowly that nothing more should be read from it: what it asks
    /// for, and every answer that the protocol itself demands, would only be queued. Data that
    /// takes its turns fills the output half as far: a long list does not stop requests.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.output.len() >= 2 * self.config.output_bytes_max
    }

    /// What is to be written, as far as `slices` has room; returns how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.output.slices(slices)
    }

    /// The first `count` bytes of the output have been written. [`Connection::pump`] fills it up
    /// again.
    ///
    /// # Panics
    /// If there were fewer.
    pub fn wrote(&mut self, count: usize) {
        self.output.wrote(count);
    }

    /// A sender that waited for room and has it now; see [`Connection::has_room`].
    pub fn next_roomy(&mut self) -> Option<Tag> {
        self.roomy.pop()
    }

    /// Ends the connection: says why, forgets all streams.
    fn fail(&mut self, fault: Fault) {
        if self.phase == Phase::Failed {
            return;
        }
        self.phase = Phase::Failed;
        self.block = None;
        for place in self.streams.places() {
            self.forget(place, false);
        }
        frame::goaway(self.output.tail(), self.last_stream, fault.code, fault.reason);
    }
}
