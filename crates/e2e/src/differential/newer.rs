//! Where the contract (etcd's newest line) and the oracle (3.5.1) differ, by name.
//!
//! The oracle's answer is brought up to what a newer etcd says. Each rule is as narrow as the change was, and this is
//! the whole list:
//!
//! 1. A transaction with several faults may be refused for another one of them: 3.5.1 checks the puts of a branch before
//!    its ranges, and the key of a put before its lease (20,000 random requests beside 3.7.3 without this rule
//!    showed no difference).
//! 2. `keys_only` leaves out the lease as well as the value, unless the keys are sorted by VALUE (3.8).

use proto::etcdserverpb as pb;
use proto::etcdserverpb::range_request::SortTarget;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;

use super::Step;
use super::alike::Answer;

/// What an operation in a transaction can be refused for by the state.
const FAULTS: [&str; 4] = [
    "etcdserver: key not found",
    "etcdserver: requested lease not found",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
];

/// The answer that a newer etcd would have given, where `subject` is the other one's.
#[must_use]
pub fn newer(step: &Step, mut answer: Answer, subject: &Answer) -> Answer {
    if let (Step::Txn(_), Answer::Refused(oracle), Answer::Refused(other)) =
        (step, &answer, subject)
        && FAULTS.contains(&oracle.message.as_str())
        && FAULTS.contains(&other.message.as_str())
    {
        return subject.clone();
    }
    match (step, &mut answer) {
        (Step::Range(request), Answer::Range(range)) => newer_range(request, range),
        (Step::Txn(request), Answer::Txn(txn)) => newer_txn(request, txn),
        _ => {}
    }
    answer
}

fn newer_range(request: &pb::RangeRequest, range: &mut pb::RangeResponse) {
    if request.keys_only && request.sort_target != SortTarget::Value as i32 {
        range.kvs.iter_mut().for_each(|kv| kv.lease = 0);
    }
}

fn newer_txn(request: &pb::TxnRequest, txn: &mut pb::TxnResponse) {
    let branch = if txn.succeeded { &request.success } else { &request.failure };
    for (request, response) in branch.iter().zip(&mut txn.responses) {
        match (&request.request, &mut response.response) {
            (Some(Request::RequestRange(request)), Some(Response::ResponseRange(range))) => {
                newer_range(request, range);
            }
            (Some(Request::RequestTxn(request)), Some(Response::ResponseTxn(inner))) => {
                newer_txn(request, inner)
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::mvccpb;

    fn leased() -> Answer {
        let kv = mvccpb::KeyValue { lease: 7, ..Default::default() };
        Answer::Range(pb::RangeResponse { kvs: vec![kv], ..Default::default() })
    }

    #[test]
    fn only_keys_only_and_only_when_not_sorted_by_value() {
        let step = |keys_only, sort_target| {
            Step::Range(pb::RangeRequest { keys_only, sort_target, ..Default::default() })
        };
        assert_eq!(newer(&step(false, 0), leased(), &leased()), leased());
        assert_eq!(newer(&step(true, SortTarget::Value as i32), leased(), &leased()), leased());
        assert_ne!(newer(&step(true, 0), leased(), &leased()), leased());
    }
}
