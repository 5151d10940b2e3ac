//! What the leader has proposed and not yet applied, laid over the applied state.
//!
//! The next request is evaluated as if all of it were applied already: its revision is the
//! last one here plus one, its reads see the versions here first. That is sound because Raft
//! applies a leader's proposals in the order they were made, or loses a tail of them together
//! with the leadership; then the whole overlay is dropped.
//!
//! A proposal leaves at the front when it is applied, in the same step in which the state
//! takes it in, so that a reader never sees neither or both. It leaves at the back when Raft
//! refused to take it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use mvcc::{KeySpan, LeaseId, Record, Revision};

use crate::mutant::{self, Mutant};

/// A proposal in flight, and where it left its marks.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The revision it takes, if it changes a user's key.
    pub(crate) revision: Option<Revision>,
    /// The keys it changes, each once.
    pub(crate) keys: Vec<Bytes>,
    /// The meta keys it changes, each once.
    pub(crate) meta: Vec<Bytes>,
    /// The compact revision it sets.
    pub(crate) compact: Option<Revision>,
    /// What it does to a lease.
    pub(crate) lease: Option<LeaseEvent>,
}

/// What becomes of a lease's deadline with a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseEvent {
    /// It begins when the proposal is applied.
    Granted { id: LeaseId, ttl_s: i64 },
    /// It was taken out when the proposal was made, and comes back if that is taken back. None
    /// if the lease's grant was itself in flight.
    Revoked { id: LeaseId, deadline: Option<Duration> },
    /// The same; what is left of the lease is due again when the proposal is applied.
    RevokedInPart { id: LeaseId, deadline: Option<Duration> },
}

#[derive(Debug)]
struct Version {
    revision: Revision,
    record: Option<Record>,
}

/// The proposals in flight. See the module.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    pending: VecDeque<Pending>,
    /// Versions in flight of a key, oldest first; never an empty list.
    keys: BTreeMap<Bytes, VecDeque<Version>>,
    /// The same for meta keys.
    meta: BTreeMap<Bytes, VecDeque<Option<Bytes>>>,
}

impl Overlay {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The newest revision in flight.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.pending.iter().rev().find_map(|pending| pending.revision)
    }

    /// The newest compact revision in flight.
    pub(crate) fn compacted(&self) -> Option<Revision> {
        self.pending.iter().rev().find_map(|pending| pending.compact)
    }

    /// What `key` is at `at` with what is in flight; the outer `None` if nothing is.
    pub(crate) fn get(&self, key: &[u8], at: Revision) -> Option<Option<&Record>> {
        visible(self.keys.get(key)?, at)
    }

    /// The keys of `span` in flight at `at`, in order, and what they are.
    pub(crate) fn scan<'a>(
        &'a self,
        span: &KeySpan,
        at: Revision,
    ) -> impl Iterator<Item = (&'a Bytes, Option<&'a Record>)> + use<'a> {
        debug_assert!(!span.is_empty());
        let end = span.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.keys
            .range::<[u8], _>((Bound::Included(&span.start[..]), end))
            .filter_map(move |(key, versions)| Some((key, visible(versions, at)?)))
    }

    /// What a meta key is with what is in flight; the outer `None` if nothing is.
    pub(crate) fn meta_get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        Some(self.meta.get(key)?.back()?.as_ref())
    }

    /// The meta keys in flight with this prefix, in order.
    pub(crate) fn meta_scan(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.meta
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .filter_map(|(key, values)| Some((key, values.back()?.as_ref())))
    }

    /// Takes a proposal in. `versions` and `rows` are what it makes of the keys it changes.
    pub(crate) fn push(
        &mut self,
        revision: Option<Revision>,
        versions: BTreeMap<Bytes, Option<Record>>,
        rows: BTreeMap<Bytes, Option<Bytes>>,
        compact: Option<Revision>,
        lease: Option<LeaseEvent>,
    ) {
        assert!(revision.is_some() || versions.is_empty(), "a change takes a revision");
        let keys = versions.keys().cloned().collect();
        let meta = rows.keys().cloned().collect();
        if let Some(revision) = revision {
            assert!(self.revision().is_none_or(|last| last < revision), "revisions only rise");
            for (key, record) in versions {
                self.keys.entry(key).or_default().push_back(Version { revision, record });
            }
        }
        for (key, value) in rows {
            self.meta.entry(key).or_default().push_back(value);
        }
        self.pending.push_back(Pending { revision, keys, meta, compact, lease });
    }

    /// The oldest proposal is applied.
    pub(crate) fn pop_front(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        remove(&mut self.keys, &pending.keys, VecDeque::pop_front);
        remove(&mut self.meta, &pending.meta, VecDeque::pop_front);
        Some(pending)
    }

    /// The newest proposal is taken back.
    pub(crate) fn pop_back(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_back()?;
        if !mutant::on(Mutant::KeepRetracted) {
            remove(&mut self.keys, &pending.keys, VecDeque::pop_back);
        }
        remove(&mut self.meta, &pending.meta, VecDeque::pop_back);
        Some(pending)
    }
}

fn visible(versions: &VecDeque<Version>, at: Revision) -> Option<Option<&Record>> {
    let seen = |version: &&Version| version.revision <= at || mutant::on(Mutant::OverlayTooNew);
    let version = versions.iter().rev().find(seen)?;
    Some(version.record.as_ref())
}

fn remove<V>(
    map: &mut BTreeMap<Bytes, VecDeque<V>>,
    keys: &[Bytes],
    pop: fn(&mut VecDeque<V>) -> Option<V>,
) {
    for key in keys {
        let list = map.get_mut(key).expect("what is pending has left its mark");
        assert!(pop(list).is_some(), "a list in the overlay is never empty");
        if list.is_empty() {
            map.remove(key);
        }
    }
}
