//! A big history of an etcd-like store, cut into small ones: one for each key, and each of those into windows.
//!
//! This does not believe any revision: it looks at values, counts and real time alone. So it is a second opinion on
//! what [`crate::replay`] checks, by other means.
//!
//! A history of one key is cut where no answered operation is under way. A window can end in several states, and
//! operations of unknown outcome may take effect in any later window; so what goes from one window to the next is a
//! set of configurations (state, operations still waiting), and a history is linearizable if the last set is not
//! empty. Of two with one state the one in which more operations wait can do all that the other can, so that only the
//! largest are kept: without this each operation of unknown outcome would double them, for the rest of the history.
//!
//! # What is left out
//!
//! - Serializable reads, reads at a revision, reads of more than one key: they say nothing about one key's order.
//! - The compares of a transaction: of an answered one the branch is known, and only its steps count. That accepts
//!   more than it should, never less.
//! - Keys that a lease can delete, keys whose value is kept by a put, and keys that both branches of a transaction of
//!   unknown outcome change: their histories cannot be told key by key. They are counted in [`Passed::skipped`].
//! - A put of unknown outcome whose value nobody has seen, unless someone has only seen that *something* was there:
//!   it changes nothing that was observed.
//!
//! Source: Porcupine for partitions; the cut at quiescent points is folklore.

use std::collections::{BTreeMap, BTreeSet};

use super::search::{Configuration, configurations};
use super::{Bounds, Exhausted, Failure, Model, Op, Verdict, check_part};
use crate::record::{
    Answer, Call, Delete, Get, Key, Operation, Outcome, Put, Step, Time, Txn, Value,
};

/// How long to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For each key.
    pub bounds: Bounds,
    /// How many configurations a window may end in.
    pub configurations_max: usize,
    /// A key with more operations of unknown outcome that may have changed it is not searched, but
    /// counted in [`Passed::wide`]: each can double the ways in which a window may end.
    pub unknown_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let bounds = Bounds { steps_max: 5_000_000, memory_bytes_max: 256 << 20 };
        Self { bounds, configurations_max: 4_096, unknown_max: usize::MAX }
    }
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Keys.
    pub keys: usize,
    /// Keys that cannot be judged alone.
    pub skipped: usize,
    /// Keys with more unknown operations than [`Settings::unknown_max`].
    pub wide: usize,
    /// Windows.
    pub windows: usize,
    /// Operations, counted once for each key.
    pub operations: usize,
}

/// Why a history does not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A key's history has no order. Operations are those of the history given.
    #[error("key {}: not linearizable: {failure}", key.escape_ascii())]
    NotLinearizable {
        /// The key.
        key: Key,
        /// The evidence.
        failure: Box<Failure>,
    },
    /// A search was given up: nothing is known, and that is not a pass.
    #[error("key {}: unknown: {why}", key.escape_ascii())]
    Unknown {
        /// The key.
        key: Key,
        /// Why.
        why: Exhausted,
    },
}

/// What a step of a request does to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Looks.
    Look,
    /// Sets it.
    Put(Value),
    /// Deletes it.
    Delete,
}

/// What an answer says of a key before a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Anything,
    /// It was not there.
    Absent,
    /// It was there.
    Present,
    /// It had this value.
    Value(Value),
}

/// One key: its value, if it is there. A request is a list of steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct OneKey;

impl Model for OneKey {
    type Input = Vec<Action>;
    type Output = Vec<Before>;
    type State = Option<Value>;
    type Part = ();

    fn init(&self) -> Self::State {
        None
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Vec<Action>,
        output: Option<&Vec<Before>>,
    ) -> Option<Self::State> {
        let mut state = state.clone();
        for (position, action) in input.iter().enumerate() {
            let before = output.and_then(|output| output.get(position));
            let fits = match before {
                None | Some(Before::Anything) => true,
                Some(Before::Absent) => state.is_none(),
                Some(Before::Present) => state.is_some(),
                Some(Before::Value(value)) => state.as_ref() == Some(value),
            };
            if !fits {
                return None;
            }
            match action {
                Action::Look => {}
                Action::Put(value) => state = Some(value.clone()),
                Action::Delete => state = None,
            }
        }
        Some(state)
    }

