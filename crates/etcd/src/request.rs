//! What can be asked of the state machine, and what it answers.
//!
//! One variant for each unary call of the API that the replicated state is concerned with, plus
//! [`Publish`], with which a member makes its own name and addresses known. What a member can
//! only say of itself (Status, Defragment, Snapshot, MoveLeader) is not here: it belongs to the
//! layers above, who have the facts.

use proto::{etcdserverpb as pb, wire};

/// A call, with its message as it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    DeleteRange(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant
    LeaseGrant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// One message of the stream Lease.LeaseKeepAlive
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
    /// Lease.LeaseTimeToLive
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.LeaseLeases
    LeaseLeases(pb::LeaseLeasesRequest),
    /// Cluster.MemberAdd
    MemberAdd(pb::MemberAddRequest),
    /// Cluster.MemberRemove
    MemberRemove(pb::MemberRemoveRequest),
    /// Cluster.MemberUpdate
    MemberUpdate(pb::MemberUpdateRequest),
    /// Cluster.MemberList
    MemberList(pb::MemberListRequest),
    /// Cluster.MemberPromote
    MemberPromote(pb::MemberPromoteRequest),
    /// Maintenance.Alarm
    Alarm(pb::AlarmRequest),
    /// Maintenance.Hash
    Hash(pb::HashRequest),
    /// Maintenance.HashKV
    HashKv(pb::HashKvRequest),
    /// Auth.AuthStatus
    AuthStatus(pb::AuthStatusRequest),
    /// A member says who it is.
    Publish(Publish),
}

/// A member's own name and addresses, made known to all when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The member.
    pub member_id: u64,
    /// Its name; not empty.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// The answer, of the kind of the request.
///
/// Those that carry keys and values are of [`proto::wire`]: they hold versions as they are
/// stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To [`Request::Range`]
    Range(wire::RangeResponse),
    /// To [`Request::Put`]
    Put(wire::PutResponse),
    /// To [`Request::DeleteRange`]
    DeleteRange(wire::DeleteRangeResponse),
    /// To [`Request::Txn`]
    Txn(wire::TxnResponse),
    /// To [`Request::Compact`]
    Compact(pb::CompactionResponse),
    /// To [`Request::LeaseGrant`]
    LeaseGrant(pb::LeaseGrantResponse),
    /// To [`Request::LeaseRevoke`]
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// To [`Request::LeaseKeepAlive`]
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    /// To [`Request::LeaseTimeToLive`]
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
    /// To [`Request::LeaseLeases`]
    LeaseLeases(pb::LeaseLeasesResponse),
    /// To [`Request::MemberAdd`]
    MemberAdd(pb::MemberAddResponse),
    /// To [`Request::MemberRemove`]
    MemberRemove(pb::MemberRemoveResponse),
    /// To [`Request::MemberUpdate`]
    MemberUpdate(pb::MemberUpdateResponse),
    /// To [`Request::MemberList`]
    MemberList(pb::MemberListResponse),
    /// To [`Request::MemberPromote`]
    MemberPromote(pb::MemberPromoteResponse),
    /// To [`Request::Alarm`]
    Alarm(pb::AlarmResponse),
    /// To [`Request::Hash`]
    Hash(pb::HashResponse),
    /// To [`Request::HashKv`]
    HashKv(pb::HashKvResponse),
    /// To [`Request::AuthStatus`]
    AuthStatus(pb::AuthStatusResponse),
    /// To [`Request::Publish`]
    Published,
}

impl Response {
    /// The header, for whoever knows the cluster, the member and the term to fill them in. The
    /// revision is there already where the call has one. `None` for [`Response::Published`],
    /// which no client sees.
    pub fn header_mut(&mut self) -> Option<&mut pb::ResponseHeader> {
        let header = match self {
            Self::Range(response) => &mut response.header,
            Self::Put(response) => &mut response.header,
            Self::DeleteRange(response) => &mut response.header,
            Self::Txn(response) => &mut response.header,
            Self::Compact(response) => &mut response.header,
            Self::LeaseGrant(response) => &mut response.header,
            Self::LeaseRevoke(response) => &mut response.header,
            Self::LeaseKeepAlive(response) => &mut response.header,
            Self::LeaseTimeToLive(response) => &mut response.header,
            Self::LeaseLeases(response) => &mut response.header,
            Self::MemberAdd(response) => &mut response.header,
            Self::MemberRemove(response) => &mut response.header,
            Self::MemberUpdate(response) => &mut response.header,
            Self::MemberList(response) => &mut response.header,
            Self::MemberPromote(response) => &mut response.header,
            Self::Alarm(response) => &mut response.header,
            Self::Hash(response) => &mut response.header,
            Self::HashKv(response) => &mut response.header,
            Self::AuthStatus(response) => &mut response.header,
            Self::Published => return None,
        };
        Some(header.get_or_insert_default())
    }
}

/// A header with nothing but a revision.
pub(crate) fn header(revision: mvcc::Revision) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision: revision.0, ..Default::default() })
}

/// A header with nothing yet: the members' answers carry no revision.
pub(crate) fn header_without_revision() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader::default())
}
