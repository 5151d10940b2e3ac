//! The simulation on code that is broken on purpose: each known mistake has to be caught within
//! a budget of seeds, or the checks prove nothing. A mistake that needs more coincidences than a
//! budget can hold is shown by a script of `regressions` instead.

use hunt::Hunt;
use raft::{LogIndex, Mutant};

use crate::regressions;
use crate::simulation::{climate, live};
use crate::world::Climate;

/// Where a mistake shows.
enum Shown {
    /// In one of so many worlds, bent towards what it needs.
    Within(u64, fn(&mut Climate)),
    /// In a script, which says what is wrong.
    By(fn(Option<Mutant>) -> Result<(), String>),
}

use Shown::{By, Within};

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

/// Groups of an even number, which stays.
fn even(climate: &mut Climate) {
    *climate = Climate { founders: 4, membership: 0, ..*climate };
}

/// Members come and go under leaders that come and go.
fn moving(climate: &mut Climate) {
    *climate = Climate {
        membership: 400,
        partition: 100,
        campaign: 200,
        small_limits: true,
        latency_ms_max: 20,
        election_ms: 100,
        ..*climate
    };
}

/// The known way to get it wrong that a mistake stands for, and where it shows.
fn case(mutant: Mutant) -> (Option<u8>, Shown) {
    match mutant {
        Mutant::CommitOldTermByCounting => (Some(1), Within(2_000, trickle)),
        Mutant::VoteForgotten => (Some(2), Within(10, any)),
        Mutant::VoteErasedAtStepDown => (Some(2), Within(10, any)),
        Mutant::VoteWithoutLogCheck => (Some(3), Within(100, any)),
        Mutant::VoteByLengthFirst => (Some(3), Within(500, trickle)),
        Mutant::VoteGivenTwice => (Some(3), Within(100, any)),
        Mutant::RefusalTakenForVote => (Some(3), Within(100, any)),
        Mutant::PreVoteTakenForVote => (Some(3), Within(10, any)),
        Mutant::CommitWithoutQuorum => (Some(4), Within(10, any)),
        Mutant::QuorumBySortShortcut => (Some(4), Within(10, even)),
        Mutant::TermTakenInPassing => (Some(5), Within(100, any)),
        Mutant::MembershipUnguarded => (Some(6), Within(200, any)),
        Mutant::MembershipBeforeTermCommitted => (Some(6), Within(500, moving)),
        Mutant::CampaignUndelivered => (Some(7), Within(500, moving)),
        Mutant::JointHalfIgnored => (Some(7), Within(200, any)),
        Mutant::JointLeftUnguarded => (Some(7), Within(100, moving)),
        Mutant::JointNeverLeft => (Some(7), Within(100, any)),
        Mutant::SessionIgnored => (Some(8), By(stale_acknowledgement)),
        Mutant::ReadUnconfirmed => (Some(9), Within(100, isolation)),
        Mutant::ReadBeforeTermCommitted => (Some(9), Within(100, any)),
        Mutant::ReadRoundReused => (Some(9), Within(100, isolation)),
        Mutant::AckBeforeDurable => (Some(11), Within(10, any)),
        Mutant::VoteRequestBeforeDurable => (Some(11), Within(10, any)),
        Mutant::OverwrittenCountsDurable => (Some(14), By(overwritten)),
        Mutant::BindingNotPersisted => (Some(10), Within(10, fortified)),
        Mutant::VoteThoughBound => (Some(10), Within(50, fortified)),
        Mutant::LeaseCountsUnbound => (Some(10), Within(50, fortified)),
        Mutant::LeaseUnderOldMembership => (Some(10), Within(200, changing)),
        Mutant::LeaseOfHalfAJoint => (Some(10), Within(500, changing)),
        Mutant::ReleasedBeforeServingEnds => (Some(10), Within(100, handed_over)),
        Mutant::ReleasedByCandidate => (Some(10), Within(500, fortified)),
        Mutant::WithdrawnHearsLeader => (None, By(regressions::a_leader_without_support)),
        Mutant::LeaderWaitsForDisk => (None, By(regressions::a_leader_without_a_disk)),
        Mutant::LeaseBeforeTermApplied => (Some(10), Within(100, fortified)),
        Mutant::CutWithoutConflict => (None, Within(50, any)),
    }
}

fn stale_acknowledgement(mutant: Option<Mutant>) -> Result<(), String> {
    match regressions::matched_after_a_rejoin(mutant) {
        LogIndex(0) => Ok(()),
        matched => Err(format!("an empty replica is taken to hold all up to {matched}")),
    }
}

fn overwritten(mutant: Option<Mutant>) -> Result<(), String> {
    match regressions::overtaken_and_restored(mutant).raft(1).durable() {
        LogIndex(1) => Ok(()),
        durable => Err(format!("{durable} is taken to be durable, and was overwritten")),
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("raft");
    for &mutant in Mutant::ALL {
        let (way, shown) = case(mutant);
        match shown {
            Within(seeds, bend) => hunt.mutant(mutant, way, 1..=seeds, |seed, mutant| {
                let mut bent = climate(seed);
                bend(&mut bent);
                live(seed, Climate { mutant, ..bent }).map(drop)
            }),
            By(script) => hunt.mutant(mutant, way, [1], |_, mutant| script(mutant)),
        }
    }
    hunt.end();
}
