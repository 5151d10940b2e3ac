//! The rules, checked from outside: what was broadcast is read from the proposals that leave, what is accepted
//! from the disks, and what was delivered is remembered.

use std::collections::{BTreeMap, BTreeSet};

use super::link::Frame;
use super::message::{Body, Message, Txn, Zxid, Zxids};
use super::{Disk, Zab};
use crate::process::{Effect, Input, NodeId};
use crate::protocol::{Seen, Verdict};
use crate::words::{count, listed};

/// The two ends of a connection, sender first, and its numbers.
type Way = (NodeId, NodeId, u64, Option<u64>);

/// What an ACK-E names: a currentEpoch, and a history.
type Named = (u64, Vec<Txn>);

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Memory {
    majority: usize,
    /// The next number on each connection: what is below was sent before.
    sent: BTreeMap<Way, u64>,
    primaries: BTreeMap<(u64, NodeId), Primary>,
    /// Who broadcast each transaction.
    broadcast: BTreeMap<Txn, (u64, NodeId)>,
    zxids: BTreeMap<Zxid, Txn>,
    lives: BTreeMap<NodeId, Life>,
    /// The longest sequence that a process has delivered in one life.
    order: Vec<Txn>,
    /// What anybody has delivered.
    delivered: BTreeSet<Txn>,
    disks: BTreeMap<NodeId, Vec<Txn>>,
    holders: BTreeMap<Txn, BTreeSet<NodeId>>,
    /// The latest epoch that each has promised, and the first leader that it promised it to.
    promised: BTreeMap<NodeId, (u64, NodeId)>,
    /// What reached each prospective leader in ACK-E, by its epoch.
    acks: BTreeMap<(NodeId, u64), BTreeMap<NodeId, Named>>,
    /// The initial history of each epoch.
    initial: BTreeMap<u64, (NodeId, Vec<Txn>)>,
}

/// A primary: who broadcasts in an epoch.
#[derive(Debug)]
struct Primary {
    broadcast: Vec<Txn>,
    /// What it had delivered when it first broadcast.
    delivered: BTreeSet<Txn>,
}

/// A process from its start to its crash.
#[derive(Debug, Default)]
struct Life {
    delivered: Vec<Txn>,
    state: u64,
}

impl Memory {
    pub(super) fn new(n: usize) -> Self {
        Self {
            majority: n / 2 + 1,
            sent: BTreeMap::new(),
            primaries: BTreeMap::new(),
            broadcast: BTreeMap::new(),
            zxids: BTreeMap::new(),
            lives: BTreeMap::new(),
            order: Vec::new(),
            delivered: BTreeSet::new(),
            disks: BTreeMap::new(),
            holders: BTreeMap::new(),
            promised: BTreeMap::new(),
            acks: BTreeMap::new(),
            initial: BTreeMap::new(),
        }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Zab>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        let node = step.node;
        match step.input {
            Input::Start | Input::Restart => {
                self.lives.insert(node, Life::default());
            }
            Input::Message { from, message: Message::Up(Frame { data: Some((_, body)), .. }) } => {
                self.hears(node, *from, body);
            }
            _ => {}
        }
        let disk = &seen.nodes[node.0].disk;
        let mut leaves = Vec::new();
        for (_, to, message) in seen.sent() {
            if let Some(body) = self.first_time(node, to, message) {
                leaves.push((to, body));
            }
        }
        for (_, body) in &leaves {
            self.leads(node, body, verdict);
        }
        if step.effects.contains(&Effect::Persist) {
            self.persists(node, disk, verdict);
        }
        for (to, body) in leaves {
            self.durable(node, disk, body, verdict);
            self.promises(node, to, body, verdict);
        }
        for (node, txn) in seen.decided() {
            self.delivers(node, *txn, verdict);
        }
    }

