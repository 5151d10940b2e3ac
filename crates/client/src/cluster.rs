//! The members of the cluster.

use proto::etcdserverpb as pb;
use proto::method::cluster as method;

use crate::pool::{Client, Safety};

impl Client {
    /// The members, confirmed by a majority; with `linearizable` off, as the asked member knows
    /// them.
    ///
    /// # Errors
    /// As any read.
    pub async fn members(&self, linearizable: bool) -> crate::Result<pb::MemberListResponse> {
        let request = pb::MemberListRequest { linearizable };
        self.call(Safety::Read, method::LIST, &request).await
    }

    /// Adds a member, to be started afterwards; a learner takes part without a vote.
    ///
    /// # Errors
    /// As any write.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> crate::Result<pb::MemberAddResponse> {
        let request = pb::MemberAddRequest { peer_urls, is_learner };
        self.call(Safety::Write, method::ADD, &request).await
    }

    /// Removes a member for good.
    ///
    /// # Errors
    /// As any write; [`crate::Reason::MemberNotFound`].
    pub async fn member_remove(&self, id: u64) -> crate::Result<pb::MemberRemoveResponse> {
        self.call(Safety::Write, method::REMOVE, &pb::MemberRemoveRequest { id }).await
    }

    /// Changes where a member's peers find it.
    ///
    /// # Errors
    /// As any write; [`crate::Reason::MemberNotFound`].
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> crate::Result<pb::MemberUpdateResponse> {
        let request = pb::MemberUpdateRequest { id, peer_urls };
        self.call(Safety::Write, method::UPDATE, &request).await
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// As any write; [`crate::Reason::LearnerNotReady`] while it lags too far behind.
    pub async fn member_promote(&self, id: u64) -> crate::Result<pb::MemberPromoteResponse> {
        self.call(Safety::Write, method::PROMOTE, &pb::MemberPromoteRequest { id }).await
    }
}
