//! What the state holds beside the users' keys: the rows of the meta table, and their keys.
//!
//! | key | value |
//! |---|---|
//! | `alarm/` type member | nothing: it is there, so it is raised |
//! | `attached/` lease key | nothing: the key is attached to the lease |
//! | `compacted` | 8 bytes: the compact revision, as asked for |
//! | `lease/` lease | a [`LeaseRow`] |
//! | `member/` member | a [`MemberRow`] |
//!
//! Numbers in keys are big-endian, so that rows are in the order of their numbers; lease ids
//! are signed and have the sign bit turned round. `auth/` is kept free for users and roles.
//!
//! `compacted` repeats what the multi-version state knows, for one case: a compaction at
//! revision 0 changes nothing there, but a second one must be refused.

use bytes::{BufMut, Bytes, BytesMut};
use mvcc::LeaseId;

pub(crate) const ALARMS: &[u8] = b"alarm/";
pub(crate) const ATTACHED: &[u8] = b"attached/";
pub(crate) const COMPACTED: &[u8] = b"compacted";
pub(crate) const LEASES: &[u8] = b"lease/";
pub(crate) const MEMBERS: &[u8] = b"member/";

/// A lease, as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct LeaseRow {
    /// Seconds it lives without a sign of life; at least 1.
    #[prost(int64, tag = "1")]
    pub(crate) ttl_s: i64,
    /// It has ended, and some of its keys are still to be deleted.
    #[prost(bool, tag = "2")]
    pub(crate) ending: bool,
}

/// A member, as it is stored. Removed ones stay: their ids are not used again.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct MemberRow {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) client_urls: Vec<String>,
    #[prost(bool, tag = "4")]
    pub(crate) is_learner: bool,
    #[prost(bool, tag = "5")]
    pub(crate) removed: bool,
}

fn key(prefix: &[u8], parts: &[&[u8]]) -> Bytes {
    let len = prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut key = BytesMut::with_capacity(len);
    key.put_slice(prefix);
    for part in parts {
        key.put_slice(part);
    }
    key.freeze()
}

fn ordered(id: LeaseId) -> [u8; 8] {
    (id.0 ^ i64::MIN).to_be_bytes()
}

pub(crate) fn lease(id: LeaseId) -> Bytes {
    key(LEASES, &[&ordered(id)])
}

/// The lease whose row has this key.
pub(crate) fn lease_of(key: &[u8]) -> Option<LeaseId> {
    let id = key.strip_prefix(LEASES)?.try_into().ok()?;
    Some(LeaseId(i64::from_be_bytes(id) ^ i64::MIN))
}

pub(crate) fn attached(id: LeaseId, user_key: &[u8]) -> Bytes {
    key(ATTACHED, &[&ordered(id), user_key])
}

/// Before the keys of all rows of keys attached to the lease.
pub(crate) fn attached_to(id: LeaseId) -> Bytes {
    attached(id, b"")
}

/// The user's key in the key of such a row.
pub(crate) fn attached_key(key: &Bytes) -> Bytes {
    key.slice(ATTACHED.len() + 8..)
}

pub(crate) fn member(id: u64) -> Bytes {
    key(MEMBERS, &[&id.to_be_bytes()])
}

pub(crate) fn member_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(MEMBERS)?.try_into().ok()?))
}

pub(crate) fn alarm(kind: i32, member: u64) -> Bytes {
    key(ALARMS, &[&kind.to_be_bytes(), &member.to_be_bytes()])
}

/// Kind and member of an alarm.
pub(crate) fn alarm_of(key: &[u8]) -> Option<(i32, u64)> {
    let (kind, member) = key.strip_prefix(ALARMS)?.split_at_checked(4)?;
    let kind = i32::from_be_bytes(kind.try_into().ok()?);
    Some((kind, u64::from_be_bytes(member.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_ordered_by_number() {
        let ids = [i64::MIN, -1, 0, 1, i64::MAX].map(LeaseId);
        for pair in ids.windows(2) {
            assert!(lease(pair[0]) < lease(pair[1]));
        }
        for id in ids {
            assert_eq!(lease_of(&lease(id)), Some(id));
            let row = attached(id, b"k/\0");
            assert!(row.starts_with(&attached_to(id)));
            assert_eq!(attached_key(&row), &b"k/\0"[..]);
        }
        assert_eq!(member_of(&member(u64::MAX)), Some(u64::MAX));
        assert_eq!(alarm_of(&alarm(2, 7)), Some((2, 7)));
        assert_eq!(lease_of(b"lease/short"), None);
        assert_eq!(alarm_of(b"alarm/x"), None);
    }
}
