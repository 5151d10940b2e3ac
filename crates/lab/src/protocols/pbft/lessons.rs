//! Runs by hand. Every message takes one millisecond, so cuts fall between known messages.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, Conduct, End, Script, Weather, What, When};

/// The first client, with four replicas.
const CLIENT: usize = 4;

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

pub(super) fn three_phases() -> Run {
    by_hand(vec![at_us(0, write(CLIENT, 7))], 50)
}
