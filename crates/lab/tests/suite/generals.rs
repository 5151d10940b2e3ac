//! What the Byzantine generals must show.

use lab::facade::{Outcome, Run, Tell};
use lab::process::NodeId;
use lab::protocol::Setup;
use lab::protocols::generals::COMMANDER;
use lab::script::{Act, Conduct, End, Script, Weather, What};

use crate::support::{breaks, clean, holds, lesson, subject, variants_are_caught};

/// All loyal, or one a traitor with this conduct.
fn run(name: &str, n: usize, m: u64, attack: u64, traitor: Option<(usize, Vec<u64>)>) -> Run {
    let mut acts: Vec<Act> = traitor
        .into_iter()
        .map(|(who, lies)| What::Traitor { node: NodeId(who), conduct: Conduct::Script(lies) })
        .map(|what| Act::at_ms(0, what))
        .collect();
    acts.push(Act::at_ms(
        0,
        What::Client { node: COMMANDER, op: "order".into(), args: vec![attack] },
    ));
    let end = End { events: 100_000, at_us: 1_000_000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: Some(0) };
    Run::by_hand(name, n, script).with("m", m)
}

/// Every way in which one traitor can behave: each of his messages true, or one of these lies.
fn exhaust(name: &str, n: usize, lies: u64, mut each: impl FnMut(Outcome)) -> usize {
    let mut runs = 0;
    for who in 0..n {
        // The commander speaks to each lieutenant, a lieutenant to each other one.
        let messages = if who == 0 { n - 1 } else { n - 2 };
        for number in 0..(lies + 1).pow(u32::try_from(messages).unwrap()) {
            let digit =
                |place: usize| number / (lies + 1).pow(u32::try_from(place).unwrap()) % (lies + 1);
            for attack in [0, 1] {
                let script: Vec<u64> = (0..messages).map(digit).collect();
                let run = run(name, n, 1, attack, Some((who, script)));
                each(subject(name).run(&run, Tell::End).unwrap());
                runs += 1;
            }
        }
    }
    runs
}

#[test]
fn om_1_holds_for_four_whatever_one_traitor_does() {
    // The truth, the other order, or silence.
    let runs = exhaust("generals-oral", 4, 2, |outcome| assert_eq!(None, outcome.broken));
    assert_eq!(2 * (27 + 3 * 9), runs);
}

#[test]
fn om_1_fails_for_three_with_one_traitor() {
    let mut broken = std::collections::BTreeMap::new();
    let runs = exhaust("generals-oral", 3, 2, |outcome| {
        if let Some(rule) = outcome.broken {
            *broken.entry(rule.rule).or_insert(0) += 1;
        }
    });
    // Two loyal ones are left: the commander and the lieutenant who should obey him, and does not.
    assert_eq!((30, vec![("ic2".to_owned(), 4)]), (runs, broken.into_iter().collect()));
    breaks(&lesson("generals-oral", "three-and-one"), "ic2");
}

#[test]
fn sm_1_holds_for_three_whatever_one_traitor_does() {
    // The truth, the other order, both, an order out of the blue, or silence.
    let runs = exhaust("generals-signed", 3, 4, |outcome| assert_eq!(None, outcome.broken));
    assert_eq!(2 * (25 + 2 * 5), runs);
    exhaust("generals-signed", 4, 4, |outcome| assert_eq!(None, outcome.broken));
}

#[test]
fn oral_messages_are_counted_as_in_the_paper() {
    for (n, m, messages) in [(4, 1, 9), (7, 2, 156), (10, 3, 3_609), (4, 0, 3)] {
        let outcome = holds(&run("generals-oral", n, m, 1, None));
        assert_eq!(messages, outcome.tally.sent, "OM({m}) with {n}");
        assert_eq!(u64::try_from(n).unwrap() - 1, outcome.tally.decided);
    }
}

#[test]
fn signed_messages_are_the_square_of_the_lieutenants() {
    for n in 3..=10 {
        for m in 1..=3 {
            let outcome = holds(&run("generals-signed", n, m, 1, None));
            assert_eq!(
                u64::try_from((n - 1).pow(2)).unwrap(),
                outcome.tally.sent,
                "SM({m}) with {n}"
            );
        }
    }
}

#[test]
fn no_rule_breaks_in_a_thousand_seeds() {
    clean("generals-oral", &Setup::default(), 1_000);
    clean("generals-signed", &Setup::default(), 1_000);
    let two = |n, traitors| {
        let knobs = [("m".to_owned(), 2), ("traitors".to_owned(), traitors)];
        Setup { n, knobs: knobs.into(), ..Setup::default() }
    };
    clean("generals-oral", &two(7, 2), 300);
    clean("generals-signed", &two(4, 2), 1_000);
    clean("generals-signed", &two(6, 2), 1_000);
}

#[test]
fn every_variant_is_caught() {
    variants_are_caught("generals-oral", &["all-decide"]);
    variants_are_caught("generals-signed", &["all-decide"]);
}

#[test]
fn the_lessons_hold() {
    holds(&lesson("generals-oral", "four-and-one-lieutenant"));
    holds(&lesson("generals-oral", "four-and-the-commander"));
    holds(&lesson("generals-signed", "three-and-the-commander"));
}
