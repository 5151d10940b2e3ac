//! The rules, checked from outside: what is durable is read from the disks, quorums are counted by hand, and
//! what was ever committed is remembered for the whole group. Compiled twice, as `adapter.rs` is.

use std::collections::{BTreeMap, BTreeSet};

use super::adapter::{Disk, Output, Replica, Wire, node, replica};
use super::core::{
    Body, Entry, LogIndex, LogPosition, Membership, Message, Payload, Raft as Core, ReplicaId, Term,
};
use super::observer::Raft;
use super::words::{self, entry, in_full};
use crate::process::{Effect, Input, NodeId, RequestId};
use crate::protocol::{Seen, Verdict};
use crate::words::{listed, names};

/// What was ever seen.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that was ever on a disk: its payload, and what precedes it.
    written: BTreeMap<LogPosition, (Payload, LogPosition)>,
    /// The committed log: the term of each entry, and the term in which it was committed.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    /// What was applied at each index: its term, what it is, and who was the first to.
    applied: BTreeMap<u64, (u64, String, NodeId)>,
    /// What was known to be committed when a read was asked for.
    reads: BTreeMap<RequestId, LogIndex>,
    replicas: BTreeMap<NodeId, Known>,
    /// Whom each replica gave its vote to, by term.
    votes: BTreeMap<(NodeId, Term), ReplicaId>,
}

/// What was seen of one replica last.
#[derive(Debug, Default)]
struct Known {
    membership: Membership,
    /// The terms of its log while it leads, and the term that it leads in.
    led: Option<(Term, Vec<(LogIndex, Term)>)>,
    commit: LogIndex,
}

impl Memory {
    pub(crate) fn check(&mut self, seen: &Seen<'_, Raft>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        let id = step.node;
        if matches!(step.input, Input::Start | Input::Restart) {
            self.replicas.insert(id, Known::default());
        }
        if let Input::Request { id, .. } = step.input {
            self.reads.insert(*id, self.max_committed());
        }
        let Some(process) = seen.process(id) else { return };
        verdict.require("no-evidence", process.halted().is_none(), || {
            format!("{id} has stopped: {}", process.halted().unwrap_or_default())
        });
        if step.effects.contains(&Effect::Persist) {
            self.log_matching(seen, id, verdict);
        }
        for (_, _, wire) in seen.sent() {
            if let Wire::Core(message, _) = wire {
                self.leaves(&seen.nodes[id.0].disk, id, message, verdict);
            }
        }
        if let Some(raft) = process.raft() {
            let at = LogPosition {
                index: raft.durable(),
                term: raft.term_at(raft.durable()).unwrap_or_default(),
            };
            verdict.require("durable-is-on-disk", holds(&seen.nodes[id.0].disk, at), || {
                format!("{id} takes {} to be durable, and it is not on its disk", entry(at))
            });
            self.election(raft, id, verdict);
            // Before the leadership is brought up to date: it counts if it leads as it did before.
            self.commit(seen, raft, id, verdict);
            self.append_only(raft, id, verdict);
            let known = self.replicas.entry(id).or_default();
            known.membership = raft.membership().clone();
            known.commit = raft.committed();
            one_change(seen, raft, id, verdict);
        }
        for effect in step.effects {
            match effect {
                Effect::Decide(Output::Applied { index, term, what }) => {
                    let applied = self.applied.entry(*index);
                    let first = applied.or_insert_with(|| (*term, what.clone(), id));
                    let same = (first.0, &first.1) == (*term, what);
                    verdict.require("state-machine-safety", same, || {
                        let (what, (known, other, who)) = (in_full(what), first);
                        let other = in_full(other);
                        format!(
                            "{id} applies {what} of term {term} at index {index}, where {who} has \
                             applied {other} of term {known}"
                        )
                    });
                }
                Effect::Reply { id: request, output: Output::Read(index) } => {
                    let at_least = self.reads.get(request).copied().unwrap_or_default();
                    verdict.require("fresh-reads", *index >= at_least.0, || {
                        format!(
                            "{id} reads up to entry {index}, and entry {at_least} had been \
                             committed when it was asked"
                        )
                    });
                }
                _ => {}
            }
        }
    }

