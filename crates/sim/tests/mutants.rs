//! What whole clusters notice of code that is broken on purpose.

use hunt::Hunt;
use sim::mutants::{Mutant, all, live};

/// Seeds a mutant may live through.
const SEEDS: u64 = 60;

/// Whether nobody notices a mutant here in so many seeds: those about what clients are told need
/// whole histories to be judged, the others rarer coincidences than these climates bring about.
/// The harness of the crate that is broken catches every one of them. One that is noticed here has
/// to leave this list.
fn not_yet(mutant: Mutant) -> bool {
    use node::Mutant as Node;
    use raft::Mutant as Raft;
    use storage::Mutant as Storage;
    match mutant {
        Mutant::Raft(mutant) => matches!(
            mutant,
            Raft::CommitOldTermByCounting
                | Raft::VoteForgotten
                | Raft::VoteWithoutLogCheck
                | Raft::VoteByLengthFirst
                | Raft::JointHalfIgnored
                | Raft::MembershipUnguarded
                | Raft::MembershipBeforeTermCommitted
                | Raft::CampaignUndelivered
                | Raft::JointLeftUnguarded
                | Raft::JointNeverLeft
                | Raft::ReadUnconfirmed
                | Raft::ReadBeforeTermCommitted
                | Raft::ReadRoundReused
                | Raft::SessionIgnored
                | Raft::VoteRequestBeforeDurable
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
            Node::ReadUnapplied
                | Node::AnswerWhateverStands
                | Node::SpeculationKept
                | Node::ForwardedAgain
                | Node::AnswerUnapplied
                | Node::PointFromAnybody
        ),
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("sim");
    for mutant in all().into_iter().filter(|&mutant| !not_yet(mutant)) {
        hunt.mutant(mutant, None, 1..=SEEDS, live);
    }
    hunt.end();
}
