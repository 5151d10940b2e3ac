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
    plain(5, acts, 80)
}