    /// What reaches a leader.
    fn hears(&mut self, node: NodeId, from: NodeId, body: &Body) {
        if let Body::AckEpoch { epoch, current, history, again: false } = body {
            let acks = self.acks.entry((node, *epoch)).or_default();
            acks.entry(from).or_insert_with(|| (*current, history.clone()));
        }
    }

    /// What a message says, unless it is sent again.
    fn first_time<'a>(
        &mut self,
        node: NodeId,
        to: NodeId,
        message: &'a Message,
    ) -> Option<&'a Body> {
        let (frame, answered) = match message {
            Message::Notification(_) => return None,
            Message::Up(frame) => (frame, None),
            Message::Down(frame) => (frame, frame.conn.answered),
        };
        let (number, body) = frame.data.as_ref()?;
        let next = self.sent.entry((node, to, frame.conn.opened, answered)).or_default();
        if *number < *next {
            return None;
        }
        *next = number + 1;
        Some(body)
    }

    /// What a leader says.
    fn leads(&mut self, node: NodeId, body: &Body, verdict: &mut Verdict) {
        match body {
            Body::NewLeader { epoch, history } => {
                if !self.initial.contains_key(epoch) {
                    self.chooses(node, *epoch, history, verdict);
                }
                let first = self.initial.entry(*epoch).or_insert((node, history.clone())).0;
                verdict.require("one-primary", first == node, || {
                    format!("{first} and {node} both lead epoch {epoch}")
                });
            }
            Body::Propose(txn) => {
                let first = *self.zxids.entry(txn.zxid).or_insert(*txn);
                verdict.require("one-primary", first == *txn, || {
                    format!("{node} broadcasts {txn}, and {first} was broadcast with that zxid")
                });
                if !self.broadcast.contains_key(txn) {
                    self.broadcasts(node, *txn, verdict);
                }
            }
            _ => {}
        }
    }

    /// Among the followers of some quorum, nobody has a history that is more recent than the one chosen.
    fn chooses(&self, node: NodeId, epoch: u64, history: &[Txn], verdict: &mut Verdict) {
        let recent = |(current, history): &Named| (*current, history.last().map(|txn| txn.zxid));
        let acks = self.acks.get(&(node, epoch));
        let acks = || acks.into_iter().flat_map(BTreeMap::values);
        let chosen = acks().filter(|(_, theirs)| theirs == history).map(recent).max();
        let behind = acks().filter(|ack| Some(recent(ack)) <= chosen).count();
        verdict.require("most-recent-history", behind >= self.majority, || {
            let named =
                |(current, history): &Named| format!("that of epoch {current}, {}", short(history));
            let acks = listed(acks().map(named).collect()).unwrap_or_default();
            format!(
                "{node} begins epoch {epoch} with the history {}, and was told of {acks}",
                short(history)
            )
        });
    }

    /// A primary broadcasts.
    fn broadcasts(&mut self, node: NodeId, txn: Txn, verdict: &mut Verdict) {
        let epoch = txn.zxid.epoch;
        self.broadcast.insert(txn, (epoch, node));
        let life = self.lives.entry(node).or_default();
        let primary = self.primaries.entry((epoch, node)).or_insert_with(|| Primary {
            broadcast: Vec::new(),
            delivered: life.delivered.iter().copied().collect(),
        });
        primary.broadcast.push(txn);
        let earlier = self.delivered.iter().filter(|earlier| earlier.zxid.epoch < epoch);
        let missed = earlier.copied().find(|earlier| !primary.delivered.contains(earlier));
        verdict.require("primary-integrity", missed.is_none(), || {
            let missed = show(missed);
            format!(
                "{node} broadcasts {txn}, and has not delivered {missed} of an earlier epoch, which \
                 was delivered"
            )
        });
    }

    /// What is on a disk.
    fn persists(&mut self, node: NodeId, disk: &Disk, verdict: &mut Verdict) {
        let before = self.disks.entry(node).or_default();
        let same = before.iter().zip(&disk.history).take_while(|(one, other)| one == other);
        let same = same.count();
        let gone = before.split_off(same);
        before.extend_from_slice(&disk.history[same..]);
        for txn in &gone {
            if let Some(holders) = self.holders.get_mut(txn) {
                holders.remove(&node);
            }
        }
        for txn in &disk.history[same..] {
            self.holders.entry(*txn).or_default().insert(node);
        }
        for txn in gone.iter().filter(|txn| self.delivered.contains(txn)) {
            self.on_majority(*txn, verdict);
        }
        let initial = self.initial.get(&disk.current_epoch);
        let begins = initial.is_none_or(|(_, initial)| disk.history.starts_with(initial));
        verdict.require("synchronized", begins, || {
            let initial = initial.map_or(&[][..], |(_, initial)| initial);
            format!(
                "{node} has currentEpoch {} on its disk with the history {}, and the initial \
                 history of that epoch is {}",
                disk.current_epoch,
                short(&disk.history),
                short(initial)
            )
        });
    }

    fn on_majority(&self, txn: Txn, verdict: &mut Verdict) {
        let holders = self.holders.get(&txn).map_or(0, BTreeSet::len);
        verdict.require("no-lost-write", holders >= self.majority, || {
            let disks = count(holders, "disk", "disks");
            format!("{txn} was delivered, and is on {disks}, which is no majority")
        });
    }

    /// What a follower acknowledges is on its disk.
    fn durable(&self, node: NodeId, disk: &Disk, body: &Body, verdict: &mut Verdict) {
        let Disk { accepted_epoch, current_epoch, history } = disk;
        let has = |zxid: Zxid| history.iter().any(|txn| txn.zxid == zxid);
        let durable = match body {
            Body::AckEpoch { epoch, current, history: theirs, .. } => {
                accepted_epoch >= epoch && current_epoch == current && history == theirs
            }
            Body::AckLeader { epoch, last } => current_epoch == epoch && last.is_none_or(has),
            Body::Ack(zxid) => has(*zxid),
            _ => true,
        };
        verdict.require("acks-are-durable", durable, || {
            format!(
                "{node} sends {body}, and has on its disk acceptedEpoch {accepted_epoch}, \
                 currentEpoch {current_epoch} and the history {}",
                short(history)
            )
        });
    }

    /// A follower acknowledges something.
    fn promises(&mut self, node: NodeId, to: NodeId, body: &Body, verdict: &mut Verdict) {
        let (epoch, counted) = match body {
            Body::AckEpoch { epoch, again, .. } => (*epoch, !again),
            Body::AckLeader { epoch, .. } => (*epoch, false),
            Body::Ack(zxid) => (zxid.epoch, false),
            _ => return,
        };
        let (latest, leader) = *self.promised.entry(node).or_insert((epoch, to));
        if epoch > latest {
            self.promised.insert(node, (epoch, to));
        }
        let kept = epoch > latest || epoch == latest && (!counted || to == leader);
        verdict.require("keeps-promises", kept, || {
            format!("{node} sends {body} to {to}, and has promised epoch {latest} to {leader}")
        });
    }

    /// The properties of primary order atomic broadcast, when `node` delivers `txn`.
    fn delivers(&mut self, node: NodeId, txn: Txn, verdict: &mut Verdict) {
        let primary = self.broadcast.get(&txn).copied();
        verdict.require("integrity", primary.is_some(), || {
            format!("{node} delivers {txn}, which nobody broadcast")
        });
        let life = self.lives.entry(node).or_default();
        let before = &life.delivered;
        if let Some(primary) = primary.and_then(|key| self.primaries.get(&key)) {
            let earlier = primary.broadcast.iter().take_while(|earlier| **earlier != txn);
            let missed = earlier.copied().find(|earlier| !before.contains(earlier));
            verdict.require("local-primary-order", missed.is_none(), || {
                format!("{node} delivers {txn} without {} of the same primary", show(missed))
            });
        }
        let later = before.iter().copied().find(|it| it.zxid.epoch > txn.zxid.epoch);
        verdict.require("global-primary-order", later.is_none(), || {
            format!("{node} delivers {txn} after {} of a later primary", show(later))
        });
        for ((epoch, who), primary) in self.primaries.range((txn.zxid.epoch + 1, NodeId(0))..) {
            verdict.require("primary-integrity", primary.delivered.contains(&txn), || {
                format!(
                    "{node} delivers {txn}, and {who}, which broadcasts in the later epoch {epoch}, \
                     had not delivered it before it began"
                )
            });
        }
        self.in_order(node, txn, verdict);
        let life = self.lives.entry(node).or_default();
        let computed = life.state == txn.change.from;
        verdict.require("state-as-computed", computed, || {
            let (is, from) = (life.state, txn.change.from);
            format!("{node} delivers {txn} in state {is}, and it was computed from state {from}")
        });
        life.state = txn.change.to;
        life.delivered.push(txn);
        if life.delivered.len() > self.order.len() {
            self.order.clone_from(&life.delivered);
        }
        self.delivered.insert(txn);
        self.on_majority(txn, verdict);
    }

    /// All processes deliver one sequence.
    fn in_order(&self, node: NodeId, txn: Txn, verdict: &mut Verdict) {
        let before = self.lives.get(&node).map_or(&[][..], |life| &life.delivered);
        let elsewhere = self.order.iter().position(|it| *it == txn);
        let same = elsewhere.is_none_or(|place| before == &self.order[..place]);
        verdict.require("total-order", same && !before.contains(&txn), || {
            let zxids = elsewhere.map_or(&[][..], |place| &self.order[..place]);
            let (here, elsewhere) = (short(before), short(zxids));
            format!("{node} delivers {txn} after {here}, and others deliver it after {elsewhere}")
        });
        let other = self.order.get(before.len()).copied().filter(|_| elsewhere.is_none());
        verdict.require("agreement", other.is_none(), || {
            let other = show(other);
            format!("{node} delivers {txn} in the place in which others have delivered {other}")
        });
    }
}

