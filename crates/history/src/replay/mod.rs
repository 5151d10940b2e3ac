//! The replay: every rule of the contract over a whole history, in n log n.
//!
//! etcd numbers its commits, and every answer carries the revision at which it is true. So the one order that must
//! explain the history is known, and checking is walking it:
//!
//! 1. *Order*: the commits are without gap, each consistent with the state before it.
//! 2. *Time*: for every operation the *floor* is the highest revision that anyone had been told before it began. A
//!    write is above its floor, a linearizable read is not below it.
//! 3. *Ledger*: every commit has one owner. An acknowledged write owns the revision of its header. A commit that
//!    nobody claims is owned by the unknown operation whose values it has; one that only deletes, by an unknown
//!    operation that would have deleted just that, or by the end of a lease. Deletions carry no value, so which
//!    unknown deletion owns which commit is a matching, in which each operation is used once.
//! 4. *Walk*: each owner, evaluated in the model at the state before its commit, has exactly the commit's effects and
//!    the answer that was given. Each read is evaluated at its revision.
//! 5. *Compactions*, *watches*, *leases*: see the modules.
//!
//! # Cost
//!
//! n log n in operations and events, plus: a read costs the keys in its span; a watch on a span costs the revisions it
//! covers, on one key its events; a deletion that nobody claims costs the unknown deletions of its first key, and all
//! unknown deletions of spans.
//!
//! # Caveats
//!
//! - With [`TxnEvents::Outcome`], a transaction whose outcome changes no key is expected to have a revision all the
//!   same if its answer speaks of a change.
//! - A lease that has ended by itself and had no keys is not known to have ended.
//!
//! Sources: etcd's API guarantees (KV, Watch, Lease); Herlihy & Wing 1990 for real-time order.

mod answer;
mod clock;
mod compaction;
mod deletes;
mod lease;
mod ledger;
mod rule;
mod walk;
mod watch;

pub use rule::{Rule, Violation};

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use crate::model::TxnEvents;
use crate::record::{Commit, History, Operation, Outcome, Revision};

/// How to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// More violations are counted, not kept.
    pub violations_max: usize,
    /// What a commit shows of a transaction that changes one key twice.
    pub txn_events: TxnEvents,
    /// By how much the clock that ends leases may be faster than the recorder's, in parts per million. (Promises
    /// are about durations; offsets do not matter.)
    pub lease_drift_ppm: u32,
    /// Whether a lease with many keys may end in several commits, in key order. Real etcd ends it in one.
    pub lease_ends_in_parts: bool,
    /// Whether the header of a watch's events claims that everything up to it was told, as that of a progress
    /// message does. Real etcd claims more than it has told while a watcher catches up over many revisions.
    pub event_headers_claim: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            violations_max: 20,
            txn_events: TxnEvents::Each,
            lease_drift_ppm: 1_000,
            lease_ends_in_parts: false,
            event_headers_claim: true,
        }
    }
}

/// How much was checked: a history in which nothing happened proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Commits.
    pub commits: u64,
    /// Writes acknowledged, each found at its revision.
    pub writes_acknowledged: u64,
    /// Operations of unknown outcome that turned out to have had their effect.
    pub unknown_applied: u64,
    /// Operations of unknown outcome without an effect that can be seen.
    pub unknown_unseen: u64,
    /// Definite failures.
    pub failed: u64,
    /// Answers compared with the model, those inside of transactions not counted.
    pub answers: u64,
    /// Commits by the end of a lease.
    pub lease_ends: u64,
    /// Of those, the ones that left a part of the lease's keys to the next.
    pub lease_parts: u64,
    /// Events that watchers were told.
    pub watch_events: u64,
    /// Times that a watcher resumed.
    pub watch_resumed: u64,
    /// Progress messages.
    pub watch_progress: u64,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The violations kept, in the order in which the rules are looked at.
    pub violations: Vec<Violation>,
    /// How many more there were.
    pub omitted: u64,
    /// How much was checked.
    pub seen: Seen,
}

