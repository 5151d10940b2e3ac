//! Runs by hand. Every message takes one millisecond.

use super::process::{SHARES, Share};
use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What, When};

/// The first key of n0's slots.
fn key_of_n0() -> u64 {
    (1..).find(|&key| Share::of(key) == Share(0)).unwrap_or_default()
}

fn by_hand(acts: Vec<(u64, What)>) -> Run {
    let act = |(ms, what)| Act { when: When::Us(ms * 1_000), what };
    let acts = acts.into_iter().map(act).collect();
    let end = End { events: 20_000, at_us: 1_000_000 };
    // Nothing is promised before all have heard of each other again.
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: Some(500_000) };
    Run::by_hand("gossip", 2 * SHARES, script)
}

fn write(value: u64) -> What {
    What::Client { node: NodeId(0), op: "write".to_owned(), args: vec![value] }
}

pub(super) fn acknowledged_and_lost() -> Run {
    let replica = NodeId(SHARES);
    by_hand(vec![
        (100, What::Cut { from: NodeId(0), to: replica }),
        (101, write(key_of_n0())),
        (102, What::Crash(NodeId(0))),
        (103, What::Heal),
        (400, What::Restart(NodeId(0))),
    ])
}

pub(super) fn minority() -> Run {
    by_hand(vec![(100, What::Split(vec![NodeId(0)])), (120, write(key_of_n0())), (450, What::Heal)])
}

pub(super) fn failover() -> Run {
    by_hand(vec![
        (100, write(key_of_n0())),
        (120, What::Crash(NodeId(0))),
        (400, What::Restart(NodeId(0))),
    ])
}
