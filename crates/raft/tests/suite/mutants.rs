//! The simulation on code that is broken on purpose: each known mistake has to be caught within
//! a budget of seeds, or the checks prove nothing. (`SessionIgnored` and
//! `OverwrittenCountsDurable` need more coincidences than a budget can hold; `regressions`
//! scripts them.)

use std::panic::catch_unwind;

use raft::Mutant;

use crate::simulation::{climate, live};
use crate::world::Climate;

/// Tries seeds until one catches the mutant; says which and what was seen. The world is bent
/// towards what the mistake needs to show, and is shown to be sound without the mistake.
fn hunt(mutant: Mutant, seeds: u64, bend: impl Fn(&mut Climate)) -> (u64, String) {
    for seed in 1..=seeds {
        let mut bent = climate(seed);
        bend(&mut bent);
        let broken = Climate { mutant: Some(mutant), ..bent.clone() };
        let seen = match catch_unwind(|| live(seed, broken)) {
            Ok(Ok(_)) => continue,
            Ok(Err(seen)) => seen,
            Err(_) => "an assertion of the core".to_owned(),
        };
        live(seed, bent).expect("the mutant is to blame, not the world");
        return (seed, seen);
    }
    panic!("{mutant:?} survived {seeds} seeds");
}

macro_rules! caught {
    ($($name:ident: $mutant:ident within $seeds:literal in $bend:expr;)*) => {
        $(#[test]
        fn $name() {
            let (seed, seen) = hunt(Mutant::$mutant, $seeds, $bend);
            println!("{:?} caught by seed {seed}: {seen}", Mutant::$mutant);
        })*
    };
}

/// No help, no hindrance.
fn any(_: &mut Climate) {}

/// Leaders come and go, entries trickle one by one (Raft, figure 8).
fn trickle(climate: &mut Climate) {
    *climate = Climate {
        founders: 5,
        crash: 250,
        partition: 250,
        drop: 50,
        membership: 0,
        truncate: 0,
        transfer: 0,
        pre_vote: false,
        check_quorum: false,
        small_limits: false,
        one_by_one: true,
        latency_ms_max: 20,
        disk_ms_max: 10,
        election_ms: 100,
        client_ms_max: 40,
        ..*climate
    };
}

/// Old leaders do not notice that they are old.
fn isolation(climate: &mut Climate) {
    *climate = Climate {
        founders: 3,
        crash: 0,
        partition: 200,
        check_quorum: false,
        latency_ms_max: 20,
        disk_ms_max: 10,
        election_ms: 100,
        client_ms_max: 10,
        ..*climate
    };
}

/// Followers stand by leaders, and their stores come and go.
fn fortified(climate: &mut Climate) {
    climate.fortify = true;
    climate.lapse = 200;
    climate.crash = climate.crash.max(50);
    climate.partition = climate.partition.max(50);
    climate.founders = climate.founders.max(3);
    climate.check_quorum = false;
    climate.election_ms = 100;
}

/// Leadership is handed over all the time.
fn handed_over(climate: &mut Climate) {
    fortified(climate);
    climate.transfer = 200;
    climate.latency_ms_max = 20;
}

/// Memberships change all the time.
fn changing(climate: &mut Climate) {
    fortified(climate);
    climate.membership = 300;
    climate.latency_ms_max = 20;
}

caught! {
    an_old_term_committed_by_counting: CommitOldTermByCounting within 2_000 in trickle;
    an_acknowledgement_before_durability: AckBeforeDurable within 10 in any;
    a_forgotten_vote: VoteForgotten within 10 in any;
    a_vote_without_a_look_at_the_log: VoteWithoutLogCheck within 100 in any;
    a_vote_by_length_first: VoteByLengthFirst within 500 in trickle;
    a_commit_without_a_quorum: CommitWithoutQuorum within 10 in any;
    a_cut_without_a_conflict: CutWithoutConflict within 50 in any;
    half_of_a_joint_configuration_ignored: JointHalfIgnored within 200 in any;
    an_unguarded_membership_change: MembershipUnguarded within 200 in any;
    an_unconfirmed_read: ReadUnconfirmed within 100 in isolation;
    a_read_before_the_term_is_committed: ReadBeforeTermCommitted within 100 in any;
    a_vote_request_before_durability: VoteRequestBeforeDurable within 10 in any;
    a_binding_that_is_not_stored: BindingNotPersisted within 10 in fortified;
    a_vote_though_bound: VoteThoughBound within 50 in fortified;
    a_lease_that_counts_the_unbound: LeaseCountsUnbound within 50 in fortified;
    a_lease_under_an_old_membership: LeaseUnderOldMembership within 200 in changing;
    a_lease_of_half_a_joint_membership: LeaseOfHalfAJoint within 500 in changing;
    a_release_before_serving_ends: ReleasedBeforeServingEnds within 100 in handed_over;
    a_release_by_a_candidate: ReleasedByCandidate within 500 in fortified;
    a_lease_before_the_term_is_applied: LeaseBeforeTermApplied within 100 in fortified;
}
