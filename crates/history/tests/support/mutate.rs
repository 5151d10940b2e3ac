//! Ways to break a history, each with the rules of which one must catch it.
//!
//! A mutation looks for a place where it makes a difference, and says whether it found one.

use bytes::Bytes;
use history::model::Draft;
use history::record::*;
use history::replay::Rule;
use rand::RngExt;

use super::{Dice, Run};

/// A way to break a history.
pub(crate) struct Mutation {
    pub(crate) name: &'static str,
    /// Any of these must be broken afterwards.
    pub(crate) caught_by: &'static [Rule],
    pub(crate) apply: fn(&mut Run, &mut Dice) -> bool,
}

const fn mutation(
    name: &'static str,
    caught_by: &'static [Rule],
    apply: fn(&mut Run, &mut Dice) -> bool,
) -> Mutation {
    Mutation { name, caught_by, apply }
}

pub(crate) const ALL: &[Mutation] = &[
    mutation("a commit is missing", &[Rule::RevisionGap], gap),
    mutation("a commit comes twice", &[Rule::RevisionRepeated], repeated),
    mutation("a commit without events", &[Rule::CommitEmpty], empty),
    mutation("a version is off by one", &[Rule::EventNumbers], version),
    mutation("a deleted key lives on", &[Rule::EventNumbers], resurrected),
    mutation("a key is deleted that is not there", &[Rule::DeletedNothing], deleted_nothing),
    mutation("a value is used twice", &[Rule::ValueReused], value_reused),
    mutation("two writes share a revision", &[Rule::RevisionShared], shared),
    mutation("the last acknowledged write is lost", &[Rule::WriteLost], lost_at_the_end),
    mutation("an acknowledged write is overwritten in place", &[Rule::WriteLost], lost_update),
    mutation("two revisions change places", &[Rule::WriteElsewhere], elsewhere),
    mutation("a commit has another lease", &[Rule::WriteEffects], other_lease),
    mutation("a write is applied twice", &[Rule::WriteTwice], twice),
    mutation("a refused write is applied", &[Rule::RefusedApplied], refused),
    mutation("a commit that nobody asked for", &[Rule::CommitUnexplained], phantom),
    mutation("a deletion that nobody asked for", &[Rule::CommitUnexplained], phantom_delete),
    mutation("a wrong value is read", &[Rule::ReadWrong], wrong_value),
    mutation("a key is not read", &[Rule::ReadWrong], wrong_missing),
    mutation("a wrong count is read", &[Rule::ReadWrong], wrong_count),
    mutation("a wrong `more` is read", &[Rule::ReadWrong], wrong_more),
    mutation("a wrong previous pair", &[Rule::PrevWrong], wrong_prev),
    mutation("a wrong number of deletions", &[Rule::CountWrong], wrong_deleted),
    mutation("a wrong branch", &[Rule::BranchWrong, Rule::RefusedApplied], wrong_branch),
    mutation("an answer of another kind", &[Rule::AnswerShape], wrong_shape),
    mutation("a read from beyond the history", &[Rule::ReadFuture], future_read),
    mutation("a stale read", &[Rule::ReadStale], stale),
    mutation("a write that began after a later one ended", &[Rule::WriteOrder], write_order),
    mutation("a serializable read goes back", &[Rule::SessionBack], session_back),
    mutation("\"compacted\" without a compaction", &[Rule::CompactedUntrue], compacted_untrue),
    mutation("a compacted revision is read", &[Rule::CompactedRead], compacted_read),
    mutation("\"future\" of the past", &[Rule::FutureUntrue], future_untrue),
    mutation("a compaction goes back", &[Rule::CompactOrder], compact_back),
    mutation("watch messages change places", &[Rule::WatchOrder], watch_order),
    mutation("watch events change places in a message", &[Rule::WatchOrder], watch_order_within),
    mutation("a watch event comes twice", &[Rule::WatchTwice], watch_twice),
    mutation("a revision is split", &[Rule::WatchSplit], watch_split),
    mutation("a watch event is left out", &[Rule::WatchMissing], watch_missing),
    mutation("the last events are never told", &[Rule::WatchMissing], watch_short),
    mutation("a watch event did not happen", &[Rule::WatchForeign], watch_foreign),
    mutation("a watch resumes too late", &[Rule::WatchResume], watch_resume),
    mutation("a watch's wrong previous pair", &[Rule::WatchPrev], watch_prev),
    mutation("progress hides an event", &[Rule::WatchProgress], watch_progress),
    mutation("a watch is canceled for nothing", &[Rule::WatchCancel], watch_cancel),
    mutation("a lease ends early", &[Rule::LeaseEarly], lease_early),
    mutation("a lease is denied early", &[Rule::LeaseEarly], lease_denied),
    mutation("a key survives its lease's revoke", &[Rule::LeaseSurvivor], lease_survivor),
    mutation("a key is attached to a revoked lease", &[Rule::LeaseDead], lease_dead),
];

