//! The cluster of a run, what is known of it, and how it comes back after a fault.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::method;
use tokio::time::{Instant, sleep, timeout};

use super::host::Helpers;
use super::load::{Stage, User};
use super::member::{Member, Syncs};
use super::net::{self, Slot};
use super::proxy::Proxies;
use super::record::{Keys, Record};
use super::schedule::Kind;
use crate::differential::generate::Dice;
use crate::rpc::{Client, Refused};
use crate::tools::Program;

/// How long the cluster may take to be whole again once nothing is wrong any more.
pub const RECOVERY: Duration = Duration::from_secs(60);
/// So many more writes must be acknowledged before a fault counts as survived.
const PROGRESS_WRITES: u64 = 30;
/// Groups of keys.
const GROUPS: usize = 10;
const LOOK: Duration = Duration::from_millis(50);
const SHORT: Duration = Duration::from_secs(2);
/// The client that the run itself is.
const ADMIN: u32 = 999;

/// How often something happened, and the evidence.
#[derive(Debug, Clone, Copy, Default)]
pub struct Happened {
    /// Times.
    pub times: u64,
    /// In the unit of [`Kind::words`].
    pub evidence: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Field {
    /// By slot, the first being slot 1.
    pub members: Vec<Member>,
    /// Between them.
    pub proxies: Arc<Proxies>,
    /// What clients know.
    pub stage: Stage,
    /// The run's own client.
    pub admin: User,
    /// For the choice of victims and times.
    pub dice: Dice,
    /// What has really happened.
    pub happened: BTreeMap<Kind, Happened>,
    /// What the members' syncs do while nothing else is wrong with them.
    pub syncs: Syncs,
    connections: Vec<Client>,
}

impl Field {
    /// Makes network, disks and proxies, and starts the members.
    ///
    /// # Errors
    /// When the system refuses, or the members do not serve.
    pub async fn build(
        program: &Program,
        directory: &Path,
        members: usize,
        seed: u64,
    ) -> Result<Self> {
        let helpers = Helpers::build(directory)?;
        net::build(members)?;
        let proxies = Proxies::start(members, seed).await?;
        let new = |slot| Member::new(program, directory, &helpers, slot, members);
        let all = (1..=members).map(new).collect::<Result<Vec<_>>>()?;
        let stage = Stage {
            lives: all.iter().map(|member| Arc::clone(&member.life)).collect(),
            record: Arc::new(Record::default()),
            keys: Keys::new(GROUPS),
            leases: Arc::default(),
        };
        let admin = User::new(&stage, ADMIN, seed)?;
        let slots = 1..=members;
        let connections =
            slots.map(|slot| Client::new(&net::endpoint(slot))).collect::<Result<Vec<_>>>()?;
        let dice = Dice::new(seed, 2);
        let happened = BTreeMap::new();
        let syncs = Syncs::Honest;
        let mut field =
            Self { members: all, proxies, stage, admin, dice, happened, syncs, connections };
        for member in &mut field.members {
            member.start()?;
        }
        field.wait_serving(Instant::now() + RECOVERY).await?;
        Ok(field)
    }

    /// All slots.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        (1..=self.members.len()).collect()
    }

    /// The member in a slot.
    pub fn member(&mut self, slot: Slot) -> &mut Member {
        &mut self.members[slot - 1]
    }

    /// The run's own connection to a member; what goes over it is not recorded.
    #[must_use]
    pub fn connection(&self, slot: Slot) -> &Client {
        &self.connections[slot - 1]
    }