    /// What a message promises must be on its sender's disk; and nobody votes twice in a term.
    fn leaves(&mut self, disk: &Disk, id: NodeId, message: &Message, verdict: &mut Verdict) {
        let (term, hard_state) = (message.term, disk.hard_state);
        let voted = |whom| {
            hard_state.term > term || (hard_state.term, hard_state.vote) == (term, Some(whom))
        };
        let (promised, vote) = match &message.body {
            Body::AppendAccepted { matched, .. } => {
                (hard_state.term >= term && disk.last() >= *matched, None)
            }
            Body::VoteResponse { granted: true, .. } => (voted(message.to), Some(message.to)),
            Body::Vote { .. } => (voted(message.from), Some(message.from)),
            _ => (true, None),
        };
        verdict.require("durable-before-sent", promised, || {
            let (vote, last) = (names(hard_state.vote.map(node)), disk.last());
            let wire = Wire::Core(Box::new(message.clone()), None);
            format!(
                "{id} sends \"{wire}\", and its disk has term {}, a vote for {vote} and entries up \
                 to {last}",
                hard_state.term
            )
        });
        if let Some(whom) = vote {
            let first = *self.votes.entry((id, term)).or_insert(whom);
            verdict.require("one-vote", first == whom, || {
                let (whom, first) = (node(whom), node(first));
                format!("{id} votes for {whom} in term {term}, in which it has voted for {first}")
            });
        }
    }

    fn max_committed(&self) -> LogIndex {
        self.committed.last_key_value().map_or(LogIndex::ZERO, |(&index, _)| index)
    }

    /// By induction it is enough that a position determines its payload and its predecessor.
    fn log_matching(&mut self, seen: &Seen<'_, Raft>, id: NodeId, verdict: &mut Verdict) {
        let disk = &seen.nodes[id.0].disk;
        let mut prev = disk.base.at;
        for entry in disk.entries.values() {
            let found = (entry.payload.clone(), prev);
            let known = self.written.entry(entry.position()).or_insert_with(|| found.clone());
            let known = known.clone();
            verdict.require("log-matching", known == found, || {
                self.differ(seen, entry.position(), [&found, &known])
            });
            prev = entry.position();
        }
    }

    /// Both of what is at one position: what it carries, after what if that is the difference, and who has it.
    fn differ(
        &self,
        seen: &Seen<'_, Raft>,
        at: LogPosition,
        both: [&(Payload, LogPosition); 2],
    ) -> String {
        let after_others = both[0].1 != both[1].1;
        let [one, other] = both.map(|it| {
            let (payload, prev) = it;
            let has = |node: &NodeId| written_at(&seen.nodes[node.0].disk, at).as_ref() == Some(it);
            let holders: Vec<NodeId> = NodeId::all(seen.nodes.len()).filter(has).collect();
            let who = if holders.is_empty() {
                "on a disk that has it no longer".to_owned()
            } else {
                format!("on {}", names(holders))
            };
            let mut is = in_full(&words::text(payload));
            if after_others {
                let before = self.written.get(prev).map(|(it, _)| in_full(&words::text(it)));
                let before = before.map_or_else(String::new, |it| format!(" ({it})"));
                is += &format!(", after {}{before},", entry(*prev));
            }
            format!("{is} {who}")
        });
        format!("{} is {one}, and {other}", entry(at))
    }

    /// Election Safety and Leader Completeness, when a leader is first seen.
    fn election(&mut self, raft: &Core, id: NodeId, verdict: &mut Verdict) {
        if !raft.is_leader() {
            return;
        }
        let term = raft.term();
        let fresh = !self.leaders.contains_key(&term);
        let first = *self.leaders.entry(term).or_insert(id);
        verdict.require("election-safety", first == id, || {
            format!("{first} and {id} both lead term {term}")
        });
        if !fresh {
            return;
        }
        for (&index, &(committed, within)) in self.committed.range(raft.truncated().index.next()..)
        {
            let own = raft.term_at(index);
            // Of an earlier term than it was committed in, a leader may be without it.
            let holds = own == Some(committed) || within >= term;
            verdict.require("leader-completeness", holds, || {
                format!(
                    "entry {index} of term {committed} was committed, and {id} leads term {term} without it"
                )
            });
        }
    }

    fn append_only(&mut self, raft: &Core, id: NodeId, verdict: &mut Verdict) {
        let known = self.replicas.entry(id).or_default();
        if !raft.is_leader() {
            known.led = None;
            return;
        }
        let (term, from, to) = (raft.term(), raft.truncated().index.0 + 1, raft.last().index.0);
        let terms: Vec<(LogIndex, Term)> = (from..=to)
            .filter_map(|index| Some((LogIndex(index), raft.term_at(LogIndex(index))?)))
            .collect();
        let before = known.led.take().filter(|(led, _)| *led == term);
        let kept = before.is_none_or(|(_, before)| {
            before.iter().all(|&(index, term)| {
                index <= raft.truncated().index || raft.term_at(index) == Some(term)
            })
        });
        verdict.require("leader-append-only", kept, || {
            format!("{id}, leader of term {term}, overwrote or deleted an entry")
        });
        known.led = Some((term, terms));
    }

