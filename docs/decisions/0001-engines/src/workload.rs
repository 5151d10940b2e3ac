//! What is written: keys, values and the order of puts, all functions of numbers.
//!
//! Entry `i` of the log is one put, at revision `i + 1`. The first [`Shape::keys`] entries create the keys in
//! order; after them, unless a phase says otherwise, entry `i` overwrites the key [`Shape::id_of`]`(i)`. A
//! value is a function of its key and version. So whoever knows how far a state has got knows what every
//! key must hold, and a process that was killed can be asked.

use std::sync::Arc;

use bytes::Bytes;
use mvcc::{Batch, Change, Commit, KeySpan, Record, Revision};

/// Keys to a namespace, as in a large Kubernetes cluster.
const NAMESPACE_KEYS: u64 = 1000;

/// The size of a workload.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Shape {
    /// Keys, all live.
    #[arg(long)]
    pub(crate) keys: u64,
    /// Bytes of a value.
    #[arg(long)]
    pub(crate) value_bytes: usize,
    /// Of the order of puts, the places of reads and the moments of kills.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// The revision of an entry.
pub(crate) fn revision_of(index: u64) -> Revision {
    Revision(i64::try_from(index).expect("an index of this log") + 1)
}

/// SplitMix64, as a function.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Numbers from a seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mixed(seed))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0) % bound
    }
}

impl Shape {
    /// Bytes of a key and its value: what one put writes in the user's eyes.
    pub(crate) fn put_bytes(&self) -> u64 {
        (self.key(0).len() + self.value_bytes) as u64
    }

    /// The same of all keys.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.put_bytes() * self.keys
    }

    /// 40 bytes, ascending with `id`.
    pub(crate) fn key(&self, id: u64) -> Bytes {
        format!("/registry/pods/ns-{:05}/pod-{id:012}", id / NAMESPACE_KEYS).into()
    }

    /// The keys from `first` on.
    pub(crate) fn span(&self, first: u64, keys: u64) -> KeySpan {
        KeySpan::new(self.key(first), self.key(first + keys))
    }

    /// Which key an entry overwrites.
    pub(crate) fn id_of(&self, index: u64) -> u64 {
        mixed(index ^ mixed(self.seed)) % self.keys
    }

    /// Version `version` of a key, written by entry `index`. Its value has no pattern that could be packed.
    pub(crate) fn record(&self, id: u64, version: u32, index: u64) -> Record {
        let mut value = vec![0; self.value_bytes];
        let mut word = mixed(id ^ (u64::from(version) << 40));
        for chunk in value.chunks_mut(8) {
            // One multiplication a word: the generator is to cost little.
            word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
            chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        }
        let created = revision_of(id + 1);
        let key = self.key(id);
        Record::new(&key, created, revision_of(index), i64::from(version), &value, None)
    }
}

/// The entry that puts one record.
pub(crate) fn entry(index: u64, record: Record) -> Batch {
    let changes = vec![Change { key: record.key(), record: Some(record) }];
    let commit = Some(Arc::new(Commit { revision: revision_of(index), changes }));
    Batch { index, term: 1, commit, ..Batch::default() }
}
