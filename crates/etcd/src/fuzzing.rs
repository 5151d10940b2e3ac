//! What this crate promises of any bytes, for the crate `fuzz`.
//!
//! Each function says whether it accepted the bytes, and panics where a promise is broken; what
//! ends in `_samples` is where a search may begin.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::mem::MemEngine;
use mvcc::{Change, Commit, LeaseId, Record, Revision, State};
use prost::Message as _;
use proto::etcdserverpb as pb;

use crate::effects::Effects;
use crate::meta::{self, LeaseRow, MemberRow};
use crate::{Config, Evaluated, Limits, Machine, Publish, Request};

/// The term of everything here.
const TERM: u64 = 1;
const NOW: Duration = Duration::from_secs(1_000);

fn machine() -> Machine<MemEngine> {
    let state = State::open(Arc::new(MemEngine::new())).expect("an empty engine opens");
    let mut machine = Machine::open(state, Config { member_id: 7, limits: limits(), seed: 42 });
    machine.skip(1, TERM);
    machine
}

fn limits() -> Limits {
    Limits { max_lease_ttl_s: 1_000_000, rows_at_once: 4, ..Limits::default() }
}

/// A machine with a few keys, a lease and a member.
fn furnished() -> Machine<MemEngine> {
    let mut machine = machine();
    for effects in effects_list() {
        let index = machine.applied().index + 1;
        machine.apply(NOW, index, TERM, &effects.encode()).expect("samples fit");
    }
    machine
}

fn effects_list() -> Vec<Effects> {
    let lease = LeaseId(7);
    let record = |key: &[u8], created, revision, version, lease| {
        let record =
            Record::new(key, Revision(created), Revision(revision), version, b"value", lease);
        Change { key: record.key(), record: Some(record) }
    };
    let commit = |revision, changes| Some(Commit { revision: Revision(revision), changes });
    let nothing = Effects { term: TERM, commit: None, rows: Vec::new(), compact: None };
    let ttl = LeaseRow { ttl_s: 60, ending: false }.encode_to_vec().into();
    let member = MemberRow { name: "a".into(), ..Default::default() };
    vec![
        Effects { rows: vec![(meta::lease(lease), Some(ttl))], ..nothing.clone() },
        Effects {
            commit: commit(
                2,
                vec![record(b"a", 2, 2, 1, Some(lease)), record(b"b", 2, 2, 1, None)],
            ),
            rows: vec![(meta::attached(lease, b"a"), Some(Bytes::new()))],
            ..nothing.clone()
        },
        Effects {
            commit: commit(
                3,
                vec![
                    Change { key: Bytes::from_static(b"b"), record: None },
                    record(b"a", 2, 3, 2, None),
                ],
            ),
            rows: vec![(meta::attached(lease, b"a"), None)],
            ..nothing.clone()
        },
        Effects {
            rows: vec![(meta::member(7), Some(member.encode_to_vec().into()))],
            compact: Some(Revision(2)),
            ..nothing
        },
    ]
}

/// An entry's effects: what decodes says the same when it is encoded again. What also fits is
/// applied, and the state that it makes is one that can be read and led from.
#[must_use]
pub fn effects(data: &[u8]) -> bool {
    let data = Bytes::copy_from_slice(data);
    let Ok(decoded) = Effects::decode(&data) else { return false };
    let again = Effects::decode(&decoded.clone().encode());
    assert_eq!(again, Ok(decoded.clone()), "effects survive the way");
    let mut machine = if decoded.commit.as_ref().is_some_and(|c| c.revision == Revision(2)) {
        machine()
    } else {
        furnished()
    };
    let index = machine.applied().index + 1;
    match machine.apply(NOW, index, decoded.term.max(TERM), &data) {
        Ok(applied) => {
            assert_eq!(machine.applied().index, index, "what is applied counts");
            looked_at(&mut machine);
            !applied.stale
        }
        Err(_) => {
            assert_eq!(machine.applied().index, index - 1, "what is refused leaves no trace");
            false
        }
    }
}

/// Reads everything; a row that nobody understands is an error, at the most.
fn looked_at(machine: &mut Machine<MemEngine>) {
    let view = machine.view();
    let _may_not_be_known = (machine.members(), crate::leases(&view));
    view.hash().expect("what was applied can be read");
    // Who has applied an entry of a term may lead in it; there may be none above.
    let term = machine.applied().term;
    if machine.lead(NOW, term).is_ok() {
        let _may_not_be_known = machine.expire(NOW + Duration::from_secs(1 << 40));
    }
}

/// The effects of a put, a deletion, a lease, a member and a compaction.
#[must_use]
pub fn effects_samples() -> Vec<Vec<u8>> {
    effects_list().into_iter().map(|effects| effects.encode().to_vec()).collect()
}

