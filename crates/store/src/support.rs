//! Between the store's liveness and its replicas.
//!
//! Liveness says three things: this store has withdrawn its support from another, for good and
//! durably; another's support for this one has lapsed; it is there again. Each concerns all
//! replicas that have to do with that other store, so it is told in waves (`waves.rs`); a replica
//! to which neither applies is not touched. And replicas ask one thing: may I bind myself to a
//! leader on that store, and under which epoch?
//!
//! # Who campaigns
//!
//! When the store of a leader is gone, all followers of its ranges could campaign. One of them
//! does: the one whose store comes out first when the stores that are believed to be there are
//! ranked by a hash of range and store. So the ranges of a lost store spread evenly over those that
//! are left, and elections meet no rivals. If it does not win, because others have not withdrawn
//! their support yet, it tries again a few times; if it still does not, or its log is too short,
//! the others' election timeouts come. And the one that comes first may stand by nobody yet, having just
//! come back, so that no support of its own runs out: whoever ranks next campaigns once, a little later,
//! if nobody leads by then and nobody has begun to.
//!
//! When all stores begin, nobody has been heard of and nothing tells who is there. Then the voters of
//! a range go one after the other, by the same rank ([`Store::begin`]).
//!
//! No replica campaigns while so many of its peers' stores are gone that no quorum is left: it is
//! parked until one returns, and costs nothing meanwhile. A store is *gone* if it has supported this
//! one, does not any more, and was not heard of lately. One that never did may be of a version that
//! knows of no support, and counts as there.
//!
//! # Caveats
//!
//! - The first wave after a return asks for leases again, range by range: until then a leader
//!   serves with the support of the others.
//! - A sweep looks at every replica of the store, about a microsecond for ten, on an event that is
//!   as rare as the coming and going of a node.
//!
//! # Sources
//!
//! `liveness` and `raft/fortify.rs` say why it is safe. Highest random weight: Thaler and
//! Ravishankar, *A Name-Based Mapping Scheme for Rendezvous*, 1996.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use raft::{Body, Event, Input, Message, Raft, ReplicaId, RoleKind, Stopped};

use crate::Store;
use crate::liveness::{self, Epoch, Liveness, Support};
use crate::mutants::Mutant;
use crate::replica::{Replica, node_in};
use crate::types::{Envelope, NodeId, RangeId};
use crate::waves::{News, Retry, mixed};

/// How many replicas a wave looks at for each that it may concern.
const LOOKED_AT_PER_CAMPAIGN: usize = 64;

/// What a replica may have to know of the stores while it is asked for its work.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Duration,
    pub(crate) liveness: Option<&'a Liveness>,
    pub(crate) gone: &'a [NodeId],
}

impl Surroundings<'_> {
    /// Answers what the replica asks its store, which is of no interest further up.
    pub(crate) fn attend(&self, replica: &mut Replica, events: &mut Vec<Event>) {
        let Some(liveness) = self.liveness else { return };
        for event in events.iter() {
            match *event {
                Event::SupportWanted { term, leader } => {
                    let node = replica.node_of(leader);
                    let epoch = node.and_then(|node| liveness.support_for(node));
                    if let Some(epoch) = epoch {
                        let supported = Input::Supported { term, leader, epoch };
                        quietly(replica.raft.step(self.now, supported));
                    }
                }
                Event::Role { role: RoleKind::Leader, .. } => {
                    let absent = |node: &NodeId| replica.on(*node).collect::<Vec<_>>();
                    for id in self.gone.iter().flat_map(absent).collect::<Vec<_>>() {
                        quietly(replica.raft.step(self.now, Input::PeerAbsent(id)));
                    }
                }
                _ => {}
            }
        }
        events.retain(|event| !matches!(event, Event::SupportWanted { .. }));
    }
}

/// These inputs bring no evidence of broken safety; a replica that has stopped says so when it is
/// told of something that could.
fn quietly(result: Result<(), Stopped>) {
    let _ = result;
}

impl Store {
    /// These are the other stores to exchange support with, from now on.
    pub fn set_peers(&mut self, now: Duration, peers: BTreeSet<NodeId>) {
        self.now = self.now.max(now);
        self.gone.retain(|node, _| peers.contains(node));
        self.step_liveness(liveness::Input::Peers(peers));
        self.waves.unpark(self.now);
    }

    /// A message about liveness from the store on `node`. `now` is to be read after it is there.
    pub fn receive_liveness(&mut self, now: Duration, node: NodeId, message: liveness::Message) {
        self.now = self.now.max(now);
        self.step_liveness(liveness::Input::Receive(node, message));
    }

