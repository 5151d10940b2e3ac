//! What Multi-Paxos must show.

use std::collections::BTreeSet;

use lab::check::{check, setup_of};
use lab::engine::{InFlight, World};
use lab::facade::{Of, Run, Subject};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::multi_paxos::{Disk, Message, Multi, Slot, State};
use lab::script::{Act, What, When};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// The world after a run in which no rule broke.
fn ended(run: &Run) -> World<Multi> {
    let mut world: World<Multi> = Of::<Multi>::new().world(run, false).unwrap();
    world.run();
    assert_eq!(None, world.broken());
    world
}

/// What each replica has come to: the first slot not applied, and the values.
fn states(world: &World<Multi>) -> Vec<Option<(Slot, Vec<u64>)>> {
    let values = |state: &State| state.written.iter().map(|(_, it)| it.value).collect();
    let state = |state: &State| (state.next, values(state));
    world.nodes().iter().map(|node| node.process.as_ref().map(|it| state(it.state()))).collect()
}

fn disks(world: &World<Multi>) -> Vec<&Disk> {
    world.nodes().iter().map(|node| &node.disk).collect()
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("multi-paxos", &Setup::default(), 1_000);
    clean("multi-paxos", &Setup { n: 3, ..Setup::default() }, 1_000);
}

#[test]
fn no_rule_breaks_whatever_is_set() {
    for n in [1, 2, 4, 9] {
        clean("multi-paxos", &Setup { n, ..Setup::default() }, 100);
    }
    for (alpha, snapshot_slots) in [(1, 1), (1, 1_000), (10, 1), (100, 1_000)] {
        let knobs = [("alpha", alpha), ("snapshot_slots", snapshot_slots)];
        let knobs = knobs.map(|(knob, value)| (knob.to_owned(), value)).into();
        clean("multi-paxos", &Setup { n: 3, knobs, ..Setup::default() }, 200);
    }
}

/// What generated runs must come to for the above to mean something.
#[test]
fn seeds_change_leaders_fill_gaps_and_bring_up_replicas_that_lag() {
    let subject = Of::<Multi>::new();
    let [mut leaders, mut gaps, mut snapshots, mut answered] = [0_usize; 4];
    for seed in 0..200 {
        let mut world = subject.world(&subject.generate(&setup(seed)).unwrap(), false).unwrap();
        let mut led = BTreeSet::new();
        let mut noops = false;
        while world.step().is_ok() {
            for (node, place) in world.nodes().iter().zip(0..) {
                led.extend(node.process.as_ref().filter(|it| it.leads()).map(|_| place));
            }
            noops |= world.in_flight().any(|it| it.message.to_string().contains(": no-op@"));
        }
        let tally = world.tally();
        leaders += usize::from(led.len() > 1);
        gaps += usize::from(noops);
        snapshots += usize::from(tally.of_kind("Snapshot") > 0);
        answered += tally.replied.len();
    }
    println!(
        "{leaders} with more leaders, {gaps} with no-ops, {snapshots} with snapshots sent, {answered} answers"
    );
    assert!(leaders > 60 && gaps >= 3 && snapshots > 60 && answered > 1_000);
}

fn setup(seed: u64) -> Setup {
    Of::<Multi>::new().setup(&Setup { seed, ..Setup::default() }).unwrap()
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught(
        "multi-paxos",
        &[
            // What the rules for the mechanism are there to prevent: see the next test.
            "chosen-once",
            // No variant makes values up.
            "proposed",
            "ends-when-calm",
        ],
    );
}

/// Each rule for the mechanism is there because of what comes of it, if nobody looks.
#[test]
fn what_comes_of_a_broken_mechanism() {
    for (variant, rule) in [
        ("commonest-value", "chosen-once"),
        ("own-values", "chosen-once"),
        ("forget-promise", "chosen-once"),
        ("forget-accepted", "chosen-once"),
        ("forget-below-snapshot", "chosen-once"),
        ("commit-any-ballot", "same-prefix"),
        ("apply-when-accepted", "same-prefix"),
        ("apply-out-of-order", "same-prefix"),
        ("apply-out-of-order", "acknowledged"),
        ("snapshot-beyond", "same-prefix"),
        ("snapshot-beyond", "acknowledged"),
        ("skip-gaps", "ends-when-calm"),
    ] {
        let subject = subject("multi-paxos");
        let mut setup = setup_of(subject, variant).unwrap();
        setup.watched.insert(rule.to_owned());
        let report = check(subject, &setup, 20_000).unwrap();
        println!("{variant}: {rule}, {} seeds", report.seeds);
        assert!(report.found.is_some(), "{variant}: {rule}");
    }
}

