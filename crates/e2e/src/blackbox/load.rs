//! Clients that write and read while the cluster is being hurt, and write down everything.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use history::record::{
    Answer, Call, ClientId, Compact, Compare, Delete, Failure, Get, Incarnation, LeaseGrant,
    LeaseId, LeaseKeepAlive, LeaseRevoke, NodeId, Operation, Outcome, Put, Relation, Revision,
    Span, Step, Target, Txn,
};
use proto::etcdserverpb as pb;
use proto::method;

use super::convert;
use super::net::{Slot, endpoint};
use super::record::{Keys, Record, SLOTS};
use crate::differential::generate::Dice;
use crate::rpc::{Client, Refused};

/// How long a client waits for most calls; then the outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it waits for some reads: longer than any pause, so that one can lie in a stopped process and be answered
/// when that wakes up.
const LONG_PATIENCE: Duration = Duration::from_secs(15);
/// After an error, so that a member that is away is not asked a thousand times a second.
const BACKOFF: Duration = Duration::from_millis(60);
/// Leases that clients know of.
const LEASES_MAX: usize = 12;

/// What a client needs to know of the cluster.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Members by slot, from 1 on: which life of each runs.
    pub lives: Vec<Arc<AtomicU32>>,
    /// Where everything is written down.
    pub record: Arc<Record>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// Leases that were granted lately.
    pub leases: Arc<Mutex<VecDeque<LeaseId>>>,
}

/// One client with a connection to each member.
#[derive(Debug)]
pub struct User {
    id: ClientId,
    stage: Stage,
    connections: Vec<Client>,
    dice: Dice,
    read_at: Option<Revision>,
}

impl User {
    /// A client; its dice are its own.
    ///
    /// # Errors
    /// When an address is none.
    pub fn new(stage: &Stage, id: u32, seed: u64) -> Result<Self> {
        let slots = 1..=stage.lives.len();
        let connections =
            slots.map(|slot| Client::new(&endpoint(slot))).collect::<Result<Vec<_>>>()?;
        let dice = Dice::new(seed, 10_000 + u64::from(id));
        Ok(Self { id: ClientId(id), stage: stage.clone(), connections, dice, read_at: None })
    }

    /// Works until the record says stop.
    pub async fn work(mut self) {
        while !self.stage.record.clients_stop.load(Ordering::SeqCst) {
            let slot = 1 + self.dice.index(self.connections.len());
            let call = self.invent();
            let patient = matches!(call, Call::Get(_)) && self.dice.one_in(4);
            let answered =
                self.ask(slot, call, if patient { LONG_PATIENCE } else { PATIENCE }).await;
            let rest = if answered { self.dice.below(40) } else { 0 };
            tokio::time::sleep(if answered { Duration::from_millis(rest) } else { BACKOFF }).await;
        }
    }

    /// One call to one member, written down. Whether it was answered.
    pub async fn ask(&mut self, slot: Slot, call: Call, patience: Duration) -> bool {
        let record = Arc::clone(&self.stage.record);
        let life = &self.stage.lives[slot - 1];
        let life_before = life.load(Ordering::SeqCst);
        let invoked = record.now();
        let asked = tokio::time::timeout(patience, send(&self.connections[slot - 1], &call)).await;
        let returned = record.now();
        let same_life = life.load(Ordering::SeqCst) == life_before;
        let (outcome, refusal) = match asked {
            Ok(Ok((revision, answer))) => (Outcome::Ok { revision, answer }, None),
            Ok(Err(refused)) => match convert::failure(&refused.message) {
                Some(failure) => (Outcome::Failed(failure), Some(refused.message)),
                None => (Outcome::Unknown, Some(refused.message)),
            },
            Err(_) => (Outcome::Unknown, Some("no answer in time".to_owned())),
        };
        let answered = matches!(
            outcome,
            Outcome::Ok { .. }
                | Outcome::Failed(
                    Failure::Compacted | Failure::FutureRevision | Failure::LeaseNotFound
                )
        );
        self.learn(&call, &outcome);
        record.push(
            Operation {
                client: self.id,
                node: NodeId(u32::try_from(slot).unwrap_or_default()),
                incarnation: same_life.then_some(Incarnation(life_before)),
                invoked,
                returned: Some(returned),
                call,
                outcome,
            },
            refusal,
        );
        answered
    }