    /// What that store has promised to this one.
    #[must_use]
    pub fn support_from(&self, node: NodeId) -> Option<Support> {
        self.liveness.as_ref()?.support_from(node)
    }

    /// The epoch under which this store supports that one, durably.
    #[must_use]
    pub fn support_for(&self, node: NodeId) -> Option<Epoch> {
        self.liveness.as_ref()?.support_for(node)
    }

    /// Until when the replica of `range` may serve reads of its applied state, if at all: `now` is
    /// to be taken *after* the state was read. `None` if there is no such replica, if it does not
    /// lead, or if its lease is over.
    pub fn lease(&mut self, range: RangeId, now: Duration) -> Option<Duration> {
        self.now = self.now.max(now);
        let any_epoch = self.config.broken(Mutant::LeaseOfAnyEpoch);
        let Replica { raft, nodes, .. } = self.replicas.get_mut(&range)?.as_mut();
        let support = |id: ReplicaId, epoch: Epoch| {
            let support = self.liveness.as_ref()?.support_from(node_in(nodes, id)?)?;
            (support.epoch == epoch || any_epoch).then_some(support.until)
        };
        let until = raft.lease(now, support)?;
        (now < until || self.config.broken(Mutant::LeaseWithoutEnd)).then_some(until)
    }

    pub(crate) fn step_liveness(&mut self, input: liveness::Input) {
        let Some(liveness) = &mut self.liveness else { return };
        liveness.step(self.now, input);
        while let Some(ready) = liveness.ready() {
            if ready.write.is_some() {
                assert!(self.liveness_write.is_none(), "one write of the record at a time");
                self.liveness_write = ready.write;
            }
            for event in ready.events {
                match event {
                    liveness::Event::Withdrawn(node, epoch) => {
                        self.waves.tell(News::Withdrawn(node, epoch));
                    }
                    liveness::Event::Gained(node, epoch) => {
                        self.gone.remove(&node);
                        self.waves.tell(News::Gained(node, epoch));
                        self.waves.unpark(self.now);
                    }
                    liveness::Event::Lapsed(node) => {
                        self.gone.insert(node, None);
                        self.waves.tell(News::Lapsed(node));
                    }
                }
            }
        }
    }

    /// Something came from there: it is not gone for now, whatever support there is.
    pub(crate) fn heard_of(&mut self, node: NodeId) {
        let was_gone = self.is_gone(node);
        if let Some(heard) = self.gone.get_mut(&node) {
            *heard = Some(self.now);
        }
        if was_gone {
            self.waves.unpark(self.now);
        }
    }