fn any<T>(dice: &mut Dice, list: &[T]) -> Option<T>
where
    T: Clone,
{
    (!list.is_empty()).then(|| list[dice.random_range(0..list.len())].clone())
}

/// The places of operations that were answered in a certain way.
fn answered(run: &Run, which: impl Fn(&Operation, Revision, &Answer) -> bool) -> Vec<usize> {
    let list = run.history.operations.iter().enumerate();
    list.filter(|(_, operation)| match &operation.outcome {
        Outcome::Ok { revision, answer } => which(operation, *revision, answer),
        _ => false,
    })
    .map(|(place, _)| place)
    .collect()
}

fn header_mut(run: &mut Run, place: usize) -> &mut Revision {
    match &mut run.history.operations[place].outcome {
        Outcome::Ok { revision, .. } => revision,
        _ => unreachable!("it was answered"),
    }
}

fn answer_mut(run: &mut Run, place: usize) -> &mut Answer {
    match &mut run.history.operations[place].outcome {
        Outcome::Ok { answer, .. } => answer,
        _ => unreachable!("it was answered"),
    }
}

fn commits(run: &mut Run) -> &mut Vec<Commit> {
    &mut run.history.commits.list
}

fn plain_puts(run: &Run) -> Vec<usize> {
    answered(run, |operation, _, _| match &operation.call {
        Call::Put(put) => !put.ignore_value,
        _ => false,
    })
}

/// An operation after everything else, by a client of its own.
fn late(run: &Run, call: Call, outcome: Outcome) -> Operation {
    let end = run.history.operations.iter().map(|one| one.returned.max(Some(one.invoked))).max();
    let end = end.flatten().unwrap_or_default().0;
    Operation {
        client: ClientId(77),
        node: NodeId(0),
        incarnation: None,
        invoked: Time(end + 1),
        returned: Some(Time(end + 2)),
        call,
        outcome,
    }
}

fn gap(run: &mut Run, dice: &mut Dice) -> bool {
    let count = commits(run).len();
    if count < 2 {
        return false;
    }
    let place = dice.random_range(0..count - 1);
    commits(run).remove(place);
    true
}

fn repeated(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(commit) = any(dice, commits(run)) else { return false };
    let place = commits(run).iter().position(|one| *one == commit).unwrap();
    commits(run).insert(place, commit);
    true
}

fn empty(run: &mut Run, dice: &mut Dice) -> bool {
    let count = commits(run).len();
    count > 0 && {
        commits(run)[dice.random_range(0..count)].events.clear();
        true
    }
}

fn version(run: &mut Run, dice: &mut Dice) -> bool {
    let count = commits(run).len();
    if count == 0 {
        return false;
    }
    let commit = &mut commits(run)[dice.random_range(0..count)];
    for event in &mut commit.events {
        if let Change::Put { version, .. } = &mut event.change {
            *version += 1;
            return true;
        }
    }
    false
}

fn resurrected(run: &mut Run, _: &mut Dice) -> bool {
    // A key that was deleted and made again goes on as if it had not been.
    let mut dead: Vec<(Bytes, Revision, i64)> = Vec::new();
    let states = run.states.clone();
    for (position, commit) in commits(run).iter_mut().enumerate() {
        for event in &mut commit.events {
            let before = states[position].get(&event.key);
            match (&mut event.change, before) {
                (Change::Delete, Some(kv)) => {
                    dead.push((event.key.clone(), kv.create, kv.version));
                }
                (Change::Put { create, version, .. }, None) => {
                    if let Some((_, old, count)) = dead.iter().find(|(key, ..)| *key == event.key) {
                        (*create, *version) = (*old, count + 1);
                        return true;
                    }
                }
                _ => {}
            }
        }
    }
    false
}

