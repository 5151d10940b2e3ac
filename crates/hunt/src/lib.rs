//! The hunt for mutants: seeds are tried until a check notices code that is broken on purpose.
//!
//! A check that has never caught anything proves nothing. So each crate has *mutants*: lines that
//! are wrong in a known way, one of them at a time, compiled in for tests only. A *harness* is a
//! test that lives through seeds with one of them and sees whether anything is noticed. What is
//! common to all harnesses is here: the budget, the proof that the mutant is to blame and not the
//! world, the panics (an assertion that fires has noticed, too), and the report.
//!
//! # The report
//!
//! One line a mutant on standard output, its fields parted by tabs; `cargo xtask mutants` runs all
//! harnesses and makes one table of them:
//!
//! ```text
//! mutant <harness> <mutant> <way> caught|survived <seeds> <milliseconds> <what was seen>
//! hunted <harness> <mutants>
//! ```
//!
//! *Way* is the number of the known way to get it wrong (`docs/verification.md`), or `-`. *Seeds*
//! is how many were tried. [`CHOICE`] names the mutants that are wanted; without it, all are.
//!
//! # Caveats
//!
//! - A budget is a number of seeds, not a time: a verdict must not depend on how busy the machine is.
//! - Panics of the hunting thread are silent while a seed is lived through; those of threads that
//!   it starts are not, and are not caught either.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::{Duration, Instant};

/// The environment variable that names the mutants wanted, parted by commas.
pub const CHOICE: &str = "QUORATE_MUTANTS";

/// The most of what was seen that is reported, in characters.
const SEEN_CHARS_MAX: usize = 160;

/// One harness at work.
#[derive(Debug)]
pub struct Hunt {
    harness: &'static str,
    wanted: Option<BTreeSet<String>>,
    hunted: usize,
    survivors: Vec<String>,
}

impl Hunt {
    /// Begins. `harness` is what the table calls it.
    #[must_use]
    pub fn new(harness: &'static str) -> Self {
        let wanted = std::env::var(CHOICE).ok().map(|names| {
            names.split(',').map(|name| name.trim().to_owned()).collect::<BTreeSet<_>>()
        });
        // The test runner may have begun a line with the name of the test.
        println!();
        Self { harness, wanted, hunted: 0, survivors: Vec::new() }
    }

    /// Hunts one mutant through `seeds`. `way` is the known way to get it wrong that it stands
    /// for. `live` lives through a seed, with the mutant or with nothing broken, and says what
    /// was noticed; it may also panic.
    ///
    /// # Panics
    /// If the seed that catches the mutant does not pass with nothing broken: then the world is to
    /// blame.
    pub fn mutant<M: Copy + Debug>(
        &mut self,
        mutant: M,
        way: Option<u8>,
        seeds: impl IntoIterator<Item = u64>,
        mut live: impl FnMut(u64, Option<M>) -> Result<(), String>,
    ) {
        let name = format!("{mutant:?}");
        if self.wanted.as_ref().is_some_and(|wanted| !wanted.contains(&name)) {
            return;
        }
        let begun = Instant::now();
        let mut tried = 0_u64;
        let mut caught = None;
        for seed in seeds {
            tried += 1;
            if let Err(seen) = noticed(|| live(seed, Some(mutant))) {
                caught = Some((seed, seen));
                break;
            }
        }
        let took = begun.elapsed();
        if let Some((seed, _)) = &caught
            && let Err(seen) = noticed(|| live(*seed, None))
        {
            panic!("{name}: with nothing broken, seed {seed} does not pass either: {seen}");
        }
        self.hunted += 1;
        let seen = caught.as_ref().map(|(seed, seen)| format!("seed {seed}: {}", short(seen)));
        println!("{}", self.line(&name, way, tried, took, seen.as_deref()));
        if caught.is_none() {
            self.survivors.push(name);
        }
    }

