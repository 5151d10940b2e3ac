//! Snapshots on their way pin the log behind them.
//!
//! A snapshot takes as long as the network does, and writes go on meanwhile. If the log were cut as
//! always, then the follower that has installed it would find that what comes next is gone, be given
//! another snapshot, and so on for as long as writes are fast. So a leader keeps the log from the
//! snapshot's position on, from the moment when the state is read until the follower is fed from the
//! log again and lacks nothing that would be cut. What the follower has acknowledged may go before.
//!
//! A pin ends, too, when the snapshot fails or another is asked for, when the follower is removed or,
//! with the snapshot delivered, is not to be reached, and when leadership is over: whoever leads later
//! asks anew. And it is given up when all pins of a member hold more than
//! [`CoreConfig::pinned_bytes_max`](super::CoreConfig::pinned_bytes_max), the one that holds most
//! first, or when the disk is full: a follower that comes to nothing must not fill it.

use std::collections::BTreeMap;
use std::time::Duration;

use mvcc::engine::Engine;
use raft::{Entry, LogIndex, PeerFlow, Raft, ReplicaId, RoleKind, SnapshotOutcome, Term};
use store::{NodeId, RangeId};

use super::group::Turn;
use super::{Core, Fatal, SnapshotOut};

/// What one snapshot holds.
#[derive(Clone, Copy, Debug)]
struct Pin {
    /// Where its receiver lives.
    node: NodeId,
    /// The leadership that sent it.
    term: Term,
    /// Its position: what comes after it is held.
    position: LogIndex,
    /// Bytes of entries that were applied since its state was read.
    bytes: usize,
}

impl Pin {
    /// From where on it holds the log; `None` if it holds nothing any more, the log being about to be
    /// cut up to `upto`.
    fn holds(&self, to: ReplicaId, raft: &Raft, upto: LogIndex) -> Option<LogIndex> {
        if raft.role() != RoleKind::Leader || raft.term() != self.term {
            return None;
        }
        let peer = raft.peers().find(|peer| peer.id == to)?;
        let beyond = peer.matched > self.position || peer.matched >= raft.last().index;
        let fed = peer.flow == PeerFlow::Replicate && beyond && peer.matched >= upto;
        (!fed).then(|| self.position.max(peer.matched))
    }
}

/// What snapshots on their way hold of the logs of a member's ranges: few at any time, for streams
/// to a peer go one after the other.
#[derive(Debug, Default)]
pub(super) struct Pins(BTreeMap<(RangeId, ReplicaId), Pin>);

impl Pins {
    /// The log behind a snapshot of the state as of `position` is held from now on.
    pub(super) fn pin(&mut self, out: &SnapshotOut, position: LogIndex) {
        let (node, term) = (out.node, out.send.term);
        let pin = Pin { node, term, position, bytes: 0 };
        self.0.insert((out.range, out.send.to), pin);
    }

    /// Says whether there was one.
    pub(super) fn remove(&mut self, range: RangeId, to: ReplicaId) -> bool {
        self.0.remove(&(range, to)).is_some()
    }

    fn of(&self, range: RangeId) -> impl Iterator<Item = (ReplicaId, &Pin)> {
        let of = self.0.iter().filter(move |((of, _), _)| *of == range);
        of.map(|(&(_, to), pin)| (to, pin))
    }

    fn is_pinned(&self, range: RangeId) -> bool {
        self.of(range).next().is_some()
    }

    /// How far the log may be cut, if `upto` is how far it would be.
    pub(super) fn limit(&self, range: RangeId, raft: &Raft, upto: LogIndex) -> LogIndex {
        let held = self.of(range).filter_map(|(to, pin)| pin.holds(to, raft, upto));
        held.fold(upto, LogIndex::min)
    }