fn append(run: &mut Run, key: Bytes, change: Change) {
    let revision = run.history.commits.last().next();
    commits(run).push(Commit { revision, events: vec![Event { key, change }], seen: None });
}

fn put_change(run: &Run, key: &Bytes, value: Bytes, lease: Option<LeaseId>) -> Change {
    let state = run.states.last().unwrap();
    let next = state.revision().next();
    let (create, version) = state.get(key).map_or((next, 1), |kv| (kv.create, kv.version + 1));
    Change::Put { value, create, version, lease }
}

fn deleted_nothing(run: &mut Run, _: &mut Dice) -> bool {
    append(run, "never there".into(), Change::Delete);
    true
}

fn value_reused(run: &mut Run, dice: &mut Dice) -> bool {
    let puts = plain_puts(run);
    let (Some(one), Some(other)) = (any(dice, &puts), any(dice, &puts)) else { return false };
    let Call::Put(first) = &run.history.operations[one].call else { return false };
    let value = first.value.clone();
    let Call::Put(second) = &mut run.history.operations[other].call else { return false };
    second.value = value;
    one != other
}

fn shared(run: &mut Run, dice: &mut Dice) -> bool {
    let puts = plain_puts(run);
    let (Some(one), Some(other)) = (any(dice, &puts), any(dice, &puts)) else { return false };
    *header_mut(run, one) = *header_mut(run, other);
    one != other
}

fn lost_at_the_end(run: &mut Run, _: &mut Dice) -> bool {
    let last = run.history.commits.last();
    let there = answered(run, |_, revision, answer| revision == last && answer.says_written());
    commits(run).pop();
    !there.is_empty()
}

fn lost_update(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &plain_puts(run)) else { return false };
    let revision = *header_mut(run, place);
    let Some(commit) = commits(run).iter_mut().find(|one| one.revision == revision) else {
        return false;
    };
    for event in &mut commit.events {
        if let Change::Put { value, .. } = &mut event.change {
            *value = "someone else's".into();
        }
    }
    true
}

fn elsewhere(run: &mut Run, dice: &mut Dice) -> bool {
    let puts = plain_puts(run);
    let (Some(one), Some(other)) = (any(dice, &puts), any(dice, &puts)) else { return false };
    let (a, b) = (*header_mut(run, one), *header_mut(run, other));
    let find = |list: &[Commit], revision| list.iter().position(|one| one.revision == revision);
    let list = commits(run);
    let (Some(x), Some(y)) = (find(list, a), find(list, b)) else { return false };
    let events = list[x].events.clone();
    list[x].events = std::mem::replace(&mut list[y].events, events);
    one != other
}

fn other_lease(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &plain_puts(run)) else { return false };
    let revision = *header_mut(run, place);
    let Some(commit) = commits(run).iter_mut().find(|one| one.revision == revision) else {
        return false;
    };
    for event in &mut commit.events {
        if let Change::Put { lease, .. } = &mut event.change {
            *lease = Some(LeaseId(4_242));
        }
    }
    true
}

fn twice(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &plain_puts(run)) else { return false };
    let Call::Put(put) = run.history.operations[place].call.clone() else { return false };
    // Not while the first one is still to be seen: a put could have kept it.
    let kept = run.states.last().unwrap().get(&put.key).is_some_and(|kv| kv.value == put.value);
    let change = put_change(run, &put.key, put.value, None);
    append(run, put.key, change);
    !kept
}

fn refused(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &plain_puts(run)) else { return false };
    run.history.operations[place].outcome = Outcome::Failed(Failure::Other("busy".into()));
    true
}

fn phantom(run: &mut Run, _: &mut Dice) -> bool {
    let key = Bytes::from("k00");
    let change = put_change(run, &key, "from nowhere".into(), None);
    append(run, key, change);
    true
}

fn phantom_delete(run: &mut Run, _: &mut Dice) -> bool {
    let key = Bytes::from("only here");
    let call = Call::Put(Put { key: key.clone(), value: "w".into(), ..Put::default() });
    let change = put_change(run, &key, "w".into(), None);
    append(run, key.clone(), change);
    let ok =
        Outcome::Ok { revision: run.history.commits.last(), answer: Answer::Put { prev: None } };
    let operation = late(run, call, ok);
    run.history
        .operations
        .retain(|one| one.outcome != Outcome::Unknown || !matches!(one.call, Call::Delete(_)));
    run.history.operations.push(operation);
    append(run, key, Change::Delete);
    true
}

