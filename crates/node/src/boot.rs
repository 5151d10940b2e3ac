//! What a member begins with: a founding state, and a log that fits the state.
//!
//! Over any disk and any engine, so that a simulator restarts its members by the very lines by
//! which real ones restart.

use std::sync::Arc;
use std::time::Duration;

use env::Disk;
use etcd::{FoundingMember, Machine};
use mvcc::engine::Engine;
use raft::{GroupId, HardState, LogPosition, Membership, ReplicaId, Restored};
use storage::Log;
use storage::log::{GroupWrite, RecoveredGroup};

use crate::core::membership_row;
pub use crate::core::stored_membership;

/// Why a member cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Log and state do not fit together, or hold what cannot be.
    #[error("{0}")]
    Damaged(String),
    /// The log cannot be written.
    #[error("{0}")]
    Log(String),
}

fn damaged(error: impl std::fmt::Display) -> BootError {
    BootError::Damaged(error.to_string())
}

/// The members as Raft knows them.
///
/// # Errors
/// [`BootError::Damaged`] if a member has the id 0.
pub fn replicas(members: &[FoundingMember]) -> Result<Vec<ReplicaId>, BootError> {
    let replica = |member: &FoundingMember| {
        ReplicaId::new(member.id).ok_or_else(|| damaged("a member with id 0"))
    };
    members.iter().map(replica).collect()
}

/// Writes the state that all founding members begin with into an empty engine: the members, at
/// index 1 and revision 1. It is durable when this returns.
///
/// # Errors
/// [`BootError::Damaged`] if the engine is not empty, or fails.
pub fn write_founding_state<E: Engine>(
    engine: Arc<E>,
    limits: &etcd::Limits,
    members: &[FoundingMember],
) -> Result<(), BootError> {
    let state = mvcc::State::open(engine).map_err(damaged)?;
    let config = etcd::Config { member_id: 0, limits: limits.clone(), seed: 0 };
    let mut machine = Machine::open(state, config);
    let LogPosition { index, term } = Restored::FOUNDED_AT;
    let effects = Machine::<E>::founding(term.0, members);
    let row = membership_row(&Membership::of_voters(replicas(members)?));
    machine.apply_with(Duration::ZERO, index.0, term.0, &effects, Some(row)).map_err(damaged)?;
    if let Some(job) = machine.state_mut().freeze() {
        let done = job.run().map_err(damaged)?;
        drop(machine.state_mut().finish(done));
    }
    Ok(())
}

/// Fits the log to the state. The state may be ahead: it is written without waiting for this
/// member's log, and a snapshot is the state first and the log's reset second. Then the log
/// begins anew behind it: all that is in the state is committed.
///
/// # Errors
/// [`BootError::Damaged`] if there is a gap between the two; [`BootError::Log`] if the log
/// cannot be begun anew.
pub fn reconcile<D: Disk, E: Engine>(
    log: &mut Log<D>,
    group: GroupId,
    found: RecoveredGroup,
    state: &mvcc::State<E>,
) -> Result<Restored, BootError> {
    let applied = state.applied();
    let applied = LogPosition::new(applied.index, applied.term);
    let membership = stored_membership(&state.view()).map_err(BootError::Damaged)?;
    let mut hard_state = found.hard_state;
    if hard_state.term < applied.term {
        hard_state =
            HardState { term: applied.term, vote: None, commit: applied.index, binding: None };
    }
    hard_state.commit = hard_state.commit.max(applied.index);
    let term_of = |index| {
        let run = found.terms.iter().rev().find(|&&(first, _)| first <= index);
        run.map(|&(_, term)| term)
    };
    let holds = found.last_index >= applied.index
        && (found.truncated == applied || term_of(applied.index) == Some(applied.term));
    let mut restored = Restored {
        hard_state,
        membership,
        truncated: found.truncated,
        terms: found.terms,
        last_index: found.last_index,
        applied: applied.index,
        entries: Vec::new(),
    };
    if !holds {
        if found.truncated.index > applied.index {
            return Err(BootError::Damaged(format!(
                "the log begins after {}, the state ends at {applied}: files are missing",
                found.truncated
            )));
        }
        restored.truncated = applied;
        restored.terms = Vec::new();
        restored.last_index = applied.index;
        let write = GroupWrite {
            reset: Some(applied),
            hard_state: Some(hard_state),
            ..GroupWrite::new(group)
        };
        log.append(&[write]).map_err(|error| BootError::Log(error.to_string()))?;
        log.sync().map_err(|error| BootError::Log(error.to_string()))?;
    }
    restored.hard_state.commit = restored.hard_state.commit.min(restored.last_index);
    Ok(restored)
}
