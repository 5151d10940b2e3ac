//! Support between the replicas' stores, by decree: who gives it, who counts on it, and that
//! nobody counts on what is not given. How stores come to agree on that is not this crate's.

use raft::{Binding, Epoch};

use super::*;

/// One store's support for another, on the supporter's disk but for `counted`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Support {
    /// The least epoch that may be given.
    epoch: Epoch,
    given: bool,
    /// The supported store counts on it; only while it is given.
    counted: bool,
}

/// Whether a version that knows of no support understands it.
pub(super) fn is_classical(body: &Body) -> bool {
    !matches!(
        body,
        Body::Fortify
            | Body::Fortified { .. }
            | Body::Counted { .. }
            | Body::Release
            | Body::Released
    )
}

impl World {
    fn pair(&mut self, supporter: ReplicaId, holder: ReplicaId) -> &mut Support {
        self.support.entry((supporter, holder)).or_default()
    }

    /// Whether both stores are of a version that gives support.
    fn give_support(&self, supporter: ReplicaId, holder: ReplicaId) -> bool {
        ![supporter, holder].iter().any(|id| self.classical.contains(id))
    }

    /// The supporter's answer to its replica.
    pub(super) fn support_wanted(&mut self, id: ReplicaId, term: Term, leader: ReplicaId) {
        let Support { epoch, given, .. } = *self.pair(id, leader);
        if given {
            self.tally.add("bound");
            if !self.classical.is_empty() {
                self.tally.add("bound beside a classical replica");
            }
            self.after(0, Happening::Tell(id, Input::Supported { term, leader, epoch }, epoch));
        }
    }

    /// A store's word to its replica arrives, unless it is not true any more.
    pub(super) fn tell(&mut self, id: ReplicaId, input: Input, under: Epoch) -> Result<(), Broken> {
        if !self.nodes.get(&id).is_some_and(Node::is_up) {
            return Ok(());
        }
        if let Input::Supported { leader, .. } = input {
            let Support { epoch, given, .. } = *self.pair(id, leader);
            if !given || epoch != under {
                return Ok(());
            }
        }
        if let Input::SupportWithdrawn { epoch } = input {
            let raft = self.nodes[&id].raft();
            let Some(binding) = raft.binding() else { return Ok(()) };
            let now = *self.pair(id, binding.leader);
            if binding.epoch > epoch || (now.given && now.epoch == binding.epoch) {
                return Ok(());
            }
            self.tally.add("freed by its store");
        }
        self.input(id, input)
    }

    /// A store is there again: what it was given before is not counted on any more.
    pub(super) fn support_restarts(&mut self, id: ReplicaId) {
        let pairs: Vec<_> =
            self.support.keys().copied().filter(|&(_, holder)| holder == id).collect();
        for (supporter, holder) in pairs {
            self.withdraw(supporter, holder);
        }
        // What its replica is bound by may have ended before its crash.
        let binding = self.nodes[&id].raft().binding();
        if let Some(binding) = binding {
            let Support { epoch, given, .. } = *self.pair(id, binding.leader);
            if !(given && epoch == binding.epoch) {
                let input = Input::SupportWithdrawn { epoch: binding.epoch };
                self.after(0, Happening::Tell(id, input, epoch));
            }
        }
    }

    pub(super) fn support_crashes(&mut self, id: ReplicaId) {
        for (_, support) in self.support.iter_mut().filter(|((_, holder), _)| *holder == id) {
            support.counted = false;
        }
    }

    fn withdraw(&mut self, supporter: ReplicaId, holder: ReplicaId) {
        let pair = self.pair(supporter, holder);
        pair.counted = false;
        pair.given = false;
        let epoch = pair.epoch;
        pair.epoch = epoch.next();
        let late = if self.dice.chance(300) { 200 } else { 0 };
        self.after(late, Happening::Tell(supporter, Input::SupportWithdrawn { epoch }, epoch));
    }

    /// Something happens between two stores.
    pub(super) fn support_chaos(&mut self, ids: &[ReplicaId]) -> Result<(), Broken> {
        for _ in 0..4 {
            let supporter = *self.dice.pick(ids).expect("some");
            let holder = *self.dice.pick(ids).expect("some");
            if supporter != holder && self.give_support(supporter, holder) {
                self.support_moves(supporter, holder)?;
            }
        }
        Ok(())
    }

