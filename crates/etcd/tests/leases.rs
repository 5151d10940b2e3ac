//! Leases: what is promised, when it ends, and what ends with it.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use etcd::{Error, Evaluated, Limits, Request};
use proto::etcdserverpb as pb;
use support::{Solo, del, get, keys, machine, op, put, span, then};

const SECOND: Duration = Duration::from_secs(1);

fn leased(key: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest { lease, ..put(key, "v") }
}

fn attached(solo: &mut Solo, lease: i64) -> Vec<Bytes> {
    solo.time_to_live(lease).keys
}

#[test]
fn a_grant_has_bounds() {
    let mut solo = Solo::new();
    assert_eq!(solo.grant(1, 60).unwrap().ttl, 60);
    assert_eq!(solo.grant(1, 60), Err(Error::LeaseExist));
    assert_eq!(solo.grant(2, -7).unwrap().ttl, 2);
    assert_eq!(solo.grant(-3, 9_000_000_000).unwrap().ttl, 9_000_000_000);
    assert_eq!(solo.grant(1, 9_000_000_001), Err(Error::LeaseTtlTooLarge));
    assert_eq!(solo.revision(), 1);
}

#[test]
fn an_id_left_to_the_server_is_positive_and_new() {
    let mut solo = Solo::new();
    let ids: Vec<i64> = (0..100).map(|_| solo.grant(0, 60).unwrap().id).collect();
    assert!(ids.iter().all(|id| *id > 0));
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    // The next leader with the same seed starts elsewhere.
    solo.machine.follow();
    solo.index += 1;
    solo.term += 1;
    solo.machine.skip(solo.index, solo.term);
    solo.machine.lead(solo.now, solo.term).unwrap();
    assert!(!ids.contains(&solo.grant(0, 60).unwrap().id));
}

#[test]
fn an_unknown_lease_is_an_error_to_some_and_a_number_to_others() {
    let mut solo = Solo::new();
    assert_eq!(solo.put(leased("a", 5)), Err(Error::LeaseNotFound));
    assert_eq!(solo.revoke(5), Err(Error::LeaseNotFound));
    assert_eq!(solo.revoke(0), Err(Error::LeaseNotFound));
    assert_eq!(solo.keep_alive(5), 0);
    let response = solo.time_to_live(5);
    assert_eq!((response.ttl, response.granted_ttl, response.id), (-1, 0, 5));
}

#[test]
fn keys_attach_move_and_detach() {
    let mut solo = Solo::new();
    solo.grant(1, 60).unwrap();
    solo.grant(2, 60).unwrap();
    for key in ["c", "a", "b"] {
        solo.put(leased(key, 1)).unwrap();
    }
    assert_eq!(attached(&mut solo, 1), ["a", "b", "c"]);
    solo.put(leased("a", 2)).unwrap();
    solo.put(put("b", "plain")).unwrap();
    assert_eq!(attached(&mut solo, 1), ["c"]);
    assert_eq!(attached(&mut solo, 2), ["a"]);
    solo.put(pb::PutRequest { ignore_lease: true, ..put("a", "w") }).unwrap();
    assert_eq!(attached(&mut solo, 2), ["a"]);
    solo.delete(del("a", "")).unwrap();
    assert_eq!(attached(&mut solo, 2), [] as [&str; 0]);
    // A key that comes back without the lease does not fall with it.
    solo.put(put("a", "again")).unwrap();
    solo.revoke(2).unwrap();
    assert_eq!(solo.range(get("a")).unwrap().count, 1);
}

#[test]
fn a_revocation_deletes_all_keys_at_one_revision_in_key_order() {
    let mut solo = Solo::new();
    solo.grant(1, 60).unwrap();
    for key in ["c", "a", "b"] {
        solo.put(leased(key, 1)).unwrap();
    }
    solo.put(put("d", "")).unwrap();
    let before = solo.revision();
    let effects = match solo
        .machine
        .evaluate(solo.now, Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }))
    {
        Evaluated::Propose { effects, .. } => effects,
        other => panic!("{other:?}"),
    };
    let commit = solo.apply(effects).commit.unwrap();
    assert_eq!(commit.revision.0, before + 1);
    let order: Vec<&[u8]> = commit.changes.iter().map(|change| &change.key[..]).collect();
    assert_eq!(order, [b"a", b"b", b"c"]);
    assert!(commit.changes.iter().all(|change| change.record.is_none()));
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["d"]);
    assert_eq!(solo.put(leased("a", 1)), Err(Error::LeaseNotFound));
    assert!(solo.leases().is_empty());
}

