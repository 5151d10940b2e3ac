//! What comes in from peers.

use std::sync::Arc;

use bytes::Bytes;
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

    fn describe(&self) -> Vec<DescribedMember> {
        let view = self.shared.reader.load().view();
        match etcd::members(&view) {
            Ok(members) => members
                .into_iter()
                .map(|member| DescribedMember {
                    id: member.id,
                    name: member.name,
                    peer_urls: member.peer_urls,
                    is_learner: member.is_learner,
                    started: !member.client_urls.is_empty(),
                })
                .collect(),
            Err(error) => {
                tracing::error!(%error, "the members cannot be read");
                Vec::new()
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
