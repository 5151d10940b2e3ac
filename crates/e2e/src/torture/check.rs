//! What must hold after the faults, over what the clients recorded. Pure, so that broken histories can be tried.

use std::collections::{BTreeMap, BTreeSet};

/// A put, and what its client knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Vec<u8>,
    /// A value that no other put has.
    pub value: Vec<u8>,
    /// The revision of the acknowledgement; `None` when none came.
    pub acknowledged: Option<i64>,
}

/// An event as the watcher saw it, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key's mod revision.
    pub revision: i64,
    /// The key.
    pub key: Vec<u8>,
    /// `None` for a deletion.
    pub value: Option<Vec<u8>>,
}

/// A linearizable read that missed something that was confirmed before it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleRead {
    /// Which member answered.
    pub member: usize,
    /// The key that was read.
    pub key: Vec<u8>,
    /// The highest revision that anyone had seen before.
    pub confirmed: i64,
    /// The revision of the answer's header.
    pub revision: i64,
    /// The revision of the newest acknowledged put of the key before.
    pub newest: i64,
    /// The mod revision that was read.
    pub seen: i64,
}

/// What one member holds at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalState {
    /// The revision that it was read at.
    pub revision: i64,
    /// Value and mod revision by key.
    pub keys: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    /// HashKV at that revision.
    pub hash: u32,
}

/// All that was recorded.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Puts, in the order of their answers.
    pub writes: Vec<Write>,
    /// Events, in the order of their arrival.
    pub events: Vec<Event>,
    /// Reads that should not have been.
    pub stale: Vec<StaleRead>,
    /// The members' states at the end, all read at one revision.
    pub finals: Vec<FinalState>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// A read missed what was confirmed before it began.
    Stale(StaleRead),
    /// The watcher saw this revision after that one; the next one is due each time.
    WatchOrder {
        /// What came before.
        after: i64,
        /// What came.
        got: i64,
    },
    /// The watcher did not see the history to its end.
    WatchShort {
        /// The last that it saw.
        got: i64,
        /// The end.
        end: i64,
    },
    /// An acknowledged put is not in the history at its revision, or a member's key is older than it at the end.
    Lost(Write),
    /// One put is in the history more than once.
    Twice(Event),
    /// The history has what nobody wrote.
    Phantom(Event),
    /// Two puts were acknowledged with one revision.
    SharedRevision(i64),
    /// A member's keys at the end are not what the history makes.
    WrongState {
        /// Which member.
        member: usize,
        /// A key that differs.
        key: Vec<u8>,
    },
    /// Members differ in revision or hash.
    Divergence(Vec<(i64, u32)>),
    /// There is nothing to check.
    Empty,
}

/// Everything that is wrong.
#[must_use]
pub fn check(recorded: &Recorded) -> Vec<Violation> {
    let mut violations: Vec<Violation> =
        recorded.stale.iter().cloned().map(Violation::Stale).collect();
    if recorded.finals.is_empty()
        || !recorded.writes.iter().any(|write| write.acknowledged.is_some())
    {
        violations.push(Violation::Empty);
    }
    order(recorded, &mut violations);
    content(recorded, &mut violations);
    states(recorded, &mut violations);
    violations
}

/// Revisions 2, 3, 4, ... to the end, each once, in order. (A fresh store is at 1.)
fn order(recorded: &Recorded, violations: &mut Vec<Violation>) {
    let mut last = 1;
    for event in &recorded.events {
        if event.revision != last + 1 {
            violations.push(Violation::WatchOrder { after: last, got: event.revision });
        }
        last = event.revision;
    }
    let end = recorded.finals.iter().map(|state| state.revision).max().unwrap_or(1);
    if last != end {
        violations.push(Violation::WatchShort { got: last, end });
    }
}

fn content(recorded: &Recorded, violations: &mut Vec<Violation>) {
    let by_value: BTreeMap<&[u8], &Write> =
        recorded.writes.iter().map(|write| (write.value.as_slice(), write)).collect();
    let mut by_revision: BTreeMap<i64, &Event> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for event in &recorded.events {
        by_revision.insert(event.revision, event);
        let written = event.value.as_deref().and_then(|value| by_value.get(value));
        if written.is_none_or(|write| write.key != event.key) {
            violations.push(Violation::Phantom(event.clone()));
        }
        if *seen.entry(event.value.as_deref()).or_insert(event.revision) != event.revision {
            violations.push(Violation::Twice(event.clone()));
        }
    }
    // What the watcher did not get to is reported as that, not as lost.
    let seen_to = recorded.events.last().map_or(1, |event| event.revision);
    let mut acknowledged = BTreeSet::new();
    for write in &recorded.writes {
        let Some(revision) = write.acknowledged else { continue };
        if !acknowledged.insert(revision) {
            violations.push(Violation::SharedRevision(revision));
        }
        let there = by_revision.get(&revision).is_some_and(|event| {
            event.key == write.key && event.value.as_ref() == Some(&write.value)
        });
        let older = |state: &FinalState| {
            state.keys.get(&write.key).is_none_or(|(_, last)| *last < revision)
        };
        if (revision <= seen_to && !there) || recorded.finals.iter().any(older) {
            violations.push(Violation::Lost(write.clone()));
        }
    }
}

