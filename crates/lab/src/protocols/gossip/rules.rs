//! The rules, checked from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::Gossiping;
use super::process::{Disk, Message, Owner, SHARES, Settings, Share, Stored};
use crate::process::{Effect, Input, NodeId};
use crate::protocol::{Seen, Verdict};

/// What was ever seen.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whom each master has voted for in each epoch.
    votes: BTreeMap<(u64, NodeId), NodeId>,
    /// Votes that have reached a candidate.
    counted: BTreeMap<(u64, NodeId), BTreeSet<NodeId>>,
    /// Who has claimed each share under each configuration epoch.
    claims: BTreeMap<(Share, u64), NodeId>,
    /// What clients were told, and under which configuration epoch.
    stored: BTreeMap<u64, u64>,
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
                    format!("{from} votes for {to} in epoch {epoch}, and has voted for {first}")
                });
            }
        }
        for (share, owner) in (0..).map(Share).zip(seen.nodes[step.node.0].disk.owners) {
            self.claimed(step.node, share, owner, verdict);
        }
        for effect in step.effects {
            if let Effect::Reply { output: Stored { key, epoch }, .. } = effect {
                let told = self.stored.entry(*key).or_insert(*epoch);
                *told = (*told).max(*epoch);
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
            let lost = self.stored.iter().find(|&(key, &epoch)| {
                epoch == newest.epoch && Share::of(*key) == share && !has(key)
            });
            verdict.require("lost-only-in-failover", lost.is_none(), || {
                let (key, epoch) = lost.map_or((0, 0), |(&key, &epoch)| (key, epoch));
                format!(
                    "key {key} of configuration epoch {epoch} is gone, and {newest} serves it still"
                )
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
                "{by} holds {node} for the owner of share {} in {epoch}, which is {first}",
                share.0
            )
        });
        if epoch > 0 && is_new {
            let votes = self.counted.get(&(epoch, node)).map_or(0, BTreeSet::len);
            verdict.require("majority-elects", votes >= Settings::MAJORITY, || {
                format!("{node} takes over in epoch {epoch} with {votes} votes")
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
                let all: Vec<String> =
                    disks.iter().map(|disk| disk.owners[share.0].to_string()).collect();
                format!("share {} is served by {}", share.0, all.join(", "))
            });
        }
    }
}
