//! Every decoder of what peers send, on bytes that were changed at random: it refuses or accepts, and never panics;
//! what it accepts says the same when it is encoded and decoded again.
//!
//! `QUORATE_FUZZ_CASES` (20,000 unless set) and `QUORATE_FUZZ_SEED` (1) make it longer, or another.

use std::sync::Arc;

use bytes::Bytes;
use etcd::{Publish, Request};
use prost::Message as _;
use proto::etcdserverpb as api;
use raft::{
    Body, Entry, Epoch, LogIndex, LogPosition, Membership, MembershipChange, MembershipStep,
    Message, Payload, ReplicaId, Session, SnapshotMeta, Term, Transition,
};
use store::{Envelope, RangeId};

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

fn bodies() -> Vec<Body> {
    let id = |id| ReplicaId::new(id).unwrap();
    let at = |index, term| LogPosition::new(index, term);
    let change = MembershipChange {
        transition: Transition::JointImplicit,
        steps: vec![
            MembershipStep::AddVoter(id(4)),
            MembershipStep::AddLearner(id(5)),
            MembershipStep::Remove(id(1)),
        ],
        context: Bytes::from_static(b"member"),
    };
    let payloads = [
        Payload::Empty,
        Payload::Data(Bytes::from_static(b"effects")),
        Payload::Membership(Arc::new(change)),
    ];
    let entries = (8..).zip(payloads);
    let entries: Vec<Entry> = entries
        .map(|(index, payload)| Entry { index: LogIndex(index), term: Term(3), payload })
        .collect();
    let membership = Membership {
        voters: [id(1), id(2), id(3)].into(),
        learners: [id(9)].into(),
        ..Default::default()
    };
    let snapshot = SnapshotMeta { position: at(7, 3), membership };
    let session = Session(LogIndex(5));
    vec![
        Body::PreVote { campaign_term: Term(4), last: at(7, 3) },
        Body::PreVoteResponse { campaign_term: Term(4), granted: true, commit: at(6, 3) },
        Body::Vote { last: at(7, 3), transfer: true },
        Body::VoteResponse { granted: false, commit: at(6, 3) },
        Body::Append { session, prev: at(7, 3), entries, commit: LogIndex(6) },
        Body::AppendAccepted { session, matched: LogIndex(7) },
        Body::AppendRejected { session, rejected: LogIndex(7), hint: at(5, 2) },
        Body::Heartbeat { commit: at(6, 3), round: 12 },
        Body::HeartbeatResponse { round: 12, commit: LogIndex(6) },
        Body::Commit { commit: at(6, 3) },
        Body::InstallSnapshot { session, snapshot: Box::new(snapshot) },
        Body::TimeoutNow,
        Body::StaleTerm,
        Body::Fortify,
        Body::Fortified { epoch: Epoch(17) },
        Body::Counted { epoch: Epoch(17), commit: at(6, 3) },
        Body::Release,
        Body::Released,
    ]
}

fn envelopes() -> Vec<Envelope> {
    let (from, to) = (ReplicaId::new(1).unwrap(), ReplicaId::new(2).unwrap());
    let message = |body| Message { from, to, term: Term(3), body };
    bodies()
        .into_iter()
        .map(|body| Envelope { range: RangeId::DENSE, message: message(body) })
        .collect()
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

fn requests() -> Vec<Request> {
    let put = api::PutRequest { key: "key".into(), value: "value".into(), ..Default::default() };
    let range = api::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 7,
        ..Default::default()
    };
    let op = |request| api::RequestOp { request: Some(request) };
    let inner = api::TxnRequest {
        success: vec![op(api::request_op::Request::RequestPut(put.clone()))],
        ..Default::default()
    };
    let txn = api::TxnRequest {
        compare: vec![api::Compare { key: "key".into(), ..Default::default() }],
        success: vec![op(api::request_op::Request::RequestTxn(inner))],
        failure: vec![op(api::request_op::Request::RequestRange(range.clone()))],
    };
    let publish =
        Publish { member_id: 7, name: "a".into(), client_urls: vec!["http://a:1".into()] };
    vec![
        Request::Put(put),
        Request::Range(range),
        Request::Txn(txn),
        Request::MemberAdd(api::MemberAddRequest {
            peer_urls: vec!["http://b:2".into()],
            is_learner: true,
        }),
        Request::Publish(publish),
    ]
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
