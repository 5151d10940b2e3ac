//! What KRaft must show.

use lab::engine::World;
use lab::facade::{Of, Run, Tell};
use lab::protocol::Setup;
use lab::protocols::kafka::kraft::KRaft;

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// The logs of the voters up to an event, or in the end.
fn logs(run: &Run, until_us: u64) -> Vec<String> {
    let mut run = run.clone();
    run.script.end.at_us = until_us;
    let mut world: World<KRaft> = Of::<KRaft>::new().world(&run, false).unwrap();
    world.run();
    let log = |node: &lab::protocol::Node<KRaft>| {
        let records: Vec<String> = node.disk.log.from(0).iter().map(ToString::to_string).collect();
        records.join(" ")
    };
    world.nodes().iter().map(log).collect()
}

/// All that was said in a run.
fn said(run: &Run) -> Vec<String> {
    let outcome = subject("kraft").run(run, Tell::All).unwrap();
    assert_eq!(None, outcome.broken);
    outcome.trace.unwrap().events.into_iter().flat_map(|event| event.said).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("kraft", &Setup::default(), 1_000);
    let knobs = [("fetch_max".to_owned(), 1)].into();
    clean("kraft", &Setup { n: 5, knobs, ..Setup::default() }, 500);
    clean("kraft", &Setup { n: 1, ..Setup::default() }, 100);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught(
        "kraft",
        &[
            // What the rules for the mechanism are there to prevent: shown below.
            "leader-append-only",
            "log-matching",
        ],
    );
}

/// The five properties of Raft's figure 3 are broken in the end, if nobody looks at the mechanism: but for the second,
/// which no variant breaks.
#[test]
fn what_comes_of_a_broken_mechanism_breaks_rafts_properties() {
    for (variant, rule, seeds) in [
        ("forget-vote", "election-safety", 2_000),
        ("vote-twice", "election-safety", 200),
        ("vote-twice", "log-matching", 1_000),
        ("keep-diverging", "log-matching", 2_000),
        ("count-connected", "leader-completeness", 1_000),
        ("count-old-epochs", "leader-completeness", 5_000),
        ("vote-without-log-check", "state-machine-safety", 1_000),
        ("count-connected", "acknowledged-survives", 1_000),
    ] {
        let mut setup = lab::check::setup_of(subject("kraft"), variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = lab::check::check(subject("kraft"), &setup, seeds).unwrap();
        println!("{variant}, {rule}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}, {rule}");
    }
}

#[test]
fn a_record_is_committed_one_round_trip_after_it_was_appended() {
    let run = lesson("kraft", "pulled");
    let outcome = holds(&run);
    let after: Vec<u64> = outcome.tally.replied.values().map(|it| it.after_us).collect();
    assert_eq!(vec![2_000], after);
    assert_eq!(vec!["leader@1 v1@1"; 3], logs(&run, 22_000));
}

#[test]
fn a_leader_that_was_cut_off_is_told_where_its_log_parts_and_truncates() {
    let run = lesson("kraft", "diverging");
    let before = logs(&run, 60_000);
    assert_eq!("leader@1 v1@1 v2@1 v3@1", before[0]);
    assert_eq!(vec!["leader@1 v1@1 leader@2 v4@2"; 2], before[1..]);
    assert_eq!(vec![before[1].clone(); 3], logs(&run, 120_000));
    let told = said(&run);
    assert!(told.iter().any(|said| said == "truncates its log from 4 to 2"), "{told:?}");
}

#[test]
fn a_leader_from_which_nobody_fetches_resigns() {
    let run = lesson("kraft", "resigns");
    let told = said(&run);
    assert!(told.iter().any(|said| said == "resigns: 1 voters fetch"), "{told:?}");
    let answers: Vec<&String> = told.iter().filter(|said| said.starts_with("answers")).collect();
    assert_eq!("answers r0: NotLeaderOrFollower", answers[0]);
    assert!(answers[1].starts_with("answers r1: committed: v2@"), "{answers:?}");
}

/// Raft §5.4.2, by pulling.
#[test]
fn figure_8_a_record_of_an_old_epoch_on_a_majority_may_be_overwritten() {
    let run = lesson("kraft", "figure-8");
    holds(&run);
    assert_eq!(vec!["leader@1"; 2], logs(&run, 40_000)[1..3]);
    assert!(logs(&run, 40_000)[0].starts_with("leader@1"));
    assert_eq!(vec!["leader@2 leader@4"; 3], logs(&run, 100_000)[1..4]);
    breaks(&run.clone().broken("count-old-epochs"), "commit-own-epoch");
    breaks(&run.broken("count-old-epochs").watching("leader-completeness"), "leader-completeness");
}
