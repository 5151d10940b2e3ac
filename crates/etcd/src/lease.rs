//! Leases: what is replicated, and what only the leader knows.
//!
//! Replicated are a row for each lease (its TTL) and a row for each key attached to one, so
//! that revoking is a walk over neighbours and a restart scans nothing. The rows change in the
//! entries that attach and detach keys; there is nothing to rebuild.
//!
//! The deadlines are the leader's, and are lost with it. A new leader gives every lease its
//! whole TTL again, plus an extension: a promise made to a client ("another TTL from now")
//! is kept whoever made it, and a lease never ends early. It may end late by as much.
//!
//! 1. A deadline begins when the grant is applied, not when it was evaluated.
//! 2. A sign of life moves it at evaluation; the answer waits for a proof of leadership that
//!    is younger, so a leader that was replaced meanwhile answers nothing.
//! 3. When it passes, the leader proposes the same effects that a revocation would have: all
//!    attached keys deleted, in key order, at one revision. From the proposal on the lease is
//!    gone for every request evaluated later.
//! 4. A sign of life for a lease whose deadline has passed comes too late, even if nobody has
//!    looked at the deadlines yet: the lease is revoked and the answer is TTL 0.
//! 5. The entry that ends a lease lists its keys, and an entry has a bound
//!    ([`Limits::effects_bytes_max`]). A lease with more keys ends in parts, at a revision each:
//!    the first one marks the lease's row, which is all that is left of it for requests; the
//!    last one removes it. A part is proposed when the one before it is applied, and a leader
//!    that finds the mark goes on at once. A key that is put meanwhile, without a lease, stays.
//!
//! Caveat: a client's revocation is never in parts, but refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mvcc::{LeaseId, View};
use prost::Message;
use proto::etcdserverpb as pb;

use crate::draft::Draft;
use crate::effects::row_bytes;
use crate::error::Error;
use crate::limits::Limits;
use crate::meta::{self, LeaseRow};
use crate::mutant::{self, Mutant};
use crate::request::{Response, header};

/// After how long to look again at a lease whose revocation is in flight.
pub(crate) const AGAIN: Duration = Duration::from_secs(3);

/// After how long ends that Raft refused are proposed again, if nothing is applied before.
pub(crate) const REFUSED: Duration = Duration::from_millis(100);

/// When the leases end; the leader's alone.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    by_lease: BTreeMap<LeaseId, Duration>,
    by_time: BTreeSet<(Duration, LeaseId)>,
}

impl Deadlines {
    pub(crate) fn set(&mut self, id: LeaseId, deadline: Duration) {
        self.remove(id);
        self.by_lease.insert(id, deadline);
        self.by_time.insert((deadline, id));
    }

    pub(crate) fn get(&self, id: LeaseId) -> Option<Duration> {
        self.by_lease.get(&id).copied()
    }

    pub(crate) fn remove(&mut self, id: LeaseId) -> Option<Duration> {
        let deadline = self.by_lease.remove(&id)?;
        assert!(self.by_time.remove(&(deadline, id)), "a deadline is in both maps");
        Some(deadline)
    }

    pub(crate) fn first(&self) -> Option<(Duration, LeaseId)> {
        self.by_time.first().copied()
    }

    /// How long a lease has still; `None` if its time has not begun.
    pub(crate) fn left(&self, id: LeaseId, now: Duration) -> Option<Duration> {
        self.get(id).map(|end| end.saturating_sub(now))
    }

    /// The leases in the order in which they end.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = LeaseId> {
        self.by_time.iter().map(|(_, id)| *id)
    }
}

