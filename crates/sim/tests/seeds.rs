//! Seeds, kept plans, and the promise that one seed is one history.
//!
//! `SIM_SEEDS=n` lives through n fresh seeds instead of a few, `SIM_FIRST_SEED=s` begins elsewhere.

use std::path::Path;
use std::process::Command;

use sim::claims;
use sim::climate::RequestWeights;
use sim::{Climate, Plan, Tally, Tell};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The seeds of every run, unless others are asked for: in these every kind of fault and event happens, but for
/// the rare ones, which runs of 10,000 owe.
const SEEDS: u64 = 200;

#[test]
fn seeds_are_clean_and_meet_everything() {
    let (first, seeds) = (number("SIM_FIRST_SEED", 1), number("SIM_SEEDS", SEEDS));
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        let outcome = sim::live(&Plan::draw(seed), Tell::Nothing);
        if let Some(broken) = outcome.broken {
            panic!("seed {seed}: {broken}\nreplay: cargo run -p quorate-sim -- replay {seed}");
        }
        tally.merge(&outcome.tally);
    }
    let owed = match (first, seeds) {
        (1, SEEDS..) => claims::owed(claims::SEEDS_FOR_MOST.max(seeds)),
        _ => claims::owed(seeds),
    };
    let missing = tally.missing(&owed);
    assert!(missing.is_empty(), "these never happened: {missing:?}");
}

/// Entries that hold few keys, and leases with many: they end in parts, whoever leads, and deletions are refused.
#[test]
fn leases_that_no_entry_holds_end_in_parts() {
    let mut tally = Tally::default();
    for seed in 1..=20 {
        let mut climate = Climate::draw(seed);
        climate.effects_bytes_max = Some(200);
        climate.value_bytes_max = 8;
        climate.keys = 100;
        climate.clients = 16;
        climate.requests = 2_000;
        let RequestWeights { put, delete_range, grant, .. } = &mut climate.request_weights;
        (*put, *delete_range, *grant) = (90, 1, 12);
        let outcome = sim::live(&Plan::draw_in(seed, climate), Tell::Nothing);
        if let Some(broken) = outcome.broken {
            panic!("seed {seed}: {broken}");
        }
        tally.merge(&outcome.tally);
    }
    let parts = tally.of("judged: part of a lease's end");
    let refused = tally.of("refused: too large");
    assert!(parts > 20 && refused > 20, "{parts} parts, {refused} refused");
}

/// Plans that once broke a rule: why is in docs/known-bugs.md, under the file's name.
#[test]
fn kept_plans_are_clean() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("kept");
    let mut count = 0;
    for file in std::fs::read_dir(kept).unwrap() {
        let path = file.unwrap().path();
        let plan: Plan = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let outcome = sim::live(&plan, Tell::Nothing);
        if let Some(broken) = outcome.broken {
            panic!("{}: {broken}", path.display());
        }
        assert!(outcome.tally.of("converged") == 1, "{} ran to its end", path.display());
        count += 1;
    }
    assert!(count > 0, "there are kept plans");
}

/// Two processes and this one live through the same history.
#[test]
fn one_seed_is_one_history() {
    let hash = |seed: u64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-sim"));
        let output = command.args(["hash", &seed.to_string()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    for seed in 1..=10 {
        let here = format!("{:016x}", sim::live(&Plan::draw(seed), Tell::Nothing).hash);
        assert_eq!([hash(seed), hash(seed)], [here.clone(), here], "seed {seed}");
    }
}

/// A story is not another history: telling it changes nothing.
#[test]
fn telling_changes_nothing() {
    let plan = Plan::draw(3);
    let quiet = sim::live(&plan, Tell::Nothing);
    let loud = sim::live(&plan, Tell::Everything);
    assert_eq!(quiet.hash, loud.hash);
    assert!(quiet.story.is_empty() && loud.story.len() > 100);
}