    fn part(&self, _input: &Vec<Action>) {}
}

type KeyOp = Op<Vec<Action>, Vec<Before>>;

/// One key's operations, with their places in the whole history.
#[derive(Default)]
struct Of {
    ops: Vec<KeyOp>,
    places: Vec<usize>,
    skipped: bool,
}

/// Checks every key of a history.
///
/// # Errors
/// The first key whose history has no order, or for which that could not be decided.
pub fn check(operations: &[Operation], settings: &Settings) -> Result<Passed, Fault> {
    let mut passed = Passed::default();
    for (key, mut of) in by_key(operations) {
        if of.skipped {
            passed.skipped += 1;
            continue;
        }
        drop_unseen(&mut of);
        if of.ops.iter().filter(|op| op.answered.is_none()).count() > settings.unknown_max {
            passed.wide += 1;
            continue;
        }
        passed.keys += 1;
        passed.operations += of.ops.len();
        passed.windows += check_key(&key, &of, settings)?;
    }
    Ok(passed)
}

fn by_key(operations: &[Operation]) -> BTreeMap<Key, Of> {
    let mut keys: BTreeMap<Key, Of> = BTreeMap::new();
    for operation in operations {
        for put in operation.call.puts() {
            let of = keys.entry(put.key.clone()).or_default();
            of.skipped |= put.lease.is_some() || put.ignore_value;
        }
        for key in single_keys(&operation.call) {
            keys.entry(key.clone()).or_default();
        }
    }
    for (place, operation) in operations.iter().enumerate() {
        let answer = match &operation.outcome {
            Outcome::Ok { answer, .. } => operation.returned.map(|at| (at, answer)),
            Outcome::Failed(_) => continue,
            Outcome::Unknown => None,
        };
        if operation.call.is_serializable() {
            continue;
        }
        let mut shares: BTreeMap<Key, Share> = BTreeMap::new();
        share_out(&keys, &operation.call, answer.map(|(_, answer)| answer), &mut shares);
        for (key, share) in shares {
            let Some(of) = keys.get_mut(&key) else { continue };
            of.skipped |= share.torn;
            let changes = share.actions.iter().any(|action| *action != Action::Look);
            if answer.is_none() && !changes {
                continue;
            }
            of.places.push(place);
            of.ops.push(Op {
                invoked: operation.invoked,
                input: share.actions,
                answered: answer.map(|(at, _)| (at, share.before)),
            });
        }
    }
    keys
}

/// Keys that a request reads or deletes by name.
fn single_keys(call: &Call) -> Vec<&Key> {
    fn of_steps<'a>(txn: &'a Txn, found: &mut Vec<&'a Key>) {
        for step in txn.steps() {
            match step {
                Step::Get(get) => found.extend(get.span.single()),
                Step::Delete(delete) => found.extend(delete.span.single()),
                Step::Txn(inner) => of_steps(inner, found),
                Step::Put(_) => {}
            }
        }
    }
    let mut found = Vec::new();
    match call {
        Call::Get(get) => found.extend(get.span.single()),
        Call::Delete(delete) => found.extend(delete.span.single()),
        Call::Txn(txn) => of_steps(txn, &mut found),
        _ => {}
    }
    found
}

/// What one request does to one key.
#[derive(Default)]
struct Share {
    actions: Vec<Action>,
    before: Vec<Before>,
    /// Changed by both branches of a transaction of unknown outcome.
    torn: bool,
}

impl Share {
    fn push(&mut self, action: Action, before: Before) {
        self.actions.push(action);
        self.before.push(before);
    }
}

type Shares = BTreeMap<Key, Share>;

fn share_out(keys: &BTreeMap<Key, Of>, call: &Call, answer: Option<&Answer>, shares: &mut Shares) {
    match call {
        Call::Put(put) => share_put(put, answer, shares),
        Call::Get(get) => share_get(get, answer, shares),
        Call::Delete(delete) => share_delete(keys, delete, answer, shares),
        Call::Txn(txn) => share_txn(keys, txn, answer, shares),
        _ => {}
    }
}