    fn support_moves(&mut self, supporter: ReplicaId, holder: ReplicaId) -> Result<(), Broken> {
        let Support { epoch, given, counted } = *self.pair(supporter, holder);
        let holder_up = self.nodes[&holder].is_up();
        match (given, counted) {
            (true, true) if self.dice.chance(self.climate.lapse) => {
                self.pair(supporter, holder).counted = false;
                self.tally.add("support lapsed");
                if holder_up {
                    self.input(holder, Input::PeerAbsent(supporter))?;
                }
            }
            (true, false) if self.dice.chance(300) => self.withdraw(supporter, holder),
            (true, false) if holder_up => self.count_on(supporter, holder, epoch)?,
            (false, _) if self.nodes[&supporter].is_up() => {
                self.pair(supporter, holder).given = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn count_on(
        &mut self,
        supporter: ReplicaId,
        holder: ReplicaId,
        epoch: Epoch,
    ) -> Result<(), Broken> {
        self.pair(supporter, holder).counted = true;
        self.input(holder, Input::PeerPresent { id: supporter, epoch })
    }

    /// Everybody who is there supports everybody.
    pub(super) fn support_heals(&mut self) -> Result<(), Broken> {
        let up: Vec<ReplicaId> =
            self.nodes.values().filter(|node| node.is_up()).map(|node| node.id).collect();
        for &supporter in &up {
            for &holder in up.iter().filter(|&&holder| holder != supporter) {
                if !self.give_support(supporter, holder) {
                    continue;
                }
                let pair = self.pair(supporter, holder);
                pair.given = true;
                let (epoch, counted) = (pair.epoch, pair.counted);
                if !counted {
                    self.count_on(supporter, holder, epoch)?;
                }
            }
        }
        Ok(())
    }

    /// The lease of this replica at this moment.
    pub(super) fn lease(&mut self, id: ReplicaId) -> Option<Duration> {
        let now = self.now;
        let support = &self.support;
        let until = |supporter: ReplicaId, epoch: Epoch| {
            let pair = support.get(&(supporter, id))?;
            let any = epoch == Epoch(u64::MAX);
            (pair.counted && (any || pair.epoch == epoch))
                .then_some(now + Duration::from_millis(40))
        };
        self.nodes.get_mut(&id)?.raft.as_mut()?.lease(now, until)
    }

    /// Whoever has a lease leads the latest term that anybody was ever elected in.
    pub(super) fn check_leases(&mut self) -> Result<(), Broken> {
        for id in self.leaders() {
            if self.lease(id).is_none() {
                continue;
            }
            self.tally.add("lease");
            if !self.classical.is_empty() {
                self.tally.add("lease beside a classical replica");
            }
            self.check_bound(id)?;
            let term = self.nodes[&id].raft().term();
            if let Some((later, other)) = self.checks.latest_leader().filter(|&(t, _)| t > term) {
                return Err(format!("{id} has a lease in term {term}, {other} leads {later}"));
            }
            if self.nodes[&id].app.applied.index < self.checks.max_committed()
                && !self.nodes[&id].raft().is_term_committed()
            {
                return Err(format!("{id} has a lease and may lack what is committed"));
            }
        }
        Ok(())
    }

    /// Whether this replica is bound to the holder, and its store's support is counted on, by what
    /// is in memory or, while it is down, on its disk.
    fn stands_by(&self, id: ReplicaId, holder: ReplicaId) -> bool {
        let node = &self.nodes[&id];
        let (term, binding) = match &node.raft {
            Some(raft) => (raft.term(), raft.binding()),
            None => (node.disk.hard_state.term, node.disk.hard_state.binding),
        };
        let support = self.support.get(&(id, holder)).copied().unwrap_or_default();
        let bound = binding == Some(Binding { leader: holder, epoch: support.epoch });
        bound && term == self.nodes[&holder].raft().term() && support.counted
    }

    /// Whoever has a lease is stood by in fact by a quorum of each half of the membership.
    fn check_bound(&self, holder: ReplicaId) -> Result<(), Broken> {
        let membership = self.nodes[&holder].raft().membership();
        for half in [&membership.voters, &membership.voters_outgoing] {
            let stands = |id: &&ReplicaId| **id == holder || self.stands_by(**id, holder);
            let standing: Vec<_> = half.iter().filter(stands).collect();
            if !half.is_empty() && standing.len() * 2 <= half.len() {
                return Err(format!(
                    "{holder} has a lease, and of {membership} only {standing:?} stand by it"
                ));
            }
        }
        Ok(())
    }

    /// A group in which nothing happens costs nothing: no message, no deadline; and its leader has
    /// a lease.
    pub(crate) fn rest(&mut self) -> Result<(), Broken> {
        // With one that nobody can stand by, or that stands by nobody, there is no rest.
        if !self.climate.fortify || self.climate.lapse == 0 || !self.classical.is_empty() {
            return Ok(());
        }
        self.resting = true;
        // What is under way takes its time: in some worlds an entry at a time.
        let bound = self.now + Duration::from_secs(600);
        let (mut sent, mut silent_since) = (self.sent, self.now);
        while self.now < silent_since + Duration::from_secs(10) && self.now < bound {
            self.support_heals()?;
            self.step()?;
            let members = self.latest_membership.1.members();
            self.retire_zombies(&members);
            if self.sent != sent {
                (sent, silent_since) = (self.sent, self.now);
            }
        }
        let (before, end) = (self.sent, self.now + Duration::from_secs(20));
        while self.now < end {
            self.step()?;
        }
        if self.sent != before {
            return Err(format!("{} messages of a group at rest", self.sent - before));
        }
        let members = self.latest_membership.1.members();
        for id in &members {
            let raft = self.nodes[id].raft();
            if raft.next_deadline().is_some() {
                return Err(format!("{id}, {:?}, waits for time to pass", raft.role()));
            }
        }
        let leaders = self.leaders();
        if !leaders.iter().any(|&id| self.lease(id).is_some()) {
            return Err(format!("no lease with all support there is: {leaders:?}"));
        }
        self.tally.add("at rest");
        Ok(())
    }
}
