//! Histories that are right pass; histories that are broken in a known way are caught by the rule that was broken.

mod support;

use history::record::History;
use history::replay::{Settings, check};
use rand::SeedableRng;
use support::mutate::ALL;
use support::{Dice, SMALL, Size, run};

#[test]
fn right_histories_pass() {
    let mut seen = history::replay::Seen::default();
    for seed in 0..3_000 {
        let run = run(seed, SMALL);
        let report = check(&run.history, &Settings::default());
        assert!(report.is_clean(), "seed {seed}: {report}");
        seen.unknown_applied += report.seen.unknown_applied;
        seen.lease_ends += report.seen.lease_ends;
        seen.watch_events += report.seen.watch_events;
        seen.watch_resumed += report.seen.watch_resumed;
        seen.watch_progress += report.seen.watch_progress;
        seen.answers += report.seen.answers;
    }
    println!("{seen:?}");
    assert!(seen.unknown_applied > 1_000 && seen.lease_ends > 200, "{seen:?}");
    assert!(seen.watch_events > 10_000 && seen.watch_resumed > 1_000, "{seen:?}");
    assert!(seen.watch_progress > 1_000 && seen.answers > 50_000, "{seen:?}");
}

/// Every mutation, wherever it makes a difference, breaks the rule that it is about.
#[test]
fn broken_histories_are_caught() {
    let mut missed = Vec::new();
    let mut applied = vec![0_u32; ALL.len()];
    let settings = Settings { violations_max: 1_000, ..Settings::default() };
    for seed in 0..1_500 {
        for (number, mutation) in ALL.iter().enumerate() {
            let mut run = run(seed, SMALL);
            let mut dice = Dice::seed_from_u64(seed);
            if !(mutation.apply)(&mut run, &mut dice) {
                continue;
            }
            applied[number] += 1;
            let report = check(&run.history, &settings);
            if !mutation.caught_by.iter().any(|rule| report.breaks(*rule)) && missed.len() < 12 {
                missed.push(format!("seed {seed}, {}: {report}", mutation.name));
            }
        }
    }
    for (mutation, count) in ALL.iter().zip(&applied) {
        println!("{count:6} {}", mutation.name);
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
    for (mutation, count) in ALL.iter().zip(&applied) {
        assert!(*count >= 100, "{}: tried only {count} times", mutation.name);
    }
}

/// `cargo test --release -p quorate-history --test replay -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_million_operations() {
    for (operations, lost) in [(100_000, 2), (1_000_000, 2), (100_000, 12), (1_000_000, 12)] {
        let size = Size { operations, clients: 50, keys: 90, watches: 3, lost, past: false };
        let run = run(1, size);
        let began = std::time::Instant::now();
        let report = check(&run.history, &Settings::default());
        println!("{operations} operations, {lost} % lost: {:?}, {report}", began.elapsed());
        assert!(report.is_clean());
    }
}

/// What is written to disk comes back.
#[test]
fn histories_can_be_kept() {
    let history = run(5, SMALL).history;
    let text = serde_json::to_string(&history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
}
