//! What rules say when they break, and where a story says it.

use std::collections::BTreeMap;

use lab::check::{check, search, setup_of};
use lab::facade::{Outcome, Subject, Tell};
use lab::protocol::{RuleKind, Setup};
use lab::registry::PROTOCOLS;
use lab::story::{self, Tells};

use crate::support::subject;

/// The run of a seed with a mistake, which goes on past the rules that break but for the last of them.
fn broken(subject: &dyn Subject, variant: &str, seed: u64, tell: Tell) -> Outcome {
    let last = subject.about().rules.last().unwrap().name;
    let setup = setup_of(subject, variant).unwrap();
    let setup = Setup { seed, watched: [last.to_owned()].into(), ..setup };
    subject.run(&subject.generate(&setup).unwrap(), tell).unwrap()
}

/// What a process might be called, if not by its name.
const CALLED: &[&str] = &[
    "replica",
    "replicas",
    "server",
    "servers",
    "node",
    "nodes",
    "process",
    "processes",
    "voter",
    "voters",
    "broker",
    "brokers",
    "member",
    "members",
    "leader",
    "leaders",
];

/// `n0` is the first process wherever it is spoken of, and none has another name.
#[test]
fn rules_call_processes_by_the_names_on_the_board() {
    let mut sentences = 0;
    for &subject in PROTOCOLS {
        let (name, most) = (subject.about().name, subject.about().nodes.max);
        for variant in subject.about().variants {
            for seed in 0..40 {
                for first in broken(subject, variant.name, seed, Tell::End).all_broken {
                    sentences += 1;
                    let what = &first.broken.what;
                    let words: Vec<&str> = what
                        .split(|letter: char| !letter.is_ascii_alphanumeric())
                        .filter(|word| !word.is_empty())
                        .collect();
                    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
                    let by_number =
                        words.windows(2).find(|two| CALLED.contains(&two[0]) && is_number(two[1]));
                    assert_eq!(None, by_number, "{name} {}: {what}", variant.name);
                    assert!(!what.contains("voters="), "{name} {}: {what}", variant.name);
                    // Who comes after the processes themselves is a client or a service.
                    let place = |word: &&str| word.strip_prefix('n')?.parse::<usize>().ok();
                    let beyond = words.iter().filter_map(place).find(|&place| place > most + 3);
                    assert_eq!(None, beyond, "{name} {}: {what}", variant.name);
                }
            }
        }
    }
    assert!(sentences > 1_000, "{sentences}");
}

/// The sentence of a rule of a run, if it broke.
fn sentence(outcome: &Outcome, rule: &str) -> Option<String> {
    let first = outcome.all_broken.iter().find(|first| first.broken.rule == rule);
    first.map(|first| first.broken.what.clone())
}

/// Raft numbers its replicas from 1: what it says of them is translated.
#[test]
fn a_vote_is_for_a_process_and_not_for_a_replica_by_number() {
    let raft = subject("raft");
    let says = (0..500)
        .find_map(|seed| sentence(&broken(raft, "vote-twice", seed, Tell::End), "one-vote"));
    let says = says.unwrap();
    let (voter, rest) = says.split_once(" votes for ").unwrap();
    let (second, rest) = rest.split_once(" in term ").unwrap();
    let (_, first) = rest.split_once(", in which it has voted for ").unwrap();
    assert!(second != first && ["n0", "n1", "n2"].contains(&voter), "{says}");
    assert!([first, second].iter().all(|who| ["n0", "n1", "n2"].contains(who)), "{says}");
}

#[test]
fn logs_that_do_not_match_are_told_with_both_entries_and_who_has_them() {
    for (name, variants, at) in [
        ("raft", ["vote-twice", "lead-into-next-term"], "entry "),
        ("kraft", ["vote-twice", "lead-into-next-epoch"], " at offset "),
    ] {
        for variant in variants {
            let says = (0..1_000).find_map(|seed| {
                let outcome = broken(subject(name), variant, seed, Tell::End);
                sentence(&outcome, "log-matching")
            });
            let says = says.unwrap_or_else(|| panic!("{name} {variant}"));
            println!("{name} {variant}: {says}");
            assert!(says.contains(at), "{says}");
            assert!(says.contains(" of term ") || says.contains(" of epoch "), "{says}");
            let (one, other) = says.split_once(", and ").unwrap();
            let held = |half: &str| half.contains(" on ") || half.contains(" in the log of ");
            assert!(held(one) && (held(other) || other.contains("no longer")), "{says}");
            assert!(one.contains(" n") && says.contains('v') || says.contains("empty"), "{says}");
        }
    }
}

