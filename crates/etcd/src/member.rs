//! Members: who belongs to the cluster, and which changes of that are safe.
//!
//! A member is a row of the replicated state: addresses, name, whether it learns or votes.
//! What Raft holds as its configuration follows from the changes that come out of here, in the
//! same entry of the log. Removed members keep a row, because a removed id must never come
//! back: it has voted.
//!
//! The strict checks (a setting, on by default) refuse what would leave the cluster without a
//! quorum of members that have ever started, or that are connected now. Who is connected, how
//! far a learner is and what time it is are not replicated; the leader brings them along as
//! [`ClusterFacts`].
//!
//! Ids are computed as etcd does, so that a cluster that is bootstrapped from the same flags
//! has the same ids. Source: `membership` of etcd 3.7.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mvcc::View;
use prost::Message;
use proto::etcdserverpb as pb;
use sha1::{Digest, Sha1};

use crate::draft::Draft;
use crate::error::Error;
use crate::limits::Limits;
use crate::meta::{self, MemberRow};

/// What the leader knows about the members beside the replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Seconds since 1970, for the ids of new members.
    pub unix_time_s: u64,
    /// How long each peer has been connected without a break; a peer that is not connected is
    /// not here, nor is the leader itself.
    pub connected_for: BTreeMap<u64, Duration>,
    /// Last entry of the log that each peer is known to hold.
    pub matched: BTreeMap<u64, u64>,
    /// Last entry of the leader's own log.
    pub last_index: u64,
}

/// A change of Raft's configuration, by member id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A member that votes is added, or a learner gets its vote.
    AddVoter(u64),
    /// A member without a vote is added.
    AddLearner(u64),
    /// A member is removed.
    Remove(u64),
}

/// A member that the cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundingMember {
    /// Its id: see [`member_id`].
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// The id of a member, from its peer addresses and either the name of the cluster it founds, or
/// the time (in seconds since 1970) at which it is added.
#[must_use]
pub fn member_id(peer_urls: &[String], cluster: &str, added_unix_s: Option<u64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let time = added_unix_s.map(|seconds| seconds.to_string()).unwrap_or_default();
    first_word(&[urls.concat().as_bytes(), cluster.as_bytes(), time.as_bytes()].concat())
}

/// The id of a cluster, from the ids of the members it begins with.
#[must_use]
pub fn cluster_id(members: &BTreeSet<u64>) -> u64 {
    let ids: Vec<u8> = members.iter().flat_map(|id| id.to_be_bytes()).collect();
    first_word(&ids)
}

fn first_word(bytes: &[u8]) -> u64 {
    let hash = Sha1::digest(bytes);
    hash.iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Checks and sorts the addresses of a member: `http` or `https` with host and port and no
/// path, or `unix` or `unixs`.
///
/// # Errors
/// [`Error::MemberBadUrls`] if there is none, or one is anything else.
pub fn parse_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let mut parsed = Vec::with_capacity(urls.len());
    for url in urls {
        parsed.push(parse_url(url.trim()).ok_or(Error::MemberBadUrls)?);
    }
    parsed.sort_unstable();
    if parsed.is_empty() { Err(Error::MemberBadUrls) } else { Ok(parsed) }
}

fn parse_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    let bad = |c: char| c.is_ascii_control() || " {}|\\^`%?#".contains(c);
    if rest.chars().any(bad) {
        return None;
    }
    match scheme.as_str() {
        "http" | "https" => {
            let authority = rest.strip_prefix("//")?;
            let (host, port) = authority.rsplit_once(':')?;
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let plain = !host.contains([':', '/', '[', ']']);
            let good = (bracketed || plain) && port.bytes().all(|byte| byte.is_ascii_digit());
            good.then(|| format!("{scheme}://{authority}"))
        }
        "unix" | "unixs" => Some(format!("{scheme}:{rest}")),
        _ => None,
    }
}

