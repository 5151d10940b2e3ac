//! Checkpoints, log truncation, and snapshots between members.

use std::time::Duration;

use etcd::Machine;
use mvcc::engine::Engine;
use raft::{Body, LogIndex, LogPosition, Message, SnapshotMeta};
use store::Envelope;

use super::group::Turn;
use super::{Fatal, SnapshotOut, nodes_of, stored_membership};

/// A snapshot that has arrived and that consensus has not accepted yet.
pub(super) struct Staged<E: Engine> {
    position: LogPosition,
    state: Box<mvcc::State<E>>,
}

/// The message that goes ahead of a snapshot of `view`, and where it stands.
///
/// # Errors
/// If the view is not as far along as is asked for, or cannot be read.
pub fn snapshot_message(
    out: &SnapshotOut,
    view: &mvcc::View,
) -> Result<(LogPosition, Envelope), String> {
    let applied = view.applied();
    let position = LogPosition::new(applied.index, applied.term);
    if position.index < out.send.at_least {
        return Err(format!("the state is at {position}, {} is asked for", out.send.at_least));
    }
    let membership = stored_membership(view)?;
    let snapshot = Box::new(SnapshotMeta { position, membership });
    let message = Message {
        from: out.from,
        to: out.send.to,
        term: out.send.term,
        body: Body::InstallSnapshot { session: out.send.session, snapshot },
    };
    Ok((position, Envelope { range: out.range, message }))
}

impl<E: Engine> Turn<'_, E> {
    /// What was frozen is durable: the log behind it may go.
    pub(super) fn checkpointed(&mut self, now: Duration, done: mvcc::Done) -> Result<(), Fatal> {
        let state = self.group.machine.state_mut();
        self.shared.effects.retired.push(state.finish(done));
        self.cut(now)
    }

    /// Cuts the log behind what is durable, but for what followers that lag may still ask for.
    pub(super) fn cut(&mut self, now: Duration) -> Result<(), Fatal> {
        let durable = self.group.machine.state().durable().index;
        // Without room, followers that lag are given a snapshot rather than the log.
        let kept = match (self.shared.disk_full, self.is_dense()) {
            (true, _) => 0,
            (false, true) => self.shared.config.catchup_entries,
            (false, false) => self.shared.config.range_catchup_entries,
        };
        let raft = self.raft();
        // What a quorum has made durable is applied here, and may be in a checkpoint, before this
        // member's own log has it on disk. The log is not cut ahead of its own writes.
        let upto = LogIndex(durable.saturating_sub(kept)).min(raft.durable());
        let Some(term) = raft.term_at(upto).filter(|_| upto > raft.truncated().index) else {
            return Ok(());
        };
        let position = LogPosition { index: upto, term };
        self.raft_mut().step(now, raft::Input::Truncate(position))?;
        self.shared.effects.truncate.push((self.group.range, position));
        Ok(())
    }

    /// The data of a snapshot is here; its message comes next. Says whether it is one.
    pub(super) fn stage(&mut self, envelope: &Envelope, state: Box<mvcc::State<E>>) -> bool {
        let Body::InstallSnapshot { snapshot, .. } = &envelope.message.body else {
            match self.is_dense() {
                true => self.shared.effects.discarded = true,
                false => self.shared.effects.range_discarded = true,
            }
            return false;
        };
        self.group.staged = Some(Staged { position: snapshot.position, state });
        true
    }

    /// Consensus has accepted a snapshot: its state takes the place of ours.
    pub(super) fn install(&mut self, now: Duration, snapshot: &SnapshotMeta) -> Result<(), Fatal> {
        let staged =
            self.group.staged.take_if(|staged| staged.position == snapshot.position).ok_or_else(
                || Fatal::State("a snapshot was accepted that is not here".to_owned()),
            )?;
        self.retire();
        self.group.machine = Machine::open(*staged.state, self.group.machine.config().clone());
        self.shared.store.set_nodes(self.group.range, nodes_of(&snapshot.membership));
        if self.is_dense() {
            self.shared.effects.installed = true;
            self.note_peers(now);
        } else {
            self.shared.effects.range_installed = true;
        }
        self.proposal_applied(snapshot.position.index, snapshot.position.term);
        self.give_confirmed();
        Ok(())
    }
}
