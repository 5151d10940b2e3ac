//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What, When};

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 3;
const D: u64 = 5;

fn by_hand(n: usize, acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("multi-paxos", n, script)
}

/// All is calm from this time on.
fn calm_from(ms: u64, run: Run) -> Run {
    let script = Script { calm_from_us: Some(ms * 1000), ..run.script };
    Run { script, ..run }
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

/// Waits no longer for a leader.
fn expire(node: usize) -> What {
    What::Expire(NodeId(node))
}

fn at_us(us: u64, what: What) -> Act {
    Act { when: When::Us(us), what }
}

pub(super) fn steady_state() -> Run {
    let mut acts = vec![at_us(1_000, expire(0))];
    acts.extend((1..=10).map(|nth| at_us(10_000 + 3_000 * nth, write(0, nth))));
    by_hand(3, acts, 60)
}

pub(super) fn fill_a_gap() -> Run {
    let run = by_hand(
        3,
        vec![
            at_us(1_000, expire(0)),
            // A in slot 1: chosen, and applied by all with the next heartbeat.
            at_us(5_000, write(0, A)),
            // B in slot 2: accepted by n0 only.
            at_us(20_000, split(&[0])),
            at_us(20_000, write(0, B)),
            // C in slot 3: accepted by n0 and n1, so it is chosen.
            at_us(22_000, What::Mend { from: NodeId(0), to: NodeId(1) }),
            at_us(22_000, What::Mend { from: NodeId(1), to: NodeId(0) }),
            at_us(22_000, write(0, C)),
            at_us(25_000, What::Crash(NodeId(0))),
            at_us(26_000, What::Heal),
            at_us(26_000, expire(1)),
            at_us(50_000, What::Restart(NodeId(0))),
        ],
        150,
    );
    calm_from(50, run)
}

pub(super) fn highest_not_commonest() -> Run {
    by_hand(
        5,
        vec![
            // A in ballot 1.0: promised by n0, n1 and n2, accepted by n0 and n1 only.
            at_us(0, split(&[0, 1, 2])),
            at_us(0, write(0, A)),
            at_us(1_000, expire(0)),
            at_us(3_000, cut(0, 2)),
            // B in ballot 1.4: chosen by n2, n3 and n4.
            at_us(10_000, What::Heal),
            at_us(10_000, split(&[2, 3, 4])),
            at_us(10_000, write(4, B)),
            at_us(10_500, expire(4)),
            at_us(14_000, What::Crash(NodeId(4))),
            // n0 begins again, and n0, n1 and n2 hear it.
            at_us(15_000, What::Crash(NodeId(0))),
            at_us(15_000, What::Restart(NodeId(0))),
            at_us(15_000, What::Heal),
            at_us(15_000, split(&[0, 1, 2])),
            at_us(15_500, expire(0)),
        ],
        40,
    )
}

pub(super) fn lagging_replica() -> Run {
    let mut acts = vec![at_us(1_000, expire(0)), at_us(5_000, split(&[2]))];
    acts.extend((1..=6).map(|nth| at_us(5_000 + 3_000 * nth, write(0, nth))));
    acts.push(at_us(40_000, What::Heal));
    calm_from(50, by_hand(3, acts, 100))
}

pub(super) fn candidate_lags() -> Run {
    let mut acts = vec![at_us(1_000, expire(0)), at_us(5_000, split(&[2]))];
    acts.extend((1..=4).map(|nth| at_us(5_000 + 3_000 * nth, write(0, nth))));
    acts.extend([
        // With this heartbeat n1 has heard that all four are chosen.
        at_us(34_500, What::Crash(NodeId(0))),
        at_us(35_000, What::Heal),
        at_us(35_000, write(2, D)),
        at_us(35_500, expire(2)),
        at_us(60_000, What::Restart(NodeId(0))),
    ]);
    calm_from(60, by_hand(3, acts, 150))
}
