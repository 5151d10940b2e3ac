//! The leader's part. The leader is one of its own followers, too: what it says to all, it says to itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::{Frame, Link};
use super::message::{Body, Change, Txn, Zxid, Zxids};
use super::process::{Timer, Zab};
use super::settings::Settings;
use crate::process::{NodeId, Now, Out, RequestId};

/// A follower, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    link: Link,
    /// It promised the epoch: it may have the history.
    promised: bool,
    /// It was sent NEWLEADER, so proposals come after.
    synchronizing: bool,
    /// How many transactions of the leader's history it has accepted; `None` before its ACK-LD.
    accepted: Option<usize>,
}

/// What a process is that leads, or would.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    id: NodeId,
    since: Duration,
    peers: BTreeMap<NodeId, Peer>,
    /// The epochs that followers have promised, of CEPOCH.
    promised: BTreeMap<NodeId, u64>,
    /// Its own epoch, later than all those.
    epoch: Option<u64>,
    /// The currentEpoch and the history of each that promised it, of ACK-E.
    histories: BTreeMap<NodeId, (u64, Vec<Txn>)>,
    /// How many transactions are in the initial history, once it is chosen.
    initial: Option<usize>,
    /// The initial history, and what was broadcast in this epoch.
    pub(super) history: Vec<Txn>,
    counter: u64,
    /// A quorum has the initial history: phase 3.
    established: bool,
    /// How many transactions are committed.
    committed: usize,
}

/// A leader that has heard of a later epoch than its own.
pub(super) struct Overtaken;

impl Leading {
    fn new(id: NodeId, since: Duration) -> Self {
        Self {
            id,
            since,
            peers: BTreeMap::new(),
            promised: BTreeMap::new(),
            epoch: None,
            histories: BTreeMap::new(),
            initial: None,
            history: Vec::new(),
            counter: 0,
            established: false,
            committed: 0,
        }
    }

    /// Phase 3 has begun.
    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    /// The messages that are handed up by a frame. A CEPOCH opens a connection, in the place of any older one.
    fn receive(&mut self, now: Now, from: NodeId, frame: Frame, settings: &Settings) -> Vec<Body> {
        let known = self.peers.get_mut(&from);
        if let Some(peer) = known.filter(|peer| peer.link.opened() >= frame.conn.opened) {
            if !peer.link.owns(frame.conn) {
                return Vec::new();
            }
            return peer.link.receive(frame, now.local, |body| settings.overtakes(body));
        }
        if !matches!(frame.data, Some((0, Body::CEpoch(_)))) || frame.conn.answered.is_some() {
            return Vec::new();
        }
        let mut link = Link::answer(self.id, from, frame.conn.opened, now.local);
        let bodies = link.receive(frame, now.local, |_| false);
        let peer = Peer { link, promised: false, synchronizing: false, accepted: None };
        self.peers.insert(from, peer);
        bodies
    }