#[test]
fn a_lease_without_keys_ends_without_a_revision() {
    let mut solo = Solo::new();
    solo.grant(1, 60).unwrap();
    assert_eq!(solo.revoke(1), Ok(1));
    assert_eq!(solo.grant(1, 60).unwrap().id, 1);
}

#[test]
fn a_lease_ends_when_its_time_is_up_and_not_before() {
    let mut solo = Solo::new();
    solo.now = 100 * SECOND;
    solo.grant(1, 10).unwrap();
    solo.put(leased("a", 1)).unwrap();
    assert_eq!(solo.machine.next_deadline(), Some(110 * SECOND));
    solo.now = 110 * SECOND - Duration::from_nanos(1);
    assert_eq!((solo.expire(), solo.time_to_live(1).ttl), (0, 0));
    solo.now = 110 * SECOND;
    let before = solo.revision();
    assert_eq!((solo.expire(), solo.revision()), (1, before + 1));
    assert_eq!(solo.range(get("a")).unwrap().count, 0);
    assert_eq!(solo.machine.next_deadline(), None);
    assert_eq!(solo.keep_alive(1), 0);
}

#[test]
fn a_sign_of_life_moves_the_end() {
    let mut solo = Solo::new();
    solo.grant(1, 10).unwrap();
    solo.now = 9 * SECOND;
    assert_eq!(solo.keep_alive(1), 10);
    solo.now = 18 * SECOND;
    assert_eq!((solo.expire(), solo.time_to_live(1).ttl), (0, 1));
    solo.now = 19 * SECOND;
    assert_eq!(solo.expire(), 1);
}

#[test]
fn a_sign_of_life_after_the_end_comes_too_late() {
    let mut solo = Solo::new();
    solo.grant(1, 10).unwrap();
    solo.put(leased("a", 1)).unwrap();
    solo.now = 10 * SECOND;
    assert_eq!(solo.keep_alive(1), 0);
    assert_eq!(solo.range(get("a")).unwrap().count, 0, "and the answer waited for the end");
    assert_eq!(solo.expire(), 0);
}

#[test]
fn the_time_of_a_lease_begins_when_its_grant_is_applied() {
    let mut solo = Solo::new();
    let request = Request::LeaseGrant(pb::LeaseGrantRequest { id: 1, ttl: 10 });
    let Evaluated::Propose { effects, .. } = solo.machine.evaluate(solo.now, request) else {
        panic!("a grant is proposed")
    };
    assert_eq!(solo.machine.next_deadline(), None);
    assert_eq!(solo.keep_alive(1), 10, "a grant in flight is there for requests after it");
    solo.now = 30 * SECOND;
    assert_eq!(solo.expire(), 0);
    solo.apply(effects);
    assert_eq!(solo.machine.next_deadline(), Some(40 * SECOND));
}

#[test]
fn a_new_leader_promises_the_whole_ttl_again() {
    let limits = Limits { lease_extension: 3 * SECOND, ..Limits::default() };
    let mut old = Solo::with(limits.clone());
    old.grant(1, 10).unwrap();
    old.put(leased("a", 1)).unwrap();
    let mut new = machine(limits);
    new.skip(1, 1);
    for (index, effects) in old.log.iter().enumerate() {
        let index = u64::try_from(index).unwrap() + 2;
        new.apply(Duration::ZERO, index, 1, effects).unwrap();
    }
    assert_eq!(new.next_deadline(), None, "a follower ends no lease");
    assert_eq!(new.expire(1000 * SECOND).unwrap().effects, [] as [Bytes; 0]);
    new.skip(4, 2);
    new.lead(500 * SECOND, 2).unwrap();
    assert_eq!(new.next_deadline(), Some(513 * SECOND));
    assert_eq!(new.expire(513 * SECOND).unwrap().effects.len(), 1);
}

