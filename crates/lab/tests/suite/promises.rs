//! A search ends at the promise that a mistake breaks, and not at the step that is the mistake.

use lab::check::{Search, search, setup_of};
use lab::facade::{Subject, Tell};
use lab::protocol::Setup;
use lab::story::Tells;
use lab::{shrink, story};

use crate::support::subject;

/// Mistakes of which no search has shown a broken promise: their texts say so, and why, where it is known.
pub(crate) const MECHANISM_ONLY: &[(&str, &str)] = &[
    ("pbft", "mixed-views"),
    ("pbft", "accept-twice"),
    ("paxos", "reuse-ballot"),
    ("multi-paxos", "reuse-ballot"),
    ("raft", "forget-vote-at-step-down"),
    ("raft", "change-too-soon"),
    ("raft", "overwritten-is-durable"),
    ("zab", "accept-old-epoch"),
    ("isr", "believe-late-answers"),
    ("isr", "expand-by-lagging-watermark"),
    ("isr", "fetches-of-any-epoch"),
    ("gossip", "minority-elects"),
];

fn found(subject: &dyn Subject, variant: &str) -> lab::check::Found {
    let setup = setup_of(subject, variant).unwrap();
    let report = search(subject, &setup, 10_000).unwrap();
    let found = report.found.unwrap();
    println!("{} {variant}: {} in {} seeds", subject.about().name, found.broken.rule, report.seeds);
    found
}

/// A part of what `quorate lab shrink` looks at: if one of them breaks a promise, its text is out of date.
#[test]
fn what_is_said_to_end_at_the_mechanism_does() {
    const SEEDS: u64 = 500;
    for (name, variant) in MECHANISM_ONLY {
        let subject = subject(name);
        let mut search = Search::new(setup_of(subject, variant).unwrap(), 10_000);
        while search.beyond.as_ref().is_none_or(|beyond| beyond.seeds < SEEDS) {
            search.go_on(subject, 50).unwrap();
            assert!(!search.over, "{name} {variant}: {:?}", search.report.found);
        }
        let mut variants = subject.about().variants.iter();
        let says = variants.find(|known| known.name == *variant).map(|known| known.says);
        assert!(says.unwrap().contains("end at the mechanism"), "{name} {variant}");
    }
}

/// Raft, figure 8: an entry that was committed is lost, in a story that can be read.
#[test]
fn an_old_term_that_is_counted_loses_a_committed_entry() {
    for (name, variant) in [("raft", "commit-old-term"), ("kraft", "count-old-epochs")] {
        let subject = subject(name);
        let found = found(subject, variant);
        assert!(found.beyond.is_some(), "the mechanism's rule breaks first");
        let smallest = shrink::shrink(subject, &found, 3_000).unwrap();
        assert_eq!("leader-completeness", smallest.broken.rule);
        let outcome = subject.run(&smallest.run, Tell::All).unwrap();
        assert_eq!(Some(&smallest.broken), outcome.broken.as_ref());
        // The live list has the mechanism's rule, too.
        assert!(outcome.all_broken.len() > 1);
        let story = story::of(&outcome, Tells::Changes);
        assert!(smallest.events < 250 && story.lines().count() < 700, "{}", smallest.events);
    }
}

#[test]
fn a_search_falls_back_to_the_mechanism_and_says_so() {
    let subject = subject("zab");
    let found = found(subject, "accept-old-epoch");
    assert!(found.fell_back());
    assert_eq!("keeps-promises", found.broken.rule);
    let watched = ["keeps-promises".to_owned()].into();
    let named = Setup { watched, ..setup_of(subject, "accept-old-epoch").unwrap() };
    assert_eq!(None, search(subject, &named, 1_000).unwrap().found.unwrap().beyond);
}
