//! Every decoder of what peers send, on bytes that were changed at random: it refuses or accepts, and never panics;
//! what it accepts says the same when it is encoded and decoded again.
//!
//! `QUORATE_FUZZ_CASES` (20,000 unless set) and `QUORATE_FUZZ_SEED` (1) make it longer, or another.

use bytes::Bytes;
use prost::Message as _;

use super::samples::{envelopes, requests};
use super::{message, pb, request};

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// splitmix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end.max(1) as u64).unwrap()
    }

    /// One to four changes: a byte set, a bit flipped, a cut, bytes doubled, an end that runs on.
    fn mangle(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.roll().to_le_bytes()[0],
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 => bytes.truncate(at),
                3 => {
                    let end = (at + 1 + self.below(16)).min(bytes.len());
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                _ => bytes.extend_from_slice(&[0xff; 11][..self.below(12)]),
            }
        }
    }
}

/// How many were accepted and refused; a run without one of them proves nothing.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
}

impl Tally {
    fn check(&self, cases: u64) {
        assert!(self.accepted > cases / 50 && self.refused > cases / 50, "{self:?}");
    }
}

#[test]
fn every_message_comes_back() {
    for envelope in envelopes() {
        let encoded = message::encode(envelope.clone());
        let bytes = encoded.encode_to_vec();
        let decoded = message::decode(pb::GroupMessage::decode(&bytes[..]).unwrap());
        assert_eq!(decoded, Ok(envelope));
    }
}

#[test]
fn mangled_frames_of_messages() {
    let (cases, mut dice) =
        (variable("QUORATE_FUZZ_CASES", 20_000), Dice(variable("QUORATE_FUZZ_SEED", 1)));
    let samples = envelopes();
    let mut tally = Tally::default();
    for case in 0..cases {
        let sample = samples[dice.below(samples.len())].clone();
        let frame = pb::Frame { messages: vec![message::encode(sample)], ..Default::default() };
        let mut bytes = frame.encode_to_vec();
        dice.mangle(&mut bytes);
        let Ok(frame) = pb::Frame::decode(Bytes::from(bytes)) else {
            tally.refused += 1;
            continue;
        };
        for received in frame.messages {
            match message::decode(received) {
                Ok(envelope) => {
                    let again = message::decode(message::encode(envelope.clone()));
                    assert_eq!(again, Ok(envelope), "case {case}");
                    tally.accepted += 1;
                }
                Err(_) => tally.refused += 1,
            }
        }
    }
    tally.check(cases);
}

#[test]
fn mangled_requests_and_answers() {
    let (cases, mut dice) =
        (variable("QUORATE_FUZZ_CASES", 20_000), Dice(variable("QUORATE_FUZZ_SEED", 1)));
    let samples = requests();
    let mut tally = Tally::default();
    for case in 0..cases {
        let (kind, bytes) = request::encode_request(&samples[dice.below(samples.len())]);
        let mut bytes = bytes.to_vec();
        dice.mangle(&mut bytes);
        // Another kind now and then, also one that there is not.
        let kind = if dice.below(4) == 0 { u32::try_from(dice.below(24)).unwrap() } else { kind };
        let bytes = Bytes::from(bytes);
        let _no_panic = request::decode_response(kind, bytes.clone());
        match request::decode_request(kind, bytes) {
            Ok(decoded) => {
                let (kind, bytes) = request::encode_request(&decoded);
                assert_eq!(request::decode_request(kind, bytes), Ok(decoded), "case {case}");
                tally.accepted += 1;
            }
            Err(_) => tally.refused += 1,
        }
    }
    tally.check(cases);
}

/// What would make arithmetic overflow, memory run out or a stack run over is refused.
#[test]
fn extremes_are_refused() {
    let append = pb::Append {
        prev: Some(pb::Position { index: u64::MAX, term: 1 }),
        entries: vec![pb::Entry::default()],
        ..Default::default()
    };
    let message = pb::GroupMessage {
        from: 1,
        to: 2,
        body: Some(pb::Body::Append(append)),
        ..Default::default()
    };
    assert!(message::decode(message).is_err());
    // Transactions in transactions, as deep as bytes allow.
    let mut txn = Vec::new();
    for _ in 0..2_000 {
        let mut op = vec![0x22];
        prost::encoding::encode_varint(txn.len() as u64, &mut op);
        op.append(&mut txn);
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(op.len() as u64, &mut outer);
        outer.append(&mut op);
        txn = outer;
    }
    assert!(request::decode_request(4, txn.into()).is_err());
    // A length of which nothing follows.
    let mut announced = vec![0x0a];
    prost::encoding::encode_varint(1 << 40, &mut announced);
    assert!(pb::Frame::decode(&announced[..]).is_err());
    assert!(request::decode_request(2, announced.into()).is_err());
}
