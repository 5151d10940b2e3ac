//! The state as an etcd database, for Maintenance.Snapshot.
//!
//! The file is made whole before its first byte is sent: it is a B+ tree by revision, and its
//! length, which every message of the stream carries, is known only then. It lies, without a
//! name, in the directory for snapshots ([`crate::scratch`]), and is gone with the call.

use std::fs::File;
use std::io::BufWriter;

use bolt::WriteError;
use bolt::etcd::{Chunks, Member, Meta, RevisionKey, SnapshotWriter, Version};
use bolt::sort::{Sorted, Sorter};
use etcd::Error;
use mvcc::{KeySpan, ReadError, Revision, View};
use proto::etcdserverpb as pb;

use crate::backend::MemberStatus;
use crate::grpc::Status;
use crate::scratch::{Scratch, ScratchFile};

/// Versions at the compact revision are sorted by revision in this much memory.
const SORT_BYTES: usize = 16 << 20;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("snapshot file: {0}")]
    Io(#[from] std::io::Error),
    #[error("snapshot: {0}")]
    Write(#[from] WriteError),
    #[error("snapshot: {0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    State(#[from] Error),
}

impl From<SnapshotError> for Status {
    fn from(error: SnapshotError) -> Status {
        match error {
            SnapshotError::State(error) => error.into(),
            SnapshotError::Io(error) | SnapshotError::Write(WriteError::Io(error))
                if error.kind() == std::io::ErrorKind::StorageFull =>
            {
                Status::new(etcd::Code::ResourceExhausted, error.to_string())
            }
            other => Status::internal(other.to_string()),
        }
    }
}

/// The view as an etcd database, in the parts of the stream. Blocks.
///
/// # Errors
/// If the state cannot be read or the file cannot be written; also from the iterator.
pub(crate) fn chunks(
    view: &View,
    members: &[pb::Member],
    status: &MemberStatus,
    chunk_bytes: usize,
    scratch: Scratch<'_>,
) -> Result<Chunks<File>, SnapshotError> {
    let file = scratch.file(status.db_in_use_bytes)?;
    let sorted = kept(view, file.scratch())?;
    let mut writer = SnapshotWriter::create(BufWriter::new(file))?;
    write_alarms(&mut writer, view)?;
    if let Some(version) = &status.cluster_version {
        writer.cluster_version(version)?;
    }
    writer.versions(|put| write_versions(view, sorted, put))?;
    let leases = etcd::leases(view)?;
    writer.leases(leases.into_iter().map(|(id, ttl_s)| bolt::etcd::Lease {
        id: id.0,
        ttl_s,
        remaining_ttl_s: 0,
    }))?;
    let members: Vec<Member> = members
        .iter()
        .map(|member| Member {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        })
        .collect();
    writer.members(&members, &[])?;
    let (applied, compacted) = (view.applied(), view.compacted());
    writer.meta(&Meta {
        consistent_index: applied.index,
        term: Some(applied.term),
        scheduled_compact: (compacted.0 > 0).then_some(compacted.0),
        finished_compact: (compacted.0 > 0).then_some(compacted.0),
        conf_state: None,
        // A field that etcd 3.5 and older refuse to know; a restore takes the absence for 3.5.
        storage_version: None,
    })?;
    let (file, _) = writer.finish()?;
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    Ok(Chunks::new(file.into_file(), chunk_bytes)?)
}

fn write_alarms(
    writer: &mut SnapshotWriter<BufWriter<ScratchFile<'_>>>,
    view: &View,
) -> Result<(), SnapshotError> {
    let request = etcd::Request::Alarm(pb::AlarmRequest::default());
    let etcd::Response::Alarm(response) = etcd::read(view, &request, &etcd::Limits::default())?
    else {
        return Ok(());
    };
    let alarms: Vec<_> = response
        .alarms
        .iter()
        .map(|alarm| bolt::etcd::Alarm { member_id: alarm.member_id, alarm: alarm.alarm })
        .collect();
    Ok(writer.alarms(&alarms)?)
}

/// All versions by revision: those older than the compact revision that it has left, then every
/// change from it on.
fn write_versions(
    view: &View,
    kept: Option<Sorted<File>>,
    put: &mut dyn FnMut(&Version) -> Result<(), WriteError>,
) -> Result<(), SnapshotError> {
    let (mut main, mut sub) = (0, 0);
    for pair in kept.into_iter().flatten() {
        let (key, encoded) = pair?;
        let revision = key.try_into().map_or(0, i64::from_be_bytes);
        sub = if revision == main { sub + 1 } else { 0 };
        main = revision;
        let revision = RevisionKey { main, sub, tombstone: false };
        put(&Version { revision, encoded: encoded.into() })?;
    }
    for commit in view.events(view.compacted().max(Revision(1))..=view.revision())? {
        let commit = commit?;
        for (sub, change) in (0..).zip(&commit.changes) {
            let (tombstone, encoded) = match &change.record {
                Some(record) => (false, record.encoded.clone()),
                None => {
                    let gone =
                        proto::mvccpb::KeyValue { key: change.key.clone(), ..Default::default() };
                    (true, prost::Message::encode_to_vec(&gone).into())
                }
            };
            let revision = RevisionKey { main: commit.revision.0, sub, tombstone };
            put(&Version { revision, encoded })?;
        }
    }
    Ok(())
}

/// What is live at the compact revision and older than it, by revision; `None` before any
/// compaction. The order of the changes inside one transaction is no longer known; any order does.
fn kept(view: &View, scratch: &Scratch<'_>) -> Result<Option<Sorted<File>>, SnapshotError> {
    let compacted = view.compacted();
    if compacted < Revision(1) {
        return Ok(None);
    }
    let mut sorter = Sorter::new(SORT_BYTES, || scratch.side_file());
    for record in view.scan(&KeySpan::all(), compacted)? {
        let record = record?;
        if record.mod_revision < compacted {
            sorter.push(&record.mod_revision.0.to_be_bytes(), &record.encoded)?;
        }
    }
    Ok(Some(sorter.finish()?))
}
