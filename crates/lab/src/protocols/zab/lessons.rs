//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages. At first n2 leads.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What};

const A: u64 = 1;
const B: u64 = 2;
const C: u64 = 4;
const D: u64 = 8;

fn by_hand(acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("zab", 3, script)
}

fn write(ms: u64, node: usize, value: u64) -> Act {
    Act::at_ms(ms, What::Client { node: NodeId(node), op: "write".to_owned(), args: vec![value] })
}

fn alone(ms: u64, node: usize) -> Act {
    Act::at_ms(ms, What::Split(vec![NodeId(node)]))
}

fn crash(ms: u64, node: usize) -> Act {
    Act::at_ms(ms, What::Crash(NodeId(node)))
}

fn restart(ms: u64, node: usize) -> Act {
    Act::at_ms(ms, What::Restart(NodeId(node)))
}

fn cut(ms: u64, from: usize, to: usize) -> Act {
    Act::at_ms(ms, What::Cut { from: NodeId(from), to: NodeId(to) })
}

pub(super) fn four_phases() -> Run {
    by_hand(vec![write(30, 2, A), write(30, 0, B)], 60)
}

pub(super) fn dies_before_commit() -> Run {
    let acts = vec![
        // Its proposal is accepted by n0, and does not reach n1. Nobody is told that it is committed.
        cut(30, 2, 1),
        write(30, 2, A),
        crash(32, 2),
        Act::at_ms(40, What::Heal),
        write(300, 1, B),
        restart(320, 2),
    ];
    by_hand(acts, 400)
}

pub(super) fn old_leader_truncates() -> Run {
    let acts = vec![
        // n2 is alone, and does not know it yet.
        alone(30, 2),
        write(31, 2, A),
        // n0 and n1 have another leader.
        write(300, 0, B),
        Act::at_ms(400, What::Heal),
        write(450, 2, C),
    ];
    by_hand(acts, 500)
}

pub(super) fn latest_not_longest() -> Run {
    let acts = vec![
        alone(30, 2),
        write(31, 2, A),
        write(32, 2, B),
        write(33, 2, C),
        // n0 and n1 commit one transaction in epoch 2.
        write(300, 1, D),
        crash(400, 0),
        crash(400, 1),
        Act::at_ms(400, What::Heal),
        restart(410, 1),
    ];
    by_hand(acts, 500)
}

/// Figure 1 of the paper, as far as Zab goes along.
pub(super) fn primary_order() -> Run {
    let acts = vec![
        // The first primary, n2, has A and B outstanding. Both reach nobody else.
        alone(30, 2),
        write(31, 2, A),
        write(31, 2, B),
        // The second primary, n1, is elected by n0. C reaches nobody else.
        alone(300, 1),
        write(301, 1, C),
        // The third one hears of all three.
        crash(500, 0),
        Act::at_ms(500, What::Heal),
        write(700, 2, D),
    ];
    by_hand(acts, 800)
}

pub(super) fn why_epochs() -> Run {
    let acts = vec![
        Act::at_ms(30, What::Pause(NodeId(2))),
        write(31, 2, A),
        write(300, 1, B),
        // n2 goes on as if nothing had happened, and broadcasts A.
        Act::at_ms(310, What::Resume(NodeId(2))),
    ];
    by_hand(acts, 600)
}
