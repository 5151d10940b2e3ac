//! The reader of a snapshot, whoever wrote it.

use bytes::Bytes;

use crate::read::{Entries, Entry, Limits, ReadAt, ReadError, Reader};

use super::records::{Alarm, Lease, Member, RevisionKey, Version};
use super::write::Meta;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The database is damaged, or none.
    #[error(transparent)]
    Database(#[from] ReadError),
    /// A bucket is missing without which it is no etcd database.
    #[error("not an etcd database: it has no bucket {0:?}")]
    MissingBucket(&'static str),
    /// A pair is not what etcd writes at its place.
    #[error("bucket {bucket:?} has an entry that etcd does not write: {key:02x?}")]
    Malformed {
        /// The bucket.
        bucket: &'static str,
        /// The pair's key.
        key: Vec<u8>,
    },
}

/// A stored user or role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its name.
    pub name: Bytes,
    /// The encoded `authpb.User` or `authpb.Role`.
    pub encoded: Bytes,
}

/// What is stored about authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Whether it is on.
    pub enabled: bool,
    /// The revision of users and roles; 0 if never used.
    pub revision: u64,
    /// All users.
    pub users: Vec<Named>,
    /// All roles.
    pub roles: Vec<Named>,
}

/// What `snapshot status` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over all names, keys and values.
    pub hash: u32,
    /// The last revision in the bucket `key`.
    pub revision: i64,
    /// Number of pairs in all buckets.
    pub total_keys: u64,
    /// Length of the database in bytes, without the digest behind it.
    pub total_bytes: u64,
}

/// An open snapshot.
#[derive(Debug)]
pub struct Snapshot<R> {
    reader: Reader<R>,
}

impl<R: ReadAt> Snapshot<R> {
    /// Opens a database; a digest behind it is not looked at (see [`super::verify`]).
    ///
    /// # Errors
    /// [`SnapshotError::Database`], and [`SnapshotError::MissingBucket`] if there is no `key` or
    /// no `meta`.
    pub fn open(source: R, limits: Limits) -> Result<Self, SnapshotError> {
        let reader = Reader::open(source, limits)?;
        for name in ["key", "meta"] {
            if reader.bucket(name.as_bytes())?.is_none() {
                return Err(SnapshotError::MissingBucket(name));
            }
        }
        Ok(Self { reader })
    }

