//! One range's replica on this store.

use std::collections::BTreeMap;
use std::time::Duration;

use raft::{Raft, ReplicaId};

use crate::types::NodeId;

/// A member of a range's Raft group that lives on this store.
pub struct Replica {
    pub(crate) raft: Raft,
    /// Where the members of the group live.
    pub(crate) nodes: BTreeMap<ReplicaId, NodeId>,
    /// The deadline that the store's timer set holds for it.
    pub(crate) deadline: Option<Duration>,
}

impl Replica {
    pub(crate) fn new(raft: Raft, nodes: BTreeMap<ReplicaId, NodeId>) -> Replica {
        Replica { raft, nodes, deadline: None }
    }

    /// The consensus core, to be looked at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The node on which a member of the group lives.
    #[must_use]
    pub fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        self.nodes.get(&replica).copied()
    }

    /// The members of the group that live on `node`.
    pub(crate) fn on(&self, node: NodeId) -> impl Iterator<Item = ReplicaId> {
        self.nodes.iter().filter(move |&(_, &on)| on == node).map(|(&replica, _)| replica)
    }
}
