//! The replica as a proposer: how it comes to lead, and how it leads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::{Command, Message, Proposal, Slot, State, Value};
use super::process::{MultiPaxos, Timer};
use super::settings::Settings;
use crate::process::{NodeId, Out, RequestId};
use crate::protocols::paxos::Ballot;

/// What a replica is as a proposer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Nothing: somebody else leads, or nobody.
    Follower,
    /// In phase 1.
    Candidate(Candidate),
    /// In phase 2, for as long as nobody begins a higher ballot.
    Leader(Leader),
}

impl Role {
    pub(super) fn ballot(&self) -> Option<Ballot> {
        match self {
            Self::Follower => None,
            Self::Candidate(candidate) => Some(candidate.ballot),
            Self::Leader(leader) => Some(leader.ballot),
        }
    }
}

/// What an acceptor has accepted, by slots.
type Reported = BTreeMap<Slot, Proposal>;

/// An own ballot in phase 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    pub(super) ballot: Ballot,
    promises: BTreeMap<NodeId, Reported>,
}

/// An own ballot in phase 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) ballot: Ballot,
    /// The first slot in which nothing is proposed.
    next: Slot,
    /// Slots in which something is proposed and not chosen yet.
    pub(super) proposed: BTreeMap<Slot, Proposed>,
    /// Commands that wait for a slot within the window.
    queue: VecDeque<Command>,
    /// Who is to be told when a request has taken effect.
    pub(super) asked: BTreeMap<RequestId, NodeId>,
}

/// A slot in which something is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Proposed {
    value: Value,
    accepted: BTreeSet<NodeId>,
    /// A heartbeat has gone out since. With the next one it is proposed again to whoever has not answered.
    long: bool,
}

impl MultiPaxos {
    // Phase 1.

    /// Phase 1a: for every slot from the first that is not known to be chosen, in one request.
    pub(super) fn begin_ballot(&mut self, out: &mut Out<'_, Self>) {
        self.round += 1;
        let round = self.round;
        if !self.settings.reuse_ballot {
            // Before the ballot is used: a restart must not use it again.
            out.persist(|disk| disk.round = round);
        }
        let ballot = Ballot { round, proposer: self.id };
        self.role = Role::Candidate(Candidate { ballot, promises: BTreeMap::new() });
        self.leader = None;
        out.cancel(Timer::Heartbeat);
        self.await_leader(out);
        let from = self.state.next;
        out.send_all(self.everyone(), &Message::Prepare { ballot, from });
    }

