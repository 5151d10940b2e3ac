//! Each way to misbehave, and what answers it. The sections are those of RFC 9113.

use std::time::Duration;

use super::client::{self, BLOCK, World, config, data, raw, request, settings, window};
use crate::frame;
use crate::{Budget, Code, Config, Event, Method, StreamId};

/// What the connection ends with when it receives `bytes`.
fn fatal(bytes: &[u8]) -> Code {
    fatal_in(config(), bytes).0
}

fn fatal_in(config: Config, bytes: &[u8]) -> (Code, String) {
    let mut world = World::new(config);
    let events = world.send(bytes);
    let Some(Event::Failed(fault)) = events.last() else { panic!("{events:?}") };
    let said = world.goaway().expect("it says why");
    assert_eq!(said, (fault.code, fault.reason.to_owned()));
    assert!(world.connection.is_done());
    said
}

/// What the stream is reset with.
fn reset(world: &mut World, stream: u32, bytes: &[u8]) -> Option<Code> {
    let events = world.send(bytes);
    assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
    world.reset_of(stream)
}

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    raw(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, block)
}

/// A field that is written out.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let mut out = vec![0, length(name)];
    out.extend_from_slice(name.as_bytes());
    out.push(length(value));
    out.extend_from_slice(value.as_bytes());
    out
}