/// All members there ever were, by id.
pub(crate) fn rows(draft: &Draft<'_>) -> Result<BTreeMap<u64, MemberRow>, Error> {
    let rows = draft.meta_scan(meta::MEMBERS)?;
    rows.iter()
        .map(|(key, row)| {
            let id = meta::member_of(key);
            let id = id.ok_or_else(|| Error::Storage("key of a member's row".into()))?;
            let row = MemberRow::decode(&row[..]);
            Ok((id, row.map_err(|error| Error::Storage(format!("row of a member: {error}")))?))
        })
        .collect()
}

/// The members there are, in the order of their ids.
pub(crate) fn list(draft: &Draft<'_>) -> Result<Vec<pb::Member>, Error> {
    let rows = rows(draft)?.into_iter().filter(|(_, row)| !row.removed);
    Ok(rows.map(|(id, row)| message(id, row)).collect())
}

/// The members there are as of a view, in the order of their ids.
///
/// # Errors
/// If they cannot be read.
pub fn members(view: &View) -> Result<Vec<pb::Member>, Error> {
    list(&Draft::new(view, None))
}

/// Whether there was a member of this id, and is none any more.
///
/// # Errors
/// If the members cannot be read.
pub fn was_removed(view: &View, id: u64) -> Result<bool, Error> {
    Ok(rows(&Draft::new(view, None))?.get(&id).is_some_and(|row| row.removed))
}

fn message(id: u64, row: MemberRow) -> pb::Member {
    pb::Member {
        id,
        name: row.name,
        peer_urls: row.peer_urls,
        client_urls: row.client_urls,
        is_learner: row.is_learner,
    }
}

pub(crate) fn set(draft: &mut Draft<'_>, id: u64, row: &MemberRow) {
    draft.set(meta::member(id), Some(row.encode_to_vec().into()));
}

/// What a change of membership is checked against.
pub(crate) struct Council<'a> {
    pub(crate) leader: u64,
    pub(crate) limits: &'a Limits,
    pub(crate) facts: &'a ClusterFacts,
    pub(crate) rows: BTreeMap<u64, MemberRow>,
}

