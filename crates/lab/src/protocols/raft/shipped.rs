//! Raft over the crate that ships.

use ::raft as core;

#[path = "adapter.rs"]
pub mod adapter;
#[path = "observer.rs"]
pub mod observer;
#[path = "rules.rs"]
mod rules;
#[path = "words.rs"]
mod words;

fn breaks(_config: &mut core::Config, _setup: &crate::protocol::Setup) {}
