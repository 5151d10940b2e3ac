//! What Paxos must show.

use lab::engine::World;
use lab::facade::{Of, Run, Tell};
use lab::protocol::Setup;
use lab::protocols::paxos::{Paxos, Value};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// What each process has learned.
fn learned(run: &Run) -> Vec<Option<Value>> {
    let mut world: World<Paxos> = Of::<Paxos>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    let chosen =
        |node: &lab::protocol::Node<Paxos>| node.process.as_ref().and_then(|it| it.chosen());
    world.nodes().iter().map(chosen).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("paxos", &Setup::default(), 1_000);
    clean("paxos", &Setup { n: 3, ..Setup::default() }, 1_000);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("paxos", &["proposed", "ends-when-calm"]);
}

#[test]
fn the_value_of_the_highest_ballot_is_proposed_again_and_not_the_commonest() {
    let run = lesson("paxos", "highest-not-commonest");
    assert_eq!(Some(Value(2)), learned(&run)[0]);
    breaks(&run.clone().broken("commonest-value"), "highest-ballot");
    // What comes of it, if nobody looks at the rule.
    breaks(&run.broken("commonest-value").watching("chosen-once"), "chosen-once");
}

#[test]
fn a_value_that_a_minority_accepted_may_come_back() {
    let run = lesson("paxos", "minority-comes-back");
    assert_eq!(vec![Some(Value(1)), Some(Value(1)), None], learned(&run));
}

#[test]
fn a_majority_that_holds_a_value_from_different_ballots_has_not_chosen_it() {
    let run = lesson("paxos", "mixed-ballots");
    let learned = learned(&run);
    assert_eq!((Some(Value(2)), Some(Value(2))), (learned[0], learned[2]));
    breaks(&run.broken("mixed-ballots"), "learned-is-chosen");
}

#[test]
fn accepting_a_ballot_promises_it() {
    let run = found("accept-without-promising");
    breaks(&run, "accepting-promises");
}

#[test]
fn a_restart_never_uses_a_ballot_again() {
    let run = found("reuse-ballot");
    breaks(&run, "ballot-once");
}

/// A run in which a variant was caught.
fn found(variant: &str) -> Run {
    let subject = subject("paxos");
    let setup = lab::check::setup_of(subject, variant).unwrap();
    lab::check::check(subject, &setup, 1_000).unwrap().found.unwrap().run
}

/// Each rule for the mechanism is there because without it two values are chosen in the end.
#[test]
fn what_comes_of_a_broken_mechanism_is_a_second_value() {
    for variant in ["commonest-value", "own-value", "forget-accepted", "accept-anything"] {
        let subject = subject("paxos");
        let mut setup = lab::check::setup_of(subject, variant).unwrap();
        setup.watched.insert("chosen-once".to_owned());
        let report = lab::check::check(subject, &setup, 20_000).unwrap();
        println!("{variant}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}");
    }
}

#[test]
fn duelling_proposers_overtake_each_other_for_ever() {
    let outcome = holds(&lesson("paxos", "duel"));
    assert_eq!(0, outcome.tally.decided);
    assert!(outcome.tally.of_kind("Prepare") > 1_000, "{:?}", outcome.tally);
}

#[test]
fn a_distinguished_proposer_ends_the_duel() {
    let outcome = holds(&lesson("paxos", "leader-ends-it"));
    assert_eq!(3, outcome.tally.decided);
    let first = outcome.tally.replied.values().next().unwrap();
    // Prepare, Promise, Accept, Accepted: n0's own part takes no time.
    assert_eq!(4_000, first.after_us);
}

#[test]
fn waiting_a_random_time_ends_the_duel_too() {
    let mut run = lesson("paxos", "duel");
    run.setup.knobs.clear();
    let ended = (0..20).filter(|&seed| {
        let outcome = subject("paxos").run(&run.clone().seeded(seed), Tell::End).unwrap();
        outcome.tally.decided == 3
    });
    assert_eq!(20, ended.count());
}