    fn learn(&mut self, call: &Call, outcome: &Outcome) {
        let mut leases = self.stage.leases.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Ok { revision, answer } => {
                self.read_at = Some(*revision);
                if let Answer::LeaseGrant { id, .. } = answer {
                    leases.push_back(*id);
                    if leases.len() > LEASES_MAX {
                        leases.pop_front();
                    }
                }
            }
            Outcome::Failed(Failure::LeaseNotFound) => {
                let gone = match call {
                    Call::Put(put) => put.lease,
                    Call::LeaseRevoke(revoke) => Some(revoke.id),
                    _ => None,
                };
                leases.retain(|lease| Some(*lease) != gone);
            }
            Outcome::Failed(_) => {}
            Outcome::Unknown => unknown_keys(call, &mut |key| self.stage.keys.unknown(key)),
        }
    }

    fn prefix(&mut self) -> String {
        let group = self.dice.index(self.stage.keys.groups());
        self.stage.keys.prefix(group)
    }

    fn key(&mut self) -> Bytes {
        let prefix = self.prefix();
        Bytes::from(format!("{prefix}{}", self.dice.below(SLOTS)))
    }

    fn put(&mut self, key: Bytes) -> Put {
        let mut value = self.stage.record.value();
        if self.dice.one_in(20) {
            let length = value.len() + 200;
            value = format!("{value:.<length$}");
        }
        Put { key, value: value.into(), prev_kv: self.dice.one_in(6), ..Put::default() }
    }

    fn lease(&mut self) -> Option<LeaseId> {
        let leases = self.stage.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<LeaseId> = leases.iter().copied().collect();
        drop(leases);
        (!known.is_empty()).then(|| self.dice.pick(&known))
    }

    fn invent(&mut self) -> Call {
        let key = self.key();
        match self.dice.below(1_000) {
            0..300 => Call::Put(self.put(key)),
            300..480 => Call::Get(Get { span: Span::One(key), ..Get::default() }),
            480..540 => {
                Call::Get(Get { span: Span::One(key), serializable: true, ..Get::default() })
            }
            540..600 => self.list(),
            600..640 => self.past(),
            640..710 => Call::Delete(Delete { span: Span::One(key), prev_kv: self.dice.one_in(2) }),
            710..716 => {
                let span = Span::prefix(self.prefix());
                Call::Delete(Delete { span, prev_kv: self.dice.one_in(2) })
            }
            716..840 => self.swap(key),
            840..890 => self.several(),
            890..920 => {
                let ttl_s = 2 + i64::try_from(self.dice.below(5)).unwrap_or_default();
                Call::LeaseGrant(LeaseGrant { id: None, ttl_s })
            }
            920..997 => self.leased(),
            _ => self.compact(),
        }
    }

    fn list(&mut self) -> Call {
        let span =
            if self.dice.one_in(4) { Span::prefix("l/") } else { Span::prefix(self.prefix()) };
        let limit = self.dice.one_in(3).then_some(2);
        let (count_only, keys_only) = (self.dice.one_in(6), self.dice.one_in(6));
        let serializable = self.dice.one_in(4);
        Call::Get(Get { span, limit, count_only, keys_only, serializable, revision: None })
    }

    /// A read of the past, of what this client has seen; a little beyond it now and then.
    fn past(&mut self) -> Call {
        let seen = self.read_at.map_or(1, |revision| revision.0);
        let back = i64::try_from(self.dice.below(400)).unwrap_or_default();
        let revision = Some(Revision((seen + 5 - back).max(1)));
        let span = Span::prefix(self.prefix());
        Call::Get(Get { span, revision, serializable: self.dice.one_in(3), ..Get::default() })
    }

    /// Compare and swap; the loser looks.
    fn swap(&mut self, key: Bytes) -> Call {
        let target = match self.dice.below(4) {
            0 => Target::Create(Revision(0)),
            1 => Target::Version(i64::try_from(self.dice.below(4)).unwrap_or_default()),
            _ => Target::Mod(Revision(self.read_at.map_or(1, |revision| revision.0 - 200))),
        };
        let relation = match target {
            Target::Mod(_) => self.dice.pick(&[Relation::Less, Relation::Greater]),
            _ => self.dice.pick(&[Relation::Equal, Relation::NotEqual]),
        };
        let span = Span::One(key.clone());
        let then = self.put(key);
        Call::Txn(Txn {
            compares: vec![Compare { span: span.clone(), relation, target }],
            success: vec![Step::Put(then)],
            failure: vec![Step::Get(Get { span, ..Get::default() })],
        })
    }

    /// Several keys of a group at one revision.
    fn several(&mut self) -> Call {
        let prefix = self.prefix();
        let mut steps = Vec::new();
        for slot in 0..SLOTS {
            let key = Bytes::from(format!("{prefix}{slot}"));
            match self.dice.below(4) {
                0 => {}
                1 => steps.push(Step::Delete(Delete { span: Span::One(key), prev_kv: true })),
                _ => steps.push(Step::Put(self.put(key))),
            }
        }
        steps.push(Step::Get(Get { span: Span::prefix(prefix), ..Get::default() }));
        Call::Txn(Txn { success: steps, ..Txn::default() })
    }

    fn leased(&mut self) -> Call {
        let Some(id) = self.lease() else {
            return Call::LeaseGrant(LeaseGrant { id: None, ttl_s: 3 });
        };
        match self.dice.below(10) {
            0 => Call::LeaseRevoke(LeaseRevoke { id }),
            1..4 => Call::LeaseKeepAlive(LeaseKeepAlive { id }),
            _ => {
                let key = Bytes::from(format!("l/{}", self.dice.below(30)));
                Call::Put(Put { lease: Some(id), ..self.put(key) })
            }
        }
    }

    /// Behind the collector of commits, who would miss what is gone.
    fn compact(&mut self) -> Call {
        let collected = self.stage.record.collected.load(Ordering::SeqCst);
        let back = i64::try_from(100 + self.dice.below(300)).unwrap_or_default();
        Call::Compact(Compact { revision: Revision((collected - back).max(1)) })
    }
}

