//! Raft over the same sources, with the known mistakes compiled in.
#![expect(clippy::duplicate_mod, reason = "the same adapter over both: see the module above")]

use ::raft_mutants as core;

#[path = "adapter.rs"]
pub mod adapter;
#[path = "observer.rs"]
pub mod observer;
#[path = "rules.rs"]
mod rules;
#[path = "words.rs"]
mod words;

fn breaks(config: &mut core::Config, setup: &crate::protocol::Setup) {
    config.mutant =
        super::MUTANTS.iter().find(|(name, _)| setup.broken(name)).map(|&(_, mutant)| mutant);
}
