//! Two servers, and the steps that both of them get.

use std::fmt;

use anyhow::{Context, Result, bail};
use prost::Message;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::method;
use tonic::Code;

use super::alike::{Answer, Identity, same, ties};
use super::mutants::{Mutant, Spoiler};
use super::{COMPACTED, CURRENT, NEAR, Step, Tally};
use crate::cluster::Cluster;
use crate::rpc::{Client, Refused};
use crate::tools::Program;

/// Two answers to one request that should be the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The request as it was sent.
    pub step: Step,
    /// What etcd said.
    pub oracle: Answer,
    /// What the server under test said.
    pub subject: Answer,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |text: String| -> String { text.chars().take(4_000).collect() };
        writeln!(f, "request: {}", super::describe(&self.step))?;
        writeln!(f, "etcd:    {}", cut(format!("{:?}", self.oracle)))?;
        write!(f, "subject: {}", cut(format!("{:?}", self.subject)))
    }
}

struct Side {
    cluster: Cluster,
    client: Client,
    identity: Identity,
}

impl Side {
    fn start(program: &Program) -> Result<Self> {
        let cluster = Cluster::start(program, 1)?;
        let client = Client::new(&cluster.endpoints())?;
        Ok(Self { cluster, client, identity: Identity::of(&pb::ResponseHeader::default()) })
    }

    /// Asks for the ids that its headers carry.
    async fn identify(&mut self) -> Result<()> {
        let request = pb::RangeRequest { key: b"x"[..].into(), ..Default::default() };
        let answer: pb::RangeResponse =
            self.client.call(method::kv::RANGE, &request).await.map_err(|error| {
                anyhow::anyhow!(
                    "the first request: {error:?}\n{}",
                    self.cluster.servers[0].log_end()
                )
            })?;
        self.identity = Identity::of(&answer.header.context("a range answer without a header")?);
        Ok(())
    }

    async fn ask(&mut self, step: &Step) -> Result<Answer> {
        let answer = send(&self.client, step).await;
        if let Answer::Refused(Refused { code, message }) = &answer {
            self.cluster
                .check_alive()
                .with_context(|| format!("answering {}", super::describe(step)))?;
            if *code == Code::Unavailable {
                bail!("no answer to {}: {message}", super::describe(step));
            }
        }
        Ok(self.identity.apply(answer))
    }
}

/// A real etcd and the server under test, both fresh at the start.
pub struct Pair {
    oracle: Side,
    subject: Side,
    spoiler: Option<Spoiler>,
    identified: bool,
    current: i64,
    compacted: i64,
}