impl Report {
    /// Whether no rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether this rule was broken.
    #[must_use]
    pub fn breaks(&self, rule: Rule) -> bool {
        self.violations.iter().any(|violation| violation.rule == rule)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        if self.omitted > 0 {
            writeln!(f, "and {} more", self.omitted)?;
        }
        write!(f, "{:?}", self.seen)
    }
}

/// Checks every rule.
#[must_use]
pub fn check(history: &History, settings: &Settings) -> Report {
    let mut case = Case::new(history, settings);
    case.order();
    let clock = clock::Clock::new(history);
    let mut ledger = ledger::Ledger::new(&mut case);
    walk::walk(&mut case, &mut ledger, &clock);
    let lives = lease::Lives::new(&case);
    deletes::explain(&mut case, &mut ledger, &clock, &lives);
    clock.check(&mut case, &ledger);
    let compactions = compaction::Compactions::new(history);
    compactions.check(&mut case, &clock);
    watch::check(&mut case, &compactions);
    lease::check(&mut case, &ledger, &clock, &lives);
    case.count(&ledger);
    case.report
}

/// A history being checked.
struct Case<'a> {
    history: &'a History,
    settings: &'a Settings,
    /// Where each revision is in the list: of a list in order it is the distance from the base.
    disordered: Option<BTreeMap<Revision, usize>>,
    report: Report,
}

impl<'a> Case<'a> {
    fn new(history: &'a History, settings: &'a Settings) -> Self {
        Self { history, settings, disordered: None, report: Report::default() }
    }

    /// Records a violation.
    fn blame(&mut self, mut violation: Violation, operations: &[usize]) {
        if self.report.violations.len() >= self.settings.violations_max.max(1) {
            self.report.omitted += 1;
            return;
        }
        for index in operations {
            violation.operations.push((*index, self.operation(*index).to_string()));
        }
        self.report.violations.push(violation);
    }

    fn operation(&self, index: usize) -> &'a Operation {
        &self.history.operations[index]
    }

    fn commits(&self) -> &'a [Commit] {
        &self.history.commits.list
    }

    fn last(&self) -> Revision {
        self.history.commits.last()
    }

    /// Where a revision's commit is in the list.
    fn position(&self, revision: Revision) -> Option<usize> {
        match &self.disordered {
            Some(positions) => positions.get(&revision).copied(),
            None => usize::try_from(revision.0.checked_sub(self.history.commits.base.0 + 1)?)
                .ok()
                .filter(|position| *position < self.commits().len()),
        }
    }

    /// The commits come one after the other, and none is empty.
    fn order(&mut self) {
        let mut last = self.history.commits.base;
        let mut disordered = false;
        for commit in self.commits() {
            let revision = commit.revision;
            if commit.events.is_empty() {
                self.blame(Violation::new(Rule::CommitEmpty, "no events").at(revision), &[]);
            }
            if revision != last.next() {
                disordered = true;
                let rule = if revision > last { Rule::RevisionGap } else { Rule::RevisionRepeated };
                let detail = format!("{revision} follows {last}");
                self.blame(Violation::new(rule, detail).at(revision), &[]);
            }
            last = last.max(revision);
        }
        if disordered {
            let mut positions = BTreeMap::new();
            for (position, commit) in self.commits().iter().enumerate() {
                positions.entry(commit.revision).or_insert(position);
            }
            self.disordered = Some(positions);
        }
    }

    fn count(&mut self, ledger: &ledger::Ledger<'_>) {
        let mut seen = self.report.seen;
        seen.commits = self.commits().len() as u64;
        for (operation, took) in self.history.operations.iter().zip(&ledger.took_effect) {
            match (&operation.outcome, took) {
                (Outcome::Ok { .. }, Some(_)) => seen.writes_acknowledged += 1,
                (Outcome::Ok { .. }, None) => {}
                (Outcome::Failed(_), _) => seen.failed += 1,
                (Outcome::Unknown, Some(_)) => seen.unknown_applied += 1,
                (Outcome::Unknown, None) => seen.unknown_unseen += 1,
            }
        }
        seen.lease_parts = ledger.lease_parts;
        seen.lease_ends = ledger
            .owners
            .iter()
            .filter(|owner| matches!(owner, Some(ledger::Owner::LeaseEnd(_))))
            .count() as u64;
        self.report.seen = seen;
    }
}
