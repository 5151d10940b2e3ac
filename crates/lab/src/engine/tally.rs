//! What is counted in a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::process::RequestId;

/// What is counted in a run. Messages to oneself are not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that left.
    pub sent: u64,
    /// Messages that left, by their kind.
    pub sent_by_kind: BTreeMap<String, u64>,
    /// Messages that arrived. A message that arrives twice counts twice; those to oneself count.
    pub delivered: u64,
    /// Messages that were lost.
    pub lost: u64,
    /// Messages that arrive twice.
    pub duplicated: u64,
    /// Writes to disks.
    pub persisted: u64,
    /// Decisions, of all processes.
    pub decided: u64,
    /// Requests of clients, and when they were made, in microseconds.
    pub asked: BTreeMap<RequestId, u64>,
    /// The first reply to each.
    pub replied: BTreeMap<RequestId, Replied>,
}

/// The reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replied {
    /// How long it took, in microseconds.
    pub after_us: u64,
    /// How many messages, one after the other, led to it: the length of the chain that ends in the reply. A
    /// timer goes on with the chain it was set in, so this says little about replies that waited for one.
    pub messages: u64,
}

impl Tally {
    pub(super) fn asked(&mut self, id: RequestId, at_us: u64) {
        self.asked.insert(id, at_us);
    }

    pub(super) fn replied(&mut self, id: RequestId, at_us: u64, messages: u64) {
        if let Some(asked_us) = self.asked.get(&id) {
            let replied = Replied { after_us: at_us.saturating_sub(*asked_us), messages };
            self.replied.entry(id).or_insert(replied);
        }
    }

    pub(super) fn sent(&mut self, kind: &'static str) {
        self.sent += 1;
        if let Some(count) = self.sent_by_kind.get_mut(kind) {
            *count += 1;
        } else {
            self.sent_by_kind.insert(kind.to_owned(), 1);
        }
    }

    /// How many messages of this kind left.
    #[must_use]
    pub fn of_kind(&self, kind: &str) -> u64 {
        self.sent_by_kind.get(kind).copied().unwrap_or(0)
    }
}
