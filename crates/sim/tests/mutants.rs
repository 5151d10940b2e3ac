//! What whole clusters notice of code that is broken on purpose.

use raft::Mutant;
use sim::mutants::{RAFT, hunt};

/// Seeds a mutant may live through.
const SEEDS: u64 = 60;

/// Mistakes that nobody notices here in so many seeds: those about reads need whole histories to be
/// judged, the others rarer coincidences than these climates bring about. The simulation of the
/// crate `raft` alone catches every one of them. One that is noticed here has to leave this list.
const NOT_YET: [Mutant; 11] = [
    Mutant::CommitOldTermByCounting,
    Mutant::VoteForgotten,
    Mutant::VoteWithoutLogCheck,
    Mutant::VoteByLengthFirst,
    Mutant::JointHalfIgnored,
    Mutant::MembershipUnguarded,
    Mutant::ReadUnconfirmed,
    Mutant::ReadBeforeTermCommitted,
    Mutant::SessionIgnored,
    Mutant::VoteRequestBeforeDurable,
    Mutant::OverwrittenCountsDurable,
];

#[test]
fn mutants_are_caught() {
    let mut missed = Vec::new();
    for mutant in RAFT.into_iter().filter(|mutant| !NOT_YET.contains(mutant)) {
        match hunt(mutant, 1, SEEDS) {
            Some((seed, broken)) => println!("{mutant:?}: seed {seed}: {}", broken.rule),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