/// *Paxos Made Simple*, section 3: in the steady state a command costs phase 2, and nothing else.
#[test]
fn a_stable_leader_prepares_nothing() {
    // What a replica tells itself is not sent.
    let (others, writes) = (2, 10);
    let outcome = holds(&lesson("multi-paxos", "steady-state"));
    // The run ends 57 ms after the leader was elected: with that, and every 15 ms, a heartbeat to each other.
    let heartbeats = (1 + 57 / 15) * others;
    let counted = [
        ("Prepare", others),
        ("Promise", others),
        ("Accept", writes * others),
        ("Accepted", writes * others),
        ("Heartbeat", heartbeats),
    ];
    let counted = counted.map(|(kind, count)| (kind.to_owned(), count));
    assert_eq!(outcome.tally.sent_by_kind, counted.into());
    // One round trip for each.
    let after: Vec<u64> = outcome.tally.replied.values().map(|it| it.after_us).collect();
    assert_eq!(vec![2_000; 10], after);
    breaks(&lesson("multi-paxos", "steady-state").broken("prepare-each-slot"), "one-prepare");
}

#[test]
fn several_slots_are_in_flight_and_no_more_than_alpha() {
    for alpha in [1, 4, 10] {
        let mut run = lesson("multi-paxos", "steady-state").with("alpha", alpha);
        for act in &mut run.script.acts {
            // All ten at once.
            if matches!(act.what, What::Client { .. }) {
                *act = Act::at_ms(10, act.what.clone());
            }
        }
        let outcome = holds(&run);
        let last = outcome.tally.replied.values().map(|it| it.after_us).max();
        assert_eq!(Some(10_u64.div_ceil(alpha) * 2_000), last, "alpha {alpha}");
        assert_eq!(20, outcome.tally.of_kind("Accept"));
    }
}

#[test]
fn a_new_leader_fills_a_gap_and_loses_no_chosen_slot() {
    let run = lesson("multi-paxos", "fill-a-gap");
    let world = ended(&run);
    // A, the no-op in the place of B, and C.
    let all = Some((Slot(4), vec![1, 3]));
    assert_eq!(vec![all.clone(), all.clone(), all], states(&world));
    // A was answered. B is lost, and so is the answer for C: n0 crashed.
    assert_eq!(1, world.tally().replied.len());
    breaks(&run.clone().broken("skip-gaps"), "fills-gaps");
    // What comes of it: C is never applied, and nothing after it.
    let mut run = run.broken("skip-gaps").watching("ends-when-calm");
    let write = What::Client { node: NodeId(1), op: "write".to_owned(), args: vec![9] };
    run.script.acts.push(Act::at_ms(50, write));
    breaks(&run, "ends-when-calm");
}

#[test]
fn what_is_chosen_above_a_gap_is_not_applied() {
    let run = lesson("multi-paxos", "fill-a-gap");
    let mut world: World<Multi> = Of::<Multi>::new().world(&run, false).unwrap();
    while world.now_us() < 24_000 {
        world.step().unwrap();
    }
    // n0 knows that C is chosen in slot 3: n0 and n1 have accepted it in one ballot.
    assert_eq!(Some((Slot(2), vec![1])), states(&world)[0]);
    assert_eq!(disks(&world)[0].accepted[&Slot(3)], disks(&world)[1].accepted[&Slot(3)]);
    breaks(&run.broken("apply-out-of-order"), "in-order");
}

#[test]
fn the_highest_ballot_in_a_slot_is_proposed_again_and_not_the_commonest_value() {
    let run = lesson("multi-paxos", "highest-not-commonest");
    assert_eq!(Some((Slot(2), vec![2])), states(&ended(&run))[0]);
    breaks(&run.clone().broken("commonest-value"), "highest-ballot");
    breaks(&run.broken("commonest-value").watching("chosen-once"), "chosen-once");
}

#[test]
fn a_replica_that_lags_behind_a_snapshot_gets_it_and_ends_equal() {
    let run = lesson("multi-paxos", "lagging-replica");
    let world = ended(&run);
    let all = Some((Slot(7), (1..=6).collect()));
    assert_eq!(vec![all.clone(), all.clone(), all], states(&world));
    for disk in disks(&world) {
        assert_eq!(Slot(5), disk.snapshot.next);
        assert!(disk.accepted.keys().all(|&slot| slot >= Slot(5)), "discarded");
    }
    for kind in ["Ask", "Snapshot", "Chosen"] {
        assert_eq!(1, world.tally().of_kind(kind), "{kind}");
    }
}

#[test]
fn a_promise_has_the_snapshot_in_the_place_of_what_is_discarded() {
    let run = lesson("multi-paxos", "candidate-lags");
    let world = ended(&run);
    let all = Some((Slot(6), vec![1, 2, 3, 4, 5]));
    assert_eq!(vec![all.clone(), all.clone(), all], states(&world));
    breaks(&run.clone().broken("forget-below-snapshot"), "promise-tells-all");
    // What comes of it: D is chosen in slot 1, where A was.
    breaks(&run.broken("forget-below-snapshot").watching("chosen-once"), "chosen-once");
}

