//! Making a failing sequence small: delta debugging over steps, then over the parts of what is left.
//!
//! Every attempt plays a candidate on fresh servers, and keeps it when *any* answer differs. That may end at
//! another difference than it began with; a smaller one is as good. The last step of a candidate is always the
//! one that differed, so that what comes after it is cut for free.

use std::time::{Duration, Instant};

use anyhow::Result;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;

use super::play::{Difference, Pair};
use super::{Plan, Step};
use crate::tools::Program;

/// What is left.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The steps, with their numbers in the whole sequence.
    pub steps: Vec<(u64, Step)>,
    /// How they end.
    pub difference: Difference,
}

struct Shrinker<'a> {
    oracle: &'a Program,
    subject: &'a Program,
    plan: &'a Plan,
    end: Instant,
    best: Shrunk,
}

/// Shrinks for as long as the plan allows.
///
/// # Errors
/// When servers cannot be started.
pub async fn shrink(
    oracle: &Program,
    subject: &Program,
    plan: &Plan,
    steps: Vec<(u64, Step)>,
    difference: Difference,
) -> Result<Shrunk> {
    let end = Instant::now() + plan.shrink.max(Duration::from_secs(1));
    let mut shrinker = Shrinker { oracle, subject, plan, end, best: Shrunk { steps, difference } };
    shrinker.drop_steps().await?;
    shrinker.drop_parts().await?;
    Ok(shrinker.best)
}

