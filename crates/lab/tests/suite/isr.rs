//! What in-sync replicas must show.

use lab::compare::compare;
use lab::engine::World;
use lab::facade::{Of, Run, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::kafka::isr::{Isr, Server};
use lab::script::{Act, What};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// The logs of the brokers in the end, whatever broke.
fn logs(run: &Run) -> Vec<String> {
    let mut world: World<Isr> = Of::<Isr>::new().world(run, false).unwrap();
    world.run();
    let brokers = world.nodes().iter().filter_map(|node| node.process.as_ref()?.broker());
    let log = |log: &lab::protocols::kafka::Log| {
        let records: Vec<String> = log.from(0).iter().map(ToString::to_string).collect();
        records.join(" ")
    };
    brokers.map(|broker| log(broker.log())).collect()
}

/// What clients were told, in order.
fn told(run: &Run) -> Vec<String> {
    let outcome = subject("isr").run(run, Tell::All).unwrap();
    let said = outcome.trace.unwrap().events.into_iter().flat_map(|event| event.said);
    said.filter_map(|said| said.strip_prefix("answers ").map(ToOwned::to_owned)).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("isr", &Setup::default(), 1_000);
    clean("isr", &Setup { n: 2, ..Setup::default() }, 500);
    let knobs = [("min_insync".to_owned(), 2)].into();
    clean("isr", &Setup { n: 5, knobs, ..Setup::default() }, 300);
}

#[test]
fn every_variant_is_caught() {
    // What comes of members of the ISR without what is committed: shown below.
    variants_are_caught("isr", &["committed-once", "ends-when-calm"]);
}

#[test]
fn what_comes_of_a_broken_mechanism_is_loss_and_divergence() {
    for (variant, rule, seeds) in [
        ("truncate-by-high-watermark", "acknowledged-survives", 1_000),
        ("truncate-by-high-watermark", "committed-once", 1_000),
        ("truncate-by-high-watermark", "one-lineage", 1_000),
        ("watermark-by-majority", "acknowledged-survives", 1_000),
        ("shrink-before-confirmed", "acknowledged-survives", 1_000),
        ("epoch-not-raised", "one-lineage", 1_000),
    ] {
        let mut setup = lab::check::setup_of(subject("isr"), variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = lab::check::check(subject("isr"), &setup, seeds).unwrap();
        println!("{variant}, {rule}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}, {rule}");
    }
}

/// KIP-101, scenario 1.
#[test]
fn truncating_to_the_high_watermark_loses_what_was_acknowledged() {
    let run = lesson("isr", "watermark-is-no-truncation-point");
    holds(&run);
    assert_eq!(vec!["v1@1 v2@1 v3@2 v4@2"; 2], logs(&run));
    let broken = run.broken("truncate-by-high-watermark");
    breaks(&broken, "isr-has-committed");
    breaks(&broken.clone().watching("acknowledged-survives"), "acknowledged-survives");
    assert!(
        told(&broken.clone().watching("ends-when-calm"))
            .contains(&"r1: acknowledged: v2@1 at 1".to_owned())
    );
    // And then the logs part, below the high watermark of both.
    breaks(&broken.clone().watching("committed-once"), "committed-once");
    breaks(&broken.clone().watching("one-lineage"), "one-lineage");
    assert_eq!(vec!["v1@1 v2@1 v4@2", "v1@1 v3@2 v4@2"], logs(&broken.watching("ends-when-calm")));
}

/// KIP-101, scenario 2.
#[test]
fn after_a_power_failure_logs_part_unless_epochs_say_where() {
    let run = lesson("isr", "power-failure");
    holds(&run);
    assert_eq!(vec!["v1@1 v3@2 v4@2"; 2], logs(&run));
    let broken = run.broken("truncate-by-high-watermark");
    breaks(&broken, "one-lineage");
    let mut to_the_end = broken;
    to_the_end.setup.watched = ["ends-when-calm".to_owned()].into();
    assert_eq!(vec!["v1@1 v2@1 v4@2", "v1@1 v3@2 v4@2"], logs(&to_the_end));
}

/// KIP-279.
#[test]
fn an_epoch_that_the_leader_has_not_got_is_truncated_whole() {
    let run = lesson("isr", "two-fast-failovers");
    holds(&run);
    assert_eq!(vec!["v1@1 v2@1 v4@3"; 2], logs(&run));
    let broken = run.broken("truncate-once");
    breaks(&broken, "isr-has-committed");
    breaks(&broken.watching("one-lineage"), "one-lineage");
}

#[test]
fn with_fewer_in_sync_than_min_insync_writes_are_refused() {
    let run = lesson("isr", "min-insync");
    holds(&run);
    assert_eq!(
        vec![
            "r0: NotEnoughReplicasAfterAppend",
            "r1: NotEnoughReplicas",
            "r2: acknowledged: v3@1 at 1"
        ],
        told(&run)
    );
    breaks(&run.broken("ignore-min-insync"), "min-insync");
}

#[test]
fn an_unclean_election_loses_what_was_acknowledged_and_a_clean_one_waits() {
    let run = lesson("isr", "unclean-election");
    holds(&run);
    assert_eq!(vec!["r0: acknowledged: v1@1 at 0"], told(&run));
    assert_eq!(vec!["v1@1"; 2], logs(&run));
    let unclean = run.broken("unclean-election");
    breaks(&unclean.clone().watching("acknowledged-survives"), "acknowledged-survives");
    assert_eq!(vec![""; 2], logs(&unclean.watching("ends-when-calm")));
}

/// Exactly then: the same thousand seeds, with and without.
#[test]
fn acknowledged_writes_are_lost_in_unclean_elections_and_only_there() {
    let mut setup = lab::check::setup_of(subject("isr"), "unclean-election").unwrap();
    setup.watched.insert("acknowledged-survives".to_owned());
    let mut lost = 0;
    for seed in 0..1_000 {
        let unclean = subject("isr").generate(&Setup { seed, ..setup.clone() }).unwrap();
        let mut clean = unclean.clone();
        clean.setup.variants.clear();
        let outcome = subject("isr").run(&unclean, Tell::End).unwrap();
        lost += usize::from(outcome.broken.is_some());
        holds(&clean);
    }
    println!("{lost} of 1000 seeds lose acknowledged writes");
    assert!(lost > 0);
}

#[test]
fn an_answer_takes_as_long_as_the_slowest_in_sync() {
    let run = lesson("isr", "slowest-in-sync");
    let outcome = holds(&run);
    let after: Vec<u64> = outcome.tally.replied.values().map(|it| it.after_us).collect();
    // There and back to n2; then until n2 is out of the ISR; then there and back to n1.
    assert_eq!((22_000, 2_000), (after[0], after[2]));
    assert!((30_000..200_000).contains(&after[1]), "{after:?}");
}

/// The same weather and one write: Raft, which pushes, and KRaft, which pulls, leave the far replica behind.
#[test]
fn a_majority_does_not_wait_for_the_slowest() {
    let mut script = lesson("isr", "slowest-in-sync").script;
    let leads = Act::at_ms(1, What::Expire(NodeId(0)));
    script.acts = vec![leads, script.acts.remove(0)];
    script.end.at_us = 90_000;
    let at_once = Setup { knobs: [("write_us".to_owned(), 0)].into(), ..Setup::default() };
    let subjects = [
        (subject("isr"), Setup::default()),
        (subject("kraft"), Setup::default()),
        (subject("raft"), at_once),
    ];
    let rows = compare(&subjects, &script).unwrap();
    let latency: Vec<_> = rows.iter().map(|row| row.latency_us.map(|(median, _)| median)).collect();
    assert_eq!(vec![Some(22_000), Some(2_000), Some(2_000)], latency);
}

#[test]
fn the_controller_stands_besides_the_brokers() {
    let run = lesson("isr", "min-insync");
    let mut world: World<Isr> = Of::<Isr>::new().world(&run, false).unwrap();
    world.run();
    assert_eq!(4, world.nodes().len());
    assert!(matches!(world.nodes()[3].process, Some(Server::Controller(_))));
    assert_eq!(Some(NodeId(0)), world.nodes()[3].disk.partition.leader);
}