    fn send(&mut self, to: NodeId, body: Body, out: &mut Out<'_, Zab>) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.link.send(body, out);
        }
    }

    /// Phase 1: a CEPOCH. With those of a quorum, an epoch later than all of them.
    fn on_cepoch(
        &mut self,
        from: NodeId,
        promised: u64,
        settings: &Settings,
        out: &mut Out<'_, Zab>,
    ) -> Result<(), Overtaken> {
        if let Some(epoch) = self.epoch {
            if promised > epoch && !settings.accept_old_epoch {
                return Err(Overtaken);
            }
            self.send(from, Body::NewEpoch(epoch), out);
            return Ok(());
        }
        self.promised.insert(from, promised);
        if self.promised.len() >= settings.quorum() && self.promised.contains_key(&self.id) {
            let latest = self.promised.values().copied().max().unwrap_or_default();
            let epoch = if settings.same_epoch { latest.max(1) } else { latest + 1 };
            self.epoch = Some(epoch);
            for peer in self.peers.values_mut() {
                peer.link.send(Body::NewEpoch(epoch), out);
            }
        }
        Ok(())
    }

    /// Phase 1: an ACK-E. With those of a quorum, the initial history.
    fn on_ack_epoch(
        &mut self,
        from: NodeId,
        theirs: (u64, Vec<Txn>, bool),
        settings: &Settings,
        out: &mut Out<'_, Zab>,
    ) {
        let (current, history, again) = theirs;
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.promised = true;
        }
        if self.initial.is_none() && !again {
            self.histories.insert(from, (current, history));
        }
        if self.initial.is_none() && self.histories.len() >= settings.quorum() {
            self.history = self.initial_history(settings);
            self.initial = Some(self.history.len());
            out.note(|| format!("the initial history is {}", Zxids(&self.history)));
        }
        self.synchronize(settings, out);
    }

    /// The history of who has taken one from the latest leader, and has most of it: by (currentEpoch, zxid).
    fn initial_history(&self, settings: &Settings) -> Vec<Txn> {
        let last = |history: &[Txn]| history.last().map(|txn| txn.zxid);
        let histories = self.histories.values();
        let chosen = if settings.skip_discovery {
            self.histories.get(&self.id)
        } else if settings.longest_history {
            histories.max_by_key(|(current, history)| (history.len(), *current, last(history)))
        } else if settings.slot_by_slot {
            return slot_by_slot(histories);
        } else {
            histories.max_by_key(|(current, history)| (*current, last(history)))
        };
        chosen.map(|(_, history)| history.clone()).unwrap_or_default()
    }

    /// Phase 2: sends the history to all that have promised the epoch and do not have it.
    fn synchronize(&mut self, settings: &Settings, out: &mut Out<'_, Zab>) {
        let (Some(epoch), Some(_)) = (self.epoch, self.initial) else { return };
        for peer in self.peers.values_mut().filter(|peer| peer.promised && !peer.synchronizing) {
            peer.synchronizing = true;
            peer.link.send(Body::NewLeader { epoch, history: self.history.clone() }, out);
        }
        if (settings.skip_synchronization || settings.commit_initial_at_once) && !self.established {
            for peer in self.peers.values_mut().filter(|peer| peer.synchronizing) {
                peer.accepted = peer.accepted.or(self.initial);
            }
            self.establish(out);
        }
    }

    /// Phase 3 begins: the initial history is committed.
    fn establish(&mut self, out: &mut Out<'_, Zab>) {
        let (Some(epoch), Some(initial)) = (self.epoch, self.initial) else { return };
        self.established = true;
        self.committed = initial;
        let up_to = self.last_committed();
        for peer in self.peers.values_mut().filter(|peer| peer.accepted.is_some()) {
            peer.link.send(Body::CommitLeader { epoch, up_to }, out);
        }
    }

    fn last_committed(&self) -> Option<Zxid> {
        self.history[..self.committed].last().map(|txn| txn.zxid)
    }

    fn place_of(&self, zxid: Zxid) -> Option<usize> {
        self.history.iter().rposition(|txn| txn.zxid == zxid)
    }

    /// Phase 2: an ACK-LD.
    fn on_ack_leader(
        &mut self,
        from: NodeId,
        last: Option<Zxid>,
        settings: &Settings,
        out: &mut Out<'_, Zab>,
    ) {
        let count = last.and_then(|last| self.place_of(last)).map_or(0, |place| place + 1);
        let (Some(peer), Some(epoch)) = (self.peers.get_mut(&from), self.epoch) else { return };
        if peer.accepted.is_some() {
            return;
        }
        peer.accepted = Some(count);
        if self.established {
            let up_to = self.last_committed();
            self.send(from, Body::CommitLeader { epoch, up_to }, out);
        } else if self.peers.values().filter(|peer| peer.accepted.is_some()).count()
            >= settings.quorum()
        {
            self.establish(out);
        }
        self.advance(settings, out);
    }

    /// Phase 3: a client's request becomes a transaction. Its value is the state that it leads to from the
    /// state that all transactions before it lead to.
    fn broadcast(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Zab>) {
        let (Some(epoch), Some(_)) = (self.epoch, self.initial) else { return };
        self.counter += 1;
        let zxid = Zxid { epoch, counter: self.counter };
        let from = self.history.last().map_or(0, |txn| txn.change.to);
        let change = Change { from, to: from.wrapping_add(value) };
        let txn = Txn { zxid, change, request: id };
        self.history.push(txn);
        for peer in self.peers.values_mut().filter(|peer| peer.synchronizing) {
            peer.link.send(Body::Propose(txn), out);
        }
    }

    /// Phase 3: an ACK.
    fn on_ack(&mut self, from: NodeId, zxid: Zxid, settings: &Settings, out: &mut Out<'_, Zab>) {
        let Some(place) = self.place_of(zxid) else { return };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.accepted = peer.accepted.max(Some(place + 1));
        self.advance(settings, out);
    }

    /// Commits what a quorum has accepted, in order.
    fn advance(&mut self, settings: &Settings, out: &mut Out<'_, Zab>) {
        if !self.established {
            return;
        }
        let accepted = self.peers.values().filter_map(|peer| peer.accepted);
        let mut accepted: Vec<usize> = accepted.collect();
        accepted.sort_unstable_by(|one, other| other.cmp(one));
        let Some(&quorum) = accepted.get(settings.enough_to_commit() - 1) else { return };
        while self.committed < quorum {
            let zxid = self.history[self.committed].zxid;
            self.committed += 1;
            for peer in self.peers.values_mut().filter(|peer| peer.accepted.is_some()) {
                peer.link.send(Body::Commit(zxid), out);
            }
        }
    }

    /// Pings, forgets followers that are not heard of, and says whether a quorum is left.
    fn tick(&mut self, now: Now, settings: &Settings, out: &mut Out<'_, Zab>) -> bool {
        let id = self.id;
        let heard = |link: &Link| now.local.saturating_sub(link.heard) <= settings.timeout;
        self.peers.retain(|&peer, known| peer == id || heard(&known.link));
        self.peers.values_mut().for_each(|peer| peer.link.ping(out));
        let age = now.local.saturating_sub(self.since);
        if self.established {
            self.peers.len() >= settings.quorum()
        } else {
            age <= settings.timeout * 3
        }
    }
}

