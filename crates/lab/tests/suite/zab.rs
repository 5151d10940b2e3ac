//! What Zab must show.

use lab::check::{check, setup_of};
use lab::engine::World;
use lab::facade::{Of, Outcome, Run};
use lab::process::RequestId;
use lab::protocol::Setup;
use lab::protocols::zab::{Disk, Zab, Zxid};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// What a process has in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ends {
    /// The zxids that it has delivered.
    delivered: Vec<Zxid>,
    state: u64,
}

/// What each process that is up has delivered, and the disks.
fn ends(run: &Run) -> (Vec<Option<Ends>>, Vec<Disk>) {
    let mut world: World<Zab> = Of::<Zab>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    let ends = |node: &lab::protocol::Node<Zab>| {
        node.process.as_ref().map(|process| Ends {
            delivered: process.delivered().iter().map(|txn| txn.zxid).collect(),
            state: process.state(),
        })
    };
    let disks = world.nodes().iter().map(|node| node.disk.clone()).collect();
    (world.nodes().iter().map(ends).collect(), disks)
}

fn zxid(epoch: u64, counter: u64) -> Zxid {
    Zxid { epoch, counter }
}

fn end(zxids: &[(u64, u64)], state: u64) -> Option<Ends> {
    let delivered = zxids.iter().map(|&(epoch, counter)| zxid(epoch, counter)).collect();
    Some(Ends { delivered, state })
}

/// Whether a client was answered, by the number of its request.
fn answered(outcome: &Outcome, request: u64) -> bool {
    outcome.tally.replied.contains_key(&RequestId(request))
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("zab", &Setup::default(), 1_000);
    clean("zab", &Setup { n: 5, ..Setup::default() }, 200);
    clean("zab", &Setup { n: 1, ..Setup::default() }, 20);
}

/// Discovery does not trust the election: whoever is elected begins with the most recent history.
#[test]
fn no_rule_breaks_if_elections_look_at_no_history() {
    let setup = setup_of(subject("zab"), "skip-discovery").unwrap();
    clean("zab", &Setup { variants: [].into(), ..setup }, 500);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught(
        "zab",
        &[
            "integrity",
            // What the rules for the mechanism are there to prevent: broken below.
            "agreement",
            "global-primary-order",
            "one-primary",
            "ends-when-calm",
        ],
    );
}

