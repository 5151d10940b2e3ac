//! snapshot restore: a member's data directory out of a snapshot.
//!
//! The file is an etcd database: versions by revision. A state is kept by key. So the file is read
//! once, from end to end, and gives what each revision changed; its versions go into an external
//! sort, and come out of it by key, newest first. Memory is bounded by the sort's budget, one
//! revision, and the leases' ids; disk by three times the file: itself, the sort's runs, the state.
//!
//! What is restored is what etcdutl restores: keys with their history, leases (each with its whole
//! time to live), alarms. Members and everything else that belongs to the old cluster is left
//! behind; a cluster is founded from the flags.
//!
//! Two things in a file of etcd's are said otherwise here:
//!
//! - A key that one transaction puts and deletes is two versions of one revision there. Here it is
//!   the deletion, or nothing if the key was not there before.
//! - A restore with `--bump-revision` leaves an empty version, of no key, at the revision it
//!   arrives at. It counts as a revision and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bolt::etcd::{Digest, Snapshot, VerifyError, Version};
use bolt::sort::Sorter;
use bytes::Bytes;
use mvcc::{LeaseId, Record, Revision, version_place};
use node::{Restore, RestoredRevisions};
use prost::Message as _;

use crate::exit::{Exit, Result};
use crate::print::{put, text};
use crate::start::config::Manner;
use crate::start::{Flags, StartConfig, node_config};

/// So much of the history is sorted in memory at a time.
const SORT_BYTES: usize = 64 << 20;
/// How often those who wait are told how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// What a member's data directory is made from, and whose it is to be
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot: from `quorate snapshot save`, or from any etcd 3.4 to 3.7
    file: PathBuf,
    /// The data directory to make; it must not be there, or be empty
    #[arg(long, value_name = "DIR", default_value = "quorate.data")]
    data_dir: String,
    /// Where its log is to be, if not in the data directory
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<String>,
    /// The member's name, by which --initial-cluster knows it
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// Every member of the new cluster with its peer address: a=http://host:2380,b=... [default: alone]
    #[arg(long, value_name = "NAME=URL,...")]
    initial_cluster: Option<String>,
    /// What tells the new cluster from another with the same addresses
    #[arg(long, value_name = "TEXT", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Where peers will find this member
    #[arg(long, value_name = "URL,...", default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,
    /// Take a file without the checksum that a snapshot ends with, or with a wrong one: one that was
    /// copied out of a data directory (member/snap/db). Its pages are checked instead
    #[arg(long)]
    skip_hash_check: bool,
    /// Begin so many revisions later, so that no revision that a client has seen since the snapshot
    /// is given out again; needs --mark-compacted
    #[arg(long, value_name = "N", default_value_t = 0)]
    bump_revision: u64,
    /// Begin with all history compacted, so that watches and caches of clients begin anew; needs
    /// --bump-revision
    #[arg(long)]
    mark_compacted: bool,
}

impl RestoreArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever ends it. Nothing is left then of what it wrote.
    pub(crate) fn run(self) -> Result<()> {
        match (self.bump_revision > 0, self.mark_compacted) {
            (true, false) => {
                return Err(Exit::bad_args("--mark-compacted required if --bump-revision is set"));
            }
            (false, true) => {
                return Err(Exit::bad_args("--mark-compacted needs a --bump-revision above 0"));
            }
            _ => {}
        }
        let config = StartConfig::new(&self.flags(), Manner::Quorate)?;
        let backup = Backup::open(&self.file, self.skip_hash_check)?;
        let revisions = backup.revisions(self.bump_revision)?;
        let mut report = Report::default();
        let identity = node::restore(&node_config(&config), revisions, |restore| {
            backup.fill(restore, &mut report)
        })?;
        put(&format!(
            "Restored {} versions of keys up to revision {}, and {} leases, into {}\n\
             Member {:x} of cluster {:x}: run `quorate start` with the same --data-dir, --name,\n\
             --initial-cluster, --initial-cluster-token and --initial-advertise-peer-urls\n",
            report.versions,
            revisions.revision.0,
            report.leases,
            config.data_dir.display(),
            identity.member_id,
            identity.cluster_id,
        ))
    }

    /// As flags of `start`, so that they mean the same here and there.
    fn flags(&self) -> Flags {
        Flags {
            name: Some(self.name.clone()),
            data_dir: Some(self.data_dir.clone()),
            wal_dir: self.wal_dir.clone(),
            initial_cluster: self.initial_cluster.clone(),
            initial_cluster_token: Some(self.initial_cluster_token.clone()),
            initial_advertise_peer_urls: Some(self.initial_advertise_peer_urls.clone()),
            ..Flags::default()
        }
    }
}

/// What was restored.
#[derive(Debug, Default)]
struct Report {
    versions: u64,
    leases: u64,
}

