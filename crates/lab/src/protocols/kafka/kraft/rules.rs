//! Raft's rules, checked from outside: quorums are counted on the disks, and what was ever committed is remembered.

use std::collections::BTreeMap;

use super::KRaft;
use super::process::{Message, Output};
use super::voter::Voter;
use crate::process::{Effect, Input, NodeId};
use crate::protocol::{Seen, Verdict};
use crate::protocols::kafka::lineage::Lineage;
use crate::protocols::kafka::{Epoch, Log, Record};
use crate::words::{count, names};

/// What was ever seen.
#[derive(Debug, Default)]
pub(super) struct Memory {
    leaders: BTreeMap<Epoch, NodeId>,
    /// Whom each voter gave its vote to.
    votes: BTreeMap<(NodeId, Epoch), NodeId>,
    lineage: Lineage,
    /// The committed log, and the epoch in which each record was first known to be committed.
    committed: BTreeMap<u64, (Record, Epoch)>,
    /// What was applied first at each offset.
    applied: BTreeMap<u64, Record>,
    /// What clients were told, and in which epoch.
    acknowledged: BTreeMap<u64, (Record, Epoch)>,
    /// The epoch and the log of each voter that led after its last step.
    led: BTreeMap<NodeId, (Epoch, Log)>,
    /// The high watermark of each voter after its last step.
    watermarks: BTreeMap<NodeId, u64>,
}

impl Memory {
    pub(super) fn check(&mut self, seen: &Seen<'_, KRaft>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        let id = step.node;
        if matches!(step.input, Input::Start | Input::Restart) {
            self.led.remove(&id);
            self.watermarks.remove(&id);
        }
        for (_, to, message) in seen.sent() {
            self.leaves(seen, (id, to), message, verdict);
        }
        let Some(voter) = seen.process(id) else { return };
        let differs = self.lineage.differs(voter.log());
        verdict.require("log-matching", differs.is_none(), || {
            let logs: Vec<_> = seen.nodes.iter().map(log).collect();
            let logs: Vec<_> = (0..).map(NodeId).zip(logs).collect();
            differs.map_or_else(String::new, |parting| parting.says(&logs))
        });
        self.commits(seen, id, voter, verdict);
        for effect in step.effects {
            match effect {
                Effect::Decide(Output::Applied { offset, record }) => {
                    let first = *self.applied.entry(*offset).or_insert(*record);
                    verdict.require("state-machine-safety", first == *record, || {
                        let (this, first) = (record.at(*offset), first.at(*offset));
                        format!("{id} applies {this}, and {first} has been applied before")
                    });
                }
                Effect::Reply { output: Output::Acknowledged { offset, record }, .. } => {
                    self.acknowledged.insert(*offset, (*record, voter.epoch()));
                }
                _ => {}
            }
        }
        self.leads(id, voter, verdict);
    }

    /// What a message promises is on its sender's disk; and nobody votes twice in an epoch.
    fn leaves(
        &mut self,
        seen: &Seen<'_, KRaft>,
        (from, to): (NodeId, NodeId),
        message: &Message,
        verdict: &mut Verdict,
    ) {
        let disk = &seen.nodes[from.0].disk;
        let (vote, durable) = match *message {
            Message::Vote { epoch, .. } => (Some((epoch, from)), disk.voted == Some(from)),
            Message::Voted { epoch, granted: true } => {
                (Some((epoch, to)), disk.voted == Some(to) && disk.epoch == epoch)
            }
            Message::Fetch { offset, .. } => (None, disk.log.end() >= offset),
            _ => return,
        };
        verdict.require("durable-before-sent", durable, || {
            let (vote, epoch, end) = (names(disk.voted), disk.epoch, disk.log.end());
            format!(
                "{from} sends \"{message}\", and its disk has epoch {epoch}, a vote for {vote} and a \
                 log that ends at {end}"
            )
        });
        if let Some((epoch, candidate)) = vote {
            let first = *self.votes.entry((from, epoch)).or_insert(candidate);
            verdict.require("one-vote", first == candidate, || {
                format!(
                    "{from} votes for {candidate} in epoch {epoch}, in which it has voted for {first}"
                )
            });
        }
    }