impl Council<'_> {
    /// Adds a member; returns its id.
    pub(crate) fn add(
        &self,
        draft: &mut Draft<'_>,
        request: &pb::MemberAddRequest,
    ) -> Result<u64, Error> {
        let peer_urls = parse_urls(&request.peer_urls)?;
        let id = member_id(&peer_urls, "", Some(self.facts.unix_time_s));
        self.may_add(request.is_learner)?;
        match self.rows.get(&id) {
            Some(row) if row.removed => return Err(Error::MemberNotFound),
            Some(_) => return Err(Error::MemberExist),
            None => self.urls_are_free(id, &peer_urls)?,
        }
        let learners = self.live().filter(|(_, row)| row.is_learner).count();
        if request.is_learner && learners >= self.limits.max_learners {
            return Err(Error::TooManyLearners);
        }
        let is_learner = request.is_learner;
        set(draft, id, &MemberRow { peer_urls, is_learner, ..Default::default() });
        Ok(id)
    }

    /// Removes a member.
    pub(crate) fn remove(&self, draft: &mut Draft<'_>, id: u64) -> Result<(), Error> {
        self.may_remove(id)?;
        self.existing(id)?;
        set(draft, id, &MemberRow { removed: true, ..Default::default() });
        Ok(())
    }

    /// Gives a learner its vote.
    pub(crate) fn promote(&self, draft: &mut Draft<'_>, id: u64) -> Result<(), Error> {
        let row = self.existing(id)?;
        self.is_caught_up(id)?;
        if self.limits.strict_reconfig_check && !quorum_started(self.voters_started(None), (1, 1)) {
            return Err(Error::MemberNotEnoughStarted);
        }
        if !row.is_learner {
            return Err(Error::MemberNotLearner);
        }
        set(draft, id, &MemberRow { is_learner: false, ..row.clone() });
        Ok(())
    }

    /// Gives a member new peer addresses, as they are: etcd does not check them here.
    pub(crate) fn update(
        &self,
        draft: &mut Draft<'_>,
        request: &pb::MemberUpdateRequest,
    ) -> Result<(), Error> {
        let row = self.existing(request.id)?;
        self.urls_are_free(request.id, &request.peer_urls)?;
        let peer_urls = request.peer_urls.clone();
        set(draft, request.id, &MemberRow { peer_urls, ..row.clone() });
        Ok(())
    }

    fn live(&self) -> impl Iterator<Item = (u64, &MemberRow)> {
        self.rows.iter().filter(|(_, row)| !row.removed).map(|(id, row)| (*id, row))
    }

    fn voters(&self) -> impl Iterator<Item = (u64, &MemberRow)> {
        self.live().filter(|(_, row)| !row.is_learner)
    }

    fn existing(&self, id: u64) -> Result<&MemberRow, Error> {
        self.rows.get(&id).filter(|row| !row.removed).ok_or(Error::MemberNotFound)
    }

    fn urls_are_free(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let mut others = self.live().filter(|(other, _)| *other != id);
        if others.any(|(_, row)| row.peer_urls.iter().any(|url| urls.contains(url))) {
            return Err(Error::PeerUrlExist);
        }
        Ok(())
    }

    /// Voters that have ever started, and voters, without one of them.
    fn voters_started(&self, without: Option<u64>) -> (usize, usize) {
        let voters = self.voters().filter(|(id, _)| Some(*id) != without);
        voters.fold((0, 0), |(started, all), (_, row)| {
            (started + usize::from(!row.name.is_empty()), all + 1)
        })
    }

    /// Voters that have been connected for long enough.
    fn voters_connected(&self) -> usize {
        let long = |id: &u64| {
            let time = self.facts.connected_for.get(id);
            time.is_some_and(|time| *time >= self.limits.healthy_after)
        };
        self.voters().filter(|(id, _)| *id == self.leader || long(id)).count()
    }

    fn may_add(&self, is_learner: bool) -> Result<(), Error> {
        if !self.limits.strict_reconfig_check {
            return Ok(());
        }
        let (started, voters) = self.voters_started(None);
        // One member that has started may always get a second, or it could never be helped.
        let alone = started == 1 && voters == 1;
        if !is_learner && !alone && !quorum_started((started, voters), (0, 1)) {
            return Err(Error::MemberNotEnoughStarted);
        }
        if voters != 1 && self.voters_connected() < quorum(voters + 1) {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn may_remove(&self, id: u64) -> Result<(), Error> {
        let is_learner = self.rows.get(&id).is_some_and(|row| row.is_learner && !row.removed);
        if !self.limits.strict_reconfig_check || is_learner {
            return Ok(());
        }
        if !quorum_started(self.voters_started(Some(id)), (0, 0)) {
            return Err(Error::MemberNotEnoughStarted);
        }
        // One that is down takes nothing away; nor does one that is no member, or not any more, though it may be
        // connected for a moment yet: it is not found.
        let is_voter = self.voters().any(|(voter, _)| voter == id);
        let connected = self.facts.connected_for.contains_key(&id);
        if id != self.leader && !(is_voter && connected) {
            return Ok(());
        }
        let voters = self.voters().count();
        let connected_after = self.voters_connected().saturating_sub(1);
        if connected_after < quorum(voters.saturating_sub(1)) {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn is_caught_up(&self, id: u64) -> Result<(), Error> {
        let matched = self.facts.matched.get(&id).copied().unwrap_or(0);
        let matched = if id == self.leader { self.facts.last_index } else { matched };
        let needed =
            u128::from(self.facts.last_index) * u128::from(self.limits.learner_ready_percent);
        if u128::from(matched) * 100 < needed { Err(Error::LearnerNotReady) } else { Ok(()) }
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether those that have started are a quorum, with some more (started, voters) to come.
fn quorum_started((started, voters): (usize, usize), more: (usize, usize)) -> bool {
    started + more.0 >= quorum(voters + more.1)
}
