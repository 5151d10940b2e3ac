//! Of every mistake: the search follows it to the promise that it breaks, if it breaks one, and the run that is found
//! and cut down can be read as a story.

use std::time::Instant;

use lab::check::{check, search, setup_of};
use lab::facade::Tell;
use lab::protocol::RuleKind;
use lab::shrink;
use lab::story::{self, Tells};

use crate::promises::MECHANISM_ONLY;
use crate::support::subject;

/// Events in a story at most, those left out of which nothing came.
const TOLD_MAX: usize = 300;

fn can_be_read(name: &str) {
    let subject = subject(name);
    let mut too_long = Vec::new();
    for variant in subject.about().variants {
        let begun = Instant::now();
        let setup = setup_of(subject, variant.name).unwrap();
        // What a search goes on for beyond these has been looked for elsewhere, and is not found.
        let ends_at_mechanism = MECHANISM_ONLY.contains(&(name, variant.name));
        let found = if ends_at_mechanism { check } else { search };
        let found = found(subject, &setup, 10_000).unwrap().found.unwrap();
        let kind = subject.about().kind_of(&found.broken.rule);
        let follows = if ends_at_mechanism { RuleKind::Mechanism } else { RuleKind::Promise };
        assert_eq!(Some(follows), kind, "{name} {}: {}", variant.name, found.broken);
        let smallest = shrink::shrink(subject, &found, 3_000).unwrap();
        let outcome = subject.run(&smallest.run, Tell::All).unwrap();
        assert_eq!(Some(&smallest.broken), outcome.broken.as_ref());
        let trace = outcome.trace.unwrap();
        let told = trace.events.iter().filter(|event| !event.idle).count();
        let story = story::tell(&trace, &[], Tells::Changes);
        println!(
            "| {name} | {} | {} | {} | {} | {} | {told} | {} | {:.1} s |",
            variant.name,
            smallest.broken.rule,
            found.events,
            smallest.events,
            smallest.run.script.acts.len(),
            story.lines().count(),
            begun.elapsed().as_secs_f64()
        );
        if told > TOLD_MAX {
            too_long.push((variant.name, told));
        }
    }
    assert!(too_long.is_empty(), "{name}: {too_long:?}");
}

macro_rules! can_be_read {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                can_be_read($name);
            }
        )*

        #[test]
        fn of_every_protocol() {
            let all: Vec<&str> = lab::registry::PROTOCOLS.iter().map(|one| one.about().name).collect();
            assert_eq!(all, [$($name),*]);
        }
    };
}

can_be_read! {
    generals_oral: "generals-oral",
    generals_signed: "generals-signed",
    pbft: "pbft",
    paxos: "paxos",
    multi_paxos: "multi-paxos",
    raft: "raft",
    zab: "zab",
    isr: "isr",
    kraft: "kraft",
    ben_or: "ben-or",
    wait_for_all: "wait-for-all",
    gossip: "gossip",
    lock: "lock",
    commit_wait: "commit-wait",
}
