//! Whole clusters from a seed.
//!
//! `RAFT_SEEDS=n` runs n seeds instead of the usual few hundred, `RAFT_FIRST_SEED=s` begins
//! elsewhere, `RAFT_TRACE=1` with one seed prints everything that happens.

use crate::checks::Broken;
use crate::dice::Dice;
use crate::world::{Climate, Tally, World};

/// Things that happen in a seed before the faults end.
const STEPS: usize = 3_000;

/// The climate of a seed.
pub(crate) fn climate(seed: u64) -> Climate {
    let mut climate = Climate::draw(&mut Dice::new(seed ^ 0x5eed));
    // From dice of their own, so that the rest of a seed's world stays what it was.
    climate.draw_versions(&mut Dice::new(seed ^ 0x7e45));
    climate
}

/// Lives through one seed; returns what happened and a digest of all of it.
pub(crate) fn live(seed: u64, climate: Climate) -> Result<(Tally, u64), Broken> {
    let mut world = World::new(seed, climate);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal_and_converge()?;
    world.rest()?;
    Ok((world.tally, world.trace))
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn every_property_holds_in_every_seed() {
    let first = number("RAFT_FIRST_SEED", 1);
    let count = number("RAFT_SEEDS", 200);
    let mut tally = Tally::default();
    for seed in first..first + count {
        let lived = std::panic::catch_unwind(|| live(seed, climate(seed)));
        let replay = format!(
            "seed {seed}; replay: RAFT_FIRST_SEED={seed} RAFT_SEEDS=1 RAFT_TRACE=1 \
             cargo test -p quorate-raft --test suite every_property"
        );
        match lived {
            Ok(Ok((seen, _))) => tally.merge(&seen),
            Ok(Err(broken)) => panic!("{broken}\n{replay}"),
            Err(_) => panic!("the core panicked\n{replay}"),
        }
    }
    println!("{count} seeds: {:#?}", tally.0);
    if count >= 200 {
        for kind in KINDS {
            assert!(tally.0.contains_key(kind), "{kind} never happened in {count} seeds");
        }
    }
}

/// What must happen somewhere, or the run proves less than it says.
const KINDS: [&str; 32] = [
    "append rejected",
    "at rest",
    "blocked",
    "bound beside a classical replica",
    "bound",
    "conflicting entries overwritten",
    "converged",
    "crash",
    "drop",
    "duplicate",
    "election",
    "fetch for a peer",
    "fetch to apply",
    "freed by its store",
    "joint membership",
    "lease",
    "lease beside a classical replica",
    "membership",
    "partition",
    "proposal",
    "proposal refused",
    "read",
    "read failed",
    "snapshot installed",
    "snapshot lost",
    "straggler",
    "support lapsed",
    "transfer",
    "truncation",
    "upgraded",
    "wiped replica rejoined",
    "writes lost in a crash",
];

#[test]
fn a_seed_determines_everything() {
    for seed in 1..=5 {
        assert_eq!(live(seed, climate(seed)), live(seed, climate(seed)));
    }
}