/// A get at the newest revision, or a get of the past.
fn gets(run: &Run, which: impl Fn(&[KeyValue], bool, u64) -> bool) -> Vec<usize> {
    answered(run, |operation, _, answer| match (&operation.call, answer) {
        (Call::Get(_), Answer::Get { kvs, more, count }) => which(kvs, *more, *count),
        _ => false,
    })
}

fn wrong_value(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &gets(run, |kvs, _, _| !kvs.is_empty())) else { return false };
    if let Answer::Get { kvs, .. } = answer_mut(run, place) {
        kvs[0].value = "another".into();
    }
    true
}

fn wrong_missing(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &gets(run, |kvs, _, _| !kvs.is_empty())) else { return false };
    if let Answer::Get { kvs, .. } = answer_mut(run, place) {
        kvs.pop();
    }
    true
}

fn wrong_count(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &gets(run, |_, _, _| true)) else { return false };
    if let Answer::Get { count, .. } = answer_mut(run, place) {
        *count += 1;
    }
    true
}

fn wrong_more(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &gets(run, |_, _, _| true)) else { return false };
    if let Answer::Get { more, .. } = answer_mut(run, place) {
        *more = !*more;
    }
    true
}

fn wrong_prev(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |_, _, answer| match answer {
        Answer::Put { prev } => prev.is_some(),
        Answer::Delete { prev, .. } => !prev.is_empty(),
        _ => false,
    });
    let Some(place) = any(dice, &places) else { return false };
    match answer_mut(run, place) {
        Answer::Put { prev } => *prev = None,
        Answer::Delete { prev, .. } => prev[0].version += 1,
        _ => return false,
    }
    true
}

fn wrong_deleted(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |_, _, answer| match answer {
        Answer::Delete { deleted, .. } => *deleted > 0,
        _ => false,
    });
    let Some(place) = any(dice, &places) else { return false };
    if let Answer::Delete { deleted, .. } = answer_mut(run, place) {
        *deleted += 1;
    }
    true
}

fn wrong_branch(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |operation, _, answer| {
        matches!(&operation.call, Call::Txn(txn) if txn.success != txn.failure)
            && matches!(answer, Answer::Txn { .. })
    });
    let Some(place) = any(dice, &places) else { return false };
    let operation = &run.history.operations[place];
    let (Call::Txn(txn), Outcome::Ok { revision, answer }) = (&operation.call, &operation.outcome)
    else {
        return false;
    };
    // The other branch, as it would have been answered.
    let at = if answer.says_written() { revision.before() } else { *revision };
    let Answer::Txn { succeeded, .. } = answer else { return false };
    let taken = *succeeded;
    let steps = if taken { txn.failure.clone() } else { txn.success.clone() };
    let other = Txn { compares: Vec::new(), success: steps, failure: Vec::new() };
    let due = Draft::new(run.state_at(at)).evaluate(&Call::Txn(other));
    let Ok(Answer::Txn { answers, .. }) = due else { return false };
    *answer_mut(run, place) = Answer::Txn { succeeded: !taken, answers };
    // A claim to a revision that it did not have is another matter.
    let writes_now = answer_mut(run, place).says_written();
    let wrote = at != *header_mut(run, place);
    // Deletions that nobody claims may be taken for the end of a lease.
    let puts = commits(run).iter().any(|commit| {
        commit.revision == at.next()
            && commit.events.iter().any(|event| event.change != Change::Delete)
    });
    if wrote { writes_now || puts } else { !writes_now }
}

fn wrong_shape(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(place) = any(dice, &gets(run, |_, _, _| true)) else { return false };
    *answer_mut(run, place) = Answer::Compact;
    true
}

fn future_read(run: &mut Run, dice: &mut Dice) -> bool {
    let places = gets(run, |_, _, _| true);
    let Some(place) = any(dice, &places) else { return false };
    *header_mut(run, place) = run.history.commits.last().next();
    let Call::Get(get) = &run.history.operations[place].call else { return false };
    get.revision.is_none()
}

/// A linearizable get at the newest revision after everything.
fn late_get(run: &Run, at: Revision, serializable: bool) -> Operation {
    let call = Call::Get(Get { serializable, ..Get::default() });
    let answer = Draft::new(run.state_at(at)).evaluate(&call).unwrap();
    late(run, call, Outcome::Ok { revision: at, answer })
}

