//! What is written down while clients run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use history::record::{Call, Commit, Commits, History, Operation, Outcome, Revision, Time, Watch};

use super::convert;

/// What all clients share.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    operations: Mutex<Vec<Operation>>,
    watches: Mutex<Vec<Watch>>,
    commits: Mutex<Vec<Commit>>,
    tally: Mutex<Tally>,
    /// The highest revision whose commit was collected.
    pub collected: AtomicI64,
    /// Writes acknowledged.
    pub acknowledged: AtomicU64,
    /// The number of the next value; no value is used twice.
    next_value: AtomicU64,
    /// No new operations by clients.
    pub clients_stop: AtomicBool,
    /// Watchers stop as soon as they were told everything.
    pub watchers_stop: AtomicBool,
    /// Watchers stop, whatever they were told.
    pub watchers_leave: AtomicBool,
}

/// Numbers for the end of a run.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// By call: ok, failed, unknown.
    pub outcomes: BTreeMap<&'static str, [u64; 3]>,
    /// By message: how often a call ended so.
    pub refusals: BTreeMap<String, u64>,
    last_acknowledged_ns: u64,
    /// The longest time between two acknowledged writes, and when it ended.
    pub outage_max_ns: (u64, u64),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Record {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            operations: Mutex::default(),
            watches: Mutex::default(),
            commits: Mutex::default(),
            tally: Mutex::default(),
            collected: AtomicI64::new(1),
            acknowledged: AtomicU64::new(0),
            next_value: AtomicU64::new(0),
            clients_stop: AtomicBool::new(false),
            watchers_stop: AtomicBool::new(false),
            watchers_leave: AtomicBool::new(false),
        }
    }
}

impl Record {
    /// Now, on the record's clock.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// A value that no other operation has.
    pub fn value(&self) -> String {
        format!("v{}", self.next_value.fetch_add(1, Ordering::Relaxed))
    }

    /// An operation that has ended, with the message if it was not answered.
    pub fn push(&self, operation: Operation, refusal: Option<String>) {
        let mut tally = locked(&self.tally);
        let column = match operation.outcome {
            Outcome::Ok { .. } => 0,
            Outcome::Failed(_) => 1,
            Outcome::Unknown => 2,
        };
        tally.outcomes.entry(convert::name(&operation.call)).or_default()[column] += 1;
        if let Some(refusal) = refusal {
            *tally.refusals.entry(refusal).or_default() += 1;
        }
        if column == 0 && is_write(&operation.call) {
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            let now = self.now().0;
            if self.clients_stop.load(Ordering::SeqCst) {
                // Nobody tries any more.
                tally.last_acknowledged_ns = now;
            }
            let gap = now.saturating_sub(tally.last_acknowledged_ns);
            tally.outage_max_ns = tally.outage_max_ns.max((gap, now));
            tally.last_acknowledged_ns = now;
        }
        drop(tally);
        locked(&self.operations).push(operation);
    }

    /// A watch that has ended.
    pub fn push_watch(&self, watch: Watch) {
        locked(&self.watches).push(watch);
    }

    /// A commit, by rising revision.
    pub fn push_commit(&self, commit: Commit) {
        let revision = commit.revision.0;
        locked(&self.commits).push(commit);
        self.collected.fetch_max(revision, Ordering::SeqCst);
    }

    /// The revision of the last collected commit that `wants` holds for.
    pub fn last_wanted(&self, wants: impl Fn(&Commit) -> bool) -> Option<Revision> {
        locked(&self.commits).iter().rev().find(|commit| wants(commit)).map(|one| one.revision)
    }

    /// The highest revision that an answer had.
    #[must_use]
    pub fn highest(&self) -> i64 {
        let revision = |operation: &Operation| match operation.outcome {
            Outcome::Ok { revision, .. } => revision.0,
            Outcome::Failed(_) | Outcome::Unknown => 0,
        };
        locked(&self.operations).iter().map(revision).max().unwrap_or_default()
    }

    /// The numbers so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }

    /// Everything.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            operations: locked(&self.operations).clone(),
            watches: locked(&self.watches).clone(),
            commits: Commits::of_fresh_store(locked(&self.commits).clone()),
        }
    }
}

/// Whether an answered call has gone through a quorum to be answered.
fn is_write(call: &Call) -> bool {
    matches!(call, Call::Put(_) | Call::Delete(_) | Call::LeaseGrant(_) | Call::LeaseRevoke(_))
}

/// Keys in groups. A group whose keys have seen too many writes of unknown outcome is left behind for a new one: each
/// of them doubles what a search for an order has to try, for the rest of the key's history.
#[derive(Debug)]
pub struct Keys {
    groups: Vec<(AtomicU32, AtomicU32)>,
}

/// Keys of a group.
pub const SLOTS: u64 = 4;
/// Writes of unknown outcome that a group bears.
const UNKNOWN_MAX: u32 = 4;

impl Keys {
    /// So many groups.
    #[must_use]
    pub fn new(groups: usize) -> Arc<Self> {
        Arc::new(Self { groups: (0..groups).map(|_| Default::default()).collect() })
    }

    /// How many groups there are at a time.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// What the keys of a group begin with now.
    #[must_use]
    pub fn prefix(&self, group: usize) -> String {
        format!("g{group:02}.{}/", self.groups[group].0.load(Ordering::SeqCst))
    }

    /// What keys have ever begun with.
    #[must_use]
    pub fn all_prefixes(&self) -> Vec<String> {
        let of = |(group, (generation, _)): (usize, &(AtomicU32, AtomicU32))| {
            let last = generation.load(Ordering::SeqCst);
            (0..=last).map(move |generation| format!("g{group:02}.{generation}/"))
        };
        self.groups.iter().enumerate().flat_map(of).collect()
    }

    /// Counts a write of unknown outcome against the group whose keys begin so.
    pub fn unknown(&self, key: &[u8]) {
        let key = String::from_utf8_lossy(key);
        let Some((group, rest)) = key.strip_prefix('g').and_then(|key| key.split_once('.')) else {
            return;
        };
        let generation = rest.split('/').next().and_then(|text| text.parse::<u32>().ok());
        let group = group.parse::<usize>().ok().and_then(|group| self.groups.get(group));
        let (Some((current, unknown)), Some(generation)) = (group, generation) else { return };
        if current.load(Ordering::SeqCst) == generation
            && unknown.fetch_add(1, Ordering::SeqCst) + 1 >= UNKNOWN_MAX
            && current
                .compare_exchange(generation, generation + 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            unknown.store(0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_left_behind_after_too_much_that_is_unknown() {
        let keys = Keys::new(2);
        for _ in 1..UNKNOWN_MAX {
            keys.unknown(b"g01.0/3");
            assert_eq!(keys.prefix(1), "g01.0/");
        }
        keys.unknown(b"g01.0/");
        assert_eq!((keys.prefix(0), keys.prefix(1)), ("g00.0/".into(), "g01.1/".into()));
        // What is late, of the old ones, does not count against the new ones.
        for _ in 0..UNKNOWN_MAX {
            keys.unknown(b"g01.0/3");
        }
        keys.unknown(b"l/1");
        assert_eq!(keys.prefix(1), "g01.1/");
    }
}
