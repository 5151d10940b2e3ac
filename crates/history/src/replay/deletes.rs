//! Which unknown deletion made which commit: a matching.
//!
//! A deletion carries no value, so several unknown operations may fit one commit, and one operation several commits.
//! Each operation is used once at most. Commits that nothing but an operation explains come first, then those that
//! would be the end of a lease too early; one that may well be the end of a lease takes an operation only if one is
//! left.

use std::collections::{BTreeMap, VecDeque};

use super::clock::Clock;
use super::lease::Lives;
use super::ledger::{Ledger, Orphan, Owner};
use super::{Case, Rule, Violation};

pub(super) fn explain(case: &mut Case<'_>, ledger: &mut Ledger<'_>, clock: &Clock, lives: &Lives) {
    let orphans = std::mem::take(&mut ledger.orphans);
    let mut matching = Matching::new(&orphans);
    let mut by_need: Vec<usize> = (0..orphans.len()).collect();
    by_need.sort_by_key(|number| need(case, clock, lives, &orphans[*number]));
    for number in by_need {
        matching.augment(number);
    }
    for (orphan, operation) in orphans.iter().zip(&matching.held) {
        let commit = &case.commits()[orphan.position];
        ledger.owners[orphan.position] = match (*operation, orphan.lease) {
            (Some(index), _) => {
                ledger.took_effect[index] = Some(commit.revision);
                Some(Owner::Operation(index))
            }
            (None, Some(lease)) => {
                ledger.lease_parts += u64::from(orphan.part);
                Some(Owner::LeaseEnd(lease))
            }
            (None, None) => {
                let violation = Violation::new(Rule::CommitUnexplained, commit.to_string());
                case.blame(violation.at(commit.revision), &orphan.candidates);
                None
            }
        };
    }
}

/// What a commit is without an operation; who has an operation keeps one, so the first are served best.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Unexplained,
    EndedEarly,
    Ended,
}

fn need(case: &Case<'_>, clock: &Clock, lives: &Lives, orphan: &Orphan) -> Need {
    match orphan.lease {
        None => Need::Unexplained,
        Some(lease) => match lives.broken_by(case, clock, orphan.position, lease) {
            Some(_) => Need::EndedEarly,
            None => Need::Ended,
        },
    }
}

/// Who has which operation.
struct Matching<'a> {
    orphans: &'a [Orphan],
    /// By operation.
    holder: BTreeMap<usize, usize>,
    /// By orphan.
    held: Vec<Option<usize>>,
}

impl<'a> Matching<'a> {
    fn new(orphans: &'a [Orphan]) -> Self {
        Self { orphans, holder: BTreeMap::new(), held: vec![None; orphans.len()] }
    }

    /// Gives an operation to an orphan, if need be by giving others another one: a shortest augmenting path.
    fn augment(&mut self, start: usize) {
        // By operation: the orphan that would take it.
        let mut reached: BTreeMap<usize, usize> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(number) = queue.pop_front() {
            for operation in &self.orphans[number].candidates {
                if reached.contains_key(operation) {
                    continue;
                }
                reached.insert(*operation, number);
                match self.holder.get(operation) {
                    Some(holder) => queue.push_back(*holder),
                    None => return self.flip(&reached, *operation),
                }
            }
        }
    }

    /// Along the path, backwards: each orphan takes the operation that it reached and leaves the one that it had.
    fn flip(&mut self, reached: &BTreeMap<usize, usize>, last: usize) {
        let mut free = Some(last);
        while let Some(operation) = free {
            let number = reached[&operation];
            self.holder.insert(operation, number);
            free = self.held[number].replace(operation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(candidates: &[&[usize]]) -> Vec<Orphan> {
        let orphan = |candidates: &&[usize]| Orphan {
            position: 0,
            candidates: candidates.to_vec(),
            lease: None,
            part: false,
        };
        candidates.iter().map(orphan).collect()
    }

    fn matched(candidates: &[&[usize]]) -> usize {
        let orphans = orphans(candidates);
        let mut matching = Matching::new(&orphans);
        for number in 0..orphans.len() {
            matching.augment(number);
        }
        let mut used: Vec<usize> = matching.held.iter().flatten().copied().collect();
        for (orphan, operation) in orphans.iter().zip(&matching.held) {
            assert!(operation.is_none_or(|operation| orphan.candidates.contains(&operation)));
        }
        used.sort_unstable();
        let matched = used.len();
        used.dedup();
        assert_eq!(used.len(), matched, "an operation is used twice");
        matched
    }

    /// The largest matching, by trying everything.
    fn largest(candidates: &[&[usize]], used: &mut Vec<usize>) -> usize {
        let Some((first, rest)) = candidates.split_first() else { return 0 };
        let mut best = largest(rest, used);
        for operation in *first {
            if !used.contains(operation) {
                used.push(*operation);
                best = best.max(1 + largest(rest, used));
                used.pop();
            }
        }
        best
    }

    #[test]
    fn nobody_goes_without_who_need_not() {
        assert_eq!(matched(&[&[1, 2], &[1]]), 2);
        assert_eq!(matched(&[&[1, 2], &[1, 3], &[1], &[3]]), 3);
        assert_eq!(matched(&[&[1], &[1]]), 1);
        assert_eq!(matched(&[&[]]), 0);
    }

    #[test]
    fn as_many_as_by_trying_everything() {
        let mut seed = 1_u64;
        let mut next = |bound: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % bound
        };
        for _ in 0..2_000 {
            let sets: Vec<Vec<usize>> =
                (0..next(6)).map(|_| (0..5).filter(|_| next(3) == 0).collect()).collect();
            let sets: Vec<&[usize]> = sets.iter().map(Vec::as_slice).collect();
            assert_eq!(matched(&sets), largest(&sets, &mut Vec::new()), "{sets:?}");
        }
    }
}
