//! The simulation on code that is broken on purpose: each known mistake has to be caught within
//! a budget of seeds, or the checks prove nothing.

use std::panic::catch_unwind;

use raft::Mutant;

use crate::simulation::live;

/// Tries seeds until one catches the mutant; says which and what was seen.
fn hunt(mutant: Mutant, seeds: u64) -> (u64, String) {
    for seed in 1..=seeds {
        match catch_unwind(|| live(seed, Some(mutant))) {
            Ok(Ok(_)) => {}
            Ok(Err(broken)) => return (seed, broken),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                return (seed, format!("an assertion: {}", text.unwrap_or_default()));
            }
        }
    }
    panic!("{mutant:?} survived {seeds} seeds");
}

macro_rules! caught {
    ($($name:ident: $mutant:ident within $seeds:literal;)*) => {
        $(#[test]
        fn $name() {
            let (seed, broken) = hunt(Mutant::$mutant, $seeds);
            println!("{:?} caught by seed {seed}: {broken}", Mutant::$mutant);
        })*
    };
}

caught! {
    an_old_term_committed_by_counting: CommitOldTermByCounting within 2_000;
    an_acknowledgement_before_durability: AckBeforeDurable within 50;
    a_forgotten_vote: VoteForgotten within 50;
    a_vote_without_a_look_at_the_log: VoteWithoutLogCheck within 200;
    a_vote_by_length_first: VoteByLengthFirst within 2_000;
    a_commit_without_a_quorum: CommitWithoutQuorum within 50;
    a_cut_without_a_conflict: CutWithoutConflict within 200;
    half_of_a_joint_configuration_ignored: JointHalfIgnored within 500;
    an_unguarded_membership_change: MembershipUnguarded within 500;
    an_unconfirmed_read: ReadUnconfirmed within 200;
    a_read_before_the_term_is_committed: ReadBeforeTermCommitted within 500;
    an_acknowledgement_of_an_earlier_stay: SessionIgnored within 2_000;
    a_vote_request_before_durability: VoteRequestBeforeDurable within 50;
    overwritten_entries_counted_durable: OverwrittenCountsDurable within 2_000;
}
