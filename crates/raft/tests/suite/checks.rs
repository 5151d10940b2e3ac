//! The safety properties, checked from outside after every event.
//!
//! Nothing here trusts the core: what is durable is read from the simulated disks, quorums are
//! recounted naively, and what was ever committed is remembered globally.
//!
//! Raft, figure 3: Election Safety, Leader Append-Only, Log Matching, Leader Completeness, State
//! Machine Safety. Beyond it: a commit is backed by a quorum of disks; terms and votes never
//! regress on a disk; at most one membership change is uncommitted in any log; nothing that
//! promises durability leaves before it is durable; a read is never older than what was
//! committed when it was asked for.

use std::collections::{BTreeMap, BTreeSet};

use raft::{
    Binding, Body, Entry, HardState, LogIndex, LogPosition, Membership, Message, Payload,
    ReplicaId, RoleKind, Term,
};

use crate::world::Node;

/// What broke, in words.
pub(crate) type Broken = String;

/// What has ever been seen, over all replicas and crashes.
#[derive(Default)]
pub(crate) struct Checks {
    leaders: BTreeMap<Term, ReplicaId>,
    /// Every entry ever written anywhere: its payload and what precedes it.
    written: BTreeMap<LogPosition, (Payload, LogPosition)>,
    /// The committed log: the term of each entry.
    committed: BTreeMap<LogIndex, Term>,
    /// In which term each was committed: that of whoever knew it first.
    committed_in: BTreeMap<LogIndex, Term>,
    campaigns: BTreeSet<(ReplicaId, Term)>,
    pub(crate) elections: u64,
}

impl Checks {
    pub(crate) fn max_committed(&self) -> LogIndex {
        self.committed.last_key_value().map_or(LogIndex::ZERO, |(&index, _)| index)
    }

    /// The latest term that anybody was ever elected in, and who.
    pub(crate) fn latest_leader(&self) -> Option<(Term, ReplicaId)> {
        self.leaders.last_key_value().map(|(&term, &id)| (term, id))
    }

    /// Log Matching: "if two logs contain an entry with the same index and term, then the logs
    /// are identical in all entries up through the given index". By induction it is enough that
    /// a position determines its payload and its predecessor.
    pub(crate) fn entries_written(
        &mut self,
        node: &Node,
        prev: LogPosition,
        entries: &[Entry],
    ) -> Result<(), Broken> {
        let mut prev = prev;
        for entry in entries {
            let known = self
                .written
                .entry(entry.position())
                .or_insert_with(|| (entry.payload.clone(), prev));
            if *known != (entry.payload.clone(), prev) {
                return Err(format!(
                    "log matching: {} wrote {entry:?} after {prev}, elsewhere it is {known:?}",
                    node.id
                ));
            }
            prev = entry.position();
        }
        if let (Some((term, start)), Some(first)) = (node.led_from, entries.first())
            && node.raft().is_leader()
            && node.raft().term() == term
            && first.index < start
        {
            return Err(format!("leader append-only: {} rewrote {}", node.id, first.index));
        }
        Ok(())
    }

    /// A hard state reached a disk.
    pub(crate) fn hard_state_written(
        id: ReplicaId,
        before: HardState,
        after: HardState,
    ) -> Result<(), Broken> {
        let revoted =
            after.term == before.term && before.vote.is_some() && after.vote != before.vote;
        if after.term < before.term || revoted {
            return Err(format!("term or vote regressed on {id}: {before:?} to {after:?}"));
        }
        Ok(())
    }

    /// A message leaves: what it promises must be on its sender's disk.
    pub(crate) fn message_leaves(node: &Node, message: &Message) -> Result<(), Broken> {
        let disk = &node.disk;
        let promised = match &message.body {
            Body::AppendAccepted { matched, .. } => {
                disk.hard_state.term >= message.term && disk.last() >= *matched
            }
            Body::VoteResponse { granted: true, .. } => {
                (disk.hard_state.term, disk.hard_state.vote) == (message.term, Some(message.to))
                    || disk.hard_state.term > message.term
            }
            Body::Vote { .. } => {
                (disk.hard_state.term, disk.hard_state.vote) == (message.term, Some(node.id))
                    || disk.hard_state.term > message.term
            }
            Body::Fortified { epoch } => {
                let binding = Binding { leader: message.to, epoch: *epoch };
                (disk.hard_state.term, disk.hard_state.binding) == (message.term, Some(binding))
                    || disk.hard_state.term > message.term
                    || disk.hard_state.binding.is_some_and(|bound| bound.epoch > *epoch)
            }
            _ => true,
        };
        if promised {
            Ok(())
        } else {
            Err(format!("{message:?} left before it was durable: {:?}", disk.hard_state))
        }
    }

