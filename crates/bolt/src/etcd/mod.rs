//! What etcd keeps in which bucket, and the snapshot that its tools download and restore.
//!
//! | bucket | key | value |
//! |---|---|---|
//! | `key` | [`RevisionKey`], 17 or 18 bytes | `mvccpb.KeyValue`; of a tombstone only the key is set |
//! | `meta` | `consistent_index`, `term` | u64, big-endian |
//! | | `scheduledCompactRev`, `finishedCompactRev` | revision key |
//! | | `confState` | `raftpb.ConfState` as JSON |
//! | | `storageVersion` | text, from 3.6 on |
//! | `lease` | lease id, 8 bytes big-endian | `leasepb.Lease` |
//! | `members` | member id, hexadecimal | JSON, see [`Member`] |
//! | `members_removed` | member id, hexadecimal | `removed` |
//! | `cluster` | `clusterVersion` | text |
//! | `alarm` | `etcdserverpb.AlarmMember` | empty |
//! | `auth` | `authEnabled` | 0 or 1, a byte |
//! | | `authRevision` | u64, big-endian |
//! | `authUsers`, `authRoles` | name | `authpb.User`, `authpb.Role` |
//!
//! The store's revision is nowhere: it is the main revision of the last key in `key`, or the
//! compacted one if that is higher. When etcd opens the file it reads `key` from end to end and
//! builds its index from it, so a key's oldest version in the file must carry its creation
//! revision and version number; tombstones may come without the version they ended.
//!
//! A snapshot on the wire and on disk is this database, whose length is a multiple of 512, and
//! then the 32 bytes of its SHA-256. [`Chunks`] makes the stream out of a file; [`verify`] checks
//! one.
//!
//! Sources: etcd's `server/mvcc/kvstore.go` and `revision.go`, `server/mvcc/buckets`,
//! `server/lease/lessor.go`, `server/etcdserver/api/membership/store.go`, and files that 3.4.23
//! and 3.5.1 wrote.
//!
//! Caveats
//! - Sub-revisions of versions at or below the compacted revision need not be the original ones;
//!   they only tell versions of one revision apart. `snapshot status` prints a hash over them.
//! - Restored leases have their full or remaining time to live from the moment a leader serves.

mod read;
mod records;
mod stream;
mod write;

pub use read::{Auth, Named, Snapshot, SnapshotError, Status, Versions};
pub use records::{Alarm, Lease, Member, RevisionKey, Version};
pub use stream::{Chunk, Chunks, DIGEST_BYTES, Digest, VerifyError, verify};
pub use write::{Meta, SnapshotWriter};

/// Every bucket of an etcd database, in ascending order. Tools of etcd take it for granted that
/// each exists.
pub const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];
