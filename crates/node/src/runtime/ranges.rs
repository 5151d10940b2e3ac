//! The ranges beside the dense one, on disk: founded with the cluster, found again at a start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use env::RealDisk;
use raft::{GroupId, Membership, Raft, ReplicaId};
use storage::log::{Log, RecoveredGroup};
use storage::{DataDir, EngineOptions};
use store::RangeId;

use super::start::StartError;
use crate::Engine;
use crate::boot;
use crate::config::Config;
use crate::core::RangesConfig;
use crate::engines::EnginesError;

/// The most ranges that a member is founded with. So many replicas that do nothing take about
/// two gigabytes.
pub(crate) const RANGES_MAX: u64 = 1_000_000;

/// What is remembered of a range's entries in memory, at most: there are many ranges.
const RECENT_BYTES_MAX: usize = 256 << 10;
/// Its proposals under way, if two of the longest do not take more.
const UNCOMMITTED_BYTES_MAX: usize = 4 << 20;
/// Entries under way to a follower: a member that was away is sent those of many ranges at once.
const INFLIGHT_BYTES_MAX: usize = 1 << 20;
/// Its first keys have room for so many powers of 2.
pub(super) const FRONT_ROOT_BITS: u32 = 4;

/// What was on disk of the ranges beside the dense one.
pub(super) struct RangesFound {
    pub(super) config: RangesConfig<Engine>,
    pub(super) rafts: Vec<(RangeId, Raft)>,
}

/// Where their engine is.
pub(super) fn engine_dir(data: &DataDir<RealDisk>) -> PathBuf {
    data.path().join("ranges")
}

fn open(dir: &Path, config: &Config) -> Result<Arc<Engine>, StartError> {
    let options = EngineOptions { cache_bytes: config.engine_cache_bytes };
    let engine = Engine::open(RealDisk, dir, options);
    let engine = engine.map_err(|error| EnginesError::Engine { path: dir.to_owned(), error });
    Ok(Arc::new(engine?))
}

/// Founds as many as the settings ask for, if they ask for any.
pub(super) fn found(
    config: &Config,
    data: &DataDir<RealDisk>,
    members: Membership,
) -> Result<(), StartError> {
    if config.ranges == 0 {
        return Ok(());
    }
    let engine = open(&engine_dir(data), config)?;
    let ranges = boot::Ranges { count: config.ranges, membership: members };
    Ok(ranges.found(&engine)?)
}

/// Finds them again. `None` if this cluster was founded without any, or this member joined later.
pub(super) fn restore(
    config: &Config,
    data: &DataDir<RealDisk>,
    log: &mut Log<RealDisk>,
    groups: &mut BTreeMap<GroupId, RecoveredGroup>,
    raft_config: &raft::Config,
    machine: &etcd::Config,
) -> Result<Option<RangesFound>, StartError> {
    let dir = engine_dir(data);
    if !dir.exists() {
        if config.ranges > 0 {
            tracing::warn!("ranges are made when a cluster is founded, not later: there are none");
        }
        return Ok(None);
    }
    let engine = open(&dir, config)?;
    let Some(ranges) = boot::Ranges::read(&engine)? else { return Ok(None) };
    if config.ranges != 0 && config.ranges != ranges.count {
        tracing::warn!(
            count = ranges.count,
            "the cluster was founded with another number of ranges"
        );
    }
    let limits =
        mvcc::Limits { front_root_bits: FRONT_ROOT_BITS, ..super::start::mvcc_limits(config) };
    let restored = ranges.restore(log, groups, &engine, limits)?;
    let shared = Arc::new(raft::Config {
        recent_bytes_max: RECENT_BYTES_MAX,
        // Else an entry of the longest would have to wait for a moment without any other.
        uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX.max(2 * machine.limits.effects_bytes_max),
        inflight_bytes_max: INFLIGHT_BYTES_MAX.min(raft_config.inflight_bytes_max),
        ..raft_config.clone()
    });
    let mut rafts: Vec<(RangeId, Raft)> = Vec::with_capacity(restored.len());
    for (range, restored) in restored {
        let seed = raft_config.seed ^ range.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut raft = Raft::sharing(Duration::ZERO, Arc::clone(&shared), seed, restored)
            .map_err(|error| StartError::Damaged(format!("range {}: {error}", range.0)))?;
        // All have the members that founded the cluster.
        if let Some((_, first)) = rafts.first() {
            raft.share_membership(first);
        }
        rafts.push((range, raft));
    }
    tracing::info!(count = rafts.len(), "ranges beside the dense one");
    let requests_max = config.range_requests_max;
    let config = RangesConfig { engine, limits, machine: machine.clone(), requests_max };
    Ok(Some(RangesFound { config, rafts }))
}

/// The members as a range begins with them.
pub(super) fn membership(members: &[etcd::FoundingMember]) -> Result<Membership, StartError> {
    let replicas: Vec<ReplicaId> = boot::replicas(members)?;
    Ok(Membership::of_voters(replicas))
}
