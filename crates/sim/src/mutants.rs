//! The code broken on purpose, one line at a time: a rule that has never caught anything proves
//! nothing.

use raft::Mutant;

use crate::{Broken, Mutants, Plan, Tell, live_broken};

/// What whole clusters are to notice of the consensus core's known mistakes.
pub const RAFT: [Mutant; 14] = [
    Mutant::CommitOldTermByCounting,
    Mutant::AckBeforeDurable,
    Mutant::VoteForgotten,
    Mutant::VoteWithoutLogCheck,
    Mutant::VoteByLengthFirst,
    Mutant::CommitWithoutQuorum,
    Mutant::CutWithoutConflict,
    Mutant::JointHalfIgnored,
    Mutant::MembershipUnguarded,
    Mutant::ReadUnconfirmed,
    Mutant::ReadBeforeTermCommitted,
    Mutant::SessionIgnored,
    Mutant::VoteRequestBeforeDurable,
    Mutant::OverwrittenCountsDurable,
];

/// The first seed from `first` on in which a rule notices the mutant, of `seeds` at most.
#[must_use]
pub fn hunt(mutant: Mutant, first: u64, seeds: u64) -> Option<(u64, Broken)> {
    (first..first + seeds).find_map(|seed| {
        let mutants = Mutants { raft: Some(mutant) };
        let outcome = live_broken(&Plan::draw(seed), Tell::Nothing, mutants);
        outcome.broken.map(|broken| (seed, broken))
    })
}
