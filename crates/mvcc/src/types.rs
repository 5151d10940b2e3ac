//! The words of the state: revisions, spans of keys, records and what a commit changes.

use bytes::Bytes;

/// A point in the one order of all mutations. A fresh store is at revision 1; each mutating
/// transaction takes the next. Never an index of a log, never the version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

/// An etcd lease. 0 on the wire is "no lease" and is `None` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A span of keys: `start <= key`, and `key < end` unless the span is open.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySpan {
    /// First key of the span.
    pub start: Bytes,
    /// First key after the span; `None` reaches to the end of the keyspace.
    pub end: Option<Bytes>,
}

/// One live version of a key.
///
/// `encoded` is the version in the shape that goes on the wire, a `mvccpb.KeyValue`; the other
/// fields are copies of what is inside, so that nothing has to be decoded to decide about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Revision at which the key was created (since its last deletion).
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
    /// Number of writes since creation; 1 for the first.
    pub version: i64,
    /// The lease the key is attached to.
    pub lease: Option<LeaseId>,
    /// The encoded `mvccpb.KeyValue`.
    pub encoded: Bytes,
}

/// What one operation of a transaction does to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its new version; `None` is a deletion (a tombstone).
    pub record: Option<Record>,
}

/// All that one revision changes. The position in `changes` is the sub-revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The revision.
    pub revision: Revision,
    /// The changes in the order of the transaction's operations; no key twice, except that a
    /// key may be deleted twice, and that a version may directly follow its key's deletion.
    pub changes: Vec<Change>,
}
