//! The search against every order there is, on small histories.

use history::linear::models::{
    CasInput, CasOutput, CasRegister, Map, MapAction, MapInput, WholeMap,
};
use history::linear::{Bounds, Exhausted, Model, Op, Verdict, check};
use history::record::Time;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

type CasOp = Op<CasInput, CasOutput>;

/// Whether any order explains a history: each operation in turn is next, if nothing that is left returned before it
/// was invoked. No lists, no memory, no partition.
fn by_every_order<M: Model>(model: &M, ops: &[Op<M::Input, M::Output>]) -> bool {
    fn go<M: Model>(
        model: &M,
        ops: &[Op<M::Input, M::Output>],
        left: u32,
        state: &M::State,
    ) -> bool {
        let is_left = |place: &usize| left & (1 << place) != 0;
        let rest: Vec<usize> = (0..ops.len()).filter(is_left).collect();
        if rest.iter().all(|place| ops[*place].answered.is_none()) {
            return true;
        }
        rest.iter().any(|place| {
            let op = &ops[*place];
            let free = rest.iter().all(|other| match &ops[*other].answered {
                Some((returned, _)) => *returned >= op.invoked,
                None => true,
            });
            let output = op.answered.as_ref().map(|(_, output)| output);
            free && model
                .step(state, &op.input, output)
                .is_some_and(|next| go(model, ops, left & !(1 << place), &next))
        })
    }
    go(model, ops, (1 << ops.len()) - 1, &model.init())
}

/// Small times, so that many touch; answers that are often, but not always, possible.
fn random_cas(dice: &mut Pcg64Mcg) -> Vec<CasOp> {
    let op = |dice: &mut Pcg64Mcg| {
        let invoked = dice.random_range(0..12_u64);
        let value = |dice: &mut Pcg64Mcg| dice.random_range(0..3_i64);
        let (input, output) = match dice.random_range(0..3) {
            0 => {
                let read = (dice.random_range(0..4) > 0).then(|| value(dice));
                (CasInput::Read, CasOutput::Read(read))
            }
            1 => (CasInput::Write(value(dice)), CasOutput::Written),
            _ => {
                let input = CasInput::Cas { from: value(dice), to: value(dice) };
                (input, CasOutput::Swapped(dice.random_range(0..2) == 0))
            }
        };
        let returned = Time(invoked + dice.random_range(0..6));
        let answered = (dice.random_range(0..5) > 0).then_some((returned, output));
        Op { invoked: Time(invoked), input, answered }
    };
    let count = dice.random_range(1..=7);
    (0..count).map(|_| op(dice)).collect()
}

#[test]
fn the_search_agrees_with_every_order() {
    let mut dice = Pcg64Mcg::seed_from_u64(1);
    let (mut right, mut wrong) = (0_u32, 0_u32);
    for number in 0..100_000 {
        let ops = random_cas(&mut dice);
        let expected = by_every_order(&CasRegister, &ops);
        match check(&CasRegister, &ops, &Bounds::default()) {
            Verdict::Linearizable => assert!(expected, "history {number}: {ops:#?}"),
            Verdict::NotLinearizable(failure) => {
                assert!(!expected, "history {number}: {ops:#?}");
                check_evidence(&ops, failure.culprit, failure.invoked);
            }
            Verdict::Unknown(why) => panic!("history {number}: {why}"),
        }
        if expected { right += 1 } else { wrong += 1 }
    }
    println!("{right} linearizable, {wrong} not");
    assert!(right > 10_000 && wrong > 10_000, "{right} and {wrong}");
}

