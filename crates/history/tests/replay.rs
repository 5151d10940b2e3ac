//! Histories that are right pass; histories that are broken in a known way are caught by the rule that was broken.

mod support;

use history::record::{
    Answer, Call, Change, ClientId, Commit, Commits, Event, History, LeaseGrant, LeaseId,
    LeaseKeepAlive, LeaseRevoke, NodeId, Operation, Outcome, Put, Revision, Step, Time, Txn,
};
use history::replay::{Rule, Settings, check};
use rand::SeedableRng;
use support::mutate::ALL;
use support::{Dice, SMALL, Size, run};

#[test]
fn right_histories_pass() {
    let mut seen = history::replay::Seen::default();
    for seed in 0..3_000 {
        let run = run(seed, SMALL);
        let report = check(&run.history, &Settings::default());
        assert!(report.is_clean(), "seed {seed}: {report}");
        seen.unknown_applied += report.seen.unknown_applied;
        seen.lease_ends += report.seen.lease_ends;
        seen.watch_events += report.seen.watch_events;
        seen.watch_resumed += report.seen.watch_resumed;
        seen.watch_progress += report.seen.watch_progress;
        seen.answers += report.seen.answers;
    }
    println!("{seen:?}");
    assert!(seen.unknown_applied > 1_000 && seen.lease_ends > 200, "{seen:?}");
    assert!(seen.watch_events > 10_000 && seen.watch_resumed > 1_000, "{seen:?}");
    assert!(seen.watch_progress > 1_000 && seen.answers > 50_000, "{seen:?}");
}

/// Every mutation, wherever it makes a difference, breaks the rule that it is about.
#[test]
fn broken_histories_are_caught() {
    let mut missed = Vec::new();
    let mut applied = vec![0_u32; ALL.len()];
    let settings = Settings { violations_max: 1_000, ..Settings::default() };
    for seed in 0..1_500 {
        for (number, mutation) in ALL.iter().enumerate() {
            let mut run = run(seed, SMALL);
            let mut dice = Dice::seed_from_u64(seed);
            if !(mutation.apply)(&mut run, &mut dice) {
                continue;
            }
            applied[number] += 1;
            let report = check(&run.history, &settings);
            if !mutation.caught_by.iter().any(|rule| report.breaks(*rule)) && missed.len() < 12 {
                missed.push(format!("seed {seed}, {}: {report}", mutation.name));
            }
        }
    }
    for (mutation, count) in ALL.iter().zip(&applied) {
        println!("{count:6} {}", mutation.name);
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
    for (mutation, count) in ALL.iter().zip(&applied) {
        assert!(*count >= 100, "{}: tried only {count} times", mutation.name);
    }
}

/// `cargo test --release -p quorate-history --test replay -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_million_operations() {
    for (operations, lost) in [(100_000, 2), (1_000_000, 2), (100_000, 12), (1_000_000, 12)] {
        let size = Size { operations, clients: 50, keys: 90, watches: 3, lost, past: false };
        let run = run(1, size);
        let began = std::time::Instant::now();
        let report = check(&run.history, &Settings::default());
        println!("{operations} operations, {lost} % lost: {:?}, {report}", began.elapsed());
        assert!(report.is_clean());
    }
}

/// A lease that is revoked and granted again under its name, and ends by itself `end_ms` after the
/// beginning: promised for three seconds, then for two.
fn lease_granted_again(end_ms: u64) -> History {
    let id = LeaseId(7);
    let at = |ms: u64| Time(ms * 1_000_000);
    let operation = |began_ms: u64, call: Call, revision: i64, answer: Answer| Operation {
        client: ClientId(1),
        node: NodeId(1),
        incarnation: None,
        invoked: at(began_ms),
        returned: Some(at(began_ms + 5)),
        call,
        outcome: Outcome::Ok { revision: Revision(revision), answer },
    };
    let grant = |began_ms: u64, ttl_s: i64| {
        let call = Call::LeaseGrant(LeaseGrant { id: Some(id), ttl_s });
        operation(began_ms, call, 1, Answer::LeaseGrant { id, ttl_s })
    };
    let put = Put { key: "k".into(), value: "v".into(), lease: Some(id), ..Put::default() };
    let change =
        Change::Put { value: "v".into(), create: Revision(2), version: 1, lease: Some(id) };
    let commit = |revision: i64, change: Change, seen: Time| Commit {
        revision: Revision(revision),
        events: vec![Event { key: "k".into(), change }],
        seen: Some(seen),
    };
    let revoke = Call::LeaseRevoke(LeaseRevoke { id });
    History {
        operations: vec![
            grant(0, 3),
            operation(20, revoke, 1, Answer::LeaseRevoke),
            grant(40, 2),
            operation(60, Call::Put(put), 2, Answer::Put { prev: None }),
        ],
        watches: Vec::new(),
        commits: Commits::of_fresh_store(vec![
            commit(2, change, at(65)),
            commit(3, Change::Delete, at(end_ms)),
        ]),
    }
}

