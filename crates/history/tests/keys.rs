//! Histories cut by key and into windows, against the search on the whole.

mod support;

use history::linear::keys::{Action, Before, Fault, OneKey, Settings, check};
use history::linear::{Bounds, Op, Verdict};
use history::record::*;
use rand::{RngExt, SeedableRng};
use support::{Dice, SMALL, Size, run};

#[test]
fn right_histories_pass() {
    let mut judged = 0;
    for seed in 0..1_000 {
        let size = Size { keys: 20, operations: 120, watches: 0, ..SMALL };
        let history = run(seed, size).history;
        let passed = check(&history.operations, &Settings::default())
            .unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        judged += passed.keys;
    }
    assert!(judged > 3_000, "{judged} keys");
}

type KeyOp = Op<Vec<Action>, Vec<Before>>;

/// One key, both as operations of the store and as the search takes them.
fn random(dice: &mut Dice) -> (Vec<Operation>, Vec<KeyOp>) {
    let mut operations = Vec::new();
    let mut ops = Vec::new();
    let mut clock = 0_u64;
    let count = dice.random_range(1..=14);
    // Of six operations so many are never answered.
    let silent = dice.random_range(0..4);
    for number in 0..count {
        clock += dice.random_range(0..5_u64);
        let invoked = Time(clock);
        let returned = Time(clock + dice.random_range(0..8_u64));
        let known = dice.random_range(0..6) >= silent;
        let span = Span::one("k");
        let (call, answer, action, before) = match dice.random_range(0..3) {
            0 => {
                let value = Value::from(format!("{number}"));
                let put = Put { key: "k".into(), value: value.clone(), ..Put::default() };
                let answer = Answer::Put { prev: None };
                (Call::Put(put), answer, Action::Put(value), Before::Anything)
            }
            1 => {
                let deleted = dice.random_range(0..2);
                let answer = Answer::Delete { deleted, prev: Vec::new() };
                let before = if deleted == 0 { Before::Absent } else { Before::Present };
                (Call::Delete(Delete { span, prev_kv: false }), answer, Action::Delete, before)
            }
            _ => {
                let seen = dice.random_range(0..count + 1);
                let value = Value::from(format!("{seen}"));
                let there = seen < count;
                let kv = KeyValue { key: "k".into(), value: value.clone(), ..KeyValue::default() };
                let kvs = if there { vec![kv] } else { Vec::new() };
                let answer = Answer::Get { kvs, more: false, count: u64::from(there) };
                let before = if there { Before::Value(value) } else { Before::Absent };
                (Call::Get(Get { span, ..Get::default() }), answer, Action::Look, before)
            }
        };
        ops.push(Op {
            invoked,
            input: vec![action],
            answered: known.then(|| (returned, vec![before])),
        });
        let revision = Revision(1);
        operations.push(Operation {
            client: ClientId(0),
            node: NodeId(0),
            incarnation: None,
            invoked,
            returned: known.then_some(returned),
            call,
            outcome: if known { Outcome::Ok { revision, answer } } else { Outcome::Unknown },
        });
    }
    (operations, ops)
}

#[test]
fn windows_agree_with_the_whole() {
    let mut dice = Dice::seed_from_u64(3);
    let (mut right, mut wrong) = (0, 0);
    for number in 0..50_000 {
        let (operations, ops) = random(&mut dice);
        let whole = history::linear::check(&OneKey, &ops, &Bounds::default());
        match check(&operations, &Settings::default()) {
            Ok(_) => {
                assert_eq!(whole, Verdict::Linearizable, "history {number}: {ops:#?}");
                right += 1;
            }
            Err(Fault::NotLinearizable { .. }) => {
                assert_ne!(whole, Verdict::Linearizable, "history {number}: {ops:#?}");
                wrong += 1;
            }
            Err(fault) => panic!("history {number}: {fault}"),
        }
    }
    println!("{right} linearizable, {wrong} not");
    assert!(right > 5_000 && wrong > 5_000, "{right} and {wrong}");
}

/// A key that is put and read all the time, while one deletion and one put after the other are given up: what a long
/// outage of one member does. Someone looks without a value, so that the puts cannot be left out.
fn given_up(rounds: u64) -> Vec<Operation> {
    let span = Span::one("k");
    let mut operations = Vec::new();
    let mut push = |at: u64, call: Call, answer: Option<Answer>| {
        operations.push(Operation {
            client: ClientId(0),
            node: NodeId(0),
            incarnation: None,
            invoked: Time(at),
            returned: Some(Time(at + 1)),
            call,
            outcome: answer
                .map_or(Outcome::Unknown, |answer| Outcome::Ok { revision: Revision(1), answer }),
        });
    };
    let put =
        |value: String| Call::Put(Put { key: "k".into(), value: value.into(), ..Put::default() });
    let get = |count_only| Call::Get(Get { span: span.clone(), count_only, ..Get::default() });
    for round in 0..rounds {
        let at = round * 10;
        let delete = Delete { span: span.clone(), prev_kv: false };
        push(at, Call::Delete(delete), None);
        push(at + 1, put(format!("lost {round}")), None);
        let value = format!("kept {round}");
        push(at + 2, put(value.clone()), Some(Answer::Put { prev: None }));
        let kv = KeyValue { key: "k".into(), value: value.into(), ..KeyValue::default() };
        push(at + 4, get(false), Some(Answer::Get { kvs: vec![kv], more: false, count: 1 }));
        push(at + 6, get(true), Some(Answer::Get { kvs: Vec::new(), more: false, count: 1 }));
    }
    operations
}

#[test]
fn what_was_given_up_does_not_double_the_search() {
    let mut settings = Settings::default();
    // Each window tries each pair of what waits; with every set of it, 2^80 would not be enough.
    settings.bounds.steps_max = 500_000;
    settings.configurations_max = 200;
    let mut operations = given_up(40);
    check(&operations, &settings).expect("it is linearizable, and that takes no time");
    // What was given up can still explain a late read, but each only once, and nothing else can.
    let last = operations.len() - 2;
    let mut see = |value: &'static str| {
        let Outcome::Ok { answer: Answer::Get { kvs, .. }, .. } = &mut operations[last].outcome
        else {
            unreachable!("it is the read of a value")
        };
        kvs[0].value = value.into();
        check(&operations, &settings)
    };
    assert!(see("lost 3").is_ok());
    assert!(matches!(see("kept 3"), Err(Fault::NotLinearizable { .. })));
    assert!(matches!(see("never put"), Err(Fault::NotLinearizable { .. })));
}

#[test]
fn unknown_is_not_a_pass() {
    let mut settings = Settings::default();
    settings.bounds.steps_max = 3;
    let mut dice = Dice::seed_from_u64(3);
    let given_up = (0..100)
        .filter(|_| {
            let (operations, _) = random(&mut dice);
            matches!(check(&operations, &settings), Err(Fault::Unknown { .. }))
        })
        .count();
    assert!(given_up > 50, "{given_up}");
}
