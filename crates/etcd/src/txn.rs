//! Put, DeleteRange and Txn on a draft.
//!
//! A transaction runs in three passes, as etcd's does. First every compare, those of inner
//! transactions included, is decided on the state before, which fixes the branches. Then the
//! operations of those branches are checked, in order, on the state before: a read at a
//! revision that cannot be read, a lease or a key that does not exist fails the whole. Then
//! they run, each seeing what the ones before it wrote; nothing can fail any more, but that
//! what they write is too much for an entry.
//!
//! The header of an inner transaction's answer is there and empty, as etcd's is.

use std::cmp::Ordering;

use bytes::Bytes;
use mvcc::LeaseId;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as Op;
use proto::wire::Response as Answer;
use proto::{etcdserverpb as pb, wire};

use crate::draft::Draft;
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::range::{self, Target};
use crate::request::{header, header_without_revision};
use crate::{lease, request};

/// The lease a number on the wire means.
pub(crate) fn lease_id(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

/// Whether the lease and the key that the put needs are there.
pub(crate) fn check_put(draft: &Draft<'_>, request: &pb::PutRequest) -> Result<(), Error> {
    if let Some(lease) = lease_id(request.lease)
        && lease::find(draft, lease)?.is_none()
    {
        return Err(Error::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && draft.latest(&request.key)?.is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Runs a put that [`check_put`] has passed.
pub(crate) fn put(
    draft: &mut Draft<'_>,
    request: &pb::PutRequest,
) -> Result<wire::PutResponse, Error> {
    let previous = draft.latest(&request.key)?;
    let kept = previous.as_ref();
    let value = match kept.filter(|_| request.ignore_value) {
        Some(previous) => previous.value(),
        None => request.value.clone(),
    };
    let lease = match kept.filter(|_| request.ignore_lease) {
        Some(previous) => previous.lease,
        None => lease_id(request.lease),
    };
    draft.put(&request.key, kept, &value, lease);
    draft.room()?;
    if mutant::on(Mutant::PreviousTooNew) {
        let prev_kv = draft.latest(&request.key)?.filter(|_| request.prev_kv);
        let prev_kv = prev_kv.map(|written| written.encoded);
        return Ok(wire::PutResponse { header: header(draft.revision()), prev_kv });
    }
    let prev_kv = previous.filter(|_| request.prev_kv).map(|previous| previous.encoded);
    Ok(wire::PutResponse { header: header(draft.revision()), prev_kv })
}

/// Runs a deletion.
pub(crate) fn delete_range(
    draft: &mut Draft<'_>,
    request: &pb::DeleteRangeRequest,
) -> Result<wire::DeleteRangeResponse, Error> {
    let target = Target::new(&request.key, &request.range_end);
    let records = target.to_delete(draft)?;
    for record in &records {
        draft.delete(record);
    }
    let deleted = i64::try_from(records.len()).expect("fewer keys than bytes of memory");
    let mut prev_kvs = Vec::new();
    if request.prev_kv {
        prev_kvs = records.into_iter().map(|record| record.encoded).collect();
    }
    Ok(wire::DeleteRangeResponse { header: header(draft.revision()), deleted, prev_kvs })
}

/// Whether the transaction only reads: nothing but ranges in it, no transactions inside.
#[must_use]
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    let is_range = |op: &pb::RequestOp| matches!(op.request, Some(Op::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(is_range)
}

/// Whether it only reads and every read may be answered from any member's state.
#[must_use]
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable))
}

/// Runs a transaction that [`crate::check::txn`] has passed; one that only reads writes nothing.
pub(crate) fn txn(
    draft: &mut Draft<'_>,
    request: &pb::TxnRequest,
) -> Result<wire::TxnResponse, Error> {
    let branch = Branch::choose(draft, request)?;
    if !mutant::on(Mutant::RunUnchecked) {
        branch.check(draft)?;
    }
    let mut response = branch.run(draft)?;
    response.header = request::header(draft.revision());
    Ok(response)
}

/// The branch that a transaction takes, and those its inner ones take, in their order.
struct Branch<'r> {
    succeeded: bool,
    ops: &'r [pb::RequestOp],
    inner: Vec<Branch<'r>>,
}

impl<'r> Branch<'r> {
    fn choose(draft: &Draft<'_>, request: &'r pb::TxnRequest) -> Result<Self, Error> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !holds(draft, compare)? {
                succeeded = false;
                break;
            }
        }
        let ops = if succeeded || mutant::on(Mutant::WrongBranch) {
            &request.success
        } else {
            &request.failure
        };
        let mut inner = Vec::new();
        for op in ops {
            if let Some(Op::RequestTxn(request)) = &op.request {
                inner.push(Self::choose(draft, request)?);
            }
        }
        Ok(Self { succeeded, ops, inner })
    }

    fn check(&self, draft: &Draft<'_>) -> Result<(), Error> {
        let mut inner = self.inner.iter();
        for op in self.ops {
            match &op.request {
                Some(Op::RequestRange(request)) => check_range(draft, request)?,
                Some(Op::RequestPut(request)) => check_put(draft, request)?,
                Some(Op::RequestDeleteRange(_)) | None => {}
                Some(Op::RequestTxn(_)) => {
                    inner.next().expect("a branch for every transaction inside").check(draft)?;
                }
            }
        }
        Ok(())
    }

    fn run(&self, draft: &mut Draft<'_>) -> Result<wire::TxnResponse, Error> {
        let mut inner = self.inner.iter();
        let mut responses = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            let response = match &op.request {
                Some(Op::RequestRange(request)) => {
                    Answer::ResponseRange(range::range(draft, request)?)
                }
                Some(Op::RequestPut(request)) => Answer::ResponsePut(put(draft, request)?),
                Some(Op::RequestDeleteRange(request)) => {
                    Answer::ResponseDeleteRange(delete_range(draft, request)?)
                }
                Some(Op::RequestTxn(request)) => {
                    let inner = inner.next().expect("a branch for every transaction inside");
                    if mutant::on(Mutant::CompareOwnWrites) {
                        Answer::ResponseTxn(Self::choose(draft, request)?.run(draft)?)
                    } else {
                        Answer::ResponseTxn(inner.run(draft)?)
                    }
                }
                None => continue,
            };
            responses.push(wire::ResponseOp { response: Some(response) });
        }
        let header = header_without_revision();
        Ok(wire::TxnResponse { header, succeeded: self.succeeded, responses })
    }
}

