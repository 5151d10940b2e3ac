//! Chance: streams cut anywhere, bytes that mean nothing, and a model of flow control; and the
//! broken lines that all of it must notice.

use std::collections::BTreeMap;

use hunt::Hunt;

use super::client::{World, config, data, raw, request, settings, window};
use super::rules;
use crate::frame;
use crate::mutant::{Mutant, ON};
use crate::{Code, Config, Event, StreamId, Tag};

/// A small generator (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn size(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }
}

/// Events as text, data of one stream put together: it may come in other pieces.
fn story(events: Vec<Event>) -> String {
    let mut story = String::new();
    for event in events {
        match event {
            Event::Data { stream, bytes, end, .. } => {
                story += &format!("{stream:?} {bytes:?} {end}; ");
            }
            other => story += &format!("{other:?}; "),
        }
    }
    story
}

#[test]
fn however_the_bytes_are_cut_the_same_happens() {
    let mut bytes = frame::PREFACE.to_vec();
    bytes.extend(settings(&[(frame::SETTING_INITIAL_WINDOW_SIZE, 10)]));
    for stream in [1, 3, 5, 7] {
        bytes.extend(raw(frame::HEADERS, 0, stream, &[0x83]));
        bytes.extend(raw(frame::CONTINUATION, 4, stream, &[0x84, 0x86, 0x40, 1, b'a', 1, b'b']));
        bytes.extend(raw(frame::DATA, frame::PADDED, stream, b"\x03hello...\0\0\0"));
    }
    bytes.extend(window(3, 100));
    bytes.extend(raw(frame::RST_STREAM, 0, 5, &[0, 0, 0, 8]));
    for stream in [7, 1, 3] {
        bytes.extend(data(stream, &[7; 300], true));
    }
    bytes.extend(raw(frame::PING, 0, 0, b"deadbeef"));
    bytes.extend(data(9, b"fault", true));
    let mut whole = World::silent(config());
    let expected = story(whole.send(&bytes));
    let answer = whole.take(usize::MAX);
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut world = World::silent(config());
        let (mut rest, mut events) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((1 + dice.size(60)).min(rest.len()));
            events.extend(world.send(part));
            rest = behind;
        }
        assert_eq!(story(events), expected, "seed {seed}");
        assert_eq!(world.take(usize::MAX), answer, "seed {seed}");
    }
}

#[test]
fn no_bytes_make_it_panic() {
    for seed in 0..3000 {
        let mut dice = Dice(seed);
        let mut world = World::new(Config { streams_max: 4, ..config() });
        for _ in 0..60 {
            let stream = u32::try_from(dice.below(12)).unwrap();
            let kind = u8::try_from(dice.below(11)).unwrap();
            let flags = u8::try_from(dice.roll() & 0x2d).unwrap();
            let length =
                if dice.below(2) == 0 { dice.size(40) } else { [4, 5, 6, 8][dice.size(4)] };
            let mut payload: Vec<u8> = (0..length).map(|_| dice.roll().to_le_bytes()[0]).collect();
            if kind == frame::HEADERS && dice.below(2) == 0 {
                payload = super::client::BLOCK.to_vec();
            }
            for event in world.send(&raw(kind, flags, stream, &payload)) {
                if let Event::Request { stream, .. } = event
                    && dice.below(2) == 0
                {
                    world.answer(stream.0, &[1; 100]);
                }
            }
            world.take(dice.size(400));
        }
    }
}

/// A client that keeps to the protocol and checks that we do.
struct Model {
    dice: Dice,
    world: World,
    /// What we may still send: of the connection, of each stream, of a new stream.
    window: i64,
    windows: BTreeMap<u32, i64>,
    initial: i64,
    /// What the client may still send.
    own_window: i64,
    own_windows: BTreeMap<u32, i64>,
    /// What was received by the server and not released.
    unreleased: Vec<(u32, usize)>,
    expected: BTreeMap<u32, Vec<u8>>,
    open: Vec<u32>,
    next: u32,
    resets: Vec<u32>,
}

const OWN_WINDOW: u32 = 70_000;

