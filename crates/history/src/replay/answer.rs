//! Whether an answer is the one that is due, and which rule it breaks if not.

use super::Rule;
use crate::record::{Answer, Call, Get, KeyValue, Step, Txn};

/// The rule that an answer to `call` breaks. Gets inside of a transaction with a revision of their own are not looked
/// at: they are about another state.
pub(super) fn broken(call: &Call, found: &Answer, due: &Answer) -> Option<Rule> {
    match call {
        Call::Get(get) => get_broken(get, found, due),
        Call::Txn(txn) => txn_broken(txn, found, due),
        _ => flat_broken(found, due),
    }
}

/// A get's answer against that of its state.
pub(super) fn get_broken(get: &Get, found: &Answer, due: &Answer) -> Option<Rule> {
    let (
        Answer::Get { kvs, more, count },
        Answer::Get { kvs: kvs_due, more: more_due, count: count_due },
    ) = (found, due)
    else {
        return Some(Rule::AnswerShape);
    };
    let same = |(found, due): (&KeyValue, &KeyValue)| {
        // Without values some servers leave the lease out, too.
        found == due
            || (get.keys_only
                && found.lease.is_none()
                && *found == KeyValue { lease: None, ..due.clone() })
    };
    let right = more == more_due
        && count == count_due
        && kvs.len() == kvs_due.len()
        && kvs.iter().zip(kvs_due).all(same);
    (!right).then_some(Rule::ReadWrong)
}

fn txn_broken(txn: &Txn, found: &Answer, due: &Answer) -> Option<Rule> {
    let (
        Answer::Txn { succeeded, answers },
        Answer::Txn { succeeded: succeeded_due, answers: answers_due },
    ) = (found, due)
    else {
        return Some(Rule::AnswerShape);
    };
    if succeeded != succeeded_due {
        return Some(Rule::BranchWrong);
    }
    let steps = if *succeeded { &txn.success } else { &txn.failure };
    if answers.len() != steps.len() {
        return Some(Rule::AnswerShape);
    }
    steps.iter().zip(answers.iter().zip(answers_due)).find_map(|(step, (found, due))| match step {
        Step::Get(get) if get.revision.is_some() => None,
        Step::Get(get) => get_broken(get, found, due),
        Step::Txn(inner) => txn_broken(inner, found, due),
        Step::Put(_) | Step::Delete(_) => flat_broken(found, due),
    })
}

fn flat_broken(found: &Answer, due: &Answer) -> Option<Rule> {
    match (found, due) {
        (Answer::Put { prev }, Answer::Put { prev: prev_due }) => {
            (prev != prev_due).then_some(Rule::PrevWrong)
        }
        (
            Answer::Delete { deleted, prev },
            Answer::Delete { deleted: deleted_due, prev: prev_due },
        ) => {
            if deleted != deleted_due {
                Some(Rule::CountWrong)
            } else {
                (prev != prev_due).then_some(Rule::PrevWrong)
            }
        }
        (found, due) => (std::mem::discriminant(found) != std::mem::discriminant(due))
            .then_some(Rule::AnswerShape),
    }
}

/// The gets of the branch taken that have a revision of their own, with their answers.
pub(super) fn gets_of_the_past<'a>(txn: &'a Txn, answer: &'a Answer) -> Vec<(&'a Get, &'a Answer)> {
    let mut found = Vec::new();
    collect(txn, answer, &mut found);
    found
}

fn collect<'a>(txn: &'a Txn, answer: &'a Answer, found: &mut Vec<(&'a Get, &'a Answer)>) {
    let Answer::Txn { succeeded, answers } = answer else { return };
    let steps = if *succeeded { &txn.success } else { &txn.failure };
    for (step, answer) in steps.iter().zip(answers) {
        match step {
            Step::Get(get) if get.revision.is_some() => found.push((get, answer)),
            Step::Txn(inner) => collect(inner, answer, found),
            Step::Get(_) | Step::Put(_) | Step::Delete(_) => {}
        }
    }
}
