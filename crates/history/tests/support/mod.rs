//! Random histories that are right: a sequential store, asked by clients with random delays.
//!
//! Each request has an invocation, a moment at which it takes effect, and a return; requests are carried out in the
//! order of the moments in the middle. Some answers are lost: then the effect may be there, may come late, or never.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests only")]

pub(crate) mod mutate;
mod watches;

use std::collections::BTreeMap;

use bytes::Bytes;
use history::model::{Draft, State};
use history::record::*;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub(crate) type Dice = Pcg64Mcg;

pub(crate) const MS: u64 = 1_000_000;

/// How big.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) operations: usize,
    pub(crate) clients: u32,
    pub(crate) keys: u32,
    pub(crate) watches: usize,
    /// Of 100 answers so many are lost.
    pub(crate) lost: u32,
    /// Whether old revisions are read: that keeps every state.
    pub(crate) past: bool,
}

pub(crate) const SMALL: Size =
    Size { operations: 60, clients: 4, keys: 6, watches: 3, lost: 12, past: true };

/// A history and the states it went through.
pub(crate) struct Run {
    pub(crate) history: History,
    /// From the base on, one for each commit.
    pub(crate) states: Vec<State>,
}

impl Run {
    pub(crate) fn state_at(&self, revision: Revision) -> &State {
        let base = self.history.commits.base.0;
        &self.states[usize::try_from(revision.0 - base).unwrap()]
    }
}

struct Slot {
    client: ClientId,
    invoked: Time,
    takes: Time,
    returned: Time,
}

struct World {
    dice: Dice,
    size: Size,
    state: State,
    states: Vec<State>,
    compacted: Revision,
    commits: Vec<Commit>,
    /// Lease, and when it may end.
    leases: BTreeMap<LeaseId, (u64, i64)>,
    operations: Vec<Operation>,
    next_value: u64,
    next_lease: i64,
    /// What serializable reads of a node have seen, by time of their return.
    sessions: BTreeMap<NodeId, Vec<(Time, Revision)>>,
}

/// A history by its seed.
pub(crate) fn run(seed: u64, size: Size) -> Run {
    let mut dice = Dice::seed_from_u64(seed);
    let mut slots = Vec::new();
    let mut clocks = vec![0_u64; size.clients as usize];
    for number in 0..size.operations {
        let client = number % clocks.len();
        let invoked = clocks[client] + dice.random_range(1..150 * MS);
        let takes = invoked + dice.random_range(1..80 * MS);
        let returned = takes + dice.random_range(1..80 * MS);
        clocks[client] = returned;
        slots.push(Slot {
            client: ClientId(u32::try_from(client).unwrap()),
            invoked: Time(invoked),
            takes: Time(takes),
            returned: Time(returned),
        });
    }
    slots.sort_by_key(|slot| slot.takes);
    let state = State::empty(Revision(1));
    let mut world = World {
        dice,
        size,
        states: vec![state.clone()],
        state,
        compacted: Revision(0),
        commits: Vec::new(),
        leases: BTreeMap::new(),
        operations: Vec::new(),
        next_value: 0,
        next_lease: 100,
        sessions: BTreeMap::new(),
    };
    for slot in slots {
        world.expire(slot.takes);
        world.serve(&slot);
    }
    let World { mut dice, states, commits, operations, .. } = world;
    let mut run = Run {
        history: History {
            operations,
            watches: Vec::new(),
            commits: Commits { base: Revision(1), list: commits },
        },
        states,
    };
    for _ in 0..size.watches {
        let watch = watches::watch(&run, &mut dice, size);
        run.history.watches.push(watch);
    }
    // What is recorded has no order of its own.
    let count = run.history.operations.len();
    for index in 1..count {
        run.history.operations.swap(index, dice.random_range(0..=index));
    }
    run
}

pub(crate) fn key(number: u32) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

impl World {
    fn chance(&mut self, of_100: u32) -> bool {
        self.dice.random_range(0..100) < of_100
    }

