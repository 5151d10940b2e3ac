//! The contract, a line at a time. What a test's name says was tried against a real etcd
//! (3.5.1 and 3.7.3).

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use bytes::Bytes;
use etcd::{Error, Evaluated, Limits, Request, Response};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::response_op::Response as Answer;
use support::{Solo, del, del_op, get, get_op, keys, machine, op, put, put_op, span, then, twin};

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.unwrap().revision
}

/// A state with keys `a` to `e`, at revisions 2 to 6.
fn alphabet() -> Solo {
    let mut solo = Solo::new();
    for (position, key) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        solo.put(put(key, &position.to_string())).unwrap();
    }
    solo
}

#[test]
fn a_fresh_store_is_at_revision_1() {
    let mut solo = Solo::new();
    let response = solo.range(get("x")).unwrap();
    assert_eq!((revision(response.header), response.count), (1, 0));
    assert!(response.kvs.is_empty());
}

#[test]
fn exactly_one_revision_per_mutating_transaction() {
    let mut solo = Solo::new();
    assert_eq!(revision(solo.put(put("a", "1")).unwrap().header), 2);
    let many = then(vec![put_op("b", ""), put_op("c", ""), del_op("a", "")]);
    assert_eq!(revision(solo.txn(many).unwrap().header), 3);
    let commit = solo.machine.view().get(b"c", mvcc::Revision(3)).unwrap().unwrap();
    assert_eq!((commit.create_revision.0, commit.version), (3, 1));
}

#[test]
fn no_revision_for_what_changes_no_key() {
    let mut solo = alphabet();
    let before = solo.revision();
    solo.txn(then(vec![get_op("a")])).unwrap();
    solo.delete(del("nothing", "")).unwrap();
    solo.txn(then(vec![del_op("x", "y")])).unwrap();
    solo.grant(5, 60).unwrap();
    solo.compact(3).unwrap();
    assert_eq!(solo.revision(), before);
    assert_eq!(solo.index, 1 + 5 + 2, "only the grant and the compaction are proposed");
}

#[test]
fn a_range_header_carries_the_current_revision_even_for_a_historic_read() {
    let mut solo = alphabet();
    solo.put(put("a", "new")).unwrap();
    let response = solo.range(pb::RangeRequest { revision: 2, ..get("a") }).unwrap();
    assert_eq!(revision(response.header), 7);
    assert_eq!(response.kvs[0].value, &b"0"[..]);
    assert_eq!(response.kvs[0].mod_revision, 2);
}

#[test]
fn headers_inside_transactions_carry_the_revision_at_that_point() {
    let mut solo = alphabet();
    let inner = op(Op::RequestTxn(then(vec![put_op("y", "")])));
    let ops = vec![get_op("a"), put_op("x", ""), get_op("a"), inner, del_op("none", "")];
    let response = solo.txn(then(ops)).unwrap();
    let header = |op: &pb::ResponseOp| match op.response.as_ref().unwrap() {
        Answer::ResponseRange(response) => revision(response.header),
        Answer::ResponsePut(response) => revision(response.header),
        Answer::ResponseDeleteRange(response) => revision(response.header),
        Answer::ResponseTxn(response) => revision(response.header),
    };
    let headers: Vec<i64> = response.responses.iter().map(header).collect();
    assert_eq!(headers, [6, 7, 7, 0, 7]);
    assert_eq!(revision(response.header), 7);
}

#[test]
fn a_delete_that_matches_nothing_has_the_old_revision() {
    let mut solo = alphabet();
    let response = solo.delete(del("x", "")).unwrap();
    assert_eq!((revision(response.header), response.deleted), (6, 0));
    let response = solo.delete(pb::DeleteRangeRequest { prev_kv: true, ..del("b", "d") }).unwrap();
    assert_eq!((revision(response.header), response.deleted), (7, 2));
    assert_eq!(response.prev_kvs.len(), 2);
}

#[test]
fn range_end_empty_is_one_key_and_zero_is_every_key_from_there() {
    let mut solo = alphabet();
    assert_eq!(keys(&solo.range(get("b")).unwrap()), ["b"]);
    assert_eq!(keys(&solo.range(span("b", "\0")).unwrap()), ["b", "c", "d", "e"]);
    assert_eq!(keys(&solo.range(span("\0", "\0")).unwrap()), ["a", "b", "c", "d", "e"]);
    assert_eq!(keys(&solo.range(span("b", "d")).unwrap()), ["b", "c"]);
    assert!(keys(&solo.range(span("d", "b")).unwrap()).is_empty());
}

