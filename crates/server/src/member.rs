//! The member behind the door: a node.

use etcd::{Error, Request, Response};
use mvcc::View;
use node::{Handle, RangeId};
use prometheus_client::registry::Registry;

use crate::backend::{Backend, Feed, MemberStatus, Standing};

/// The version of etcd's API that is served.
pub const API_VERSION: &str = "3.5.21";

/// The version of the API and of what is stored that all members share.
pub const CLUSTER_VERSION: &str = "3.5.0";

impl Backend for Handle {
    async fn execute(&self, request: Request) -> Result<Response, Error> {
        Handle::execute(self, request).await
    }

    async fn execute_in(&self, range: RangeId, request: Request) -> Result<Response, Error> {
        Handle::execute_in(self, range, request).await
    }

    async fn read_point(&self) -> Result<View, Error> {
        Handle::read_point(self).await
    }

    fn view(&self) -> View {
        Handle::view(self)
    }

    fn standing(&self) -> Standing {
        let standing = Handle::standing(self);
        Standing {
            cluster_id: self.cluster_id(),
            member_id: self.member_id(),
            term: standing.term.0,
            leader: standing.leader.map(|node| node.0),
            is_learner: standing.is_learner,
        }
    }

    fn status(&self) -> MemberStatus {
        let standing = Handle::standing(self);
        let (db_size_bytes, db_in_use_bytes) = self.state_bytes().unwrap_or_else(|error| {
            tracing::error!(%error, "the state engine does not tell its size");
            (0, 0)
        });
        MemberStatus {
            version: API_VERSION.to_owned(),
            cluster_version: Some(CLUSTER_VERSION.to_owned()),
            storage_version: None,
            committed: standing.committed.0,
            applied: standing.applied.0,
            db_size_bytes,
            db_in_use_bytes,
            quota_bytes: self.limits().quota_bytes,
        }
    }

    fn subscribe(&self) -> Feed {
        Handle::subscribe(self)
    }

    async fn move_leader(&self, target: u64) -> Result<(), Error> {
        Handle::move_leader(self, target).await
    }

    async fn defragment(&self) -> Result<(), Error> {
        Handle::defragment(self).await
    }

    fn register_metrics(&self, registry: &mut Registry) {
        Handle::register_metrics(self, registry);
    }
}