/// The time of a TTL.
pub(crate) fn ttl(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The row of a lease that has not ended.
pub(crate) fn find(draft: &Draft<'_>, id: LeaseId) -> Result<Option<LeaseRow>, Error> {
    Ok(row(draft, id)?.filter(|row| !row.ending))
}

/// The row of a lease, if only its end is not complete.
pub(crate) fn row(draft: &Draft<'_>, id: LeaseId) -> Result<Option<LeaseRow>, Error> {
    draft.meta_get(&meta::lease(id))?.map(|row| decode(&row)).transpose()
}

fn decode(row: &[u8]) -> Result<LeaseRow, Error> {
    LeaseRow::decode(row).map_err(|error| Error::Storage(format!("row of a lease: {error}")))
}

/// All leases, those whose end is not complete among them, in the order of their ids.
pub(crate) fn all(draft: &Draft<'_>) -> Result<Vec<(LeaseId, LeaseRow)>, Error> {
    let rows = draft.meta_scan(meta::LEASES)?;
    rows.iter()
        .map(|(key, row)| {
            let id = meta::lease_of(key);
            let id = id.ok_or_else(|| Error::Storage("key of a lease's row".into()))?;
            Ok((id, decode(row)?))
        })
        .collect()
}

/// All leases of a view with the TTL each was granted, in seconds, in the order of their ids.
/// Those whose end is not complete are among them: keys are still attached to them.
///
/// # Errors
/// If they cannot be read.
pub fn leases(view: &View) -> Result<Vec<(LeaseId, i64)>, Error> {
    let rows = all(&Draft::new(view, None))?;
    Ok(rows.into_iter().map(|(id, row)| (id, row.ttl_s)).collect())
}

/// The keys attached to a lease, in key order.
pub(crate) fn keys(draft: &Draft<'_>, id: LeaseId) -> Result<Vec<Bytes>, Error> {
    let rows = draft.meta_scan(&meta::attached_to(id))?;
    Ok(rows.keys().map(meta::attached_key).collect())
}

/// Answers how long a lease has still. `left` is what the leader knows of that: without, it has
/// all of its time.
pub(crate) fn time_to_live(
    draft: &Draft<'_>,
    request: pb::LeaseTimeToLiveRequest,
    left: Option<Duration>,
) -> Result<Response, Error> {
    let id = LeaseId(request.id);
    let mut response = pb::LeaseTimeToLiveResponse {
        header: header(draft.base()),
        id: request.id,
        ttl: -1,
        ..Default::default()
    };
    if let Some(row) = find(draft, id)? {
        let left = left.unwrap_or_else(|| ttl(row.ttl_s));
        response.ttl = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        response.granted_ttl = row.ttl_s;
        if request.keys {
            response.keys = keys(draft, id)?;
        }
    }
    Ok(Response::LeaseTimeToLive(response))
}

/// Answers with all leases: those that end first come first, as in `running`, and those whose
/// time has not begun last.
pub(crate) fn list(
    draft: &Draft<'_>,
    running: impl Iterator<Item = LeaseId>,
) -> Result<Response, Error> {
    let mut waiting: BTreeSet<LeaseId> =
        all(draft)?.into_iter().filter(|(_, row)| !row.ending).map(|(id, _)| id).collect();
    let mut ids: Vec<LeaseId> = running.filter(|id| waiting.remove(id)).collect();
    ids.extend(waiting);
    let leases = ids.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect();
    let response = pb::LeaseLeasesResponse { header: header(draft.base()), leases };
    Ok(Response::LeaseLeases(response))
}

/// Writes the row of a new lease; returns its TTL in seconds. `chosen` is the id, for a request
/// that leaves it to the server too.
pub(crate) fn grant(
    draft: &mut Draft<'_>,
    request: &pb::LeaseGrantRequest,
    chosen: LeaseId,
    limits: &Limits,
) -> Result<i64, Error> {
    if request.ttl > limits.max_lease_ttl_s {
        return Err(Error::LeaseTtlTooLarge);
    }
    if row(draft, chosen)?.is_some() {
        return Err(Error::LeaseExist);
    }
    let ttl_s = request.ttl.max(limits.min_lease_ttl_s);
    draft.set(meta::lease(chosen), Some(LeaseRow { ttl_s, ending: false }.encode_to_vec().into()));
    Ok(ttl_s)
}

/// How much of a lease a draft has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Whole,
    Part,
}

/// Deletes a lease and all its keys; refused if the effects have no room for that.
pub(crate) fn revoke(draft: &mut Draft<'_>, id: LeaseId) -> Result<(), Error> {
    if find(draft, id)?.is_none() {
        return Err(Error::LeaseNotFound);
    }
    match end(draft, id)? {
        Ends::Whole => Ok(()),
        Ends::Part => Err(Error::RequestTooLarge),
    }
}

/// Deletes as many keys of a lease as the effects have room for, in key order, and the lease
/// with the last. Refused if there is no room for one.
pub(crate) fn end(draft: &mut Draft<'_>, id: LeaseId) -> Result<Ends, Error> {
    let row = row(draft, id)?.ok_or(Error::LeaseNotFound)?;
    let ending = !mutant::on(Mutant::EndUnmarked);
    let marked: Bytes = LeaseRow { ending, ..row }.encode_to_vec().into();
    let mark_bytes = row_bytes(&meta::lease(id), Some(&marked));
    let mut room = draft.room()?.checked_sub(mark_bytes).ok_or(Error::RequestTooLarge)?;
    let mut fitting = Vec::new();
    let mut ends = Ends::Whole;
    let prefix = meta::attached_to(id);
    for row in draft.meta_rows(&prefix)? {
        let key = meta::attached_key(&row?.0);
        let Some(left) = room.checked_sub(Draft::deletion_bytes(&key, Some(id))) else {
            ends = Ends::Part;
            break;
        };
        room = left;
        fitting.push(key);
    }
    if ends == Ends::Part && fitting.is_empty() {
        return Err(Error::RequestTooLarge);
    }
    for key in fitting {
        match draft.latest(&key)? {
            Some(record) if record.lease == Some(id) => draft.delete(&record),
            _ => return Err(Error::Storage(format!("key {key:?} is not of lease {}", id.0))),
        }
    }
    draft.set(meta::lease(id), (ends == Ends::Part).then_some(marked));
    Ok(ends)
}

/// An id for a lease whose client leaves it to the server: positive, and not likely the same for
/// two counts, terms or seeds; the caller looks whether it is taken.
pub(crate) fn choose_id(seed: u64, term: u64, count: u64) -> LeaseId {
    let mut word = seed;
    for part in [term, count] {
        // SplitMix64 (Steele, Lea, Flood 2014): a bijection with good avalanche.
        word = (word ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
    }
    LeaseId((word >> 1).max(1).cast_signed())
}
