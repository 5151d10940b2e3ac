//! `--force-new-cluster`: one member goes on alone, when the majority is lost for good.
//!
//! Whatever is in this member's log is applied, committed or not: what was acknowledged may be
//! among what it does not know to be committed, and the rest are writes whose clients were told
//! that their fate is unknown. Then one more entry, as it were, removes everyone else: from Raft's
//! membership and from the list of members, where they stay banned as any member that is removed.
//! It is in a term of its own, and the log begins anew behind it.
//!
//! 1. The state is written, with that last entry in it. It is ahead of the log then.
//! 2. The log is reset to that place, which a start would do as well if this one is interrupted.
//!
//! A second start with the flag finds nobody to remove, and does nothing.
//!
//! Caveat: members that are not lost, but cut off, still have the old membership and may elect a
//! leader among themselves. Two clusters with one id have come of it; they refuse each other.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use env::RealDisk;
use etcd::Machine;
use raft::{GroupId, HardState, LogPosition, Membership, Payload, ReplicaId, Restored, Term};
use storage::Log;
use storage::log::GroupWrite;

use super::start::StartError;
use crate::Engine;
use crate::core::{membership_row, stored_membership};

/// So much of the log is read at once.
const READ_BYTES: usize = 4 << 20;

/// Makes `own` the only member. `restored` is what log and state say together.
///
/// # Errors
/// [`StartError::Config`] if this member was removed itself; else if log or state fail.
pub(super) fn alone(
    log: &mut Log<RealDisk>,
    group: GroupId,
    restored: Restored,
    machine: &mut Machine<Engine>,
    own: ReplicaId,
) -> Result<Restored, StartError> {
    let others = |machine: &Machine<Engine>| -> Result<BTreeSet<u64>, StartError> {
        let members = machine.members().map_err(damaged)?;
        Ok(members.iter().map(|member| member.id).filter(|id| *id != own.get()).collect())
    };
    let membership = Membership::of_voters([own]);
    let stored = stored_membership(&machine.view()).map_err(StartError::Damaged)?;
    let nothing_new = restored.last_index == restored.applied;
    if nothing_new && stored == membership && others(machine)?.is_empty() {
        tracing::warn!("--force-new-cluster: this member is alone already; remove the flag");
        return Ok(restored);
    }
    let last = replay(log, group, &restored, machine)?;
    let removed = others(machine)?;
    let term = Term(last.term.max(restored.hard_state.term).0 + 1);
    let position = LogPosition { index: last.index.next(), term };
    let effects = machine.alone(term.0).map_err(|error| {
        StartError::Config(format!("--force-new-cluster: this member cannot go on alone: {error}"))
    })?;
    let row = Some(membership_row(&membership));
    machine.apply_with(Duration::ZERO, position.index.0, term.0, &effects, row).map_err(damaged)?;
    if let Some(job) = machine.state_mut().freeze() {
        let done = job.run().map_err(damaged)?;
        drop(machine.state_mut().finish(done));
    }
    let hard_state = HardState { term, vote: None, commit: position.index, binding: None };
    let write = GroupWrite {
        reset: Some(position),
        hard_state: Some(hard_state),
        ..GroupWrite::new(group)
    };
    log.append(&[write]).map_err(|error| StartError::Log(error.to_string()))?;
    log.sync().map_err(|error| StartError::Log(error.to_string()))?;
    let removed: Vec<String> = removed.iter().map(|id| format!("{id:x}")).collect();
    tracing::warn!(
        ?removed,
        "--force-new-cluster: this member is a cluster of one from now on; remove the flag"
    );
    Ok(Restored {
        hard_state,
        membership,
        truncated: position,
        terms: Vec::new(),
        last_index: position.index,
        applied: position.index,
        entries: Vec::new(),
    })
}

fn damaged(error: impl std::fmt::Display) -> StartError {
    StartError::Damaged(error.to_string())
}

/// Applies the rest of the log; gives its end. Changes of Raft's membership are overruled by what
/// follows and left out.
fn replay(
    log: &Log<RealDisk>,
    group: GroupId,
    restored: &Restored,
    machine: &mut Machine<Engine>,
) -> Result<LogPosition, StartError> {
    let applied = machine.applied();
    let mut last = LogPosition::new(applied.index, applied.term);
    let reader = log.reader();
    while last.index < restored.last_index {
        let entries = reader
            .entries(group, last.index.next(), restored.last_index, READ_BYTES)
            .map_err(damaged)?;
        for entry in entries {
            last = entry.position();
            let effects = match &entry.payload {
                Payload::Empty => Bytes::new(),
                Payload::Data(effects) => effects.clone(),
                Payload::Membership(change) => change.context.clone(),
            };
            machine
                .apply_with(Duration::ZERO, last.index.0, last.term.0, &effects, None)
                .map_err(|error| damaged(format!("entry {last}: {error}")))?;
        }
    }
    Ok(last)
}