fn states(recorded: &Recorded, violations: &mut Vec<Violation>) {
    let marks: Vec<(i64, u32)> =
        recorded.finals.iter().map(|state| (state.revision, state.hash)).collect();
    if marks.windows(2).any(|pair| pair[0] != pair[1]) {
        violations.push(Violation::Divergence(marks));
    }
    if violations.iter().any(|one| matches!(one, Violation::WatchShort { .. })) {
        return; // Without the whole history there is nothing to compare the states with.
    }
    let mut expected: BTreeMap<&[u8], (&[u8], i64)> = BTreeMap::new();
    for event in &recorded.events {
        match &event.value {
            Some(value) => expected.insert(&event.key, (value, event.revision)),
            None => expected.remove(event.key.as_slice()),
        };
    }
    for (member, state) in recorded.finals.iter().enumerate() {
        let found: BTreeMap<&[u8], (&[u8], i64)> = state
            .keys
            .iter()
            .map(|(key, (value, revision))| (key.as_slice(), (value.as_slice(), *revision)))
            .collect();
        let keys: BTreeSet<&[u8]> = expected.keys().chain(found.keys()).copied().collect();
        for key in keys {
            if expected.get(key) != found.get(key) {
                violations.push(Violation::WrongState { member, key: key.to_vec() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: &str, acknowledged: Option<i64>) -> Write {
        Write { key: key.into(), value: value.into(), acknowledged }
    }

    fn event(revision: i64, key: &str, value: &str) -> Event {
        Event { revision, key: key.into(), value: Some(value.into()) }
    }

    fn state(revision: i64, keys: &[(&str, &str, i64)]) -> FinalState {
        let keys = keys.iter().map(|(k, v, r)| ((*k).into(), ((*v).into(), *r))).collect();
        FinalState { revision, keys, hash: 9 }
    }

    /// Three puts, one of them unknown and there, one unknown and not there.
    fn sound() -> Recorded {
        Recorded {
            writes: vec![
                write("a", "1", Some(2)),
                write("b", "2", None),
                write("a", "3", Some(4)),
                write("a", "4", None),
            ],
            events: vec![event(2, "a", "1"), event(3, "b", "2"), event(4, "a", "3")],
            stale: Vec::new(),
            finals: vec![state(4, &[("a", "3", 4), ("b", "2", 3)]); 3],
        }
    }

    #[test]
    fn a_sound_history_has_no_violations() {
        assert_eq!(check(&sound()), []);
    }

    #[test]
    fn nothing_recorded_is_not_sound() {
        assert!(check(&Recorded::default()).contains(&Violation::Empty));
    }

    #[test]
    fn a_lost_put_is_found() {
        let mut recorded = sound();
        recorded.writes[0].value = b"never seen".to_vec();
        let violations = check(&recorded);
        assert!(violations.iter().any(|one| matches!(one, Violation::Lost(_))), "{violations:?}");
        assert!(
            violations.iter().any(|one| matches!(one, Violation::Phantom(_))),
            "{violations:?}"
        );
    }

    #[test]
    fn a_gap_a_repetition_and_a_short_watch_are_found() {
        let mut gap = sound();
        gap.events.remove(1);
        assert!(check(&gap).contains(&Violation::WatchOrder { after: 2, got: 4 }));
        let mut repeated = sound();
        repeated.events.insert(1, event(2, "a", "1"));
        assert!(check(&repeated).contains(&Violation::WatchOrder { after: 2, got: 2 }));
        let mut short = sound();
        short.events.pop();
        assert!(check(&short).contains(&Violation::WatchShort { got: 3, end: 4 }));
    }

    #[test]
    fn a_put_that_no_member_has_is_lost_although_the_watcher_saw_nothing() {
        let mut recorded = sound();
        recorded.events.clear();
        assert_eq!(check(&recorded), [Violation::WatchShort { got: 1, end: 4 }]);
        recorded.finals[1].keys.clear();
        assert!(check(&recorded).iter().any(|one| matches!(one, Violation::Lost(_))));
    }

    #[test]
    fn a_put_applied_twice_is_found() {
        let mut recorded = sound();
        recorded.events.push(event(5, "b", "2"));
        assert!(check(&recorded).iter().any(|one| matches!(one, Violation::Twice(_))));
    }

    #[test]
    fn one_revision_for_two_puts_is_found() {
        let mut recorded = sound();
        recorded.writes[1].acknowledged = Some(2);
        assert!(check(&recorded).contains(&Violation::SharedRevision(2)));
    }

    #[test]
    fn members_that_differ_are_found() {
        let mut hash = sound();
        hash.finals[1].hash = 10;
        assert!(check(&hash).iter().any(|one| matches!(one, Violation::Divergence(_))));
        let mut value = sound();
        value.finals[2] = state(4, &[("a", "1", 2), ("b", "2", 3)]);
        assert!(check(&value).contains(&Violation::WrongState { member: 2, key: b"a".to_vec() }));
        let mut missing = sound();
        missing.finals[0] = state(4, &[("a", "3", 4)]);
        assert!(check(&missing).contains(&Violation::WrongState { member: 0, key: b"b".to_vec() }));
    }
}
