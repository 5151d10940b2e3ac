//! What the decoders of this crate promise of any bytes of a client, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::collections::VecDeque;
use std::io::Write as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb as pb;

use crate::grpc::frame::{Encoding, Messages, Source, encode};
use crate::grpc::metadata::{Metadata, WORDS};
use crate::grpc::{Status, status};

/// No message may be larger.
const BYTES_MAX: usize = 2000;

struct Chunks(VecDeque<Bytes>);

impl Source for Chunks {
    async fn chunk(&mut self) -> Option<Result<Bytes, Status>> {
        self.0.pop_front().map(Ok)
    }

    fn is_ended(&self) -> bool {
        self.0.is_empty()
    }
}

/// A future over bytes in memory never waits.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("bytes in memory are there at once"),
    }
}

/// All messages of a body that comes in pieces of so many bytes.
fn messages(body: &[u8], piece: usize, encoding: Encoding) -> Result<Vec<Bytes>, Status> {
    let chunks = body.chunks(piece).map(Bytes::copy_from_slice).collect();
    let mut messages = Messages::new(Chunks(chunks), encoding, BYTES_MAX);
    let mut found = Vec::new();
    while let Some(message) = ready(messages.next_bytes())? {
        assert!(message.len() <= BYTES_MAX, "the bound is kept");
        found.push(message);
    }
    Ok(found)
}

/// The body of a call. A byte in front says whether it is compressed, and into how long pieces it
/// is cut; however it is, the same messages are found.
#[must_use]
pub fn grpc_body(data: &[u8]) -> bool {
    let Some((&shape, body)) = data.split_first() else { return false };
    let encoding = if shape & 1 == 0 { Encoding::Identity } else { Encoding::Gzip };
    let whole = messages(body, body.len().max(1), encoding);
    let pieces = messages(body, usize::from(shape >> 1) + 1, encoding);
    assert_eq!(whole, pieces, "however the body is cut, the same is found");
    let Ok(found) = whole else { return false };
    for message in found {
        if let Ok(txn) = pb::TxnRequest::decode(message) {
            let again = encode(&txn).expect("no longer than it was");
            let again = messages(&again, 7, Encoding::Identity);
            if let Ok(again) = again {
                let again = again.into_iter().map(pb::TxnRequest::decode);
                assert_eq!(again.collect::<Result<Vec<_>, _>>(), Ok(vec![txn]));
            }
        }
    }
    true
}

/// A transaction, plain and compressed, and several messages.
#[must_use]
pub fn grpc_body_samples() -> Vec<Vec<u8>> {
    let put = pb::PutRequest { key: "k".into(), value: vec![7; 20].into(), ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare { key: "k".into(), ..Default::default() }],
        success: vec![pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }],
        ..Default::default()
    };
    let plain = encode(&txn).expect("short enough");
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    zip.write_all(&txn.encode_to_vec()).expect("memory takes it");
    let zip = zip.finish().expect("memory takes it");
    let length = u32::try_from(zip.len()).expect("short enough").to_be_bytes();
    vec![
        [&[12], &plain[..]].concat(),
        [&[12], &plain[..], &[0; 5], &plain[..]].concat(),
        [&[13, 1], &length[..], &zip].concat(),
    ]
}

/// The headers of a call, by lines: one for each that is looked for, in their order; an empty line
/// is a header that is not there. What is refused is refused with a text that a header can carry.
#[must_use]
pub fn call_headers(data: &[u8]) -> bool {
    let mut words = vec![None; WORDS.len()];
    for (word, line) in words.iter_mut().zip(data.split(|byte| *byte == b'\n')) {
        *word = Some(Bytes::copy_from_slice(line)).filter(|line| !line.is_empty());
    }
    match Metadata::of(|word| words[word].as_ref()) {
        Ok(_) => true,
        Err(refused) => {
            let text = refused.message_header();
            assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)), "{text:?}");
            assert!(!status::code_bytes(refused.code).is_empty());
            false
        }
    }
}

/// Headers as clients send them.
#[must_use]
pub fn call_headers_samples() -> Vec<Vec<u8>> {
    let samples: [&[u8]; 3] = [
        b"application/grpc\n\n\n\n\n",
        b"application/grpc\n250m\ngzip\ntrue\n3.5.1\n",
        b"application/grpc\n99999999H\nidentity\n\n\ntext/plain",
    ];
    samples.map(<[u8]>::to_vec).to_vec()
}
