//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What, When};

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const N4: NodeId = NodeId(4);

fn by_hand(n: usize, acts: Vec<(u64, What)>, end_ms: u64) -> Run {
    let act = |(us, what)| Act { when: When::Us(us), what };
    let end = End { events: 20_000, at_us: end_ms * 1_000 };
    let acts = acts.into_iter().map(act).collect();
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("kraft", n, script)
}

fn write(node: NodeId, value: u64) -> What {
    What::Client { node, op: "write".to_owned(), args: vec![value] }
}

fn cut(from: usize, to: usize) -> What {
    What::Cut { from: NodeId(from), to: NodeId(to) }
}

pub(super) fn pulled() -> Run {
    by_hand(3, vec![(1_000, What::Expire(N0)), (20_000, write(N0, 1))], 40)
}

pub(super) fn diverging() -> Run {
    let acts = vec![
        (1_000, What::Expire(N0)),
        (20_000, write(N0, 1)),
        (30_000, What::Split(vec![N0])),
        // Of epoch 1, at n0 only.
        (31_000, write(N0, 2)),
        (32_000, write(N0, 3)),
        // A restart, so that n1 waits for nothing but an election.
        (39_000, What::Restart(N1)),
        (40_000, What::Expire(N1)),
        (50_000, write(N1, 4)),
        (60_000, What::Heal),
    ];
    by_hand(3, acts, 120)
}

pub(super) fn resigns() -> Run {
    let acts = vec![
        (1_000, What::Expire(N0)),
        (20_000, What::Split(vec![N0])),
        (30_000, write(N0, 1)),
        (500_000, What::Heal),
        (700_000, write(N0, 2)),
    ];
    by_hand(3, acts, 800)
}

pub(super) fn figure_8() -> Run {
    let mut acts = vec![
        // (a) n0 leads epoch 1; its record reaches n1 only.
        (1_000, What::Expire(N0)),
        (3_500, cut(0, 2)),
        (3_500, cut(0, 3)),
        (3_500, cut(0, 4)),
        (10_000, What::Crash(N0)),
        // (b) n4 leads epoch 2, elected by n2 and n3; its record reaches nobody.
        (11_000, What::Expire(N4)),
    ];
    acts.extend((1..4).map(|to| (13_500, cut(4, to))));
    acts.extend([
        (20_000, What::Crash(N4)),
        // (c) n0 leads epoch 3, at the second attempt. n2 fetches the record of epoch 1: it is on a majority.
        (20_000, What::Heal),
        (20_000, What::Restart(N0)),
        (21_000, What::Expire(N0)),
        (25_000, What::Expire(N0)),
        (28_500, cut(0, 1)),
        (28_500, cut(0, 3)),
        (31_500, cut(0, 2)),
        // (d) n4 leads epoch 4, at the second attempt, elected by n2 and n3, and its record takes the place.
        (40_000, What::Crash(N0)),
        (40_000, What::Heal),
        (40_000, What::Restart(N4)),
        (41_000, What::Expire(N4)),
        (45_000, What::Expire(N4)),
    ]);
    by_hand(5, acts, 100).with("fetch_max", 1)
}