#[test]
fn an_end_that_raft_refused_comes_again() {
    let mut solo = Solo::new();
    solo.grant(1, 10).unwrap();
    solo.grant(2, 10).unwrap();
    solo.now = 10 * SECOND;
    assert_eq!(solo.machine.expire(solo.now).unwrap().effects.len(), 2);
    assert_eq!(solo.machine.next_deadline(), None);
    assert!(solo.leases().is_empty());
    solo.machine.retract(2);
    assert_eq!(solo.leases(), [1, 2]);
    // After a while: whoever asks at once is refused again.
    let again = solo.machine.next_deadline().unwrap();
    assert!(again > 10 * SECOND && again <= 11 * SECOND, "{again:?}");
    assert_eq!(solo.expire(), 0);
    solo.now = again;
    assert_eq!(solo.expire(), 2);
}

#[test]
fn ends_that_raft_refused_come_again_when_something_is_applied() {
    let mut solo = Solo::new();
    solo.grant(1, 10).unwrap();
    solo.now = 10 * SECOND;
    let Evaluated::Propose { effects, .. } =
        solo.machine.evaluate(solo.now, Request::Put(put("a", "")))
    else {
        panic!("a put is proposed")
    };
    assert_eq!(solo.machine.expire(solo.now).unwrap().effects.len(), 1);
    solo.machine.retract(1);
    assert!(solo.machine.next_deadline().unwrap() > solo.now);
    solo.apply(effects);
    assert_eq!(solo.machine.next_deadline(), Some(solo.now));
    assert_eq!(solo.expire(), 1);
}

#[test]
fn ends_wait_until_there_is_room_in_flight() {
    let mut solo = Solo::with(Limits { max_proposals_in_flight: 2, ..Limits::default() });
    for id in 1..=3 {
        solo.grant(id, 10).unwrap();
    }
    solo.now = 10 * SECOND;
    let flight = solo.machine.expire(solo.now).unwrap().effects;
    assert_eq!(flight.len(), 2);
    assert_eq!(solo.machine.next_deadline(), None, "nothing but an applied entry changes that");
    assert_eq!(solo.machine.expire(solo.now).unwrap().effects, [] as [Bytes; 0]);
    for effects in flight {
        solo.apply(effects);
        assert_eq!(solo.machine.next_deadline(), Some(10 * SECOND));
    }
    assert_eq!(solo.expire(), 1);
}

#[test]
fn ends_come_in_portions() {
    let mut solo = Solo::with(Limits { max_expiries_at_once: 3, ..Limits::default() });
    for id in 1..=7 {
        solo.grant(id, 10).unwrap();
    }
    solo.now = 10 * SECOND;
    assert_eq!([solo.expire(), solo.expire(), solo.expire(), solo.expire()], [3, 3, 1, 0]);
}

#[test]
fn leases_are_listed_by_their_ends() {
    let mut solo = Solo::new();
    for (id, ttl) in [(1, 30), (2, 10), (-3, 20)] {
        solo.grant(id, ttl).unwrap();
    }
    assert_eq!(solo.leases(), [2, -3, 1]);
    for seconds in [9, 18] {
        solo.now = seconds * SECOND;
        solo.keep_alive(2);
    }
    assert_eq!(solo.leases(), [-3, 2, 1]);
}

#[test]
fn a_lease_and_a_put_in_flight_belong_together() {
    let mut solo = Solo::new();
    let mut flight = Vec::new();
    let requests = [
        Request::LeaseGrant(pb::LeaseGrantRequest { id: 1, ttl: 10 }),
        Request::Put(leased("a", 1)),
        Request::Txn(then(vec![op(pb::request_op::Request::RequestPut(leased("b", 1)))])),
        Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }),
    ];
    for request in requests {
        match solo.machine.evaluate(solo.now, request) {
            Evaluated::Propose { effects, outcome } => {
                assert!(outcome.is_ok(), "{outcome:?}");
                flight.push(effects);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(solo.put(leased("c", 1)), Err(Error::LeaseNotFound));
    let last = flight.into_iter().map(|effects| solo.apply(effects)).last().unwrap();
    assert_eq!(last.commit.unwrap().changes.len(), 2);
    assert_eq!(solo.machine.next_deadline(), None, "revoked before its grant was applied");
}

#[test]
fn an_end_waits_for_a_revocation_in_flight() {
    let mut solo = Solo::new();
    let mut flight = Vec::new();
    for request in [
        Request::LeaseGrant(pb::LeaseGrantRequest { id: 1, ttl: 10 }),
        Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 1 }),
    ] {
        let Evaluated::Propose { effects, .. } = solo.machine.evaluate(solo.now, request) else {
            panic!("both are proposed")
        };
        flight.push(effects);
    }
    solo.apply(flight.remove(0));
    solo.now = 10 * SECOND;
    assert_eq!(solo.machine.expire(solo.now), Ok(etcd::Expired::default()));
    assert!(solo.machine.next_deadline().unwrap() > solo.now);
    solo.machine.retract(1);
    solo.now = 20 * SECOND;
    assert_eq!(solo.expire(), 1, "nobody else ends it now");
}

