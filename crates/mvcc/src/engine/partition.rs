//! Many states in one engine: each sees the rows under its own number, and no others.
//!
//! A store hosts thousands of ranges and has one disk. A [`Partition`] is an [`Engine`] within
//! another: every row of its tables stands there behind the number of the partition, so that a
//! state can be opened on it as on an engine of its own. What many of them want written goes down
//! in one write of the engine underneath ([`run_together`](crate::run_together())), and the view
//! that they read from afterwards is one that all of them share.
//!
//! Caveat: a write of one partition replaces the shared view for the others only when they ask for
//! theirs the next time ([`Partition::snapshot`]); a partition that never does pins the pages of
//! the view that it has.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Engine, EngineError, Snapshot, Table, Visit, Write};

/// Bytes of the number in front of every key: big endian, so that partitions are in order.
const NUMBER_BYTES: usize = 8;

/// An engine within another. See the [module](self).
pub struct Partition<E: Engine> {
    inner: Arc<E>,
    number: u64,
}

impl<E: Engine> Partition<E> {
    /// The partition of this number. It may be opened any number of times; one at a time may
    /// write.
    ///
    /// # Panics
    /// If the number is the greatest there is: nothing could follow it.
    pub fn new(inner: Arc<E>, number: u64) -> Partition<E> {
        assert!(number < u64::MAX, "a partition ends where the next begins");
        Partition { inner, number }
    }

    /// The engine that it lives in.
    #[must_use]
    pub fn inner(&self) -> &Arc<E> {
        &self.inner
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The numbers of the partitions of `inner` that hold anything, in order.
    ///
    /// # Errors
    /// The engine's.
    pub fn numbers(inner: &E) -> Result<Vec<u64>, EngineError> {
        let snapshot = inner.snapshot()?;
        let mut numbers = Vec::new();
        // A partition that holds anything has its mark among the meta rows.
        let mut next = Some(0_u64);
        while let Some(from) = next.take() {
            let mut found = None;
            snapshot.scan(Table::Meta, &from.to_be_bytes(), None, &mut |key, _| {
                found = key.first_chunk::<NUMBER_BYTES>().copied().map(u64::from_be_bytes);
                ControlFlow::Break(())
            })?;
            if let Some(number) = found {
                numbers.push(number);
                next = number.checked_add(1);
            }
        }
        Ok(numbers)
    }

    /// What this partition sees of a view of the engine underneath.
    pub(crate) fn view_of(&self, inner: &Arc<E::Snapshot>) -> PartitionSnapshot<E::Snapshot> {
        PartitionSnapshot { inner: Arc::clone(inner), number: self.number }
    }

    /// The same writes, as the engine underneath has them.
    pub(crate) fn inward(&self, batch: Vec<Write>, into: &mut Vec<Write>) {
        into.extend(batch.into_iter().map(|write| match write {
            Write::Put(table, key, value) => Write::Put(table, row(self.number, &key), value),
            Write::Delete(table, key) => Write::Delete(table, row(self.number, &key)),
        }));
    }
}

/// A key as the engine underneath has it.
fn row(number: u64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(NUMBER_BYTES + key.len());
    row.put_u64(number);
    row.put_slice(key);
    row.freeze()
}

impl<E: Engine> Engine for Partition<E> {
    type Snapshot = PartitionSnapshot<E::Snapshot>;

    fn write(&self, batch: &[Write]) -> Result<(), EngineError> {
        let mut inward = Vec::with_capacity(batch.len());
        self.inward(batch.to_vec(), &mut inward);
        self.inner.write(&inward)
    }

    fn snapshot(&self) -> Result<Self::Snapshot, EngineError> {
        Ok(self.view_of(&Arc::new(self.inner.snapshot()?)))
    }

    /// Of the whole engine: what a partition takes of it is not kept apart.
    fn size_bytes(&self) -> Result<(u64, u64), EngineError> {
        self.inner.size_bytes()
    }

