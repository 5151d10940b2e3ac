//! What operators do, in the middle of everything: moving leaders, replacing members, snapshots, compactions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use history::record::{Call, Compact, Revision};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::method;
use tokio::time::{Instant, sleep};

use super::field::{Field, RECOVERY};
use super::net::{self, Slot};
use super::schedule::Kind;

const LOOK: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 10;
const CALL: Duration = Duration::from_secs(5);

impl Field {
    /// Moves leadership to another voter.
    ///
    /// # Errors
    /// When no target ever leads.
    pub(super) async fn move_leader(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.try_move_leader().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => last = Some(error),
            }
            sleep(LOOK * 10).await;
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("the target never led"))).context("move leader")
    }

    /// Whether the target leads afterwards.
    pub(super) async fn try_move_leader(&mut self) -> Result<bool> {
        let (slot, leader) = self.leader().await.context("no leader")?;
        let list = pb::MemberListRequest { linearizable: false };
        let call = self.connection(slot).call(method::cluster::LIST, &list);
        let members: pb::MemberListResponse = tokio::time::timeout(CALL, call)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let voters: Vec<u64> = members
            .members
            .iter()
            .filter(|member| !member.is_learner && member.id != leader)
            .map(|member| member.id)
            .collect();
        ensure!(!voters.is_empty(), "there is no other voter");
        let request = pb::MoveLeaderRequest { target_id: self.dice.pick(&voters) };
        let call = self
            .connection(slot)
            .call::<_, pb::MoveLeaderResponse>(method::maintenance::MOVE_LEADER, &request);
        tokio::time::timeout(CALL, call)
            .await?
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        for _ in 0..20 {
            if self.leader().await.is_some_and(|(_, id)| id == request.target_id) {
                self.note(Kind::MoveLeader, 1)?;
                return Ok(true);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Removes a member, whether it runs or not, and adds a new one in its place.
    ///
    /// # Errors
    /// When one of the steps does not come about.
    pub(super) async fn replace(&mut self, slot: Slot) -> Result<()> {
        let url = net::peer_url(slot);
        let here = |list: &[pb::Member]| {
            list.iter().find(|member| member.peer_urls.contains(&url)).cloned()
        };
        let old = here(&self.list(Some(slot)).await?).context("it is no member")?.id;
        let request = pb::MemberRemoveRequest { id: old };
        let _: pb::MemberRemoveResponse = self
            .insist(
                "remove",
                Some(slot),
                method::cluster::REMOVE,
                &request,
                &["etcdserver: member not found"],
            )
            .await?;
        // A member that learns of its removal ends by itself; one that is cut off does not learn of it.
        if self.member(slot).runs()? {
            let _told_or_not = self.member(slot).wait_exit(CALL).await;
            self.member(slot).kill()?;
        }
        self.member(slot).volume.wipe()?;
        let learner = self.dice.one_in(2);
        let request = pb::MemberAddRequest { peer_urls: vec![url.clone()], is_learner: learner };
        let known = ["etcdserver: Peer URLs already exists"];
        let _: pb::MemberAddResponse =
            self.insist("add", Some(slot), method::cluster::ADD, &request, &known).await?;
        let slots = self.slots();
        self.member(slot).joins(&slots);
        self.member(slot).start()?;
        let list = self.list(Some(slot)).await?;
        let new = here(&list).context("it was not added")?.id;
        ensure!(new != old, "the new member has the id of the old one");
        if learner {
            let request = pb::MemberPromoteRequest { id: new };
            let done = ["etcdserver: can only promote a learner member"];
            let _: pb::MemberPromoteResponse = self
                .insist("promote", Some(slot), method::cluster::PROMOTE, &request, &done)
                .await
                .with_context(|| self.members[slot - 1].log_end())?;
        }
        self.wait_serving(Instant::now() + RECOVERY).await?;
        let is_voter = here(&self.list(None).await?).is_some_and(|member| !member.is_learner);
        ensure!(is_voter, "m{slot} is not a voter after all");
        self.note(Kind::Replace, 1)
    }

    /// Takes a snapshot from some member, to its end.
    ///
    /// # Errors
    /// When none comes whole.
    pub(super) async fn snapshot(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let slots = self.slots();
            let slot = self.dice.pick(&slots);
            match tokio::time::timeout(CALL * 2, self.snapshot_of(slot)).await {
                Ok(Ok(bytes)) => return self.note(Kind::Snapshot, bytes),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
            sleep(LOOK * 4).await;
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no answer in time"))).context("snapshot")
    }

    async fn snapshot_of(&self, slot: Slot) -> Result<u64> {
        let request = pb::SnapshotRequest {};
        let mut stream = self
            .connection(slot)
            .server_stream(method::maintenance::SNAPSHOT, &request)
            .await
            .map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let (mut bytes, mut remaining) = (0, u64::MAX);
        while let Some(message) = stream.message().await? {
            let part = pb::SnapshotResponse::decode(message)?;
            bytes += part.blob.len() as u64;
            remaining = part.remaining_bytes;
        }
        ensure!(remaining == 0, "the stream ended with {remaining} bytes missing");
        Ok(bytes)
    }

    /// Compacts to a little behind the newest revision.
    ///
    /// # Errors
    /// When no compaction is acknowledged.
    pub(super) async fn compact(&mut self) -> Result<()> {
        for attempt in 0..u64::from(ATTEMPTS) * 4 {
            let collected = self.record().collected.load(Ordering::SeqCst);
            let back = i64::try_from(40_u64.saturating_sub(attempt))?;
            let revision = Revision((collected - back).max(2));
            let slots = self.slots();
            let slot = self.dice.pick(&slots);
            let before = self.record().tally().outcomes.get("compact").map_or(0, |row| row[0]);
            self.admin.ask(slot, Call::Compact(Compact { revision }), CALL).await;
            let after = self.record().tally().outcomes.get("compact").map_or(0, |row| row[0]);
            if after > before {
                return self.note(Kind::Compact, after - before);
            }
            sleep(LOOK * 4).await;
        }
        anyhow::bail!("no compaction was acknowledged")
    }
}
