//! The hub against a client that knows the whole history, and single cases.

mod cases;
mod client;
mod world;

use hunt::Hunt;

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

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("watch");
    for mutant in Mutant::ALL {
        hunt.mutant(mutant, None, 0..100, |seed, mutant| {
            let _on = mutant.map(mutant::switch_on);
            World::new(seed).run(STEPS);
            Ok(())
        });
    }
    hunt.end();
}

#[test]
fn the_same_seed_tells_the_same() {
    for seed in 0..5 {
        assert_eq!(World::new(seed).run(STEPS).trace, World::new(seed).run(STEPS).trace);
    }
}