impl Shrinker<'_> {
    /// Plays a candidate; keeps it, cut after the difference, if there is one.
    async fn attempt(&mut self, candidate: Vec<(u64, Step)>) -> Result<bool> {
        let mut pair = Pair::start(self.oracle, self.subject, self.plan.mutant)?;
        for (position, (_, step)) in candidate.iter().enumerate() {
            if let Some(difference) = pair.play(step, None).await? {
                let mut steps = candidate;
                steps.truncate(position + 1);
                self.best = Shrunk { steps, difference };
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn out_of_time(&self) -> bool {
        Instant::now() >= self.end
    }

    async fn drop_steps(&mut self) -> Result<()> {
        // Most differences need little history: try the last few steps alone before halving the whole.
        for keep in [1, 3, 10, 30, 100] {
            let steps = &self.best.steps;
            if keep < steps.len() {
                let candidate = steps[steps.len() - keep..].to_vec();
                if self.out_of_time() || self.attempt(candidate).await? {
                    break;
                }
            }
        }
        let mut chunk = self.best.steps.len().div_ceil(2);
        while chunk > 0 && !self.out_of_time() {
            let mut from = 0;
            let mut dropped = false;
            while from + 1 < self.best.steps.len() && !self.out_of_time() {
                let steps = &self.best.steps;
                let until = (from + chunk).min(steps.len() - 1);
                let candidate = [&steps[..from], &steps[until..]].concat();
                if self.attempt(candidate).await? {
                    dropped = true;
                } else {
                    from = until;
                }
            }
            if chunk == 1 && !dropped {
                break;
            }
            chunk = if chunk == 1 { 1 } else { chunk / 2 };
        }
        Ok(())
    }

    /// Leaves out operations and compares of transactions, and options of reads and writes.
    async fn drop_parts(&mut self) -> Result<()> {
        let mut position = 0;
        while position < self.best.steps.len() {
            let mut variant = 0;
            while let Some(simpler) = simpler(&self.best.steps[position].1, variant) {
                if self.out_of_time() {
                    return Ok(());
                }
                let mut candidate = self.best.steps.clone();
                candidate[position].1 = simpler;
                if self.attempt(candidate).await? {
                    if position >= self.best.steps.len() {
                        return Ok(());
                    }
                } else {
                    variant += 1;
                }
            }
            position += 1;
        }
        Ok(())
    }
}

/// The `variant`th way to say less; `None` when there are no more.
fn simpler(step: &Step, variant: usize) -> Option<Step> {
    let mut ways = Vec::new();
    match step {
        Step::Txn(txn) => ways.extend(simpler_txn(txn).into_iter().map(Step::Txn)),
        Step::Range(range) => ways.extend(simpler_range(range).into_iter().map(Step::Range)),
        Step::Put(put) => ways.extend(simpler_put(put).into_iter().map(Step::Put)),
        _ => {}
    }
    ways.into_iter().nth(variant)
}

fn simpler_txn(txn: &pb::TxnRequest) -> Vec<pb::TxnRequest> {
    let mut ways = Vec::new();
    for index in 0..txn.compare.len() {
        let mut less = txn.clone();
        less.compare.remove(index);
        ways.push(less);
    }
    for index in 0..txn.success.len() {
        let mut less = txn.clone();
        less.success.remove(index);
        ways.push(less);
        for op in simpler_op(&txn.success[index]) {
            let mut less = txn.clone();
            less.success[index] = op;
            ways.push(less);
        }
    }
    for index in 0..txn.failure.len() {
        let mut less = txn.clone();
        less.failure.remove(index);
        ways.push(less);
        for op in simpler_op(&txn.failure[index]) {
            let mut less = txn.clone();
            less.failure[index] = op;
            ways.push(less);
        }
    }
    ways
}

fn simpler_op(op: &pb::RequestOp) -> Vec<pb::RequestOp> {
    let ways: Vec<Request> = match &op.request {
        Some(Request::RequestTxn(txn)) => {
            simpler_txn(txn).into_iter().map(Request::RequestTxn).collect()
        }
        Some(Request::RequestRange(range)) => {
            simpler_range(range).into_iter().map(Request::RequestRange).collect()
        }
        Some(Request::RequestPut(put)) => {
            simpler_put(put).into_iter().map(Request::RequestPut).collect()
        }
        _ => Vec::new(),
    };
    ways.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect()
}

fn simpler_range(range: &pb::RangeRequest) -> Vec<pb::RangeRequest> {
    let plain = pb::RangeRequest {
        key: range.key.clone(),
        range_end: range.range_end.clone(),
        ..Default::default()
    };
    let ways = [
        plain,
        pb::RangeRequest { limit: 0, ..range.clone() },
        pb::RangeRequest { revision: 0, ..range.clone() },
        pb::RangeRequest { sort_order: 0, ..range.clone() },
        pb::RangeRequest { sort_target: 0, ..range.clone() },
        pb::RangeRequest { serializable: false, ..range.clone() },
        pb::RangeRequest { keys_only: false, ..range.clone() },
        pb::RangeRequest { count_only: false, ..range.clone() },
        pb::RangeRequest { min_mod_revision: 0, ..range.clone() },
        pb::RangeRequest { max_mod_revision: 0, ..range.clone() },
        pb::RangeRequest { min_create_revision: 0, ..range.clone() },
        pb::RangeRequest { max_create_revision: 0, ..range.clone() },
    ];
    ways.into_iter().filter(|way| way != range).collect()
}

fn simpler_put(put: &pb::PutRequest) -> Vec<pb::PutRequest> {
    let ways = [
        pb::PutRequest { key: put.key.clone(), value: put.value.clone(), ..Default::default() },
        pb::PutRequest { lease: 0, ..put.clone() },
        pb::PutRequest { prev_kv: false, ..put.clone() },
        pb::PutRequest { ignore_value: false, ..put.clone() },
        pb::PutRequest { ignore_lease: false, ..put.clone() },
        pb::PutRequest { value: put.value.slice(..put.value.len().min(1)), ..put.clone() },
    ];
    ways.into_iter().filter(|way| way != put).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differential::generate;

    /// Simplifying ends: each way has fewer parts, so a chain of first ways is finite.
    #[test]
    fn every_chain_of_simpler_steps_ends() {
        for number in 0..2_000 {
            let mut step = generate::step(3, number);
            let mut links = 0;
            while let Some(next) = simpler(&step, 0) {
                step = next;
                links += 1;
                assert!(links < 2_000, "no end: {step:?}");
            }
        }
    }
}