fn share_put(put: &Put, answer: Option<&Answer>, shares: &mut Shares) {
    let before = match answer {
        Some(Answer::Put { prev: Some(prev) }) => Before::Value(prev.value.clone()),
        Some(Answer::Put { prev: None }) if put.prev_kv => Before::Absent,
        _ => Before::Anything,
    };
    let share = shares.entry(put.key.clone()).or_default();
    share.push(Action::Put(put.value.clone()), before);
}

fn share_get(get: &Get, answer: Option<&Answer>, shares: &mut Shares) {
    let (Some(key), None) = (get.span.single(), get.revision) else { return };
    let before = match answer {
        Some(Answer::Get { count: 0, .. }) => Before::Absent,
        Some(Answer::Get { kvs, .. }) if !get.keys_only && !get.count_only => {
            kvs.first().map_or(Before::Present, |kv| Before::Value(kv.value.clone()))
        }
        Some(Answer::Get { .. }) => Before::Present,
        _ => Before::Anything,
    };
    shares.entry(key.clone()).or_default().push(Action::Look, before);
}

fn share_delete(
    keys: &BTreeMap<Key, Of>,
    delete: &Delete,
    answer: Option<&Answer>,
    shares: &mut Shares,
) {
    let Some(bounds) = delete.span.bounds() else { return };
    for key in keys.range::<Key, _>(bounds).map(|(key, _)| key) {
        let before = match answer {
            Some(Answer::Delete { deleted: 0, .. }) => Before::Absent,
            Some(Answer::Delete { prev, .. }) if delete.prev_kv => prev
                .iter()
                .find(|kv| kv.key == key)
                .map_or(Before::Absent, |kv| Before::Value(kv.value.clone())),
            Some(Answer::Delete { .. }) if delete.span.single().is_some() => Before::Present,
            _ => Before::Anything,
        };
        shares.entry(key.clone()).or_default().push(Action::Delete, before);
    }
}

fn share_txn(keys: &BTreeMap<Key, Of>, txn: &Txn, answer: Option<&Answer>, shares: &mut Shares) {
    if let Some(Answer::Txn { succeeded, answers }) = answer {
        let steps = if *succeeded { &txn.success } else { &txn.failure };
        for (position, step) in steps.iter().enumerate() {
            share_step(keys, step, answers.get(position), shares);
        }
        return;
    }
    let changed = |branch: &[Step]| {
        let mut shares = Shares::new();
        for step in branch {
            share_step(keys, step, None, &mut shares);
        }
        shares.retain(|_, share| {
            share.torn || share.actions.iter().any(|action| *action != Action::Look)
        });
        shares
    };
    let (then, otherwise) = (changed(&txn.success), changed(&txn.failure));
    let both: BTreeSet<Key> =
        then.keys().filter(|key| otherwise.contains_key(*key)).cloned().collect();
    for (key, mut share) in then.into_iter().chain(otherwise) {
        share.torn |= both.contains(&key);
        let whole = shares.entry(key).or_default();
        whole.torn |= share.torn;
        whole.actions.append(&mut share.actions);
        whole.before.append(&mut share.before);
    }
}

fn share_step(keys: &BTreeMap<Key, Of>, step: &Step, answer: Option<&Answer>, shares: &mut Shares) {
    match step {
        Step::Put(put) => share_put(put, answer, shares),
        Step::Get(get) => share_get(get, answer, shares),
        Step::Delete(delete) => share_delete(keys, delete, answer, shares),
        Step::Txn(txn) => share_txn(keys, txn, answer, shares),
    }
}

