//! Checkpoints, log truncation, and snapshots between members.

use std::time::Duration;

use etcd::Machine;
use mvcc::engine::Engine;
use raft::{Body, LogIndex, LogPosition, Message, RoleKind, SendSnapshot, SnapshotMeta};
use store::{Envelope, NodeId, RangeId};

use super::group::Turn;
use super::long::Applying;
use super::{Core, Fatal, SnapshotOut, nodes_of, stored_membership};

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

    /// Cuts the log behind what is durable, but for what followers may still ask for: those that lag, and
    /// those that a snapshot is on its way to.
    pub(super) fn cut(&mut self, now: Duration) -> Result<(), Fatal> {
        let raft = self.raft();
        let upto = self.shared.pins.limit(self.group.range, raft, self.cuttable());
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
        // What was committed and not applied is in it.
        self.group.applying = Applying::default();
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

impl<E: Engine> Core<E> {
    /// A follower needs more than the log has.
    pub(super) fn send_snapshot(&mut self, range: RangeId, send: SendSnapshot) {
        let Some(replica) = self.shared.store.replica(range) else { return };
        let Some(node) = replica.node_of(send.to) else { return };
        let from = replica.raft().id();
        // Whatever came of the one before.
        self.shared.pins.remove(range, send.to);
        self.shared.effects.snapshots.push(SnapshotOut { range, node, send, from });
    }

    /// Whether what becomes of a snapshot concerns anybody: whoever leads later asks anew.
    #[must_use]
    pub fn awaits(&self, out: &SnapshotOut) -> bool {
        let raft = self.shared.store.replica(out.range).map(store::Replica::raft);
        raft.is_some_and(|raft| raft.role() == RoleKind::Leader && raft.term() == out.send.term)
    }

    /// What is to be streamed of a snapshot that was asked for; `None` if it is not wanted any more:
    /// it may have waited. From now on the log behind it is kept (`pins.rs`), and the
    /// driver says what became of it by [`Input::SnapshotSent`](super::Input::SnapshotSent).
    #[must_use]
    pub fn snapshot_view(&mut self, out: &SnapshotOut) -> Option<mvcc::View> {
        if !self.awaits(out) {
            return None;
        }
        let view = match out.range {
            RangeId::DENSE => self.machine().view(),
            // A range that sleeps has lost nothing of its log: nobody is sent a snapshot of it.
            range => self.machine_of(range)?.view(),
        };
        if !self.shared.disk_full {
            self.shared.pins.pin(out, LogIndex(view.applied().index));
        }
        Some(view)
    }

    /// The data of a snapshot is here. Consensus decides whether it is wanted.
    pub(super) fn snapshot_staged(
        &mut self,
        now: Duration,
        from: NodeId,
        envelope: Envelope,
        state: Box<mvcc::State<E>>,
    ) -> Result<(), Fatal> {
        // What follows takes in the events of every range: what was evaluated is proposed before.
        self.propose_touched(now);
        let mut turn = self.dense();
        if !turn.stage(&envelope, state) {
            return Ok(());
        }
        self.shared.store.receive(now, from, envelope)?;
        let output = self.shared.store.flush();
        self.take(now, output)?;
        if self.dense.staged.take().is_some() {
            self.shared.effects.discarded = true;
        }
        Ok(())
    }
}