/// Each property of primary order atomic broadcast, but integrity, is broken in the end if nobody looks at the
/// mechanism.
#[test]
fn what_comes_of_a_broken_mechanism_breaks_the_properties() {
    for (variant, rule, seeds) in [
        ("skip-discovery", "no-lost-write", 200),
        ("skip-discovery", "agreement", 200),
        ("longest-history", "total-order", 1_000),
        ("longest-history", "no-lost-write", 1_000),
        ("slot-by-slot", "local-primary-order", 1_000),
        ("slot-by-slot", "global-primary-order", 1_000),
        ("slot-by-slot", "state-as-computed", 1_000),
        ("forget-accepted-epoch", "one-primary", 100),
        ("forget-accepted-epoch", "no-lost-write", 500),
        ("same-epoch", "one-primary", 100),
        ("same-epoch", "agreement", 500),
        ("skip-synchronization", "total-order", 100),
        ("commit-initial-at-once", "agreement", 500),
        ("commit-initial-at-once", "primary-integrity", 500),
        ("commit-without-quorum", "agreement", 100),
        ("commits-overtake", "global-primary-order", 200),
        ("not-fifo", "total-order", 100),
        ("ack-before-persisting", "agreement", 1_000),
        ("epoch-before-history", "no-lost-write", 5_000),
    ] {
        let mut setup = setup_of(subject("zab"), variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = check(subject("zab"), &setup, seeds).unwrap();
        println!("{variant}, {rule}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}, {rule}");
    }
}

/// What Multi-Paxos does between primaries keeps total order, and loses nothing. It is not enough.
#[test]
fn filling_slots_one_by_one_breaks_primary_order_and_nothing_else() {
    let mut setup = setup_of(subject("zab"), "slot-by-slot").unwrap();
    for rule in ["integrity", "total-order", "agreement", "no-lost-write", "one-primary"] {
        setup.watched.insert(rule.to_owned());
    }
    clean("zab", &setup, 1_000);
}

#[test]
fn two_writes_are_outstanding_and_the_second_is_computed_from_the_first() {
    let run = lesson("zab", "four-phases");
    let outcome = holds(&run);
    // What n2 says to itself is not counted.
    for kind in ["CEPOCH", "NEWEPOCH", "ACK-E", "NEWLEADER", "ACK-LD", "COMMIT-LD"] {
        assert_eq!(2, outcome.tally.of_kind(kind), "{kind}");
    }
    for kind in ["PROPOSE", "ACK", "COMMIT"] {
        assert_eq!(4, outcome.tally.of_kind(kind), "{kind}");
    }
    // Asked at the primary: PROPOSE, ACK. Its own part takes no time.
    assert_eq!(2_000, outcome.tally.replied[&RequestId(0)].after_us);
    // Asked at a follower: REQUEST, PROPOSE, ACK, COMMIT.
    assert_eq!(4_000, outcome.tally.replied[&RequestId(1)].after_us);
    assert!((0..3).all(|place| ends(&run).0[place] == end(&[(1, 1), (1, 2)], 3)));
}

#[test]
fn a_proposal_that_one_of_a_quorum_accepted_is_kept_by_the_next_primary() {
    let run = lesson("zab", "dies-before-commit");
    let outcome = holds(&run);
    // Its client is not told, though it was done.
    assert!(!answered(&outcome, 0) && answered(&outcome, 1));
    assert!((0..3).all(|place| ends(&run).0[place] == end(&[(1, 1), (2, 1)], 3)));
    // Elected for its place, n1, who has not heard of it, keeps it all the same: n0 tells it in ACK-E.
    let elected = run.clone().with("election", 1);
    assert_eq!(ends(&elected).0[0], ends(&run).0[0]);
    breaks(&elected.broken("skip-discovery"), "most-recent-history");
}

#[test]
fn an_old_leader_comes_back_and_truncates() {
    let run = lesson("zab", "old-leader-truncates");
    let outcome = holds(&run);
    assert!(!answered(&outcome, 0) && answered(&outcome, 1) && answered(&outcome, 2));
    let (ends, disks) = ends(&run);
    assert!((0..3).all(|place| ends[place] == end(&[(2, 1), (2, 2)], 6)));
    assert!(disks.iter().all(|disk| disk.history[0].zxid == zxid(2, 1)));
    // Without, it delivers what it alone had accepted.
    breaks(&run.broken("skip-synchronization"), "primary-integrity");
}

#[test]
fn the_later_current_epoch_wins_and_not_the_longer_history() {
    let run = lesson("zab", "latest-not-longest");
    let (ends, _) = ends(&run);
    assert_eq!((end(&[(2, 1)], 8), end(&[(2, 1)], 8)), (ends[1].clone(), ends[2].clone()));
    let longest = run.broken("longest-history");
    breaks(&longest, "most-recent-history");
    // What its client was told is gone.
    breaks(&longest.watching("no-lost-write"), "no-lost-write");
}

/// The paper's figure 1: C, and then B, which was computed after A.
#[test]
fn outstanding_proposals_of_a_primary_are_kept_in_order_or_not_at_all() {
    let run = lesson("zab", "primary-order");
    let outcome = holds(&run);
    assert!(!answered(&outcome, 0) && !answered(&outcome, 1) && answered(&outcome, 3));
    let (ends, _) = ends(&run);
    assert_eq!(
        (end(&[(2, 1), (3, 1)], 12), end(&[(2, 1), (3, 1)], 12)),
        (ends[1].clone(), ends[2].clone())
    );
    let slots = run.broken("slot-by-slot");
    for rule in ["local-primary-order", "global-primary-order", "state-as-computed"] {
        breaks(&slots.clone().watching(rule), rule);
    }
    // Everybody has the same, wrong state: total order alone has nothing against it.
    holds(&slots.watching("total-order").watching("agreement").watching("no-lost-write"));
}

#[test]
fn epochs_keep_the_proposals_of_two_primaries_apart() {
    let run = lesson("zab", "why-epochs");
    let outcome = holds(&run);
    assert!(!answered(&outcome, 0) && answered(&outcome, 1));
    assert!((0..3).all(|place| ends(&run).0[place] == end(&[(2, 1)], 2)));
    breaks(&run.broken("same-epoch").watching("one-primary"), "one-primary");
}