/// The highest revision that a client was told.
fn told(run: &Run) -> Revision {
    let headers = run.history.operations.iter().filter_map(|one| match &one.outcome {
        Outcome::Ok { revision, .. } => Some(*revision),
        _ => None,
    });
    headers.max().unwrap_or(Revision(1))
}

fn stale(run: &mut Run, _: &mut Dice) -> bool {
    let told = told(run);
    if told <= Revision(1) {
        return false;
    }
    let operation = late_get(run, told.before(), false);
    run.history.operations.push(operation);
    true
}

fn write_order(run: &mut Run, dice: &mut Dice) -> bool {
    let told = told(run);
    let places = answered(run, |_, revision, answer| answer.says_written() && revision < told);
    let Some(place) = any(dice, &places) else { return false };
    let Operation { invoked, returned, .. } =
        late(run, Call::Compact(Compact::default()), Outcome::Unknown);
    let operation = &mut run.history.operations[place];
    (operation.invoked, operation.returned) = (invoked, returned);
    true
}

fn session_back(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |operation, revision, _| {
        matches!(operation.call, Call::Get(_))
            && operation.call.is_serializable()
            && revision > Revision(1)
    });
    let Some(place) = any(dice, &places) else { return false };
    let at = header_mut(run, place).before();
    let seen = &run.history.operations[place];
    let operation =
        Operation { node: seen.node, incarnation: seen.incarnation, ..late_get(run, at, true) };
    run.history.operations.push(operation);
    true
}

fn past_get(revision: Revision) -> Call {
    Call::Get(Get { revision: Some(revision), ..Get::default() })
}

fn compacted_untrue(run: &mut Run, _: &mut Dice) -> bool {
    let possible = run.history.operations.iter().filter_map(|one| match one.call {
        Call::Compact(Compact { revision }) => Some(revision),
        _ => None,
    });
    let at = possible.max().unwrap_or(Revision(1));
    let operation = late(run, past_get(at), Outcome::Failed(Failure::Compacted));
    run.history.operations.push(operation);
    true
}

fn compacted_read(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(
        run,
        |operation, _, _| matches!(operation.call, Call::Compact(Compact { revision }) if revision > Revision(1)),
    );
    let Some(place) = any(dice, &places) else { return false };
    let Call::Compact(compact) = run.history.operations[place].call.clone() else { return false };
    let at = compact.revision.before();
    let answer = Draft::new(run.state_at(at)).evaluate(&past_get(at)).unwrap();
    let ok = Outcome::Ok { revision: run.history.commits.last(), answer };
    let operation = late(run, past_get(at), ok);
    run.history.operations.push(operation);
    true
}

fn future_untrue(run: &mut Run, _: &mut Dice) -> bool {
    let at = told(run);
    let operation = late(run, past_get(at), Outcome::Failed(Failure::FutureRevision));
    run.history.operations.push(operation);
    true
}

fn compact_back(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |operation, _, _| matches!(operation.call, Call::Compact(_)));
    let Some(place) = any(dice, &places) else { return false };
    let call = run.history.operations[place].call.clone();
    let ok = Outcome::Ok { revision: run.history.commits.last(), answer: Answer::Compact };
    let operation = late(run, call, ok);
    run.history.operations.push(operation);
    true
}

/// Watch, connection and message of messages with events, fragments left alone.
fn messages(run: &Run, which: impl Fn(&Watch, &[WatchEvent]) -> bool) -> Vec<[usize; 3]> {
    let mut found = Vec::new();
    for (w, watch) in run.history.watches.iter().enumerate() {
        for (c, connection) in watch.connections.iter().enumerate() {
            let mut inside = false;
            for (m, told) in connection.told.iter().enumerate() {
                let Said::Events { events, fragment } = &told.said else { continue };
                if !inside && !fragment && which(watch, events) {
                    found.push([w, c, m]);
                }
                inside = *fragment;
            }
        }
    }
    found
}

fn told_list(run: &mut Run, [w, c, _]: [usize; 3]) -> &mut Vec<Told> {
    &mut run.history.watches[w].connections[c].told
}

fn events_mut(run: &mut Run, at: [usize; 3]) -> &mut Vec<WatchEvent> {
    match &mut told_list(run, at)[at[2]].said {
        Said::Events { events, .. } => events,
        _ => unreachable!("a message with events"),
    }
}

