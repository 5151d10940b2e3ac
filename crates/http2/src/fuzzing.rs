//! What this crate promises of any bytes of a client, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use crate::config::{Budget, Config};
use crate::connection::{Connection, Event, Fields, StreamId};
use crate::frame;
use crate::hpack::{Decoder, Encoder, Field, huffman};

const REPEATED: &[(&str, &str)] = &[("content-type", "application/grpc"), ("grpc-status", "0")];

fn config() -> Config {
    Config {
        words: &["content-type", "grpc-timeout"],
        repeated: REPEATED,
        streams_max: 4,
        resets: Budget { burst: 20, per_second: 1 },
        idle_frames: Budget { burst: 20, per_second: 1 },
        ..Config::default()
    }
}

/// A connection and what happened on it.
struct World {
    connection: Connection,
    input: BytesMut,
    story: String,
    written: Vec<u8>,
    failed: bool,
}

impl World {
    fn new() -> World {
        World {
            connection: Connection::new(Duration::ZERO, Arc::new(config())),
            input: BytesMut::new(),
            story: String::new(),
            written: Vec::new(),
            failed: false,
        }
    }

    /// Takes bytes in; each request is answered at once if `answer` says so.
    fn receive(&mut self, bytes: &[u8], answer: bool) {
        self.input.extend_from_slice(bytes);
        while let Some(event) = self.connection.next_event(Duration::ZERO, &mut self.input) {
            let _infallible = match &event {
                Event::Data { stream, bytes, end, .. } => {
                    write!(self.story, "{stream:?} {bytes:?} {end}; ")
                }
                other => write!(self.story, "{other:?}; "),
            };
            match event {
                Event::Request { stream, .. } if answer => self.answer(stream),
                Event::Data { stream, bytes, .. } if answer => {
                    self.connection.release(stream, bytes.len());
                }
                Event::Failed(_) => self.failed = true,
                _ => {}
            }
        }
        assert!(!self.failed || self.connection.open_streams() == 0, "a fault ends all streams");
    }

    fn answer(&mut self, stream: StreamId) {
        self.connection.send_head(stream, 200, &Fields::Fixed(REPEATED), false);
        self.connection.send_data(stream, vec![7; 300].into(), false);
        self.connection.send_trailers(stream, Fields::Fixed(&[("grpc-status", "0")]));
    }

    /// Everything that is to be written is whole frames.
    fn write(&mut self) {
        loop {
            self.connection.pump();
            let mut slices = [IoSlice::new(&[]); 8];
            let count = self.connection.slices(&mut slices);
            let before = self.written.len();
            slices[..count].iter().for_each(|slice| self.written.extend_from_slice(slice));
            let more = self.written.len() - before;
            self.connection.wrote(more);
            if more == 0 {
                return;
            }
        }
    }

    fn check_written(&self) {
        let mut rest = &self.written[..];
        while let Some(head) = frame::Head::read(rest) {
            let end = frame::HEAD_BYTES + head.length;
            assert!(end <= rest.len() && head.length <= 16_384, "whole frames, of a legal size");
            rest = &rest[end..];
        }
        assert!(rest.is_empty(), "whole frames");
    }
}