/// Up to the culprit's return there is no order; without that return there is.
fn check_evidence(ops: &[CasOp], culprit: usize, invoked: usize) {
    let (end, _) = ops[culprit].answered.expect("the culprit has returned");
    // Moments in the search's order: by time, invocations first, then by place.
    let prefix = |with: bool| -> Vec<CasOp> {
        ops.iter()
            .enumerate()
            .filter(|(_, op)| op.invoked <= end)
            .map(|(place, op)| {
                let kept = |(at, _): &(Time, CasOutput)| {
                    *at < end || (*at == end && (place < culprit || (with && place == culprit)))
                };
                Op { answered: op.answered.filter(kept), ..op.clone() }
            })
            .collect()
    };
    assert_eq!(prefix(true).len(), invoked);
    assert!(!by_every_order(&CasRegister, &prefix(true)), "the prefix has an order");
    assert!(by_every_order(&CasRegister, &prefix(false)), "a shorter prefix has none");
}

fn random_map(dice: &mut Pcg64Mcg) -> Vec<Op<MapInput, String>> {
    // Of six operations so many are never answered.
    let silent = dice.random_range(0..5);
    let op = |dice: &mut Pcg64Mcg| {
        let invoked = dice.random_range(0..12_u64);
        let word = |dice: &mut Pcg64Mcg| ["", "a", "b", "ab", "ba"][dice.random_range(0..5)].into();
        let action = match dice.random_range(0..3) {
            0 => MapAction::Get,
            1 => MapAction::Put(word(dice)),
            _ => MapAction::Append(["a", "b"][dice.random_range(0..2)].into()),
        };
        let returned = Time(invoked + dice.random_range(0..6));
        let answered = (dice.random_range(0..6) >= silent).then(|| (returned, word(dice)));
        let key = ["x", "y"][dice.random_range(0..2)].into();
        Op { invoked: Time(invoked), input: MapInput { key, action }, answered }
    };
    let count = dice.random_range(1..=7);
    (0..count).map(|_| op(dice)).collect()
}

#[test]
fn parts_and_the_whole_agree_with_every_order() {
    let mut dice = Pcg64Mcg::seed_from_u64(2);
    let (mut right, mut wrong) = (0_u32, 0_u32);
    for number in 0..20_000 {
        let ops = random_map(&mut dice);
        let expected = by_every_order(&WholeMap, &ops);
        let parts = check(&Map, &ops, &Bounds::default());
        let whole = check(&WholeMap, &ops, &Bounds::default());
        assert_eq!(parts == Verdict::Linearizable, expected, "history {number}: {ops:#?}");
        assert_eq!(whole == Verdict::Linearizable, expected, "history {number}: {ops:#?}");
        if expected { right += 1 } else { wrong += 1 }
    }
    assert!(right > 2_000 && wrong > 2_000, "{right} and {wrong}");
}

/// Concurrent writes and a read that fits none of them: as many orders as there are.
fn hopeless(count: i64) -> Vec<CasOp> {
    let write = |value| Op {
        invoked: Time(0),
        input: CasInput::Write(value),
        answered: Some((Time(10), CasOutput::Written)),
    };
    let read = Op {
        invoked: Time(11),
        input: CasInput::Read,
        answered: Some((Time(12), CasOutput::Read(None))),
    };
    (0..count).map(write).chain([read]).collect()
}

#[test]
fn a_search_that_is_given_up_is_not_a_pass() {
    let steps = Bounds { steps_max: 1_000, ..Bounds::default() };
    let verdict = check(&CasRegister, &hopeless(20), &steps);
    assert_eq!(verdict, Verdict::Unknown(Exhausted::Steps(1_000)));
    let memory = Bounds { memory_bytes_max: 10_000, ..Bounds::default() };
    let verdict = check(&CasRegister, &hopeless(20), &memory);
    assert_eq!(verdict, Verdict::Unknown(Exhausted::Memory(10_000)));
}

#[test]
fn a_failure_can_be_read() {
    let Verdict::NotLinearizable(failure) = check(&CasRegister, &hopeless(3), &Bounds::default())
    else {
        panic!("it is not linearizable");
    };
    let text = failure.to_string();
    assert!(text.contains("-> operation 3") && text.contains("Read -> Read(None)"), "{text}");
    assert_eq!(failure.explained.len(), 3, "{text}");
}
