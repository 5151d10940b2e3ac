//! When a commit's events are those that a request makes.

use std::collections::BTreeMap;

use crate::record::{Change, Event, Key};

/// What a commit shows of a transaction that changes one key more than once. (It can, by transactions inside.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TxnEvents {
    /// Each step's event, as etcd.
    #[default]
    Each,
    /// The outcome: what was made and deleted again is not there, what was deleted and made again is there as both,
    /// and the order of keys is free.
    Outcome,
}

/// Whether the events of a commit are those due.
#[must_use]
pub fn same_events(found: &[Event], due: &[Event], how: TxnEvents) -> bool {
    if found == due {
        return true;
    }
    how == TxnEvents::Outcome && by_key(found) == by_key(&outcome(due))
}

fn by_key(events: &[Event]) -> BTreeMap<&Key, Vec<&Change>> {
    let mut sorted: BTreeMap<&Key, Vec<&Change>> = BTreeMap::new();
    for event in events {
        sorted.entry(&event.key).or_default().push(&event.change);
    }
    sorted
}

/// What is left of events when only their outcome counts. A key was there before if its first event is a deletion, or
/// a put that did not create it.
fn outcome(due: &[Event]) -> Vec<Event> {
    let mut left = Vec::new();
    for (key, changes) in by_key(due) {
        let was_there = match changes.first() {
            Some(Change::Put { version, .. }) => *version > 1,
            Some(Change::Delete) | None => true,
        };
        let deleted = changes.iter().any(|change| **change == Change::Delete);
        if was_there && deleted {
            left.push(Event { key: key.clone(), change: Change::Delete });
        }
        if let Some(last @ Change::Put { .. }) = changes.last() {
            left.push(Event { key: key.clone(), change: (*last).clone() });
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Revision;

    fn put(key: &'static str, version: i64) -> Event {
        let change = Change::Put { value: "v".into(), create: Revision(2), version, lease: None };
        Event { key: key.into(), change }
    }

    fn delete(key: &'static str) -> Event {
        Event { key: key.into(), change: Change::Delete }
    }

    #[test]
    fn the_way_or_the_outcome() {
        let due = [put("a", 1), put("b", 3), delete("a"), delete("b")];
        assert!(same_events(&due, &due, TxnEvents::Each));
        assert!(!same_events(&[delete("b")], &due, TxnEvents::Each));
        assert!(same_events(&[delete("b")], &due, TxnEvents::Outcome));
        assert!(!same_events(&[delete("a"), delete("b")], &due, TxnEvents::Outcome));
        let again = [delete("a"), put("a", 1)];
        assert!(same_events(&again, &again, TxnEvents::Outcome));
        assert!(!same_events(&again[1..], &again, TxnEvents::Outcome));
    }
}