#[test]
fn an_empty_key_is_an_error_everywhere() {
    let mut solo = alphabet();
    assert_eq!(solo.range(get("")), Err(Error::EmptyKey));
    assert_eq!(solo.put(put("", "x")), Err(Error::EmptyKey));
    assert_eq!(solo.delete(del("", "\0")), Err(Error::EmptyKey));
    for bad in [get_op(""), put_op("", ""), del_op("", "")] {
        assert_eq!(solo.txn(then(vec![bad])), Err(Error::EmptyKey));
    }
    let compare = vec![pb::Compare::default()];
    assert_eq!(solo.txn(pb::TxnRequest { compare, ..then(vec![]) }), Err(Error::EmptyKey));
}

#[test]
fn count_ignores_limit_and_filters() {
    let mut solo = alphabet();
    let all = span("a", "\0");
    let limited = solo.range(pb::RangeRequest { limit: 2, ..all.clone() }).unwrap();
    assert_eq!((limited.kvs.len(), limited.count, limited.more), (2, 5, true));
    let exact = solo.range(pb::RangeRequest { limit: 5, ..all.clone() }).unwrap();
    assert_eq!((exact.kvs.len(), exact.count, exact.more), (5, 5, false));
    let filtered = solo.range(pb::RangeRequest { min_mod_revision: 5, ..all.clone() }).unwrap();
    assert_eq!((filtered.kvs.len(), filtered.count, filtered.more), (2, 5, false));
    let counted = solo.range(pb::RangeRequest { count_only: true, limit: 1, ..all }).unwrap();
    assert_eq!((counted.kvs.len(), counted.count, counted.more), (0, 5, false));
}

#[test]
fn filters_and_sorts_apply_before_the_limit() {
    let mut solo = alphabet();
    let newest = pb::RangeRequest { sort_order: 2, sort_target: 3, limit: 2, ..span("a", "\0") };
    let response = solo.range(newest.clone()).unwrap();
    assert_eq!((keys(&response), response.more), (vec!["e".into(), "d".into()], true));
    let old = pb::RangeRequest { max_mod_revision: 4, ..newest };
    let response = solo.range(old).unwrap();
    assert_eq!((keys(&response), response.more), (vec!["c".into(), "b".into()], true));
    let down = pb::RangeRequest { sort_order: 2, limit: 2, ..span("a", "\0") };
    assert_eq!(keys(&solo.range(down).unwrap()), ["e", "d"]);
}

#[test]
fn a_target_without_an_order_sorts_ascending_what_the_limit_left() {
    let mut solo = alphabet();
    solo.put(put("a", "again")).unwrap();
    let by_version = pb::RangeRequest { sort_target: 1, ..span("a", "\0") };
    assert_eq!(keys(&solo.range(by_version.clone()).unwrap()), ["b", "c", "d", "e", "a"]);
    let limited = pb::RangeRequest { limit: 2, ..by_version };
    assert_eq!(keys(&solo.range(limited).unwrap()), ["b", "c"]);
}

#[test]
fn unknown_sorts_are_refused() {
    let mut solo = alphabet();
    let bad = pb::RangeRequest { sort_order: 3, ..get("a") };
    assert_eq!(solo.range(bad), Err(Error::InvalidSortOption));
    let bad = pb::RangeRequest { sort_target: 5, ..get("a") };
    assert_eq!(solo.range(bad), Err(Error::InvalidSortOption));
}

#[test]
fn keys_only_leaves_out_the_lease_unless_sorted_by_value() {
    let mut solo = Solo::new();
    solo.grant(9, 60).unwrap();
    solo.put(pb::PutRequest { lease: 9, ..put("a", "v") }).unwrap();
    let kv = |solo: &mut Solo, sort_target| {
        let request = pb::RangeRequest { keys_only: true, sort_target, ..get("a") };
        solo.range(request).unwrap().kvs.remove(0)
    };
    assert_eq!((kv(&mut solo, 0).lease, kv(&mut solo, 0).value), (0, Bytes::new()));
    assert_eq!((kv(&mut solo, 4).lease, kv(&mut solo, 4).value), (9, Bytes::new()));
    assert_eq!(kv(&mut solo, 0).version, 1);
}

