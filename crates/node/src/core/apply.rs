//! Committed entries become state; changes of role begin and end service.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd::Error;
use mvcc::engine::Engine;
use prost::Message as _;
use raft::{Entry, Event, LogIndex, LogPosition, Membership, Payload, RoleKind};
use store::{NodeId, RangeId};

use super::{Core, Fatal, Origin, nodes_of};
use crate::wire;

/// The row in the state that holds the group's membership as of the applied index.
pub(crate) const MEMBERSHIP_ROW: &[u8] = b"raft/membership";

/// The membership that a state holds; the empty one before any.
///
/// # Errors
/// If it cannot be read.
pub fn stored_membership(view: &mvcc::View) -> Result<Membership, String> {
    let row = view.meta_get(MEMBERSHIP_ROW).map_err(|error| error.to_string())?;
    let Some(row) = row else { return Ok(Membership::default()) };
    let row = wire::pb::Membership::decode(row).map_err(|error| error.to_string())?;
    wire::message::decode_membership(row).map_err(|error| error.to_string())
}

/// The row for a membership.
pub(crate) fn membership_row(membership: &Membership) -> (Bytes, Option<Bytes>) {
    let row = wire::message::encode_membership(membership).encode_to_vec();
    (Bytes::from_static(MEMBERSHIP_ROW), Some(row.into()))
}

impl<E: Engine> Core<E> {
    /// Takes note of what happened; gives back the membership changes, by their entry.
    pub(super) fn take_events(
        &mut self,
        now: Duration,
        events: Vec<(RangeId, Event)>,
    ) -> BTreeMap<LogIndex, Membership> {
        let mut memberships = BTreeMap::new();
        let mut transfer_ended = false;
        for (_, event) in events {
            match event {
                Event::Role { role, term, leader } => {
                    self.role_changed(now, role, term, leader.map(|id| NodeId(id.get())));
                }
                Event::TermCommitted { .. } => {}
                Event::Membership { index, membership } => {
                    self.store.set_nodes(self.range, nodes_of(&membership));
                    memberships.insert(index, membership);
                }
                Event::TransferEnded { to, outcome } => {
                    let over = |(_, target): &mut (Origin, raft::ReplicaId)| *target == to;
                    let origins: Vec<_> = self.transfers.extract_if(.., over).collect();
                    match outcome {
                        raft::TransferOutcome::Yielded => self.leave(),
                        raft::TransferOutcome::Aborted | raft::TransferOutcome::Refused => {
                            self.stay();
                        }
                    }
                    for (origin, _) in origins {
                        let answer = match outcome {
                            raft::TransferOutcome::Yielded => Ok(etcd::Response::Published),
                            raft::TransferOutcome::Aborted => Err(Error::Timeout),
                            raft::TransferOutcome::Refused => Err(Error::BadLeaderTransferee),
                        };
                        self.answer(origin, answer);
                    }
                    transfer_ended = true;
                }
            }
        }
        // Not before all is taken in: the event that says that this member leads no more may come
        // behind the one that says that the transfer is over, and nothing may be evaluated in between.
        if transfer_ended {
            self.route_waiting(now);
        }
        memberships
    }

    fn role_changed(
        &mut self,
        now: Duration,
        role: RoleKind,
        term: raft::Term,
        leader: Option<NodeId>,
    ) {
        let led = self.role == RoleKind::Leader && self.term == term;
        if !(led && role == RoleKind::Leader) {
            self.retire();
        }
        if leader.is_some() && leader != self.leader {
            self.leader_changes += 1;
            tracing::info!(
                leader = format_args!("{:x}", leader.map_or(0, |node| node.0)),
                term = term.0,
                "leader elected"
            );
        } else if leader.is_none() && self.leader.is_some() {
            tracing::warn!(term = term.0, "leader lost");
        }
        let before = std::mem::replace(&mut self.leader, leader);
        self.role = role;
        self.term = term;
        if let Some(before) = before.filter(|&before| Some(before) != leader) {
            self.read_points_lost(now, before);
        }
        if leader.is_some_and(|leader| leader != self.config.node) {
            self.route_waiting(now);
        }
    }

    /// Stops serving: what was evaluated and not applied may never be.
    pub(super) fn retire(&mut self) {
        self.leave();
        if std::mem::take(&mut self.serving) {
            self.machine.follow();
            self.void_speculative();
        }
    }

    /// Applies committed entries, in order.
    pub(super) fn apply(
        &mut self,
        now: Duration,
        entries: Vec<Entry>,
        memberships: &BTreeMap<LogIndex, Membership>,
    ) -> Result<(), Fatal> {
        let Some(last) = entries.last().map(Entry::position) else { return Ok(()) };
        for entry in entries {
            let LogPosition { index, term } = entry.position();
            let (effects, membership) = match &entry.payload {
                Payload::Empty => (Bytes::new(), None),
                Payload::Data(effects) => (effects.clone(), None),
                Payload::Membership(change) => (change.context.clone(), memberships.get(&index)),
            };
            let row = membership.map(membership_row);
            let applied = self
                .machine
                .apply_with(now, index.0, term.0, &effects, row)
                .map_err(|error| Fatal::State(format!("entry {index}: {error}")))?;
            self.effects.published.extend(applied.commit);
            if applied.members_changed || membership.is_some() {
                self.members_changed();
            }
            self.proposal_applied(index, term);
        }
        self.raft_mut().step(now, raft::Input::Applied(last.index))?;
        self.give_confirmed();
        if self.role == RoleKind::Leader && !self.serving && last.term == self.term {
            self.machine.lead(now, self.term.0).map_err(|error| Fatal::State(error.to_string()))?;
            self.serving = true;
            self.route_waiting(now);
        }
        Ok(())
    }

    fn members_changed(&mut self) {
        self.effects.peers = Some(self.peers());
        let own = self.raft().id();
        let membership = self.raft().membership();
        if !membership.members().is_empty() && !membership.contains(own) {
            self.effects.removed = true;
        }
    }
}
