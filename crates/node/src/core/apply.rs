//! Committed entries become state; changes of role begin and end service.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd::Error;
use mvcc::engine::Engine;
use prost::Message as _;
use raft::{Entry, Event, LogIndex, LogPosition, Membership, Payload, RoleKind};
use store::NodeId;

use super::group::Turn;
use super::{Fatal, Origin, nodes_of};
use crate::mutants::{self, Mutant};
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

impl<E: Engine> Turn<'_, E> {
    /// Takes note of what happened; gives back the membership changes, by their entry.
    pub(super) fn take_events(
        &mut self,
        now: Duration,
        events: Vec<Event>,
    ) -> BTreeMap<LogIndex, Membership> {
        let mut memberships = BTreeMap::new();
        let mut transfer_ended = false;
        for event in events {
            match event {
                Event::Role { role, term, leader } => {
                    self.role_changed(now, role, term, leader.map(|id| NodeId(id.get())));
                }
                Event::TermCommitted { .. } | Event::SupportWanted { .. } => {}
                Event::EntriesLost { peer, acknowledged } => tracing::error!(
                    range = self.group.range.0,
                    member = format_args!("{:x}", peer.get()),
                    entry = acknowledged.0,
                    "a member has lost entries that it had acknowledged: its disk does not keep what was synced, or \
                     is an older copy; remove the member, and add a new one with an empty data directory"
                ),
                Event::Membership { index, membership } => {
                    self.shared.store.set_nodes(self.group.range, nodes_of(&membership));
                    memberships.insert(index, membership);
                }
                Event::TransferEnded { to, outcome } => {
                    let over = |(_, target): &mut (Origin, raft::ReplicaId)| *target == to;
                    let origins: Vec<_> = self.group.transfers.extract_if(.., over).collect();
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
        let led = self.group.role == RoleKind::Leader && self.group.term == term;
        if !(led && role == RoleKind::Leader) {
            self.retire();
        }
        self.log_leader(term, leader);
        let before = std::mem::replace(&mut self.group.leader, leader);
        self.group.role = role;
        self.group.term = term;
        if let Some(before) = before.filter(|&before| Some(before) != leader) {
            self.read_points_lost(now, before);
        }
        if leader.is_some_and(|leader| leader != self.shared.config.node) {
            self.route_waiting(now);
        }
    }

    /// Of one range, and not of the thousands beside it.
    fn log_leader(&mut self, term: raft::Term, leader: Option<NodeId>) {
        if leader.is_some() && leader != self.group.leader {
            self.group.leader_changes += 1;
            let leader = format_args!("{:x}", leader.map_or(0, |node| node.0));
            if self.is_dense() {
                tracing::info!(leader, term = term.0, "leader elected");
            }
        } else if leader.is_none() && self.group.leader.is_some() && self.is_dense() {
            tracing::warn!(term = term.0, "leader lost");
        }
    }

    /// Stops serving: what was evaluated and not applied may never be.
    pub(super) fn retire(&mut self) {
        self.leave();
        self.put_off();
        if std::mem::take(&mut self.group.serving) {
            self.group.machine.follow();
            self.scans_wait();
            if !mutants::on(Mutant::SpeculationKept) {
                self.void_speculative();
            }
        }
    }

    /// Applies committed entries, in order.
    pub(super) fn apply(
        &mut self,
        now: Duration,
        entries: Vec<Entry>,
        memberships: Option<&BTreeMap<LogIndex, Membership>>,
    ) -> Result<(), Fatal> {
        let bytes_max = self.shared.config.pinned_bytes_max;
        self.shared.pins.applied(self.group.range, &entries, bytes_max);
        for entry in entries {
            let membership = match &entry.payload {
                Payload::Membership(_) => memberships.and_then(|known| known.get(&entry.index)),
                Payload::Empty | Payload::Data(_) => None,
            };
            self.group.applying.push(entry, membership.cloned());
        }
        self.go_on_applying(now)
    }

    /// Applies what is committed, as far as it may be done at once (`long.rs`).
    pub(super) fn go_on_applying(&mut self, now: Duration) -> Result<(), Fatal> {
        let turn = self.shared.turn;
        if std::mem::replace(&mut self.group.applying.turn, turn) != turn {
            self.group.applying.left = self.shared.config.apply_at_once;
        }
        let mut last = None;
        while self.group.applying.left > 0
            && let Some((entry, membership)) = self.group.applying.next()
        {
            let position = entry.position();
            let LogPosition { index, term } = position;
            let effects = match entry.payload {
                Payload::Empty => Bytes::new(),
                Payload::Data(effects) => effects,
                Payload::Membership(change) => change.context.clone(),
            };
            let row = membership.as_ref().map(membership_row);
            let machine = &mut self.group.machine;
            if machine.is_long(&effects) {
                let insertion = machine.begin_apply(index.0, term.0, effects, row);
                self.insert(position, insertion, membership.is_some());
                continue;
            }
            let applied = machine
                .apply_with(now, index.0, term.0, &effects, row)
                .map_err(|error| Fatal::State(format!("entry {index}: {error}")))?;
            let left = self.group.applying.left;
            self.group.applying.left = left.saturating_sub(1 + applied.changes());
            self.entry_applied(now, position, membership.is_some(), applied);
            last = Some(index);
        }
        last.map_or(Ok(()), |last| self.applied_up_to(now, last))
    }

    /// One more entry is applied.
    pub(super) fn entry_applied(
        &mut self,
        now: Duration,
        position: LogPosition,
        membership: bool,
        applied: etcd::Applied,
    ) {
        if self.is_dense() {
            self.shared.effects.published.extend(applied.commit);
        }
        if self.is_dense() && (applied.members_changed || membership) {
            self.members_changed(now);
        }
        self.proposal_applied(position.index, position.term);
    }

    /// So much is applied: what waited for it goes on.
    pub(super) fn applied_up_to(&mut self, now: Duration, last: LogIndex) -> Result<(), Fatal> {
        self.raft_mut().step(now, raft::Input::Applied(last))?;
        self.give_confirmed();
        self.serve_if_ready(now)?;
        self.go_on(now);
        Ok(())
    }

    /// Begins to serve once this member leads and an entry of its own term is applied.
    pub(super) fn serve_if_ready(&mut self, now: Duration) -> Result<(), Fatal> {
        let leads = self.group.role == RoleKind::Leader && !self.group.serving;
        let own = self.group.machine.applied().term == self.group.term.0;
        if leads && (own || mutants::on(Mutant::ServeEarly)) {
            let lead = self.group.machine.lead(now, self.group.term.0);
            lead.map_err(|error| Fatal::State(error.to_string()))?;
            self.group.serving = true;
            self.route_waiting(now);
        }
        Ok(())
    }

    fn members_changed(&mut self, now: Duration) {
        self.note_peers(now);
        let own = self.raft().id();
        let membership = self.raft().membership();
        if !membership.members().is_empty() && !membership.contains(own) {
            self.shared.effects.removed = true;
        }
    }
}