/// A history, its middle left out if it is long.
fn short(history: &[Txn]) -> String {
    const ENDS: usize = 3;
    if history.len() <= 2 * ENDS + 1 {
        return Zxids(history).to_string();
    }
    let zxids = |part: &[Txn]| -> String {
        part.iter().map(|txn| txn.zxid.to_string()).collect::<Vec<_>>().join(" ")
    };
    let (first, last) = (zxids(&history[..ENDS]), zxids(&history[history.len() - ENDS..]));
    format!("[{first} ... {last}] ({} in all)", history.len())
}

fn show(txn: Option<Txn>) -> String {
    txn.map_or_else(|| "nothing".to_owned(), |txn| txn.to_string())
}

/// There is a primary, and everyone has delivered all that it has.
pub(super) fn at_end(seen: &Seen<'_, Zab>, verdict: &mut Verdict) {
    let mut processes = seen.nodes.iter().filter_map(|node| node.process.as_ref());
    let primary = processes.clone().find(|process| process.is_primary());
    verdict.require("ends-when-calm", primary.is_some(), || "there is no primary".to_owned());
    let Some(primary) = primary else { return };
    let late = processes.find(|it| !it.broadcasts() || it.delivered() != primary.history());
    verdict.require("ends-when-calm", late.is_none(), || {
        let (id, has) = late.map_or((0, &[][..]), |late| (late.place(), late.delivered()));
        let all = primary.history();
        let same = has.iter().zip(all).take_while(|(one, other)| one == other).count();
        format!(
            "n{id} has delivered {}, the primary has broadcast {}, and the first {same} of them are \
             the same",
            count(has.len(), "transaction", "transactions"),
            all.len()
        )
    });
}
