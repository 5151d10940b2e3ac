//! Compactions: what can have been compacted when, and what must have been.
//!
//! A compaction whose answer is unknown may or may not have happened, so there are two bounds: the *possible* compact
//! revision at a moment counts every compaction that had begun, the *certain* one those that had been acknowledged.

use super::clock::Clock;
use super::{Case, Rule, Violation};
use crate::record::{
    Call, Compact, Failure, Get, History, Operation, Outcome, Revision, Step, Time, Txn,
};

/// See the module. Both lists by time, with the highest revision so far.
pub(super) struct Compactions {
    possible: Vec<(Time, Revision)>,
    certain: Vec<(Time, Revision)>,
}

impl Compactions {
    pub(super) fn new(history: &History) -> Self {
        let mut possible = Vec::new();
        let mut certain = Vec::new();
        for operation in &history.operations {
            let Call::Compact(Compact { revision }) = operation.call else { continue };
            match (&operation.outcome, operation.returned) {
                (Outcome::Failed(_), _) => continue,
                (Outcome::Ok { .. }, Some(returned)) => certain.push((returned, revision)),
                (Outcome::Ok { .. }, None) | (Outcome::Unknown, _) => {}
            }
            possible.push((operation.invoked, revision));
        }
        Self { possible: rising(possible), certain: rising(certain) }
    }

    /// The highest revision that can have been compacted to at this moment, or before.
    pub(super) fn possible(&self, at: Time) -> Option<Revision> {
        highest(&self.possible, |time| time <= at)
    }

    /// The highest revision that had certainly been compacted to before this moment.
    pub(super) fn certain(&self, at: Time) -> Option<Revision> {
        highest(&self.certain, |time| time < at)
    }

    pub(super) fn check(&self, case: &mut Case<'_>, clock: &Clock) {
        for (index, operation) in case.history.operations.iter().enumerate() {
            let found = match &operation.outcome {
                Outcome::Ok { revision, .. } => self.granted(operation, *revision),
                Outcome::Failed(Failure::Compacted) => self.refused(operation),
                Outcome::Failed(Failure::FutureRevision) => {
                    refused_as_future(operation, clock.floor(index))
                }
                Outcome::Failed(_) | Outcome::Unknown => None,
            };
            if let Some((rule, detail)) = found {
                case.blame(Violation::new(rule, detail), &[index]);
            }
        }
    }

    fn granted(&self, operation: &Operation, header: Revision) -> Option<(Rule, String)> {
        let certain = self.certain(operation.invoked)?;
        match &operation.call {
            Call::Compact(compact) if compact.revision <= certain => {
                Some((Rule::CompactOrder, format!("{certain} had been compacted to before")))
            }
            Call::Compact(compact) if compact.revision > header => {
                Some((Rule::CompactOrder, format!("the header has {header}")))
            }
            call if !call.is_serializable() => {
                let lowest = lowest_asked(call)?;
                (lowest < certain)
                    .then(|| (Rule::CompactedRead, format!("{certain} had been compacted to")))
            }
            _ => None,
        }
    }

    fn refused(&self, operation: &Operation) -> Option<(Rule, String)> {
        let until = operation.returned.unwrap_or(Time(u64::MAX));
        let possible = self.possible(until);
        let fair = match &operation.call {
            Call::Compact(compact) => Some(compact.revision) <= possible,
            call => lowest_asked(call).is_some_and(|asked| Some(asked) < possible),
        };
        let words = possible.map_or("nothing".to_owned(), |revision| revision.to_string());
        (!fair).then(|| (Rule::CompactedUntrue, format!("at most {words} had been compacted to")))
    }
}

/// A revision is in the future only if nobody had been told of it or of a later one.
fn refused_as_future(operation: &Operation, floor: Revision) -> Option<(Rule, String)> {
    let asked = match &operation.call {
        Call::Compact(compact) => Some(compact.revision),
        call if call.is_serializable() => return None,
        call => asked(call).into_iter().max(),
    };
    let fair = asked.is_some_and(|asked| asked > floor);
    (!fair).then(|| (Rule::FutureUntrue, format!("{floor} was known before it began")))
}

fn rising(mut list: Vec<(Time, Revision)>) -> Vec<(Time, Revision)> {
    list.sort();
    let mut highest = Revision(0);
    for (_, revision) in &mut list {
        highest = highest.max(*revision);
        *revision = highest;
    }
    list
}

fn highest(list: &[(Time, Revision)], by: impl Fn(Time) -> bool) -> Option<Revision> {
    let count = list.partition_point(|(time, _)| by(*time));
    count.checked_sub(1).map(|last| list[last].1)
}

/// The revisions that a request's gets ask for.
fn asked(call: &Call) -> Vec<Revision> {
    match call {
        Call::Get(Get { revision, .. }) => revision.iter().copied().collect(),
        Call::Txn(txn) => asked_in(txn),
        _ => Vec::new(),
    }
}

fn asked_in(txn: &Txn) -> Vec<Revision> {
    let of_step = |step: &Step| match step {
        Step::Get(get) => get.revision.iter().copied().collect(),
        Step::Txn(inner) => asked_in(inner),
        Step::Put(_) | Step::Delete(_) => Vec::new(),
    };
    txn.steps().flat_map(of_step).collect()
}

fn lowest_asked(call: &Call) -> Option<Revision> {
    asked(call).into_iter().min()
}
