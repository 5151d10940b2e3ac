//! What must hold after every event.

use super::*;

impl World {
    pub(super) fn check(&mut self) -> Result<(), Broken> {
        self.check_rafts()?;
        for range in (1..=self.climate.ranges).map(RangeId) {
            self.check_leases(range)?;
        }
        Ok(())
    }

    /// The lease of a store at this true time, on its own clock.
    pub(super) fn lease(&mut self, id: NodeId, range: RangeId) -> Option<Duration> {
        let now = self.local(id);
        self.node(id).store.as_mut()?.lease(range, now)
    }

    fn check_leases(&mut self, range: RangeId) -> Result<(), Broken> {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let holders: Vec<NodeId> =
            ids.into_iter().filter(|&id| self.lease(id, range).is_some()).collect();
        for id in self.nodes.keys().copied() {
            let holds = holders.contains(&id);
            if holds {
                self.held.insert((id, range));
            } else if self.held.remove(&(id, range)) {
                self.tally.add("lease lost");
            }
        }
        if holders.len() > 1 {
            return Err(format!("{holders:?} hold the lease:\n{}", self.picture(range)));
        }
        let Some(&holder) = holders.first() else { return Ok(()) };
        self.tally.add("lease");
        let store = self.nodes[&holder].store.as_ref().expect("it holds a lease");
        let term = store.replica(range).expect("it holds the lease").raft().term();
        self.check_stood_by(holder, range)?;
        let later = self.leaders.range((range, term.next())..).next();
        match later {
            Some((&(other, later), leader)) if other == range => Err(format!(
                "{holder:?} holds the lease in {term}, {leader} was elected in {later}:\n{}",
                self.picture(range)
            )),
            _ => Ok(()),
        }
    }

    /// Whoever holds a lease is stood by in fact, by replicas and by their stores.
    fn check_stood_by(&self, holder: NodeId, range: RangeId) -> Result<(), Broken> {
        let store = self.nodes[&holder].store.as_ref().expect("it holds a lease");
        let raft = store.replica(range).expect("it holds the lease").raft();
        let stands = |id: ReplicaId| {
            let node = &self.nodes[&node_of(id)];
            let Some(stored) = node.disk.get(&range).filter(|stored| stored.id == id) else {
                return false;
            };
            let record = || {
                let supported = node.record.as_ref()?.supported.get(&holder)?;
                supported.promise.map(|_| supported.epoch)
            };
            let (support, term, binding) = match &node.store {
                Some(store) => {
                    let Some(replica) = store.replica(range) else { return false };
                    (store.support_for(holder), replica.raft().term(), replica.raft().binding())
                }
                None => (record(), stored.hard_state.term, stored.hard_state.binding),
            };
            let bound = binding.filter(|binding| binding.leader == raft.id());
            id == raft.id()
                || (term == raft.term() && bound.is_some_and(|b| Some(b.epoch) == support))
        };
        for half in [&raft.membership().voters, &raft.membership().voters_outgoing] {
            let standing: Vec<ReplicaId> = half.iter().copied().filter(|&id| stands(id)).collect();
            if !half.is_empty() && standing.len() * 2 <= half.len() {
                return Err(format!(
                    "only {standing:?} stand by {holder:?}, which has the lease:\n{}",
                    self.picture(range)
                ));
            }
        }
        Ok(())
    }

    fn check_rafts(&mut self) -> Result<(), Broken> {
        for (&id, node) in &self.nodes {
            let Some(store) = &node.store else { continue };
            for (range, replica) in store.replicas() {
                let raft = replica.raft();
                let checked = self.commit_checked.entry((id, range)).or_default();
                let from = checked.0.max(raft.truncated().index.0);
                for index in (from..=raft.committed().0).map(LogIndex) {
                    let term = raft.term_at(index).ok_or("what is committed is in the log")?;
                    let first = *self.committed.entry((range, index)).or_insert(term);
                    if first != term {
                        return Err(format!("{range:?} {index}: committed in {first} and {term}"));
                    }
                }
                *checked = raft.committed();
                if !raft.is_leader() {
                    continue;
                }
                let known = self.leaders.insert((range, raft.term()), raft.id());
                if known.is_some_and(|known| known != raft.id()) {
                    return Err(format!("{known:?} and {} lead {}", raft.id(), raft.term()));
                }
                if known.is_none() {
                    let committed = self.committed.range((range, raft.truncated().index)..);
                    for (&(_, index), &term) in committed.take_while(|((r, _), _)| *r == range) {
                        if raft.term_at(index) != Some(term) {
                            return Err(format!("{range:?} is led without {index}@{term}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A message leaves a store: what it claims is on its disk.
    pub(super) fn check_leaving(&self, from: NodeId, envelope: &Envelope) -> Result<(), Broken> {
        let Some(stored) = self.nodes[&from].disk.get(&envelope.range) else { return Ok(()) };
        let Message { from: id, to, term, body } = &envelope.message;
        let HardState { term: stored_term, vote, binding, .. } = stored.hard_state;
        if stored.id != *id || stored_term > *term {
            return Ok(());
        }
        let sound = match body {
            Body::VoteResponse { granted: true, .. } => {
                (stored_term, vote) == (*term, Some(*to))
                    && binding.is_none_or(|binding| binding.leader == *to)
            }
            Body::Vote { .. } => (stored_term, vote) == (*term, Some(*id)),
            Body::Fortified { epoch } => {
                binding.is_some_and(|binding| binding.leader == *to && binding.epoch >= *epoch)
            }
            Body::AppendAccepted { matched, .. } => {
                stored_term == *term && stored.last() >= *matched
            }
            _ => true,
        };
        if sound {
            return Ok(());
        }
        Err(format!("{envelope:?} left {from:?}, which has stored {:?}", stored.hard_state))
    }
}