/// For each place the transaction that was accepted from the latest leader, as Multi-Paxos fills its slots.
fn slot_by_slot<'a>(histories: impl Iterator<Item = &'a (u64, Vec<Txn>)> + Clone) -> Vec<Txn> {
    let length = histories.clone().map(|(_, history)| history.len()).max().unwrap_or_default();
    let latest = |place: usize| {
        let there = histories.clone().filter(|(_, history)| history.len() > place);
        there.max_by_key(|(current, _)| *current).map(|(_, history)| history[place])
    };
    (0..length).filter_map(latest).collect()
}

impl Zab {
    /// It was elected. That it follows itself comes next.
    pub(super) fn lead(&mut self, now: Now, out: &mut Out<'_, Self>) {
        self.leading = Some(Leading::new(self.id, now.local));
        out.set(Timer::Ping, self.settings.ping);
    }

    pub(super) fn on_up(&mut self, now: Now, from: NodeId, frame: Frame, out: &mut Out<'_, Self>) {
        let Some(leading) = self.leading.as_mut() else { return };
        let settings = &self.settings;
        let ready = settings.ready_too_soon
            || self.following.as_ref().is_some_and(super::process::Following::delivers);
        let mut overtaken = Ok(());
        for body in leading.receive(now, from, frame, settings) {
            match body {
                Body::CEpoch(promised) => {
                    overtaken = overtaken.and(leading.on_cepoch(from, promised, settings, out));
                }
                Body::AckEpoch { epoch, current, history, again }
                    if leading.epoch == Some(epoch) =>
                {
                    leading.on_ack_epoch(from, (current, history, again), settings, out);
                }
                Body::AckLeader { last, .. } => leading.on_ack_leader(from, last, settings, out),
                Body::Ack(zxid) => leading.on_ack(from, zxid, settings, out),
                Body::Request { id, value } if ready => leading.broadcast(id, value, out),
                _ => {}
            }
        }
        if let Err(Overtaken) = overtaken {
            out.note(|| format!("{from} has promised a later epoch"));
            self.look(out);
        }
    }

    pub(super) fn on_ping_timer(&mut self, now: Now, out: &mut Out<'_, Self>) {
        let Some(leading) = self.leading.as_mut() else { return };
        if leading.tick(now, &self.settings, out) {
            out.set(Timer::Ping, self.settings.ping);
        } else {
            out.note(|| "leads no quorum: abdicates".to_owned());
            self.look(out);
        }
    }
}