#[test]
fn no_lease_ends_before_its_time_and_none_after() {
    (0..300).for_each(support::leases::go);
}

/// Effects that end a lease of [`LARGE`] in several parts.
const SMALL_BYTES: usize = 1000;
/// Keys of such a lease.
const LARGE: usize = 50;

fn small() -> Limits {
    Limits { effects_bytes_max: SMALL_BYTES, lease_extension: SECOND, ..Limits::default() }
}

/// With a lease 1 of 10 seconds that has [`LARGE`] keys, and whose time is up.
fn with_a_large_lease() -> Solo {
    let mut solo = Solo::with(small());
    solo.grant(1, 10).unwrap();
    for key in 0..LARGE {
        solo.put(leased(&format!("key {key:03}"), 1)).unwrap();
    }
    solo.put(put("other", "")).unwrap();
    solo.now = 10 * SECOND;
    solo
}

/// Ends what is due, and says which keys went with each part.
fn parts(solo: &mut Solo) -> Vec<Vec<Bytes>> {
    let mut parts = Vec::new();
    while solo.machine.next_deadline().is_some_and(|deadline| deadline <= solo.now) {
        let due = solo.machine.expire(solo.now).unwrap().effects;
        assert_eq!(due.len(), 1, "the next part waits for the one before it");
        assert!(solo.machine.expire(solo.now).unwrap().effects.is_empty());
        for effects in due {
            assert!(effects.len() <= SMALL_BYTES, "{}", effects.len());
            let before = solo.revision();
            let commit = solo.apply(effects).commit.unwrap();
            assert_eq!(commit.revision.0, before + 1);
            assert!(commit.changes.iter().all(|change| change.record.is_none()));
            parts.push(commit.changes.iter().map(|change| change.key.clone()).collect());
        }
    }
    parts
}

fn large_keys() -> Vec<String> {
    (0..LARGE).map(|key| format!("key {key:03}")).collect()
}

#[test]
fn a_lease_with_more_keys_than_an_entry_holds_ends_in_parts() {
    let mut solo = with_a_large_lease();
    let parts = parts(&mut solo);
    assert!(parts.len() > 2 && parts.iter().all(|part| !part.is_empty()), "{}", parts.len());
    assert_eq!(parts.concat(), large_keys(), "each once, in key order");
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["other"]);
    assert_eq!(solo.machine.next_deadline(), None);
    assert_eq!(solo.grant(1, 10).unwrap().id, 1);
}

#[test]
fn a_lease_is_gone_with_the_first_part_of_its_end() {
    let mut solo = with_a_large_lease();
    let first = solo.machine.expire(solo.now).unwrap().effects.remove(0);
    for applied in [false, true] {
        if applied {
            solo.apply(first.clone());
        }
        assert_eq!(solo.put(leased("key 049", 1)), Err(Error::LeaseNotFound));
        assert_eq!(solo.revoke(1), Err(Error::LeaseNotFound));
        assert_eq!(solo.keep_alive(1), 0);
        assert_eq!(solo.time_to_live(1).ttl, -1);
        assert!(solo.leases().is_empty());
        assert_eq!(solo.grant(1, 10), Err(Error::LeaseExist), "its keys are still attached");
    }
    // A key that is put now has left it.
    solo.put(put("key 049", "plain")).unwrap();
    parts(&mut solo);
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["key 049", "other"]);
}

#[test]
fn a_sign_of_life_after_the_end_begins_it_in_parts_too() {
    let mut solo = with_a_large_lease();
    assert_eq!(solo.keep_alive(1), 0);
    let left = attached(&mut solo, 1);
    assert!(left.is_empty(), "nothing is said of a lease that has ended: {left:?}");
    let gone = LARGE - parts(&mut solo).concat().len();
    assert!(gone > 0 && gone < LARGE, "{gone} went with the answer");
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["other"]);
}

