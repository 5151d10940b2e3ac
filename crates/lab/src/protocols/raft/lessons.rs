//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages. The founders' logs
//! begin after 1@1.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What, When};

fn at_us(us: u64, what: What) -> Act {
    Act { when: When::Us(us), what }
}

fn cut(from: usize, to: usize) -> What {
    What::Cut { from: NodeId(from), to: NodeId(to) }
}

/// A textbook Raft: no pre-vote, no check of the quorum, one entry in an append, writes at once.
fn plain(n: usize, acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("raft", n, script)
        .with("pre_vote", 0)
        .with("check_quorum", 0)
        .with("one_by_one", 1)
        .with("write_us", 0)
}

/// The Raft that ships, in calm weather.
fn calm(n: usize, acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    Run::by_hand("raft", n, Script { weather: Weather::calm(), acts, end, calm_from_us: None })
}

fn write(node: usize, value: u64) -> What {
    What::Client { node: NodeId(node), op: "write".to_owned(), args: vec![value] }
}

pub(super) fn election() -> Run {
    let acts = vec![
        Act::at_ms(1, What::Expire(NodeId(0))),
        Act::at_ms(30, write(0, 1)),
        Act::at_ms(60, What::Crash(NodeId(0))),
        Act::at_ms(400, What::Restart(NodeId(0))),
    ];
    calm(5, acts, 500)
}

pub(super) fn replication() -> Run {
    let mut acts =
        vec![Act::at_ms(1, What::Expire(NodeId(0))), Act::at_ms(20, What::Split(vec![NodeId(2)]))];
    acts.extend((1..=4).map(|nth| Act::at_ms(20 + 10 * nth, write(0, nth))));
    acts.push(Act::at_ms(90, What::Heal));
    calm(3, acts, 200)
}

pub(super) fn figure_8() -> Run {
    let (n0, n4) = (NodeId(0), NodeId(4));
    let mut acts = vec![
        // (a) n0 leads term 2; its entry 2@2 reaches n1 only.
        at_us(1_000, What::Expire(n0)),
        at_us(2_500, cut(0, 2)),
        at_us(2_500, cut(0, 3)),
        at_us(2_500, cut(0, 4)),
        at_us(10_000, What::Crash(n0)),
        // (b) n4 leads term 3, elected by n2 and n3; its entry 2@3 reaches nobody.
        at_us(11_000, What::Expire(n4)),
    ];
    acts.extend((1..4).map(|to| at_us(12_500, cut(4, to))));
    acts.extend([
        at_us(20_000, What::Crash(n4)),
        // (c) n0 leads term 4, at the second attempt, and copies 2@2 to n2: it is on a majority.
        at_us(20_000, What::Heal),
        at_us(20_000, What::Restart(n0)),
        at_us(21_000, What::Expire(n0)),
        at_us(25_000, What::Expire(n0)),
        at_us(27_500, cut(0, 3)),
        at_us(31_500, cut(0, 2)),
        at_us(31_500, cut(0, 1)),
        // (d) n4 leads term 5, at the second attempt, elected by n2 and n3, and overwrites 2@2 by 2@3.
        at_us(40_000, What::Crash(n0)),
        at_us(40_000, What::Heal),
        at_us(40_000, What::Restart(n4)),
        at_us(41_000, What::Expire(n4)),
        at_us(45_000, What::Expire(n4)),
    ]);
    // The mistake alone is not the harm: on to the entry that is lost.
    plain(5, acts, 80).watching("leader-completeness")
}

/// D. Ongaro, *bug in single-server membership changes*, raft-dev, 2015; for a Raft that changes its membership
/// with the delivery of a change and not with its append.
pub(super) fn change_too_soon() -> Run {
    let (n0, n1, n2) = (NodeId(0), NodeId(1), NodeId(2));
    let ask = |node, op: &str, arg| What::Client { node, op: op.to_owned(), args: vec![arg] };
    let acts = vec![
        // n0 leads term 2. Its change 3@2, without n4, reaches n1 only.
        at_us(1_000, What::Expire(n0)),
        at_us(9_000, cut(0, 2)),
        at_us(9_000, cut(0, 3)),
        at_us(9_000, cut(0, 4)),
        at_us(10_000, ask(n0, "remove", 4)),
        // n1 leads term 3, and is asked for another change before its own entry 4@3 is committed.
        at_us(15_000, What::Heal),
        at_us(16_000, What::Expire(n1)),
        at_us(17_500, cut(1, 3)),
        at_us(17_500, cut(1, 4)),
        at_us(18_500, ask(n1, "remove", 3)),
        // Both changes are on n0, n1 and n2: a majority of five. n2 does not hear that they are committed.
        at_us(21_500, cut(1, 2)),
        // To n0 and n1 the group is n0, n1, n2 by now: they commit a value by themselves.
        at_us(25_000, ask(n1, "write", 7)),
        // To n2 it still is all five: it is elected by n2, n3 and n4, who have not heard of the value.
        at_us(29_000, What::Split(vec![n0, n1])),
        at_us(30_000, What::Expire(n2)),
    ];
    plain(5, acts, 60).with("one_by_one", 0)
}
