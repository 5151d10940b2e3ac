//! The differential test: the same random requests to a real etcd and to the server under test, one after the
//! other, and every response compared whole: headers with their revisions, error codes and texts.
//!
//! Three things make it work:
//!
//! 1. A step is a pure function of (seed, number) ([`generate::step`]), so a run is repeated from two numbers,
//!    and a part of a run from a list of numbers.
//! 2. Requests name revisions relative to what the oracle answered last ([`CURRENT`], [`COMPACTED`]), so a
//!    sequence still makes sense when steps are left out of it. That is what lets [`shrink`] work.
//! 3. Only what may differ is made alike ([`alike`]): cluster and member ids and terms in headers, seconds left
//!    of a lease, the order of lists that etcd itself gives in map order, and the order of keys that are equal in
//!    what a range sorts by.
//!
//! The oracle is etcd 3.7, the newest line; there is no list of exceptions.
//!
//! A run is cut into episodes, each on fresh servers, so that shrinking can start from nothing. Sources:
//! McKeeman 1998 for the idea, Zeller and Hildebrandt 2002 for the shrinking.
//!
//! Caveat: steps are sent one at a time. What concurrent requests do to each other is the torture's business.

pub mod alike;
pub mod generate;
pub mod mutants;
pub mod play;
pub mod shrink;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::etcdserverpb as pb;

use crate::tools::Program;
use generate::Dice;
use mutants::Mutant;
use play::{Difference, Pair};

/// A revision field with this value, give or take [`NEAR`], means the oracle's current one, give or take.
pub const CURRENT: i64 = 1 << 40;
/// The same for the oracle's compact revision.
pub const COMPACTED: i64 = 1 << 41;
/// How far a relative revision can be from its base.
pub const NEAR: i64 = 1 << 20;

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// KV.
    Range(pb::RangeRequest),
    /// KV.
    Put(pb::PutRequest),
    /// KV.
    DeleteRange(pb::DeleteRangeRequest),
    /// KV.
    Txn(pb::TxnRequest),
    /// KV.
    Compact(pb::CompactionRequest),
    /// Lease. The id is given, never drawn by the server.
    Grant(pb::LeaseGrantRequest),
    /// A grant so short that it would run out, so that a revoke follows at once, as part of the same step.
    BriefGrant(pb::LeaseGrantRequest),
    /// Lease.
    Revoke(pb::LeaseRevokeRequest),
    /// Lease.
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// Lease.
    Leases(pb::LeaseLeasesRequest),
    /// Lease.
    KeepAlive(pb::LeaseKeepAliveRequest),
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Steps in all.
    pub requests: u64,
    /// Where they come from.
    pub seed: u64,
    /// A bound for shrinking what was found.
    pub shrink: Duration,
    /// What to spoil in the subject's answers; only the tests of this test use it.
    pub mutant: Option<Mutant>,
}

/// What a run without a difference has seen; a kind of step with no hits would prove nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps by kind.
    pub steps: std::collections::BTreeMap<&'static str, u64>,
    /// Refusals by text.
    pub refusals: std::collections::BTreeMap<String, u64>,
    /// The largest revision that any episode reached.
    pub revision_max: i64,
}

/// Steps of one episode: long enough for history to build up, short enough to shrink.
const EPISODE_STEPS: [u64; 4] = [500, 1_500, 3_000, 5_000];

/// Runs the plan.
///
/// # Errors
/// With the shrunk sequence, when a response differed; or when a server cannot be used.
pub async fn run(oracle: &Program, subject: &Program, plan: &Plan) -> Result<Tally> {
    let mut tally = Tally::default();
    let (mut done, mut episode) = (0, 0_u64);
    while done < plan.requests {
        let length =
            EPISODE_STEPS[Dice::new(plan.seed, u64::MAX - episode).index(EPISODE_STEPS.len())];
        let steps: Vec<u64> = (done..plan.requests.min(done + length)).collect();
        let mut pair = Pair::start(oracle, subject, plan.mutant)?;
        for number in &steps {
            let step = generate::step(plan.seed, *number);
            if let Some(difference) = pair.play(&step, Some(&mut tally)).await? {
                drop(pair);
                let before: Vec<u64> =
                    steps.iter().copied().filter(|earlier| earlier <= number).collect();
                let found = report(oracle, subject, plan, before, difference).await?;
                bail!("{found}");
            }
        }
        done += length;
        episode += 1;
        println!("differential: {} of {} requests alike", done.min(plan.requests), plan.requests);
    }
    Ok(tally)
}

/// Runs chosen steps of a seed once, on fresh servers.
///
/// # Errors
/// With the difference, if there is one.
pub async fn replay(oracle: &Program, subject: &Program, seed: u64, numbers: &[u64]) -> Result<()> {
    let mut pair = Pair::start(oracle, subject, None)?;
    for number in numbers {
        let step = generate::step(seed, *number);
        println!("{number}: {step:?}");
        if let Some(difference) = pair.play(&step, None).await? {
            bail!("step {number}\n{difference}");
        }
    }
    Ok(())
}

async fn report(
    oracle: &Program,
    subject: &Program,
    plan: &Plan,
    before: Vec<u64>,
    first: Difference,
) -> Result<String> {
    let last = *before.last().context("a difference has a step")?;
    println!("differential: step {last} differs; shrinking {} steps\n{first}", before.len());
    let steps: Vec<(u64, Step)> =
        before.iter().map(|number| (*number, generate::step(plan.seed, *number))).collect();
    let shrunk = shrink::shrink(oracle, subject, plan, steps, first).await?;
    let mut text = format!("seed {}, step {last}: the answers differ\n", plan.seed);
    let numbers: Vec<String> = shrunk.steps.iter().map(|(number, _)| number.to_string()).collect();
    let _infallible = writeln!(text, "{} steps are enough:", shrunk.steps.len());
    for (number, step) in &shrunk.steps {
        let _infallible = writeln!(text, "  {number}: {}", describe(step));
    }
    let _infallible = writeln!(text, "{}", shrunk.difference);
    let _infallible = writeln!(
        text,
        "again: cargo xtask differential --replay {}:{}",
        plan.seed,
        numbers.join(",")
    );
    Ok(text)
}

/// One step on one line, long values cut.
#[must_use]
pub fn describe(step: &Step) -> String {
    let text = format!("{step:?}")
        .replace(&CURRENT.to_string(), "<current>")
        .replace(&COMPACTED.to_string(), "<compacted>");
    if text.chars().count() > 2_000 {
        format!("{} ... ({} characters)", text.chars().take(2_000).collect::<String>(), text.len())
    } else {
        text
    }
}
