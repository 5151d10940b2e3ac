//! What is written down as data: it changes nothing, and has all that a page shows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sim::mutants::Mutant;
use sim::trace::{Breach, FORMAT, File, Happened, Seen, Status};
use sim::{Mutants, Outcome, Plan, Tell};

fn traced(seed: u64, mutants: Mutants) -> Outcome {
    let plan = Plan::draw(seed);
    let quiet = sim::live_broken(&plan, Tell::Nothing, mutants);
    let traced = sim::live_broken(&plan, Tell::Data, mutants);
    assert_eq!((quiet.hash, &quiet.broken), (traced.hash, &traced.broken), "seed {seed}");
    assert!(quiet.seen.is_empty() && traced.seen.len() > 20);
    traced
}

/// Times rise; whoever does something is there; what arrives has been sent.
fn follow(seen: &[Happened]) {
    let (mut members, mut frames, mut last_us) = (BTreeMap::new(), BTreeMap::new(), 0);
    for Happened { at_us, seen } in seen {
        assert!(*at_us >= last_us);
        last_us = *at_us;
        match seen {
            Seen::Told { words } => assert!(!words.is_empty()),
            Seen::Stands { stand, .. } => {
                assert!(stand.durable <= stand.last && stand.commit <= stand.last, "{stand:?}");
            }
            Seen::Status { member, status } => {
                assert_ne!(members.insert(member.clone(), *status), Some(*status), "{member}");
            }
            Seen::Links { cut } => {
                assert!(cut.iter().all(|(from, to)| from != to && members.contains_key(from)));
            }
            Seen::Message { frame, from, lost_us, .. } => {
                assert_eq!(members.get(from), Some(&Status::Up), "{from} speaks");
                assert!(lost_us.is_none_or(|lost_us| lost_us >= *at_us));
                frames.insert(*frame, lost_us.is_some());
            }
            Seen::Arrives { frame, .. } => {
                assert_eq!(frames.get(frame), Some(&false), "{frame} was sent, and not lost");
            }
        }
    }
}

#[test]
fn a_trace_changes_nothing_and_can_be_followed() {
    let (mut statuses, mut cut, mut lost, mut missed) = (BTreeSet::new(), 0, 0, 0);
    for seed in 1..=20 {
        let outcome = traced(seed, Mutants::default());
        follow(&outcome.seen);
        for Happened { seen, .. } in &outcome.seen {
            match seen {
                Seen::Status { status, .. } => drop(statuses.insert(format!("{status:?}"))),
                Seen::Links { .. } => cut += 1,
                Seen::Message { lost_us, .. } => lost += u64::from(lost_us.is_some()),
                Seen::Arrives { heard, .. } => missed += u64::from(!heard),
                _ => {}
            }
        }
    }
    for status in ["Up", "Down", "Paused"] {
        assert!(statuses.contains(status), "{status}: {statuses:?}");
    }
    assert!(cut > 10 && lost > 100 && missed > 10, "{cut} {lost} {missed}");
}

/// Whoever is told to lead is seen to lead, in that term and at that moment.
#[test]
fn leaders_are_seen() {
    let mut leaders = 0;
    for seed in 1..=10 {
        let seen = traced(seed, Mutants::default()).seen;
        for (place, Happened { at_us, seen: what }) in seen.iter().enumerate() {
            let Seen::Told { words } = what else { continue };
            let Some((leader, term)) = words.split_once(" leads term ") else { continue };
            let stands = seen[..place].iter().rev().find_map(|happened| match &happened.seen {
                Seen::Stands { member, stand } if member == leader => Some((happened.at_us, stand)),
                _ => None,
            });
            let (since_us, stand) = stands.unwrap();
            assert_eq!((stand.role.as_str(), stand.term.to_string()), ("leader", term.to_owned()));
            assert_eq!(since_us, *at_us, "seed {seed}");
            leaders += 1;
        }
    }
    assert!(leaders > 10, "{leaders}");
}

/// The rule that broke, and those who broke it, are in the file as its essay says.
#[test]
fn a_broken_rule_is_in_the_file() {
    let mutant = Some(Mutant::Raft(raft::Mutant::TermTakenInPassing));
    let (seed, outcome) = (1..=20)
        .map(|seed| (seed, traced(seed, mutant.into())))
        .find(|(_, outcome)| outcome.broken.is_some())
        .unwrap();
    follow(&outcome.seen);
    let broken = outcome.broken.as_ref().unwrap();
    let plan = Plan::draw(seed);
    let file = File {
        format: FORMAT,
        plan: &plan,
        mutant: Some("raft::TermTakenInPassing"),
        hash: format!("{:016x}", outcome.hash),
        broken: Some(Breach::from(broken)),
        events: &outcome.seen,
    };
    let file = serde_json::to_value(&file).unwrap();
    assert_eq!(file["format"], 2);
    assert_eq!(file["broken"]["rule"], broken.rule);
    let events = file["events"].as_array().unwrap();
    let last = events.last().unwrap();
    assert!(last["words"].as_str().unwrap().starts_with("BROKEN: "), "{last}");
    assert_eq!(last["at_us"], file["broken"]["at_us"]);
    let fields = |kind: &str| {
        let of_kind = events.iter().find(|event| event["kind"] == kind);
        let keys = of_kind.and_then(Value::as_object).unwrap().keys();
        keys.cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(fields("told"), "at_us kind words");
    assert_eq!(fields("status"), "at_us kind member status");
    assert_eq!(fields("stands"), "at_us commit durable kind last member role term vote");
    assert_eq!(fields("message"), "at_us frame from kind says term to");
    assert_eq!(fields("arrives"), "at_us frame heard kind");
}