    /// Committed entries never change, and are backed by a quorum of disks, counted by hand.
    fn commit(&mut self, seen: &Seen<'_, Raft>, raft: &Core, id: NodeId, verdict: &mut Verdict) {
        let known = self.replicas.entry(id).or_default();
        let commit = raft.committed();
        let before = self.committed.last_key_value().map_or(LogIndex::ZERO, |(&index, _)| index);
        for index in (known.commit.0 + 1).max(raft.truncated().index.0 + 1)..=commit.0 {
            let index = LogIndex(index);
            let Some(term) = raft.term_at(index) else { continue };
            let (first, _) = *self.committed.entry(index).or_insert((term, raft.term()));
            verdict.require("commit-is-final", first == term, || {
                format!(
                    "entry {index} of term {first} was committed, and {id} takes entry {index} of \
                     term {term} for committed"
                )
            });
        }
        let news = commit > before.max(raft.truncated().index);
        let Some(term) = raft.term_at(commit).filter(|_| news) else { return };
        let at = LogPosition { index: commit, term };
        let counted = known.led.as_ref().is_some_and(|(led, _)| *led == raft.term());
        verdict.require("commit-own-term", !counted || term == raft.term(), || {
            let led = raft.term();
            let at = entry(at);
            format!("{id} leads term {led} and commits {at} by counting who has it")
        });
        let holds = |place: &usize| holds(&seen.nodes[*place].disk, at);
        let holders: BTreeSet<ReplicaId> =
            (0..seen.nodes.len()).filter(holds).map(|place| replica(NodeId(place))).collect();
        let backed = |membership: &Membership| {
            [&membership.voters, &membership.voters_outgoing]
                .into_iter()
                .all(|half| half.is_empty() || half.intersection(&holders).count() * 2 > half.len())
        };
        let backed = backed(&known.membership) || backed(raft.membership());
        verdict.require("commit-is-backed", backed, || {
            let voters = words::voters(raft.membership());
            let holders = names(holders.iter().map(|&id| node(id)));
            let at = entry(at);
            format!(
                "{id} takes {at} for committed, which is on the disk of {holders}; the voters are \
                 {voters}"
            )
        });
    }
}

fn holds(disk: &Disk, at: LogPosition) -> bool {
    let entry = disk.entries.get(&at.index);
    at.index <= disk.base.at.index || entry.is_some_and(|entry| entry.term == at.term)
}

/// What a disk has at a position, and what precedes it there.
fn written_at(disk: &Disk, at: LogPosition) -> Option<(Payload, LogPosition)> {
    let entry = disk.entries.get(&at.index).filter(|entry| entry.position() == at)?;
    let prev = disk.entries.range(..at.index).next_back();
    let prev = prev.map_or(disk.base.at, |(_, entry)| entry.position());
    Some((entry.payload.clone(), prev))
}

/// At most one membership change in a log is not known to be committed.
fn one_change(seen: &Seen<'_, Raft>, raft: &Core, id: NodeId, verdict: &mut Verdict) {
    let after = seen.nodes[id.0].disk.entries.range(raft.committed().next()..);
    let change = |(_, entry): &(&LogIndex, &Entry)| matches!(entry.payload, Payload::Membership(_));
    let changes: Vec<String> = after.filter(change).map(|(index, _)| index.to_string()).collect();
    verdict.require("one-change", changes.len() <= 1, || {
        let entries = listed(changes).unwrap_or_default();
        format!(
            "{id} has changes of membership in the entries {entries}, and knows none of them to be \
             committed"
        )
    });
}

/// There is a leader, and every member has applied all that is committed.
pub(crate) fn at_end(seen: &Seen<'_, Raft>, verdict: &mut Verdict) {
    let replicas = || seen.nodes.iter().filter_map(|node| node.process.as_ref());
    let leads = |replica: &&Replica| replica.raft().is_some_and(Core::is_leader);
    let leader = replicas().find(leads);
    verdict.require("ends-when-calm", leader.is_some(), || "nobody leads".to_owned());
    let Some(leader) = leader.and_then(Replica::raft) else { return };
    let members = &leader.membership().voters;
    for replica in replicas() {
        let Some(raft) = replica.raft() else { continue };
        let late = members.contains(&raft.id()) && raft.applied() < leader.committed();
        verdict.require("ends-when-calm", !late, || {
            let (who, applied, all) = (node(raft.id()), raft.applied(), leader.committed());
            format!("{who} has applied {applied} of {all} committed entries")
        });
    }
}
