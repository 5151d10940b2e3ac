//! What the tests of the crate share.

#![allow(dead_code, reason = "no test uses all of it")]

use std::sync::Arc;

use bytes::Bytes;
use mvcc::engine::Engine;
use mvcc::{Batch, Change, Commit, Record, Revision, State};

/// A new version of a key, `create` and `version` given.
pub(crate) fn put(key: &[u8], create: i64, revision: i64, version: i64, value: &[u8]) -> Change {
    let record = Record::new(key, Revision(create), Revision(revision), version, value, None);
    Change { key: Bytes::copy_from_slice(key), record: Some(record) }
}

/// Applies the changes at the next revision and the next index.
pub(crate) fn apply<E: Engine>(state: &mut State<E>, changes: Vec<Change>) {
    let revision = state.revision().next();
    let commit = Some(Arc::new(Commit { revision, changes }));
    state.apply(Batch { index: state.applied().index + 1, term: 1, commit, ..Batch::default() });
}

/// Writes a whole checkpoint.
pub(crate) fn checkpoint<E: Engine>(state: &mut State<E>) {
    let job = state.freeze().expect("there is something to write and no other job");
    drop(state.finish(job.run().expect("the engine works")));
}
