//! What commit wait must show.

use lab::facade::Tell;
use lab::protocol::Setup;
use lab::script::{Map, Weather};

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

/// How long a transaction takes whose quorum is so far away, with clocks that uncertain.
fn takes_us(round_trip_ms: u64, epsilon_us: u64) -> u64 {
    let mut run = lesson("commit-wait", "two-clocks").with("epsilon_us", epsilon_us);
    let rows = (0..3).map(|from| (0..3).map(|to| round_trip_ms * u64::from(from != to)).collect());
    run.script.weather = Weather {
        delay_us_min: 0,
        delay_us_max: 0,
        map: Map::RoundTripsMs(rows.collect()),
        ..Weather::lockstep()
    };
    run.script.end.at_us = 1_000_000;
    run.script.acts.retain(|act| !matches!(act.what, lab::script::What::Clock { .. }));
    let outcome = subject("commit-wait").run(&run, Tell::End).unwrap();
    assert_eq!(None, outcome.broken);
    outcome.tally.replied.values().next().unwrap().after_us
}

#[test]
fn the_wait_is_free_while_it_is_shorter_than_the_way_to_the_quorum() {
    for round_trip_ms in [10, 60, 150] {
        let round_trip_us = round_trip_ms * 1_000;
        for epsilon_us in [0, 1_000, round_trip_us / 2 - 1] {
            assert_eq!(round_trip_us, takes_us(round_trip_ms, epsilon_us), "{epsilon_us}");
        }
        // Beyond that it costs the rest, and the tick by which a clock must be past.
        assert_eq!(2 * round_trip_us + 1, takes_us(round_trip_ms, round_trip_us));
    }
}
