//! What whole clusters notice of code that is broken on purpose.
//!
//! `SIM_MUTANT_SEEDS=n` gives every mutant n seeds, those that nobody notices yet too, and prints the table.

use hunt::Hunt;
use sim::mutants::{Mutant, all, live};

/// Seeds a mutant may live through. The hardest of them takes 140 in the mean.
const SEEDS: u64 = 600;

/// Whether nobody can be sure to notice a mutant here in so many seeds. The harness of the crate that is broken
/// catches every one of them. One that is noticed here has to leave this list.
///
/// - Joint configurations: a member is added or removed by a change of one, so there is none.
/// - Changes unguarded: the operator asks for one at a time.
/// - Sessions: a member that comes again has another name.
/// - Reads before the term is committed: the core serves nothing before that, whatever Raft says.
/// - Reads unconfirmed: noticed, but it takes hundreds of seeds (a stale read, judged by the history).
/// - What binds a replica to a leader, and leases: noticed, two of them within a hundred seeds.
/// - Members evaluated early: a put is refused for want of room in the same turn that a member is added.
/// - The others: rarer coincidences than these climates bring about.
fn not_yet(mutant: Mutant) -> bool {
    use node::Mutant as Node;
    use raft::Mutant as Raft;
    use storage::Mutant as Storage;
    use store::Mutant as Store;
    match mutant {
        Mutant::Raft(mutant) => matches!(
            mutant,
            Raft::JointHalfIgnored
                | Raft::MembershipUnguarded
                | Raft::MembershipBeforeTermCommitted
                | Raft::CampaignUndelivered
                | Raft::JointLeftUnguarded
                | Raft::JointNeverLeft
                | Raft::ReadRoundReused
                | Raft::SessionIgnored
                | Raft::ReadUnconfirmed
                | Raft::ReadBeforeTermCommitted
                | Raft::BindingNotPersisted
                | Raft::LeaseCountsUnbound
                | Raft::VoteThoughBound
                | Raft::LeaseUnderOldMembership
                | Raft::LeaseOfHalfAJoint
                | Raft::ReleasedBeforeServingEnds
                | Raft::ReleasedByCandidate
                | Raft::LeaseBeforeTermApplied
                | Raft::WithdrawnHearsLeader
                | Raft::LeaderWaitsForDisk
                | Raft::OverwrittenCountsDurable
        ),
        Mutant::Storage(mutant) => matches!(
            mutant,
            Storage::SyncTriedAgain
                | Storage::FoundNotSynced
                | Storage::ReleasedTooEarly
                | Storage::WitnessTooFar
                | Storage::UnitInPieces
                | Storage::OverwrittenComesBack
                | Storage::ChecksumOfDataAlone
                | Storage::ReadErrorEndsLog
                | Storage::ReadErrorEndsEntries
        ),
        Mutant::Node(mutant) => matches!(
            mutant,
            Node::ServeEarly
                | Node::AnswerWhateverStands
                | Node::SpeculationKept
                | Node::AnswerUnapplied
                | Node::PointFromAnybody
                | Node::MembersEvaluatedEarly
        ),
        Mutant::Store(mutant) => matches!(
            mutant,
            Store::NoDriftMargin | Store::WithdrawalNotPersisted | Store::RefusalTakenForSupport
        ),
    }
}

fn seeds() -> Option<u64> {
    std::env::var("SIM_MUTANT_SEEDS").ok()?.parse().ok()
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("sim");
    for mutant in all().into_iter().filter(|&mutant| !not_yet(mutant)) {
        hunt.mutant(mutant, None, 1..=seeds().unwrap_or(SEEDS), live);
    }
    hunt.end();
}

/// Looked at when seeds are given; the list of those that nobody notices is not longer than it must be.
#[test]
fn the_others_are_not_caught() {
    let Some(seeds) = seeds() else { return };
    let mut caught = Vec::new();
    for mutant in all().into_iter().filter(|&mutant| not_yet(mutant)) {
        match (1..=seeds).find_map(|seed| Some((seed, live(seed, Some(mutant)).err()?))) {
            Some((seed, broken)) => {
                println!("{mutant:?}: seed {seed}: {broken}");
                caught.push(mutant);
            }
            None => println!("{mutant:?}: not noticed"),
        }
    }
    assert!(caught.is_empty(), "noticed, and still on the list: {caught:?}");
}
