//! What is applied and not yet checkpointed.
//!
//! A memtable holds the commits of a stretch of revisions: every commit under its revision, and
//! for every version of a key a pointer into the commit, so that a version is stored once. Beside
//! them the meta keys, stamped with the number of the batch that wrote them. The writer inserts
//! and then publishes; see [`crate::chain`] for why that needs no lock.

use std::ops::Bound::Included;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;

use crate::chain::ChainMap;
use crate::mutant::{self, Mutant};
use crate::types::{Commit, Record, Revision};

/// Bytes of memory a change takes beside its key and its encoding: the commit and its place by
/// revision, the change, the version in its chain, what an allocator adds. Measured, for
/// [`Memtable::bytes`].
const CHANGE_OVERHEAD_BYTES: usize = 400;

/// The same for the first version of a key, whose place by order and by hash comes on top.
const KEY_OVERHEAD_BYTES: usize = 272;

/// The same for a version of a meta key.
const META_OVERHEAD_BYTES: usize = 160;

/// Size of the root of the index of meta keys, as a power of 2: they are few.
const META_ROOT_BITS: u32 = 6;

/// Where a version of a key is: a change of a commit.
pub(crate) struct Slot {
    commit: Arc<Commit>,
    position: u32,
}

impl Slot {
    pub(crate) fn revision(&self) -> Revision {
        self.commit.revision
    }

    /// The version; `None` is a tombstone.
    pub(crate) fn record(&self) -> Option<&Record> {
        self.commit.changes[self.position as usize].record.as_ref()
    }

    /// Whether the same commit deleted the key just before it wrote this version, so that there
    /// was one before even if this is version 1.
    pub(crate) fn follows_deletion(&self) -> bool {
        let changes = &self.commit.changes[..=self.position as usize];
        matches!(changes, [.., before, this] if before.record.is_none() && before.key == this.key)
    }
}

/// The table. See the module.
pub(crate) struct Memtable {
    pub(crate) versions: ChainMap<Slot>,
    pub(crate) meta: ChainMap<Option<Bytes>>,
    commits: SkipMap<Revision, Arc<Commit>>,
    bytes: AtomicUsize,
}

/// The stamp of a revision in a chain.
pub(crate) fn stamp(revision: Revision) -> u64 {
    assert!(revision.0 >= 0, "revisions are never negative");
    revision.0.cast_unsigned()
}

impl Memtable {
    /// `root_bits`: how many users' keys the index is made for from the beginning, as a power of 2.
    pub(crate) fn new(root_bits: u32) -> Self {
        Self {
            versions: ChainMap::new(root_bits),
            meta: ChainMap::new(root_bits.min(META_ROOT_BITS)),
            commits: SkipMap::new(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Inserts a commit; returns by how many the live keys grew.
    pub(crate) fn insert(&self, commit: &Arc<Commit>) -> i64 {
        let stamp = stamp(commit.revision);
        let mut grown = 0;
        let mut bytes = 0;
        for (position, change) in commit.changes.iter().enumerate() {
            let position = u32::try_from(position).expect("a commit has far fewer changes");
            bytes += CHANGE_OVERHEAD_BYTES;
            match &change.record {
                Some(record) => {
                    assert_eq!(record.mod_revision, commit.revision, "a change of another commit");
                    grown += i64::from(record.version == 1);
                    bytes += record.encoded.len();
                }
                None if self.has_version(&change.key, stamp)
                    && !mutant::on(Mutant::CountDeletesTwice) =>
                {
                    continue;
                }
                None => {
                    grown -= 1;
                    bytes += change.key.len();
                }
            }
            let slot = Slot { commit: Arc::clone(commit), position };
            if self.versions.insert(&change.key, stamp, slot) {
                bytes += KEY_OVERHEAD_BYTES;
            }
        }
        self.commits.insert(commit.revision, Arc::clone(commit));
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        grown
    }

    fn has_version(&self, key: &[u8], at: u64) -> bool {
        self.versions.get(key, at, |slot| stamp(slot.revision()) == at) == Some(true)
    }

    pub(crate) fn insert_meta(&self, key: Bytes, sequence: u64, value: Option<Bytes>) {
        let len = key.len() + value.as_ref().map_or(0, Bytes::len);
        let new = self.meta.insert(&key, sequence, value);
        let key_bytes = if new { KEY_OVERHEAD_BYTES } else { 0 };
        self.bytes.fetch_add(len + META_OVERHEAD_BYTES + key_bytes, Ordering::Relaxed);
    }

    /// The first commit at `from` or after it.
    pub(crate) fn commit_from(&self, from: Revision) -> Option<Arc<Commit>> {
        self.commits.lower_bound(Included(&from)).map(|entry| Arc::clone(entry.value()))
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}
