//! What every protocol's tests ask.

use std::collections::BTreeSet;

use lab::check::{self, check};
use lab::facade::{Outcome, Run, Subject, Tell};
use lab::protocol::Setup;
use lab::registry::find;

/// The protocol of this name.
pub(crate) fn subject(name: &str) -> &'static dyn Subject {
    find(name).unwrap()
}

/// The lesson of this name.
pub(crate) fn lesson(name: &str, lesson: &str) -> Run {
    let lessons = subject(name).about().lessons;
    (lessons.iter().find(|known| known.name == lesson).unwrap().run)()
}

/// Runs, and wants no rule broken.
pub(crate) fn holds(run: &Run) -> Outcome {
    let outcome = subject(&run.protocol).run(run, Tell::End).unwrap();
    assert_eq!(None, outcome.broken);
    outcome
}

/// Runs, and wants this rule broken.
pub(crate) fn breaks(run: &Run, rule: &str) -> Outcome {
    let outcome = subject(&run.protocol).run(run, Tell::End).unwrap();
    assert_eq!(Some(rule), outcome.broken.as_ref().map(|broken| broken.rule.as_str()));
    outcome
}

/// As in the paper: no rule breaks in so many seeds.
pub(crate) fn clean(name: &str, setup: &Setup, seeds: u64) {
    let report = check(subject(name), setup, seeds).unwrap();
    if let Some(found) = report.found {
        panic!("{name}, seed {}: {}", found.run.setup.seed, found.broken);
    }
    assert_eq!(seeds, report.seeds);
    println!("{name}: {seeds} seeds, {} events", report.events);
}

/// Every variant breaks a rule within its number of seeds, and the same seed breaks none without it; every
/// rule that `check` can break is broken by some variant, but for `unbroken`.
pub(crate) fn variants_are_caught(name: &str, unbroken: &[&str]) {
    let subject = subject(name);
    let mut caught: BTreeSet<String> = BTreeSet::new();
    let mut survivors = Vec::new();
    for variant in subject.about().variants {
        let setup = check::setup_of(subject, variant.name).unwrap();
        let report = check(subject, &setup, variant.seeds_max).unwrap();
        let Some(found) = report.found else {
            survivors.push(variant.name);
            continue;
        };
        println!("{name} {}: {} seeds, {}", variant.name, report.seeds, found.broken);
        // Of several in one event the worst is named; all of them are caught.
        let outcome = subject.run(&found.run, Tell::End).unwrap();
        caught.extend(outcome.all_broken.into_iter().map(|first| first.broken.rule));
        // It is the variant and not the world that is to blame.
        let mut whole = found.run.clone();
        whole.setup.variants.clear();
        holds(&whole);
    }
    assert_eq!(Vec::<&str>::new(), survivors, "survivors of {name}");
    let known = subject.about().rules.iter().map(|rule| rule.name);
    let rest: Vec<&str> = known.filter(|rule| !caught.contains(*rule)).collect();
    assert_eq!(unbroken, rest, "rules of {name} that no variant has broken");
}
