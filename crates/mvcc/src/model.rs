//! The main test of the crate: random histories against a model that cannot be wrong.
//!
//! The [`oracle`] keeps every entry of the log and answers each question by looking through all
//! of them. The [`world`] drives a real state through commits, meta keys, compactions, jobs
//! that are run late or break off in the middle, crashes, replays and views that are held over
//! all of it, and compares every answer. Sizes are tiny, so that every row is split, every
//! checkpoint may take several writes and every key collides with its neighbours.
//!
//! [`Mutant`](crate::mutant::Mutant)s are the test of the test: each breaks one line of the
//! crate, and must be noticed.

mod load;
mod oracle;
mod world;

use hunt::Hunt;

use crate::mutant::{self, Mutant};
use world::World;

/// Seeds of one run, unless `QUORATE_SEEDS` says how many, and steps of a seed.
const SEEDS: u64 = 300;
const STEPS: usize = 120;
/// Seeds within which a mutant must have been noticed.
const MUTANT_SEEDS: u64 = 3_000;

fn run(seed: u64) -> world::Seen {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.check_everything();
    world.seen
}

#[test]
fn random_histories_read_as_the_model_says() {
    let mut seen = world::Seen::default();
    let seeds = std::env::var("QUORATE_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        seen.add(&run(seed));
    }
    seen.assert_complete();
}

/// The known way to get it wrong that a mutant stands for.
fn way(mutant: Mutant) -> Option<u8> {
    match mutant {
        Mutant::MarkTooEarly | Mutant::MarkBefore | Mutant::MarkAfter => Some(12),
        Mutant::ImportUnmarked | Mutant::ImportOverOld => Some(15),
        _ => None,
    }
}

#[test]
fn every_mutant_is_caught() {
    let mut hunt = Hunt::new("mvcc");
    for mutant in Mutant::ALL {
        hunt.mutant(mutant, way(mutant), 0..MUTANT_SEEDS, |seed, mutant| {
            let _on = mutant.map(mutant::switch_on);
            run(seed);
            Ok(())
        });
    }
    hunt.end();
}
