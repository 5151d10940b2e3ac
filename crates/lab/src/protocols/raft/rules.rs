//! The rules, checked from outside: what is durable is read from the disks, quorums are counted by hand, and
//! what was ever committed is remembered for the whole group. Compiled twice, as `adapter.rs` is.

use std::collections::{BTreeMap, BTreeSet};

use super::adapter::{Disk, Output, Replica, Wire, replica};
use super::core::{
    Body, Entry, LogIndex, LogPosition, Membership, Message, Payload, Raft as Core, ReplicaId, Term,
};
use super::observer::Raft;
use crate::process::{Effect, Input, NodeId, RequestId};
use crate::protocol::{Seen, Verdict};

/// What was ever seen.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that was ever on a disk: its payload, and what precedes it.
    written: BTreeMap<LogPosition, (Payload, LogPosition)>,
    /// The committed log: the term of each entry, and the term in which it was committed.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    applied: BTreeMap<u64, (u64, String)>,
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
                format!("{id} takes {at} to be durable, and it is not on its disk")
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
                    let entry = (*term, what.clone());
                    let first = self.applied.entry(*index).or_insert_with(|| entry.clone());
                    verdict.require("state-machine-safety", *first == entry, || {
                        format!(
                            "{id} applies {what}@{term} at {index}, elsewhere {}@{} was",
                            first.1, first.0
                        )
                    });
                }
                Effect::Reply { id: request, output: Output::Read(index) } => {
                    let at_least = self.reads.get(request).copied().unwrap_or_default();
                    verdict.require("fresh-reads", *index >= at_least.0, || {
                        format!("{id} reads at {index}, though {at_least} was committed when asked")
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
            let (vote, last) = (show(hard_state.vote.as_ref()), disk.last());
            let wire = Wire::Core(Box::new(message.clone()), None);
            format!(
                "{id} sends {wire}; on its disk are term {}, vote {vote}, entries to {last}",
                hard_state.term
            )
        });
        if let Some(whom) = vote {
            let first = *self.votes.entry((id, term)).or_insert(whom);
            verdict.require("one-vote", first == whom, || {
                format!("{id} votes for replica {whom} in term {term}, and voted for {first}")
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
            verdict.require("log-matching", *known == found, || {
                let at = entry.position();
                format!(
                    "{id} has another {at}, or has it after {prev}; elsewhere it is after {}",
                    known.1
                )
            });
            prev = entry.position();
        }
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
            format!("{first} and {id} lead term {term}")
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
                    "entry {index} of term {first} was committed, and at {id} entry {index} of term {term} is"
                )
            });
        }
        let news = commit > before.max(raft.truncated().index);
        let Some(term) = raft.term_at(commit).filter(|_| news) else { return };
        let at = LogPosition { index: commit, term };
        let counted = known.led.as_ref().is_some_and(|(led, _)| *led == raft.term());
        verdict.require("commit-own-term", !counted || term == raft.term(), || {
            let led = raft.term();
            format!("{id} leads term {led} and counts replicas of entry {commit}, which is of term {term}")
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
            let holders: Vec<String> = holders.iter().map(ToString::to_string).collect();
            let holders = holders.join(" ");
            format!("{id} committed {at}, which only {{{holders}}} of {} hold", raft.membership())
        });
    }
}

fn show<T: ToString>(it: Option<&T>) -> String {
    it.map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

fn holds(disk: &Disk, at: LogPosition) -> bool {
    let entry = disk.entries.get(&at.index);
    at.index <= disk.base.at.index || entry.is_some_and(|entry| entry.term == at.term)
}

/// At most one membership change in a log is not known to be committed.
fn one_change(seen: &Seen<'_, Raft>, raft: &Core, id: NodeId, verdict: &mut Verdict) {
    let after = seen.nodes[id.0].disk.entries.range(raft.committed().next()..);
    let change = |(_, entry): &(&LogIndex, &Entry)| matches!(entry.payload, Payload::Membership(_));
    let changes: Vec<String> = after.filter(change).map(|(index, _)| index.to_string()).collect();
    verdict.require("one-change", changes.len() <= 1, || {
        format!("{id} has uncommitted membership changes at {}", changes.join(" and "))
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
            format!(
                "replica {} has applied {} of {}",
                raft.id(),
                raft.applied(),
                leader.committed()
            )
        });
    }
}
