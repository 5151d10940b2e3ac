//! The tour: every step shows what it says.

use lab::facade::Tell;
use lab::registry;
use lab::tour::{Shows, tour};

#[test]
fn every_step_can_be_shown() {
    for step in tour() {
        let subject = registry::find(step.protocol).unwrap();
        let Some(run) = step.run else {
            assert_ne!(Shows::Run, step.shows, "{}: no such lesson", step.title);
            continue;
        };
        let outcome = subject.run(&run, Tell::End).unwrap();
        let meant = !run.setup.watched.is_empty() || step.title.contains("cannot");
        assert_eq!(meant, outcome.broken.is_some(), "{}: {:?}", step.title, outcome.broken);
    }
}
