//! Forgetting without being asked: `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! - `periodic`: what is older than the retention goes. The revision is noted ten times in a
//!   retention (a long one: in an hour), so a revision goes at most a tenth late.
//! - `revision`: all but so many of the newest revisions goes, looked at every five minutes.
//!
//! Only the leader does it; a member that has just taken over begins to take notes then, so that a
//! change of leaders keeps more, never less.

use std::collections::VecDeque;
use std::time::Duration;

use etcd::{Error, Request};
use node::Handle;
use proto::etcdserverpb::CompactionRequest;
use tokio::time::{Instant, sleep};

use super::config::AutoCompaction;

const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
const NOTES_PER_RETENTION: u32 = 10;
const NOTE_INTERVAL_MAX: Duration = Duration::from_secs(6 * 60);

/// Compacts for as long as it runs.
pub(super) async fn run(mode: AutoCompaction, handle: Handle) {
    match mode {
        AutoCompaction::Off => {}
        AutoCompaction::Periodic(retention) => periodic(retention, &handle).await,
        AutoCompaction::Revision(kept) => by_revision(kept, &handle).await,
    }
}

async fn periodic(retention: Duration, handle: &Handle) {
    let interval = (retention / NOTES_PER_RETENTION).min(NOTE_INTERVAL_MAX);
    let mut notes: VecDeque<(Instant, i64)> = VecDeque::new();
    loop {
        sleep(interval).await;
        if !handle.standing().serving {
            notes.clear();
            continue;
        }
        notes.push_back((Instant::now(), handle.view().revision().0));
        let mut due = None;
        while let Some(&(_, revision)) =
            notes.front().filter(|(noted, _)| noted.elapsed() >= retention)
        {
            due = Some(revision);
            notes.pop_front();
        }
        if let Some(revision) = due {
            compact(revision, handle).await;
        }
    }
}

async fn by_revision(kept: i64, handle: &Handle) {
    loop {
        sleep(REVISION_INTERVAL).await;
        if handle.standing().serving {
            compact(handle.view().revision().0 - kept, handle).await;
        }
    }
}

async fn compact(revision: i64, handle: &Handle) {
    if revision <= handle.view().compacted().0 {
        return;
    }
    let request = CompactionRequest { revision, physical: false };
    match handle.execute(Request::Compact(request)).await {
        Ok(_) => tracing::info!(revision, "compacted"),
        Err(Error::Compacted) => {}
        Err(error) => tracing::warn!(revision, %error, "could not compact"),
    }
}
