//! What may differ between two correct servers, made alike; everything else is left as it is.

use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::SortTarget;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::mvccpb::KeyValue;

use super::Step;
use crate::rpc::Refused;

/// One answer of one server.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// KV.
    Range(pb::RangeResponse),
    /// KV.
    Put(pb::PutResponse),
    /// KV.
    DeleteRange(pb::DeleteRangeResponse),
    /// KV.
    Txn(pb::TxnResponse),
    /// KV.
    Compact(pb::CompactionResponse),
    /// Lease.
    Grant(pb::LeaseGrantResponse),
    /// Lease.
    Revoke(pb::LeaseRevokeResponse),
    /// Lease.
    TimeToLive(pb::LeaseTimeToLiveResponse),
    /// Lease.
    Leases(pb::LeaseLeasesResponse),
    /// Lease.
    KeepAlive(pb::LeaseKeepAliveResponse),
    /// Any of them, refused.
    Refused(Refused),
}

/// Ids that this server put into its first header, to be the same in all that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    cluster: u64,
    member: u64,
    term: u64,
}

/// Stands for the server's own id; any other id stays as it is and so shows up as a difference.
const OWN: u64 = 1;

impl Identity {
    /// The ids of a full header.
    #[must_use]
    pub fn of(header: &pb::ResponseHeader) -> Self {
        Self { cluster: header.cluster_id, member: header.member_id, term: header.raft_term }
    }

    fn name(self, header: &mut Option<pb::ResponseHeader>) {
        let Some(header) = header else { return };
        for (field, own) in [
            (&mut header.cluster_id, self.cluster),
            (&mut header.member_id, self.member),
            (&mut header.raft_term, self.term),
        ] {
            if *field == own && own != 0 {
                *field = OWN;
            }
        }
    }

    /// The answer with this server's ids named alike, and lists that etcd leaves in map order sorted.
    #[must_use]
    pub fn apply(self, mut answer: Answer) -> Answer {
        match &mut answer {
            Answer::Range(one) => self.name(&mut one.header),
            Answer::Put(one) => self.name(&mut one.header),
            Answer::DeleteRange(one) => self.name(&mut one.header),
            Answer::Txn(one) => self.txn(one),
            Answer::Compact(one) => self.name(&mut one.header),
            Answer::Grant(one) => self.name(&mut one.header),
            Answer::Revoke(one) => self.name(&mut one.header),
            Answer::TimeToLive(one) => {
                self.name(&mut one.header);
                one.keys.sort();
            }
            Answer::Leases(one) => {
                self.name(&mut one.header);
                one.leases.sort_by_key(|lease| lease.id);
            }
            Answer::KeepAlive(one) => self.name(&mut one.header),
            Answer::Refused(_) => {}
        }
        answer
    }

    fn txn(self, txn: &mut pb::TxnResponse) {
        self.name(&mut txn.header);
        for op in &mut txn.responses {
            match &mut op.response {
                Some(pb::response_op::Response::ResponseRange(one)) => self.name(&mut one.header),
                Some(pb::response_op::Response::ResponsePut(one)) => self.name(&mut one.header),
                Some(pb::response_op::Response::ResponseDeleteRange(one)) => {
                    self.name(&mut one.header)
                }
                Some(pb::response_op::Response::ResponseTxn(one)) => self.txn(one),
                None => {}
            }
        }
    }
}

/// Keys that are equal in what a range sorts by may come in any order; here they come in the order of their keys.
///
/// Where a limit cuts through such a group, either choice is right: then only what they are equal in stays. Where
/// the sorting value itself is not shown (`keys_only` by VALUE), groups cannot be told, so all of it is one.
#[must_use]
pub fn ties(step: &Step, mut answer: Answer) -> Answer {
    match (step, &mut answer) {
        (Step::Range(request), Answer::Range(range)) => range_ties(request, range),
        (Step::Txn(request), Answer::Txn(txn)) => txn_ties(request, txn),
        _ => {}
    }
    answer
}

fn txn_ties(request: &pb::TxnRequest, txn: &mut pb::TxnResponse) {
    let branch = if txn.succeeded { &request.success } else { &request.failure };
    for (request, response) in branch.iter().zip(&mut txn.responses) {
        match (&request.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(range))) => {
                range_ties(request, range);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(inner))) => {
                txn_ties(request, inner)
            }
            _ => {}
        }
    }
}

fn range_ties(request: &pb::RangeRequest, range: &mut pb::RangeResponse) {
    let Ok(target) = SortTarget::try_from(request.sort_target) else { return };
    let equal = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => false,
        SortTarget::Version => a.version == b.version,
        SortTarget::Create => a.create_revision == b.create_revision,
        SortTarget::Mod => a.mod_revision == b.mod_revision,
        SortTarget::Value => request.keys_only || a.value == b.value,
    };
    for group in range.kvs.chunk_by_mut(equal) {
        group.sort_by(|a, b| a.key.cmp(&b.key));
    }
    if range.more
        && target != SortTarget::Key
        && let Some(cut) = range.kvs.chunk_by_mut(equal).last()
    {
        for kv in cut {
            *kv = match target {
                SortTarget::Key => continue,
                SortTarget::Version => KeyValue { version: kv.version, ..Default::default() },
                SortTarget::Create => {
                    KeyValue { create_revision: kv.create_revision, ..Default::default() }
                }
                SortTarget::Mod => KeyValue { mod_revision: kv.mod_revision, ..Default::default() },
                SortTarget::Value => KeyValue { value: kv.value.clone(), ..Default::default() },
            };
        }
    }
}

