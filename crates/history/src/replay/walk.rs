//! The walk: commits in order, each with its owner; reads at their revisions.

use super::answer::{broken, get_broken, gets_of_the_past};
use super::clock::Clock;
use super::ledger::{Ledger, Orphan, Owner};
use super::{Case, Rule, Violation};
use crate::model::{Draft, Misfit, State, same_events};
use crate::record::{Answer, Call, Change, Commit, Event, Get, LeaseId, Outcome, Revision};

/// Something to be looked at when the state is at a revision.
enum Reading<'a> {
    /// A whole request that changed nothing.
    Whole(usize),
    /// A get at a revision of its own.
    Past(usize, &'a Get, &'a Answer),
    /// A lease that was revoked by then.
    Revoked(usize, LeaseId),
}

pub(super) fn walk(case: &mut Case<'_>, ledger: &mut Ledger<'_>, clock: &Clock) {
    let mut readings = readings(case);
    readings.sort_by_key(|(revision, _)| *revision);
    let mut readings = readings.into_iter().peekable();
    let mut state = State::empty(case.history.commits.base);
    for (position, commit) in case.commits().iter().enumerate() {
        while let Some((_, reading)) = readings.next_if(|(revision, _)| *revision < commit.revision)
        {
            read(case, &state, &reading);
        }
        own(case, ledger, clock, &state, position, commit);
        for (event, misfit) in state.apply(commit) {
            blame_misfit(case, commit, &event, &misfit);
        }
    }
    for (_, reading) in readings {
        read(case, &state, &reading);
    }
}

fn blame_misfit(case: &mut Case<'_>, commit: &Commit, event: &Event, misfit: &Misfit) {
    let violation = match misfit {
        Misfit::Numbers { told, due } => Violation::new(
            Rule::EventNumbers,
            format!(
                "{event}; create revision and version are {} and {}, due are {} and {}",
                told.0.0, told.1, due.0.0, due.1
            ),
        ),
        Misfit::DeletedNothing => Violation::new(Rule::DeletedNothing, event.to_string()),
    };
    case.blame(violation.at(commit.revision), &[]);
}

/// What is read at which revision.
fn readings<'a>(case: &mut Case<'a>) -> Vec<(Revision, Reading<'a>)> {
    let mut readings = Vec::new();
    let last = case.last();
    for (index, operation) in case.history.operations.iter().enumerate() {
        let Outcome::Ok { revision, answer } = &operation.outcome else { continue };
        let header = *revision;
        let mut pasts = Vec::new();
        match &operation.call {
            Call::Get(get) if get.revision.is_some() => pasts.push((get, answer)),
            Call::Get(_) => readings.push((header, Reading::Whole(index))),
            Call::Txn(txn) => {
                pasts = gets_of_the_past(txn, answer);
                if !answer.says_written() {
                    readings.push((header, Reading::Whole(index)));
                }
            }
            Call::Put(_) | Call::Delete(_) if !answer.says_written() => {
                readings.push((header, Reading::Whole(index)));
            }
            Call::LeaseRevoke(revoke) => {
                readings.push((header, Reading::Revoked(index, revoke.id)));
            }
            _ => {}
        }
        let beyond = pasts.iter().any(|(get, _)| get.revision > Some(header));
        if beyond || (header > last && !answer.says_written()) {
            let detail = format!("the history ends at {last}");
            case.blame(Violation::new(Rule::ReadFuture, detail).at(header), &[index]);
            continue;
        }
        for (get, answer) in pasts {
            let at = get.revision.unwrap_or(header);
            readings.push((at, Reading::Past(index, get, answer)));
        }
    }
    readings
}

fn read(case: &mut Case<'_>, state: &State, reading: &Reading<'_>) {
    case.report.seen.answers += 1;
    let revision = state.revision();
    let (index, outcome) = match reading {
        Reading::Whole(index) => {
            let operation = case.operation(*index);
            let Outcome::Ok { answer, .. } = &operation.outcome else { return };
            let mut draft = Draft::new(state);
            let due = draft.evaluate(&operation.call);
            let outcome = match &due {
                Ok(due) => broken(&operation.call, answer, due).map(|rule| (rule, due.to_string())),
                Err(refusal) => Some((Rule::AnswerShape, format!("a refusal: {refusal:?}"))),
            };
            (*index, outcome)
        }
        Reading::Past(index, get, answer) => {
            let due = Draft::new(state).evaluate(&Call::Get((*get).clone()));
            let outcome = due
                .ok()
                .and_then(|due| get_broken(get, answer, &due).map(|rule| (rule, due.to_string())));
            (*index, outcome)
        }
        Reading::Revoked(index, lease) => {
            let survivor = state.attached(*lease).next();
            let outcome = survivor
                .map(|key| (Rule::LeaseSurvivor, format!("no {} on {lease}", key.escape_ascii())));
            (*index, outcome)
        }
    };
    if let Some((rule, due)) = outcome {
        let violation = Violation::new(rule, format!("due at {revision}: {due}"));
        case.blame(violation.at(revision), &[index]);
    }
}