#[test]
fn a_write_that_gossip_may_not_lose_is_told_with_what_was_promised_and_when() {
    let setup = setup_of(subject("gossip"), "answers-without-storing").unwrap();
    let found = check(subject("gossip"), &setup, 500).unwrap().found.unwrap();
    assert_eq!("lost-only-in-failover", found.broken.rule);
    for part in ["at ", " ms n", " told a client that key ", "request r", " has not got key "] {
        assert!(found.broken.what.contains(part), "{}", found.broken.what);
    }
}

/// That nobody leads in the end, say, is the least of it when something committed is lost.
#[test]
fn what_must_never_happen_heads_what_must_happen_in_the_end() {
    for (name, variant) in [
        ("raft", "vote-twice"),
        ("raft", "count-pre-votes"),
        ("raft", "lead-into-next-term"),
        ("zab", "same-epoch"),
        ("kraft", "keep-diverging"),
        ("ben-or", "decide-on-one"),
    ] {
        let subject = subject(name);
        let setup = setup_of(subject, variant).unwrap();
        let found = search(subject, &setup, 10_000).unwrap().found.unwrap();
        assert!(
            subject.about().is_safety(&found.broken.rule),
            "{name} {variant}: {}",
            found.broken
        );
    }
    // Where nothing worse comes of it, it is said.
    let pbft = subject("pbft");
    let setup = setup_of(pbft, "no-view-change").unwrap();
    let found = search(pbft, &setup, 10_000).unwrap().found.unwrap();
    assert_eq!("answered", found.broken.rule);
    assert!(pbft.about().is_eventual("answered"));
}

/// A mistake's own rule mostly breaks first; of those that break in one event the promise is named.
#[test]
fn a_promise_heads_the_mechanism_in_one_event() {
    let multi = subject("multi-paxos");
    let setup = setup_of(multi, "apply-out-of-order").unwrap();
    let found = check(multi, &setup, 100).unwrap().found.unwrap();
    let outcome = multi.run(&found.run, Tell::End).unwrap();
    let broken: BTreeMap<&str, (u64, Option<RuleKind>)> = outcome
        .all_broken
        .iter()
        .map(|first| (first.broken.rule.as_str(), (first.event, first.kind)))
        .collect();
    assert_eq!("same-prefix", found.broken.rule);
    let (mechanism, promise) = (broken["in-order"], broken["same-prefix"]);
    assert_eq!(mechanism.0, promise.0, "in one event");
    assert_eq!((Some(RuleKind::Mechanism), Some(RuleKind::Promise)), (mechanism.1, promise.1));
}

/// Every rule that broke stands in the story below the event in which it first did.
#[test]
fn a_story_says_where_rules_break() {
    let mut told = 0;
    for (name, variant) in [
        ("raft", "vote-twice"),
        ("paxos", "shared-ballots"),
        ("pbft", "small-quorum"),
        ("isr", "unclean-election"),
        ("zab", "skip-synchronization"),
    ] {
        for seed in 0..10 {
            let outcome = broken(subject(name), variant, seed, Tell::All);
            let story =
                story::of(&outcome, Tells::Changes).replace("\n    ", "\n").replace('\n', " ");
            let story: Vec<&str> = story.split_whitespace().collect();
            let story = story.join(" ");
            let events = &outcome.trace.as_ref().unwrap().events;
            let mut from = 0;
            for first in &outcome.all_broken {
                let place = usize::try_from(first.event).unwrap();
                let kind = match first.kind {
                    Some(RuleKind::Mechanism) => " (of the mechanism)",
                    _ => "",
                };
                let line = format!("BREAKS {}{kind}: {}", first.broken.rule, first.broken.what);
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                let at = story[from..].find(&line);
                let at = from + at.unwrap_or_else(|| panic!("{name} {seed}: {line}"));
                let before = &story[..at];
                let Some(event) = events.get(place) else { continue };
                let time = format!("{}.{:03} ms", event.at_us / 1000, event.at_us % 1000);
                let last = before.rfind(&time).unwrap_or_else(|| panic!("{name}: {line}"));
                // Nothing later has been told by then.
                let later = events[place + 1..].iter().find(|later| later.at_us > event.at_us);
                if let Some(later) = later {
                    let later = format!(" {}.{:03} ms ", later.at_us / 1000, later.at_us % 1000);
                    assert!(!before[last..].contains(&later), "{name} {seed}: {line}");
                }
                assert!(!event.idle, "something came of it");
                from = at;
                told += 1;
            }
        }
    }
    assert!(told > 20, "{told}");
}