#[test]
fn a_call_is_received_and_answered() {
    let mut world = World::new(config());
    let block = [BLOCK, &field("grpc-timeout", "5S"), &field("x", "y")].concat();
    let head = raw(frame::HEADERS, frame::END_HEADERS, 1, &block);
    let events = world.send(&[head, data(1, b"question", true)].concat());
    let [Event::Request { stream, head, end: false }, Event::Data { bytes, end: true, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((*stream, &head.method, &head.path[..]), (StreamId(1), &Method::Post, &b"/"[..]));
    assert_eq!(head.word(1).map(|word| &word[..]), Some(&b"5S"[..]));
    assert_eq!(head.other(b"x").map(|word| &word[..]), Some(&b"y"[..]));
    assert_eq!(bytes, "question");
    world.answer(1, b"answer");
    world.frames();
    let answer = &world.answers[&1];
    assert_eq!(answer.fields, [":status=200", "content-type=application/grpc", "grpc-status=0"]);
    assert_eq!((&answer.data[..], answer.ended), (&b"answer"[..], true));
    assert_eq!(world.connection.open_streams(), 0);
}

#[test]
fn an_answer_before_the_end_of_the_question_ends_the_stream() {
    let mut world = World::new(config());
    world.send(&request(1, false));
    world.answer(1, b"no");
    assert_eq!(world.reset_of(1), Some(Code::NO_ERROR));
    // What was under way is ignored, but counted.
    assert_eq!(reset(&mut world, 1, &data(1, b"late", true)), None);
}

/// §8.3.1, leniently: etcdctl 3.4 writes a URL there.
#[test]
fn an_authority_may_be_anything() {
    let mut world = World::new(config());
    let block = [BLOCK, &field(":authority", "http://127.0.0.1:2379/")].concat();
    let events = world.send(&headers(1, &block));
    let [Event::Request { head, end: true, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(head.authority.as_deref(), Some(&b"http://127.0.0.1:2379/"[..]));
}

/// §3.4
#[test]
fn the_preface_is_not_negotiable() {
    let mut world = World::silent(config());
    let events = world.send(b"PRI * HTTP/2.0\r\n\r\nXX");
    assert!(matches!(events[..], [Event::Failed(fault)] if fault.code == Code::PROTOCOL_ERROR));
    let mut world = World::silent(config());
    world.send(frame::PREFACE);
    let events = world.send(&raw(frame::PING, 0, 0, &[0; 8]));
    assert!(matches!(events[..], [Event::Failed(fault)] if fault.code == Code::PROTOCOL_ERROR));
}

/// §4.2, §6: sizes, numbers and places of frames.
#[test]
fn frames_that_cannot_be_end_the_connection() {
    let five = request(5, true);
    for (bytes, code, why) in [
        (raw(frame::DATA, 0, 1, &[0; 16_385]), Code::FRAME_SIZE_ERROR, "too large"),
        (raw(frame::PING, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR, "a short ping"),
        (raw(frame::PING, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR, "a ping of a stream"),
        (raw(frame::SETTINGS, 0, 0, &[0; 5]), Code::FRAME_SIZE_ERROR, "cut settings"),
        (raw(frame::SETTINGS, 1, 0, &[0; 6]), Code::FRAME_SIZE_ERROR, "an ack with settings"),
        (raw(frame::SETTINGS, 0, 3, &[]), Code::PROTOCOL_ERROR, "settings of a stream"),
        (settings(&[(2, 2)]), Code::PROTOCOL_ERROR, "push, twice"),
        (settings(&[(4, 1 << 31)]), Code::FLOW_CONTROL_ERROR, "a window too large"),
        (settings(&[(5, 16_383)]), Code::PROTOCOL_ERROR, "frames too small"),
        (settings(&[(5, 1 << 24)]), Code::PROTOCOL_ERROR, "frames too large"),
        (data(0, b"x", false), Code::PROTOCOL_ERROR, "data of nothing"),
        (data(1, b"x", false), Code::PROTOCOL_ERROR, "data of an idle stream"),
        (request(2, true), Code::PROTOCOL_ERROR, "an even number"),
        (request(0, true), Code::PROTOCOL_ERROR, "number 0"),
        ([five.clone(), request(3, true)].concat(), Code::PROTOCOL_ERROR, "a smaller number"),
        (raw(frame::RST_STREAM, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR, "a reset of an idle one"),
        (raw(frame::RST_STREAM, 0, 1, &[0; 3]), Code::FRAME_SIZE_ERROR, "a short reset"),
        (window(0, 0), Code::PROTOCOL_ERROR, "a window by nothing"),
        (window(1, 1), Code::PROTOCOL_ERROR, "a window of an idle stream"),
        (window(0, 0x7fff_ffff), Code::FLOW_CONTROL_ERROR, "the window overflows"),
        (raw(frame::WINDOW_UPDATE, 0, 0, &[1]), Code::FRAME_SIZE_ERROR, "a short window"),
        (raw(frame::PUSH_PROMISE, 4, 1, &[0; 8]), Code::PROTOCOL_ERROR, "a promise"),
        (raw(frame::CONTINUATION, 4, 1, BLOCK), Code::PROTOCOL_ERROR, "a continuation of nothing"),
        (raw(frame::GOAWAY, 0, 1, &[0; 8]), Code::PROTOCOL_ERROR, "a GOAWAY of a stream"),
        (raw(frame::GOAWAY, 0, 0, &[0; 7]), Code::FRAME_SIZE_ERROR, "a short GOAWAY"),
        (raw(frame::PRIORITY, 0, 0, &[0; 5]), Code::PROTOCOL_ERROR, "a priority of nothing"),
        (raw(frame::HEADERS, 12, 1, &[200, 0x83]), Code::PROTOCOL_ERROR, "too much padding"),
        (raw(frame::HEADERS, 0x24, 1, &[0; 4]), Code::FRAME_SIZE_ERROR, "no room for a priority"),
        (headers(1, &[0x80]), Code::COMPRESSION_ERROR, "index 0"),
        ([five, data(5, b"", false)].concat(), Code(0), ""),
    ] {
        if !why.is_empty() {
            assert_eq!(fatal(&bytes), code, "{why}");
        }
    }
}

/// §4.3, §6.10: nothing comes between the pieces of a header block.
#[test]
fn a_header_block_is_not_interrupted() {
    let begun = raw(frame::HEADERS, frame::END_STREAM, 1, &BLOCK[..1]);
    let rest = |stream| raw(frame::CONTINUATION, frame::END_HEADERS, stream, &BLOCK[1..]);
    let mut world = World::new(config());
    let events = world.send(&[begun.clone(), rest(1)].concat());
    assert!(matches!(events[..], [Event::Request { end: true, .. }]), "{events:?}");
    for between in [raw(frame::PING, 0, 0, &[0; 8]), rest(3), raw(99, 0, 0, &[])] {
        assert_eq!(fatal(&[begun.clone(), between].concat()), Code::PROTOCOL_ERROR);
    }
}

/// §5.1
#[test]
fn a_stream_that_has_ended_takes_nothing() {
    let mut world = World::new(config());
    world.send(&request(1, true));
    assert_eq!(reset(&mut world, 1, &data(1, b"x", false)), Some(Code::STREAM_CLOSED));
    world.send(&request(3, true));
    assert_eq!(reset(&mut world, 3, &request(3, true)), Some(Code::STREAM_CLOSED));
    world.send(&request(5, true));
    world.answer(5, b"");
    assert_eq!(reset(&mut world, 5, &data(5, b"x", false)), Some(Code::STREAM_CLOSED));
    let events = world.send(&request(5, true));
    assert!(matches!(events[..], [Event::Failed(fault)] if fault.code == Code::STREAM_CLOSED));
}

/// §8.2, §8.3: what a request must have and must not.
#[test]
fn malformed_requests_are_reset() {
    let method = &BLOCK[..1];
    let with = |name: &str, value: &str| [BLOCK, &field(name, value)].concat();
    let mut stream = 1;
    let mut world = World::new(config());
    for (block, why) in [
        (BLOCK[1..].to_vec(), "no method"),
        (BLOCK[..2].to_vec(), "no scheme"),
        ([&BLOCK[..1], &BLOCK[2..]].concat(), "no path"),
        ([method, BLOCK].concat(), "two methods"),
        ([BLOCK, &BLOCK[1..2]].concat(), "two paths"),
        ([BLOCK, &BLOCK[2..]].concat(), "two schemes"),
        ([&[0x83, 0x86][..], &field(":path", "")].concat(), "an empty path"),
        ([&field("a", "b")[..], BLOCK].concat(), "a pseudo-header behind a field"),
        (with(":status", "200"), "a response"),
        (with(":new", "1"), "an unknown pseudo-header"),
        (with("Upper", "1"), "a capital"),
        (with("a b", "1"), "a space in a name"),
        (with("", "1"), "no name"),
        (with("a", "1\r\nb: 2"), "two lines"),
        (with("a", " b"), "a space in front"),
        (with("connection", "close"), "a field of a connection"),
        (with("transfer-encoding", "chunked"), "a field of a connection"),
        ([BLOCK, &[0xb9]].concat(), "the same, by its number in the static table"),
        (with("te", "gzip"), "te"),
        (with("content-length", "1"), "a length of nothing"),
        (with("content-length", "+0"), "a length that is none"),
    ] {
        assert_eq!(
            reset(&mut world, stream, &headers(stream, &block)),
            Some(Code::PROTOCOL_ERROR),
            "{why}"
        );
        stream += 2;
    }
    let events = world.send(&headers(stream, &with("te", "trailers")));
    assert!(matches!(events[..], [Event::Request { .. }]), "{events:?}");
}

/// §8.1.1: a length that was said is kept.
#[test]
fn a_body_is_as_long_as_was_said() {
    let head = |stream| {
        let block = [BLOCK, &field("content-length", "5")].concat();
        raw(frame::HEADERS, frame::END_HEADERS, stream, &block)
    };
    let mut world = World::new(config());
    let events = world.send(&[head(1), data(1, b"123", false), data(1, b"45", true)].concat());
    assert!(matches!(events[..], [_, _, Event::Data { end: true, .. }]), "{events:?}");
    for (stream, parts) in [(3, &[&b"1234"[..]][..]), (5, &[&b"12345"[..], b"6"])] {
        world.send(&head(stream));
        for (number, part) in parts.iter().enumerate() {
            world.send(&data(stream, part, number + 1 == parts.len()));
        }
        assert_eq!(world.reset_of(stream), Some(Code::PROTOCOL_ERROR));
    }
}

/// §8.1: trailers end a request.
#[test]
fn trailers_end_a_request() {
    let mut world = World::new(config());
    let trailers = |stream, flags| raw(frame::HEADERS, flags, stream, &field("a", "b"));
    world.send(&request(1, false));
    let events = world.send(&trailers(1, frame::END_HEADERS | frame::END_STREAM));
    assert!(matches!(&events[..], [Event::Data { end: true, bytes, .. }] if bytes.is_empty()));
    world.send(&request(3, false));
    let answer = reset(&mut world, 3, &trailers(3, frame::END_HEADERS));
    assert_eq!(answer, Some(Code::PROTOCOL_ERROR), "trailers that do not end it");
    world.send(&request(5, false));
    assert_eq!(reset(&mut world, 5, &request(5, true)), Some(Code::PROTOCOL_ERROR), "a head");
}

#[test]
fn headers_are_bounded_in_every_way() {
    let limits = || Config {
        header_list_bytes_max: 1000,
        header_block_bytes_max: 2000,
        continuations_max: 3,
        ..config()
    };
    let mut world = World::new(limits());
    let long = field("a", &"b".repeat(100));
    let block = [BLOCK, &long.repeat(8)].concat();
    assert!(world.send(&headers(1, &block)).is_empty());
    world.frames();
    assert_eq!(world.answers[&1].fields, [":status=431"]);
    assert!(world.answers[&1].ended);
    let block = [BLOCK, &long.repeat(4)].concat();
    assert_eq!(world.send(&headers(3, &block)).len(), 1, "the connection goes on");

    // CVE-2024-27316: many pieces, or large ones.
    let begun = raw(frame::HEADERS, 0, 1, BLOCK);
    let empty = raw(frame::CONTINUATION, 0, 1, &[]);
    let calm = Code::ENHANCE_YOUR_CALM;
    assert_eq!(fatal_in(limits(), &[&begun[..], &empty.repeat(4)].concat()).0, calm);
    let large = raw(frame::CONTINUATION, 0, 1, &[0; 1500]);
    assert_eq!(fatal_in(limits(), &[&begun[..], &large.repeat(2)].concat()).0, calm);
    assert_eq!(fatal_in(limits(), &raw(frame::HEADERS, 0, 1, &[0; 2001])).0, calm);
    // A block that never ends.
    let mut world = World::new(limits());
    world.send(&begun);
    assert_eq!(world.connection.next_deadline(), Duration::from_secs(30));
    assert!(world.connection.tick(Duration::from_secs(29)).is_ok());
    assert!(world.connection.tick(Duration::from_secs(30)).is_err());
}

/// §5.1.2, §8.7: a refused request has done nothing, and the tables stay in step.
#[test]
pub(super) fn streams_beyond_the_bound_are_refused() {
    let mut world = World::new(Config { streams_max: 2, ..config() });
    let indexed = |stream| {
        // Enters the client's table.
        let block = [BLOCK, &[0x40], &field("a", "b")[1..]].concat();
        headers(stream, &block)
    };
    assert_eq!(world.send(&[request(1, true), request(3, true)].concat()).len(), 2);
    assert_eq!(reset(&mut world, 5, &indexed(5)), Some(Code::REFUSED_STREAM));
    world.answer(1, b"");
    let events = world.send(&headers(7, &[BLOCK, &[0xbe]].concat()));
    let [Event::Request { head, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(head.other(b"a").map(|value| &value[..]), Some(&b"b"[..]));
}

/// A client that gives no window has its answers held, up to a bound.
#[test]
fn answers_that_nobody_takes_are_bounded() {
    let mut world = World::new(Config { held_bytes_max: 1000, ..config() });
    world.send(&settings(&[(frame::SETTING_INITIAL_WINDOW_SIZE, 0)]));
    for stream in [1, 3] {
        world.send(&request(stream, true));
        world.answer(stream, &[0; 600]);
    }
    assert_eq!(reset(&mut world, 5, &request(5, true)), Some(Code::REFUSED_STREAM));
    world.send(&window(1, 600));
    world.frames();
    assert!(world.answers[&1].ended);
    assert_eq!(world.send(&request(7, true)).len(), 1);
}

/// CVE-2023-44487
#[test]
fn resets_are_bounded() {
    let budget = Budget { burst: 10, per_second: 1 };
    let pair = |stream: u32| {
        [request(stream, true), raw(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let bytes: Vec<u8> = (0..10).flat_map(|number| pair(2 * number + 1)).collect();
    let mut world = World::new(Config { resets: budget, ..config() });
    let events = world.send(&bytes);
    assert!(matches!(events.last(), Some(Event::Reset { code: Code::CANCEL, .. })));
    world.now += Duration::from_secs(1);
    assert_eq!(world.send(&pair(21)).len(), 2, "one more after a second");
    let events = world.send(&pair(23));
    let Some(Event::Failed(fault)) = events.last() else { panic!("{events:?}") };
    assert_eq!(fault.code, Code::ENHANCE_YOUR_CALM);
}

/// CVE-2019-9515, 9518 and their like.
#[test]
fn frames_that_move_nothing_are_bounded() {
    let budget = Budget { burst: 10, per_second: 1 };
    for bytes in [
        settings(&[]),
        raw(frame::SETTINGS, frame::ACK, 0, &[]),
        raw(frame::PRIORITY, 0, 1, &[0; 5]),
        raw(frame::PING, frame::ACK, 0, &[0; 8]),
        raw(99, 0, 0, b"what?"),
        data(3, b"", false),
        data(1, b"", true),
    ] {
        let mut world = World::new(Config { idle_frames: budget, ..config() });
        world.send(&[request(1, true), request(3, false)].concat());
        world.answer(1, b"");
        assert!(world.send(&bytes.repeat(10)).iter().all(|e| !matches!(e, Event::Failed(_))));
        let events = world.send(&bytes);
        let Some(Event::Failed(fault)) = events.last() else { panic!("{events:?}") };
        assert_eq!(fault.code, Code::ENHANCE_YOUR_CALM);
    }
}

/// CVE-2019-9512, and the policy of grpc-go.
#[test]
fn pings_are_answered_until_they_are_too_many() {
    let ping = raw(frame::PING, 0, 0, b"whatever");
    let mut world = World::new(config());
    world.send(&request(1, false));
    for _ in 0..3 {
        assert!(world.send(&ping).is_empty());
        let frames = world.frames();
        assert_eq!((frames[0].kind, frames[0].flags), (frame::PING, frame::ACK));
        assert_eq!(frames[0].payload, b"whatever");
    }
    // Now and then is good.
    world.now += Duration::from_secs(5);
    assert!(world.send(&ping).is_empty());
    // So is one for every answer.
    world.connection.send_head(StreamId(1), 200, &client::HEAD, false);
    for _ in 0..100 {
        world.connection.send_data(StreamId(1), b"x"[..].into(), false);
        assert!(world.send(&ping).is_empty());
    }
    let events = world.send(&ping.repeat(3));
    assert!(matches!(events[..], [Event::Failed(_)]), "{events:?}");
    assert_eq!(world.goaway(), Some((Code::ENHANCE_YOUR_CALM, "too_many_pings".to_owned())));
}

/// §6.9.1: the client keeps to its windows, ours and those of streams.
#[test]
pub(super) fn a_client_that_sends_too_much_is_stopped() {
    let limits =
        || Config { stream_window_bytes: 1000, connection_window_bytes: 65_535, ..config() };
    let mut world = World::new(limits());
    world.send(&request(1, false));
    assert_eq!(world.send(&data(1, &[0; 1000], false)).len(), 1);
    let answer = reset(&mut world, 1, &data(1, b"x", false));
    assert_eq!(answer, Some(Code::FLOW_CONTROL_ERROR));
    // What the stream held is given back when it goes.
    let mut world = World::new(Config { stream_window_bytes: 1 << 20, ..limits() });
    for stream in (1..100).step_by(2) {
        world.send(&request(stream, false));
        for _ in 0..3 {
            assert_eq!(world.send(&data(stream, &[0; 10_000], false)).len(), 1, "{stream}");
        }
        world.connection.reset(StreamId(stream), Code::CANCEL);
    }
    world.send(&request(101, false));
    let mut sent = 0;
    let events = loop {
        let events = world.send(&data(101, &[0; 10_000], false));
        sent += 10_000;
        if matches!(events[..], [Event::Failed(_)]) {
            break events;
        }
        assert!(sent < 100_000, "the window of the connection is kept");
    };
    let [Event::Failed(fault)] = events[..] else { panic!("{events:?}") };
    assert_eq!(fault.code, Code::FLOW_CONTROL_ERROR);
}

/// §6.9.1: streams' windows that cannot be.
#[test]
fn windows_of_streams_are_checked() {
    let mut world = World::new(config());
    world.send(&[request(1, true), request(3, true), request(5, true)].concat());
    assert_eq!(reset(&mut world, 1, &window(1, 0)), Some(Code::PROTOCOL_ERROR));
    assert_eq!(reset(&mut world, 3, &window(3, 0x7fff_ffff)), Some(Code::FLOW_CONTROL_ERROR));
    world.send(&window(5, 0x7fff_0000 - 65_535));
    let events = world.send(&settings(&[(frame::SETTING_INITIAL_WINDOW_SIZE, 0x7fff_ffff)]));
    assert!(matches!(events[..], [Event::Failed(f)] if f.code == Code::FLOW_CONTROL_ERROR));
}

/// A list of a hundred megabytes does not hold up a small answer.
#[test]
pub(super) fn streams_take_turns() {
    let mut world = World::new(Config { output_bytes_max: 20_000, ..config() });
    world.send(&settings(&[(frame::SETTING_INITIAL_WINDOW_SIZE, 1 << 30)]));
    world.send(&window(0, 1 << 30));
    world.send(&[request(1, true), request(3, true), request(5, true)].concat());
    world.connection.send_head(StreamId(1), 200, &client::HEAD, false);
    world.connection.send_head(StreamId(3), 200, &client::HEAD, false);
    for stream in [1, 3] {
        world.connection.send_data(StreamId(stream), vec![1; 100_000_000].into(), true);
    }
    assert!(!world.connection.has_room(StreamId(1)));
    world.connection.set_tag(StreamId(1), Some(crate::Tag(7)));
    world.answer(5, b"small");
    let mut taken = 0;
    while !world.answers.get(&5).is_some_and(|answer| answer.ended) {
        let bytes = world.take(usize::MAX);
        taken += bytes.len();
        world.read(&bytes);
        assert!(taken < 100_000, "the small one waits too long");
    }
    let (one, three) = (world.answers[&1].data.len(), world.answers[&3].data.len());
    assert!(one.abs_diff(three) <= 16_384, "{one} {three}");
    assert!(world.connection.output_len() <= 40_000, "output is bounded");
    assert_eq!(world.connection.next_roomy(), None);
    while world.connection.next_roomy().is_none() {
        assert!(!world.take(usize::MAX).is_empty(), "the sender learns of the room");
    }
}

/// Nothing is read from a client that does not read.
#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut world = World::new(Config { output_bytes_max: 1000, ..config() });
    world.send(&request(1, false));
    world.connection.send_head(StreamId(1), 200, &client::HEAD, false);
    let mut rounds = 0;
    while !world.connection.is_congested() {
        world.connection.send_data(StreamId(1), b"x"[..].into(), false);
        assert!(world.send(&settings(&[])).is_empty());
        rounds += 1;
        assert!(rounds < 1000);
    }
    world.frames();
    assert!(!world.connection.is_congested());
}

/// §6.8: first announced, then done; what is open goes on.
#[test]
fn shutting_down_loses_no_stream() {
    let mut world = World::new(config());
    world.send(&request(1, true));
    world.connection.shutdown();
    let frames = world.frames();
    assert_eq!(
        (frames[0].kind, &frames[0].payload[..4]),
        (frame::GOAWAY, &[0x7f, 255, 255, 255][..])
    );
    let ping = &frames[1].payload;
    // Was under way.
    assert_eq!(world.send(&request(3, true)).len(), 1);
    world.send(&raw(frame::PING, frame::ACK, 0, ping));
    let frames = world.frames();
    assert_eq!((frames[0].kind, &frames[0].payload[..4]), (frame::GOAWAY, &[0, 0, 0, 3][..]));
    assert!(world.send(&request(5, true)).is_empty(), "not taken");
    world.answer(1, b"one");
    world.answer(3, b"three");
    assert!(!world.connection.is_done(), "there is something to write");
    world.frames();
    assert!(world.connection.is_done());
    assert!(world.answers[&3].ended && !world.answers.contains_key(&5));
}

#[test]
fn a_client_that_leaves_gets_its_answers() {
    let mut world = World::new(config());
    world.send(&request(1, true));
    world.send(&raw(frame::GOAWAY, 0, 0, &[0; 8]));
    assert!(!world.connection.is_done());
    world.answer(1, b"one");
    world.frames();
    assert!(world.connection.is_done());
}

#[test]
fn silence_is_asked_about_and_then_ended() {
    let hours = Duration::from_secs(7200);
    let mut world = World::new(config());
    assert_eq!(world.connection.next_deadline(), hours);
    world.connection.tick(hours).unwrap();
    let frames = world.frames();
    assert_eq!((frames[0].kind, frames[0].flags), (frame::PING, 0));
    // A sign of life, of whatever kind.
    world.now = hours + Duration::from_secs(19);
    world.send(&raw(frame::PING, frame::ACK, 0, &frames[0].payload));
    world.connection.tick(hours + Duration::from_secs(20)).unwrap();
    assert_eq!(world.connection.next_deadline(), world.now + hours);
    // None.
    world.connection.tick(world.now + hours).unwrap();
    assert!(world.connection.tick(world.now + hours + Duration::from_secs(20)).is_err());
    world.frames();
    assert!(world.connection.is_done());
    // And who never says anything.
    let mut world = World::silent(config());
    assert!(world.connection.tick(Duration::from_secs(30)).is_err());
}

/// §4.2: frames are no larger than the client takes, also of headers.
#[test]
fn large_headers_are_sent_in_pieces() {
    let mut world = World::new(config());
    world.send(&request(1, true));
    let long = crate::Fields::Made(vec![("grpc-message", vec![b'x'; 40_000].into())]);
    world.connection.send_head(StreamId(1), 200, &long, true);
    let bytes = world.take(usize::MAX);
    let mut rest = &bytes[..];
    let mut kinds = Vec::new();
    while let Some(head) = frame::Head::read(rest) {
        assert!(head.length <= 16_384);
        kinds.push((head.kind, head.flags));
        rest = &rest[frame::HEAD_BYTES + head.length..];
    }
    assert_eq!(
        kinds,
        [(frame::HEADERS, frame::END_STREAM), (frame::CONTINUATION, 0), (frame::CONTINUATION, 4)]
    );
}
