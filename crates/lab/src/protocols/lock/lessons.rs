//! Runs by hand. Every message takes one millisecond.

use crate::facade::Run;
use crate::process::NodeId;
use crate::script::{Act, End, Script, Weather, What};

fn by_hand(acts: Vec<Act>) -> Run {
    let end = End { events: 20_000, at_us: 500_000 };
    let script = Script { weather: Weather::lockstep(), acts, end, calm_from_us: None };
    Run::by_hand("lock", 4, script)
}

fn write(node: usize, value: u64) -> What {
    What::Client { node: NodeId(node), op: "write".to_owned(), args: vec![value] }
}

fn at_us(us: u64, what: What) -> Act {
    Act { when: crate::script::When::Us(us), what }
}

pub(super) fn paused_holder() -> Run {
    by_hand(vec![
        // Acquire, Granted and Read are through; the contents find n2 asleep.
        at_us(0, write(2, 1)),
        at_us(3_500, What::Pause(NodeId(2))),
        at_us(10_000, write(3, 10)),
        // n2's lease ended at 61 ms, and n3 has been done since 66 ms.
        at_us(100_000, What::Resume(NodeId(2))),
    ])
}

pub(super) fn late_write() -> Run {
    let slow = Weather { delay_us_min: 80_000, delay_us_max: 80_000, ..Weather::lockstep() };
    by_hand(vec![
        at_us(0, write(2, 1)),
        // The write leaves at 4 ms.
        at_us(3_500, What::Weather(slow)),
        at_us(4_500, What::Weather(Weather::lockstep())),
        at_us(10_000, write(3, 10)),
    ])
}