    /// Whether that store has supported this one, does not any more, and was not heard of lately.
    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        let Some(liveness) = &self.liveness else { return false };
        let patience = 2 * liveness.config().support_duration;
        let lately = |heard: Duration| self.now < heard + patience;
        self.gone.get(&node).is_some_and(|heard| !heard.is_some_and(lately))
    }

    /// A replica that is bound by support that was withdrawn must know, if the wave has not come to
    /// it yet: when it starts, and before it is asked for its vote.
    pub(crate) fn tell_if_withdrawn(&mut self, range: RangeId) {
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        let Some(binding) = replica.raft.binding() else { return };
        let Some(node) = replica.node_of(binding.leader) else { return };
        let stands = self.liveness.as_ref().is_some_and(|liveness| {
            // What it is bound by was durable, so the record cannot be behind it.
            liveness.support_for(node) == Some(binding.epoch)
        });
        if !stands {
            self.touched.insert(range);
            let epoch = binding.epoch;
            quietly(replica.raft.step(self.now, Input::SupportWithdrawn { epoch }));
        }
    }

    /// Whoever asks a replica that is not here whether it leads is told that it does not. A replica
    /// that comes back leads in none of the terms it led in before.
    pub(crate) fn answer_for_absent(&mut self, node: NodeId, envelope: &Envelope) {
        let Message { from, to, term, body } = &envelope.message;
        if let Body::Fortified { .. } = body {
            let message = Message { from: *to, to: *from, term: *term, body: Body::Release };
            let answer = Envelope { range: envelope.range, message };
            self.answers.entry(node).or_default().push(answer);
        }
    }

    /// One wave of what is waiting, if it is time for one.
    pub(crate) fn wave(&mut self) -> Result<(), Stopped> {
        if !self.waves.begin(self.now, self.config.wave_interval, self.node) {
            return Ok(());
        }
        self.sweep();
        self.retry();
        for _ in 0..self.config.campaigns_per_wave {
            let Some(range) = self.waves.next_due() else { break };
            self.campaign_if_due(range)?;
        }
        for _ in 0..self.config.campaigns_per_wave {
            let Some(range) = self.waves.next_release(self.now) else { break };
            self.release_again(range);
        }
        Ok(())
    }

    /// The campaigns whose time has come, most of which are moot by then.
    fn retry(&mut self) {
        let mut campaigns = self.config.campaigns_per_wave;
        for _ in 0..campaigns * LOOKED_AT_PER_CAMPAIGN {
            let Some((range, retry)) = self.waves.next_retry(self.now) else { break };
            let term = self.replicas.get(&range).map(|replica| replica.raft.term());
            let began = match retry {
                Retry::Next(before) if term != Some(before) => false,
                Retry::Next(_) => self.campaign(range, 0),
                Retry::Again(left) => self.campaign(range, left),
            };
            campaigns -= usize::from(began);
            if campaigns == 0 {
                break;
            }
        }
    }

    /// No election can be won as far as this store sees, until another one returns. What its
    /// replica led once must be let go all the same: the others may see more.
    fn park(&mut self, range: RangeId) {
        self.waves.park(range);
        self.release_again(range);
    }

    fn release_again(&mut self, range: RangeId) {
        let Some(replica) = self.replicas.get_mut(&range) else { return };
        if replica.raft.release_deadline().is_none() {
            return;
        }
        replica.raft.release_again(self.now);
        self.touched.insert(range);
        if let Some(deadline) = replica.raft.release_deadline() {
            self.waves.release_at(deadline, range);
        }
    }

    /// Tells news to the next replicas that they concern: those whose turn it is, and if they end
    /// with it, the next.
    fn sweep(&mut self) {
        let mut concerned = self.config.campaigns_per_wave;
        let mut looked_at = concerned * LOOKED_AT_PER_CAMPAIGN;
        while let Some(mut sweep) = self.waves.next_sweep() {
            while let Some(range) = sweep.advance(|range| self.next_range(range)) {
                concerned -= usize::from(self.hears(range, sweep.news));
                looked_at -= 1;
                if concerned == 0 || looked_at == 0 {
                    return self.waves.sweep_again(sweep);
                }
            }
        }
    }

    fn next_range(&self, after: Option<RangeId>) -> Option<RangeId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.replicas.range((from, Bound::Unbounded)).next().map(|(&range, _)| range)
    }

    /// Tells news to a replica; says whether they concerned it.
    fn hears(&mut self, range: RangeId, news: News) -> bool {
        let Some(replica) = self.replicas.get_mut(&range) else { return false };
        let (now, raft) = (self.now, &replica.raft);
        match news {
            News::Withdrawn(node, epoch) => {
                let Some(binding) = raft.binding() else { return false };
                let there = replica.node_of(binding.leader) == Some(node);
                let wrong = self.config.broken(Mutant::WithdrawnFromTheWrongStore);
                if !(there && binding.epoch <= epoch || wrong) {
                    return false;
                }
                let epoch = if wrong { binding.epoch } else { epoch };
                quietly(replica.raft.step(now, Input::SupportWithdrawn { epoch }));
                self.touched.insert(range);
                let (term, timeout) = (replica.raft.term(), replica.raft.config().election_timeout);
                match self.rank_without(range, node) {
                    Some(0) => _ = self.campaign(range, self.config.campaign_retries),
                    Some(rank) => {
                        let at = now + self.turn_of_next(timeout) * rank;
                        self.waves.retry_at(at, range, Retry::Next(term));
                    }
                    None => {}
                }
            }
            News::Lapsed(node) | News::Gained(node, _) => {
                let ids: Vec<ReplicaId> = replica.on(node).collect();
                if !raft.is_leader() || ids.is_empty() {
                    return false;
                }
                for id in ids {
                    let input = match news {
                        News::Gained(_, epoch) => Input::PeerPresent { id, epoch },
                        _ => Input::PeerAbsent(id),
                    };
                    quietly(replica.raft.step(now, input));
                }
                self.touched.insert(range);
            }
        }
        true
    }

    /// Begins with the replicas that it has, of which none may know a leader. Of the voters of a range
    /// the one whose store ranks first campaigns after an election timeout, and each of the others
    /// a timeout later than the one before, and the time that the waves take to come to the range: so
    /// leaders spread over the stores, and elections meet no rivals.
    pub fn begin(&mut self, now: Duration) {
        self.now = self.now.max(now);
        if self.liveness.is_none() {
            return;
        }
        let per_wave = u32::try_from(self.config.campaigns_per_wave).unwrap_or(u32::MAX);
        let each = self.config.wave_interval / per_wave;
        for (range, place) in self.replicas.keys().copied().zip(0_u32..).collect::<Vec<_>>() {
            let Some(rank) = self.rank(range) else { continue };
            let Some(replica) = self.replicas.get_mut(&range) else { continue };
            let timeout = replica.raft.config().election_timeout;
            replica.raft.campaign_after(now, timeout + (timeout + each * place) * rank);
            self.touched.insert(range);
        }
    }

    /// How many stores of the range's voters rank before this one; `None` if it is not one of them.
    fn rank(&self, range: RangeId) -> Option<u32> {
        self.rank_among(range, |_| true)
    }

    /// The same among those that are there, `lost` being lost.
    fn rank_without(&self, range: RangeId, lost: NodeId) -> Option<u32> {
        let supports = |liveness: &Liveness, node| liveness.support_for(node).is_some();
        self.rank_among(range, |node| {
            node != lost && self.liveness.as_ref().is_some_and(|liveness| supports(liveness, node))
        })
    }

    fn rank_among(&self, range: RangeId, there: impl Fn(NodeId) -> bool) -> Option<u32> {
        let replica = self.replicas.get(&range)?;
        let key = |node: NodeId| (mixed(range.0, node.0), node.0);
        let membership = replica.raft.membership();
        let voters = || {
            let of = replica.nodes.iter().filter(|&&(id, _)| membership.is_voter(id));
            of.map(|&(_, node)| node)
        };
        voters().find(|&node| node == self.node)?;
        let before = voters().filter(|&node| key(node) > key(self.node) && there(node)).count();
        u32::try_from(before).ok()
    }

    /// How long whoever ranks next leaves to the one before: a quarter of the election timeout, in which
    /// two rounds of messages are there and back where that timeout is chosen well; and the time that
    /// the waves take to come to all ranges, but no longer than the timeout is for.
    fn turn_of_next(&self, election_timeout: Duration) -> Duration {
        let waves = self.replicas.len() / self.config.campaigns_per_wave;
        let waves = self.config.wave_interval * u32::try_from(waves).unwrap_or(u32::MAX);
        election_timeout / 4 + waves.min(election_timeout / 2)
    }

    /// Whether an election could be won by the stores that are not gone.
    fn has_quorum(&self, raft: &Raft, replica: &Replica) -> bool {
        raft.is_quorum(|id| {
            id == raft.id() || replica.node_of(id).is_none_or(|node| !self.is_gone(node))
        })
    }

    /// A campaign in place of a leader whose store is gone, and again later if it comes to nothing; says
    /// whether there was anything to do, as there is not if somebody leads by now.
    fn campaign(&mut self, range: RangeId, retries_left: u8) -> bool {
        let Some(replica) = self.replicas.get(&range) else { return false };
        let raft = &replica.raft;
        let moot = raft.is_leader()
            || (raft.leader().is_some() && !raft.has_withdrawn())
            || raft.binding().is_some()
            || raft.role() == RoleKind::Candidate;
        if moot {
            return false;
        }
        if !self.has_quorum(raft, replica) {
            self.park(range);
            return true;
        }
        if let Some(left) = retries_left.checked_sub(1) {
            let at = self.now + self.config.campaign_retry_interval;
            self.waves.retry_at(at, range, Retry::Again(left));
        }
        self.touched.insert(range);
        if let Some(replica) = self.replicas.get_mut(&range) {
            quietly(replica.raft.step(self.now, Input::Campaign));
        }
        true
    }

    /// A replica whose election timeout has ended, if it has not heard of a leader since.
    fn campaign_if_due(&mut self, range: RangeId) -> Result<(), Stopped> {
        let Some(replica) = self.replicas.get(&range) else { return Ok(()) };
        if replica.raft.next_deadline().is_none_or(|deadline| deadline > self.now) {
            return Ok(());
        }
        if !self.has_quorum(&replica.raft, replica) {
            self.park(range);
            return Ok(());
        }
        self.touched.insert(range);
        match self.replicas.get_mut(&range) {
            Some(replica) => {
                replica.deadline = None;
                replica.raft.step(self.now, Input::Timeout)
            }
            None => Ok(()),
        }
    }
}