    /// What a leader commits is of its own epoch, and on the disks of a majority, counted by hand.
    fn commits(
        &mut self,
        seen: &Seen<'_, KRaft>,
        id: NodeId,
        voter: &Voter,
        verdict: &mut Verdict,
    ) {
        let (before, now) =
            (self.watermarks.get(&id).copied().unwrap_or(0), voter.high_watermark());
        self.watermarks.insert(id, now);
        if !voter.is_leader() || now <= before {
            return;
        }
        let last = voter.log().get(now - 1);
        let own = last.is_some_and(|record| record.epoch == voter.epoch());
        verdict.require("commit-own-epoch", own, || {
            let (epoch, what) = (voter.epoch(), last.map(|record| record.at(now - 1)));
            let what = what.unwrap_or_default();
            format!("{id} leads epoch {epoch}, and commits {what} by counting who has it")
        });
        let has = |node: &&crate::protocol::Node<KRaft>| node.disk.log.get(now - 1) == last;
        let holders = seen.nodes.iter().filter(has).count();
        verdict.require("commit-is-backed", holders > seen.nodes.len() / 2, || {
            let what = last.map_or_else(String::new, |record| record.at(now - 1));
            let on = count(holders, "disk", "disks");
            format!("{id} commits {what}, which is on {on}, and that is no majority")
        });
        for (offset, &record) in (0..now).zip(voter.log().from(0)) {
            self.committed.entry(offset).or_insert((record, voter.epoch()));
        }
    }

    fn leads(&mut self, id: NodeId, voter: &Voter, verdict: &mut Verdict) {
        let before = self.led.remove(&id);
        if !voter.is_leader() {
            return;
        }
        let (epoch, log) = (voter.epoch(), voter.log());
        let first = *self.leaders.entry(epoch).or_insert(id);
        verdict.require("election-safety", first == id, || {
            format!("{first} and {id} both lead epoch {epoch}")
        });
        let same = before
            .is_none_or(|(led, before)| led != epoch || log.from(0).starts_with(before.from(0)));
        verdict.require("leader-append-only", same, || {
            format!("{id}, leader of epoch {epoch}, overwrote or deleted a record")
        });
        lacks(&self.committed, epoch, log, |offset, record| {
            verdict.require("leader-completeness", false, || {
                let what = record.at(offset);
                format!("{id} leads epoch {epoch} without {what}, which is committed")
            });
        });
        lacks(&self.acknowledged, epoch, log, |offset, record| {
            verdict.require("acknowledged-survives", false, || {
                let what = record.at(offset);
                format!(
                    "{id} leads epoch {epoch} without {what}, which a client was told is written"
                )
            });
        });
        self.led.insert(id, (epoch, log.clone()));
    }
}

/// The log of a voter: while it is down, what is on its disk.
fn log(node: &crate::protocol::Node<KRaft>) -> &Log {
    node.process.as_ref().map_or(&node.disk.log, Voter::log)
}

/// What a leader of this epoch should have, and has not: what is known from this epoch or before.
fn lacks(
    known: &BTreeMap<u64, (Record, Epoch)>,
    epoch: Epoch,
    log: &Log,
    mut found: impl FnMut(u64, Record),
) {
    for (&offset, &(record, since)) in known {
        if since <= epoch && log.get(offset) != Some(record) {
            found(offset, record);
        }
    }
}

/// There is a leader, and all have applied its whole log.
pub(super) fn at_end(seen: &Seen<'_, KRaft>, verdict: &mut Verdict) {
    let voters = || seen.nodes.iter().filter_map(|node| node.process.as_ref());
    let leader = voters().find(|voter| voter.is_leader());
    verdict.require("ends-when-calm", leader.is_some(), || "nobody leads".to_owned());
    let Some(leader) = leader else { return };
    for (place, voter) in voters().enumerate() {
        let (applied, end) = (voter.high_watermark(), leader.log().end());
        verdict.require("ends-when-calm", applied == end, || {
            format!("n{place} has applied all below offset {applied}, and the leader's log ends at {end}")
        });
    }
}
