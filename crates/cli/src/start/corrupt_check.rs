//! `--initial-corrupt-check`: before this member serves, its data are compared with the others'.
//!
//! What it has on disk is hashed at its revision, and each other member that it knows is asked for
//! its hash at the same one. Members that do not answer in time are passed over, with a warning: a
//! cluster that starts all at once must be able to. A member whose addresses are not in this one's
//! state yet is waited for a little: they may come with the log. So is one that answers and with which this one cannot
//! be compared yet, because it has compacted at another revision, or further than this one is: while it waits, this
//! member catches up from the others' log, and is compared where it is then. A hash that
//! differs ends the start: one of the two is damaged, and clients must not be the ones to find out.

use std::time::Duration;

use client::{Client, Config};
use mvcc::KvHash;
use node::Handle;
use tokio::task::JoinSet;

use super::StartConfig;
use crate::exit::{Exit, Result};

/// How long a member may take to hash what it has.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a member may take to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a comparison is tried again while this member catches up, and how often.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);
const CATCH_UP_POLL: Duration = Duration::from_millis(100);

/// How long the addresses of the others may take to become known, and how often they are looked for.
const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(3);
const ADDRESSES_POLL: Duration = Duration::from_millis(50);

/// What came of one comparison.
enum Compared {
    /// Both have the same, or the other did not answer: then it is passed over.
    Done,
    /// The other answers, but not for this revision, or with another compaction: nothing is known yet.
    NotYet(String),
}

/// Compares this member's data with the others'.
///
/// # Errors
/// If they differ, or cannot be read here.
pub(super) async fn run(config: &StartConfig, handle: &Handle) -> Result<()> {
    if handle.view().revision().0 <= 1 {
        return Ok(());
    }
    let mut left = others(handle).await?;
    let deadline = tokio::time::Instant::now() + CATCH_UP_TIMEOUT;
    loop {
        let view = handle.view();
        let own = view.hash_kv(view.revision()).map_err(Exit::failed)?;
        drop(view);
        let last = tokio::time::Instant::now() >= deadline;
        // All at once: of members that do not answer each takes its time.
        let mut asked = JoinSet::new();
        for member in left {
            let revision = own.revision.0;
            asked.spawn(async move { (ask(&member.client_urls, revision).await, member) });
        }
        let mut again = Vec::new();
        while let Some(answer) = asked.join_next().await {
            let (answer, member) = answer.map_err(Exit::failed)?;
            match compare(config, &own, &member, answer)? {
                Compared::Done => {}
                Compared::NotYet(reason) if last => {
                    let id = format!("{:x}", member.id);
                    tracing::warn!(member = id, reason, "not compared with a member");
                }
                Compared::NotYet(_) => again.push(member),
            }
        }
        if again.is_empty() {
            return Ok(());
        }
        left = again;
        tokio::time::sleep(CATCH_UP_POLL).await;
    }
}

/// Compares with what one other member has answered.
fn compare(
    config: &StartConfig,
    own: &KvHash,
    member: &proto::etcdserverpb::Member,
    answer: std::result::Result<proto::etcdserverpb::HashKvResponse, String>,
) -> Result<Compared> {
    let id = format!("{:x}", member.id);
    let theirs = match answer {
        Ok(theirs) => theirs,
        // It has compacted further than this member is, or is not as far.
        Err(error) if error.contains("etcdserver: mvcc: required revision") => {
            return Ok(Compared::NotYet(error));
        }
        Err(error) => {
            tracing::warn!(member = id, %error, "not compared with a member");
            return Ok(Compared::Done);
        }
    };
    if theirs.compact_revision.max(0) != own.compacted.0 {
        return Ok(Compared::NotYet("it has compacted elsewhere".to_owned()));
    }
    if theirs.hash != own.hash {
        return Err(Exit::failed(format!(
            "found data inconsistency with peers: at revision {} the hash of {} is {:08x}, that \
             of member {id} is {:08x}. One of them is damaged: compare with a third, and let \
             the damaged one join anew",
            own.revision.0, config.name, own.hash, theirs.hash
        )));
    }
    tracing::info!(member = id, revision = own.revision.0, "data compared: equal");
    Ok(Compared::Done)
}

/// The other members, with their client URLs if those become known.
async fn others(handle: &Handle) -> Result<Vec<proto::etcdserverpb::Member>> {
    let deadline = tokio::time::Instant::now() + ADDRESSES_TIMEOUT;
    loop {
        let mut members = etcd::members(&handle.view()).map_err(Exit::failed)?;
        members.retain(|member| member.id != handle.member_id());
        let known = members.iter().all(|member| !member.client_urls.is_empty());
        if known || tokio::time::Instant::now() >= deadline {
            return Ok(members);
        }
        tokio::time::sleep(ADDRESSES_POLL).await;
    }
}

async fn ask(
    urls: &[String],
    revision: i64,
) -> std::result::Result<proto::etcdserverpb::HashKvResponse, String> {
    if urls.is_empty() {
        return Err("its client URLs are not known".to_owned());
    }
    let mut config = Config::new(urls).map_err(|error| error.to_string())?;
    config.connect_timeout = CONNECT_TIMEOUT;
    config.request_timeout = TIMEOUT;
    Client::new(config).hash_kv(revision).await.map_err(|error| error.to_string())
}
