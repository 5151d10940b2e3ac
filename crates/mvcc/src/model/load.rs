//! The same state out of a list of its versions, with all that compaction has long removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::oracle::Oracle;
use crate::engine::mem::MemEngine;
use crate::{ImportError, Limits, Load, OpenError, State, version_place};

/// Loads everything that ever happened into `engine`.
pub(super) fn load(
    engine: &Arc<MemEngine>,
    limits: Limits,
    oracle: &Oracle,
) -> Result<State<MemEngine>, ImportError> {
    let (revision, compacted) = (oracle.revision(), oracle.compacted());
    let mut load = Load::begin(Arc::clone(engine), limits, revision, compacted)?;
    for (key, value) in oracle.meta().into_iter().rev() {
        load.meta(&key, value)?;
    }
    let mut versions = BTreeMap::new();
    for commit in oracle.log.iter().filter_map(|batch| batch.commit.as_ref()) {
        let changes = commit.changes.iter();
        load.commit(
            commit.revision,
            changes.map(|change| (change.key.clone(), change.record.is_none())).collect(),
        )?;
        for change in &commit.changes {
            let encoded = change.record.as_ref().map(|record| record.encoded.clone());
            versions.insert(version_place(&change.key, commit.revision), encoded);
        }
    }
    let mut live: Vec<Bytes> = Vec::new();
    for (place, encoded) in versions {
        live.extend(load.version(place, encoded)?.map(|record| record.encoded));
    }
    let expected = oracle.live(revision).into_values().map(|record| record.encoded);
    assert_eq!(live, expected.collect::<Vec<_>>(), "the newest versions are given back");
    load.finish(oracle.applied())
}

/// A load that a crash cuts off leaves no state behind. Says whether it was cut off.
pub(super) fn cut_off(
    engine: &Arc<MemEngine>,
    limits: Limits,
    oracle: &Oracle,
    writes: u64,
) -> bool {
    engine.fail_writes_after(Some(writes));
    let failed = load(engine, limits, oracle).is_err();
    engine.fail_writes_after(None);
    if failed {
        let opened = State::open(Arc::clone(engine));
        assert!(matches!(opened, Err(OpenError::ImportUnfinished)));
    }
    failed
}