/// Finds the owner of a commit and compares effects and answer.
fn own(
    case: &mut Case<'_>,
    ledger: &mut Ledger<'_>,
    clock: &Clock,
    state: &State,
    position: usize,
    commit: &Commit,
) {
    if let Some(index) = ledger.claims[position]
        && claimed(case, ledger, state, index, commit)
    {
        ledger.owners[position] = Some(Owner::Operation(index));
        strangers(case, ledger, commit, index, state);
        return;
    }
    let has_put = commit.events.iter().any(|event| matches!(event.change, Change::Put { .. }));
    if has_put {
        unclaimed_put(case, ledger, clock, state, position, commit);
    } else {
        unclaimed_delete(case, ledger, clock, state, position, commit);
    }
}

/// Whether an acknowledged write made the commit at its revision. What it did not make is someone else's.
fn claimed(
    case: &mut Case<'_>,
    ledger: &Ledger<'_>,
    state: &State,
    index: usize,
    commit: &Commit,
) -> bool {
    let operation = case.operation(index);
    let Outcome::Ok { answer, .. } = &operation.outcome else { return false };
    let mut draft = Draft::new(state);
    let due = draft.evaluate(&operation.call);
    let events = draft.into_events();
    case.report.seen.answers += 1;
    if let Ok(due) = &due
        && let Some(rule) = broken(&operation.call, answer, due)
    {
        let violation = Violation::new(rule, format!("due at {}: {due}", commit.revision));
        case.blame(violation.at(commit.revision), &[index]);
    }
    if due.is_ok() && same_events(&commit.events, &events, case.settings.txn_events) {
        return true;
    }
    let own_values: Vec<_> =
        operation.call.puts().into_iter().filter(|put| !put.ignore_value).collect();
    let here = commit.events.iter().any(|event| match &event.change {
        Change::Put { value, .. } => own_values.iter().any(|put| put.value == *value),
        Change::Delete => own_values.is_empty() && events.iter().any(|due| due.key == event.key),
    });
    let elsewhere = own_values.iter().find_map(|put| ledger.value_at.get(&put.value));
    let (rule, detail) = match (here, elsewhere) {
        (true, _) => (Rule::WriteEffects, format!("the history has {commit}")),
        (false, Some(other)) => (Rule::WriteElsewhere, format!("it is at {other}")),
        (false, None) => (Rule::WriteLost, format!("the history has {commit}")),
    };
    case.blame(Violation::new(rule, detail).at(commit.revision), &[index]);
    here
}

/// No commit has values of two operations, unless one kept a value.
fn strangers(
    case: &mut Case<'_>,
    ledger: &Ledger<'_>,
    commit: &Commit,
    owner: usize,
    state: &State,
) {
    for event in &commit.events {
        let Change::Put { value, .. } = &event.change else { continue };
        let kept = state.get(&event.key).is_some_and(|kv| kv.value == *value);
        match ledger.by_value.get(value) {
            Some(writer) if *writer != owner && !kept => {
                let violation = Violation::new(Rule::WriteEffects, event.to_string());
                case.blame(violation.at(commit.revision), &[owner, *writer]);
            }
            _ => {}
        }
    }
}

fn effects_at(case: &Case<'_>, state: &State, index: usize) -> Option<Vec<Event>> {
    let mut draft = Draft::new(state);
    draft.evaluate(&case.operation(index).call).ok()?;
    Some(draft.into_events())
}

/// A quick look at a plain deletion: whether its span has as many keys as the commit has events.
fn may_delete_so_many(case: &Case<'_>, state: &State, index: usize, commit: &Commit) -> bool {
    let Call::Delete(delete) = &case.operation(index).call else { return true };
    let due = commit.events.len();
    commit.events.iter().all(|event| delete.span.contains(&event.key))
        && state.scan(&delete.span).take(due + 1).count() == due
}

