//! One request, evaluated over a state: what it would change, and what it would answer.

use std::collections::BTreeMap;

use super::State;
use crate::record::{
    Answer, Call, Change, Compare, Delete, Event, Get, Key, KeyValue, LeaseId, Put, Relation,
    Revision, Span, Step, Target, Txn, Value,
};

/// See the module.
#[derive(Debug)]
pub struct Draft<'a> {
    state: &'a State,
    /// What this request has put or deleted so far.
    own: BTreeMap<Key, Option<KeyValue>>,
    events: Vec<Event>,
}

/// Why the model has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The key whose value or lease is to be kept is not there.
    KeyNotFound,
    /// The request is not one that reads or changes keys.
    NotOfKeys,
}

impl<'a> Draft<'a> {
    /// Over a state.
    #[must_use]
    pub fn new(state: &'a State) -> Self {
        Self { state, own: BTreeMap::new(), events: Vec::new() }
    }

    /// What was changed, in order.
    #[must_use]
    pub fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// Evaluates a request on keys. Its gets with a revision of their own are answered as if they had none: they are
    /// about another state.
    ///
    /// # Errors
    /// What the store would refuse.
    pub fn evaluate(&mut self, call: &Call) -> Result<Answer, Refusal> {
        match call {
            Call::Put(put) => self.put(put),
            Call::Get(get) => Ok(self.get(get)),
            Call::Delete(delete) => Ok(self.delete(delete)),
            Call::Txn(txn) => self.txn(txn),
            Call::LeaseRevoke(revoke) => {
                self.end_lease(revoke.id);
                Ok(Answer::LeaseRevoke)
            }
            _ => Err(Refusal::NotOfKeys),
        }
    }

    /// Deletes what is attached to a lease.
    pub fn end_lease(&mut self, lease: LeaseId) {
        for key in self.state.attached(lease) {
            self.own.insert(key.clone(), None);
            self.events.push(Event { key: key.clone(), change: Change::Delete });
        }
    }

    fn revision(&self) -> Revision {
        self.state.revision().next()
    }

    fn latest(&self, key: &Key) -> Option<&KeyValue> {
        match self.own.get(key) {
            Some(own) => own.as_ref(),
            None => self.state.get(key),
        }
    }

    /// The pairs of a span as the request sees them now, in order.
    fn scan<'s>(&'s self, span: &Span) -> Vec<&'s KeyValue> {
        if let Span::One(key) = span {
            return self.latest(key).into_iter().collect();
        }
        let mut found: Vec<&KeyValue> =
            self.state.scan(span).filter(|kv| !self.own.contains_key(&kv.key)).collect();
        let own = self.own.values().flatten().filter(|kv| span.contains(&kv.key));
        let before = found.len();
        found.extend(own);
        if found.len() > before {
            found.sort_by(|a, b| a.key.cmp(&b.key));
        }
        found
    }

    fn get(&self, get: &Get) -> Answer {
        let found = self.scan(&get.span);
        let count = found.len() as u64;
        if get.count_only {
            return Answer::Get { kvs: Vec::new(), more: false, count };
        }
        let limit = get.limit.unwrap_or(u64::MAX);
        let shown = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut kvs: Vec<KeyValue> = found.into_iter().take(shown).cloned().collect();
        if get.keys_only {
            for kv in &mut kvs {
                kv.value = Value::new();
            }
        }
        Answer::Get { kvs, more: count > limit, count }
    }

    fn put(&mut self, put: &Put) -> Result<Answer, Refusal> {
        let old = self.latest(&put.key).cloned();
        if (put.ignore_value || put.ignore_lease) && old.is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let revision = self.revision();
        let kept = old.as_ref();
        let new = KeyValue {
            key: put.key.clone(),
            value: match kept {
                Some(old) if put.ignore_value => old.value.clone(),
                _ => put.value.clone(),
            },
            create: kept.map_or(revision, |old| old.create),
            modified: revision,
            version: kept.map_or(1, |old| old.version + 1),
            lease: match kept {
                Some(old) if put.ignore_lease => old.lease,
                _ => put.lease,
            },
        };
        self.events.push(Event {
            key: put.key.clone(),
            change: Change::Put {
                value: new.value.clone(),
                create: new.create,
                version: new.version,
                lease: new.lease,
            },
        });
        self.own.insert(put.key.clone(), Some(new));
        Ok(Answer::Put { prev: old.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &Delete) -> Answer {
        let old: Vec<KeyValue> = self.scan(&delete.span).into_iter().cloned().collect();
        for kv in &old {
            self.own.insert(kv.key.clone(), None);
            self.events.push(Event { key: kv.key.clone(), change: Change::Delete });
        }
        let deleted = old.len() as u64;
        Answer::Delete { deleted, prev: if delete.prev_kv { old } else { Vec::new() } }
    }

    fn txn(&mut self, txn: &Txn) -> Result<Answer, Refusal> {
        let succeeded = txn.compares.iter().all(|compare| holds(self.state, compare));
        let steps = if succeeded { &txn.success } else { &txn.failure };
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            answers.push(match step {
                Step::Put(put) => self.put(put)?,
                Step::Get(get) => self.get(get),
                Step::Delete(delete) => self.delete(delete),
                Step::Txn(inner) => self.txn(inner)?,
            });
        }
        Ok(Answer::Txn { succeeded, answers })
    }
}

/// Whether a compare holds in a state.
fn holds(state: &State, compare: &Compare) -> bool {
    let mut any = false;
    let all = state.scan(&compare.span).all(|kv| {
        any = true;
        holds_for(compare, Some(kv))
    });
    if any { all } else { holds_for(compare, None) }
}

fn holds_for(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let order = match &compare.target {
        Target::Version(given) => kv.map_or(0, |kv| kv.version).cmp(given),
        Target::Create(given) => kv.map_or(Revision(0), |kv| kv.create).cmp(given),
        Target::Mod(given) => kv.map_or(Revision(0), |kv| kv.modified).cmp(given),
        Target::Lease(given) => kv.and_then(|kv| kv.lease).unwrap_or_default().cmp(given),
        Target::Value(given) => match kv {
            Some(kv) => kv.value.cmp(given),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::NotEqual => order.is_ne(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
    }
}
