//! What is applied and not yet checkpointed.
//!
//! A memtable holds the commits of a stretch of revisions: every commit under its revision, and
//! for every key it touches a pointer to the commit, so that a version is stored once. Beside
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

/// Bytes of memory a change takes beside its key and its encoding: two skip list nodes, the
/// commit, the change, reference counts. An estimate for [`Memtable::bytes`], from measurement.
const CHANGE_OVERHEAD_BYTES: usize = 320;

/// The same for a meta key.
const META_OVERHEAD_BYTES: usize = 160;

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
    pub(crate) fn new() -> Self {
        Self {
            versions: ChainMap::new(),
            meta: ChainMap::new(),
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
            self.versions.insert(change.key.clone(), stamp, slot);
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
        self.bytes.fetch_add(len + META_OVERHEAD_BYTES, Ordering::Relaxed);
        self.meta.insert(key, sequence, value);
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