    /// Where everything is written down.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.stage.record
    }

    /// Writes down that something has really happened.
    ///
    /// # Errors
    /// When the evidence is nothing: it did not happen.
    pub fn note(&mut self, kind: Kind, evidence: u64) -> Result<()> {
        let (name, unit) = kind.words();
        ensure!(evidence > 0, "{name} was demanded and did not really happen: 0 {unit}");
        let happened = self.happened.entry(kind).or_default();
        happened.times += 1;
        happened.evidence += evidence;
        Ok(())
    }

    /// A member's status.
    ///
    /// # Errors
    /// When it does not say, or not soon.
    pub async fn status(&self, slot: Slot) -> Result<pb::StatusResponse> {
        let call = self.connection(slot).call(method::maintenance::STATUS, &pb::StatusRequest {});
        answered(timeout(SHORT, call).await)
    }

    /// Who leads, and its id, if a member says so of itself; of several, that of the highest term.
    pub async fn leader(&self) -> Option<(Slot, u64)> {
        let mut found: Option<(u64, Slot, u64)> = None;
        for slot in self.slots() {
            if let Ok(status) = self.status(slot).await
                && let Some(header) = status.header
                && status.leader != 0
                && status.leader == header.member_id
            {
                found = found.max(Some((status.raft_term, slot, status.leader)));
            }
        }
        found.map(|(_, slot, id)| (slot, id))
    }

    /// The leader, once there is one; any member if there is none for some time.
    pub async fn leader_or_any(&mut self) -> Slot {
        for _ in 0..20 {
            if let Some((slot, _)) = self.leader().await {
                return slot;
            }
            sleep(LOOK).await;
        }
        let slots = self.slots();
        self.dice.pick(&slots)
    }

    /// The members as the cluster knows them, asked of any that answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn list(&self, but: Option<Slot>) -> Result<Vec<pb::Member>> {
        let request = pb::MemberListRequest { linearizable: true };
        let answer: pb::MemberListResponse =
            self.insist("member list", but, method::cluster::LIST, &request, &[]).await?;
        Ok(answer.members)
    }

    /// One call, to one member after the other, until one answers or says one of `done` (then an empty answer).
    ///
    /// # Errors
    /// When none does within [`RECOVERY`].
    pub async fn insist<Q: prost::Message, A: prost::Message + Default>(
        &self,
        what: &str,
        but: Option<Slot>,
        path: &'static str,
        request: &Q,
        done: &[&str],
    ) -> Result<A> {
        let end = Instant::now() + RECOVERY;
        let mut last = String::new();
        while Instant::now() < end {
            for slot in self.slots().into_iter().filter(|slot| Some(*slot) != but) {
                match timeout(RECOVERY / 6, self.connection(slot).call(path, request)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(Refused { message, .. })) if done.contains(&message.as_str()) => {
                        return Ok(A::default());
                    }
                    Ok(Err(refused)) => last = format!("m{slot}: {refused:?}"),
                    Err(_) => last = format!("m{slot}: no answer"),
                }
            }
            sleep(LOOK).await;
        }
        bail!("{what}: not within {} s; last {last}", RECOVERY.as_secs())
    }

    /// Whether a member answers a linearizable read.
    pub async fn serves(&self, slot: Slot) -> Result<()> {
        let request = pb::RangeRequest { key: Bytes::from_static(b"-"), ..Default::default() };
        let call = self.connection(slot).call::<_, pb::RangeResponse>(method::kv::RANGE, &request);
        answered(timeout(SHORT, call).await).map(drop)
    }

    /// Waits until every member serves.
    ///
    /// # Errors
    /// When one has ended or does not serve in time, with the end of its log.
    pub async fn wait_serving(&mut self, end: Instant) -> Result<()> {
        for slot in self.slots() {
            loop {
                let Err(error) = self.serves(slot).await else { break };
                self.check_alive()?;
                if Instant::now() >= end {
                    let log = self.member(slot).log_end();
                    return Err(error.context(format!("m{slot} does not serve again:\n{log}")));
                }
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Fails when a member does not run.
    ///
    /// # Errors
    /// With how it ended, and the end of its log.
    pub fn check_alive(&mut self) -> Result<()> {
        for member in &mut self.members {
            let (slot, exited) = (member.slot, member.exited()?);
            if let Some(status) = exited {
                bail!("m{slot} ended by itself with {status}:\n{}", member.log_end());
            }
            ensure!(member.runs()?, "m{slot} does not run");
        }
        Ok(())
    }

    /// Heals the network.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal_network(&mut self) -> Result<()> {
        self.proxies.heal();
        for slot in self.slots() {
            net::heal(slot)?;
        }
        Ok(())
    }

    /// Waits until all members serve and writes go on.
    ///
    /// # Errors
    /// When they do not within [`RECOVERY`].
    pub async fn recover(&mut self) -> Result<()> {
        let end = Instant::now() + RECOVERY;
        self.wait_serving(end).await?;
        let before = self.record().acknowledged.load(Ordering::SeqCst);
        while self.record().acknowledged.load(Ordering::SeqCst) < before + PROGRESS_WRITES {
            self.check_alive()?;
            ensure!(Instant::now() < end, "writes do not go on within {} s", RECOVERY.as_secs());
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The hash of a member's data at a revision, and its compact revision.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn hash(&self, slot: Slot, revision: i64) -> Result<(u32, i64)> {
        let request = pb::HashKvRequest { revision };
        let call = self.connection(slot).call(method::maintenance::HASH_KV, &request);
        let answer: pb::HashKvResponse = answered(timeout(SHORT * 5, call).await)?;
        Ok((answer.hash, answer.compact_revision))
    }

    /// The revision of a member's own state.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn revision(&self, slot: Slot) -> Result<i64> {
        let key = Bytes::from_static(b"-");
        let request = pb::RangeRequest { key, serializable: true, ..Default::default() };
        let call = self.connection(slot).call(method::kv::RANGE, &request);
        let answer: pb::RangeResponse = answered(timeout(SHORT, call).await)?;
        Ok(answer.header.context("a header")?.revision)
    }

    /// Waits until all members are at one revision with one hash. Nobody writes any more.
    ///
    /// # Errors
    /// When they do not get there, with what each has.
    pub async fn converge(&mut self) -> Result<(i64, u32)> {
        let end = Instant::now() + RECOVERY;
        loop {
            let found = self.states().await;
            if let Ok(states) = &found
                && let Some(first) = states.first()
                && states.iter().all(|state| state == first)
            {
                return Ok((first.0, first.1));
            }
            self.check_alive()?;
            ensure!(
                Instant::now() < end,
                "members have not converged (revision, hash, compact revision): {found:?}"
            );
            sleep(LOOK * 4).await;
        }
    }

    async fn states(&self) -> Result<Vec<(i64, u32, i64)>> {
        let mut states = Vec::new();
        for slot in self.slots() {
            let revision = self.revision(slot).await?;
            let (hash, compacted) = self.hash(slot, revision).await?;
            states.push((revision, hash, compacted));
        }
        Ok(states)
    }

    /// The ends of all logs.
    #[must_use]
    pub fn logs(&self) -> String {
        let one = |member: &Member| format!("-- m{}\n{}\n", member.slot, member.log_end());
        self.members.iter().map(one).collect()
    }
}

fn answered<T>(outcome: Result<Result<T, Refused>, tokio::time::error::Elapsed>) -> Result<T> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(refused)) => bail!("{refused:?}"),
        Err(_) => bail!("no answer"),
    }
}