    /// What was applied in a range came to be held; gives up what is too much.
    pub(super) fn applied(&mut self, range: RangeId, entries: &[Entry], bytes_max: usize) {
        if !self.is_pinned(range) {
            return;
        }
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        for ((of, _), pin) in &mut self.0 {
            pin.bytes += if *of == range { bytes } else { 0 };
        }
        while self.0.values().map(|pin| pin.bytes).sum::<usize>() > bytes_max {
            let most = self.0.iter().max_by_key(|(_, pin)| pin.bytes).map(|(&of, _)| of);
            let Some((range, to)) = most else { break };
            tracing::warn!(
                range = range.0,
                peer = format_args!("{:x}", to.get()),
                "the log behind a snapshot has grown too long: it is cut, though the peer may need it"
            );
            self.0.remove(&(range, to));
        }
    }

    /// There is no room: no log is kept for anybody.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl<E: Engine> Turn<'_, E> {
    /// Up to where the log may be cut: what is durable, but for what followers that lag may ask for.
    pub(super) fn cuttable(&self) -> LogIndex {
        let durable = self.group.machine.state().durable().index;
        // Without room, followers that lag are given a snapshot rather than the log.
        let kept = match (self.shared.disk_full, self.is_dense()) {
            (true, _) => 0,
            (false, true) => self.shared.config.catchup_entries,
            (false, false) => self.shared.config.range_catchup_entries,
        };
        // What a quorum has made durable is applied here, and may be in a checkpoint, before this
        // member's own log has it on disk. The log is not cut ahead of its own writes.
        LogIndex(durable.saturating_sub(kept)).min(self.raft().durable())
    }

    /// Ends what holds nothing any more, and cuts the log behind it.
    fn unpin(&mut self, now: Duration) -> Result<(), Fatal> {
        let (range, upto) = (self.group.range, self.cuttable());
        let over = |(to, pin): (ReplicaId, &Pin)| {
            pin.holds(to, self.raft(), upto).is_none().then_some((range, to))
        };
        let over: Vec<_> = self.shared.pins.of(range).filter_map(over).collect();
        for (range, to) in &over {
            self.shared.pins.remove(*range, *to);
        }
        if over.is_empty() { Ok(()) } else { self.cut(now) }
    }
}

impl<E: Engine> Core<E> {
    /// From which position on the log is held for a snapshot on its way to a peer, if it is.
    #[must_use]
    pub fn pinned(&self, range: RangeId, to: ReplicaId) -> Option<LogIndex> {
        self.shared.pins.0.get(&(range, to)).map(|pin| pin.position)
    }

    /// Looks at the pins of the ranges that were stepped.
    pub(super) fn unpin_stepped(&mut self, now: Duration) -> Result<(), Fatal> {
        let ranges = self.shared.pins.0.keys().map(|&(range, _)| range);
        let mut stepped: Vec<RangeId> =
            ranges.filter(|range| self.stepped.contains(range)).collect();
        stepped.dedup();
        for range in stepped {
            super::turn!(self, range, turn => turn.unpin(now)?);
        }
        Ok(())
    }

    /// What became of a snapshot.
    pub(super) fn snapshot_sent(
        &mut self,
        now: Duration,
        range: RangeId,
        to: ReplicaId,
        outcome: SnapshotOutcome,
    ) -> Result<(), Fatal> {
        self.raft_input(range, now, raft::Input::SnapshotSent { to, outcome })?;
        if outcome == SnapshotOutcome::Failed && self.shared.pins.remove(range, to) {
            super::turn!(self, range, turn => turn.cut(now)?);
        }
        Ok(())
    }

    /// A peer is not to be reached: what it has received in full is not waited for. A stream that is
    /// still on its way has an end of its own.
    pub(super) fn unpin_lost(&mut self, now: Duration, node: NodeId) -> Result<(), Fatal> {
        let pins: Vec<_> = self.shared.pins.0.iter().map(|(&of, &pin)| (of, pin)).collect();
        for ((range, to), _) in pins.into_iter().filter(|(_, pin)| pin.node == node) {
            let raft = self.shared.store.replica(range).map(store::Replica::raft);
            let peer = raft.and_then(|raft| raft.peers().find(|peer| peer.id == to));
            if peer.is_none_or(|peer| peer.flow != PeerFlow::Snapshot) {
                self.shared.pins.remove(range, to);
                super::turn!(self, range, turn => turn.cut(now)?);
            }
        }
        Ok(())
    }
}