    pub(super) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        accepted: Reported,
        snapshot: Option<State>,
        out: &mut Out<'_, Self>,
    ) {
        if !matches!(&self.role, Role::Candidate(it) if it.ballot == ballot) {
            return; // Of an earlier ballot, or more than were needed.
        }
        if let Some(state) = snapshot {
            self.install(state, out);
        }
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.promises.insert(from, accepted);
        if candidate.promises.len() >= self.settings.majority() {
            let promises = std::mem::take(&mut candidate.promises);
            self.lead(ballot, &promises, out);
        }
    }

    /// Phase 2a for whatever the promises bind it to; every slot below the highest of those gets something.
    fn lead(
        &mut self,
        ballot: Ballot,
        promises: &BTreeMap<NodeId, Reported>,
        out: &mut Out<'_, Self>,
    ) {
        let first = self.state.next;
        let bound = values_to_propose(&self.settings, promises, first);
        let next = bound.last_key_value().map_or(first, |(slot, _)| slot.next());
        out.note(|| {
            format!("a majority promised {ballot}: leads, and is free from slot {next} on")
        });
        self.role = Role::Leader(Leader {
            ballot,
            next,
            proposed: BTreeMap::new(),
            queue: self.own_commands().collect(),
            asked: BTreeMap::new(),
        });
        self.leader = Some(ballot);
        out.cancel(Timer::Election);
        out.set(Timer::Heartbeat, self.settings.heartbeat);
        out.send_all(self.others(), &Message::Heartbeat { ballot, commit: first });
        for slot in first.up_to(next) {
            match bound.get(&slot) {
                Some(&value) => self.propose(slot, value, out),
                None if self.settings.skip_gaps => {}
                None => self.propose(slot, Value::Noop, out),
            }
        }
    }

    /// Somebody has promised or begun this ballot. If it is higher than an own one, that one is over.
    pub(super) fn overtaken_by(&mut self, ballot: Ballot, out: &mut Out<'_, Self>) {
        self.round = self.round.max(ballot.round);
        if self.leader.is_some_and(|leader| leader < ballot) {
            self.leader = None;
        }
        if self.role.ballot().is_some_and(|own| own < ballot) {
            out.note(|| format!("overtaken by {ballot}"));
            self.role = Role::Follower;
            out.cancel(Timer::Heartbeat);
            self.await_leader(out);
        }
    }

    // Phase 2.

    fn propose(&mut self, slot: Slot, value: Value, out: &mut Out<'_, Self>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let proposed = Proposed { value, accepted: BTreeSet::new(), long: false };
        leader.proposed.insert(slot, proposed);
        leader.next = leader.next.max(slot.next());
        let proposal = Proposal { ballot: leader.ballot, value };
        let commit = self.state.next;
        out.send_all(self.everyone(), &Message::Accept { slot, proposal, commit });
        if let Value::Write(command) = value
            && self.settings.answer_early
        {
            self.answer(command.id, slot, out);
        }
    }

    /// A client's command, from its own client or handed over.
    pub(super) fn on_propose(&mut self, from: NodeId, command: Command, out: &mut Out<'_, Self>) {
        let done = self.state.slot_of(command.id);
        let Role::Leader(leader) = &mut self.role else {
            return; // Who waits for it hands it to the next leader.
        };
        if from != self.id {
            leader.asked.insert(command.id, from);
        }
        if let Some(slot) = done {
            self.answer(command.id, slot, out);
            return;
        }
        let value = Value::Write(command);
        let known = leader.queue.contains(&command)
            || leader.proposed.values().any(|it| it.value == value)
            || self.learned.values().any(|&it| it == value);
        if known {
            return;
        }
        if self.settings.prepare_each_slot {
            self.begin_ballot(out);
            return;
        }
        leader.queue.push_back(command);
    }

    /// Proposes what waits, as far as the window allows: fewer than `alpha` slots beyond the first that is
    /// not chosen.
    pub(super) fn fill_window(&mut self, out: &mut Out<'_, Self>) {
        while let Role::Leader(leader) = &mut self.role {
            let slot = leader.next;
            if slot >= self.state.next.plus(self.settings.alpha) {
                return;
            }
            let Some(command) = leader.queue.pop_front() else { return };
            self.propose(slot, Value::Write(command), out);
        }
    }

    pub(super) fn on_accepted(
        &mut self,
        from: NodeId,
        slot: Slot,
        proposal: Proposal,
        out: &mut Out<'_, Self>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.ballot != proposal.ballot {
            return; // Of an earlier ballot: a majority must be of one.
        }
        let Some(proposed) = leader.proposed.get_mut(&slot) else {
            return; // It is chosen.
        };
        proposed.accepted.insert(from);
        if proposed.accepted.len() >= self.settings.majority() {
            leader.proposed.remove(&slot);
            self.learned.insert(slot, proposal.value);
            self.advance(out);
        }
    }

    pub(super) fn on_heartbeat_due(&mut self, out: &mut Out<'_, Self>) {
        let (everyone, others, commit) = (self.everyone(), self.others(), self.state.next);
        let Role::Leader(leader) = &mut self.role else { return };
        let ballot = leader.ballot;
        out.send_all(others, &Message::Heartbeat { ballot, commit });
        for (&slot, proposed) in &mut leader.proposed {
            if proposed.long {
                let proposal = Proposal { ballot, value: proposed.value };
                let silent = everyone.clone().filter(|node| !proposed.accepted.contains(node));
                out.send_all(silent, &Message::Accept { slot, proposal, commit });
            }
            proposed.long = true;
        }
        out.set(Timer::Heartbeat, self.settings.heartbeat);
    }
}

/// In each slot from the first on, the value that the promises bind a leader to, if any.
fn values_to_propose(
    settings: &Settings,
    promises: &BTreeMap<NodeId, Reported>,
    first: Slot,
) -> BTreeMap<Slot, Value> {
    let mut slots: BTreeMap<Slot, Vec<Proposal>> = BTreeMap::new();
    for reported in promises.values().filter(|_| !settings.own_values) {
        for (&slot, &proposal) in reported.range(first..) {
            slots.entry(slot).or_default().push(proposal);
        }
    }
    let value = |proposals: Vec<Proposal>| {
        let votes = |value| proposals.iter().filter(|it| it.value == value).count();
        if settings.commonest_value {
            proposals.iter().map(|it| it.value).max_by_key(|&value| (votes(value), value))
        } else {
            proposals.iter().max_by_key(|it| it.ballot).map(|it| it.value)
        }
    };
    let values = slots.into_iter().map(|(slot, proposals)| (slot, value(proposals)));
    values.filter_map(|(slot, value)| value.map(|value| (slot, value))).collect()
}
