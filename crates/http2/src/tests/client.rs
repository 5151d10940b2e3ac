//! A client of frames.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::frame;
use crate::hpack::{Decoder, Field};
use crate::{Code, Config, Connection, Event, Fields, StreamId};

pub(super) const WORDS: &[&str] = &["content-type", "grpc-timeout"];
pub(super) const HEAD: Fields = Fields::Fixed(&[("content-type", "application/grpc")]);
pub(super) const TRAILERS: Fields = Fields::Fixed(&[("grpc-status", "0")]);

/// A frame of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What a stream has received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) fields: Vec<String>,
    pub(super) data: Vec<u8>,
    pub(super) ended: bool,
}

pub(super) struct World {
    pub(super) connection: Connection,
    pub(super) now: Duration,
    pub(super) input: BytesMut,
    decoder: Decoder,
    pub(super) answers: BTreeMap<u32, Answer>,
}

pub(super) fn config() -> Config {
    Config {
        words: WORDS,
        repeated: &[("content-type", "application/grpc"), ("grpc-status", "0")],
        ..Config::default()
    }
}

pub(super) fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

/// POST / of http, and nothing else.
pub(super) const BLOCK: &[u8] = &[0x83, 0x84, 0x86];

pub(super) fn request(stream: u32, end: bool) -> Vec<u8> {
    raw(frame::HEADERS, frame::END_HEADERS | u8::from(end), stream, BLOCK)
}

pub(super) fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    raw(frame::DATA, u8::from(end), stream, bytes)
}

pub(super) fn window(stream: u32, more: u32) -> Vec<u8> {
    raw(frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(&mut out, settings);
    out
}

impl World {
    /// A connection that nobody has said anything on.
    pub(super) fn silent(config: Config) -> World {
        World {
            connection: Connection::new(Duration::ZERO, Arc::new(config)),
            now: Duration::ZERO,
            input: BytesMut::new(),
            decoder: Decoder::new(4096, &[]),
            answers: BTreeMap::new(),
        }
    }

    /// A connection that has been set up.
    pub(super) fn new(config: Config) -> World {
        let mut world = World::silent(config);
        let mut hello = frame::PREFACE.to_vec();
        hello.extend(settings(&[]));
        assert!(world.send(&hello).is_empty());
        world.frames();
        world
    }

    /// Sends bytes; what happens.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.connection.next_event(self.now, &mut self.input) {
            events.push(event);
        }
        events
    }

    /// Takes at most `max` bytes of what is to be written.
    pub(super) fn take(&mut self, max: usize) -> Vec<u8> {
        self.connection.pump();
        let mut slices = [IoSlice::new(&[]); 8];
        let count = self.connection.slices(&mut slices);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(max);
        self.connection.wrote(bytes.len());
        bytes
    }

    /// Everything that is to be written, as frames. Data and headers are put together in
    /// `answers`.
    pub(super) fn frames(&mut self) -> Vec<Frame> {
        let mut bytes = Vec::new();
        loop {
            let part = self.take(usize::MAX);
            if part.is_empty() {
                break;
            }
            bytes.extend(part);
        }
        self.read(&bytes)
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(head) = frame::Head::read(bytes) {
            let (payload, rest) = bytes[frame::HEAD_BYTES..].split_at(head.length);
            bytes = rest;
            let frame = Frame {
                kind: head.kind,
                flags: head.flags,
                stream: head.stream,
                payload: payload.to_vec(),
            };
            self.note(&frame);
            frames.push(frame);
        }
        assert!(bytes.is_empty(), "whole frames");
        frames
    }

    fn note(&mut self, frame: &Frame) {
        let answer = self.answers.entry(frame.stream).or_default();
        match frame.kind {
            frame::HEADERS => {
                assert!(frame.flags & frame::END_HEADERS != 0);
                let sink = &mut |field: Field<'_>| {
                    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
                    answer.fields.push(format!("{}={}", text(&field.name), text(&field.value)));
                };
                self.decoder.decode(&frame.payload, sink).unwrap();
            }
            frame::DATA => answer.data.extend_from_slice(&frame.payload),
            _ => return,
        }
        assert!(!answer.ended, "nothing comes behind the end");
        answer.ended = frame.flags & frame::END_STREAM != 0;
    }

    /// What the connection said when it ended.
    pub(super) fn goaway(&mut self) -> Option<(Code, String)> {
        let frames = self.frames();
        let last = frames.iter().rfind(|frame| frame.kind == frame::GOAWAY)?;
        let code = Code(u32::from_be_bytes(last.payload[4..8].try_into().unwrap()));
        Some((code, String::from_utf8_lossy(&last.payload[8..]).into_owned()))
    }

    /// With what the stream was reset, if it was.
    pub(super) fn reset_of(&mut self, stream: u32) -> Option<Code> {
        let frames = self.frames();
        let is_it = |frame: &&Frame| frame.kind == frame::RST_STREAM && frame.stream == stream;
        let found = frames.iter().find(is_it)?;
        Some(Code(u32::from_be_bytes(found.payload[..].try_into().unwrap())))
    }

    /// Answers a call well.
    pub(super) fn answer(&mut self, stream: u32, bytes: &[u8]) {
        let stream = StreamId(stream);
        self.connection.send_head(stream, 200, &HEAD, false);
        self.connection.send_data(stream, bytes.to_vec().into(), false);
        self.connection.send_trailers(stream, TRAILERS);
    }
}