/// What was promised to a lease that was revoked binds nobody who gives its name again.
#[test]
fn a_lease_granted_again_has_its_own_time() {
    let report = check(&lease_granted_again(2_100), &Settings::default());
    assert!(report.is_clean(), "{report}");
    let report = check(&lease_granted_again(1_900), &Settings::default());
    assert!(report.breaks(Rule::LeaseEarly), "{report}");
}

/// A keep-alive that was asked for while the lease was being revoked may have come first.
#[test]
fn a_revoke_may_end_what_was_promised_beside_it() {
    let mut history = lease_granted_again(2_100);
    let alive = Call::LeaseKeepAlive(LeaseKeepAlive { id: LeaseId(7) });
    let mut beside = history.operations[1].clone();
    beside.call = alive;
    beside.outcome =
        Outcome::Ok { revision: Revision(1), answer: Answer::LeaseKeepAlive { ttl_s: Some(3) } };
    // The revoke is under way from 20 to 25 ms, and the second grant, for two seconds, from 40 on.
    beside.invoked = Time(22 * 1_000_000);
    history.operations.push(beside);
    let report = check(&history, &Settings::default());
    assert!(report.is_clean(), "{report}");
    history.operations.last_mut().unwrap().invoked = Time(26 * 1_000_000);
    let report = check(&history, &Settings::default());
    assert!(!report.is_clean(), "kept alive after its end");
}

/// Two commits end a lease of one name, and one revocation of unknown outcome may be either. Only the second, told of
/// before the second grant had run out, cannot be a lease that ended by itself.
#[test]
fn an_unknown_revocation_is_given_to_the_end_that_needs_it() {
    let mut history = lease_granted_again(2_100);
    let again = |began_ms: u64, mut operation: Operation| {
        operation.invoked = Time(began_ms * 1_000_000);
        operation.returned = Some(Time((began_ms + 5) * 1_000_000));
        operation
    };
    // Granted, put, revoked with an unknown outcome, granted and put once more.
    let [grant, revoke, _, put] = &history.operations[..] else { panic!("it has four") };
    let (mut grant, mut revoke, mut put) = (grant.clone(), revoke.clone(), put.clone());
    (revoke.outcome, revoke.returned) = (Outcome::Unknown, None);
    let first = [again(0, grant.clone()), again(20, put.clone()), again(40, revoke)];
    let Outcome::Ok { revision, .. } = &mut grant.outcome else { panic!("it is granted") };
    *revision = Revision(3);
    let Call::Put(call) = &mut put.call else { panic!("it is a put") };
    call.value = "w".into();
    put.outcome = Outcome::Ok { revision: Revision(4), answer: Answer::Put { prev: None } };
    history.operations = first.into();
    history.operations.extend([again(3_100, grant), again(3_120, put)]);
    let list = &mut history.commits.list;
    list[1].seen = Some(Time(3_100_000_000));
    let (mut put_again, mut gone) = (list[0].clone(), list[1].clone());
    (put_again.revision, put_again.seen) = (Revision(4), Some(Time(3_125_000_000)));
    put_again.events[0].change =
        Change::Put { value: "w".into(), create: Revision(4), version: 1, lease: Some(LeaseId(7)) };
    (gone.revision, gone.seen) = (Revision(5), Some(Time(3_500_000_000)));
    list.extend([put_again, gone]);
    let report = check(&history, &Settings::default());
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.seen.unknown_applied, report.seen.lease_ends), (1, 1));
    // Nobody asked for it: then it is early.
    history.operations.remove(2);
    let report = check(&history, &Settings::default());
    assert!(report.breaks(Rule::LeaseEarly), "{report}");
}

