//! Broken variants: what a server that gets one rule wrong would answer.
//!
//! A test that has never failed proves nothing. Each mutant spoils the subject's answers in the way of a known
//! mistake; with a real etcd on both sides, the differential test must find it, and must not find anything else.

use proto::etcdserverpb as pb;
use proto::etcdserverpb::response_op::Response;

use super::Step;
use super::alike::Answer;

/// A rule got wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A delete that matches nothing takes a revision.
    EmptyDeleteTakesRevision,
    /// `count` stops at the limit.
    CountObeysLimit,
    /// `more` is never set.
    NeverMore,
    /// `keys_only` leaves the lease in (here: invents one).
    KeysOnlyWithLease,
    /// The header of a read at an old revision carries that revision.
    HistoricHeader,
    /// Headers inside a transaction's answer carry ids.
    InnerHeaderWithIds,
    /// A keep-alive of an unknown lease answers TTL 1 instead of 0.
    KeepAliveOfUnknown,
    /// The text of one error is not etcd's.
    OtherText,
    /// The code of one error is not etcd's.
    OtherCode,
    /// `prev_kv` is not given for deletes.
    NoPrevOnDelete,
    /// The version of a key goes on after it was deleted (here: is one too high from 3 on).
    VersionTooHigh,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::EmptyDeleteTakesRevision,
        Self::CountObeysLimit,
        Self::NeverMore,
        Self::KeysOnlyWithLease,
        Self::HistoricHeader,
        Self::InnerHeaderWithIds,
        Self::KeepAliveOfUnknown,
        Self::OtherText,
        Self::OtherCode,
        Self::NoPrevOnDelete,
        Self::VersionTooHigh,
    ];
}

/// A mutant at work.
#[derive(Debug)]
pub struct Spoiler {
    mutant: Mutant,
    revisions_added: i64,
}

impl Spoiler {
    /// Starts with nothing spoiled.
    #[must_use]
    pub fn new(mutant: Mutant) -> Self {
        Self { mutant, revisions_added: 0 }
    }

    /// The answer as the mutant would give it.
    #[must_use]
    pub fn spoil(&mut self, step: &Step, mut answer: Answer) -> Answer {
        match (self.mutant, step, &mut answer) {
            (Mutant::EmptyDeleteTakesRevision, _, answer) => self.shift(answer),
            (Mutant::CountObeysLimit, Step::Range(request), Answer::Range(range))
                if request.limit > 0 =>
            {
                range.count = range.count.min(request.limit);
            }
            (Mutant::NeverMore, _, Answer::Range(range)) => range.more = false,
            (Mutant::KeysOnlyWithLease, Step::Range(request), Answer::Range(range))
                if request.keys_only =>
            {
                range.kvs.iter_mut().for_each(|kv| kv.lease = 1);
            }
            (Mutant::HistoricHeader, Step::Range(request), Answer::Range(range))
                if request.revision > 0 =>
            {
                set_revision(&mut range.header, request.revision);
            }
            (Mutant::InnerHeaderWithIds, _, Answer::Txn(txn)) => {
                for op in &mut txn.responses {
                    if let Some(Response::ResponsePut(put)) = &mut op.response
                        && let Some(header) = &mut put.header
                    {
                        header.member_id = 1;
                    }
                }
            }
            (Mutant::KeepAliveOfUnknown, _, Answer::KeepAlive(alive)) if alive.ttl == 0 => {
                alive.ttl = 1
            }
            (Mutant::OtherText, _, Answer::Refused(refused)) => {
                refused.message =
                    refused.message.replace("duplicate key given", "duplicate keys given");
            }
            (Mutant::OtherCode, _, Answer::Refused(refused))
                if refused.code == tonic::Code::OutOfRange =>
            {
                refused.code = tonic::Code::InvalidArgument;
            }
            (Mutant::NoPrevOnDelete, _, Answer::DeleteRange(delete)) => delete.prev_kvs.clear(),
            (Mutant::VersionTooHigh, _, Answer::Range(range)) => {
                for kv in range.kvs.iter_mut().filter(|kv| kv.version >= 3) {
                    kv.version += 1;
                }
            }
            _ => {}
        }
        answer
    }

    fn shift(&mut self, answer: &mut Answer) {
        let header = match answer {
            Answer::DeleteRange(delete) => {
                if delete.deleted == 0 {
                    self.revisions_added += 1;
                }
                &mut delete.header
            }
            Answer::Put(put) => &mut put.header,
            Answer::Range(range) => &mut range.header,
            Answer::Txn(txn) => &mut txn.header,
            _ => return,
        };
        if let Some(header) = header {
            header.revision += self.revisions_added;
        }
    }
}

fn set_revision(header: &mut Option<pb::ResponseHeader>, revision: i64) {
    if let Some(header) = header {
        header.revision = revision;
    }
}
