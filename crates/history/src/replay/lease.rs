//! Leases: no end before the time promised, nothing left after a revoke, no life after death.
//!
//! A promise is counted from the earliest moment at which it can have been made: the request's invocation. An end is
//! known by a moment: someone was told of a revision that is not lower. So an end is early if it was known before even
//! the earliest reading of the last promise had run out, less the drift between the clocks.

use std::collections::BTreeMap;

use super::clock::Clock;
use super::ledger::{Ledger, Owner};
use super::{Case, Rule, Violation};
use crate::record::{Answer, Call, Change, Failure, LeaseId, Operation, Outcome, Revision, Time};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What is known of all leases.
pub(super) struct Lives(BTreeMap<LeaseId, Life>);

/// What is known of one lease.
#[derive(Default)]
struct Life {
    /// Grants, acknowledged or unknown.
    grants: Vec<usize>,
    /// Acknowledged grants and keepalives: a promise that it lives until then.
    promises: Vec<Promise>,
    /// Revokes, acknowledged or unknown.
    revokes: Vec<usize>,
    /// Operations that were told that there is no such lease.
    denials: Vec<usize>,
}

#[derive(Clone, Copy)]
struct Promise {
    operation: usize,
    header: Revision,
    until: Time,
}

/// A lease that had ended before it may have.
pub(super) struct BrokenPromise {
    /// Who was promised.
    operation: usize,
    until: Time,
    ended: Time,
}

pub(super) fn check(case: &mut Case<'_>, ledger: &Ledger<'_>, clock: &Clock, lives: &Lives) {
    ends(case, ledger, clock, lives);
    for (lease, life) in &lives.0 {
        denials(case, life);
        revoked(case, *lease, life);
    }
    attachments(case, lives);
}

impl Lives {
    pub(super) fn new(case: &Case<'_>) -> Self {
        Self(lives(case))
    }

    /// The promise that would be broken if the commit at this position were the end of this lease by itself.
    pub(super) fn broken_by(
        &self,
        case: &Case<'_>,
        clock: &Clock,
        position: usize,
        lease: LeaseId,
    ) -> Option<BrokenPromise> {
        let revision = case.commits()[position].revision;
        let (ended, life) = (clock.known_by(position)?, self.0.get(&lease)?);
        // A name that was given twice: only what was promised before the end counts, and not what a
        // revoke may have ended before the name was given again.
        let again = life.grants.len() > 1;
        let ended_before = |promise: &Promise| {
            let promised = case.operation(promise.operation).invoked;
            let mut revokes = life.revokes.iter().map(|other| case.operation(*other));
            revokes.any(|revoke| may_follow(revoke, promised) && revoke.invoked <= ended)
        };
        let counts = |one: &&Promise| !again || (one.header < revision && !ended_before(one));
        let last = life.promises.iter().filter(counts).max_by_key(|one| one.until)?;
        let broken = BrokenPromise { operation: last.operation, until: last.until, ended };
        (ended < last.until).then_some(broken)
    }
}

/// Whether a revoke may have had its effect after something that was asked for at `began`.
fn may_follow(revoke: &Operation, began: Time) -> bool {
    acknowledged_at(revoke).is_none_or(|at| at >= began)
}

fn lives(case: &Case<'_>) -> BTreeMap<LeaseId, Life> {
    let mut lives: BTreeMap<LeaseId, Life> = BTreeMap::new();
    for (index, operation) in case.history.operations.iter().enumerate() {
        match (&operation.call, &operation.outcome) {
            (_, Outcome::Ok { revision, answer: Answer::LeaseGrant { id, ttl_s } }) => {
                let life = lives.entry(*id).or_default();
                life.grants.push(index);
                life.promises.push(promise(case, index, *revision, *ttl_s));
            }
            (Call::LeaseGrant(grant), Outcome::Unknown) => {
                if let Some(id) = grant.id {
                    lives.entry(id).or_default().grants.push(index);
                }
            }
            (Call::LeaseKeepAlive(alive), Outcome::Ok { revision, answer }) => {
                let life = lives.entry(alive.id).or_default();
                match answer {
                    Answer::LeaseKeepAlive { ttl_s: Some(ttl_s) } => {
                        life.promises.push(promise(case, index, *revision, *ttl_s));
                    }
                    _ => life.denials.push(index),
                }
            }
            (Call::LeaseRevoke(revoke), Outcome::Ok { .. } | Outcome::Unknown) => {
                lives.entry(revoke.id).or_default().revokes.push(index);
            }
            (call, Outcome::Failed(Failure::LeaseNotFound)) => {
                if let Some(id) = only_lease(call) {
                    lives.entry(id).or_default().denials.push(index);
                }
            }
            _ => {}
        }
    }
    lives
}

