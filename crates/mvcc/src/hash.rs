//! Hashes by which members find out that they differ.
//!
//! They cover what can be asked for ([`crate::history`]) and nothing of how it is stored, so
//! members agree whatever their checkpoints and collections have done. Every part is preceded
//! by its length; the sum is CRC-32C, which finds accidents, not forgeries.

use crate::error::ReadError;
use crate::events::Events;
use crate::history::History;
use crate::types::Revision;
use crate::view::View;

/// A hash of the keys, and what it covers: what etcd answers to `HashKV`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash. Comparable with another of the same `revision` and `compacted` only.
    pub hash: u32,
    /// The newest revision covered.
    pub revision: Revision,
    /// The compacted revision of the view: `Revision(0)` before any compaction.
    pub compacted: Revision,
}

#[derive(Default)]
struct Hasher {
    sum: u32,
}

impl Hasher {
    fn number(&mut self, number: u64) {
        self.sum = crc32c::crc32c_append(self.sum, &number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.sum = crc32c::crc32c_append(self.sum, bytes);
    }
}

impl View {
    /// Hashes all versions that can be read at some revision from [`View::compacted`] to `at`.
    /// Reads everything: it takes its time, and stands in nobody's way.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn hash_kv(&self, at: Revision) -> Result<KvHash, ReadError> {
        self.check(at)?;
        let mut hasher = Hasher::default();
        self.hash_history(at, &mut hasher)?;
        Ok(KvHash { hash: hasher.sum, revision: at, compacted: self.compacted() })
    }

    /// Hashes everything the view shows: versions, the order of changes, meta keys, revisions.
    /// Two members at the same applied entry have the same.
    ///
    /// # Errors
    /// The engine's.
    pub fn hash(&self) -> Result<u32, ReadError> {
        let mut hasher = Hasher::default();
        hasher.number(self.revision().0.cast_unsigned());
        hasher.number(self.compacted().0.cast_unsigned());
        hasher.number(self.live_keys());
        self.hash_history(self.revision(), &mut hasher)?;
        let mut events = Events::new(self.levels(), self.compacted(), self.revision());
        while let Some(commit) = events.next_keys()? {
            hasher.number(commit.revision.0.cast_unsigned());
            for change in &commit.changes {
                hasher.bytes(&change.key);
                hasher.number(u64::from(change.deleted));
            }
        }
        for row in self.meta_scan(b"")? {
            let (key, value) = row?;
            hasher.bytes(&key);
            hasher.bytes(&value);
        }
        Ok(hasher.sum)
    }

    fn hash_history(&self, at: Revision, hasher: &mut Hasher) -> Result<(), ReadError> {
        let mut history = History::new(self.levels(), self.compacted(), at)?;
        while let Some(found) = history.next()? {
            hasher.bytes(&found.key);
            hasher.number(found.revision.0.cast_unsigned());
            hasher.bytes(found.record.as_ref().map_or(&[], |record| &record.encoded));
        }
        Ok(())
    }
}
