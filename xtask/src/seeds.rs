//! Whole clusters from seeds that nobody has lived through before.
//!
//! The seeds follow from the commit, so each commit tries others, and a failure comes back with the commit that it
//! belongs to; the simulator prints the seed, too, and the command that replays it.

use anyhow::{Context, Result};

use crate::run::{cargo, program};

/// How many of them, unless `QUORATE_FRESH_SEEDS` says otherwise. From here on the simulator fails a run in which
/// something that it claims to survive never happened.
const COUNT: u64 = 2_000;

/// Lives through the seeds of this commit.
pub(crate) fn fresh() -> Result<()> {
    let count = match std::env::var("QUORATE_FRESH_SEEDS") {
        Ok(text) => text.parse().context("QUORATE_FRESH_SEEDS is a number")?,
        Err(_) => COUNT,
    };
    let first = match program("git", &["rev-parse", "HEAD"]).output() {
        Ok(commit) => first_of(&commit)?,
        Err(error) => {
            println!("not a clone, so seeds begin at 1: {error:#}");
            1
        }
    };
    let seeds = [first.to_string(), "--seeds".to_owned(), count.to_string()];
    cargo(&["run", "--locked", "--package", "quorate-sim", "--", "run", "--first"])
        .args(&seeds)
        .run()
}

/// The first of a commit's seeds.
fn first_of(commit: &str) -> Result<u64> {
    let digits = commit.get(..8).context("a commit has forty digits")?;
    let number = u64::from_str_radix(digits, 16).context("of base 16")?;
    Ok(number * 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_have_seeds_of_their_own() {
        let one = first_of("00000001d809a1f0c2b3d4e5f60718293a4b5c6d\n").unwrap();
        let other = first_of("00000002d809a1f0c2b3d4e5f60718293a4b5c6d\n").unwrap();
        assert!(other - one >= COUNT);
        assert!(
            first_of("ffffffff").is_ok() && first_of("").is_err() && first_of("nonsense").is_err()
        );
    }
}