fn promise(case: &Case<'_>, operation: usize, header: Revision, ttl_s: i64) -> Promise {
    let ttl = u64::try_from(ttl_s).unwrap_or(0).saturating_mul(NANOS_PER_SECOND);
    let drift = ttl / 1_000_000 * u64::from(case.settings.lease_drift_ppm);
    let until = case.operation(operation).invoked.0.saturating_add(ttl.saturating_sub(drift));
    Promise { operation, header, until: Time(until) }
}

/// The lease that a refusal is about, if there is only one in the request.
fn only_lease(call: &Call) -> Option<LeaseId> {
    let mut leases: Vec<LeaseId> = call.puts().into_iter().filter_map(|put| put.lease).collect();
    match call {
        Call::LeaseRevoke(revoke) => leases.push(revoke.id),
        Call::LeaseKeepAlive(alive) => leases.push(alive.id),
        _ => {}
    }
    leases.dedup();
    if leases.len() == 1 { leases.pop() } else { None }
}

/// Commits that are the end of a lease by itself.
fn ends(case: &mut Case<'_>, ledger: &Ledger<'_>, clock: &Clock, lives: &Lives) {
    for (position, owner) in ledger.owners.iter().enumerate() {
        let Some(Owner::LeaseEnd(lease)) = owner else { continue };
        let Some(broken) = lives.broken_by(case, clock, position, *lease) else { continue };
        let BrokenPromise { operation, until, ended } = broken;
        let detail = format!("{lease} was promised until {until}, but had ended by {ended}");
        let violation = Violation::new(Rule::LeaseEarly, detail);
        case.blame(violation.at(case.commits()[position].revision), &[operation]);
    }
}

/// Whoever was told that there is no such lease, while a promise stood and nobody had asked for its end.
fn denials(case: &mut Case<'_>, life: &Life) {
    for index in &life.denials {
        let denied = case.operation(*index);
        let Some(returned) = denied.returned else { continue };
        let before =
            |other: &usize| case.operation(*other).returned.is_some_and(|at| at < denied.invoked);
        let standing =
            life.promises.iter().find(|one| before(&one.operation) && returned < one.until);
        let revoked = life.revokes.iter().any(|other| case.operation(*other).invoked <= returned);
        if let Some(promise) = standing
            && !revoked
        {
            let detail = format!("it was promised until {}", promise.until);
            let violation = Violation::new(Rule::LeaseEarly, detail);
            case.blame(violation, &[*index, promise.operation]);
        }
    }
}

/// After an acknowledged revoke no keepalive finds the lease, unless it was granted again.
fn revoked(case: &mut Case<'_>, lease: LeaseId, life: &Life) {
    for revoke in &life.revokes {
        if granted_again(case, life, *revoke) {
            continue;
        }
        let revoked = case.operation(*revoke);
        let Some(ended) = acknowledged_at(revoked) else { continue };
        for promise in &life.promises {
            if case.operation(promise.operation).invoked > ended {
                let violation = Violation::new(Rule::LeaseDead, format!("{lease} was revoked"));
                case.blame(violation, &[promise.operation, *revoke]);
            }
        }
    }
}

fn acknowledged_at(operation: &Operation) -> Option<Time> {
    match operation.outcome {
        Outcome::Ok { .. } => operation.returned,
        Outcome::Failed(_) | Outcome::Unknown => None,
    }
}

/// Whether a lease can have been granted after an acknowledged revoke. One grant was before it.
fn granted_again(case: &Case<'_>, life: &Life, revoke: usize) -> bool {
    let began = case.operation(revoke).invoked;
    life.grants.len() > 1
        && life.grants.iter().any(|grant| {
            acknowledged_at(case.operation(*grant)).is_none_or(|granted| granted >= began)
        })
}

/// No key is attached to a lease after its revoke.
fn attachments(case: &mut Case<'_>, lives: &Lives) {
    let mut ended: BTreeMap<LeaseId, (Revision, usize)> = BTreeMap::new();
    for (lease, life) in &lives.0 {
        for revoke in &life.revokes {
            if let Outcome::Ok { revision, .. } = &case.operation(*revoke).outcome
                && !granted_again(case, life, *revoke)
            {
                ended.entry(*lease).or_insert((*revision, *revoke));
            }
        }
    }
    if ended.is_empty() {
        return;
    }
    for commit in case.commits() {
        for event in &commit.events {
            if let Change::Put { lease: Some(lease), .. } = event.change
                && let Some((revoked_at, revoke)) = ended.get(&lease)
                && commit.revision > *revoked_at
            {
                let violation = Violation::new(Rule::LeaseDead, event.to_string());
                case.blame(violation.at(commit.revision), &[*revoke]);
            }
        }
    }
}
