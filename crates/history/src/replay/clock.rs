//! Real time: what was known when an operation began, and when a revision was known.

use std::collections::BTreeMap;

use super::ledger::Ledger;
use super::{Case, Rule, Violation};
use crate::record::{Call, History, Incarnation, NodeId, Operation, Outcome, Revision, Said, Time};

/// Someone was told that a revision exists.
#[derive(Debug, Clone, Copy)]
struct Sight {
    at: Time,
    revision: Revision,
    /// The operation that told; none for a watch.
    operation: Option<usize>,
}

/// What was known when.
pub(super) struct Clock {
    /// For each operation, the highest revision that was told to anyone before it began, and by which operation.
    floors: Vec<(Revision, Option<usize>)>,
    /// For each commit, a moment by which it had happened, if there is one.
    known_by: Vec<Option<Time>>,
}

impl Clock {
    pub(super) fn new(history: &History) -> Self {
        let mut sights = sights(history);
        sights.sort_by_key(|sight| sight.at);
        Self { floors: floors(history, &sights), known_by: known_by(history, &sights) }
    }

    /// The highest revision that anyone had been told before the operation began.
    pub(super) fn floor(&self, operation: usize) -> Revision {
        self.floors[operation].0
    }

    /// A moment by which the commit at this position had happened.
    pub(super) fn known_by(&self, position: usize) -> Option<Time> {
        self.known_by[position]
    }

    /// Whether the commit at this position may be the operation's, as far as time goes: it was not there
    /// before.
    pub(super) fn may_own(&self, operation: &Operation, position: usize) -> bool {
        self.known_by(position).is_none_or(|at| at >= operation.invoked)
    }

    /// Writes are above what was known, reads not below it.
    pub(super) fn check(&self, case: &mut Case<'_>, ledger: &Ledger<'_>) {
        for (index, operation) in case.history.operations.iter().enumerate() {
            let (floor, witness) = self.floors[index];
            let mut guilty = vec![index];
            guilty.extend(witness);
            if let Some(revision) = ledger.took_effect[index]
                && let Some(at) =
                    case.position(revision).and_then(|position| self.known_by(position))
                && at < operation.invoked
            {
                let detail = "it took effect before it was asked for".to_owned();
                case.blame(Violation::new(Rule::WriteOrder, detail).at(revision), &[index]);
            }
            match (&operation.outcome, ledger.took_effect[index]) {
                (_, Some(revision)) if revision <= floor => {
                    let detail =
                        format!("it took effect at {revision}; {floor} was known before it began");
                    case.blame(Violation::new(Rule::WriteOrder, detail).at(revision), &guilty);
                }
                (Outcome::Ok { revision, .. }, None)
                    if *revision < floor && !operation.call.is_serializable() =>
                {
                    let detail = format!("its header has {revision}; {floor} was known before");
                    case.blame(Violation::new(Rule::ReadStale, detail).at(*revision), &guilty);
                }
                _ => {}
            }
        }
        sessions(case);
    }
}

fn sights(history: &History) -> Vec<Sight> {
    let mut sights = Vec::new();
    for (index, operation) in history.operations.iter().enumerate() {
        if let (Outcome::Ok { revision, .. }, Some(at)) = (&operation.outcome, operation.returned) {
            sights.push(Sight { at, revision: *revision, operation: Some(index) });
        }
    }
    for told in history.watches.iter().flat_map(|watch| &watch.connections).flat_map(|c| &c.told) {
        let revision = match &told.said {
            Said::Canceled { .. } => continue,
            Said::Events { events, .. } => {
                events.last().map_or(told.header, |event| event.revision.max(told.header))
            }
            Said::Created | Said::Progress => told.header,
        };
        sights.push(Sight { at: told.at, revision, operation: None });
    }
    sights
}

/// One sweep over time. Moments that are equal count as concurrent.
fn floors(history: &History, sights: &[Sight]) -> Vec<(Revision, Option<usize>)> {
    let mut floors = vec![(Revision(0), None); history.operations.len()];
    let mut order: Vec<usize> = (0..history.operations.len()).collect();
    order.sort_by_key(|index| history.operations[*index].invoked);
    let mut sights = sights.iter().peekable();
    let mut highest = (Revision(0), None);
    for index in order {
        while let Some(sight) = sights.next_if(|sight| sight.at < history.operations[index].invoked)
        {
            if sight.revision > highest.0 {
                highest = (sight.revision, sight.operation);
            }
        }
        floors[index] = highest;
    }
    floors
}

/// Whoever was told a revision was told after all commits up to it.
fn known_by(history: &History, sights: &[Sight]) -> Vec<Option<Time>> {
    let list = &history.commits.list;
    let mut known: Vec<Option<Time>> = list.iter().map(|commit| commit.seen).collect();
    for sight in sights {
        let up_to = list.partition_point(|commit| commit.revision <= sight.revision);
        if let Some(slot) = up_to.checked_sub(1).and_then(|position| known.get_mut(position)) {
            *slot = Some(slot.map_or(sight.at, |at| at.min(sight.at)));
        }
    }
    let mut earliest: Option<Time> = None;
    for slot in known.iter_mut().rev() {
        earliest = match (*slot, earliest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        *slot = earliest;
    }
    known
}

/// Serializable reads of one life of a member: one that began after another had ended is not older.
fn sessions(case: &mut Case<'_>) {
    let mut lives: BTreeMap<(NodeId, Incarnation), Vec<usize>> = BTreeMap::new();
    for (index, operation) in case.history.operations.iter().enumerate() {
        if let (Some(life), Outcome::Ok { .. }) = (operation.incarnation, &operation.outcome)
            && matches!(operation.call, Call::Get(_) | Call::Txn(_))
            && operation.call.is_serializable()
        {
            lives.entry((operation.node, life)).or_default().push(index);
        }
    }
    let operations = &case.history.operations;
    let header = |operation: &Operation| match &operation.outcome {
        Outcome::Ok { revision, .. } => *revision,
        Outcome::Failed(_) | Outcome::Unknown => Revision(0),
    };
    for mut reads in lives.into_values() {
        let mut ended = reads.clone();
        reads.sort_by_key(|index| operations[*index].invoked);
        ended.sort_by_key(|index| operations[*index].returned);
        let mut ended = ended.into_iter().peekable();
        let mut highest = (Revision(0), 0);
        for index in reads {
            let began = operations[index].invoked;
            while let Some(before) =
                ended.next_if(|before| operations[*before].returned.is_some_and(|at| at < began))
            {
                highest = highest.max((header(&operations[before]), before));
            }
            let revision = header(&operations[index]);
            if revision < highest.0 {
                let detail = format!("{revision} after {}", highest.0);
                let violation = Violation::new(Rule::SessionBack, detail).at(revision);
                case.blame(violation, &[index, highest.1]);
            }
        }
    }
}
