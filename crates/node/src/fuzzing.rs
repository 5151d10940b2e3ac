//! What the decoders of this crate promise of any bytes, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::fmt::Debug;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use prost::Message as _;

use crate::NodeId;
use crate::transport::{frame, hello};
use crate::wire::{liveness, message, pb, request, samples};

/// A future over bytes in memory never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("bytes in memory are there at once"),
    }
}

/// Encoding and decoding again changes nothing.
fn same_again<M: prost::Message + Default + PartialEq + Debug>(message: &M) {
    let again = M::decode(Bytes::from(message.encode_to_vec()));
    assert_eq!(again.as_ref(), Ok(message), "what decodes encodes to the same");
}

/// The payload of a frame from a peer.
#[must_use]
pub fn peer_frame(data: &[u8]) -> bool {
    let Ok(frame) = pb::Frame::decode(Bytes::copy_from_slice(data)) else { return false };
    same_again(&frame);
    let mut all = true;
    for received in frame.messages {
        all &= envelope(received);
    }
    for received in frame.liveness {
        let Ok(message) = liveness::decode(received) else {
            all = false;
            continue;
        };
        let again = liveness::decode(liveness::encode(message));
        assert_eq!(again, Ok(message), "a message between stores survives the way");
    }
    for forward in frame.forwards {
        all &= forwarded(forward.kind, forward.request);
    }
    for reply in frame.forward_replies {
        if let Some(response) = reply.response {
            all &= answered(reply.kind, response);
        }
        if let Some(error) = reply.error {
            let error = request::decode_error(error);
            let text = request::decode_error(request::encode_error(&error)).to_string();
            assert_eq!(text, error.to_string(), "an error keeps its text");
        }
    }
    all
}

fn envelope(received: pb::GroupMessage) -> bool {
    let Ok(envelope) = message::decode(received) else { return false };
    let again = message::decode(message::encode(envelope.clone()));
    assert_eq!(again, Ok(envelope), "a message survives the way");
    true
}

fn forwarded(kind: u32, bytes: Bytes) -> bool {
    let Ok(decoded) = request::decode_request(kind, bytes) else { return false };
    let (kind, bytes) = request::encode_request(&decoded);
    assert_eq!(request::decode_request(kind, bytes), Ok(decoded), "a request survives the way");
    true
}

fn answered(kind: u32, bytes: Bytes) -> bool {
    let Ok(decoded) = request::decode_response(kind, bytes) else { return false };
    let (kind, bytes) = request::encode_response(&decoded);
    let again = request::decode_response(kind, bytes.clone());
    let again = again.expect("what was encoded decodes");
    assert_eq!(request::encode_response(&again), (kind, bytes), "an answer survives the way");
    true
}

/// A frame of every message and request, and one with all of them.
#[must_use]
pub fn peer_frame_samples() -> Vec<Vec<u8>> {
    let mut all = pb::Frame {
        forward_replies: vec![
            pb::ForwardReply {
                id: 3,
                response: Some(Bytes::new()),
                kind: 20,
                applied: 9,
                ..Default::default()
            },
            pb::ForwardReply {
                id: 4,
                error: Some(request::encode_error(&etcd::Error::NoLeader)),
                ..Default::default()
            },
        ],
        read_points: vec![pb::ReadPoint { id: 1 }],
        read_point_replies: vec![pb::ReadPointReply { id: 1, index: Some(7) }],
        liveness: samples::between_stores().into_iter().map(liveness::encode).collect(),
        ..Default::default()
    };
    let mut frames = Vec::new();
    for envelope in samples::envelopes() {
        let message = message::encode(envelope);
        all.messages.push(message.clone());
        frames.push(pb::Frame { messages: vec![message], ..Default::default() });
    }
    for (id, asked) in (1..).zip(samples::requests()) {
        let (kind, request) = request::encode_request(&asked);
        let range = (id % 2 == 0).then_some(2);
        let forward = pb::Forward { id, kind, request, range };
        all.forwards.push(forward.clone());
        frames.push(pb::Frame { forwards: vec![forward], ..Default::default() });
    }
    frames.push(all);
    frames.iter().map(prost::Message::encode_to_vec).collect()
}

/// The first bytes on a connection from a peer: the hello, or what else came; as they are, and as
/// the payload of a frame that is whole. The same bytes as a welcome, for the side that dialed.
#[must_use]
pub fn peer_hello(data: &[u8]) -> bool {
    let raw = ready(hello::accept(&mut &data[..]));
    let mut stream = Vec::from(hello::MAGIC);
    ready(frame::write(&mut stream, data)).expect("short enough");
    let said = ready(hello::accept(&mut stream.as_slice()));
    for hello in [raw, said].into_iter().flatten() {
        same_again(&hello);
        for (cluster, node) in [(hello.cluster_id, hello.to), (1, 2)] {
            let refused = hello::refusal(&hello, cluster, NodeId(node)).is_some();
            let known = hello.version == hello::PROTOCOL_VERSION;
            assert!(known || refused, "another version of the protocol is refused");
        }
    }
    hello::Welcome::decode(data).is_ok_and(|welcome| {
        same_again(&welcome);
        true
    })
}

/// A hello, bare and with all that comes before it, and welcomes.
#[must_use]
pub fn peer_hello_samples() -> Vec<Vec<u8>> {
    let hello = hello::Hello {
        cluster_id: 1,
        from: 3,
        to: 2,
        purpose: hello::Purpose::Snapshot as i32,
        version: hello::PROTOCOL_VERSION,
        instance: 4,
    };
    let hello = hello.encode_to_vec();
    let mut stream = Vec::from(hello::MAGIC);
    ready(frame::write(&mut stream, &hello)).expect("short enough");
    let member = hello::DescribedMember {
        id: 3,
        name: "a".into(),
        peer_urls: vec!["http://a:2380".into()],
        is_learner: true,
        started: true,
    };
    let yes = hello::Welcome { cluster_id: 1, members: vec![member], ..Default::default() };
    let no = hello::Welcome { refusal: "no".into(), removed: true, ..Default::default() };
    vec![hello, stream, yes.encode_to_vec(), no.encode_to_vec()]
}

/// A stream of frames from a peer. What is read and written again is what was read.
#[must_use]
pub fn peer_stream(data: &[u8]) -> bool {
    let mut input = data;
    let mut again = Vec::new();
    let ended = loop {
        match ready(frame::read(&mut input)) {
            Ok(Some(payload)) => ready(frame::write(&mut again, &payload)).expect("was as long"),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(data.starts_with(&again), "frames are read as they were written");
    assert!(!ended || again == data, "the end is where the bytes end");
    ended
}

/// Frames of several lengths.
#[must_use]
pub fn peer_stream_samples() -> Vec<Vec<u8>> {
    let payloads: [&[u8]; 3] = [b"", b"agreement", &[7; 300]];
    let mut streams = vec![Vec::new()];
    for payload in payloads {
        let mut stream = streams.last().cloned().unwrap_or_default();
        ready(frame::write(&mut stream, payload)).expect("short enough");
        streams.push(stream);
    }
    streams
}
