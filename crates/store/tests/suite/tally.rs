//! How often each kind of thing happened, over many worlds.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(pub(crate) BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// A run in which one of these never happened proves less than it says.
    pub(crate) fn must_have(&self, kinds: &[&str], seeds: u64) {
        for kind in kinds {
            assert!(self.0.contains_key(kind), "{kind} never happened in {seeds} seeds");
        }
    }
}

/// A number from the environment, for more seeds or one to be replayed.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}