/// Keys whose history a call of unknown outcome makes harder to judge.
fn unknown_keys(call: &Call, tell: &mut impl FnMut(&[u8])) {
    let mut of_span = |span: &Span| match span {
        Span::One(key) | Span::Range { from: key, .. } | Span::From(key) => tell(key),
    };
    match call {
        Call::Put(put) => tell(&put.key),
        Call::Delete(delete) => of_span(&delete.span),
        Call::Txn(txn) => {
            for step in &txn.success {
                match step {
                    Step::Put(put) => tell(&put.key),
                    Step::Delete(delete) => {
                        let (key, _) = convert::span(&delete.span);
                        tell(&key);
                    }
                    Step::Get(_) | Step::Txn(_) => {}
                }
            }
        }
        _ => {}
    }
}

fn header(header: Option<pb::ResponseHeader>) -> Result<Revision, Refused> {
    header.map(|header| Revision(header.revision)).ok_or_else(|| Refused {
        code: tonic::Code::DataLoss,
        message: "an answer without a header".to_owned(),
    })
}

async fn send(client: &Client, call: &Call) -> Result<(Revision, Answer), Refused> {
    Ok(match call {
        Call::Put(put) => {
            let answer: pb::PutResponse = client.call(method::kv::PUT, &convert::put(put)).await?;
            (header(answer.header)?, convert::put_answer(answer))
        }
        Call::Get(get) => {
            let answer: pb::RangeResponse =
                client.call(method::kv::RANGE, &convert::get(get)).await?;
            (header(answer.header)?, convert::get_answer(answer))
        }
        Call::Delete(delete) => {
            let answer: pb::DeleteRangeResponse =
                client.call(method::kv::DELETE_RANGE, &convert::delete(delete)).await?;
            (header(answer.header)?, convert::delete_answer(answer))
        }
        Call::Txn(txn) => {
            let answer: pb::TxnResponse = client.call(method::kv::TXN, &convert::txn(txn)).await?;
            let revision = header(answer.header)?;
            let answer = convert::txn_answer(answer).ok_or_else(|| Refused {
                code: tonic::Code::DataLoss,
                message: "a transaction's answer lacks a step's".to_owned(),
            })?;
            (revision, answer)
        }
        Call::Compact(compact) => {
            let request = pb::CompactionRequest { revision: compact.revision.0, physical: false };
            let answer: pb::CompactionResponse = client.call(method::kv::COMPACT, &request).await?;
            (header(answer.header)?, Answer::Compact)
        }
        other => return send_lease(client, other).await,
    })
}

async fn send_lease(client: &Client, call: &Call) -> Result<(Revision, Answer), Refused> {
    Ok(match call {
        Call::LeaseGrant(grant) => {
            let id = grant.id.map_or(0, |id| id.0);
            let request = pb::LeaseGrantRequest { ttl: grant.ttl_s, id };
            let answer: pb::LeaseGrantResponse =
                client.call(method::lease::GRANT, &request).await?;
            let granted = Answer::LeaseGrant { id: LeaseId(answer.id), ttl_s: answer.ttl };
            (header(answer.header)?, granted)
        }
        Call::LeaseRevoke(revoke) => {
            let request = pb::LeaseRevokeRequest { id: revoke.id.0 };
            let answer: pb::LeaseRevokeResponse =
                client.call(method::lease::REVOKE, &request).await?;
            (header(answer.header)?, Answer::LeaseRevoke)
        }
        Call::LeaseKeepAlive(alive) => {
            let answer = client.keep_alive(&pb::LeaseKeepAliveRequest { id: alive.id.0 }).await?;
            let ttl_s = (answer.ttl > 0).then_some(answer.ttl);
            (header(answer.header)?, Answer::LeaseKeepAlive { ttl_s })
        }
        other => {
            let message = format!("the black box does not send {other}");
            return Err(Refused { code: tonic::Code::Unimplemented, message });
        }
    })
}
