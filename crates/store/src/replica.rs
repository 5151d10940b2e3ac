//! One range's replica on this store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft::{Raft, ReplicaId};

use crate::types::NodeId;

/// A member of a range's Raft group that lives on this store.
pub struct Replica {
    pub(crate) raft: Raft,
    /// Where the members of the group live: a few, in order. Ranges of which the same is known share it.
    pub(crate) nodes: Arc<[(ReplicaId, NodeId)]>,
    /// The deadline that the store's timer set holds for it.
    pub(crate) deadline: Option<Duration>,
}

impl Replica {
    pub(crate) fn new(raft: Raft, nodes: BTreeMap<ReplicaId, NodeId>) -> Replica {
        Replica { raft, nodes: nodes.into_iter().collect(), deadline: None }
    }

    /// Holds where the members live together with another, if it knows the same.
    pub(crate) fn share_nodes(&mut self, other: &Replica) {
        if self.nodes == other.nodes {
            self.nodes = Arc::clone(&other.nodes);
        }
    }

    /// The consensus core, to be looked at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The node on which a member of the group lives.
    #[must_use]
    pub fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        node_in(&self.nodes, replica)
    }

    /// The members of the group that live on `node`.
    pub(crate) fn on(&self, node: NodeId) -> impl Iterator<Item = ReplicaId> {
        self.nodes.iter().filter(move |&&(_, on)| on == node).map(|&(replica, _)| replica)
    }

    /// Remembers where a replica lives of which nothing is known yet.
    pub(crate) fn meet(&mut self, replica: ReplicaId, node: NodeId) {
        if let Err(at) = self.nodes.binary_search_by_key(&replica, |&(id, _)| id) {
            let mut nodes = self.nodes.to_vec();
            nodes.insert(at, (replica, node));
            self.nodes = nodes.into();
        }
    }
}

/// Where that replica lives, by a list in order.
pub(crate) fn node_in(nodes: &[(ReplicaId, NodeId)], replica: ReplicaId) -> Option<NodeId> {
    let at = nodes.binary_search_by_key(&replica, |&(id, _)| id).ok()?;
    nodes.get(at).map(|&(_, node)| node)
}
