//! Range: a key or a span of keys, as of a revision, filtered, sorted, cut.
//!
//! In this order: keys are taken in key order; filters drop some; the sort reorders; the limit
//! cuts. `count` is the number of keys in the span whatever was dropped or cut. One oddity of
//! etcd's is kept: with the sort order NONE the limit is taken before the sort, even if a
//! target other than the key is named, and that target then sorts what is left, ascending (one
//! key more than the limit is read to know whether there is more, and takes part in the sort).
//!
//! Where two keys compare equal, key order decides. (etcd's sort is not stable; above a dozen
//! keys its order of equal ones is an accident.)
//!
//! `keys_only` leaves out the lease as well as the value, unless the sort is by value, when
//! etcd (3.7) takes another path.

use std::cmp::Ordering;

use bytes::Bytes;
use mvcc::{KeySpan, Record, Revision};
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::{etcdserverpb as pb, wire};

use crate::draft::Draft;
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::request::header;

/// What a request's key and end name.
pub(crate) enum Target<'a> {
    One(&'a Bytes),
    Span(KeySpan),
}

impl<'a> Target<'a> {
    /// An empty `end` is the one key, a single zero byte no end.
    pub(crate) fn new(key: &'a Bytes, end: &Bytes) -> Self {
        match &end[..] {
            [] => Self::One(key),
            [0] => Self::Span(KeySpan { start: key.clone(), end: None }),
            _ => Self::Span(KeySpan { start: key.clone(), end: Some(end.clone()) }),
        }
    }

    /// All records as the draft sees them now, in key order, to be deleted: refused as soon as
    /// there are more than its effects have room for.
    pub(crate) fn to_delete(&self, draft: &Draft<'_>) -> Result<Vec<Record>, Error> {
        let at = draft.revision();
        let span = match self {
            Self::One(key) => return Ok(draft.get(key, at)?.into_iter().collect()),
            Self::Span(span) => span,
        };
        let mut records = Vec::new();
        let mut room = draft.room()?;
        for record in draft.scan(span, at)? {
            let record = record?;
            let bytes = Draft::deletion_bytes(&record.key(), record.lease);
            room = room.checked_sub(bytes).ok_or(Error::RequestTooLarge)?;
            records.push(record);
        }
        Ok(records)
    }

    fn count(&self, draft: &Draft<'_>, at: Revision) -> Result<i64, Error> {
        match self {
            Self::One(key) => Ok(i64::from(draft.get(key, at)?.is_some())),
            Self::Span(span) => draft.count(span, at),
        }
    }
}

/// Whether keys come as they lie, so that reading may stop at the limit.
pub(crate) fn in_key_order(request: &pb::RangeRequest) -> bool {
    request.sort_order() == SortOrder::None
        || (request.sort_order() == SortOrder::Ascend && request.sort_target() == SortTarget::Key)
}

/// Whether keys are left out for their revisions.
pub(crate) fn has_filters(request: &pb::RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &pb::RangeRequest, record: &Record) -> bool {
    let within = |revision: Revision, min: i64, max: i64| {
        (min == 0 || revision.0 >= min) && (max == 0 || revision.0 <= max)
    };
    within(record.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(record.create_revision, request.min_create_revision, request.max_create_revision)
}

/// The revision that `requested` means; 0 and below is the newest.
pub(crate) fn revision(draft: &Draft<'_>, requested: i64) -> Result<Revision, Error> {
    let newest = draft.revision();
    if requested > newest.0 {
        return Err(Error::FutureRev);
    }
    let at = if requested <= 0 { newest } else { Revision(requested) };
    let first = draft.compacted();
    if at < first || (at == first && mutant::on(Mutant::CompactTooMuch)) {
        Err(Error::Compacted)
    } else {
        Ok(at)
    }
}

/// The answer to a request that [`crate::check::range`] has passed.
pub(crate) fn range(
    draft: &Draft<'_>,
    request: &pb::RangeRequest,
) -> Result<wire::RangeResponse, Error> {
    let at = revision(draft, request.revision)?;
    let target = Target::new(&request.key, &request.range_end);
    let mut response =
        wire::RangeResponse { header: header(draft.revision()), ..Default::default() };
    if request.count_only {
        response.count = target.count(draft, at)?;
        return Ok(response);
    }
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let (mut records, count) = collect(draft, request, &target, at, limit)?;
    sort(request, &mut records);
    if let Some(limit) = limit
        && records.len() > limit
    {
        records.truncate(limit);
        response.more = true;
    }
    response.count = count;
    response.kvs = records.into_iter().map(|record| encoded(request, record)).collect();
    Ok(response)
}

/// The records that pass the filters, no more than needed, and the number of keys in the span.
fn collect(
    draft: &Draft<'_>,
    request: &pb::RangeRequest,
    target: &Target<'_>,
    at: Revision,
    limit: Option<usize>,
) -> Result<(Vec<Record>, i64), Error> {
    let span = match target {
        Target::One(key) => {
            let found = draft.get(key, at)?;
            let count = i64::from(found.is_some());
            let records = found.into_iter().filter(|record| passes(request, record)).collect();
            return Ok((records, count));
        }
        Target::Span(span) => span,
    };
    let stops =
        in_key_order(request) && (!has_filters(request) || mutant::on(Mutant::LimitBeforeFilter));
    let enough = limit.filter(|_| stops).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let mut records = Vec::new();
    let mut count = 0;
    for record in draft.scan(span, at)? {
        let record = record?;
        count += 1;
        if passes(request, &record) || mutant::on(Mutant::LimitBeforeFilter) {
            records.push(record);
        }
        if records.len() == enough {
            let count = draft.count(span, at)?;
            remember_rest(draft, span, at, &records[..enough - 1], count);
            return Ok((records, count));
        }
    }
    Ok((records, count))
}

/// Notes how many keys are left behind a page, so that the next page, which begins right behind
/// this one's last key, need not count them again.
fn remember_rest(draft: &Draft<'_>, span: &KeySpan, at: Revision, page: &[Record], count: i64) {
    let Some(last) = page.last() else { return };
    let start = [&last.key()[..], &[0]].concat().into();
    let left = count.cast_unsigned() - page.len() as u64;
    draft.remember_count(KeySpan { start, end: span.end.clone() }, at, left);
}

fn sort(request: &pb::RangeRequest, records: &mut [Record]) {
    let compare: fn(&Record, &Record) -> Ordering = match request.sort_target() {
        SortTarget::Key => {
            if request.sort_order() == SortOrder::Descend {
                records.reverse();
            }
            return;
        }
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value().cmp(&b.value()),
    };
    if request.sort_order() == SortOrder::Descend {
        records.sort_by(|a, b| compare(b, a));
    } else {
        records.sort_by(compare);
    }
}

/// What goes on the wire of a record.
pub(crate) fn encoded(request: &pb::RangeRequest, record: Record) -> Bytes {
    if !request.keys_only {
        return record.encoded;
    }
    let lease = record.lease.filter(|_| request.sort_target() == SortTarget::Value);
    let Record { create_revision, mod_revision, version, .. } = record;
    Record::new(&record.key(), create_revision, mod_revision, version, b"", lease).encoded
}
