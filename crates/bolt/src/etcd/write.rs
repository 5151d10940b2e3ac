//! The writer of a snapshot: one bucket after the other, each from a sorted source.

use std::collections::BTreeSet;
use std::io::{Seek, Write};

use crate::write::{BucketWriter, Summary, WriteError, Writer};

use super::BUCKETS;
use super::read::Auth;
use super::records::{Alarm, Lease, Member, RevisionKey, Version};

/// What the bucket `meta` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The log index up to which the state is applied.
    pub consistent_index: u64,
    /// The term of that entry; absent before etcd 3.5.
    pub term: Option<u64>,
    /// The revision up to which history was asked to be compacted.
    pub scheduled_compact: Option<i64>,
    /// The revision up to which history is gone.
    pub finished_compact: Option<i64>,
    /// `raftpb.ConfState` as JSON, not interpreted here; absent before etcd 3.5. A restore
    /// makes its own.
    pub conf_state: Option<String>,
    /// The schema of the database as `X.Y.Z`; absent before etcd 3.6.
    pub storage_version: Option<String>,
}

/// Writes an etcd database. Each bucket is written at most once; those that were not are empty.
///
/// ```
/// use bolt::etcd::{Meta, RevisionKey, SnapshotWriter, Version};
///
/// let mut writer = SnapshotWriter::create(std::io::Cursor::new(Vec::new()))?;
/// writer.meta(&Meta { consistent_index: 1, ..Meta::default() })?;
/// writer.versions(|put| {
///     put(&Version {
///         revision: RevisionKey { main: 2, sub: 0, tombstone: false },
///         encoded: vec![0x0a, 1, b'k', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, b'v'].into(),
///     })
/// })?;
/// let (file, summary) = writer.finish()?;
/// # Ok::<(), bolt::WriteError>(())
/// ```
#[derive(Debug)]
pub struct SnapshotWriter<F: Write + Seek> {
    writer: Writer<F>,
    written: BTreeSet<&'static str>,
}

impl<F: Write + Seek> SnapshotWriter<F> {
    /// Begins a database at the start of `file`, which should be empty.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn create(file: F) -> Result<Self, WriteError> {
        Ok(Self { writer: Writer::create(file)?, written: BTreeSet::new() })
    }

    fn bucket(
        &mut self,
        name: &'static str,
        fill: impl FnOnce(&mut BucketWriter<'_, F>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        self.writer.bucket(name.as_bytes(), fill)?;
        self.written.insert(name);
        Ok(())
    }

    /// Writes the bucket `key`: `fill` gets a function that takes versions in ascending order of
    /// their revisions, one at a time.
    ///
    /// # Errors
    /// [`WriteError`], and what `fill` returns; `E` lets it fail for reasons of its own.
    pub fn versions<E: From<WriteError>>(
        &mut self,
        fill: impl FnOnce(&mut dyn FnMut(&Version) -> Result<(), WriteError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut outcome = Ok(());
        self.bucket("key", |bucket| {
            outcome = fill(&mut |version| bucket.put(&version.revision.encode(), &version.encoded));
            Ok(())
        })?;
        outcome
    }

    /// Writes the bucket `meta`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn meta(&mut self, meta: &Meta) -> Result<(), WriteError> {
        let revision = |main| RevisionKey { main, sub: 0, tombstone: false }.encode();
        let text = |text: &String| text.clone().into_bytes();
        let values = [
            ("confState", meta.conf_state.as_ref().map(text)),
            ("consistent_index", Some(meta.consistent_index.to_be_bytes().to_vec())),
            ("finishedCompactRev", meta.finished_compact.map(revision)),
            ("scheduledCompactRev", meta.scheduled_compact.map(revision)),
            ("storageVersion", meta.storage_version.as_ref().map(text)),
            ("term", meta.term.map(|term| term.to_be_bytes().to_vec())),
        ];
        self.bucket("meta", |bucket| {
            for (name, value) in values {
                if let Some(value) = value {
                    bucket.put(name.as_bytes(), &value)?;
                }
            }
            Ok(())
        })
    }

    /// Writes the bucket `lease`. The leases ascend by id, with negative ids after all others
    /// (etcd gives out none).
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn leases(&mut self, leases: impl IntoIterator<Item = Lease>) -> Result<(), WriteError> {
        self.bucket("lease", |bucket| {
            leases.into_iter().try_for_each(|lease| bucket.put(&lease.key(), &lease.encode()))
        })
    }

    /// Writes `members` and `members_removed`, in any order.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn members(&mut self, members: &[Member], removed: &[u64]) -> Result<(), WriteError> {
        let mut members: Vec<_> =
            members.iter().map(|member| (hex(member.id), member.encode())).collect();
        members.sort();
        self.bucket("members", |bucket| {
            members.iter().try_for_each(|(id, member)| bucket.put(id.as_bytes(), member))
        })?;
        let removed: BTreeSet<_> = removed.iter().copied().map(hex).collect();
        self.bucket("members_removed", |bucket| {
            removed.iter().try_for_each(|id| bucket.put(id.as_bytes(), b"removed"))
        })
    }

    /// Writes the bucket `cluster`: the version all members speak, as `X.Y.0`.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn cluster_version(&mut self, version: &str) -> Result<(), WriteError> {
        self.bucket("cluster", |bucket| bucket.put(b"clusterVersion", version.as_bytes()))
    }

    /// Writes the bucket `alarm`, in any order.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn alarms(&mut self, alarms: &[Alarm]) -> Result<(), WriteError> {
        let keys: BTreeSet<_> = alarms.iter().map(Alarm::encode).collect();
        self.bucket("alarm", |bucket| keys.iter().try_for_each(|alarm| bucket.put(alarm, b"")))
    }

    /// Writes `auth`, `authUsers` and `authRoles`; users and roles in any order.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn auth(&mut self, auth: &Auth) -> Result<(), WriteError> {
        self.bucket("auth", |bucket| {
            bucket.put(b"authEnabled", &[auth.enabled.into()])?;
            bucket.put(b"authRevision", &auth.revision.to_be_bytes())
        })?;
        for (name, all) in [("authUsers", &auth.users), ("authRoles", &auth.roles)] {
            let mut all: Vec<_> = all.iter().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            self.bucket(name, |bucket| {
                all.iter().try_for_each(|named| bucket.put(&named.name, &named.encoded))
            })?;
        }
        Ok(())
    }

    /// Writes the remaining buckets, empty, and ends the database. The file comes back flushed,
    /// not synced.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<(F, Summary), WriteError> {
        for name in BUCKETS {
            if !self.written.contains(name) {
                self.bucket(name, |_| Ok(()))?;
            }
        }
        self.writer.finish()
    }
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}
