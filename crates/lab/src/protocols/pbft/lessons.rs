//! Runs by hand, with four replicas and two clients. Every message takes one millisecond, so cuts fall between
//! known messages.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, Conduct, End, Script, Weather, What, When};

/// The clients.
const ONE: usize = 4;
const OTHER: usize = 5;

/// Lies by their numbers in [`super::forge`]: the other request to processes of even places; another request in
/// a new-view, another result in a reply; nothing.
const TO_EVEN: u64 = 1;
const ANOTHER: u64 = 3;
const SILENCE: u64 = 8;

fn by_hand(acts: Vec<Act>, end_ms: u64) -> Run {
    let end = End { events: 20_000, at_us: end_ms * 1000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: Some(0) };
    Run::by_hand("pbft", 4, script)
}

fn write(client: usize, value: u64) -> What {
    What::Client { node: NodeId(client), op: "write".to_owned(), args: vec![value] }
}

fn at_us(us: u64, what: What) -> Act {
    Act { when: When::Us(us), what }
}

fn lies(node: usize, lies: Vec<u64>) -> Act {
    at_us(0, What::Traitor { node: NodeId(node), conduct: Conduct::Script(lies) })
}

pub(super) fn three_phases() -> Run {
    by_hand(vec![at_us(0, write(ONE, 7))], 50)
}

pub(super) fn silent_primary() -> Run {
    let silent = What::Traitor { node: NodeId(0), conduct: Conduct::Silent };
    by_hand(vec![at_us(0, silent), at_us(0, write(ONE, 7))], 500)
}

pub(super) fn equivocating_primary() -> Run {
    // In each round of messages: the truth to n1, the other request to n2, nothing to n3.
    let rounds = [[0, TO_EVEN, SILENCE]; 4].concat();
    let acts = vec![lies(0, rounds), at_us(0, write(ONE, 1)), at_us(0, write(OTHER, 2))];
    by_hand(acts, 500)
}

/// All have prepared to write 1; the commits reach n3 only, and nobody hears from it that it executed. Then n0
/// stops for a while, and the client for ever.
fn only_n3_executed() -> Vec<Act> {
    let mut acts = vec![at_us(0, write(ONE, 1))];
    for from in NodeId::all(4) {
        let others = NodeId::all(3).filter(|&to| to != from);
        acts.extend(others.map(|to| at_us(3_500, What::Cut { from, to })));
    }
    acts.push(at_us(3_500, What::Cut { from: NodeId(3), to: NodeId(ONE) }));
    acts.push(at_us(5_500, What::Heal));
    acts.push(at_us(5_500, What::Pause(NodeId(0))));
    acts.push(at_us(5_500, What::Pause(NodeId(ONE))));
    acts.push(at_us(6_000, write(OTHER, 2)));
    acts
}

pub(super) fn carried_over() -> Run {
    by_hand(only_n3_executed(), 300)
}

pub(super) fn lying_new_primary() -> Run {
    let mut acts = only_n3_executed();
    // To three each: prepare, commit and view-change, which are the truth, and the new-view. Before the view
    // change it hands on a request, and in the end it is silent.
    let lie = [vec![0; 3 + 3 + 1 + 3], vec![ANOTHER; 3], vec![SILENCE; 1_000]].concat();
    acts.push(lies(1, lie));
    acts.push(at_us(100_000, What::Resume(NodeId(0))));
    by_hand(acts, 1_000)
}

pub(super) fn false_reply() -> Run {
    // Pre-prepare and commit are the truth.
    let reply = [vec![0; 6], vec![ANOTHER]].concat();
    by_hand(vec![lies(0, reply), at_us(0, write(ONE, 7))], 50)
}
