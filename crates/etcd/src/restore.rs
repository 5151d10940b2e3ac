//! The rows of a state that was not applied but restored from elsewhere.
//!
//! A restored state is a new cluster's: its members are those that found it, nothing is known of
//! those of the old one, and leases have their whole time to live. What is here says where such
//! things are kept, so that whoever builds the state need not know.
//!
//! Every member of the new cluster must build the same state, to the byte.

use bytes::Bytes;
use mvcc::{LeaseId, Revision};
use prost::Message as _;

use crate::member::FoundingMember;
use crate::meta::{self, LeaseRow, MemberRow};

/// A row of the meta table: key and value.
pub type Row = (Bytes, Bytes);

/// A founding member.
#[must_use]
pub fn member_row(founder: &FoundingMember) -> Row {
    let row = MemberRow {
        name: founder.name.clone(),
        peer_urls: founder.peer_urls.clone(),
        ..Default::default()
    };
    (meta::member(founder.id), row.encode_to_vec().into())
}

/// A lease of `ttl_s` seconds; at least one.
#[must_use]
pub fn lease_row(id: LeaseId, ttl_s: i64) -> Row {
    (meta::lease(id), LeaseRow { ttl_s: ttl_s.max(1), ending: false }.encode_to_vec().into())
}

/// A live key that is attached to a lease; only for a lease that there is.
#[must_use]
pub fn attached_row(id: LeaseId, key: &[u8]) -> Row {
    (meta::attached(id, key), Bytes::new())
}

/// An alarm of a kind (`etcdserverpb.AlarmType`), raised by a member of any cluster.
#[must_use]
pub fn alarm_row(kind: i32, member: u64) -> Row {
    (meta::alarm(kind, member), Bytes::new())
}

/// The compact revision as it was asked for.
#[must_use]
pub fn compacted_row(revision: Revision) -> Row {
    (Bytes::from_static(meta::COMPACTED), Bytes::copy_from_slice(&revision.0.to_be_bytes()))
}
