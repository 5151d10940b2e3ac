//! What was acknowledged and is gone, counted on the disks: a second opinion on the rules.

use lab::check::setup_of;
use lab::compare::compare;
use lab::facade::Tell;
use lab::protocol::Setup;
use lab::registry;

use crate::support::subject;

/// Those that tell clients nothing, and one that says of itself that it loses writes.
const NOTHING_TO_LOSE: &[&str] = &["generals-oral", "generals-signed", "wait-for-all"];
const MAY_LOSE: &str = "gossip";

#[test]
fn nothing_is_lost_whatever_breaks_around_it() {
    const SEEDS: u64 = 300;
    for &subject in registry::PROTOCOLS {
        let name = subject.about().name;
        let mut answered = 0;
        for seed in 0..SEEDS {
            let run = subject.generate(&Setup { seed, ..Setup::default() }).unwrap();
            let outcome = subject.run(&run, Tell::End).unwrap();
            answered += outcome.tally.replied.len();
            let expected = (!NOTHING_TO_LOSE.contains(&name)).then_some(0);
            assert!(
                name == MAY_LOSE || outcome.lost == expected,
                "{name} {seed}: {:?}",
                outcome.lost
            );
        }
        assert_eq!(NOTHING_TO_LOSE.contains(&name), answered == 0, "{name}: {answered} answers");
    }
}

/// Nothing ends the run but what is found when all is over: the mistake has done what it does.
#[test]
fn what_a_mistake_loses_is_counted() {
    let mistakes = [
        // A crash has to fall between the acknowledgement and the write.
        ("raft", "ack-before-durable", "ends-when-calm"),
        ("raft", "commit-without-quorum", "ends-when-calm"),
        ("multi-paxos", "forget-accepted", "ends-when-calm"),
        ("multi-paxos", "answer-early", "ends-when-calm"),
        ("paxos", "forget-promise", "ends-when-calm"),
        ("zab", "ack-before-persisting", "ends-when-calm"),
        ("zab", "commit-without-quorum", "ends-when-calm"),
        ("kraft", "answer-at-append", "ends-when-calm"),
        ("isr", "answer-at-append", "ends-when-calm"),
        ("isr", "power-failure", "ends-when-calm"),
        ("pbft", "small-quorum", "answered"),
        ("ben-or", "majority-of-heard", "all-decide"),
        ("lock", "no-fencing", "ends-when-calm"),
        ("gossip", "answers-without-storing", "agree-when-calm"),
    ];
    for (name, variant, rule) in mistakes {
        let subject = subject(name);
        let lost_in = |seed| {
            let watched = [rule.to_owned()].into();
            let mut setup = Setup { seed, watched, ..setup_of(subject, variant).unwrap() };
            if variant == "ack-before-durable" {
                setup.knobs.insert("write_us".to_owned(), 20_000);
            }
            let run = subject.generate(&setup).unwrap();
            subject.run(&run, Tell::End).unwrap().lost.unwrap()
        };
        let found = (0..2_000).find(|&seed| lost_in(seed) > 0);
        println!("{name} {variant}: {found:?}");
        assert!(found.is_some(), "{name} {variant}");
    }
}

/// The run in which a mistake loses writes, on the protocol with it and without, side by side.
#[test]
fn a_comparison_says_what_was_lost() {
    let raft = subject("raft");
    let watched = ["ends-when-calm".to_owned()].into();
    let broken = Setup { watched, ..setup_of(raft, "commit-without-quorum").unwrap() };
    let seeds = 0..500;
    let row = seeds.into_iter().find_map(|seed| {
        let broken = Setup { seed, ..broken.clone() };
        let script = raft.generate(&broken).unwrap().script;
        let whole = Setup { seed, ..Setup::default() };
        let rows = compare(&[(raft, broken), (raft, whole)], &script).unwrap();
        assert_eq!(Some(0), rows[1].lost);
        rows[0].lost.filter(|&lost| lost > 0)
    });
    assert!(row.is_some());
}
