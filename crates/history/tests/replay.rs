//! Histories that are right pass; histories that are broken in a known way are caught by the rule that was broken.

mod support;

use history::replay::{Settings, check};
use support::{SMALL, run};

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
