//! What etcd's requests mean: a small sequential model.
//!
//! A [`State`] is the newest state of all keys. A request is evaluated in a [`Draft`] over it, which says what it
//! would change and what it would answer; the state itself changes only by commits. There are no histories of keys,
//! because who replays a history asks about each revision while the state is there.
//!
//! # What the contract says, and one would get wrong
//!
//! - All compares of a transaction, those of inner ones too, see the state before it. A value compare on an absent
//!   key is false; the other targets compare with 0; a span's compare must hold for each key.
//! - Steps see what earlier steps did, at the revision that the transaction will have.
//! - A put without a lease detaches the key.
//!
//! Source: etcd's API reference ("KV API guarantees", "Transaction"), and real etcd's answers.

mod draft;
mod effects;

use std::collections::{BTreeMap, BTreeSet};

pub use draft::{Draft, Refusal};
pub use effects::{TxnEvents, same_events};

use crate::record::{Change, Commit, Event, Key, KeyValue, LeaseId, Revision, Span};

/// The newest state of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    revision: Revision,
    keys: BTreeMap<Key, KeyValue>,
    /// Keys by lease. Without empty sets.
    attached: BTreeMap<LeaseId, BTreeSet<Key>>,
}

/// Why an event cannot follow a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// The create revision or the version is not what follows.
    Numbers {
        /// What the event has: create revision and version.
        told: (Revision, i64),
        /// What it should have.
        due: (Revision, i64),
    },
    /// A key is deleted that is not there.
    DeletedNothing,
}

impl State {
    /// An empty store at a revision.
    #[must_use]
    pub fn empty(revision: Revision) -> Self {
        Self { revision, keys: BTreeMap::new(), attached: BTreeMap::new() }
    }

    /// The revision of the last commit.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// A key, if it is there.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// The keys of a span, in order.
    pub fn scan<'s>(&self, span: &'s Span) -> impl Iterator<Item = &KeyValue> + use<'_, 's> {
        span.bounds()
            .into_iter()
            .flat_map(|(from, to)| self.keys.range::<Key, _>((from, to)))
            .map(|(_, kv)| kv)
    }

    /// The keys attached to a lease, in order.
    pub fn attached(&self, lease: LeaseId) -> impl Iterator<Item = &Key> {
        self.attached.get(&lease).into_iter().flatten()
    }

    /// Takes a commit in, even one that does not fit; says where it does not.
    pub fn apply(&mut self, commit: &Commit) -> Vec<(Event, Misfit)> {
        self.revision = commit.revision;
        let mut misfits = Vec::new();
        for event in &commit.events {
            if let Some(misfit) = self.apply_event(commit.revision, event) {
                misfits.push((event.clone(), misfit));
            }
        }
        misfits
    }

    fn apply_event(&mut self, revision: Revision, event: &Event) -> Option<Misfit> {
        let old = self.keys.get(&event.key);
        let mut misfit = None;
        let new = match &event.change {
            Change::Put { value, create, version, lease } => {
                let due = old.map_or((revision, 1), |old| (old.create, old.version + 1));
                if (*create, *version) != due {
                    misfit = Some(Misfit::Numbers { told: (*create, *version), due });
                }
                Some(KeyValue {
                    key: event.key.clone(),
                    value: value.clone(),
                    create: *create,
                    modified: revision,
                    version: *version,
                    lease: *lease,
                })
            }
            Change::Delete => {
                if old.is_none() {
                    misfit = Some(Misfit::DeletedNothing);
                }
                None
            }
        };
        self.set(&event.key, new);
        misfit
    }

    fn set(&mut self, key: &Key, new: Option<KeyValue>) {
        let attach = new.as_ref().and_then(|kv| kv.lease);
        let old = match new {
            Some(kv) => self.keys.insert(key.clone(), kv),
            None => self.keys.remove(key),
        };
        let detach = old.and_then(|kv| kv.lease);
        if attach == detach {
            return;
        }
        if let Some(lease) = detach
            && let Some(keys) = self.attached.get_mut(&lease)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.attached.remove(&lease);
            }
        }
        if let Some(lease) = attach {
            self.attached.entry(lease).or_default().insert(key.clone());
        }
    }
}