/// What a client sends. A byte in front says into how long pieces it is cut; however it is, the
/// same happens, and what is answered is whole frames.
#[must_use]
pub fn connection(data: &[u8]) -> bool {
    let Some((&cut, bytes)) = data.split_first() else { return false };
    let (mut whole, mut pieces, mut served) = (World::new(), World::new(), World::new());
    whole.receive(bytes, false);
    for piece in bytes.chunks(usize::from(cut).max(1)) {
        pieces.receive(piece, false);
        served.receive(piece, true);
        served.write();
    }
    assert_eq!(whole.story, pieces.story, "however the bytes are cut, the same happens");
    whole.write();
    pieces.write();
    assert_eq!(whole.written, pieces.written, "and the same is answered");
    whole.check_written();
    served.check_written();
    let deadline = served.connection.next_deadline();
    let late = served.connection.tick(deadline);
    served.write();
    served.check_written();
    !whole.failed && late.is_ok()
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::head(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

/// Connections on which every kind of frame comes.
#[must_use]
pub fn connection_samples() -> Vec<Vec<u8>> {
    let mut hello = vec![40];
    hello.extend(frame::PREFACE);
    frame::settings(&mut hello, &[(frame::SETTING_INITIAL_WINDOW_SIZE, 10)]);
    let block = [0x83, 0x84, 0x86];
    let request = raw(frame::HEADERS, frame::END_HEADERS, 1, &block);
    let data = raw(frame::DATA, frame::PADDED, 1, b"\x03hello...\0\0\0");
    let end = raw(frame::DATA, 1, 1, b"end");
    let split = [
        raw(frame::HEADERS, 0, 3, &block[..1]),
        raw(frame::CONTINUATION, 4, 3, &[0x84, 0x86, 0x40, 1, b'a', 1, b'b']),
    ];
    let window = raw(frame::WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes());
    let reset = raw(frame::RST_STREAM, 0, 3, &[0, 0, 0, 8]);
    let ping = raw(frame::PING, 0, 0, b"deadbeef");
    let away = raw(frame::GOAWAY, 0, 0, &[0; 8]);
    let priority = raw(frame::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]);
    let call = [&hello[..], &request, &data, &window, &end].concat();
    let all = [&call[..], &split.concat(), &reset, &ping, &priority, &away].concat();
    vec![hello, call, all]
}

/// Blocks of headers, a byte of length before each: what is decoded and encoded by us decodes to
/// the same. And a text in Huffman code, of which there is one encoding.
#[must_use]
pub fn header_blocks(data: &[u8]) -> bool {
    let mut text = Vec::new();
    if huffman::decode(data, &mut text).is_ok() {
        assert_eq!(huffman::encode(&text), data, "a text has one Huffman code");
    }
    let mut decoder = Decoder::new(4096, &["content-type"]);
    let (mut ours, mut theirs) = (Encoder::new(REPEATED), Decoder::new(4096, &["content-type"]));
    let mut rest = data;
    while let [length, behind @ ..] = rest {
        let (block, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        let mut fields = Vec::new();
        if decoder.decode(block, &mut |field| fields.push(owned(field))).is_err() {
            return false;
        }
        let mut encoded = Vec::new();
        ours.begin(&mut encoded);
        for (name, value, _) in &fields {
            ours.field(&mut encoded, name, value);
        }
        let mut again = Vec::new();
        let decoded = theirs.decode(&encoded, &mut |field| again.push(owned(field)));
        assert!(decoded.is_ok() && again == fields, "fields survive the way");
    }
    true
}

fn owned(field: Field<'_>) -> (Vec<u8>, Vec<u8>, bool) {
    assert!(field.size() >= 32, "RFC 7541 §4.1");
    (field.name.to_vec(), field.value.to_vec(), field.valid)
}

/// Blocks of every form, and the repeated fields.
#[must_use]
pub fn header_blocks_samples() -> Vec<Vec<u8>> {
    let block = |bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("samples are short");
        [&[length], bytes].concat()
    };
    let coded = huffman::encode(b"www.example.com");
    let mut literal = vec![0x41, 0x80 | u8::try_from(coded.len()).expect("short")];
    literal.extend(&coded);
    let plain = block(&[0x83, 0x84, 0x86]);
    let named = block(b"\x40\x0acustom-key\x0dcustom-header");
    let resized = block(&[0x20, 0x3f, 0xe1, 0x1f, 0xbe]);
    let all = [&named[..], &block(&literal), &block(&[0xbe, 0xbf]), &resized, &plain].concat();
    vec![plain, named, block(&literal), coded, all]
}
