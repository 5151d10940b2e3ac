//! Whole clusters from a seed.
//!
//! Three to seven members run in one process and one thread: the real core, log and state of each
//! (all of `node` but its threads and sockets), over simulated disks, networks, clocks and
//! processes. Clients ask through the real request path; a plan of faults befalls them meanwhile;
//! and after every event the rules are checked. Everything follows from one number.
//!
//! ```text
//!   seed -> Climate -> Plan -> World --- every event ---> check::Rules
//!                                 |                          |
//!                                 '----> Trace (hash, story)  '--> Broken { rule, when }
//! ```
//!
//! - [`climate`]: what the world of a seed is like; each draws another (swarm testing).
//! - [`plan`]: what happens in it, as data: printed, cut down, run again.
//! - [`world`]: the members, and what happens to them.
//! - [`check`]: the rules, which trust nothing of the code under test.
//! - [`judge`]: whether what clients and watchers were told can be true of one store.
//! - [`shrink`]: the smallest plan that still breaks the same rule.
//! - [`bulk`], [`claims`]: many seeds, and what must have happened in them.
//! - [`trace`]: the story, its hash, and all of it as data.
//!
//! # What is real and what is not
//!
//! Real: `node::core` and all below it (raft, store, etcd, mvcc), the log with its files and its
//! recovery, the way a member starts (`node::boot`), the encoding between members. Simulated:
//! the disk under the log, sector by sector ([`env::SimDisk`]); the state engine by its twin in
//! memory, which has passed the same conformance suite; connections, time, processes. Left out:
//! the doors of clients (gRPC; the hub behind them that serves watches is there), and the threads of the runtime, in whose place events are taken
//! in, written and delivered in any order that they could come in.
//!
//! # Caveats
//!
//! - One member is lost for good at a time, by rot or with its disk; another takes its place.
//! - Members of other versions are ours with other frames (`node::versions`): there is no older binary to mix with.
//! - Messages of other hours come when the plan is over: the world sleeps, and wakes to them.
//!
//! Sources: FoundationDB's and TigerBeetle's simulators; Groce et al., "Swarm Testing" (ISSTA
//! 2012); Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).

pub mod bulk;
pub mod check;
pub mod claims;
pub mod climate;
pub mod judge;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod plan;
pub mod shrink;
pub mod tally;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use check::Broken;
pub use climate::Climate;
pub use plan::Plan;
pub use tally::Tally;
pub use trace::Tell;

/// What came of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// The rule that was broken, if one was.
    pub broken: Option<Broken>,
    /// What happened how often.
    pub tally: Tally,
    /// Stands for everything that happened.
    pub hash: u64,
    /// What happened, in words, as far as it was asked for.
    pub story: Vec<String>,
    /// What happened, as data, if it was asked for.
    pub seen: Vec<trace::Happened>,
    /// Simulated time, in microseconds.
    pub simulated_us: u64,
}

/// What is broken on purpose, to see whether a rule notices.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mutants {
    /// Of the consensus core.
    #[cfg(feature = "mutants")]
    pub raft: Option<raft::Mutant>,
    /// Of the log.
    #[cfg(feature = "mutants")]
    pub storage: Option<storage::Mutant>,
    /// Of the core of a member.
    #[cfg(feature = "mutants")]
    pub node: Option<node::Mutant>,
    /// Of the store.
    #[cfg(feature = "mutants")]
    pub store: Option<store::Mutant>,
}

impl Mutants {
    #[cfg_attr(not(feature = "mutants"), expect(clippy::unused_self, reason = "nothing to break"))]
    fn break_raft(self, _config: &mut raft::Config) {
        #[cfg(feature = "mutants")]
        {
            _config.mutant = self.raft;
        }
    }

    #[cfg_attr(not(feature = "mutants"), expect(clippy::unused_self, reason = "nothing to break"))]
    fn break_store(self, _config: &mut store::Config) {
        #[cfg(feature = "mutants")]
        {
            _config.mutant = self.store;
            if let Some(liveness) = &mut _config.liveness {
                liveness.mutant = self.store;
            }
        }
    }
}

/// Lives through a plan.
#[must_use]
pub fn live(plan: &Plan, tell: Tell) -> Outcome {
    live_broken(plan, tell, Mutants::default())
}

/// Lives through a plan with code that is broken on purpose.
#[must_use]
pub fn live_broken(plan: &Plan, tell: Tell, mutants: Mutants) -> Outcome {
    // These are broken for a whole thread.
    #[cfg(feature = "mutants")]
    let _broken = (storage::switch_mutant(mutants.storage), node::switch_mutant(mutants.node));
    let mut world = world::World::new(plan.clone(), tell, mutants);
    let lived = catch_unwind(AssertUnwindSafe(|| world.run()));
    let broken = match lived {
        Ok(lived) => lived.err(),
        Err(panic) => Some(world.panicked(panic.as_ref())),
    };
    world.outcome(broken)
}
