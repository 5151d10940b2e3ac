//! The rules, checked from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Gossiping;
use super::process::{Disk, Message, Owner, SHARES, Settings, Share, Stored};
use crate::process::{Effect, Input, NodeId, RequestId};
use crate::protocol::{Seen, Verdict};
use crate::words::{count, listed};

/// What was ever seen.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whom each master has voted for in each epoch.
    votes: BTreeMap<(u64, NodeId), NodeId>,
    /// Votes that have reached a candidate.
    counted: BTreeMap<(u64, NodeId), BTreeSet<NodeId>>,
    /// Who has claimed each share under each configuration epoch.
    claims: BTreeMap<(Share, u64), NodeId>,
    /// What clients were told, by its key.
    stored: BTreeMap<u64, Told>,
}

/// What a client was told: that a key is set.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// Under which configuration epoch its slot was served.
    epoch: u64,
    by: NodeId,
    request: RequestId,
    at: Duration,
}

impl Told {
    /// What was promised, when, and what has come of it.
    fn is_lost(self, key: u64, owner: NodeId) -> String {
        let Self { epoch, by, request, at } = self;
        let ms = at.as_secs_f64() * 1e3;
        format!(
            "at {ms:.3} ms {by} told a client that key {key} is set (request {request}); its slots \
             have not changed hands since, {owner} serves them under configuration epoch {epoch} as \
             then, and has not got key {key} on its disk: only a failover may lose a write"
        )
    }
}

impl Memory {
    pub(super) fn check(&mut self, seen: &Seen<'_, Gossiping>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        if let Input::Message { from, message: Message::AuthAck(epoch) } = step.input {
            self.counted.entry((*epoch, step.node)).or_default().insert(*from);
        }
        for (from, to, message) in seen.sent() {
            if let Message::AuthAck(epoch) = message {
                let first = *self.votes.entry((*epoch, from)).or_insert(to);
                verdict.require("one-vote-an-epoch", first == to, || {
                    format!(
                        "{from} votes for {to} in epoch {epoch}, in which it has voted for {first}"
                    )
                });
            }
        }
        for (share, owner) in (0..).map(Share).zip(seen.nodes[step.node.0].disk.owners) {
            self.claimed(step.node, share, owner, verdict);
        }
        for effect in step.effects {
            if let &Effect::Reply { id, output: Stored { key, epoch } } = effect {
                let now = Told { epoch, by: step.node, request: id, at: seen.now };
                let told = self.stored.entry(key).or_insert(now);
                if epoch > told.epoch {
                    *told = now;
                }
            }
        }
        let changed = |effect| matches!(effect, &Effect::Persist | &Effect::Reply { .. });
        if step.effects.iter().any(changed) {
            self.kept(seen, verdict);
        }
    }

    /// Whoever serves a share under the highest configuration epoch has what was acknowledged under it: whatever
    /// else is lost, its slot has changed hands.
    fn kept(&self, seen: &Seen<'_, Gossiping>, verdict: &mut Verdict) {
        for share in (0..SHARES).map(Share) {
            let newest = seen.nodes.iter().map(|node| node.disk.owners[share.0]).max();
            let Some(newest) = newest else { continue };
            let has = |key: &u64| seen.nodes[newest.node.0].disk.keys.contains(key);
            let lost = self.stored.iter().find(|&(key, told)| {
                told.epoch == newest.epoch && Share::of(*key) == share && !has(key)
            });
            verdict.require("lost-only-in-failover", lost.is_none(), || {
                lost.map_or_else(String::new, |(key, told)| told.is_lost(*key, newest.node))
            });
        }
    }

    fn claimed(&mut self, by: NodeId, share: Share, owner: Owner, verdict: &mut Verdict) {
        let Owner { epoch, node } = owner;
        let claim = self.claims.entry((share, epoch));
        let is_new = matches!(claim, std::collections::btree_map::Entry::Vacant(_));
        let first = *claim.or_insert(node);
        verdict.require("one-owner-an-epoch", first == node, || {
            format!(
                "{by} takes {node} for the owner of share {} under configuration epoch {epoch}, under \
                 which {first} owns it",
                share.0
            )
        });
        if epoch > 0 && is_new {
            let votes = self.counted.get(&(epoch, node)).map_or(0, BTreeSet::len);
            verdict.require("majority-elects", votes >= Settings::MAJORITY, || {
                let (votes, most) = (count(votes, "vote", "votes"), Settings::MAJORITY);
                format!("{node} takes over in epoch {epoch} with {votes}, and a majority is {most}")
            });
        }
    }

    pub(super) fn at_end(&self, seen: &Seen<'_, Gossiping>, verdict: &mut Verdict) {
        let disks: Vec<&Disk> = seen.nodes.iter().map(|node| &node.disk).collect();
        for share in (0..SHARES).map(Share) {
            let newest = disks.iter().map(|disk| disk.owners[share.0]).max();
            let Some(newest) = newest else { continue };
            let agree = disks.iter().all(|disk| disk.owners[share.0] == newest);
            verdict.require("agree-when-calm", agree, || {
                let says = |(place, disk): (usize, &&Disk)| {
                    format!("n{place} says {}", disk.owners[share.0].node)
                };
                let all = listed(disks.iter().enumerate().map(says).collect()).unwrap_or_default();
                format!("asked who serves share {}, {all}", share.0)
            });
        }
    }
}
