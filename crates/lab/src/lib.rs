//! The consensus lab: protocols from their papers, run under faults, checked after every event.
//!
//! Everyone who runs consensus should be able to watch it, break it, and see which rule saved them. Here are
//! small, faithful implementations, each in one module that opens with an essay; one engine that runs them
//! all under the same faults; and, for every protocol, ways to break it on purpose, all of which its checks
//! must catch: that is how we know that the checks work.
//!
//! ```text
//!   process    what a protocol is made of: step(now, input) -> effects
//!   protocol   what it tells about itself, and the rules that are checked after every event
//!   script     what is done to a run, as data          swarm      scripts from seeds
//!   engine     makes a run of a setup and a script     trace      a run written down, for the page
//!   facade     any protocol by its name                story      a run to be read
//!   check, shrink, compare                             many runs
//!   protocols, registry                                the protocols
//! ```
//!
//! A [`Run`](facade::Run) is a protocol, a setup (processes, seed, variants, knobs) and a script, all data:
//! it replays byte for byte, forks at any event, and shrinks to a smallest counterexample.
//!
//! ```
//! use lab::{check, protocol::Setup, registry};
//!
//! let paxos = registry::find("paxos")?;
//! // As in the paper: no rule breaks, whatever breaks around it.
//! let report = check::check(paxos, &Setup::default(), 20)?;
//! assert!(report.found.is_none());
//! // Taking the commonest value in the place of that of the highest ballot: found out.
//! let report = check::check(paxos, &check::setup_of(paxos, "commonest-value")?, 1_000)?;
//! assert_eq!("highest-ballot", report.found.ok_or("not found")?.broken.rule);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Caveats
//!
//! - Checks are of runs, not of all runs: what no seed has shown may still be.
//! - Essays and rules are in their papers' words. Where a paper leaves something open, the module says what
//!   it does.

pub mod check;
pub mod compare;
pub mod dice;
pub mod digest;
pub mod engine;
pub mod facade;
pub mod flp;
pub mod idle;
pub mod process;
pub mod protocol;
pub mod protocols;
pub mod registry;
pub mod script;
pub mod shrink;
pub mod story;
pub mod swarm;
pub mod tax;
pub mod tour;
pub mod trace;
pub mod view;
mod words;
