//! Keys and values of etcd's buckets, to and from bytes.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Length of a revision key that is no tombstone, in bytes.
const REVISION_BYTES: usize = 17;

/// The key of one version in the bucket `key`: 8 bytes of main revision, `_`, 8 bytes of
/// sub-revision, both big-endian so that they sort by revision, and `t` for a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionKey {
    /// The revision of the transaction; not negative.
    pub main: i64,
    /// The position of the operation in the transaction; not negative.
    pub sub: i64,
    /// Whether the version is a deletion.
    pub tombstone: bool,
}

impl RevisionKey {
    /// The bytes in the file: 17, or 18 for a tombstone.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REVISION_BYTES + 1);
        bytes.extend_from_slice(&self.main.to_be_bytes());
        bytes.push(b'_');
        bytes.extend_from_slice(&self.sub.to_be_bytes());
        if self.tombstone {
            bytes.push(b't');
        }
        bytes
    }

    /// `None` unless `bytes` is exactly such a key.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let tombstone = match bytes.len() {
            REVISION_BYTES => false,
            18 if bytes[REVISION_BYTES] == b't' => true,
            _ => return None,
        };
        let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..REVISION_BYTES].try_into().ok()?);
        (bytes[8] == b'_' && main >= 0 && sub >= 0).then_some(Self { main, sub, tombstone })
    }
}

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its revision.
    pub revision: RevisionKey,
    /// The encoded `mvccpb.KeyValue`. Of a tombstone only the key is set.
    pub encoded: Bytes,
}

/// A lease as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// The time to live it was granted with, in seconds.
    pub ttl_s: i64,
    /// What was left of it at the last lease checkpoint, in seconds; 0 if there was none.
    pub remaining_ttl_s: i64,
}

impl Lease {
    pub(super) fn key(&self) -> [u8; 8] {
        self.id.to_be_bytes()
    }

    /// `leasepb.Lease`: ID = 1, TTL = 2, RemainingTTL = 3, all int64.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (field, value) in [(1, self.id), (2, self.ttl_s), (3, self.remaining_ttl_s)] {
            put_int(&mut bytes, field, value.cast_unsigned());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [id, ttl_s, remaining_ttl_s] = ints(bytes)?.map(u64::cast_signed);
        Some(Self { id, ttl_s, remaining_ttl_s })
    }
}

/// A member of the cluster as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

impl Member {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("id".into(), json!(self.id));
        object.insert("peerURLs".into(), json!(self.peer_urls));
        if self.is_learner {
            object.insert("isLearner".into(), json!(true));
        }
        if !self.name.is_empty() {
            object.insert("name".into(), json!(self.name));
        }
        if !self.client_urls.is_empty() {
            object.insert("clientURLs".into(), json!(self.client_urls));
        }
        Value::Object(object).to_string().into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let object = value.as_object()?;
        let texts = |name: &str| match object.get(name) {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(list) => list.as_array()?.iter().map(|url| Some(url.as_str()?.into())).collect(),
        };
        Some(Self {
            id: object.get("id")?.as_u64()?,
            name: object.get("name").map_or(Some(""), Value::as_str)?.into(),
            peer_urls: texts("peerURLs")?,
            client_urls: texts("clientURLs")?,
            is_learner: object.get("isLearner").map_or(Some(false), Value::as_bool)?,
        })
    }
}

/// An alarm that is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The member that raised it.
    pub member_id: u64,
    /// `etcdserverpb.AlarmType`: 1 is NOSPACE, 2 is CORRUPT.
    pub alarm: i32,
}

impl Alarm {
    /// `etcdserverpb.AlarmMember`: memberID = 1, alarm = 2.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_int(&mut bytes, 1, self.member_id);
        put_int(&mut bytes, 2, i64::from(self.alarm).cast_unsigned());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [member_id, alarm] = ints(bytes)?;
        Some(Self { member_id, alarm: i32::try_from(alarm).ok()? })
    }
}

/// Appends an integer field, unless it is 0.
fn put_int(bytes: &mut Vec<u8>, field: u8, mut value: u64) {
    if value == 0 {
        return;
    }
    bytes.push(field << 3);
    while value >= 0x80 {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
}

/// The integer fields 1 to N of a protobuf message that has no other kind of field; 0 for one
/// that is absent. Integer fields above N are skipped.
fn ints<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut fields = [0; N];
    let mut rest = bytes;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let value = take_varint(&mut rest)?;
        let field = usize::try_from(tag >> 3).ok()?;
        if tag & 7 != 0 || field == 0 {
            return None;
        }
        if let Some(slot) = fields.get_mut(field - 1) {
            *slot = value;
        }
    }
    Some(fields)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_are_etcds_bytes_and_sort_by_revision() {
        let key = RevisionKey { main: 0x0102, sub: 3, tombstone: true };
        let bytes = b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t";
        assert_eq!(key.encode(), bytes);
        assert_eq!(RevisionKey::decode(bytes), Some(key));
        let plain = RevisionKey { tombstone: false, ..key };
        assert_eq!(RevisionKey::decode(&bytes[..17]), Some(plain));
        let next = RevisionKey { main: 0x0102, sub: 256, tombstone: false };
        assert!(plain.encode() < key.encode() && key.encode() < next.encode());
    }

    #[test]
    fn what_is_no_revision_key_is_refused() {
        let good = RevisionKey { main: 1, sub: 0, tombstone: true }.encode();
        for cut in 0..17 {
            assert_eq!(RevisionKey::decode(&good[..cut]), None);
        }
        for (at, byte) in [(0, 0x80), (8, b'-'), (9, 0xff), (17, b'x')] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(RevisionKey::decode(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn leases_and_alarms_are_protobuf_messages() {
        let lease = Lease { id: 0x1234, ttl_s: 60, remaining_ttl_s: 0 };
        assert_eq!(lease.encode(), [0x08, 0xb4, 0x24, 0x10, 60]);
        let negative = Lease { id: -1, ttl_s: i64::MAX, remaining_ttl_s: 7 };
        for lease in [lease, negative] {
            assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        }
        let alarm = Alarm { member_id: u64::MAX, alarm: 2 };
        assert_eq!(Alarm::decode(&alarm.encode()), Some(alarm));
        for bad in [&[0x08][..], &[0x0a, 0], &[0x00, 1], &[0x08, 0xff], &[0xff; 11]] {
            assert_eq!(Lease::decode(bad), None, "{bad:02x?}");
        }
        assert_eq!(Lease::decode(&[0x20, 9, 0x10, 1]).map(|lease| lease.ttl_s), Some(1));
    }

    #[test]
    fn members_are_json_objects() {
        let text = r#"{"id":10276657743932975437,"peerURLs":["http://localhost:2380"],"name":"default","clientURLs":["http://localhost:2379"]}"#;
        let member = Member::decode(text.as_bytes()).expect("as etcd writes it");
        assert_eq!(member.id, 10_276_657_743_932_975_437);
        assert_eq!((member.name.as_str(), member.is_learner), ("default", false));
        assert_eq!(Member::decode(&member.encode()), Some(member));
        let learner = Member { id: 7, is_learner: true, ..Member::default() };
        assert_eq!(Member::decode(&learner.encode()), Some(learner));
        for bad in ["", "[]", "{}", r#"{"id":-1}"#, r#"{"id":1,"peerURLs":[1]}"#] {
            assert_eq!(Member::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
