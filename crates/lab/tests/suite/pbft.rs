//! What PBFT must show.

use lab::engine::World;
use lab::facade::{Of, Run, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::pbft::{Pbft, State};
use lab::script::{Act, Conduct, End, Script, Weather, What};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// The state of each replica in the end, and its view.
fn states(run: &Run) -> Vec<(State, u64)> {
    let mut world: World<Pbft> = Of::<Pbft>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    let logs = world.nodes()[..run.setup.n].iter().map(|node| &node.disk.log);
    logs.map(|log| (log.state.clone(), log.view.0)).collect()
}

/// When each answer came, in microseconds after it was asked for.
fn answered(run: &Run) -> Vec<u64> {
    holds(run).tally.replied.values().map(|replied| replied.after_us).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds_whatever_f_traitors_do() {
    clean("pbft", &Setup::default(), 1_000);
}

#[test]
fn no_rule_breaks_with_up_to_three_traitors_of_up_to_ten() {
    clean("pbft", &Setup { n: 7, ..Setup::default() }, 150);
    clean("pbft", &Setup { n: 10, ..Setup::default() }, 50);
    // Not of the form 3f+1: quorums must be larger than 2f+1 there.
    clean("pbft", &Setup { n: 5, ..Setup::default() }, 150);
    clean("pbft", &Setup { n: 6, ..Setup::default() }, 150);
}

#[test]
fn no_rule_breaks_with_a_checkpoint_after_every_request() {
    let knobs = [("checkpoint".to_owned(), 1)];
    clean("pbft", &Setup { knobs: knobs.into(), ..Setup::default() }, 300);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("pbft", &[]);
}

#[test]
fn the_normal_case_is_five_messages_long() {
    let run = lesson("pbft", "three-phases");
    let outcome = holds(&run);
    let kinds = ["request", "pre-prepare", "prepare", "commit", "reply"];
    assert_eq!([1, 3, 9, 12, 4], kinds.map(|kind| outcome.tally.of_kind(kind)));
    assert_eq!(vec![5_000], answered(&run));
    assert!(states(&run).iter().all(|(state, view)| (state.value, *view) == (7, 0)));
}

#[test]
fn a_silent_primary_is_replaced_and_the_client_is_answered() {
    let run = lesson("pbft", "silent-primary");
    assert_eq!(1, answered(&run).len());
    assert!(states(&run)[1..].iter().all(|(state, view)| (state.value, *view) == (7, 1)));
    breaks(&run.broken("no-view-change"), "answered");
}

#[test]
fn a_crashed_primary_is_replaced_and_the_client_is_answered() {
    let mut run = lesson("pbft", "silent-primary");
    run.script.acts[0].what = What::Crash(NodeId(0));
    assert_eq!(1, answered(&run).len());
    assert!(states(&run)[1..].iter().all(|(state, view)| (state.value, *view) == (7, 1)));
}

#[test]
fn an_equivocating_primary_gets_nowhere() {
    let run = lesson("pbft", "equivocating-primary");
    assert_eq!(2, answered(&run).len());
    let states = states(&run);
    assert_eq!(states[1], states[2]);
    assert_eq!(states[1], states[3]);
    assert_eq!((2, 1), (states[1].0.writes, states[1].1));
}

#[test]
fn with_a_quorum_of_2f_an_equivocating_primary_parts_the_loyal() {
    let run = lesson("pbft", "equivocating-primary").broken("small-quorum");
    breaks(&run, "prepared-once");
    breaks(&run.watching("agreement"), "agreement");
}

/// Why there are 3f+1: with one replica less for each traitor, the same is done to the protocol as it should be.
#[test]
fn two_traitors_of_four_part_the_loyal() {
    let mut run = lesson("pbft", "equivocating-primary");
    // Both tell n2 one story and n3 the other.
    let [even, odd] = [2, 1].map(|lie| Conduct::Script(vec![lie; 30]));
    run.script.acts[0].what = What::Traitor { node: NodeId(0), conduct: even };
    let second = What::Traitor { node: NodeId(1), conduct: odd };
    run.script.acts.insert(0, Act::at_ms(0, second));
    breaks(&run.clone(), "prepared-once");
    breaks(&run.watching("agreement"), "agreement");
}

#[test]
fn a_view_change_carries_a_prepared_request_over() {
    let run = lesson("pbft", "carried-over");
    assert_eq!(1, answered(&run).len(), "who asked first does not listen any more");
    for (state, view) in &states(&run)[1..] {
        assert_eq!((2, 2, 1), (state.value, state.writes, *view), "1 first, then 2");
    }
    // Without the certificates, n1 gives the number to something else, and n3 cannot undo what it did.
    let run = run.broken("forget-certificates");
    breaks(&run, "tells-prepared");
    breaks(&run.clone().watching("survives"), "survives");
    breaks(&run.watching("agreement"), "agreement");
}

#[test]
fn a_new_primary_that_leaves_out_what_is_prepared_is_not_followed() {
    let run = lesson("pbft", "lying-new-primary");
    let states = states(&run);
    assert_eq!((2, 2), (states[2].0.writes, states[2].1));
    assert_eq!(states[2], states[3]);
    let run = run.broken("unchecked-o");
    breaks(&run, "survives");
    breaks(&run.watching("agreement"), "agreement");
}

#[test]
fn a_client_does_not_believe_one_reply() {
    let run = lesson("pbft", "false-reply");
    assert_eq!(vec![5_000], answered(&run));
    breaks(&run.broken("first-reply"), "believed-is-computed");
}

/// Most rules are for the mechanism. They are there because without it loyal replicas part in the end.
#[test]
fn what_comes_of_a_broken_mechanism_is_divergence() {
    for variant in [
        "small-quorum",
        "small-prepare-quorum",
        "no-commit-phase",
        "forget-certificates",
        "unchecked-o",
        "unsigned-certificates",
        "stay-in-view",
        "forget-on-restart",
    ] {
        let subject = subject("pbft");
        let mut setup = lab::check::setup_of(subject, variant).unwrap();
        setup.watched.insert("agreement".to_owned());
        let report = lab::check::check(subject, &setup, 1_000).unwrap();
        println!("{variant}: {} seeds until agreement breaks", report.seeds);
        assert!(report.found.is_some(), "{variant}");
    }
}

/// Requests are executed once, and all of them, however often they come: with loss and doubles in all links.
#[test]
fn every_request_takes_effect_exactly_once() {
    let weather = Weather {
        drop_per_mille: 100,
        duplicate_per_mille: 300,
        delay_us_max: 20_000,
        ..Weather::calm()
    };
    let client = |nth: u64| NodeId(4 + usize::try_from(nth % 2).unwrap());
    let write = |nth| What::Client { node: client(nth), op: "write".into(), args: vec![nth + 1] };
    let mut acts: Vec<Act> = (0..20).map(|nth| Act::at_ms(nth * 5, write(nth))).collect();
    acts.push(Act::at_ms(5_000, What::Weather(Weather::calm())));
    for seed in 0..50 {
        let end = End { events: 100_000, at_us: 20_000_000 };
        let weather = weather.clone();
        let script = Script { weather, acts: acts.clone(), end, calm_from_us: Some(5_000_000) };
        let run = Run::by_hand("pbft", 4, script).seeded(seed);
        let outcome = subject("pbft").run(&run, Tell::End).unwrap();
        assert_eq!((None, 20), (outcome.broken, outcome.tally.replied.len()), "seed {seed}");
        let most = states(&run).into_iter().map(|(state, _)| state.writes).max();
        assert_eq!(Some(20), most, "seed {seed}");
    }
}

/// Any protocol's script can be run: a replica that is asked sends its user to a client.
#[test]
fn a_replica_that_is_asked_sends_its_user_to_a_client() {
    let mut run = lesson("pbft", "three-phases");
    if let What::Client { node, .. } = &mut run.script.acts[0].what {
        *node = NodeId(2);
    }
    assert_eq!(vec![6_000], answered(&run));
}