/// Where an entry has a bound, a lease with many keys ends in several commits; elsewhere in one.
#[test]
fn a_lease_ends_in_parts_only_where_it_may() {
    let mut history = lease_granted_again(2_100);
    let put = |key: &str, value: &str| {
        let change = Change::Put {
            value: value.to_owned().into(),
            create: Revision(2),
            version: 1,
            lease: Some(LeaseId(7)),
        };
        Event { key: key.to_owned().into(), change }
    };
    let gone = |key: &str| Event { key: key.to_owned().into(), change: Change::Delete };
    let ends = |first: &str, second: &str| {
        let commit = |revision: i64, events: Vec<Event>| Commit {
            revision: Revision(revision),
            events,
            seen: Some(Time(2_100_000_000)),
        };
        Commits::of_fresh_store(vec![
            commit(2, vec![put("a", "1"), put("b", "2")]),
            commit(3, vec![gone(first)]),
            commit(4, vec![gone(second)]),
        ])
    };
    let write = |key: &str, value: &str| {
        Step::Put(Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: Some(LeaseId(7)),
            ..Put::default()
        })
    };
    let txn = Txn { success: vec![write("a", "1"), write("b", "2")], ..Txn::default() };
    let put = history.operations.last_mut().unwrap();
    put.call = Call::Txn(txn);
    put.outcome = Outcome::Unknown;
    let in_parts = Settings { lease_ends_in_parts: true, ..Settings::default() };
    history.commits = ends("a", "b");
    let report = check(&history, &in_parts);
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.seen.lease_ends, report.seen.lease_parts), (2, 1));
    let report = check(&history, &Settings::default());
    assert!(report.breaks(Rule::CommitUnexplained), "{report}");
    history.commits = ends("b", "a");
    assert!(check(&history, &in_parts).breaks(Rule::CommitUnexplained), "out of order");
}

/// What is written to disk comes back.
#[test]
fn histories_can_be_kept() {
    let history = run(5, SMALL).history;
    let text = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
}

/// A put, and a deletion that was seen before the only one who deletes has asked.
fn deleted_early(second: Outcome) -> History {
    use history::record::{Delete, Span};
    let at = |ms: u64| Time(ms * 1_000_000);
    let operation = |began_ms: u64, call: Call, outcome: Outcome| Operation {
        client: ClientId(1),
        node: NodeId(1),
        incarnation: None,
        invoked: at(began_ms),
        returned: Some(at(began_ms + 5)),
        call,
        outcome,
    };
    let put = Put { key: "k".into(), value: "v".into(), ..Put::default() };
    let change = Change::Put { value: "v".into(), create: Revision(2), version: 1, lease: None };
    let commit = |revision: i64, change: Change, seen: Time| Commit {
        revision: Revision(revision),
        events: vec![Event { key: "k".into(), change }],
        seen: Some(seen),
    };
    let put_ok = Outcome::Ok { revision: Revision(2), answer: Answer::Put { prev: None } };
    let delete = Call::Delete(Delete { span: Span::One("k".into()), prev_kv: false });
    History {
        operations: vec![operation(0, Call::Put(put), put_ok), operation(1_000, delete, second)],
        watches: Vec::new(),
        commits: Commits::of_fresh_store(vec![
            commit(2, change, at(3)),
            // Nobody has asked for it: a member had applied it half a second before the only deletion was asked for.
            commit(3, Change::Delete, at(500)),
        ]),
    }
}

/// An unknown outcome explains no commit of before its request.
#[test]
fn no_unknown_operation_had_its_effect_before_it_began() {
    let report = check(&deleted_early(Outcome::Unknown), &Settings::default());
    assert!(
        !report.is_clean(),
        "a deletion at 0.5 s is explained by one asked for at 1 s: {report}"
    );
}

/// Nor does an acknowledged one.
#[test]
fn no_acknowledged_operation_had_its_effect_before_it_began() {
    let deleted = Answer::Delete { deleted: 1, prev: Vec::new() };
    let outcome = Outcome::Ok { revision: Revision(3), answer: deleted };
    let report = check(&deleted_early(outcome), &Settings::default());
    assert!(!report.is_clean(), "acknowledged at 1 s for what happened at 0.5 s: {report}");
}