/// Whether an unknown operation would have had just the commit's effects, then.
fn would_make(
    case: &Case<'_>,
    ledger: &Ledger<'_>,
    clock: &Clock,
    state: &State,
    index: usize,
    commit: &Commit,
) -> bool {
    ledger.took_effect[index].is_none()
        && clock.floor(index) < commit.revision
        && case
            .position(commit.revision)
            .is_none_or(|position| clock.may_own(case.operation(index), position))
        && may_delete_so_many(case, state, index, commit)
        && effects_at(case, state, index)
            .is_some_and(|due| same_events(&commit.events, &due, case.settings.txn_events))
}

fn unclaimed_put(
    case: &mut Case<'_>,
    ledger: &mut Ledger<'_>,
    clock: &Clock,
    state: &State,
    position: usize,
    commit: &Commit,
) {
    let writer = commit.events.iter().find_map(|event| match &event.change {
        Change::Put { value, .. } => ledger.by_value.get(value).copied(),
        Change::Delete => None,
    });
    let fresh = writer.filter(|index| {
        ledger.took_effect[*index].is_none() && case.operation(*index).outcome == Outcome::Unknown
    });
    if let Some(index) = fresh {
        ledger.owners[position] = Some(Owner::Operation(index));
        ledger.took_effect[index] = Some(commit.revision);
        let due = effects_at(case, state, index);
        if !due.is_some_and(|due| same_events(&commit.events, &due, case.settings.txn_events)) {
            let detail = format!("the history has {commit}");
            let violation = Violation::new(Rule::WriteEffects, detail);
            case.blame(violation.at(commit.revision), &[index]);
        }
        return;
    }
    // A put that keeps the value is known by its effects alone.
    let silent = commit.events.first().map(|event| ledger.silent.about(&event.key, None));
    let keeper = silent
        .into_iter()
        .flatten()
        .find(|index| would_make(case, ledger, clock, state, *index, commit));
    if let Some(index) = keeper {
        ledger.owners[position] = Some(Owner::Operation(index));
        ledger.took_effect[index] = Some(commit.revision);
        return;
    }
    let Some(index) = writer else {
        let violation = Violation::new(Rule::CommitUnexplained, commit.to_string());
        case.blame(violation.at(commit.revision), &[]);
        return;
    };
    let rule = match (&case.operation(index).outcome, ledger.took_effect[index]) {
        (Outcome::Ok { .. } | Outcome::Unknown, Some(_)) => Rule::WriteTwice,
        (Outcome::Ok { .. } | Outcome::Failed(_) | Outcome::Unknown, _) => Rule::RefusedApplied,
    };
    case.blame(Violation::new(rule, commit.to_string()).at(commit.revision), &[index]);
}

fn unclaimed_delete(
    case: &mut Case<'_>,
    ledger: &mut Ledger<'_>,
    clock: &Clock,
    state: &State,
    position: usize,
    commit: &Commit,
) {
    let revoke =
        ledger.revokes.get(&commit.revision).into_iter().flatten().copied().find(|index| {
            // A lease of the same name may have ended by itself at the revision that the revoke of its
            // successor, which had no keys, was told.
            clock.floor(*index) < commit.revision
                && effects_at(case, state, *index)
                    .is_some_and(|due| same_events(&commit.events, &due, case.settings.txn_events))
        });
    if let Some(index) = revoke {
        ledger.owners[position] = Some(Owner::Operation(index));
        ledger.took_effect[index] = Some(commit.revision);
        return;
    }
    let Some(first) = commit.events.first() else { return };
    let attached = state.get(&first.key).and_then(|kv| kv.lease);
    let mut candidates: Vec<usize> = ledger
        .silent
        .about(&first.key, attached)
        .filter(|index| would_make(case, ledger, clock, state, *index, commit))
        .collect();
    candidates.sort_unstable();
    candidates.dedup();
    let mut part = false;
    let lease = attached.filter(|lease| {
        let mut keys = state.attached(*lease);
        let its_first = commit.events.iter().all(|event| keys.next() == Some(&event.key));
        part = keys.next().is_some();
        its_first && (!part || case.settings.lease_ends_in_parts)
    });
    ledger.orphans.push(Orphan { position, candidates, lease, part });
}