/// A snapshot that may be restored.
struct Backup {
    path: PathBuf,
    snapshot: Snapshot<File>,
    bytes: u64,
}

impl Backup {
    fn open(path: &Path, skip_hash_check: bool) -> Result<Self> {
        let failed = |e: &dyn std::fmt::Display| Exit::failed(format!("{}: {e}", path.display()));
        let file = File::open(path).map_err(|e| failed(&e))?;
        let bytes = file.metadata().map_err(|e| failed(&e))?.len();
        if !skip_hash_check {
            match bolt::etcd::verify(&file) {
                Ok(Digest::Verified) => {}
                Ok(Digest::Absent) => {
                    return Err(failed(
                        &"it does not end with the checksum that `snapshot save` writes. If it was \
                          copied out of a data directory, add --skip-hash-check",
                    ));
                }
                Err(error @ (VerifyError::Length { .. } | VerifyError::Mismatch)) => {
                    return Err(failed(&format!(
                        "{error}. Take another backup; --skip-hash-check restores what can be read"
                    )));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        let snapshot =
            Snapshot::open(file, bolt::Limits::default()).map_err(|error| failed(&error))?;
        if skip_hash_check {
            snapshot.reader().check().map_err(|error| failed(&error))?;
        }
        let auth = snapshot.auth().map_err(|error| failed(&error))?;
        if auth.enabled {
            return Err(failed(
                &"authentication is on in this snapshot, and not served here yet: everybody could \
                  read what is restored. Switch it off (etcdctl auth disable) and save again",
            ));
        }
        if !auth.users.is_empty() || !auth.roles.is_empty() {
            eprintln!("Warning: users and roles are not restored: they are not served here yet");
        }
        Ok(Self { path: path.to_owned(), snapshot, bytes })
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Exit {
        Exit::failed(format!("{}: {error}", self.path.display()))
    }

    /// Where the restored state begins. A compaction that was asked for and not finished is done.
    fn revisions(&self, bump: u64) -> Result<RestoredRevisions> {
        let meta = self.snapshot.meta().map_err(|e| self.failed(&e))?;
        let compacted = meta.finished_compact.max(meta.scheduled_compact).unwrap_or(0);
        let last = self.snapshot.revision().map_err(|e| self.failed(&e))?.max(compacted);
        let bumped = i64::try_from(bump).ok().and_then(|bump| last.checked_add(bump));
        let revision = bumped.ok_or_else(|| Exit::bad_args("--bump-revision is too large"))?;
        let compacted = if bump > 0 { revision } else { compacted };
        Ok(RestoredRevisions { revision: Revision(revision), compacted: Revision(compacted) })
    }

    fn fill(&self, restore: &mut Restore, report: &mut Report) -> Result<()> {
        for lease in self.snapshot.leases().map_err(|e| self.failed(&e))? {
            let lease = lease.map_err(|e| self.failed(&e))?;
            restore.lease(LeaseId(lease.id), lease.ttl_s)?;
            report.leases += 1;
        }
        for alarm in self.snapshot.alarms().map_err(|e| self.failed(&e))? {
            restore.alarm(alarm.alarm, alarm.member_id)?;
        }
        let scratch = restore.scratch_dir().to_owned();
        let mut sorter = Sorter::new(SORT_BYTES, || tempfile::tempfile_in(&scratch));
        let mut progress = Progress::new("read", self.bytes);
        let mut sorted_bytes = 0;
        let mut revision = PerRevision::default();
        for version in self.snapshot.versions().map_err(|e| self.failed(&e))? {
            let version = version.map_err(|e| self.failed(&e))?;
            progress.add(version.encoded.len() as u64);
            if version.revision.main != revision.main {
                sorted_bytes += revision.take(restore, &mut sorter)?;
                revision.main = version.revision.main;
            }
            revision.operation(&version).map_err(|e| self.failed(&e))?;
        }
        sorted_bytes += revision.take(restore, &mut sorter)?;
        let mut progress = Progress::new("written", sorted_bytes);
        for pair in sorter.finish().map_err(sorting)? {
            let (place, encoded) = pair.map_err(sorting)?;
            progress.add((place.len() + encoded.len()) as u64);
            // No record is empty: a tombstone is.
            let encoded = Some(encoded).filter(|encoded| !encoded.is_empty()).map(Bytes::from);
            report.versions += 1;
            restore.version(place.into(), encoded)?;
        }
        Ok(())
    }
}

fn sorting(error: std::io::Error) -> Exit {
    Exit::io(format!("sorting the history, in the data directory: {error}"))
}

/// One put or deletion.
#[derive(Debug, Clone, PartialEq)]
struct Operation {
    key: Bytes,
    /// `None` is a deletion.
    record: Option<Record>,
    /// Whether it is its revision's last word on the key.
    is_last: bool,
}

/// The operations of one revision, in their order.
#[derive(Debug, Default)]
struct PerRevision {
    main: i64,
    operations: Vec<Operation>,
}

impl PerRevision {
    fn operation(&mut self, version: &Version) -> std::result::Result<(), String> {
        let bad = |error: &dyn std::fmt::Display| {
            format!("revision {}: a version that is none: {error}", version.revision.main)
        };
        let (key, record) = if version.revision.tombstone {
            let gone = proto::mvccpb::KeyValue::decode(version.encoded.clone());
            (gone.map_err(|error| bad(&error))?.key, None)
        } else if version.encoded.is_empty() {
            return Ok(());
        } else {
            let record = Record::decode(version.encoded.clone()).map_err(|error| bad(&error))?;
            (record.key(), Some(record))
        };
        self.operations.push(Operation { key, record, is_last: true });
        Ok(())
    }

    /// Hands the revision on, unless there is none yet; gives how many bytes are to be sorted.
    fn take<M: FnMut() -> std::io::Result<File>>(
        &mut self,
        restore: &mut Restore,
        sorter: &mut Sorter<File, M>,
    ) -> Result<u64> {
        if self.main == 0 {
            return Ok(0);
        }
        let operations = settled(std::mem::take(&mut self.operations));
        let revision = Revision(self.main);
        let mut bytes = 0;
        for operation in operations.iter().filter(|operation| operation.is_last) {
            let place = version_place(&operation.key, revision);
            let encoded = operation.record.as_ref().map_or(&[][..], |record| &record.encoded);
            sorter.push(&place, encoded).map_err(sorting)?;
            bytes += (place.len() + encoded.len()) as u64;
        }
        let changes = operations.into_iter().map(|o| (o.key, o.record.is_none())).collect();
        restore.commit(revision, changes)?;
        Ok(bytes)
    }
}

/// Drops the puts that the same revision overrules, and the deletion of a key that it had made
/// itself; says which operation is the last of its key.
fn settled(mut operations: Vec<Operation>) -> Vec<Operation> {
    if operations.len() <= 1 {
        return operations;
    }
    let mut last = BTreeMap::new();
    for (at, operation) in operations.iter().enumerate() {
        last.insert(operation.key.clone(), at);
    }
    let (mut deleted, mut unborn) = (BTreeSet::new(), BTreeSet::new());
    let mut at = 0;
    operations.retain_mut(|operation| {
        operation.is_last = last.get(&operation.key) == Some(&at);
        at += 1;
        match &operation.record {
            Some(record) if !operation.is_last => {
                if record.version == 1 && !deleted.contains(&operation.key) {
                    unborn.insert(operation.key.clone());
                }
                false
            }
            Some(_) => true,
            None if unborn.remove(&operation.key) => false,
            None => {
                deleted.insert(operation.key.clone());
                true
            }
        }
    });
    operations
}

/// How far it is, on the terminal or in the log of whoever waits.
struct Progress {
    what: &'static str,
    done: u64,
    total: u64,
    next: Instant,
}

impl Progress {
    fn new(what: &'static str, total: u64) -> Self {
        Self { what, done: 0, total: total.max(1), next: Instant::now() + PROGRESS_INTERVAL }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if self.next.elapsed().is_zero() {
            return;
        }
        self.next = Instant::now() + PROGRESS_INTERVAL;
        let percent = (u128::from(self.done) * 100 / u128::from(self.total)).min(100);
        eprintln!("{}: {percent} % of {}", self.what, text::size(self.total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, version: i64) -> Operation {
        let record = Record::new(key.as_bytes(), Revision(3), Revision(7), version, b"v", None);
        Operation { key: key.into(), record: Some(record), is_last: true }
    }

    fn delete(key: &'static str) -> Operation {
        Operation { key: key.into(), record: None, is_last: true }
    }

    fn not_last(operation: Operation) -> Operation {
        Operation { is_last: false, ..operation }
    }

    #[test]
    fn a_revision_has_one_last_word_on_each_key() {
        let plain = vec![put("a", 1), put("b", 2), delete("c")];
        assert_eq!(settled(plain.clone()), plain);
        assert_eq!(settled(vec![]), []);
        // Put and deleted: the deletion, or nothing if the key was not there.
        assert_eq!(settled(vec![put("a", 2), delete("a")]), [delete("a")]);
        assert_eq!(settled(vec![put("a", 1), delete("a"), put("b", 1)]), [put("b", 1)]);
        // Deleted and put, or deleted twice: both are told, one is stored.
        let again = vec![delete("a"), put("a", 1)];
        assert_eq!(settled(again), [not_last(delete("a")), put("a", 1)]);
        let twice = vec![delete("a"), delete("b"), delete("a")];
        assert_eq!(settled(twice), [not_last(delete("a")), delete("b"), delete("a")]);
        let thrice = vec![delete("a"), put("a", 1), delete("a")];
        assert_eq!(settled(thrice), [not_last(delete("a")), delete("a")]);
    }
}