    /// The database beneath.
    #[must_use]
    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// All versions in ascending order of their revisions. After an error there is none more.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn versions(&self) -> Result<Versions<'_, R>, SnapshotError> {
        Ok(Versions { entries: self.pairs("key")? })
    }

    /// The revision of the store: that of the last version, or the compacted one if it is
    /// higher, and at least 1.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn revision(&self) -> Result<i64, SnapshotError> {
        let compacted = self.meta()?.finished_compact.unwrap_or(0);
        Ok(self.last_version()?.max(compacted).max(1))
    }

    fn last_version(&self) -> Result<i64, SnapshotError> {
        let bucket = self.reader.bucket(b"key")?.ok_or(SnapshotError::MissingBucket("key"))?;
        match bucket.last()? {
            None => Ok(0),
            Some(Entry::Bucket { name, .. }) => Err(malformed("key", &name)),
            Some(Entry::Value { key, .. }) => match RevisionKey::decode(&key) {
                Some(revision) => Ok(revision.main),
                None => Err(malformed("key", &key)),
            },
        }
    }

    /// The bucket `meta`. Entries of names unknown here are ignored.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn meta(&self) -> Result<Meta, SnapshotError> {
        let mut meta = Meta::default();
        for pair in self.pairs("meta")? {
            let (key, value) = pair?;
            let bad = || malformed("meta", &key);
            let number = || be_u64(&value).ok_or_else(bad);
            let revision = || RevisionKey::decode(&value).map(|at| at.main).ok_or_else(bad);
            let text = || String::from_utf8(value.to_vec()).map_err(|_| bad());
            match &key[..] {
                b"consistent_index" => meta.consistent_index = number()?,
                b"term" => meta.term = Some(number()?),
                b"scheduledCompactRev" => meta.scheduled_compact = Some(revision()?),
                b"finishedCompactRev" => meta.finished_compact = Some(revision()?),
                b"confState" => meta.conf_state = Some(text()?),
                b"storageVersion" => meta.storage_version = Some(text()?),
                _ => {}
            }
        }
        Ok(meta)
    }

    /// All leases in ascending order of their ids.
    ///
    /// # Errors
    /// [`SnapshotError`], from the iterator too.
    pub fn leases(
        &self,
    ) -> Result<impl Iterator<Item = Result<Lease, SnapshotError>> + '_, SnapshotError> {
        Ok(self.pairs("lease")?.map(|pair| {
            let (key, value) = pair?;
            let lease = Lease::decode(&value).filter(|lease| lease.key() == key[..]);
            lease.ok_or_else(|| malformed("lease", &key))
        }))
    }

    /// All members.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn members(&self) -> Result<Vec<Member>, SnapshotError> {
        self.collect("members", |_, value| Member::decode(value))
    }

    /// The ids of members that were removed, which never come back.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn members_removed(&self) -> Result<Vec<u64>, SnapshotError> {
        self.collect("members_removed", |key, _| {
            u64::from_str_radix(std::str::from_utf8(key).ok()?, 16).ok()
        })
    }

    /// The version all members speak, if the cluster had agreed on one.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn cluster_version(&self) -> Result<Option<String>, SnapshotError> {
        let found = self.get("cluster", "clusterVersion")?;
        let text = found.map(|value| String::from_utf8(value.to_vec()));
        text.transpose().map_err(|_| malformed("cluster", b"clusterVersion"))
    }

    /// The alarms that are raised.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn alarms(&self) -> Result<Vec<Alarm>, SnapshotError> {
        self.collect("alarm", |key, _| Alarm::decode(key))
    }

    /// Users, roles and whether they count.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn auth(&self) -> Result<Auth, SnapshotError> {
        let named = |name: &[u8], encoded: &Bytes| {
            Some(Named { name: Bytes::copy_from_slice(name), encoded: encoded.clone() })
        };
        let revision = match self.get("auth", "authRevision")? {
            None => 0,
            Some(value) => be_u64(&value).ok_or_else(|| malformed("auth", b"authRevision"))?,
        };
        Ok(Auth {
            enabled: self.get("auth", "authEnabled")?.is_some_and(|value| value[..] == [1]),
            revision,
            users: self.collect("authUsers", named)?,
            roles: self.collect("authRoles", named)?,
        })
    }

    /// What etcd's tools print of a snapshot. Reads it whole, and checks every page.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn status(&self) -> Result<Status, SnapshotError> {
        self.reader.check()?;
        let (mut hash, mut total_keys) = (0, 0);
        for entry in self.reader.root().entries() {
            let Entry::Bucket { name, bucket } = entry? else { continue };
            hash = crc32c::crc32c_append(hash, &name);
            for entry in bucket.entries() {
                let (key, value) = match entry? {
                    Entry::Value { key, value } => (key, value),
                    Entry::Bucket { name, .. } => (name, Bytes::new()),
                };
                hash = crc32c::crc32c_append(hash, &key);
                hash = crc32c::crc32c_append(hash, &value);
                total_keys += 1;
            }
        }
        let total_bytes = self.reader.bytes();
        Ok(Status { hash, revision: self.last_version()?, total_keys, total_bytes })
    }

    fn get(&self, bucket: &str, key: &str) -> Result<Option<Bytes>, SnapshotError> {
        match self.reader.bucket(bucket.as_bytes())? {
            None => Ok(None),
            Some(bucket) => Ok(bucket.get(key.as_bytes())?),
        }
    }

    fn collect<T>(
        &self,
        bucket: &'static str,
        decode: impl Fn(&[u8], &Bytes) -> Option<T>,
    ) -> Result<Vec<T>, SnapshotError> {
        let pairs = self.pairs(bucket)?;
        let decoded = pairs.map(|pair| {
            let (key, value) = pair?;
            decode(&key, &value).ok_or_else(|| malformed(bucket, &key))
        });
        decoded.collect()
    }

    /// The pairs of a bucket; none if it is missing, as some are in databases of older versions.
    fn pairs(&self, name: &'static str) -> Result<Pairs<'_, R>, SnapshotError> {
        let bucket = self.reader.bucket(name.as_bytes())?;
        Ok(Pairs { name, entries: bucket.map(|bucket| bucket.entries()) })
    }
}

fn malformed(bucket: &'static str, key: &[u8]) -> SnapshotError {
    SnapshotError::Malformed { bucket, key: key.to_vec() }
}

fn be_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[derive(Debug)]
struct Pairs<'a, R> {
    name: &'static str,
    entries: Option<Entries<'a, R>>,
}

impl<R: ReadAt> Iterator for Pairs<'_, R> {
    type Item = Result<(Bytes, Bytes), SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.entries.as_mut()?.next()? {
            Ok(Entry::Value { key, value }) => Ok((key, value)),
            Ok(Entry::Bucket { name, .. }) => Err(malformed(self.name, &name)),
            Err(error) => Err(error.into()),
        })
    }
}

/// The versions of a snapshot, ascending.
#[derive(Debug)]
pub struct Versions<'a, R> {
    entries: Pairs<'a, R>,
}

impl<R: ReadAt> Iterator for Versions<'_, R> {
    type Item = Result<Version, SnapshotError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.entries.next()?;
        Some(pair.and_then(|(key, encoded)| match RevisionKey::decode(&key) {
            Some(revision) => Ok(Version { revision, encoded }),
            None => Err(malformed("key", &key)),
        }))
    }
}