#[test]
fn put_keeps_what_it_is_told_to_keep() {
    let mut solo = Solo::new();
    solo.grant(9, 60).unwrap();
    let missing = pb::PutRequest { ignore_value: true, ..put("a", "") };
    assert_eq!(solo.put(missing.clone()), Err(Error::KeyNotFound));
    solo.put(pb::PutRequest { lease: 9, ..put("a", "v") }).unwrap();
    solo.put(pb::PutRequest { lease: 9, ..missing }).unwrap();
    solo.put(pb::PutRequest { ignore_lease: true, ..put("a", "w") }).unwrap();
    let kv = solo.range(get("a")).unwrap().kvs.remove(0);
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"w"[..], 9, 3));
    assert_eq!((kv.create_revision, kv.mod_revision), (2, 4));
    let both =
        pb::PutRequest { ignore_value: true, ignore_lease: true, prev_kv: true, ..put("a", "") };
    let response = solo.put(both).unwrap();
    assert_eq!(response.prev_kv.unwrap().version, 3);
    let value = pb::PutRequest { ignore_value: true, ..put("a", "x") };
    assert_eq!(solo.put(value), Err(Error::ValueProvided));
    let lease = pb::PutRequest { ignore_lease: true, lease: 9, ..put("a", "x") };
    assert_eq!(solo.put(lease), Err(Error::LeaseProvided));
}

#[test]
fn a_txn_sees_its_own_writes_and_compares_see_none() {
    let mut solo = alphabet();
    let compare = |value: &'static str| pb::Compare {
        result: 0,
        target: 3,
        key: "a".into(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::Value(value.into())),
    };
    let inner =
        pb::TxnRequest { compare: vec![compare("0")], success: vec![get_op("a")], failure: vec![] };
    let ops = vec![put_op("a", "new"), op(Op::RequestTxn(inner)), del_op("b", "d"), get_op("b")];
    let response = solo.txn(pb::TxnRequest { compare: vec![compare("0")], ..then(ops) }).unwrap();
    assert!(response.succeeded);
    let Answer::ResponseTxn(inner) = response.responses[1].response.clone().unwrap() else {
        panic!("{response:?}")
    };
    assert!(inner.succeeded, "an inner compare looks at the state before the transaction");
    let Answer::ResponseRange(read) = inner.responses[0].response.clone().unwrap() else {
        panic!("{inner:?}")
    };
    assert_eq!((&read.kvs[0].value[..], read.kvs[0].mod_revision), (&b"new"[..], 7));
    let Answer::ResponseRange(read) = response.responses[3].response.clone().unwrap() else {
        panic!("{response:?}")
    };
    assert_eq!(read.count, 0);
}

#[test]
fn a_failed_check_fails_the_whole_txn() {
    let mut solo = alphabet();
    for (bad, error) in [
        (op(Op::RequestRange(pb::RangeRequest { revision: 99, ..get("a") })), Error::FutureRev),
        (op(Op::RequestPut(pb::PutRequest { lease: 4, ..put("x", "") })), Error::LeaseNotFound),
        (
            op(Op::RequestPut(pb::PutRequest { ignore_value: true, ..put("x", "") })),
            Error::KeyNotFound,
        ),
    ] {
        assert_eq!(solo.txn(then(vec![put_op("y", ""), bad.clone()])), Err(error));
        let other_branch = pb::TxnRequest { failure: vec![bad], ..then(vec![put_op("a", "")]) };
        solo.txn(other_branch).unwrap();
    }
    assert_eq!(solo.range(get("y")).unwrap().count, 0);
}

#[test]
fn compares_with_a_missing_key() {
    let mut solo = alphabet();
    let holds = |solo: &mut Solo, target: i32, result: i32, with: TargetUnion| {
        let (key, range_end) = ("missing".into(), Bytes::new());
        let compare = pb::Compare { result, target, key, range_end, target_union: Some(with) };
        let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
        solo.txn(txn).unwrap().succeeded
    };
    assert!(holds(&mut solo, 0, 0, TargetUnion::Version(0)));
    assert!(holds(&mut solo, 1, 0, TargetUnion::CreateRevision(0)));
    assert!(holds(&mut solo, 2, 2, TargetUnion::ModRevision(1)));
    assert!(holds(&mut solo, 4, 0, TargetUnion::Lease(0)));
    for result in 0..4 {
        assert!(!holds(&mut solo, 3, result, TargetUnion::Value(Bytes::new())));
    }
}

