//! The model: the log itself, and answers found by looking through all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Change, Commit, KeySpan, LeaseId, Record, Revision};
use crate::{AppliedMark, Batch};

/// Entries applied so far. A prefix of it is the model of an earlier time.
#[derive(Clone, Default)]
pub(super) struct Oracle {
    pub(super) log: Vec<Batch>,
}

impl Oracle {
    pub(super) fn prefix(&self, len: usize) -> Self {
        Self { log: self.log[..len].to_vec() }
    }

    fn commits(&self) -> impl DoubleEndedIterator<Item = &Arc<Commit>> {
        self.log.iter().filter_map(|batch| batch.commit.as_ref())
    }

    pub(super) fn applied(&self) -> AppliedMark {
        self.log.last().map_or(AppliedMark::default(), |batch| AppliedMark {
            index: batch.index,
            term: batch.term,
        })
    }

    pub(super) fn revision(&self) -> Revision {
        self.commits().last().map_or(Revision(1), |commit| commit.revision)
    }

    pub(super) fn compacted(&self) -> Revision {
        self.log.iter().filter_map(|batch| batch.compact).max().unwrap_or(Revision(0))
    }

    /// All live keys at a revision.
    pub(super) fn live(&self, at: Revision) -> BTreeMap<Bytes, Record> {
        let mut live = BTreeMap::new();
        for commit in self.commits().filter(|commit| commit.revision <= at) {
            for change in &commit.changes {
                match &change.record {
                    Some(record) => live.insert(change.key.clone(), record.clone()),
                    None => live.remove(&change.key),
                };
            }
        }
        live
    }

    pub(super) fn in_span(&self, span: &KeySpan, at: Revision) -> Vec<Record> {
        let live = self.live(at);
        live.into_iter().filter(|(key, _)| span.contains(key)).map(|(_, record)| record).collect()
    }

    pub(super) fn events(&self, from: Revision, to: Revision) -> Vec<Commit> {
        let commits = self.commits().filter(|c| from <= c.revision && c.revision <= to);
        commits.map(|commit| Commit::clone(commit)).collect()
    }

    pub(super) fn meta(&self) -> BTreeMap<Bytes, Bytes> {
        let mut meta = BTreeMap::new();
        for (key, value) in self.log.iter().flat_map(|batch| &batch.meta) {
            match value {
                Some(value) => meta.insert(key.clone(), value.clone()),
                None => meta.remove(key),
            };
        }
        meta
    }

    /// A commit at the next revision that puts and deletes keys as etcd would.
    pub(super) fn commit(&self, puts: &[(Bytes, Bytes)], deletes: &[Bytes]) -> Commit {
        let revision = self.revision().next();
        let live = self.live(self.revision());
        let mut changes = Vec::new();
        for (key, value) in puts {
            let old = live.get(key);
            let create = old.map_or(revision, |old| old.create_revision);
            let version = old.map_or(1, |old| old.version + 1);
            let lease = (value.len() % 3 == 1).then_some(LeaseId(7));
            let record = Record::new(key, create, revision, version, value, lease);
            changes.push(Change { key: key.clone(), record: Some(record) });
        }
        for key in deletes {
            if live.contains_key(key) && puts.iter().all(|(put, _)| put != key) {
                changes.push(Change { key: key.clone(), record: None });
            }
        }
        Commit { revision, changes }
    }
}