/// etcd checks a read's revision here by another rule than the read itself follows: a negative
/// one is held against the compact revision, which is -1 before the first compaction.
fn check_range(draft: &Draft<'_>, request: &pb::RangeRequest) -> Result<(), Error> {
    match request.revision {
        0 => Ok(()),
        revision if revision > draft.base().0 => Err(Error::FutureRev),
        revision if revision > 0 && revision >= draft.compacted().0 => Ok(()),
        revision if revision < 0 && revision >= draft.compact_mark()? => Ok(()),
        _ => Err(Error::Compacted),
    }
}

/// Whether the relation holds, for every key of the span if it names one. A missing key has
/// version, revisions and lease 0, and no value: no relation to a value holds for it.
fn holds(draft: &Draft<'_>, compare: &pb::Compare) -> Result<bool, Error> {
    let target = Target::new(&compare.key, &compare.range_end);
    let by_value = compare.target == CompareTarget::Value as i32;
    let mut found = false;
    let mut check = |record: mvcc::Record| {
        found = true;
        let numbers = Numbers {
            version: record.version,
            create: record.create_revision.0,
            modified: record.mod_revision.0,
            lease: record.lease.map_or(0, |lease| lease.0),
        };
        let value = if by_value { record.value() } else { Bytes::new() };
        related(compare, &numbers, &value)
    };
    let at = draft.revision();
    match &target {
        Target::One(key) => {
            if let Some(record) = draft.get(key, at)? {
                return Ok(check(record));
            }
        }
        Target::Span(span) => {
            for record in draft.scan(span, at)? {
                if !check(record?) {
                    return Ok(false);
                }
                if mutant::on(Mutant::CompareFirst) {
                    break;
                }
            }
        }
    }
    Ok(found || (!by_value && related(compare, &Numbers::default(), b"")))
}

/// What a compare may ask of a key, beside its value.
#[derive(Default)]
struct Numbers {
    version: i64,
    create: i64,
    modified: i64,
    lease: i64,
}

/// A number or value that is not of the target's kind counts as 0 or empty; an unknown target
/// is equal to anything; an unknown relation holds.
fn related(compare: &pb::Compare, numbers: &Numbers, value: &[u8]) -> bool {
    use CompareTarget as Target;
    let with = compare.target_union.as_ref();
    let order = match (Target::try_from(compare.target), with) {
        (Ok(Target::Version), Some(TargetUnion::Version(with))) => numbers.version.cmp(with),
        (Ok(Target::Version), _) => numbers.version.cmp(&0),
        (Ok(Target::Create), Some(TargetUnion::CreateRevision(with))) => numbers.create.cmp(with),
        (Ok(Target::Create), _) => numbers.create.cmp(&0),
        (Ok(Target::Mod), Some(TargetUnion::ModRevision(with))) => numbers.modified.cmp(with),
        (Ok(Target::Mod), _) => numbers.modified.cmp(&0),
        (Ok(Target::Lease), Some(TargetUnion::Lease(with))) => numbers.lease.cmp(with),
        (Ok(Target::Lease), _) => numbers.lease.cmp(&0),
        (Ok(Target::Value), Some(TargetUnion::Value(with))) => value.cmp(&with[..]),
        (Ok(Target::Value), _) => value.cmp(b""),
        (Err(_), _) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
