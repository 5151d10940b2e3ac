//! Who owns which commit.

use std::collections::BTreeMap;

use super::{Case, Rule, Violation};
use crate::record::{Call, Change, Key, LeaseId, Outcome, Put, Revision, Span, Step, Txn, Value};

/// Where a commit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// An operation, by its place in the history.
    Operation(usize),
    /// The end of a lease by itself.
    LeaseEnd(LeaseId),
}

/// A commit that only deletes, and what could have made it.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) position: usize,
    /// Unknown operations that would have had just these effects.
    pub(super) candidates: Vec<usize>,
    /// The lease that had just these keys, or had them first, where leases end in parts.
    pub(super) lease: Option<LeaseId>,
    /// It had more.
    pub(super) part: bool,
}

/// See the module.
pub(super) struct Ledger<'a> {
    /// By position of the commit.
    pub(super) owners: Vec<Option<Owner>>,
    /// By operation: the revision at which it took effect.
    pub(super) took_effect: Vec<Option<Revision>>,
    /// By position of the commit: the acknowledged write whose header has its revision.
    pub(super) claims: Vec<Option<usize>>,
    /// Who puts a value.
    pub(super) by_value: BTreeMap<&'a Value, usize>,
    /// Where a value first is in the history.
    pub(super) value_at: BTreeMap<&'a Value, Revision>,
    /// Acknowledged revokes by the revision of their header.
    pub(super) revokes: BTreeMap<Revision, Vec<usize>>,
    /// Unknown operations whose effects no value tells.
    pub(super) silent: Silent<'a>,
    pub(super) orphans: Vec<Orphan>,
    /// Commits that are a part of a lease's end, and not the last.
    pub(super) lease_parts: u64,
}

impl<'a> Ledger<'a> {
    pub(super) fn new(case: &mut Case<'a>) -> Self {
        let commits = case.commits().len();
        let mut ledger = Self {
            owners: vec![None; commits],
            took_effect: vec![None; case.history.operations.len()],
            claims: vec![None; commits],
            by_value: BTreeMap::new(),
            value_at: BTreeMap::new(),
            revokes: BTreeMap::new(),
            silent: Silent::default(),
            orphans: Vec::new(),
            lease_parts: 0,
        };
        ledger.values(case);
        for index in 0..case.history.operations.len() {
            ledger.enter(case, index);
        }
        ledger
    }

    fn values(&mut self, case: &mut Case<'a>) {
        for (index, operation) in case.history.operations.iter().enumerate() {
            for put in operation.call.puts() {
                if put.ignore_value {
                    continue;
                }
                let first = *self.by_value.entry(&put.value).or_insert(index);
                if first != index {
                    let detail = format!("the value of {}", put.key.escape_ascii());
                    case.blame(Violation::new(Rule::ValueReused, detail), &[first, index]);
                }
            }
        }
        for commit in case.commits() {
            for event in &commit.events {
                if let Change::Put { value, .. } = &event.change {
                    self.value_at.entry(value).or_insert(commit.revision);
                }
            }
        }
    }

    fn enter(&mut self, case: &mut Case<'a>, index: usize) {
        let operation = case.operation(index);
        match (&operation.outcome, &operation.call) {
            (Outcome::Ok { revision, .. }, Call::LeaseRevoke(_)) => {
                self.revokes.entry(*revision).or_default().push(index);
            }
            (Outcome::Ok { revision, answer }, _) if answer.says_written() => {
                self.claim(case, index, *revision);
            }
            (Outcome::Unknown, call) => self.silent.enter(index, call),
            _ => {}
        }
    }

    fn claim(&mut self, case: &mut Case<'a>, index: usize, revision: Revision) {
        self.took_effect[index] = Some(revision);
        let Some(position) = case.position(revision) else {
            let detail = format!(
                "its header has {revision}, which is not in the history; the last is {}",
                case.last()
            );
            case.blame(Violation::new(Rule::WriteLost, detail).at(revision), &[index]);
            return;
        };
        match self.claims[position] {
            None => self.claims[position] = Some(index),
            Some(other) => {
                let violation = Violation::new(Rule::RevisionShared, revision.to_string());
                case.blame(violation.at(revision), &[other, index]);
            }
        }
    }
}

/// Unknown operations that can change keys without putting a value of their own: they delete, or keep a value. So
/// that not each of them is tried for each commit, they are found by what they name.
#[derive(Default)]
pub(super) struct Silent<'a> {
    by_key: BTreeMap<&'a Key, Vec<usize>>,
    by_lease: BTreeMap<LeaseId, Vec<usize>>,
    /// Those with a span.
    wide: Vec<usize>,
}

impl<'a> Silent<'a> {
    fn enter(&mut self, index: usize, call: &'a Call) {
        match call {
            Call::Put(put) => self.put(index, put),
            Call::Delete(delete) => self.span(index, &delete.span),
            Call::Txn(txn) => self.txn(index, txn),
            Call::LeaseRevoke(revoke) => {
                self.by_lease.entry(revoke.id).or_default().push(index);
            }
            _ => {}
        }
    }

    fn put(&mut self, index: usize, put: &'a Put) {
        if put.ignore_value {
            self.key(index, &put.key);
        }
    }

    fn span(&mut self, index: usize, span: &'a Span) {
        match span.single() {
            Some(key) => self.key(index, key),
            None if self.wide.last() != Some(&index) => self.wide.push(index),
            None => {}
        }
    }

    fn key(&mut self, index: usize, key: &'a Key) {
        let of_key = self.by_key.entry(key).or_default();
        if of_key.last() != Some(&index) {
            of_key.push(index);
        }
    }

    fn txn(&mut self, index: usize, txn: &'a Txn) {
        for step in txn.steps() {
            match step {
                Step::Put(put) => self.put(index, put),
                Step::Get(_) => {}
                Step::Delete(delete) => self.span(index, &delete.span),
                Step::Txn(inner) => self.txn(index, inner),
            }
        }
    }

    /// Everything that can have changed this key, which was attached to this lease. Some may come twice.
    pub(super) fn about(
        &self,
        key: &Key,
        lease: Option<LeaseId>,
    ) -> impl Iterator<Item = usize> + use<'_, 'a> {
        let of_key = self.by_key.get(key).into_iter().flatten();
        let of_lease = lease.and_then(|lease| self.by_lease.get(&lease)).into_iter().flatten();
        of_key.chain(of_lease).chain(&self.wide).copied()
    }
}
