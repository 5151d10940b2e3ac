//! The tests of the core from outside: what drives it is this folder, what is driven is the
//! public API.
//!
//! - `simulation`: whole clusters from a seed, every safety property after every event.
//! - `mutants`: the simulation on code that is broken on purpose.
//! - `paper`: sentences of the paper and the thesis, by section.
//! - `golden`: scripts in `tests/golden`, a command and the trace it leaves.
//! - `regressions`: known ways to get it wrong, by name.

mod checks;
mod dice;
mod mutants;
mod simulation;
mod world;