#[test]
fn the_next_leader_goes_on_with_an_end_at_once() {
    let mut old = with_a_large_lease();
    let mut gone = Vec::new();
    for _ in 0..2 {
        let part = old.machine.expire(old.now).unwrap().effects.remove(0);
        let commit = old.apply(part).commit.unwrap();
        gone.extend(commit.changes.iter().map(|change| change.key.clone()));
    }
    // What the old leader has in flight is lost.
    assert_eq!(old.machine.expire(old.now).unwrap().effects.len(), 1);
    let mut new = Solo::with(small());
    new.machine.follow();
    for effects in old.log {
        new.apply(effects);
    }
    new.index += 1;
    new.term = 2;
    new.now = 500 * SECOND;
    new.machine.skip(new.index, new.term);
    assert_eq!(new.machine.next_deadline(), None, "a follower ends no lease");
    new.machine.lead(new.now, new.term).unwrap();
    assert_eq!(new.machine.next_deadline(), Some(new.now));
    assert!(new.leases().is_empty());
    gone.extend(parts(&mut new).concat());
    assert_eq!(gone, large_keys(), "each once, whoever leads");
    assert_eq!(new.machine.next_deadline(), None);
}

#[test]
fn a_part_that_raft_refused_comes_again() {
    let mut solo = with_a_large_lease();
    let first = solo.machine.expire(solo.now).unwrap().effects;
    solo.machine.retract(1);
    assert_eq!(solo.leases(), [1]);
    assert_eq!(attached(&mut solo, 1).len(), LARGE);
    solo.now = solo.machine.next_deadline().unwrap();
    assert_eq!(solo.machine.expire(solo.now).unwrap().effects, first);
    solo.apply(first[0].clone());
    assert_eq!(solo.machine.expire(solo.now).unwrap().effects.len(), 1);
    solo.machine.retract(1);
    assert!(solo.leases().is_empty(), "its end has begun");
    solo.now = solo.machine.next_deadline().unwrap();
    parts(&mut solo);
    assert_eq!(keys(&solo.range(span("a", "\0")).unwrap()), ["other"]);
}

#[test]
fn a_revocation_that_no_entry_holds_is_refused_and_the_lease_ends_by_itself() {
    let mut solo = with_a_large_lease();
    solo.now = 9 * SECOND;
    assert_eq!(solo.revoke(1), Err(Error::RequestTooLarge));
    assert_eq!(solo.machine.in_flight(), 0);
    assert_eq!((solo.leases(), attached(&mut solo, 1).len()), (vec![1], LARGE));
    solo.now = 10 * SECOND;
    assert_eq!(parts(&mut solo).concat(), large_keys());
}

#[test]
fn many_ends_at_once_are_bounded_in_bytes() {
    let mut solo = Solo::with(small());
    for id in 1..=20 {
        solo.grant(id, 10).unwrap();
        for key in 0..5 {
            solo.put(leased(&format!("{id} {key}"), id)).unwrap();
        }
    }
    solo.now = 10 * SECOND;
    let mut calls = 0;
    loop {
        let due = solo.machine.expire(solo.now).unwrap().effects;
        let bytes: usize = due.iter().map(Bytes::len).sum();
        assert!(bytes < 2 * SMALL_BYTES, "{bytes}");
        if due.is_empty() {
            break;
        }
        calls += 1;
        due.into_iter().for_each(|effects| drop(solo.apply(effects)));
    }
    assert!(calls > 3, "{calls}");
    assert_eq!(solo.machine.state().live_keys(), 0);
}

/// A lease of many keys ends at one revision all the same, however it ends; what is asked about it
/// takes long, and says what it always does.
#[test]
fn a_lease_of_many_keys_takes_long() {
    const KEYS: usize = 40;
    let limits = Limits { rows_at_once: 10, ..Limits::default() };
    for ends in 0..3 {
        let mut solo = Solo::with(limits.clone());
        solo.grant(1, 10).unwrap();
        for key in 0..KEYS {
            solo.put(leased(&format!("k{key:02}"), 1)).unwrap();
        }
        assert_eq!(solo.long, 0);
        assert_eq!(solo.time_to_live(1).keys.len(), KEYS);
        assert_eq!((solo.long, solo.time_to_live(1).ttl), (1, 10));
        let before = solo.revision();
        match ends {
            0 => assert_eq!(solo.revoke(1), Ok(before + 1)),
            1 => {
                solo.now = 10 * SECOND;
                assert_eq!(solo.keep_alive(1), 0);
            }
            _ => {
                solo.now = 10 * SECOND;
                assert_eq!(solo.expire(), 1);
            }
        }
        assert_eq!(solo.long, 3, "and nothing but these");
        assert_eq!((solo.revision(), solo.machine.state().live_keys()), (before + 1, 0));
        assert_eq!((solo.expire(), solo.leases()), (0, vec![]));
    }
}

