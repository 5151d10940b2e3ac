//! What comes in from peers.

use std::sync::Arc;

use bytes::Bytes;
use raft::LogIndex;
use store::NodeId;
use tokio::net::TcpStream;

use super::snapshots::Receiving;
use super::{Event, Inbox};
use crate::handle::Shared;
use crate::transport::Inbound;
use crate::transport::hello::DescribedMember;

/// The receiving side of the transport.
pub(super) struct FromPeers {
    pub(super) inbox: Inbox,
    pub(super) shared: Arc<Shared>,
    pub(super) receiving: Arc<Receiving>,
    /// What this member knew to be committed when it started: before it has applied that much, it may name members as
    /// they were long ago.
    pub(super) committed_at_start: LogIndex,
}

impl Inbound for FromPeers {
    fn deliver(&self, from: NodeId, payload: Bytes) -> Result<(), Bytes> {
        self.inbox.offer(from, payload)
    }

    fn unreachable(&self, peer: NodeId) {
        self.inbox.send(Event::Unreachable(peer));
    }

    fn removed(&self, peer: NodeId) {
        self.inbox.send(Event::Removed(peer));
    }

    fn describe(&self) -> Option<Vec<DescribedMember>> {
        let view = self.shared.reader.load().view();
        if view.applied().index < self.committed_at_start.0 {
            return None;
        }
        match etcd::members(&view) {
            Ok(members) => {
                let described = members.into_iter().map(|member| DescribedMember {
                    id: member.id,
                    name: member.name,
                    peer_urls: member.peer_urls,
                    is_learner: member.is_learner,
                    started: !member.client_urls.is_empty(),
                });
                Some(described.collect())
            }
            Err(error) => {
                tracing::error!(%error, "the members cannot be read");
                None
            }
        }
    }

    fn was_removed(&self, node: NodeId) -> bool {
        let view = self.shared.reader.load().view();
        etcd::was_removed(&view, node.0).unwrap_or(false)
    }

    fn snapshot(&self, from: NodeId, stream: TcpStream) {
        self.receiving.receive(from, stream);
    }
}