impl Model {
    fn new(seed: u64) -> Model {
        let world = World::new(Config {
            stream_window_bytes: OWN_WINDOW,
            connection_window_bytes: OWN_WINDOW,
            output_bytes_max: 5000,
            share_bytes_min: 700,
            stream_send_bytes: 1 << 30,
            ..config()
        });
        Model {
            dice: Dice(seed),
            world,
            window: 65_535,
            windows: BTreeMap::new(),
            initial: 65_535,
            own_window: i64::from(OWN_WINDOW),
            own_windows: BTreeMap::new(),
            unreleased: Vec::new(),
            expected: BTreeMap::new(),
            open: Vec::new(),
            next: 1,
            resets: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        for event in self.world.send(bytes) {
            match event {
                Event::Data { stream, bytes, .. } => {
                    self.unreleased.push((stream.0, bytes.len()));
                }
                Event::Failed(fault) => panic!("the client keeps to the protocol: {fault}"),
                Event::Reset { .. } | Event::Request { .. } => {}
            }
        }
    }

    /// Reads some of what we send, and holds it against the windows.
    fn read(&mut self) {
        let frames = self.world.frames();
        for frame in frames {
            match frame.kind {
                frame::DATA => {
                    let length = i64::try_from(frame.payload.len()).unwrap();
                    self.window -= length;
                    assert!(self.window >= 0, "the connection's window is kept");
                    let window = self.windows.get_mut(&frame.stream).unwrap();
                    *window -= length;
                    assert!(*window >= 0 || length == 0, "the stream's window is kept");
                }
                frame::WINDOW_UPDATE => {
                    let more = i64::from(u32::from_be_bytes(frame.payload.try_into().unwrap()));
                    match frame.stream {
                        0 => self.own_window += more,
                        stream => *self.own_windows.entry(stream).or_default() += more,
                    }
                }
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        match self.dice.below(12) {
            0 if self.open.len() < 8 => {
                let stream = self.next;
                self.next += 2;
                self.windows.insert(stream, self.initial);
                self.own_windows.insert(stream, i64::from(OWN_WINDOW));
                self.send(&request(stream, false));
                self.world.connection.set_tag(StreamId(stream), Some(Tag(stream)));
                self.world.connection.send_head(StreamId(stream), 200, &super::client::HEAD, false);
                self.open.push(stream);
            }
            1..=4 if !self.open.is_empty() => {
                let stream = self.open[self.dice.size(self.open.len())];
                let length = self.dice.size(3000);
                let bytes = vec![self.dice.roll().to_le_bytes()[0]; length];
                self.expected.entry(stream).or_default().extend_from_slice(&bytes);
                self.world.connection.send_data(StreamId(stream), bytes.into(), false);
            }
            5 | 6 if !self.open.is_empty() => self.upload(),
            7 => {
                let more = u32::try_from(1 + self.dice.below(20_000)).unwrap();
                self.window += i64::from(more);
                self.send(&window(0, more));
            }
            8 if !self.open.is_empty() => {
                let stream = self.open[self.dice.size(self.open.len())];
                let more = u32::try_from(1 + self.dice.below(9_000)).unwrap();
                *self.windows.get_mut(&stream).unwrap() += i64::from(more);
                self.send(&window(stream, more));
            }
            9 => {
                let initial = u32::try_from(self.dice.below(30_000)).unwrap();
                let difference = i64::from(initial) - self.initial;
                // What is on its way was sent under the old windows.
                self.read();
                self.initial = i64::from(initial);
                self.windows.values_mut().for_each(|window| *window += difference);
                self.send(&settings(&[(frame::SETTING_INITIAL_WINDOW_SIZE, initial)]));
            }
            10 if !self.unreleased.is_empty() => {
                let at = self.dice.size(self.unreleased.len());
                let (stream, bytes) = self.unreleased.swap_remove(at);
                self.world.connection.release(StreamId(stream), bytes);
            }
            11 if self.open.len() > 6 => {
                let stream = self.open.remove(0);
                if self.dice.below(2) == 0 {
                    self.world.connection.send_trailers(StreamId(stream), super::client::TRAILERS);
                } else {
                    self.resets.push(stream);
                    self.world.connection.reset(StreamId(stream), Code::CANCEL);
                }
            }
            _ => self.read(),
        }
    }

    /// Sends what the client's windows allow.
    fn upload(&mut self) {
        let stream = self.open[self.dice.size(self.open.len())];
        let padding = self.dice.size(100);
        let room = self.own_window.min(self.own_windows[&stream]);
        let length = self.dice.size(9000);
        let total = i64::try_from(length + padding + 1).unwrap();
        if total > room {
            return;
        }
        self.own_window -= total;
        *self.own_windows.get_mut(&stream).unwrap() -= total;
        let mut payload = vec![u8::try_from(padding).unwrap()];
        payload.resize(1 + length + padding, 0);
        self.send(&raw(frame::DATA, frame::PADDED, stream, &payload));
    }

    /// Opens all windows: everything must arrive, and all that was received be given back.
    fn finish(mut self) {
        for (stream, bytes) in std::mem::take(&mut self.unreleased) {
            self.world.connection.release(StreamId(stream), bytes);
        }
        self.read();
        for stream in std::mem::take(&mut self.open) {
            let unreleased = self.world.connection.unreleased(StreamId(stream));
            assert_eq!(unreleased, Some(0), "what stream {stream} received is given back");
            self.world.connection.send_trailers(StreamId(stream), super::client::TRAILERS);
        }
        self.read();
        self.window += 100_000_000;
        self.send(&window(0, 100_000_000));
        let streams: Vec<u32> = self.windows.keys().copied().collect();
        for stream in streams {
            *self.windows.get_mut(&stream).unwrap() += 100_000_000;
            self.send(&window(stream, 100_000_000));
        }
        self.read();
        for (stream, expected) in &self.expected {
            let answer = &self.world.answers[stream];
            if self.resets.contains(stream) {
                assert!(expected.starts_with(&answer.data), "stream {stream}");
            } else {
                assert!(answer.ended, "stream {stream} ends");
                assert!(answer.data == *expected, "stream {stream} is whole");
            }
        }
        assert_eq!(self.world.connection.open_streams(), 0);
        let given = self.own_window >= i64::from(OWN_WINDOW / 2);
        assert!(given, "what was received is given back: {}", self.own_window);
    }
}

fn model(seeds: u64) {
    for seed in 0..seeds {
        let mut model = Model::new(seed);
        for _ in 0..600 {
            model.step();
        }
        model.finish();
    }
}

#[test]
fn windows_are_kept_and_everything_arrives() {
    model(200);
}

/// What must notice a broken line, one after the other.
const CHECKS: [fn(); 4] = [
    || model(30),
    rules::streams_take_turns,
    rules::a_client_that_sends_too_much_is_stopped,
    rules::streams_beyond_the_bound_are_refused,
];

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("http2");
    for mutant in Mutant::ALL {
        hunt.mutant(mutant, None, 0..CHECKS.len() as u64, |check, mutant| {
            ON.set(mutant);
            let _off = Off;
            CHECKS[usize::try_from(check).unwrap()]();
            Ok(())
        });
    }
    hunt.end();
}

/// Nothing is broken any more.
struct Off;

impl Drop for Off {
    fn drop(&mut self) {
        ON.set(None);
    }
}
