//! Watchers of a run, told everything, in messages of random size, over connections that break.

use history::model::State;
use history::record::*;
use rand::RngExt;

use super::{Dice, MS, Run, Size, key};

pub(super) fn watch(run: &Run, dice: &mut Dice, size: Size) -> Watch {
    let span = match dice.random_range(0..4) {
        0 => Span::One(key(dice.random_range(0..size.keys))),
        1 => Span::From(key(dice.random_range(0..size.keys))),
        _ => Span::all(),
    };
    let filters = match dice.random_range(0..6) {
        0 => Filters { no_put: true, no_delete: false },
        1 => Filters { no_put: false, no_delete: true },
        _ => Filters::default(),
    };
    let mut watch = Watch {
        client: ClientId(99),
        span,
        filters,
        prev_kv: size.past && dice.random_range(0..3) > 0,
        progress_notify: true,
        ..Watch::default()
    };
    let commits = &run.history.commits;
    let last = commits.last();
    // Long after everything: what is told late is not wrong.
    let mut now = 1_000_000_000 * MS;
    let first = Revision(dice.random_range(1..=last.0));
    let mut due = None;
    for _ in 0..dice.random_range(1..4) {
        now += MS;
        let (start, created) = match due {
            Some(due) => (Some(due), last),
            None if dice.random_range(0..2) == 0 => (Some(first.next()), last),
            None => (None, first),
        };
        let mut connection = Connection {
            node: NodeId(0),
            incarnation: None,
            opened: Time(now),
            start,
            told: vec![Told { at: Time(now + 1), header: created, said: Said::Created }],
        };
        let begin = start.unwrap_or(created.next());
        let end = Revision(dice.random_range(begin.0.min(last.0)..=last.0));
        due = Some(tell(run, &watch, dice, &mut connection, (begin, end), &mut now));
        watch.connections.push(connection);
    }
    watch
}

/// Tells everything from one revision to another; says what is due next.
fn tell(
    run: &Run,
    watch: &Watch,
    dice: &mut Dice,
    connection: &mut Connection,
    (begin, end): (Revision, Revision),
    now: &mut u64,
) -> Revision {
    let mut batch: Vec<WatchEvent> = Vec::new();
    let mut due = begin;
    for commit in &run.history.commits.list {
        if commit.revision < begin || commit.revision > end {
            continue;
        }
        let before = watch.prev_kv.then(|| run.state_at(commit.revision.before()));
        batch.extend(wanted(watch, commit, before));
        *now += MS;
        let at = Time(*now);
        if !batch.is_empty() && dice.random_range(0..3) > 0 {
            // The header may be ahead of the last event, if nothing lies between.
            let events = std::mem::take(&mut batch);
            let newest = events.last().unwrap().revision;
            let header = if dice.random_range(0..2) == 0 { commit.revision } else { newest };
            push_events(connection, dice, at, header, events);
            due = header.next();
        } else if batch.is_empty() && dice.random_range(0..4) == 0 {
            connection.told.push(Told { at, header: commit.revision, said: Said::Progress });
            due = commit.revision.next();
        }
    }
    due
}

fn wanted(watch: &Watch, commit: &Commit, before: Option<&State>) -> Vec<WatchEvent> {
    let wants = |event: &&Event| {
        watch.span.contains(&event.key) && watch.filters.lets_through(&event.change)
    };
    let told = |event: &Event| WatchEvent {
        revision: commit.revision,
        key: event.key.clone(),
        change: event.change.clone(),
        prev: before.and_then(|state| state.get(&event.key).cloned()),
    };
    commit.events.iter().filter(wants).map(told).collect()
}

fn push_events(
    connection: &mut Connection,
    dice: &mut Dice,
    at: Time,
    header: Revision,
    mut events: Vec<WatchEvent>,
) {
    if events.len() > 1 && dice.random_range(0..4) == 0 {
        let rest = events.split_off(events.len() / 2);
        let said = Said::Events { events, fragment: true };
        connection.told.push(Told { at, header, said });
        events = rest;
    }
    connection.told.push(Told { at, header, said: Said::Events { events, fragment: false } });
}