/// Forgets puts of unknown outcome that nobody can have noticed.
fn drop_unseen(of: &mut Of) {
    let mut seen: BTreeSet<&Value> = BTreeSet::new();
    for before in of.ops.iter().filter_map(|op| op.answered.as_ref()).flat_map(|(_, all)| all) {
        match before {
            Before::Value(value) => {
                seen.insert(value);
            }
            Before::Present => return,
            Before::Anything | Before::Absent => {}
        }
    }
    let noticed = |op: &KeyOp| match (&op.answered, op.input.as_slice()) {
        (None, [Action::Put(value)]) => seen.contains(value),
        _ => true,
    };
    let keep: Vec<bool> = of.ops.iter().map(noticed).collect();
    let mut kept = keep.iter();
    of.ops.retain(|_| kept.next().copied().unwrap_or(true));
    let mut kept = keep.iter();
    of.places.retain(|_| kept.next().copied().unwrap_or(true));
}

/// How many windows there were.
fn check_key(key: &Key, of: &Of, settings: &Settings) -> Result<usize, Fault> {
    let unknown = |why| Fault::Unknown { key: key.clone(), why };
    let mut bounds = settings.bounds.clone();
    let mut current = vec![Configuration { state: OneKey.init(), waiting: Vec::new() }];
    let windows = windows(&of.ops);
    for window in &windows {
        let mut next: Vec<Configuration<Option<Value>>> = Vec::new();
        for Configuration { state, waiting } in current {
            let members: Vec<usize> = waiting.into_iter().chain(window.iter().copied()).collect();
            let ends = configurations(&OneKey, &of.ops, &members, state, &mut bounds);
            for end in ends.map_err(unknown)? {
                keep(&mut next, end);
            }
            if next.len() > settings.configurations_max {
                return Err(unknown(Exhausted::Configurations(settings.configurations_max)));
            }
        }
        if next.is_empty() {
            return Err(evidence(key, of, window, settings));
        }
        current = next;
    }
    Ok(windows.len())
}

/// Adds a configuration unless another can do all that it can: one of the same state, in which at least the same
/// operations wait. (None of them has to take effect.) Others that the new one makes idle go.
fn keep(all: &mut Vec<Configuration<Option<Value>>>, new: Configuration<Option<Value>>) {
    let covers = |a: &Configuration<Option<Value>>, b: &Configuration<Option<Value>>| {
        a.state == b.state && b.waiting.iter().all(|op| a.waiting.binary_search(op).is_ok())
    };
    if all.iter().any(|old| covers(old, &new)) {
        return;
    }
    all.retain(|old| !covers(&new, old));
    all.push(new);
}

/// Looks for the evidence in the history up to the window that has no order.
fn evidence(key: &Key, of: &Of, window: &[usize], settings: &Settings) -> Fault {
    let end = window.iter().copied().max().map_or(0, |last| last + 1);
    let mut members: Vec<usize> = (0..of.ops.len()).collect();
    members.sort_by_key(|op| of.ops[*op].invoked);
    let last = members.iter().position(|op| window.last() == Some(op)).unwrap_or(end);
    members.truncate(last + 1);
    let verdict = check_part(&OneKey, &of.ops, &members, &mut settings.bounds.clone());
    let mut failure = match verdict {
        Verdict::NotLinearizable(failure) => failure,
        Verdict::Linearizable | Verdict::Unknown(_) => Failure {
            part: String::new(),
            invoked: members.len(),
            culprit: window.last().copied().unwrap_or(0),
            window: Vec::new(),
            explained: Vec::new(),
        },
    };
    failure.part = key.escape_ascii().to_string();
    failure.culprit = of.places[failure.culprit];
    for (op, _) in failure.window.iter_mut().chain(&mut failure.explained) {
        *op = of.places[*op];
    }
    Fault::NotLinearizable { key: key.clone(), failure: Box::new(failure) }
}

/// Cuts a history where nothing that was answered is under way. Operations of unknown outcome stand in the window in
/// which they were invoked.
fn windows(ops: &[KeyOp]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..ops.len()).collect();
    order.sort_by_key(|op| ops[*op].invoked);
    let mut windows: Vec<Vec<usize>> = Vec::new();
    let mut busy_until = Time(0);
    for op in order {
        let invoked = ops[op].invoked;
        match windows.last_mut() {
            Some(window) if invoked <= busy_until => window.push(op),
            _ => windows.push(vec![op]),
        }
        if let Some((at, _)) = &ops[op].answered {
            busy_until = busy_until.max(*at);
        }
    }
    windows
}
