//! The hub against a client that knows the whole history, and single cases.

mod cases;
mod client;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::mutant::{self, Mutant};
use world::{Seen, World};

/// Steps of one run. Enough for several streams to fill, fall behind and recover.
const STEPS: usize = 400;

#[test]
fn what_clients_are_told_is_what_happened() {
    let mut seen = Seen::default();
    for seed in 0..300 {
        seen.add(&World::new(seed).run(STEPS));
    }
    // What never happened was never tested.
    seen.check();
}

/// Finds a seed that shows each mutant, within a number of seeds a run can afford.
#[test]
fn broken_hubs_are_noticed() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let _on = mutant::switch_on(mutant);
        let noticed = (0..100)
            .any(|seed| catch_unwind(AssertUnwindSafe(|| World::new(seed).run(STEPS))).is_err());
        if !noticed {
            missed.push(mutant);
        }
    }
    std::panic::set_hook(hook);
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn the_same_seed_tells_the_same() {
    for seed in 0..5 {
        assert_eq!(World::new(seed).run(STEPS).trace, World::new(seed).run(STEPS).trace);
    }
}
