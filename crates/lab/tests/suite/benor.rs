//! What Ben-Or's protocol must show.

use lab::facade::{Of, Run, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::benor::Observer;
use lab::script::{Act, End, Script, Weather, What};

use crate::support::{clean, subject, variants_are_caught};

fn run(inputs: &[u64], crashed: &[usize], seed: u64) -> Run {
    let write = |(node, &bit): (usize, &u64)| {
        let what = What::Client { node: NodeId(node), op: "write".into(), args: vec![bit] };
        Act::at_ms(0, what)
    };
    let mut acts: Vec<Act> =
        crashed.iter().map(|&node| Act::at_ms(0, What::Crash(NodeId(node)))).collect();
    acts.extend(inputs.iter().enumerate().map(write));
    let end = End { events: 100_000, at_us: 60_000_000 };
    let weather = Weather { delay_us_min: 100, delay_us_max: 20_000, ..Weather::calm() };
    let script = Script { weather, acts, end, calm_from_us: None };
    Run::by_hand("ben-or", inputs.len(), script).seeded(seed)
}

/// The rounds in which the processes that are up decided.
fn rounds(run: &Run) -> Vec<u64> {
    let mut world = Of::<Observer>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    let up = world.nodes().iter().filter_map(|node| node.process.as_ref());
    up.map(|process| process.decided().expect("it decides").0).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    for n in [3, 4, 5, 7] {
        clean("ben-or", &Setup { n, ..Setup::default() }, 1_000);
    }
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("ben-or", &["validity", "equal-inputs"]);
}

#[test]
fn deciding_on_too_little_is_disagreement_in_the_end() {
    for variant in ["decide-on-one", "majority-of-heard", "coin-always"] {
        let mut setup = lab::check::setup_of(subject("ben-or"), variant).unwrap();
        setup.watched.insert("agreement".to_owned());
        let report = lab::check::check(subject("ben-or"), &setup, 5_000).unwrap();
        println!("{variant}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}");
    }
}

#[test]
fn equal_inputs_decide_in_round_1_though_some_crash() {
    for seed in 0..50 {
        for bit in [0, 1] {
            assert_eq!(vec![1; 5], rounds(&run(&[bit; 5], &[], seed)));
            assert_eq!(vec![1; 3], rounds(&run(&[bit; 5], &[1, 4], seed)));
        }
    }
}

#[test]
fn different_inputs_end_by_chance_sooner_or_later() {
    let mut all: Vec<u64> =
        (0..300).flat_map(|seed| rounds(&run(&[0, 1, 0, 1], &[], seed))).collect();
    all.sort_unstable();
    println!("rounds: median {}, most {}", all[all.len() / 2], all[all.len() - 1]);
    // Two of four are no majority: nobody sends D in round 1.
    assert!(all[0] == 2 && all[all.len() - 1] > 5);
}

#[test]
fn without_a_majority_nobody_decides_and_nobody_is_wrong() {
    let outcome = subject("ben-or").run(&run(&[0, 1, 0, 1, 1], &[0, 1, 2], 1), Tell::End).unwrap();
    assert_eq!((0, None), (outcome.tally.decided, outcome.broken));
}