/// A list of requests, each a kind, a length and its bytes, as a leader gets them from clients:
/// each is refused, answered or proposed, and what is proposed applies.
#[must_use]
pub fn requests(data: &[u8]) -> bool {
    let mut machine = furnished();
    let term = machine.applied().term;
    machine.lead(NOW, term).expect("its rows are known");
    let mut rest = data;
    let mut all = true;
    let mut now = NOW;
    while let [kind, length, behind @ ..] = rest {
        let (bytes, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        let Some(request) = request(*kind, bytes) else {
            all = false;
            continue;
        };
        now += Duration::from_secs(u64::from(*kind >> 5) * 20);
        let evaluated = match machine.evaluate(now, request) {
            Evaluated::Long(long) => {
                let done = machine.begin_long(now, long).run();
                machine.end_long(now, done)
            }
            other => other,
        };
        let effects = match evaluated {
            Evaluated::Propose { effects, .. } | Evaluated::Membership { effects, .. } => effects,
            Evaluated::Refused(_) | Evaluated::Read(_) | Evaluated::Long(_) => continue,
        };
        let index = machine.applied().index + 1;
        let applied = machine.apply(now, index, term, &effects).expect("what was proposed fits");
        assert!(!applied.stale);
        let expired = machine.expire(now).expect("the rows of leases are ours");
        for effects in expired.effects {
            let index = machine.applied().index + 1;
            machine.apply(now, index, term, &effects).expect("what was proposed fits");
        }
    }
    machine.follow();
    looked_at(&mut machine);
    all
}

macro_rules! kinds {
    ($($number:literal = $name:ident,)*) => {
        fn request(kind: u8, bytes: &[u8]) -> Option<Request> {
            Some(match kind & 0x1f {
                $($number => Request::$name(prost::Message::decode(bytes).ok()?),)*
                20 => Request::Publish(Publish {
                    member_id: 7,
                    name: String::from_utf8_lossy(bytes).into_owned(),
                    client_urls: Vec::new(),
                }),
                _ => return None,
            })
        }
    };
}

kinds! {
    1 = Range,
    2 = Put,
    3 = DeleteRange,
    4 = Txn,
    5 = Compact,
    6 = LeaseGrant,
    7 = LeaseRevoke,
    8 = LeaseKeepAlive,
    9 = LeaseTimeToLive,
    10 = LeaseLeases,
    11 = MemberAdd,
    12 = MemberRemove,
    13 = MemberUpdate,
    14 = MemberList,
    15 = MemberPromote,
    16 = Alarm,
    17 = Hash,
    18 = HashKv,
    19 = AuthStatus,
}

/// A life of a few keys, two leases and a member.
#[must_use]
pub fn requests_samples() -> Vec<Vec<u8>> {
    let put = pb::PutRequest {
        key: "a".into(),
        value: "v".into(),
        lease: 7,
        prev_kv: true,
        ..Default::default()
    };
    let range = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "a".into(), prev_kv: true, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    let compare = pb::Compare {
        key: "a".into(),
        target_union: Some(pb::compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(pb::request_op::Request::RequestPut(put.clone())),
            op(pb::request_op::Request::RequestRange(range.clone())),
        ],
        failure: vec![op(pb::request_op::Request::RequestDeleteRange(delete.clone()))],
    };
    let limited = pb::RangeRequest { limit: 1, revision: 3, ..range.clone() };
    let alarm = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    let add = pb::MemberAddRequest { peer_urls: vec!["http://b:1".into()], is_learner: true };
    let all = [
        (6, pb::LeaseGrantRequest { ttl: 5, id: 9 }.encode_to_vec()),
        (2, put.encode_to_vec()),
        (1, range.encode_to_vec()),
        (4, txn.encode_to_vec()),
        (3, delete.encode_to_vec()),
        (5, pb::CompactionRequest { revision: 3, physical: true }.encode_to_vec()),
        (1, limited.encode_to_vec()),
        (8, pb::LeaseKeepAliveRequest { id: 7 }.encode_to_vec()),
        (9, pb::LeaseTimeToLiveRequest { id: 7, keys: true }.encode_to_vec()),
        (10, Vec::new()),
        (7, pb::LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        (11, add.encode_to_vec()),
        (12, pb::MemberRemoveRequest { id: 7 }.encode_to_vec()),
        (14, Vec::new()),
        (16, alarm.encode_to_vec()),
        (17, Vec::new()),
        (18, pb::HashKvRequest { revision: 0 }.encode_to_vec()),
        (20, b"name".to_vec()),
    ];
    let part = |(kind, bytes): &(u8, Vec<u8>)| {
        let length = u8::try_from(bytes.len()).expect("samples are short");
        [&[*kind, length], &bytes[..]].concat()
    };
    let mut samples: Vec<Vec<u8>> = all.iter().map(part).collect();
    samples.push(samples.concat());
    samples
}