#[test]
fn a_range_compare_must_hold_for_every_key() {
    let mut solo = alphabet();
    let holds = |solo: &mut Solo, end: &'static [u8], below: i64| {
        let compare = pb::Compare {
            result: 2,
            target: 2,
            key: "a".into(),
            range_end: Bytes::from_static(end),
            target_union: Some(TargetUnion::ModRevision(below)),
        };
        let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
        solo.txn(txn).unwrap().succeeded
    };
    assert!(holds(&mut solo, b"d", 5) && !holds(&mut solo, b"e", 5));
    assert!(holds(&mut solo, b"\0", 7) && !holds(&mut solo, b"\0", 6));
}

#[test]
fn at_most_128_operations() {
    let mut solo = Solo::new();
    let puts = |n: usize| (0..n).map(|i| put_op(&i.to_string(), "")).collect::<Vec<_>>();
    solo.txn(then(puts(128))).unwrap();
    assert_eq!(solo.txn(then(puts(129))), Err(Error::TooManyOps));
    let failure = pb::TxnRequest { failure: puts(129), ..Default::default() };
    assert_eq!(solo.txn(failure), Err(Error::TooManyOps));
    let mut small = Solo::with(Limits { max_txn_ops: 2, ..Limits::default() });
    assert_eq!(small.txn(then(puts(3))), Err(Error::TooManyOps));
}

#[test]
fn a_key_put_and_deleted_in_one_txn_ends_as_the_last_one_left_it() {
    let inner = |ops| op(Op::RequestTxn(then(ops)));
    let mut solo = alphabet();
    solo.txn(then(vec![inner(vec![put_op("new", "1")]), inner(vec![del_op("new", "")])])).unwrap();
    assert_eq!((solo.range(get("new")).unwrap().count, solo.revision()), (0, 7));
    solo.txn(then(vec![inner(vec![put_op("a", "1")]), inner(vec![del_op("a", "")])])).unwrap();
    assert_eq!(solo.range(get("a")).unwrap().count, 0);
    // A deletion to the end of the keyspace is not held against the put.
    solo.txn(then(vec![del_op("b", "\0"), put_op("c", "back")])).unwrap();
    let kv = solo.range(get("c")).unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.version), (9, 1));
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["c"]);
    assert_eq!(solo.machine.state().live_keys(), 1);
}

#[test]
fn a_kept_value_or_lease_of_a_key_just_deleted_is_empty() {
    // etcd 3.7.3 panics here.
    let mut solo = alphabet();
    solo.grant(9, 60).unwrap();
    solo.put(pb::PutRequest { lease: 9, ..put("c", "v") }).unwrap();
    let keep = pb::PutRequest { ignore_value: true, ignore_lease: true, ..put("c", "") };
    solo.txn(then(vec![del_op("b", "\0"), op(Op::RequestPut(keep))])).unwrap();
    let kv = solo.range(get("c")).unwrap().kvs.remove(0);
    assert_eq!((kv.value.len(), kv.lease, kv.version), (0, 0, 1));
}

#[test]
fn compaction_and_the_revisions_around_it() {
    let mut solo = alphabet();
    assert_eq!(solo.compact(7), Err(Error::FutureRev));
    assert_eq!(solo.compact(4), Ok(6));
    assert_eq!(solo.compact(4), Err(Error::Compacted));
    assert_eq!(solo.compact(3), Err(Error::Compacted));
    let at = |revision| pb::RangeRequest { revision, ..get("a") };
    assert_eq!(solo.range(at(3)), Err(Error::Compacted));
    assert_eq!(solo.range(at(4)).unwrap().count, 1);
    assert_eq!(solo.range(at(7)), Err(Error::FutureRev));
    assert_eq!(solo.range(at(-3)).unwrap().count, 1);
    let inside = |revision| then(vec![op(Op::RequestRange(at(revision)))]);
    assert_eq!(solo.txn(inside(3)), Err(Error::Compacted));
    assert_eq!(solo.txn(inside(-1)), Err(Error::Compacted));
    assert!(solo.txn(inside(4)).is_ok());
    assert_eq!(solo.compact(6), Ok(6));
}

