//! What a request costs of the quota, as etcd estimates it.

use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request as Op;

/// Taken for what is stored of a key beside itself and its value.
const KEY_BYTES: u64 = 256;

/// Taken for a lease.
pub(crate) const LEASE_BYTES: u64 = 64;

pub(crate) fn put(request: &pb::PutRequest) -> u64 {
    KEY_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The dearer of the two branches; deletions and reads are free.
pub(crate) fn txn(request: &pb::TxnRequest) -> u64 {
    branch(&request.success).max(branch(&request.failure))
}

fn branch(ops: &[pb::RequestOp]) -> u64 {
    let cost = |op: &pb::RequestOp| match &op.request {
        Some(Op::RequestPut(request)) => put(request),
        Some(Op::RequestTxn(request)) => txn(request),
        _ => 0,
    };
    ops.iter().map(cost).sum()
}