    /// State Machine Safety: "if a server has applied a log entry at a given index to its state
    /// machine, no other server will ever apply a different log entry for the same index".
    pub(crate) fn applied(&self, id: ReplicaId, position: LogPosition) -> Result<(), Broken> {
        match self.committed.get(&position.index) {
            Some(&term) if term == position.term => Ok(()),
            other => Err(format!("state machine safety: {id} applies {position}, not {other:?}")),
        }
    }

    /// What can be asked of one replica after anything happened to it.
    pub(crate) fn after_event(
        &mut self,
        nodes: &BTreeMap<ReplicaId, Node>,
        id: ReplicaId,
        membership_before: &Membership,
    ) -> Result<(), Broken> {
        let node = &nodes[&id];
        if !node.is_up() {
            return Ok(());
        }
        self.election(node)?;
        self.commit(nodes, node, membership_before)?;
        self.campaign(node)?;
        one_change(node)
    }

    /// Votes are counted by a membership that is one change behind the own log at most: quorums
    /// of two changes apart need not meet.
    fn campaign(&mut self, node: &Node) -> Result<(), Broken> {
        let raft = node.raft();
        let campaigns = raft.role() == RoleKind::Candidate;
        if !campaigns || !self.campaigns.insert((node.id, raft.term())) {
            return Ok(());
        }
        let behind = changes_after(node, raft.delivered());
        if behind.len() > 1 {
            let (id, term) = (node.id, raft.term());
            return Err(format!("{id} campaigns in {term} before the changes at {behind:?}"));
        }
        Ok(())
    }

    /// Election Safety: "at most one leader can be elected in a given term"; and Leader
    /// Completeness: "if a log entry is committed in a given term, then that entry will be
    /// present in the logs of the leaders for all higher-numbered terms".
    fn election(&mut self, node: &Node) -> Result<(), Broken> {
        let raft = node.raft();
        if !raft.is_leader() {
            return Ok(());
        }
        let term = raft.term();
        match self.leaders.get(&term) {
            Some(&leader) if leader == node.id => return Ok(()),
            Some(other) => {
                return Err(format!("election safety: {other} and {} lead term {term}", node.id));
            }
            None => {}
        }
        self.leaders.insert(term, node.id);
        self.elections += 1;
        for (&index, &committed) in self.committed.range(raft.truncated().index..) {
            // A leader of an earlier term may be elected late, by votes that were long on their way.
            let before = self.committed_in.get(&index).is_some_and(|&within| within < term);
            if before && raft.term_at(index) != Some(committed) {
                return Err(format!(
                    "leader completeness: {} leads term {term} without {index}@{committed}",
                    node.id
                ));
            }
        }
        Ok(())
    }

    /// A commit is backed by a durable quorum, counted by hand; committed entries never change.
    fn commit(
        &mut self,
        nodes: &BTreeMap<ReplicaId, Node>,
        node: &Node,
        membership_before: &Membership,
    ) -> Result<(), Broken> {
        let raft = node.raft();
        let commit = raft.committed();
        let known = self.max_committed();
        for index in (node.commit_checked.0 + 1).max(raft.truncated().index.0)..=commit.0 {
            let index = LogIndex(index);
            let term = raft.term_at(index).ok_or_else(|| format!("{index} is not in the log"))?;
            self.committed_in.entry(index).or_insert(raft.term());
            let first = *self.committed.entry(index).or_insert(term);
            if first != term {
                return Err(format!(
                    "committed entries changed: {index}@{first}, at {} {index}@{term}",
                    node.id
                ));
            }
        }
        if commit <= known || commit == raft.truncated().index {
            return Ok(());
        }
        let term = raft.term_at(commit).ok_or("the commit index is in the log")?;
        let at = LogPosition { index: commit, term };
        let holders: BTreeSet<ReplicaId> =
            nodes.values().filter(|node| node.disk.holds(at)).map(|node| node.id).collect();
        let backed = |membership: &Membership| {
            [&membership.voters, &membership.voters_outgoing]
                .into_iter()
                .all(|half| half.is_empty() || half.intersection(&holders).count() * 2 > half.len())
        };
        if backed(membership_before) || backed(raft.membership()) {
            Ok(())
        } else {
            Err(format!(
                "{} committed {at} in term {}, which only {holders:?} of {} hold durably",
                node.id,
                raft.term(),
                raft.membership(),
            ))
        }
    }
}

/// At most one membership change in a log is not known to be committed.
fn one_change(node: &Node) -> Result<(), Broken> {
    let uncommitted = changes_after(node, node.raft().committed());
    if uncommitted.len() > 1 {
        return Err(format!("{} has uncommitted changes at {uncommitted:?}", node.id));
    }
    Ok(())
}

/// The membership changes in the log after this index.
fn changes_after(node: &Node, index: LogIndex) -> Vec<LogIndex> {
    let after = node.written.range(index.next()..);
    let changes = after.filter(|(_, entry)| matches!(entry.payload, Payload::Membership(_)));
    changes.map(|(&index, _)| index).collect()
}