fn watch_order(run: &mut Run, dice: &mut Dice) -> bool {
    let all = messages(run, |_, _| true);
    let next = |at: &[usize; 3]| [at[0], at[1], at[2] + 1];
    let pairs: Vec<_> = all.iter().filter(|at| all.contains(&next(at))).copied().collect();
    let Some(at) = any(dice, &pairs) else { return false };
    told_list(run, at).swap(at[2], at[2] + 1);
    true
}

fn watch_order_within(run: &mut Run, dice: &mut Dice) -> bool {
    let two = |events: &[WatchEvent]| events.iter().any(|one| one.revision > events[0].revision);
    let Some(at) = any(dice, &messages(run, |_, events| two(events))) else { return false };
    let events = events_mut(run, at);
    let first = events[0].revision;
    let second = events.iter().position(|one| one.revision > first).unwrap();
    events.swap(second - 1, second);
    true
}

fn watch_twice(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(at) = any(dice, &messages(run, |_, _| true)) else { return false };
    let again = told_list(run, at)[at[2]].clone();
    told_list(run, at).insert(at[2], again);
    true
}

fn watch_split(run: &mut Run, dice: &mut Dice) -> bool {
    let wide = |events: &[WatchEvent]| {
        events.iter().filter(|one| one.revision == events[0].revision).count() > 1
    };
    let Some(at) = any(dice, &messages(run, |_, events| wide(events))) else { return false };
    let rest = events_mut(run, at).split_off(1);
    let mut second = told_list(run, at)[at[2]].clone();
    second.said = Said::Events { events: rest, fragment: false };
    told_list(run, at)[at[2]].header = events_mut(run, at)[0].revision;
    told_list(run, at).insert(at[2] + 1, second);
    true
}

fn watch_missing(run: &mut Run, dice: &mut Dice) -> bool {
    let two = |events: &[WatchEvent]| events.iter().any(|one| one.revision > events[0].revision);
    let Some(at) = any(dice, &messages(run, |_, events| two(events))) else { return false };
    events_mut(run, at).remove(0);
    true
}

fn watch_short(run: &mut Run, _: &mut Dice) -> bool {
    // The last connection is cut off, and the recorder has waited for the end.
    let last = run.history.commits.last();
    let whole =
        |watch: &&mut Watch| watch.span == Span::all() && watch.filters == Filters::default();
    let Some(watch) = run.history.watches.iter_mut().find(whole) else { return false };
    watch.connections.truncate(1);
    watch.connections[0].told.truncate(1);
    watch.connections[0].start = Some(last);
    watch.told_up_to = Some(last);
    last > Revision(1)
}

fn watch_foreign(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(at) = any(dice, &messages(run, |_, _| true)) else { return false };
    let event = &mut events_mut(run, at)[0];
    event.change = match event.change {
        Change::Delete => {
            Change::Put { value: "never".into(), create: event.revision, version: 1, lease: None }
        }
        Change::Put { .. } => Change::Delete,
    };
    true
}

fn watch_resume(run: &mut Run, _: &mut Dice) -> bool {
    let resumed = |watch: &&mut Watch| watch.connections.len() > 1;
    let Some(watch) = run.history.watches.iter_mut().find(resumed) else { return false };
    let Some(start) = &mut watch.connections[1].start else { return false };
    *start = start.next();
    true
}

fn watch_prev(run: &mut Run, dice: &mut Dice) -> bool {
    let with = |events: &[WatchEvent]| events[0].prev.is_some();
    let Some(at) = any(dice, &messages(run, |_, events| with(events))) else { return false };
    if let Some(prev) = &mut events_mut(run, at)[0].prev {
        prev.version += 1;
    }
    true
}

fn watch_progress(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(at) = any(dice, &messages(run, |_, _| true)) else { return false };
    let header = events_mut(run, at)[0].revision;
    let when = told_list(run, at)[at[2]].at;
    told_list(run, at).insert(at[2], Told { at: when, header, said: Said::Progress });
    true
}

fn watch_cancel(run: &mut Run, dice: &mut Dice) -> bool {
    let Some(at) = any(dice, &messages(run, |_, _| true)) else { return false };
    // At exactly the compact revision a watch works.
    let Some(compacted) = events_mut(run, at).last().map(|event| event.revision) else {
        return false;
    };
    let when = told_list(run, at)[at[2]].at;
    let said = Said::Canceled { compacted: Some(compacted), reason: "compacted".into() };
    told_list(run, at).insert(at[2] + 1, Told { at: when, header: compacted, said });
    true
}