    fn any_key(&mut self) -> Bytes {
        key(self.dice.random_range(0..self.size.keys))
    }

    fn value(&mut self) -> Bytes {
        self.next_value += 1;
        Bytes::from(format!("v{}", self.next_value))
    }

    fn commit(&mut self, events: Vec<Event>, at: Time) {
        if events.is_empty() {
            return;
        }
        let revision = self.state.revision().next();
        let seen = self.chance(30).then_some(at);
        let commit = Commit { revision, events, seen };
        assert!(self.state.apply(&commit).is_empty());
        self.commits.push(commit);
        if self.size.past {
            self.states.push(self.state.clone());
        }
    }

    /// Ends leases whose time is up, sometimes later than possible.
    fn expire(&mut self, now: Time) {
        let due: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, (until, _))| *until < now.0)
            .map(|(lease, _)| *lease)
            .collect();
        for lease in due {
            if self.chance(70) {
                self.end_lease(lease, now);
            }
        }
    }

    fn end_lease(&mut self, lease: LeaseId, at: Time) {
        self.leases.remove(&lease);
        let mut draft = Draft::new(&self.state);
        draft.end_lease(lease);
        let events = draft.into_events();
        self.commit(events, at);
    }

    fn serve(&mut self, slot: &Slot) {
        let node = NodeId(self.dice.random_range(0..3));
        let call = self.call();
        let lost = self.chance(self.size.lost);
        // A lost request may have no effect; a refused one has none.
        let refused = !lost && self.chance(3);
        let outcome = if refused {
            Outcome::Failed(Failure::Other("too many requests".to_owned()))
        } else if lost && self.chance(40) {
            Outcome::Unknown
        } else {
            let outcome = self.carry_out(&call, slot, node);
            if lost { Outcome::Unknown } else { outcome }
        };
        let returned = match outcome {
            Outcome::Unknown if self.chance(50) => None,
            // The client gave up before the effect, or after it.
            Outcome::Unknown => Some(Time(self.dice.random_range(slot.invoked.0..slot.returned.0))),
            _ => Some(slot.returned),
        };
        self.operations.push(Operation {
            client: slot.client,
            node,
            incarnation: Some(Incarnation(0)),
            invoked: slot.invoked,
            returned,
            call,
            outcome,
        });
    }

    fn carry_out(&mut self, call: &Call, slot: &Slot, node: NodeId) -> Outcome {
        let now = slot.takes;
        let missing = call_leases(call).into_iter().any(|id| !self.leases.contains_key(&id));
        match call {
            Call::Compact(compact) => {
                let revision = compact.revision;
                if revision <= self.compacted {
                    return Outcome::Failed(Failure::Compacted);
                }
                if revision > self.state.revision() {
                    return Outcome::Failed(Failure::FutureRevision);
                }
                self.compacted = revision;
                self.ok(Answer::Compact)
            }
            Call::LeaseGrant(grant) => {
                let id = grant.id.unwrap_or(LeaseId(self.next_lease));
                self.next_lease += 1;
                let ttl = u64::try_from(grant.ttl_s).unwrap() * 1_000 * MS;
                self.leases.insert(id, (now.0 + ttl, grant.ttl_s));
                self.ok(Answer::LeaseGrant { id, ttl_s: grant.ttl_s })
            }
            Call::LeaseKeepAlive(alive) => {
                let ttl_s = self.leases.get_mut(&alive.id).map(|(until, ttl_s)| {
                    *until = now.0 + u64::try_from(*ttl_s).unwrap() * 1_000 * MS;
                    *ttl_s
                });
                self.ok(Answer::LeaseKeepAlive { ttl_s })
            }
            Call::LeaseRevoke(_) | Call::Put(_) | Call::Txn(_) if missing => {
                Outcome::Failed(Failure::LeaseNotFound)
            }
            Call::LeaseRevoke(revoke) => {
                self.end_lease(revoke.id, now);
                self.ok(Answer::LeaseRevoke)
            }
            Call::Get(_) | Call::Txn(_) if call.is_serializable() => {
                self.serializable(call, slot, node)
            }
            Call::Get(get) if get.revision.is_some() => self.past(get),
            _ => {
                let mut draft = Draft::new(&self.state);
                let Ok(answer) = draft.evaluate(call) else {
                    return Outcome::Failed(Failure::KeyNotFound);
                };
                let events = draft.into_events();
                self.commit(events, now);
                self.ok(answer)
            }
        }
    }

    fn ok(&self, answer: Answer) -> Outcome {
        Outcome::Ok { revision: self.state.revision(), answer }
    }

    fn past(&mut self, get: &Get) -> Outcome {
        let at = get.revision.unwrap();
        if at < self.compacted {
            return Outcome::Failed(Failure::Compacted);
        }
        if at > self.state.revision() {
            return Outcome::Failed(Failure::FutureRevision);
        }
        let state = &self.states[usize::try_from(at.0 - 1).unwrap()];
        let answer = Draft::new(state).evaluate(&Call::Get(get.clone())).unwrap();
        self.ok(answer)
    }

    /// From an old state, but none older than this node has shown.
    fn serializable(&mut self, call: &Call, slot: &Slot, node: NodeId) -> Outcome {
        let shown = self.sessions.entry(node).or_default();
        let floor = shown
            .iter()
            .filter(|(at, _)| *at < slot.invoked)
            .map(|(_, revision)| *revision)
            .max()
            .unwrap_or(Revision(1));
        let top = self.state.revision();
        let revision =
            if self.size.past { Revision(self.dice.random_range(floor.0..=top.0)) } else { top };
        shown.push((slot.returned, revision));
        let state = if self.size.past {
            &self.states[usize::try_from(revision.0 - 1).unwrap()]
        } else {
            &self.state
        };
        let answer = Draft::new(state).evaluate(call).unwrap();
        Outcome::Ok { revision, answer }
    }

    fn call(&mut self) -> Call {
        match self.dice.random_range(0..100) {
            0..32 => Call::Put(self.put()),
            32..48 => Call::Get(self.get(true)),
            48..58 => Call::Delete(self.delete()),
            58..80 => Call::Txn(self.txn(1)),
            80..83 if self.size.past => {
                let top = self.state.revision().0;
                let revision = Revision(self.dice.random_range(1..top / 2 + 3));
                Call::Compact(Compact { revision })
            }
            80..88 => {
                let id = Some(LeaseId(self.next_lease));
                self.next_lease += 1;
                Call::LeaseGrant(LeaseGrant { id, ttl_s: self.dice.random_range(1..4) })
            }
            88..92 => Call::LeaseKeepAlive(LeaseKeepAlive { id: self.lease() }),
            92..95 => Call::LeaseRevoke(LeaseRevoke { id: self.lease() }),
            _ => Call::Get(self.get(true)),
        }
    }

    fn lease(&mut self) -> LeaseId {
        let ids: Vec<LeaseId> = self.leases.keys().copied().collect();
        if ids.is_empty() || self.chance(3) {
            return LeaseId(7);
        }
        ids[self.dice.random_range(0..ids.len())]
    }

    fn put(&mut self) -> Put {
        let lease = if self.chance(35) { Some(self.lease()) } else { None };
        Put {
            key: self.any_key(),
            value: self.value(),
            lease: lease
                .filter(|id| self.leases.contains_key(id) || self.dice.random_range(0..9) == 0),
            prev_kv: self.chance(40),
            ignore_value: false,
            ignore_lease: self.chance(5),
        }
        .tidy(&mut self.dice)
    }

    fn span(&mut self) -> Span {
        match self.dice.random_range(0..10) {
            0..6 => Span::One(self.any_key()),
            6..8 => Span::Range { from: self.any_key(), to: self.any_key() },
            8 => Span::From(self.any_key()),
            _ => Span::prefix("k"),
        }
    }

    fn get(&mut self, past: bool) -> Get {
        let top = self.state.revision().0;
        let serializable = past && self.chance(25);
        let revision = (past && self.size.past && !serializable && self.chance(30))
            .then(|| Revision(self.dice.random_range(1..=top + 1)));
        Get {
            span: self.span(),
            revision,
            serializable,
            limit: self.chance(30).then(|| self.dice.random_range(1..4)),
            count_only: self.chance(10),
            keys_only: self.chance(10),
        }
    }

    fn delete(&mut self) -> Delete {
        Delete { span: self.span(), prev_kv: self.chance(50) }
    }

    fn compare(&mut self) -> Compare {
        let key = self.any_key();
        let now = self.state.get(&key).cloned();
        let relation = match self.dice.random_range(0..6) {
            0 => Relation::NotEqual,
            1 => Relation::Greater,
            2 => Relation::Less,
            _ => Relation::Equal,
        };
        let kv = now.unwrap_or_default();
        let target = match self.dice.random_range(0..5) {
            0 => Target::Version(kv.version),
            1 => Target::Create(kv.create),
            2 => Target::Mod(kv.modified),
            3 => Target::Lease(kv.lease.unwrap_or_default()),
            _ => Target::Value(kv.value),
        };
        let span = if self.chance(80) { Span::One(key) } else { self.span() };
        Compare { span, relation, target }
    }

    fn txn(&mut self, depth: u32) -> Txn {
        let compares = (0..self.dice.random_range(0..3)).map(|_| self.compare()).collect();
        Txn { compares, success: self.branch(depth), failure: self.branch(depth) }
    }

    /// Steps on disjoint keys, as etcd asks for.
    fn branch(&mut self, depth: u32) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut used: Vec<Bytes> = Vec::new();
        for _ in 0..self.dice.random_range(0..4) {
            match self.dice.random_range(0..10) {
                0..4 => {
                    let value = self.value();
                    let put = Put { ignore_lease: false, ignore_value: false, value, ..self.put() };
                    if !used.contains(&put.key) {
                        used.push(put.key.clone());
                        steps.push(Step::Put(put));
                    }
                }
                4..6 => {
                    let key = self.any_key();
                    if !used.contains(&key) {
                        used.push(key.clone());
                        let prev_kv = self.chance(50);
                        steps.push(Step::Delete(Delete { span: Span::One(key), prev_kv }));
                    }
                }
                6 if depth > 0 => {
                    let inner = self.txn(depth - 1);
                    let read_only = |step: &Step| matches!(step, Step::Get(_));
                    let steps_inside =
                        |list: Vec<Step>| list.into_iter().filter(read_only).collect();
                    steps.push(Step::Txn(Txn {
                        compares: inner.compares,
                        success: steps_inside(inner.success),
                        failure: steps_inside(inner.failure),
                    }));
                }
                _ => steps.push(Step::Get(self.get(false))),
            }
        }
        steps
    }
}

trait Tidy {
    fn tidy(self, dice: &mut Dice) -> Self;
}

impl Tidy for Put {
    /// Sometimes the value is kept; a lease that is kept is not given.
    fn tidy(mut self, dice: &mut Dice) -> Self {
        if self.ignore_lease {
            self.lease = None;
        }
        if dice.next_u32().is_multiple_of(30) {
            self.ignore_value = true;
            self.value = Bytes::new();
        }
        self
    }
}

fn call_leases(call: &Call) -> Vec<LeaseId> {
    fn of_steps(steps: &[Step], found: &mut Vec<LeaseId>) {
        for step in steps {
            if let Step::Put(put) = step {
                found.extend(put.lease);
            }
        }
    }
    let mut found = Vec::new();
    match call {
        Call::Put(put) => found.extend(put.lease),
        Call::Txn(txn) => {
            of_steps(&txn.success, &mut found);
            of_steps(&txn.failure, &mut found);
        }
        Call::LeaseRevoke(revoke) => found.push(revoke.id),
        _ => {}
    }
    found
}