#[test]
fn a_first_compaction_at_0_succeeds_once() {
    let mut solo = alphabet();
    let inside = then(vec![op(Op::RequestRange(pb::RangeRequest { revision: -1, ..get("a") }))]);
    assert!(solo.txn(inside.clone()).is_ok());
    assert_eq!(solo.compact(0), Ok(6));
    assert_eq!(solo.compact(0), Err(Error::Compacted));
    assert_eq!(solo.txn(inside), Err(Error::Compacted));
    assert_eq!(solo.compact(1), Ok(6));
    let mut solo = alphabet();
    assert_eq!(solo.compact(-1), Err(Error::Compacted));
}

#[test]
fn requests_have_a_size() {
    let limits = Limits { max_request_bytes: 1000, ..Limits::default() };
    let mut solo = Solo::with(limits);
    solo.put(put("k", &"v".repeat(900))).unwrap();
    assert_eq!(solo.put(put("k", &"v".repeat(990))), Err(Error::RequestTooLarge));
    // What is wrong with its form comes first.
    assert_eq!(solo.put(put("", &"v".repeat(990))), Err(Error::EmptyKey));
    // Reads are not proposed: no limit.
    assert!(solo.range(get(&"k".repeat(2000))).is_ok());
}

/// A member whose entries are small, with so many keys.
fn with_small_entries(count: usize) -> Solo {
    let limits = Limits { effects_bytes_max: 1000, ..Limits::default() };
    let mut solo = Solo::with(limits);
    for key in 0..count {
        solo.put(put(&format!("key {key:03}"), &"v".repeat(400))).unwrap();
    }
    solo
}

#[test]
fn effects_have_a_size() {
    let mut solo = with_small_entries(200);
    let before = (solo.revision(), solo.log.len());
    let mut all = del("\0", "\0");
    assert_eq!(solo.delete(all.clone()), Err(Error::RequestTooLarge));
    all.prev_kv = true;
    assert_eq!(solo.delete(all), Err(Error::RequestTooLarge));
    let halves = then(vec![del_op("key 000", "key 060"), del_op("key 060", "key 120")]);
    assert_eq!(solo.txn(halves), Err(Error::RequestTooLarge));
    let keep = |key: &str| pb::PutRequest { ignore_value: true, ..put(key, "") };
    let kept = ["key 000", "key 001", "key 002"].map(|key| op(Op::RequestPut(keep(key))));
    assert_eq!(
        solo.txn(then(kept.to_vec())),
        Err(Error::RequestTooLarge),
        "small, and writes much"
    );
    assert_eq!(solo.put(put("k", &"v".repeat(1000))), Err(Error::RequestTooLarge));
    assert_eq!(solo.machine.in_flight(), 0, "nothing is left of what was refused");
    assert_eq!((solo.revision(), solo.log.len()), before);
    // In smaller portions it works.
    assert_eq!(solo.delete(del("key 000", "key 050")).unwrap().deleted, 50);
    assert_eq!(solo.txn(then(kept[..1].to_vec())), Err(Error::KeyNotFound));
    assert_eq!(solo.range(span("\0", "\0")).unwrap().count, 150);
}

#[test]
fn effects_may_have_just_their_size() {
    let mut solo = with_small_entries(0);
    let mut longest = 0;
    for length in 800..1000 {
        match solo.put(put("k", &"v".repeat(length))) {
            Ok(_) => longest = length,
            Err(error) => assert_eq!(error, Error::RequestTooLarge),
        }
    }
    let bytes = solo.log.last().unwrap().len();
    assert!((950..=1000).contains(&bytes), "{bytes} bytes of a value of {longest}");
    let mut solo = with_small_entries(200);
    let mut deleted = 0;
    for key in 0..200 {
        match solo.delete(del("key 000", &format!("key {key:03}"))) {
            Ok(response) => deleted = deleted.max(response.deleted),
            Err(error) => assert_eq!(error, Error::RequestTooLarge),
        }
        for key in 0..deleted {
            solo.put(put(&format!("key {key:03}"), "v")).unwrap();
        }
    }
    let longest = solo.log.iter().map(bytes::Bytes::len).max().unwrap();
    assert!((950..=1000).contains(&longest), "{longest} bytes of {deleted} deletions");
}

