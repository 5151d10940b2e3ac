//! What a person reads is prose: of every protocol, its lessons and a few seeds.

use lab::check::setup_of;
use lab::facade::{Run, Subject, Tell};
use lab::protocol::Setup;
use lab::story::Tells;
use lab::{registry, story};

/// What the types of this crate look like when they are printed for its own eyes.
const DEBUG: &[&str] = &[
    "Timer(",
    "Some(",
    "NodeId(",
    "RequestId(",
    "Term(",
    "LogIndex(",
    "ReplicaId(",
    "Write(",
    "Set(",
    "Update(",
    "Order(",
    "Bit(",
    "Duration",
    " { ",
    ": None",
];

fn is_prose(subject: &dyn Subject, run: &Run) {
    let outcome = subject.run(run, Tell::All).unwrap();
    let story = story::of(&outcome, Tells::Everything);
    let trace = outcome.trace.unwrap();
    for line in story.lines() {
        let shown = DEBUG.iter().find(|debug| line.contains(**debug));
        assert_eq!(None, shown, "{}, seed {}: {line}", run.protocol, run.setup.seed);
        let fits = line.chars().count() <= story::COLUMNS || !line.trim().contains(' ');
        assert!(fits, "{}, seed {}: {line}", run.protocol, run.setup.seed);
    }
    for event in trace.events.iter().filter(|event| event.sort == "expired") {
        let name = event.text.strip_prefix("timer: ").unwrap();
        assert!(name.starts_with(|first: char| first.is_ascii_lowercase()), "{name}");
    }
}

#[test]
fn a_story_is_told_in_the_words_of_the_protocol() {
    for &subject in registry::PROTOCOLS {
        let about = subject.about();
        for lesson in about.lessons {
            is_prose(subject, &(lesson.run)());
        }
        for seed in 0..4 {
            is_prose(subject, &subject.generate(&Setup { seed, ..Setup::default() }).unwrap());
        }
        // What the rules say when they break.
        for variant in about.variants {
            for seed in 0..3 {
                let setup = Setup { seed, ..setup_of(subject, variant.name).unwrap() };
                is_prose(subject, &subject.generate(&setup).unwrap());
            }
        }
    }
}
