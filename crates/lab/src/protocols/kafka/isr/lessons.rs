//! Runs by hand. Every message takes one millisecond, so cuts and crashes fall between known messages. n0 leads epoch
//! 1 from 2 ms on.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Map, Script, Weather, What, When};

const N0: NodeId = NodeId(0);
const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

fn by_hand(n: usize, weather: Weather, acts: &[(u64, What)], end_ms: u64) -> Run {
    let act = |(us, what): &(u64, What)| Act { when: When::Us(*us), what: what.clone() };
    let end = End { events: 20_000, at_us: end_ms * 1_000 };
    let acts = acts.iter().map(act).collect();
    Run::by_hand("isr", n, Script { weather, acts, end, calm_from_us: None })
}

fn write(node: NodeId, value: u64) -> What {
    What::Client { node, op: "write".to_owned(), args: vec![value] }
}

/// KIP-101, scenario 1, and what comes of it later.
pub(super) fn watermark_is_no_truncation_point() -> Run {
    let acts = [
        (10_000, write(N0, 1)),
        // v2 is on both and acknowledged at 22 ms; that it is below the high watermark is still on its way to n1.
        (20_000, write(N0, 2)),
        (22_500, What::Restart(N1)),
        // n1 knows at 24.5 ms whom it follows. What it then asks is not answered any more.
        (25_000, What::Crash(N0)),
        // n1 leads, and n0, who comes again, holds that v2 is committed.
        (180_000, write(N1, 3)),
        (200_000, What::Restart(N0)),
        (300_000, write(N1, 4)),
    ];
    by_hand(2, Weather::lockstep(), &acts, 400)
}

/// KIP-101, scenario 2.
pub(super) fn power_failure() -> Run {
    let acts = [
        // So that n1 flushes at 80 and 130 ms, and n0 at 50 and 100.
        (30_000, What::Restart(N1)),
        (40_000, write(N0, 1)),
        // v2 is on both, and on the disk of n0 only.
        (90_000, write(N0, 2)),
        (110_000, What::Crash(N0)),
        (110_000, What::Crash(N1)),
        // n1 comes first, and is chosen: it is in the ISR. v2 is lost; nothing else could be asked for.
        (120_000, What::Restart(N1)),
        (250_000, write(N1, 3)),
        (260_000, What::Restart(N0)),
        (350_000, write(N1, 4)),
    ];
    let run = by_hand(2, Weather::lockstep(), &acts, 450);
    run.broken("power-failure").watching("one-lineage")
}

/// KIP-279: an epoch that the other has not heard of.
pub(super) fn two_fast_failovers() -> Run {
    let acts = [
        (10_000, write(N0, 1)),
        (20_000, What::Split(vec![N0, N2])),
        (20_000, What::Mend { from: N1, to: N2 }),
        (20_000, What::Mend { from: N2, to: N1 }),
        // v2, of epoch 1, is at n0 only. n0 restarts, and n1 leads epoch 2.
        (21_000, write(N0, 2)),
        (25_000, What::Restart(N0)),
        // v3, of epoch 2, is at n1 only. n1 restarts, and n0 leads epoch 3.
        (28_000, write(N1, 3)),
        (30_000, What::Restart(N1)),
        (34_000, write(N0, 4)),
        (40_000, What::Heal),
    ];
    by_hand(2, Weather::lockstep(), &acts, 200)
}

pub(super) fn min_insync() -> Run {
    let acts = [
        (10_000, What::Crash(N1)),
        (10_000, What::Crash(N2)),
        // They are still taken to be in sync: it is appended, and cannot be acknowledged.
        (50_000, write(N0, 1)),
        (250_000, write(N0, 2)),
        (300_000, What::Restart(N1)),
        (400_000, write(N0, 3)),
    ];
    by_hand(3, Weather::lockstep(), &acts, 500).with("min_insync", 2)
}

pub(super) fn unclean_election() -> Run {
    let acts = [
        (10_000, What::Crash(N1)),
        // n0 alone is in sync, and with min_insync=1 that is enough.
        (200_000, write(N0, 1)),
        (210_000, What::Crash(N0)),
        (250_000, What::Restart(N1)),
        (600_000, What::Restart(N0)),
    ];
    by_hand(2, Weather::lockstep(), &acts, 800)
}

pub(super) fn slowest_in_sync() -> Run {
    let acts = [
        (50_000, write(N0, 1)),
        (100_000, What::Crash(N2)),
        (110_000, write(N0, 2)),
        (300_000, write(N0, 3)),
    ];
    // n2 is 20 ms there and back from the others; the controller is beside n0.
    let far = vec![vec![0, 0, 20, 0], vec![0, 0, 20, 0], vec![20, 20, 0, 20], vec![0, 0, 20, 0]];
    let weather = Weather { map: Map::RoundTripsMs(far), ..Weather::lockstep() };
    by_hand(3, weather, &acts, 400)
}