/// Many leases in the order in which they end, from a thread of its own.
#[test]
fn a_long_list_of_leases_takes_long() {
    let mut solo = Solo::with(Limits { rows_at_once: 10, ..Limits::default() });
    for id in 1..=20 {
        solo.grant(id, 100 - id).unwrap();
    }
    assert_eq!(solo.leases(), (1..=20).rev().collect::<Vec<_>>());
    assert_eq!(solo.long, 1);
}

/// An end that takes long and is refused by Raft comes again, and one that is lost with the
/// leadership is the next leader's.
#[test]
fn a_long_end_that_is_not_proposed_comes_again() {
    let mut solo = Solo::with(Limits { rows_at_once: 10, ..Limits::default() });
    solo.grant(1, 10).unwrap();
    for key in 0..20 {
        solo.put(leased(&format!("k{key:02}"), 1)).unwrap();
    }
    solo.now = 10 * SECOND;
    let Some(long) = solo.machine.expire(solo.now).unwrap().long else { panic!("it is short") };
    let done = solo.machine.begin_long(solo.now, long).run();
    assert!(matches!(solo.machine.end_long(solo.now, done), etcd::Evaluated::Propose { .. }));
    solo.machine.retract(1);
    assert_eq!(solo.machine.expire(solo.now).unwrap(), etcd::Expired::default());
    solo.now = solo.machine.next_deadline().unwrap();
    let Some(long) = solo.machine.expire(solo.now).unwrap().long else { panic!("it is short") };
    let done = solo.machine.begin_long(solo.now, long.clone()).run();
    solo.machine.follow();
    assert_eq!(solo.machine.end_long(solo.now, done), etcd::Evaluated::Long(long.clone()));
    solo.index += 1;
    solo.term += 1;
    solo.machine.skip(solo.index, solo.term);
    solo.machine.lead(solo.now, solo.term).unwrap();
    let done = solo.machine.begin_long(solo.now, long).run();
    solo.machine.follow();
    solo.index += 1;
    solo.term += 1;
    solo.machine.skip(solo.index, solo.term);
    solo.machine.lead(solo.now, solo.term).unwrap();
    assert!(
        matches!(solo.machine.end_long(solo.now, done), etcd::Evaluated::Long(_)),
        "of a term before"
    );
    solo.now += 20 * SECOND;
    assert_eq!((solo.expire(), solo.machine.state().live_keys()), (1, 0));
}

/// An end that takes long and that no entry has room for is not tried again at once.
#[test]
fn a_long_end_that_cannot_be_made_is_looked_at_later() {
    let limits = Limits { rows_at_once: 0, effects_bytes_max: 200, ..Limits::default() };
    let mut solo = Solo::with(Limits { effects_bytes_max: 2_000, ..limits.clone() });
    solo.grant(1, 10).unwrap();
    solo.put(leased(&"k".repeat(400), 1)).unwrap();
    // The same state, at a member whose entries hold less.
    let engine = std::sync::Arc::clone(solo.machine.state().engine());
    let done = solo.machine.state_mut().freeze().unwrap().run().unwrap();
    drop(solo.machine.state_mut().finish(done));
    let config = etcd::Config { limits, ..solo.machine.config().clone() };
    solo.machine = etcd::Machine::open(mvcc::State::open(engine).unwrap(), config);
    solo.machine.lead(solo.now, solo.term).unwrap();
    solo.now = 20 * SECOND;
    let Some(long) = solo.machine.expire(solo.now).unwrap().long else { panic!("it is short") };
    let done = solo.machine.begin_long(solo.now, long).run();
    let answer = solo.machine.end_long(solo.now, done);
    let refused = etcd::Evaluated::Read(Box::new(Err(Error::RequestTooLarge)));
    assert_eq!(answer, refused);
    assert!(solo.machine.next_deadline() > Some(solo.now), "at once, for ever");
}
