//! A range's part of the core, and what all of them share.
//!
//! Each range that does something has a [`Group`]: its state machine, its requests and reads on
//! their way, what is known of its leader. The rest of a member (replicas, frames, effects) is
//! one for all ranges ([`Shared`]). A [`Turn`] is the two of them together, for as long as one
//! range is stepped; everything about requests, reads and applying is said of a turn, so that no
//! range can reach into another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use etcd::Machine;
use mvcc::engine::Engine;
use raft::{ReplicaId, RoleKind, Term};
use store::{NodeId, RangeId, Store};

use super::frames::FramesOut;
use super::pins::Pins;
use super::{CoreConfig, Effects, Origin, addresses, long, reads, route, snapshot};
use crate::mutants::{self, Mutant};

/// One range, as far as the core has to do with it.
pub(super) struct Group<E: Engine> {
    pub(super) range: RangeId,
    pub(super) machine: Machine<E>,
    pub(super) role: RoleKind,
    pub(super) term: Term,
    pub(super) leader: Option<NodeId>,
    pub(super) leader_changes: u64,
    /// This member leads, and an entry of its term is applied.
    pub(super) serving: bool,
    pub(super) routes: route::Routes,
    pub(super) reads: reads::Reads,
    pub(super) staged: Option<snapshot::Staged<E>>,
    pub(super) transfers: Vec<(Origin, ReplicaId)>,
    /// What it evaluates beside the core, if anything: it evaluates nothing else then.
    pub(super) busy: Option<long::Busy>,
    /// What is committed and not applied.
    pub(super) applying: long::Applying,
    /// When leadership was last given away for want of room.
    pub(super) handed_over: Option<Duration>,
    /// The deadline that the core's set holds for it.
    pub(super) deadline: Option<Duration>,
}

impl<E: Engine> Group<E> {
    /// As the replica stands now. One that starts again bound to a leader knows it, and nothing happens
    /// that would say so.
    pub(super) fn new(range: RangeId, machine: Machine<E>, raft: &raft::Raft) -> Group<E> {
        Group {
            range,
            machine,
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader().map(|id| NodeId(id.get())),
            leader_changes: 0,
            serving: false,
            routes: route::Routes::default(),
            reads: reads::Reads::default(),
            staged: None,
            transfers: Vec::new(),
            busy: None,
            applying: long::Applying::default(),
            handed_over: None,
            deadline: None,
        }
    }

    /// Requests that wait here, of whatever kind.
    pub(super) fn under_way(&self) -> usize {
        usize::from(self.busy.is_some()) + self.routes.under_way() + self.reads.under_way()
    }

    /// While leadership is being handed over no lease is ended: its time has come, and waits. The
    /// same while something is evaluated that takes long.
    pub(super) fn may_end_leases(&self) -> bool {
        if mutants::on(Mutant::LeasesOutliveLeaders) && self.leader_changes > 1 {
            return false;
        }
        self.serving && self.transfers.is_empty() && self.busy.is_none()
    }

    /// When it has something to do that no input brings. Consensus has deadlines of its own.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let alone = self.busy.as_ref().is_some_and(long::Busy::awaits_the_end_of_flights)
            && self.machine.in_flight() == 0;
        if alone || self.applying.goes_on() {
            return Some(Duration::ZERO);
        }
        let expires = self.may_end_leases();
        let busy = self.busy.as_ref().and_then(long::Busy::deadline);
        let machine = if expires { self.machine.next_deadline() } else { None };
        [machine, busy, self.routes.next_deadline(), self.reads.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What the ranges of a member share.
pub(super) struct Shared {
    pub(super) config: CoreConfig,
    pub(super) store: Store,
    /// Numbers for what is asked of peers and of the consensus core.
    pub(super) next_id: u64,
    /// Counts flushes, from 1.
    pub(super) turn: u64,
    pub(super) unix_time_s: u64,
    pub(super) disk_full: bool,
    /// Since when each peer has been heard from, without a break.
    pub(super) heard_since: BTreeMap<NodeId, Duration>,
    /// The ranges beside the dense one that have asked something of each peer since it was last lost.
    pub(super) asked: BTreeMap<NodeId, BTreeSet<RangeId>>,
    /// What snapshots on their way hold of the logs.
    pub(super) pins: Pins,
    /// Frames under construction.
    pub(super) frames: FramesOut,
    pub(super) effects: Effects,
    /// Times that reads were confirmed by a range lease, and by asking a quorum.
    pub(super) confirmed_by_lease: u64,
    pub(super) confirmed_by_quorum: u64,
}

impl Shared {
    /// Numbers rise: queues by number are queues by deadline.
    pub(super) fn id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// A range while it is stepped.
pub(super) struct Turn<'a, E: Engine> {
    pub(super) group: &'a mut Group<E>,
    pub(super) shared: &'a mut Shared,
}

impl<E: Engine> Turn<'_, E> {
    pub(super) fn raft(&self) -> &raft::Raft {
        self.shared.store.replica(self.group.range).expect("a group has its replica").raft()
    }

    pub(super) fn raft_mut(&mut self) -> &mut raft::Raft {
        self.shared.store.raft_mut(self.group.range).expect("a group has its replica")
    }

    /// Whether this is the range that holds the members, beside all user data.
    pub(super) fn is_dense(&self) -> bool {
        self.group.range == RangeId::DENSE
    }

    /// The range as frames name it: nothing is the dense one.
    pub(super) fn named(&self) -> Option<u64> {
        (!self.is_dense()).then_some(self.group.range.0)
    }

    /// The members may be others than before: the driver and the store have to know.
    pub(super) fn note_peers(&mut self, now: Duration) {
        let peers = self.peers();
        let own = self.shared.config.node;
        let others = peers.keys().copied().filter(|&node| node != own).collect();
        self.shared.store.set_peers(now, others);
        if !peers.is_empty() {
            self.shared.effects.peers = Some(peers);
        }
    }

    /// The members' addresses, as applied.
    fn peers(&self) -> BTreeMap<NodeId, Vec<String>> {
        let members = self.group.machine.members().unwrap_or_else(|error| {
            tracing::error!(%error, "the members cannot be read");
            Vec::new()
        });
        addresses(members)
    }
}
