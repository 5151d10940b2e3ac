//! What commit wait must show.

use lab::facade::Tell;
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::script::{Map, Weather, What, When};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("commit-wait", &Setup::default(), 1_000);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("commit-wait", &["external-consistency", "ends-when-calm"]);
}

#[test]
fn who_was_answered_before_another_began_has_the_lower_timestamp() {
    holds(&lesson("commit-wait", "two-clocks"));
}

/// The mechanism's rules are there because without them the order is not that in which things happened.
#[test]
fn what_comes_of_a_broken_mechanism_is_the_wrong_order() {
    for variant in ["no-wait", "wait-to-latest", "stamp-of-the-wall", "understated"] {
        let subject = subject("commit-wait");
        let mut setup = lab::check::setup_of(subject, variant).unwrap();
        setup.watched.insert("external-consistency".to_owned());
        let report = lab::check::check(subject, &setup, 20_000).unwrap();
        println!("{variant}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}");
    }
}

#[test]
fn an_understated_uncertainty_is_caught() {
    let run = lesson("commit-wait", "two-clocks").broken("understated");
    breaks(&run, "commit-wait");
}

/// How long a transaction takes whose quorum is so far away, with clocks that uncertain, and that wrong at its leader.
fn takes_us(round_trip_us: u64, epsilon_us: u64, offset_us: i64) -> u64 {
    let mut run = lesson("commit-wait", "two-clocks").with("epsilon_us", epsilon_us);
    let ms = round_trip_us / 1_000;
    let rows = (0..3).map(|from| (0..3).map(|to| ms * u64::from(from != to)).collect());
    run.script.weather = Weather {
        delay_us_min: 0,
        delay_us_max: 0,
        map: Map::RoundTripsMs(rows.collect()),
        ..Weather::lockstep()
    };
    run.script.end.at_us = 2_000_000;
    for act in &mut run.script.acts {
        match &mut act.what {
            What::Clock { node: NodeId(0), offset_us: wrong, .. } => *wrong = offset_us,
            What::Clock { offset_us: wrong, .. } => *wrong = 0,
            // Later than any clock is wrong.
            _ => act.when = When::Us(500_000),
        }
    }
    let outcome = subject("commit-wait").run(&run, Tell::End).unwrap();
    assert_eq!(None, outcome.broken);
    outcome.tally.replied.values().next().unwrap().after_us
}

/// What a clock can tell apart: past a timestamp is a tick after it.
const TICK_US: u64 = 1;

/// From `latest` when the timestamp is given until `earliest` is past it: 2 epsilon, epsilon being half the interval
/// (Corbett and others, §3 and §4.2.1). The round trip to the quorum goes on meanwhile.
#[test]
fn the_wait_is_free_while_two_epsilon_is_shorter_than_the_way_to_the_quorum_and_back() {
    for round_trip_us in [10_000, 60_000, 150_000] {
        let takes = |epsilon_us: u64| {
            let wrong = epsilon_us.cast_signed();
            let [right, fast, slow] =
                [0, wrong, -wrong].map(|offset| takes_us(round_trip_us, epsilon_us, offset));
            assert!(right == fast && right == slow, "how wrong its clock is makes no difference");
            right
        };
        // Below the bound nothing is seen of it...
        for epsilon_us in [0, 1_000, round_trip_us / 4, round_trip_us / 2 - TICK_US] {
            assert_eq!(round_trip_us, takes(epsilon_us), "{epsilon_us}");
        }
        // ...and from the bound on, it costs the rest: also where epsilon itself is less than the round trip.
        for epsilon_us in
            [round_trip_us / 2, round_trip_us / 4 * 3, round_trip_us - 1, round_trip_us]
        {
            assert_eq!(2 * epsilon_us + TICK_US, takes(epsilon_us), "{epsilon_us}");
        }
    }
}