impl Pair {
    /// Starts one member of each.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(oracle: &Program, subject: &Program, mutant: Option<Mutant>) -> Result<Self> {
        Ok(Self {
            oracle: Side::start(oracle)?,
            subject: Side::start(subject)?,
            spoiler: mutant.map(Spoiler::new),
            identified: false,
            current: 1,
            compacted: 0,
        })
    }

    /// Sends a step to both and compares.
    ///
    /// # Errors
    /// When a server has ended or does not answer.
    pub async fn play(
        &mut self,
        step: &Step,
        tally: Option<&mut Tally>,
    ) -> Result<Option<Difference>> {
        if !self.identified {
            self.oracle.identify().await?;
            self.subject.identify().await?;
            self.identified = true;
        }
        let step = self.resolve(step.clone());
        let difference = self.exchange(&step, tally).await?;
        if difference.is_none()
            && let Step::BriefGrant(grant) = &step
        {
            let revoke = Step::Revoke(pb::LeaseRevokeRequest { id: grant.id });
            return self.exchange(&revoke, None).await;
        }
        Ok(difference)
    }

    async fn exchange(
        &mut self,
        step: &Step,
        tally: Option<&mut Tally>,
    ) -> Result<Option<Difference>> {
        let (oracle, subject) = tokio::join!(self.oracle.ask(step), self.subject.ask(step));
        let (oracle, mut subject) =
            (oracle.context("etcd")?, subject.context("the server under test")?);
        if let Some(spoiler) = &mut self.spoiler {
            subject = spoiler.spoil(step, subject);
        }
        if let Some(revision) = oracle.revision() {
            self.current = self.current.max(revision);
        }
        if let (Step::Compact(request), Answer::Compact(_)) = (step, &oracle) {
            self.compacted = request.revision;
        }
        if let Some(tally) = tally {
            count(tally, step, &oracle, self.current);
        }
        if same(&ties(step, oracle.clone()), &ties(step, subject.clone())) {
            return Ok(None);
        }
        Ok(Some(Difference { step: step.clone(), oracle, subject }))
    }

    /// The step with revisions as numbers.
    fn resolve(&self, mut step: Step) -> Step {
        match &mut step {
            Step::Range(range) => self.resolve_range(range),
            Step::Txn(txn) => self.resolve_txn(txn),
            Step::Compact(compact) => self.resolve_revision(&mut compact.revision),
            _ => {}
        }
        step
    }

    fn resolve_revision(&self, revision: &mut i64) {
        for (mark, base) in [(CURRENT, self.current), (COMPACTED, self.compacted)] {
            let offset = revision.saturating_sub(mark);
            if offset.unsigned_abs() < NEAR.unsigned_abs() {
                *revision = base + offset;
                return;
            }
        }
    }

    fn resolve_range(&self, range: &mut pb::RangeRequest) {
        self.resolve_revision(&mut range.revision);
        self.resolve_revision(&mut range.min_mod_revision);
        self.resolve_revision(&mut range.max_mod_revision);
        self.resolve_revision(&mut range.min_create_revision);
        self.resolve_revision(&mut range.max_create_revision);
    }

    fn resolve_txn(&self, txn: &mut pb::TxnRequest) {
        for compare in &mut txn.compare {
            if let Some(
                TargetUnion::ModRevision(revision) | TargetUnion::CreateRevision(revision),
            ) = &mut compare.target_union
            {
                self.resolve_revision(revision);
            }
        }
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match &mut op.request {
                Some(Request::RequestRange(range)) => self.resolve_range(range),
                Some(Request::RequestTxn(inner)) => self.resolve_txn(inner),
                _ => {}
            }
        }
    }
}

fn count(tally: &mut Tally, step: &Step, answer: &Answer, current: i64) {
    let kind = match step {
        Step::Range(_) => "range",
        Step::Put(_) => "put",
        Step::DeleteRange(_) => "delete",
        Step::Txn(_) => "txn",
        Step::Compact(_) => "compact",
        Step::Grant(_) => "grant",
        Step::BriefGrant(_) => "brief grant",
        Step::Revoke(_) => "revoke",
        Step::TimeToLive(_) => "time to live",
        Step::Leases(_) => "leases",
        Step::KeepAlive(_) => "keep alive",
    };
    *tally.steps.entry(kind).or_default() += 1;
    if let Answer::Refused(refused) = answer {
        *tally.refusals.entry(refused.message.clone()).or_default() += 1;
    }
    tally.revision_max = tally.revision_max.max(current);
}

async fn send(client: &Client, step: &Step) -> Answer {
    async fn call<Q: Message, A: Message + Default>(
        client: &Client,
        path: &'static str,
        request: &Q,
        wrap: impl FnOnce(A) -> Answer,
    ) -> Answer {
        client.call(path, request).await.map_or_else(Answer::Refused, wrap)
    }
    match step {
        Step::Range(request) => call(client, method::kv::RANGE, request, Answer::Range).await,
        Step::Put(request) => call(client, method::kv::PUT, request, Answer::Put).await,
        Step::DeleteRange(request) => {
            call(client, method::kv::DELETE_RANGE, request, Answer::DeleteRange).await
        }
        Step::Txn(request) => call(client, method::kv::TXN, request, Answer::Txn).await,
        Step::Compact(request) => call(client, method::kv::COMPACT, request, Answer::Compact).await,
        Step::Grant(request) | Step::BriefGrant(request) => {
            call(client, method::lease::GRANT, request, Answer::Grant).await
        }
        Step::Revoke(request) => call(client, method::lease::REVOKE, request, Answer::Revoke).await,
        Step::TimeToLive(request) => {
            call(client, method::lease::TIME_TO_LIVE, request, Answer::TimeToLive).await
        }
        Step::Leases(request) => call(client, method::lease::LEASES, request, Answer::Leases).await,
        Step::KeepAlive(request) => {
            client.keep_alive(request).await.map_or_else(Answer::Refused, Answer::KeepAlive)
        }
    }
}
