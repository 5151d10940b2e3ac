//! What the lock service must show.

use lab::engine::World;
use lab::facade::{Of, Run};
use lab::protocol::Setup;
use lab::protocols::lock::{FILE_SERVER, File, Lock};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// What is in the file in the end, whichever rules are watched.
fn file(run: &Run) -> File {
    let mut world: World<Lock> = Of::<Lock>::new().world(run, false).unwrap();
    world.run();
    world.nodes()[FILE_SERVER.0].disk.file
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("lock", &Setup::default(), 1_000);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("lock", &["no-lost-update", "told-is-done", "ends-when-calm"]);
}

#[test]
fn a_paused_holder_is_turned_away_and_begins_again() {
    let run = lesson("lock", "paused-holder");
    let outcome = holds(&run);
    assert_eq!(1, outcome.tally.of_kind("Refused"));
    assert_eq!(File { version: 2, sum: 11 }, file(&run));
}

#[test]
fn without_fencing_its_write_is_taken_and_an_update_is_lost() {
    let run = lesson("lock", "paused-holder").broken("no-fencing");
    breaks(&run.clone().watching("stale-is-refused"), "stale-is-refused");
    breaks(&run, "no-lost-update");
    assert_eq!(1, file(&run).sum, "n3 was told that its 10 are in the file");
}

#[test]
fn a_late_message_is_as_bad_as_a_pause() {
    let run = lesson("lock", "late-write");
    let outcome = holds(&run);
    assert!(outcome.tally.of_kind("Refused") >= 1, "{:?}", outcome.tally);
    assert_eq!(11, file(&run).sum);
    breaks(&run.broken("no-fencing").watching("no-lost-update"), "no-lost-update");
}

/// The rules for the mechanism are there because without them an update is lost in the end, or was never made.
#[test]
fn what_comes_of_a_broken_mechanism_is_a_lost_update() {
    for (variant, rule) in [
        ("no-fencing", "no-lost-update"),
        ("reads-not-fenced", "no-lost-update"),
        ("tokens-forgotten", "told-is-done"),
        ("same-token-again", "told-is-done"),
    ] {
        let subject = subject("lock");
        let mut setup = lab::check::setup_of(subject, variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = lab::check::check(subject, &setup, 20_000).unwrap();
        println!("{variant}: {} seeds until {rule} breaks", report.seeds);
        assert!(report.found.is_some(), "{variant}");
    }
}