fn lease_early(run: &mut Run, _: &mut Dice) -> bool {
    // Commits that only delete keys of one lease, which nobody asked for.
    let mut ended = Vec::new();
    for (position, commit) in run.history.commits.list.iter().enumerate() {
        let state = &run.states[position];
        let first = commit.events.first().unwrap();
        let lease = state.get(&first.key).and_then(|kv| kv.lease);
        let deletes = commit.events.iter().all(|event| event.change == Change::Delete);
        if let (true, Some(lease)) = (deletes, lease)
            && state.attached(lease).eq(commit.events.iter().map(|event| &event.key))
        {
            ended.push((lease, commit.revision));
        }
    }
    let asked = |revision: Revision| {
        !answered(run, |operation, header, answer| {
            header == revision
                && (answer.says_written() || matches!(operation.call, Call::LeaseRevoke(_)))
        })
        .is_empty()
    };
    let unknown = |operation: &Operation| {
        operation.outcome == Outcome::Unknown && !matches!(operation.call, Call::Put(_))
    };
    let told = told(run);
    let found = ended.iter().find(|(lease, revision)| {
        !asked(*revision) && *revision <= told && grant_of(run, *lease).is_some()
    });
    let Some((lease, _)) = found.copied() else { return false };
    run.history.operations.retain(|operation| !unknown(operation));
    let place = grant_of(run, lease).unwrap();
    *answer_mut(run, place) = Answer::LeaseGrant { id: lease, ttl_s: 1_000_000 };
    true
}

fn grant_of(run: &Run, lease: LeaseId) -> Option<usize> {
    let places = answered(
        run,
        |_, _, answer| matches!(answer, Answer::LeaseGrant { id, .. } if *id == lease),
    );
    places.first().copied()
}

fn lease_denied(run: &mut Run, dice: &mut Dice) -> bool {
    let grants = answered(run, |_, _, answer| matches!(answer, Answer::LeaseGrant { .. }));
    let Some(place) = any(dice, &grants) else { return false };
    let Answer::LeaseGrant { id, .. } = *answer_mut(run, place) else { return false };
    let revoked = run.history.operations.iter().any(
        |operation| matches!(operation.call, Call::LeaseRevoke(LeaseRevoke { id: other }) if other == id),
    );
    *answer_mut(run, place) = Answer::LeaseGrant { id, ttl_s: 1_000_000 };
    let outcome =
        Outcome::Ok { revision: told(run), answer: Answer::LeaseKeepAlive { ttl_s: None } };
    let operation = late(run, Call::LeaseKeepAlive(LeaseKeepAlive { id }), outcome);
    run.history.operations.push(operation);
    !revoked
}

fn lease_survivor(run: &mut Run, dice: &mut Dice) -> bool {
    let states = run.states.clone();
    let base = run.history.commits.base.0;
    let places = answered(run, |operation, revision, _| {
        let Call::LeaseRevoke(revoke) = &operation.call else { return false };
        let Ok(before) = usize::try_from(revision.0 - base - 1) else { return false };
        let deleted = run.history.commits.list[before].events.iter().map(|event| &event.key);
        states[before].attached(revoke.id).count() > 1
            && states[before].attached(revoke.id).eq(deleted)
    });
    let Some(place) = any(dice, &places) else { return false };
    let revision = *header_mut(run, place);
    let position = usize::try_from(revision.0 - base - 1).unwrap();
    commits(run)[position].events.pop();
    true
}

fn lease_dead(run: &mut Run, dice: &mut Dice) -> bool {
    let places = answered(run, |operation, _, _| matches!(operation.call, Call::LeaseRevoke(_)));
    let Some(place) = any(dice, &places) else { return false };
    let Call::LeaseRevoke(revoke) = run.history.operations[place].call.clone() else {
        return false;
    };
    let (key, value) = (Bytes::from("k00"), Bytes::from("on a dead lease"));
    let change = put_change(run, &key, value.clone(), Some(revoke.id));
    append(run, key.clone(), change);
    let put = Put { key, value, lease: Some(revoke.id), ..Put::default() };
    let ok =
        Outcome::Ok { revision: run.history.commits.last(), answer: Answer::Put { prev: None } };
    let operation = late(run, Call::Put(put), ok);
    run.history.operations.push(operation);
    grant_of(run, revoke.id).is_some()
}