/// Seconds left of a lease may differ by the time between the two calls.
const SECONDS_LEFT_TOLERANCE: i64 = 2;

/// Whether two answers, each named alike, say the same.
#[must_use]
pub fn same(oracle: &Answer, subject: &Answer) -> bool {
    if let (Answer::TimeToLive(a), Answer::TimeToLive(b)) = (oracle, subject) {
        let left_alike =
            a.ttl == b.ttl || (a.ttl > 0 && a.ttl.abs_diff(b.ttl) <= SECONDS_LEFT_TOLERANCE as u64);
        let mut b = b.clone();
        b.ttl = a.ttl;
        return left_alike && *a == b;
    }
    oracle == subject
}

impl Answer {
    /// The revision of the answer's header.
    #[must_use]
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Self::Range(one) => &one.header,
            Self::Put(one) => &one.header,
            Self::DeleteRange(one) => &one.header,
            Self::Txn(one) => &one.header,
            Self::Compact(one) => &one.header,
            Self::Grant(one) => &one.header,
            Self::Revoke(one) => &one.header,
            Self::TimeToLive(one) => &one.header,
            Self::Leases(one) => &one.header,
            Self::KeepAlive(one) => &one.header,
            Self::Refused(_) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, member_id: u64, revision: i64) -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term: 5 }
    }

    fn put(header: pb::ResponseHeader) -> Answer {
        Answer::Put(pb::PutResponse { header: Some(header), prev_kv: None })
    }

    #[test]
    fn own_ids_are_alike_and_foreign_ones_are_not() {
        let (a, b) = (Identity::of(&header(10, 11, 1)), Identity::of(&header(20, 21, 1)));
        assert!(same(&a.apply(put(header(10, 11, 2))), &b.apply(put(header(20, 21, 2)))));
        assert!(!same(&a.apply(put(header(10, 11, 2))), &b.apply(put(header(20, 22, 2)))));
        assert!(!same(&a.apply(put(header(10, 11, 2))), &b.apply(put(header(0, 21, 2)))));
        assert!(!same(&a.apply(put(header(10, 11, 2))), &b.apply(put(header(20, 21, 3)))));
    }

    fn sorted(keys: &[(&str, i64)], more: bool) -> Answer {
        let kv = |(key, version): &(&str, i64)| KeyValue {
            key: bytes::Bytes::copy_from_slice(key.as_bytes()),
            version: *version,
            ..Default::default()
        };
        Answer::Range(pb::RangeResponse {
            kvs: keys.iter().map(kv).collect(),
            more,
            ..Default::default()
        })
    }

    #[test]
    fn ties_are_alike_and_nothing_else_is() {
        let step = Step::Range(pb::RangeRequest {
            sort_target: SortTarget::Version as i32,
            ..Default::default()
        });
        let same = |a: Answer, b: Answer| ties(&step, a) == ties(&step, b);
        assert!(same(
            sorted(&[("b", 1), ("a", 1), ("c", 2)], false),
            sorted(&[("a", 1), ("b", 1), ("c", 2)], false)
        ));
        assert!(!same(sorted(&[("c", 2), ("a", 1)], false), sorted(&[("a", 1), ("c", 2)], false)));
        assert!(!same(sorted(&[("a", 1), ("b", 1)], false), sorted(&[("a", 1), ("c", 1)], false)));
        // A limit that cuts through the last group may take either.
        assert!(same(sorted(&[("a", 1), ("b", 2)], true), sorted(&[("a", 1), ("c", 2)], true)));
        assert!(!same(sorted(&[("a", 1), ("b", 2)], true), sorted(&[("b", 1), ("c", 2)], true)));
        assert!(!same(sorted(&[("a", 1), ("b", 2)], true), sorted(&[("a", 1), ("b", 3)], true)));
        let by_key = Step::Range(pb::RangeRequest::default());
        assert_ne!(
            ties(&by_key, sorted(&[("b", 1), ("a", 1)], false)),
            ties(&by_key, sorted(&[("a", 1), ("b", 1)], false))
        );
    }

    #[test]
    fn a_lease_that_is_gone_is_not_like_one_with_little_left() {
        let left =
            |ttl| Answer::TimeToLive(pb::LeaseTimeToLiveResponse { ttl, ..Default::default() });
        assert!(same(&left(10), &left(9)));
        assert!(!same(&left(10), &left(5)));
        assert!(!same(&left(-1), &left(0)));
    }
}
