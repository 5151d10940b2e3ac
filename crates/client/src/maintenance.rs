//! Looking after members: status, alarms, hashes, space, leadership, snapshots.
//!
//! Most of these are questions to one member, not to the cluster: make a client of that endpoint
//! with [`Client::only`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::etcdserverpb as pb;
use proto::method::maintenance as method;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::grpc::Responses;
use crate::pool::{Client, Safety, given_up};

/// A defragmentation rewrites the whole database of a member; etcd answers when it is done.
const DEFRAGMENT_TIMEOUT: Duration = Duration::from_secs(3600);

/// The SHA-256 at a snapshot's end.
const CHECKSUM_BYTES: usize = 32;

/// The unit of a snapshot's size before its checksum.
const SECTOR_BYTES: u64 = 512;

impl Client {
    /// What the asked member says of itself.
    ///
    /// # Errors
    /// As any read.
    pub async fn status(&self) -> crate::Result<pb::StatusResponse> {
        self.call(Safety::Read, method::STATUS, &pb::StatusRequest {}).await
    }

    /// The hash of the asked member's keys up to `revision` (0: the newest). Members at the same
    /// revision and compact revision agree.
    ///
    /// # Errors
    /// As any read.
    pub async fn hash_kv(&self, revision: i64) -> crate::Result<pb::HashKvResponse> {
        self.call(Safety::Read, method::HASH_KV, &pb::HashKvRequest { revision }).await
    }

    /// The alarms that are on.
    ///
    /// # Errors
    /// As any read.
    pub async fn alarms(&self) -> crate::Result<pb::AlarmResponse> {
        self.call(Safety::Read, method::ALARM, &alarm(pb::alarm_request::AlarmAction::Get)).await
    }

    /// Switches an alarm of a member off; member 0 and [`pb::AlarmType::None`] mean all.
    ///
    /// # Errors
    /// As any write.
    pub async fn disarm(
        &self,
        member_id: u64,
        kind: pb::AlarmType,
    ) -> crate::Result<pb::AlarmResponse> {
        let request = pb::AlarmRequest {
            member_id,
            alarm: kind.into(),
            ..alarm(pb::alarm_request::AlarmAction::Deactivate)
        };
        self.call(Safety::Write, method::ALARM, &request).await
    }

    /// Has the asked member give unused space back to its disk.
    ///
    /// # Errors
    /// As any write.
    pub async fn defragment(&self) -> crate::Result<pb::DefragmentResponse> {
        let request = pb::DefragmentRequest {};
        self.call_within(Safety::Write, method::DEFRAGMENT, &request, DEFRAGMENT_TIMEOUT).await
    }

    /// Has the leader hand over to another voter. Only the leader takes this request, so it is
    /// looked for first.
    ///
    /// # Errors
    /// As any write.
    pub async fn move_leader(&self, target_id: u64) -> crate::Result<pb::MoveLeaderResponse> {
        let leader = self.find_leader().await?;
        let request = pb::MoveLeaderRequest { target_id };
        self.only(&leader).call(Safety::Write, method::MOVE_LEADER, &request).await
    }

    /// Streams a snapshot of the asked member's database.
    ///
    /// # Errors
    /// As any read.
    pub async fn snapshot(&self) -> crate::Result<Snapshot> {
        let responses = self.server_stream(method::SNAPSHOT, &pb::SnapshotRequest {}).await?;
        Ok(Snapshot { responses, check: Check::default(), remaining_bytes: None })
    }
}

fn alarm(action: pb::alarm_request::AlarmAction) -> pb::AlarmRequest {
    pb::AlarmRequest { action: action.into(), member_id: 0, alarm: pb::AlarmType::None.into() }
}

/// A snapshot on its way. All chunks in order are the snapshot's file, its SHA-256 at the end
/// included; they may be kept only if the last call gave `None` and no error.
#[derive(Debug)]
pub struct Snapshot {
    responses: Responses<pb::SnapshotResponse>,
    check: Check,
    remaining_bytes: Option<u64>,
}

impl Snapshot {
    /// The next piece, or `None` when the snapshot is whole and its checksum right.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is cut short or damaged, otherwise as any read.
    pub async fn chunk(&mut self) -> crate::Result<Option<Bytes>> {
        let next = self.responses.message().await;
        let Some(response) = next.map_err(|failure| given_up(failure, Safety::Read))? else {
            let check = std::mem::take(&mut self.check);
            return check.finish().map(|()| None).map_err(Error::Malformed);
        };
        self.check.add(&response.blob);
        self.remaining_bytes = Some(response.remaining_bytes);
        Ok(Some(response.blob))
    }

    /// Bytes received so far.
    pub fn received_bytes(&self) -> u64 {
        self.check.bytes
    }

    /// Bytes still to come, once the server has said.
    pub fn remaining_bytes(&self) -> Option<u64> {
        self.remaining_bytes
    }
}

/// A running SHA-256 of everything but the last 32 bytes, which should be equal to it.
#[derive(Debug, Default)]
struct Check {
    hasher: Sha256,
    tail: BytesMut,
    bytes: u64,
}

impl Check {
    fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        // Whatever can no longer be part of the checksum is hashed.
        let settled = (self.tail.len() + chunk.len()).saturating_sub(CHECKSUM_BYTES);
        let from_tail = settled.min(self.tail.len());
        self.hasher.update(self.tail.split_to(from_tail));
        let (body, rest) = chunk.split_at(settled - from_tail);
        self.hasher.update(body);
        self.tail.extend_from_slice(rest);
        debug_assert!(self.tail.len() <= CHECKSUM_BYTES);
    }

    fn finish(self) -> Result<(), String> {
        let body_bytes = self.bytes.saturating_sub(CHECKSUM_BYTES as u64);
        if self.tail.len() < CHECKSUM_BYTES || !body_bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(format!("the snapshot is cut short: {} bytes", self.bytes));
        }
        if self.hasher.finalize()[..] != self.tail[..] {
            return Err("the snapshot's checksum is wrong".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot_file() -> Vec<u8> {
        let mut file = vec![7; 1024];
        let hash = Sha256::digest(&file);
        file.extend_from_slice(&hash);
        file
    }

    fn checked(file: &[u8], chunk_bytes: usize) -> Result<(), String> {
        let mut check = Check::default();
        file.chunks(chunk_bytes).for_each(|chunk| check.add(chunk));
        check.finish()
    }

    #[test]
    fn a_snapshot_is_right_however_it_is_cut() {
        for chunk_bytes in [1, 31, 32, 33, 500, 1024, 1056, 9999] {
            assert_eq!(checked(&snapshot_file(), chunk_bytes), Ok(()), "{chunk_bytes}");
        }
    }

    #[test]
    fn damage_and_loss_are_seen() {
        let mut damaged = snapshot_file();
        damaged[100] ^= 1;
        assert!(checked(&damaged, 100).unwrap_err().contains("checksum"));
        let whole = snapshot_file();
        assert!(checked(&whole[..1024], 100).unwrap_err().contains("cut short"));
        assert!(checked(&whole[..512], 100).unwrap_err().contains("cut short"));
        assert!(checked(&[], 1).unwrap_err().contains("cut short"));
    }
}