    fn shrink(&self) -> Result<(), EngineError> {
        self.inner.shrink()
    }
}

/// A view of a partition that does not change.
pub struct PartitionSnapshot<S: Snapshot> {
    inner: Arc<S>,
    number: u64,
}

impl<S: Snapshot> PartitionSnapshot<S> {
    /// Where a span of the partition ends underneath.
    fn end(&self, end: Option<&[u8]>) -> Bytes {
        match end {
            Some(end) => row(self.number, end),
            None => Bytes::copy_from_slice(&(self.number + 1).to_be_bytes()),
        }
    }
}

impl<S: Snapshot> Snapshot for PartitionSnapshot<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.inner.get(table, &row(self.number, key))
    }

    fn scan(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let (start, end) = (row(self.number, start), self.end(end));
        self.inner
            .scan(table, &start, Some(&end), &mut |key, value| visit(&key[NUMBER_BYTES..], value))
    }

    fn scan_back(
        &self,
        table: Table,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), EngineError> {
        let (start, end) = (row(self.number, start), self.end(end));
        self.inner.scan_back(table, &start, Some(&end), &mut |key, value| {
            visit(&key[NUMBER_BYTES..], value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::super::mem::MemEngine;
    use super::*;
    use crate::{Batch, Change, Commit, Record, State, run_together};

    fn put(key: &str, value: &str) -> Write {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Write::Put(Table::Meta, bytes(key), bytes(value))
    }

    #[test]
    fn conforms_between_neighbours() {
        let among = || {
            let inner = Arc::new(MemEngine::new());
            for number in [6, 8] {
                let rows = ["", "a", "k", "\u{10ffff}"].map(|key| put(key, "a neighbour's"));
                Partition::new(Arc::clone(&inner), number).write(&rows).unwrap();
            }
            Partition::new(inner, 7)
        };
        conformance::run(among, |partition| Partition::new(Arc::clone(partition.inner()), 7));
    }

    /// A commit that puts one key, as the entry after the last.
    fn apply(state: &mut State<Partition<MemEngine>>, key: &'static str) {
        let (index, revision) = (state.applied().index + 1, state.revision().next());
        let record = Record::new(key.as_bytes(), revision, revision, 1, b"value", None);
        let changes = vec![Change { key: record.key(), record: Some(record) }];
        let commit = Some(Arc::new(Commit { revision, changes }));
        state.apply(Batch { index, term: 1, commit, ..Batch::default() });
    }

    #[test]
    fn many_states_are_written_by_one_write() {
        let inner = Arc::new(MemEngine::new());
        let open = |number| State::open(Arc::new(Partition::new(Arc::clone(&inner), number)));
        let mut states: Vec<_> = (0..3).map(|number| open(number).unwrap()).collect();
        apply(&mut states[0], "a");
        apply(&mut states[2], "c");
        apply(&mut states[2], "d");
        // One write is allowed, and no more.
        inner.fail_writes_after(Some(1));
        let jobs = [0, 2].map(|number: usize| states[number].freeze().unwrap());
        let reloads = [states[1].reload().unwrap()];
        let done = run_together(&jobs, &reloads).unwrap();
        for (number, done) in [0, 2, 1].into_iter().zip(done) {
            drop(states[number].finish(done));
        }
        let durable: Vec<_> = states.iter().map(|state| state.durable().index).collect();
        assert_eq!(durable, [1, 0, 2]);
        for (number, keys) in [&["a"][..], &[], &["c", "d"]].into_iter().enumerate() {
            let again = open(number as u64).unwrap();
            assert_eq!(again.live_keys(), keys.len() as u64, "partition {number}");
            for key in keys {
                let view = again.view();
                assert!(view.get(key.as_bytes(), view.revision()).unwrap().is_some(), "{key}");
            }
        }
    }

    #[test]
    fn what_cannot_be_written_together_is_not_written_at_all() {
        let inner = Arc::new(MemEngine::new());
        let open = |number| State::open(Arc::new(Partition::new(Arc::clone(&inner), number)));
        let mut states: Vec<_> = (0..2).map(|number| open(number).unwrap()).collect();
        states.iter_mut().for_each(|state| apply(state, "k"));
        let jobs: Vec<_> = states.iter_mut().map(|state| state.freeze().unwrap()).collect();
        inner.fail_writes_after(Some(0));
        assert!(run_together(&jobs, &[]).is_err());
        assert_eq!(Partition::numbers(&*inner).unwrap(), []);
        let none: [crate::CheckpointJob<Partition<MemEngine>>; 0] = [];
        assert_eq!(run_together(&none, &[]).unwrap().len(), 0);
    }

    #[test]
    fn neighbours_do_not_see_each_other() {
        let inner = Arc::new(MemEngine::new());
        let [a, b, c] = [0, 1, 0xff].map(|number| Partition::new(Arc::clone(&inner), number));
        a.write(&[put("", "a"), put("k", "a")]).unwrap();
        b.write(&[put("k", "b")]).unwrap();
        c.write(&[put("\u{10ffff}", "c")]).unwrap();
        let rows = |partition: &Partition<MemEngine>, back: bool| {
            let mut rows = Vec::new();
            let snapshot = partition.snapshot().unwrap();
            let visit: Visit<'_> = &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                ControlFlow::Continue(())
            };
            match back {
                true => snapshot.scan_back(Table::Meta, b"", None, visit).unwrap(),
                false => snapshot.scan(Table::Meta, b"", None, visit).unwrap(),
            }
            rows
        };
        let of = |rows: &[(&str, &str)]| {
            rows.iter()
                .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(&a, false), of(&[("", "a"), ("k", "a")]));
        assert_eq!(rows(&a, true), of(&[("k", "a"), ("", "a")]));
        assert_eq!(rows(&b, false), of(&[("k", "b")]));
        assert_eq!(rows(&c, true), of(&[("\u{10ffff}", "c")]));
        assert_eq!(Partition::numbers(&*inner).unwrap(), [0, 1, 0xff]);
        b.write(&[Write::Delete(Table::Meta, Bytes::from_static(b"k"))]).unwrap();
        assert_eq!(Partition::numbers(&*inner).unwrap(), [0, 0xff]);
    }
}