/// A leader that was overtaken without noticing, B of its own in slot 2 on the disks of n0 and n1, is told by
/// n4 that C is chosen there. If it passed that on, under its own ballot, n1 would take B for chosen. Too
/// seldom to be found from seeds.
#[test]
fn a_leader_takes_nobodys_word_for_what_is_chosen() {
    let write = |node, value| What::Client {
        node: NodeId(node),
        op: "write".to_owned(),
        args: vec![value],
    };
    let split = |some: &[usize]| What::Split(some.iter().copied().map(NodeId).collect());
    let at_us = |us, what| Act { when: When::Us(us), what };
    let (a, b, c) = (1, 2, 3);
    let mut run = lesson("multi-paxos", "highest-not-commonest");
    run.script.end.at_us = 80_000;
    run.script.acts = vec![
        // n4 leads, and gets A chosen in slot 1 while n0 is away. n0 asks for it at 34 ms.
        at_us(1_000, What::Expire(NodeId(4))),
        at_us(5_000, split(&[0])),
        at_us(5_000, write(4, a)),
        at_us(20_000, What::Heal),
        // n0 leads in 2.0, promised by n1 and n2, and proposes B in slot 2: n0 and n1 accept it.
        at_us(35_000, split(&[3, 4])),
        at_us(35_100, What::Expire(NodeId(0))),
        at_us(40_000, What::Cut { from: NodeId(0), to: NodeId(2) }),
        at_us(40_000, write(0, b)),
        // n3 leads in 2.3, and gets C chosen in slot 2 by n2, n3 and n4. n0 hears nothing of it.
        at_us(42_000, What::Heal),
        at_us(42_000, split(&[0, 1])),
        at_us(42_500, write(3, c)),
        at_us(42_500, What::Expire(NodeId(3))),
        at_us(61_000, What::Mend { from: NodeId(4), to: NodeId(0) }),
        at_us(61_000, What::Mend { from: NodeId(0), to: NodeId(4) }),
        at_us(62_000, What::Cut { from: NodeId(0), to: NodeId(4) }),
    ];
    let mut world: World<Multi> = Of::<Multi>::new().world(&run, false).unwrap();
    while world.now_us() < 34_000 || world.tally().of_kind("Ask") == 0 {
        world.step().unwrap();
    }
    let ask = |it: &InFlight<'_, Message>| matches!(it.message, Message::Ask { .. });
    let ask = world.in_flight().find(ask).unwrap().id;
    // Only now its question reaches n4, whom n3 has told.
    run.script.acts.push(at_us(34_500, What::Hold(ask)));
    run.script.acts.push(at_us(61_500, What::Deliver(ask)));
    let world = ended(&run);
    assert_eq!(1, world.tally().of_kind("Chosen"));
    let states = states(&world);
    let (before, after) = (Some((Slot(2), vec![a])), Some((Slot(3), vec![a, c])));
    assert_eq!([before.clone(), before], states[..2]);
    assert_eq!([after.clone(), after.clone(), after], states[2..]);
}

/// n0 begins 1.0, crashes with the promises on their way, and begins again.
#[test]
fn a_restart_never_uses_a_ballot_again() {
    let mut run = lesson("multi-paxos", "steady-state");
    let acts = [What::Expire, What::Crash, What::Restart, What::Expire];
    let acts = acts.into_iter().zip(1..).map(|(what, ms)| Act::at_ms(ms, what(NodeId(0))));
    run.script.acts = acts.collect();
    assert_eq!(2, disks(&ended(&run))[0].round);
    breaks(&run.broken("reuse-ballot"), "ballot-once");
}

/// With the promise forgotten, n1 accepts in 1.0 what it has promised n2 not to.
#[test]
fn a_restart_keeps_the_promise() {
    let mut run = lesson("multi-paxos", "steady-state");
    let write = |value| What::Client { node: NodeId(0), op: "write".to_owned(), args: vec![value] };
    let cut = |from, to| What::Cut { from: NodeId(from), to: NodeId(to) };
    run.script.acts = vec![
        Act::at_ms(1, What::Expire(NodeId(0))),
        // n2 is promised 2.2 by n1 and itself, and then heard by nobody.
        Act::at_ms(10, cut(2, 0)),
        Act::at_ms(10, What::Expire(NodeId(2))),
        Act::at_ms(12, cut(2, 1)),
        Act::at_ms(12, What::Restart(NodeId(1))),
        Act::at_ms(13, write(1)),
    ];
    holds(&run);
    breaks(&run.broken("forget-promise"), "keeps-promises");
}

#[test]
fn a_message_says_it_in_the_papers_words() {
    let state = State::default();
    assert_eq!("Snapshot below slot 1: []", Message::Snapshot(state).to_string());
    assert_eq!("Ask, slots 3 on", Message::Ask { from: Slot(3) }.to_string());
}
