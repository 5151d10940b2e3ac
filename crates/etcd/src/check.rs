//! What can be refused without looking at the state.
//!
//! The checks run in etcd's order, because a request with two faults must get etcd's error for
//! it. Two habits of etcd's are kept on purpose, both about keys that a transaction writes
//! twice: (1) only deletions already seen, in the order of the operations, are held against the
//! puts of a transaction inside, so that a put in one inner transaction and a deletion in a
//! later one pass; (2) a deletion whose end is the single zero byte is taken literally here, as
//! an empty span, though it deletes to the end of the keyspace. In both cases the operations
//! run one after the other, and the last one stays.
//!
//! Source: `checkTxnRequest` and `checkIntervals` of etcd 3.7, and a real etcd.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::request_op::Request as Op;

use crate::error::Error;
use crate::mutant::{self, Mutant};

pub(crate) fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

pub(crate) fn put(request: &pb::PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// The whole transaction, inner ones included. `max_ops` is what this level may use.
pub(crate) fn txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

fn operations(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Error> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_ops.checked_sub(used).ok_or(Error::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => operations(request, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that one branch of a transaction may write.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Deletes,
}

impl Writes {
    fn of(ops: &[pb::RequestOp]) -> Result<Self, Error> {
        let mut writes = Self::default();
        for op in ops {
            if let Some(Op::RequestDeleteRange(delete)) = &op.request {
                writes.deletes.add(delete);
            }
        }
        for op in ops {
            if let Some(Op::RequestTxn(inner)) = &op.request {
                writes.add_inner(inner)?;
            }
        }
        for op in ops {
            if let Some(Op::RequestPut(put)) = &op.request {
                writes.add_put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn add_put(&mut self, key: &Bytes) -> Result<(), Error> {
        if self.deletes.contain(key) || !self.puts.insert(key.clone()) {
            return Err(Error::DuplicateKey);
        }
        Ok(())
    }

    /// Both branches of an inner transaction: only one of them runs, so they may share keys.
    fn add_inner(&mut self, inner: &pb::TxnRequest) -> Result<(), Error> {
        let success = Self::of(&inner.success)?;
        let failure = Self::of(&inner.failure)?;
        for key in &success.puts {
            self.add_put(key)?;
        }
        for key in &failure.puts {
            if !success.puts.contains(key) {
                self.add_put(key)?;
            }
        }
        if mutant::on(Mutant::ForgetInnerDeletes) {
            return Ok(());
        }
        self.deletes.append(success.deletes);
        self.deletes.append(failure.deletes);
        Ok(())
    }
}

/// The keys that are deleted; single keys apart from spans, since most are single.
#[derive(Default)]
struct Deletes {
    points: BTreeSet<Bytes>,
    /// Start to end; neither empty nor overlapping, so that a look-up is one step however many
    /// a request has.
    spans: BTreeMap<Bytes, Bytes>,
}

impl Deletes {
    fn add(&mut self, request: &pb::DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.points.insert(request.key.clone());
        } else {
            self.add_span(request.key.clone(), request.range_end.clone());
        }
    }

    fn add_span(&mut self, mut start: Bytes, mut end: Bytes) {
        if end <= start {
            return;
        }
        while let Some((other_start, other_end)) = self.spans.range::<Bytes, _>(..=&end).next_back()
        {
            if *other_end < start {
                break;
            }
            start = start.min(other_start.clone());
            end = end.max(other_end.clone());
            let gone = other_start.clone();
            self.spans.remove(&gone);
        }
        self.spans.insert(start, end);
    }

    fn append(&mut self, other: Self) {
        self.points.extend(other.points);
        for (start, end) in other.spans {
            self.add_span(start, end);
        }
    }

    fn contain(&self, key: &Bytes) -> bool {
        let before = self.spans.range::<Bytes, _>(..=key).next_back();
        self.points.contains(key) || before.is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(key: &'static [u8], end: &'static [u8]) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false }
    }

    fn op(request: Op) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn del(key: &'static [u8], end: &'static [u8]) -> pb::RequestOp {
        op(Op::RequestDeleteRange(delete(key, end)))
    }

    fn put_op(key: &'static [u8]) -> pb::RequestOp {
        op(Op::RequestPut(pb::PutRequest { key: key.into(), ..Default::default() }))
    }

    fn inner(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Op::RequestTxn(pb::TxnRequest { compare: vec![], success, failure }))
    }

    fn check(success: Vec<pb::RequestOp>) -> Result<(), Error> {
        txn(&pb::TxnRequest { compare: vec![], success, failure: vec![] }, 128)
    }

    #[test]
    fn a_key_is_put_once() {
        let twice = Err(Error::DuplicateKey);
        assert_eq!(check(vec![put_op(b"a"), put_op(b"a")]), twice);
        assert_eq!(check(vec![put_op(b"a"), put_op(b"b")]), Ok(()));
        assert_eq!(check(vec![inner(vec![put_op(b"a")], vec![]), put_op(b"a")]), twice);
        assert_eq!(check(vec![inner(vec![put_op(b"a")], vec![put_op(b"a")])]), Ok(()));
        let one = || inner(vec![], vec![put_op(b"a")]);
        assert_eq!(check(vec![one(), one()]), twice);
    }

    #[test]
    fn what_is_put_is_not_deleted() {
        let twice = Err(Error::DuplicateKey);
        assert_eq!(check(vec![put_op(b"b"), del(b"b", b"")]), twice);
        assert_eq!(check(vec![put_op(b"b"), del(b"a", b"c")]), twice);
        assert_eq!(check(vec![put_op(b"b"), del(b"a", b"b")]), Ok(()));
        assert_eq!(check(vec![del(b"a", b"c"), del(b"b", b"")]), Ok(()));
        assert_eq!(check(vec![put_op(b"b"), del(b"c", b"a")]), Ok(()));
    }

    #[test]
    fn etcds_two_gaps_are_kept() {
        assert_eq!(check(vec![put_op(b"b"), del(b"a", b"\0")]), Ok(()));
        let puts = || inner(vec![put_op(b"b")], vec![]);
        let deletes = || inner(vec![del(b"b", b"")], vec![]);
        assert_eq!(check(vec![puts(), deletes()]), Ok(()));
        assert_eq!(check(vec![deletes(), puts()]), Err(Error::DuplicateKey));
    }

    #[test]
    fn inner_levels_have_what_the_outer_ones_leave() {
        let many = |n| (0..n).map(|_| del(b"a", b"")).collect::<Vec<_>>();
        assert_eq!(check(many(128)), Ok(()));
        assert_eq!(check(many(129)), Err(Error::TooManyOps));
        assert_eq!(check(vec![inner(many(127), vec![])]), Ok(()));
        assert_eq!(check(vec![inner(many(128), vec![])]), Err(Error::TooManyOps));
        assert_eq!(check(vec![inner(many(126), vec![]), del(b"a", b"")]), Ok(()));
        assert_eq!(check(vec![inner(many(127), vec![]), del(b"a", b"")]), Err(Error::TooManyOps));
    }

    #[test]
    fn the_first_fault_in_order_is_the_one_told() {
        let nothing = pb::RequestOp { request: None };
        assert_eq!(check(vec![nothing.clone(), put_op(b"")]), Err(Error::KeyNotFound));
        assert_eq!(check(vec![put_op(b""), nothing.clone()]), Err(Error::EmptyKey));
        assert_eq!(check(vec![put_op(b"a"), put_op(b"a"), nothing]), Err(Error::KeyNotFound));
    }

    #[test]
    fn overlapping_deletions_become_one() {
        let mut deletes = Deletes::default();
        for (start, end) in [("d", "f"), ("a", "b"), ("e", "h"), ("k", "m"), ("b", "d"), ("x", "c")]
        {
            deletes.add_span(start.into(), end.into());
        }
        let spans: Vec<_> = deletes.spans.into_iter().collect();
        assert_eq!(spans, [("a".into(), "h".into()), ("k".into(), "m".into())]);
    }
}