#[test]
fn proposals_in_flight_are_bounded() {
    let mut machine = machine(Limits { max_proposals_in_flight: 2, ..Limits::default() });
    machine.skip(1, 1);
    machine.lead(std::time::Duration::ZERO, 1).unwrap();
    let mut ask = |request| machine.evaluate(std::time::Duration::ZERO, request);
    for key in ["a", "b"] {
        assert!(matches!(ask(Request::Put(put(key, ""))), Evaluated::Propose { .. }));
    }
    assert_eq!(ask(Request::Put(put("c", ""))), Evaluated::Refused(Error::TooManyRequests));
    assert!(matches!(ask(Request::Range(get("a"))), Evaluated::Read(_)));
}

#[test]
fn a_follower_evaluates_nothing() {
    let mut machine = machine(Limits::default());
    let refused = machine.evaluate(std::time::Duration::ZERO, Request::Put(put("a", "")));
    assert_eq!(refused, Evaluated::Refused(Error::NotLeader));
    let view = machine.view();
    let wrong = etcd::read(&view, &Request::Put(put("a", "")), &Limits::default());
    assert_eq!(wrong, Err(Error::NotLeader));
}

#[test]
fn entries_of_another_term_do_nothing() {
    let mut leader = Solo::new();
    leader.put(put("a", "1")).unwrap();
    let mut other = machine(Limits::default());
    other.skip(1, 1);
    let applied = other.apply(std::time::Duration::ZERO, 2, 3, &leader.log[0]).unwrap();
    assert!(applied.stale && applied.commit.is_none());
    assert_eq!((other.view().revision().0, other.applied().index), (1, 2));
}

#[test]
fn a_damaged_entry_is_an_error_and_changes_nothing() {
    let mut solo = Solo::new();
    solo.put(put("a", "1")).unwrap();
    let before = solo.machine.view().hash().unwrap();
    let log = solo.log[0].clone();
    let apply = |solo: &mut Solo, bytes: &Bytes| {
        solo.machine.apply(solo.now, 3, 1, bytes).map(|_| ()).unwrap_err()
    };
    apply(&mut solo, &Bytes::from_static(b"\xff\xff"));
    apply(&mut solo, &log);
    assert_eq!(solo.machine.view().hash().unwrap(), before);
    assert_eq!(solo.machine.applied().index, 2);
}

