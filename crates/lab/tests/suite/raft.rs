//! What Raft must show: the store's crate, and the same sources with a mistake in.

use lab::facade::{Of, Run, Subject, Tell};
use lab::protocol::Setup;
use lab::protocols::raft::{broken, shipped};

use crate::support::{breaks, clean, lesson, subject, variants_are_caught};

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("raft", &Setup::default(), 1_000);
}

#[test]
fn no_rule_breaks_where_leaders_come_and_go() {
    for variant in ["commit-old-term", "two-changes"] {
        let setup = lab::check::setup_of(subject("raft"), variant).unwrap();
        clean("raft", &Setup { variants: [].into(), ..setup }, 150);
    }
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught(
        "raft",
        &[
            // What the rules for the mechanism are there to prevent.
            "leader-append-only",
            "log-matching",
            "state-machine-safety",
            "commit-is-final",
            "no-evidence",
            "ends-when-calm",
        ],
    );
}

/// Each rule of figure 3 is broken in the end, if nobody looks at the mechanism.
#[test]
fn what_comes_of_a_broken_mechanism_breaks_the_five_properties() {
    for (variant, rule, seeds) in [
        ("vote-twice", "election-safety", 200),
        ("vote-twice", "log-matching", 500),
        ("commit-without-quorum", "leader-completeness", 500),
        ("commit-without-quorum", "state-machine-safety", 500),
        ("commit-without-quorum", "commit-is-final", 500),
        ("vote-twice", "no-evidence", 500),
    ] {
        let subject = subject("raft");
        let mut setup = lab::check::setup_of(subject, variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = lab::check::check(subject, &setup, seeds).unwrap();
        println!("{variant}, {rule}: {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}, {rule}");
    }
}

/// Raft §5.4.2.
#[test]
fn figure_8_an_entry_of_an_old_term_on_a_majority_may_be_overwritten() {
    let run = lesson("raft", "figure-8");
    let outcome = subject("raft").run(&run, Tell::All).unwrap();
    assert_eq!(None, outcome.broken);
    // Before n0 crashed for the second time, n0, n1 and n2 had 2@2.
    let trace = outcome.trace.unwrap();
    let at = trace.events.iter().position(|event| event.at_us == 40_000).unwrap();
    let log = |place: usize, up_to: usize| {
        let mut frames =
            trace.events[..up_to].iter().filter_map(|event| event.now.clone().zip(event.node));
        let (frame, _) = frames.rfind(|(_, node)| node.0 == place).unwrap();
        frame.view.log.iter().map(|cell| cell.text.clone()).collect::<Vec<_>>()
    };
    for place in 0..3 {
        assert_eq!("2:-", log(place, at)[0], "n{place}");
    }
    for place in 1..4 {
        assert_eq!("3:-", log(place, trace.events.len())[0], "n{place}");
    }
    // The lesson goes on to the harm; looked at from the first rule on, the mistake comes before it.
    let broken = run.broken("commit-old-term");
    breaks(&broken, "leader-completeness");
    let mut whole = broken;
    whole.setup.watched.clear();
    breaks(&whole, "commit-own-term");
}

/// What each process shows in the end.
fn in_the_end(run: &Run) -> Vec<lab::view::View> {
    let outcome = subject("raft").run(run, Tell::All).unwrap();
    assert_eq!(None, outcome.broken);
    let trace = outcome.trace.unwrap();
    let mut nodes: Vec<_> = trace.keyframes[0].nodes.clone();
    for event in trace.events {
        if let Some((frame, node)) = event.now.zip(event.node) {
            nodes[node.0] = frame;
        }
    }
    nodes.into_iter().map(|frame| frame.view).collect()
}

#[test]
fn a_dead_leader_is_replaced_and_follows_when_it_is_back() {
    let views = in_the_end(&lesson("raft", "election"));
    assert_eq!(1, views.iter().filter(|view| view.role == "leader").count());
    assert_eq!("follower", views[0].role);
    let committed = |view: &lab::view::View| view.log.iter().any(|cell| cell.text.ends_with("v1"));
    assert!(views.iter().all(committed), "{views:#?}");
    assert!(views.iter().all(|view| view.term == views[0].term), "one term");
}

#[test]
fn who_was_cut_off_is_given_what_it_missed() {
    let outcome = subject("raft").run(&lesson("raft", "replication"), Tell::End).unwrap();
    assert_eq!(4, outcome.tally.replied.len(), "a majority was enough");
    let views = in_the_end(&lesson("raft", "replication"));
    assert!(views.iter().all(|view| view.log.len() == views[0].log.len() && view.log.len() >= 5));
}

/// D. Ongaro, *bug in single-server membership changes*, raft-dev, 2015.
#[test]
fn a_new_leader_changes_the_membership_only_after_an_entry_of_its_own_term() {
    let run = lesson("raft", "change-too-soon");
    let ours = subject("raft").run(&run, Tell::All).unwrap();
    assert_eq!(None, ours.broken);
    let said = ours.trace.unwrap().events.into_iter().flat_map(|event| event.said);
    let refused = "answers r1: refused: another membership change is pending";
    assert_eq!(1, said.filter(|said| said == refused).count());
    breaks(&run.clone().broken("change-too-soon"), "one-change");
    breaks(&run.broken("change-too-soon").watching("leader-completeness"), "leader-completeness");
}

#[test]
fn the_sources_with_the_mistakes_switched_off_run_as_what_ships() {
    let ships = Of::<shipped::observer::Raft>::new();
    let other = Of::<broken::observer::Raft>::new();
    for seed in 0..30 {
        let run: Run = ships.generate(&Setup { seed, ..Setup::default() }).unwrap();
        let one = ships.run(&run, Tell::End).unwrap();
        assert_eq!(one, other.run(&run, Tell::End).unwrap());
    }
}
