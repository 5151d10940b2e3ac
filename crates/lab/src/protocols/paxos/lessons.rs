//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What};

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;

fn by_hand(n: usize, acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("paxos", n, script)
}

fn write(node: usize, value: u64) -> What {
    What::Client { node: NodeId(node), op: "write".to_owned(), args: vec![value] }
}

fn split(some: &[usize]) -> What {
    What::Split(some.iter().copied().map(NodeId).collect())
}

fn cut(from: usize, to: usize) -> What {
    What::Cut { from: NodeId(from), to: NodeId(to) }
}

fn at_us(us: u64, what: What) -> Act {
    Act { when: crate::script::When::Us(us), what }
}

pub(super) fn highest_not_commonest() -> Run {
    by_hand(
        5,
        vec![
            // A in ballot 1.0: promised by n0, n1 and n2, accepted by n0 and n1 only.
            at_us(0, split(&[0, 1, 2])),
            at_us(0, write(0, A)),
            at_us(2_500, cut(0, 2)),
            // B in ballot 1.4: chosen by n2, n3 and n4.
            at_us(10_000, What::Heal),
            at_us(10_000, split(&[2, 3, 4])),
            at_us(10_000, write(4, B)),
            // n0 again, with n1 and n2. That B was chosen is not told to it.
            at_us(20_000, What::Heal),
            at_us(20_000, split(&[0, 1, 2])),
            at_us(20_000, What::Crash(NodeId(2))),
            at_us(20_000, What::Restart(NodeId(2))),
            at_us(20_500, What::Expire(NodeId(0))),
        ],
        40,
    )
}

pub(super) fn minority_comes_back() -> Run {
    by_hand(
        3,
        vec![
            // A in ballot 1.0: promised by all, accepted by n0 only, who then is gone.
            at_us(0, write(0, A)),
            at_us(1_500, cut(0, 1)),
            at_us(1_500, cut(0, 2)),
            at_us(10_000, What::Crash(NodeId(0))),
            // n0 is back, and n2 is not there: n1 hears of A.
            at_us(20_000, What::Heal),
            at_us(20_000, What::Restart(NodeId(0))),
            at_us(20_000, What::Crash(NodeId(2))),
            at_us(21_000, write(1, B)),
        ],
        40,
    )
}

pub(super) fn mixed_ballots() -> Run {
    by_hand(
        3,
        vec![
            at_us(0, cut(0, 2)),
            at_us(0, cut(2, 0)),
            // A in 1.0, promised by n0 and n1; before n1 can accept it, it promises 1.2.
            at_us(0, write(0, A)),
            at_us(1_000, write(2, B)),
            // n0 does not hear that n1 refused.
            at_us(3_500, cut(1, 0)),
            at_us(9_000, What::Mend { from: NodeId(1), to: NodeId(0) }),
            // It comes again as an acceptor that proposes nothing.
            at_us(9_000, What::Restart(NodeId(0))),
            // B in 1.2: accepted by n2 only.
            at_us(2_500, cut(2, 1)),
            at_us(5_000, cut(1, 2)),
            // n1 hears of A from n0, and proposes it in 2.1: accepted by n1 only.
            at_us(10_000, write(1, C)),
            at_us(11_500, cut(1, 0)),
            // n0 holds A from 1.0, n1 from 2.1. Now n2 hears from n0: B in 1.2 is higher than A in 1.0.
            at_us(20_000, What::Heal),
            at_us(20_000, split(&[1])),
            at_us(20_500, What::Expire(NodeId(2))),
        ],
        40,
    )
}

pub(super) fn duel() -> Run {
    let acts = vec![at_us(0, write(0, A)), at_us(1_000, write(2, B))];
    by_hand(3, acts, 2_000).with("patience_ms", 0)
}

pub(super) fn leader_ends_it() -> Run {
    duel().with("leader", 1)
}