fn alarm(solo: &mut Solo, action: i32, member_id: u64, alarm: i32) -> Vec<pb::AlarmMember> {
    let request = pb::AlarmRequest { action, member_id, alarm };
    match solo.ask(Request::Alarm(request)).unwrap() {
        Response::Alarm(response) => {
            assert_eq!(revision(response.header), solo.revision());
            response.alarms
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nospace_rejects_what_adds_to_the_state() {
    let mut solo = alphabet();
    solo.grant(9, 60).unwrap();
    let raised = pb::AlarmMember { member_id: 3, alarm: 1 };
    assert_eq!(alarm(&mut solo, 1, 3, 1), [raised]);
    assert_eq!(alarm(&mut solo, 1, 3, 1), [raised]);
    assert_eq!(alarm(&mut solo, 1, 3, 0), []);
    assert_eq!(solo.put(put("x", "")), Err(Error::NoSpace));
    assert_eq!(solo.put(put("", "")), Err(Error::EmptyKey));
    assert_eq!(solo.grant(10, 60), Err(Error::NoSpace));
    let either = pb::TxnRequest { failure: vec![put_op("x", "")], ..then(vec![del_op("b", "")]) };
    assert_eq!(solo.txn(either), Err(Error::NoSpace));
    solo.txn(then(vec![del_op("b", "")])).unwrap();
    solo.delete(del("a", "")).unwrap();
    solo.compact(3).unwrap();
    solo.revoke(9).unwrap();
    assert_eq!(alarm(&mut solo, 0, 0, 0), [raised]);
    assert_eq!(alarm(&mut solo, 0, 0, 2), []);
    assert_eq!(alarm(&mut solo, 2, 4, 1), []);
    assert_eq!(alarm(&mut solo, 2, 3, 1), [raised]);
    solo.put(put("x", "")).unwrap();
}

#[test]
fn corrupt_rejects_every_write_and_no_read() {
    let mut solo = alphabet();
    solo.grant(9, 60).unwrap();
    alarm(&mut solo, 1, 3, 1);
    alarm(&mut solo, 1, 4, 2);
    assert_eq!(solo.put(put("x", "")), Err(Error::Corrupt));
    assert_eq!(solo.delete(del("a", "")), Err(Error::Corrupt));
    assert_eq!(solo.txn(then(vec![del_op("a", "")])), Err(Error::Corrupt));
    assert_eq!(solo.compact(3), Err(Error::Corrupt));
    assert_eq!(solo.grant(10, 60), Err(Error::Corrupt));
    assert_eq!(solo.revoke(9), Err(Error::Corrupt));
    assert_eq!(solo.range(get("a")).unwrap().count, 1);
    solo.txn(then(vec![get_op("a")])).unwrap();
    assert_eq!(solo.keep_alive(9), 60);
    alarm(&mut solo, 2, 4, 2);
    assert_eq!(solo.put(put("x", "")), Err(Error::NoSpace));
}

#[test]
fn an_alarm_in_flight_counts_and_one_taken_back_does_not() {
    let mut solo = Solo::new();
    let request = pb::AlarmRequest { action: 1, member_id: 3, alarm: 1 };
    let raise = solo.machine.evaluate(solo.now, Request::Alarm(request));
    assert!(matches!(raise, Evaluated::Propose { .. }));
    assert_eq!(solo.put(put("x", "")), Err(Error::NoSpace));
    solo.machine.retract(1);
    solo.put(put("x", "")).unwrap();
}

#[test]
fn the_quota_raises_the_alarm_and_comes_before_all_other_checks() {
    let mut solo = Solo::with(Limits { quota_bytes: Some(10_000), ..Limits::default() });
    solo.put(put("a", "1")).unwrap();
    solo.machine.observe_size(9_900);
    assert_eq!(solo.put(put("", "")), Err(Error::NoSpace));
    let raised = pb::AlarmMember { member_id: support::LEADER, alarm: 1 };
    assert_eq!(alarm(&mut solo, 0, 0, 0), [raised]);
    let index = solo.index;
    assert_eq!(solo.put(put("b", "")), Err(Error::NoSpace));
    assert_eq!(solo.grant(0, 60), Err(Error::NoSpace));
    assert_eq!(solo.index, index, "an alarm is raised once");
    solo.delete(del("a", "")).unwrap();
    solo.machine.observe_size(100);
    assert_eq!(solo.put(put("b", "")), Err(Error::NoSpace), "until it is cleared");
    alarm(&mut solo, 2, support::LEADER, 1);
    solo.put(put("b", "")).unwrap();
}

#[test]
fn hashes_are_of_a_revision() {
    let mut solo = alphabet();
    let hash = |solo: &Solo, revision| {
        let request = Request::HashKv(pb::HashKvRequest { revision });
        match etcd::read(&solo.machine.view(), &request, &Limits::default()) {
            Ok(Response::HashKv(response)) => Ok(response),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let before = hash(&solo, 4).unwrap();
    assert_eq!((before.hash_revision, before.compact_revision), (4, -1));
    assert_eq!(revision(before.header), 6);
    solo.put(put("z", "")).unwrap();
    assert_eq!(hash(&solo, 4).unwrap().hash, before.hash);
    assert_ne!(hash(&solo, 0).unwrap().hash, before.hash);
    assert_eq!(hash(&solo, 8), Err(Error::FutureRev));
    solo.compact(5).unwrap();
    assert_eq!(hash(&solo, 4), Err(Error::Compacted));
    assert_eq!(hash(&solo, 5).unwrap().compact_revision, 5);
}

#[test]
fn authentication_is_off() {
    let mut solo = alphabet();
    let Ok(Response::AuthStatus(response)) =
        solo.ask(Request::AuthStatus(pb::AuthStatusRequest {}))
    else {
        panic!("AuthStatus needs no authentication")
    };
    assert_eq!((response.enabled, response.auth_revision), (false, 1));
    assert_eq!(revision(response.header), 6);
}

#[test]
fn a_range_on_the_wire_is_what_was_stored() {
    let mut solo = alphabet();
    let Ok(Response::Range(response)) = solo.ask(Request::Range(span("a", "\0"))) else {
        panic!("a range")
    };
    let stored = solo.machine.view().get(b"c", mvcc::Revision(6)).unwrap().unwrap().encoded;
    assert_eq!(response.kvs[2].as_ptr(), stored.as_ptr(), "nothing is copied");
    let decoded: pb::RangeResponse = twin(&response);
    assert_eq!(decoded.kvs[2].key, &b"c"[..]);
}