    fn line(
        &self,
        name: &str,
        way: Option<u8>,
        tried: u64,
        took: Duration,
        seen: Option<&str>,
    ) -> String {
        let way = way.map_or_else(|| "-".to_owned(), |way| way.to_string());
        let verdict = if seen.is_some() { "caught" } else { "survived" };
        let (harness, ms, seen) = (self.harness, took.as_millis(), seen.unwrap_or("-"));
        format!("mutant\t{harness}\t{name}\t{way}\t{verdict}\t{tried}\t{ms}\t{seen}")
    }

    /// Ends.
    ///
    /// # Panics
    /// If a mutant survived, or none was hunted although nobody chose.
    pub fn end(self) {
        println!("hunted\t{}\t{}", self.harness, self.hunted);
        assert!(self.hunted > 0 || self.wanted.is_some(), "nothing was hunted");
        assert!(self.survivors.is_empty(), "nobody noticed {:?}", self.survivors);
    }
}

/// What was said, or what a panic said.
fn noticed(live: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    silence();
    HUNTING.set(true);
    let lived = catch_unwind(AssertUnwindSafe(live));
    HUNTING.set(false);
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a text");
        let said = text.strip_prefix("assertion `left == right` failed: ").unwrap_or(text);
        Err(said.to_owned())
    })
}

thread_local! {
    /// Whether this thread lives through a seed, and its panics are nothing to report.
    static HUNTING: Cell<bool> = const { Cell::new(false) };
}

fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !HUNTING.get() {
                report(panic);
            }
        }));
    });
}

/// All of it on one line, as far as there is room.
fn short(seen: &str) -> String {
    let words = seen.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = words.chars().take(SEEN_CHARS_MAX).collect();
    if short.len() < words.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    struct Wrong;

    fn all(harness: &'static str) -> Hunt {
        Hunt { harness, wanted: None, hunted: 0, survivors: Vec::new() }
    }

    #[test]
    fn an_error_and_a_panic_both_catch() {
        let mut hunt = all("own");
        hunt.mutant(Wrong, Some(1), 1..9, |seed, broken| match broken {
            Some(Wrong) if seed == 3 => Err("seen".to_owned()),
            _ => Ok(()),
        });
        hunt.mutant(Wrong, None, 1..9, |_, broken| {
            assert!(broken.is_none(), "an assertion");
            Ok(())
        });
        assert_eq!(2, hunt.hunted);
        hunt.end();
    }

    #[test]
    #[should_panic(expected = "nobody noticed [\"Wrong\"]")]
    fn a_survivor_fails() {
        let mut hunt = all("own");
        hunt.mutant(Wrong, None, 1..9, |_, _| Ok(()));
        hunt.end();
    }

    #[test]
    #[should_panic(expected = "seed 1 does not pass either: always")]
    fn a_world_that_fails_anyway_is_no_catch() {
        all("own").mutant(Wrong, None, 1..9, |_, _| Err("always".to_owned()));
    }

    #[test]
    #[should_panic(expected = "nothing was hunted")]
    fn an_empty_hunt_fails() {
        all("own").end();
    }

    #[test]
    fn a_line_has_eight_fields_whatever_was_seen() {
        let seen = short("a\tb\nc");
        assert_eq!("a b c", seen);
        let hunt = all("own");
        let line = hunt.line("Wrong", Some(7), 3, Duration::from_millis(20), Some(&seen));
        assert_eq!("mutant\town\tWrong\t7\tcaught\t3\t20\ta b c", line);
        let line = hunt.line("Wrong", None, 9, Duration::ZERO, None);
        assert_eq!("mutant\town\tWrong\t-\tsurvived\t9\t0\t-", line);
        assert_eq!(SEEN_CHARS_MAX + 3, short(&"x".repeat(999)).len());
    }

    #[test]
    fn who_is_not_wanted_is_left_alone() {
        let mut hunt = Hunt { wanted: Some(["Other".to_owned()].into()), ..all("own") };
        hunt.mutant(Wrong, None, 1..9, |_, _| panic!("not to be lived"));
        assert_eq!(0, hunt.hunted);
        hunt.end();
    }
}
