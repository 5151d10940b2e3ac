//! What gossip with hash slots must show.

use lab::compare::compare;
use lab::engine::World;
use lab::facade::{Of, Run};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::gossip::{Gossiping, Owner, slot_of};
use lab::script::{Act, What, When};

use crate::support::{clean, holds, lesson, subject, variants_are_caught};

/// How much was acknowledged and is lost in the end; and who serves the first third of the slots then.
fn end(run: &Run) -> (u64, Owner) {
    let mut world: World<Gossiping> = Of::<Gossiping>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    (world.lost().unwrap(), world.nodes()[1].disk.owners[0])
}

#[test]
fn slots_are_those_of_redis() {
    assert_eq!([12_182, 5_061, 866], ["foo", "bar", "hello"].map(slot_of));
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("gossip", &Setup::default(), 1_000);
    clean("gossip", &Setup { n: 9, ..Setup::default() }, 100);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("gossip", &["one-owner-an-epoch", "agree-when-calm"]);
}

/// Why a master votes once: two replicas would own the same slots in one epoch.
#[test]
fn who_votes_again_makes_two_owners() {
    let subject = subject("gossip");
    let mut setup = lab::check::setup_of(subject, "vote-again").unwrap();
    setup.watched.insert("one-owner-an-epoch".to_owned());
    let report = lab::check::check(subject, &setup, 2_000).unwrap();
    println!("{} seeds", report.seeds);
    assert!(report.found.is_some());
}

#[test]
fn a_replica_takes_over_and_the_old_master_follows_it() {
    let run = lesson("gossip", "failover");
    let outcome = holds(&run);
    assert!(outcome.tally.of_kind("AuthAck") >= 2, "{:?}", outcome.tally);
    let (lost, owner) = end(&run);
    assert_eq!((0, 3), (lost, owner.node.0));
}

/// It is what the documentation says may happen, and no rule is broken.
#[test]
fn acknowledged_writes_are_lost_where_it_says_that_they_may_be() {
    for name in ["acknowledged-and-lost", "minority"] {
        let (lost, owner) = end(&lesson("gossip", name));
        assert_eq!((1, 3), (lost, owner.node.0), "{name}");
    }
}

/// The very schedule on which it loses a write, on protocols that wait for a quorum.
#[test]
fn where_it_loses_a_write_the_quorum_protocols_lose_none() {
    let mut script = lesson("gossip", "acknowledged-and-lost").script;
    // Everybody else first has to find a leader, and needs time to go on after the crash.
    const LATER_US: u64 = 2_000_000;
    for act in &mut script.acts {
        if let When::Us(us) = &mut act.when {
            // Who crashed comes again when its replica has taken over.
            let taken_over = matches!(act.what, What::Restart(_));
            *us += if taken_over { LATER_US + 1_000_000 } else { LATER_US };
        }
    }
    script.calm_from_us = script.calm_from_us.map(|us| us + LATER_US + 1_000_000);
    script.end.at_us += LATER_US + 3_000_000;
    script.end.events = 100_000;
    // What was answered before must not be lost either.
    let write = |nth| What::Client { node: NodeId(0), op: "write".to_owned(), args: vec![nth] };
    script.acts.extend((1..=5).map(|nth| Act::at_ms(1_500 + 100 * nth, write(10 + nth))));
    let names = ["gossip", "raft", "multi-paxos", "zab", "kraft"];
    let subjects = names.map(|name| (subject(name), Setup { n: 6, ..Setup::default() }));
    let rows = compare(&subjects, &script).unwrap();
    assert_eq!(Some(1), rows[0].lost, "{rows:#?}");
    for row in &rows[1..] {
        assert!(row.answered >= 5 && row.messages > 100, "{row:#?}");
        assert_eq!((Some(0), &None), (row.lost, &row.broken), "{row:#?}");
    }
}
