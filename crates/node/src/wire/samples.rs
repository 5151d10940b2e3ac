//! One of everything that peers say, for tests and fuzzing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd::{Publish, Request};
use proto::etcdserverpb as api;
use raft::{
    Body, Entry, Epoch, LogIndex, LogPosition, Membership, MembershipChange, MembershipStep,
    Message, Payload, ReplicaId, Session, SnapshotMeta, Term, Transition,
};
use store::{Envelope, RangeId, liveness};

fn replica(id: u64) -> ReplicaId {
    ReplicaId::new(id).expect("samples have ids above 0")
}

fn bodies() -> Vec<Body> {
    let id = replica;
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

pub(crate) fn envelopes() -> Vec<Envelope> {
    let (from, to) = (replica(1), replica(2));
    let message = |body| Message { from, to, term: Term(3), body };
    bodies()
        .into_iter()
        .map(|body| Envelope { range: RangeId::DENSE, message: message(body) })
        .collect()
}

pub(crate) fn between_stores() -> [liveness::Message; 3] {
    let (epoch, stamp) = (Epoch(7), Duration::from_nanos(u64::MAX - 1));
    [
        liveness::Message::Heartbeat { epoch, stamp, duration: Duration::from_millis(700) },
        liveness::Message::Support { epoch, stamp },
        liveness::Message::Refusal { epoch: Epoch(u64::MAX) },
    ]
}

pub(crate) fn requests() -> Vec<Request> {
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
