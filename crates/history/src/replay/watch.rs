//! Watches: everything that was asked for, once, in order, whole, and nothing else.
//!
//! Each connection is walked with one number, `due`: everything below it has been told. A message's events come in
//! groups of one revision; before a group nothing of the watch may be left between `due` and it, and the group must be
//! what the history has at that revision for this watch. Headers of progress (and, see
//! [`super::Settings::event_headers_claim`], of events) move `due`, and so claim that nothing was left out.
//!
//! A connection is left at its first violation: what follows would be blamed for it again.

use std::collections::BTreeMap;

use super::compaction::Compactions;
use super::{Case, Rule, Violation};
use crate::record::{Change, Event, Key, KeyValue, Revision, Said, Told, Watch, WatchEvent};

/// Where each key's events are: position of the commit, position in it.
type Index<'a> = BTreeMap<&'a Key, Vec<(usize, usize)>>;

/// A rule broken in a connection.
struct Fault {
    rule: Rule,
    revision: Revision,
    detail: String,
}

fn fault(rule: Rule, revision: Revision, detail: impl Into<String>) -> Fault {
    Fault { rule, revision, detail: detail.into() }
}

pub(super) fn check(case: &mut Case<'_>, compactions: &Compactions) {
    let mut index: Index<'_> = BTreeMap::new();
    for (position, commit) in case.commits().iter().enumerate() {
        for (sub, event) in commit.events.iter().enumerate() {
            index.entry(&event.key).or_default().push((position, sub));
        }
    }
    for number in 0..case.history.watches.len() {
        check_watch(case, compactions, &index, number);
    }
}

fn check_watch<'a>(
    case: &mut Case<'a>,
    compactions: &Compactions,
    index: &Index<'a>,
    number: usize,
) {
    let watch = &case.history.watches[number];
    // What the next connection must begin with, once that is known.
    let mut due: Option<Revision> = None;
    for (connection, told) in watch.connections.iter().enumerate() {
        case.report.seen.watch_resumed += u64::from(connection > 0);
        let outcome = match (due, told.start) {
            (Some(due), start) if start.is_none_or(|start| start > due) => {
                let words = start.map_or("no start".to_owned(), |start| start.to_string());
                Err(fault(Rule::WatchResume, due, format!("resumed with {words}, due was {due}")))
            }
            (_, start) => {
                let mut listener =
                    Listener { case, compactions, index, watch, due: start, last: None };
                listener.listen(&told.told).map(|()| listener.due.or(due))
            }
        };
        match outcome {
            Ok(next) => due = next,
            Err(fault) => return blame(case, number, connection, fault),
        }
    }
    let connection = watch.connections.len().saturating_sub(1);
    if let (Some(due), Some(up_to)) = (due, watch.told_up_to) {
        let listener = Listener { case, compactions, index, watch, due: Some(due), last: None };
        if let Some(missing) = listener.missing(due, up_to) {
            let detail = format!("it was not told {missing} by the end");
            blame(case, number, connection, fault(Rule::WatchMissing, missing, detail));
        }
    }
}

fn blame(case: &mut Case<'_>, number: usize, connection: usize, fault: Fault) {
    let mut violation = Violation::new(fault.rule, fault.detail).at(fault.revision);
    violation.watch = Some((number, connection));
    case.blame(violation, &[]);
}

/// One connection.
struct Listener<'a, 'c> {
    case: &'c mut Case<'a>,
    compactions: &'c Compactions,
    index: &'c Index<'a>,
    watch: &'a Watch,
    /// Everything below was told, or not asked for.
    due: Option<Revision>,
    /// The last revision told, or claimed.
    last: Option<Revision>,
}

impl<'a> Listener<'a, '_> {
    fn listen(&mut self, told: &'a [Told]) -> Result<(), Fault> {
        let mut parts: Vec<&'a WatchEvent> = Vec::new();
        for (position, message) in told.iter().enumerate() {
            match &message.said {
                Said::Created => {
                    self.due.get_or_insert(message.header.next());
                }
                Said::Events { events, fragment } => {
                    parts.extend(events);
                    if !fragment {
                        let whole = std::mem::take(&mut parts);
                        self.events(message, &whole, &told[position + 1..])?;
                    }
                }
                Said::Progress => self.progress(message)?,
                Said::Canceled { compacted: Some(compacted), .. } => {
                    self.canceled(message, *compacted)?;
                }
                Said::Canceled { compacted: None, .. } => {}
            }
        }
        Ok(())
    }

    fn events(
        &mut self,
        message: &Told,
        events: &[&'a WatchEvent],
        later: &'a [Told],
    ) -> Result<(), Fault> {
        self.case.report.seen.watch_events += events.len() as u64;
        if let Some(pair) = events.windows(2).find(|pair| pair[0].revision > pair[1].revision) {
            let detail = format!("{} after {}", pair[1], pair[0]);
            return Err(fault(Rule::WatchOrder, pair[1].revision, detail));
        }
        for group in events.chunk_by(|a, b| a.revision == b.revision) {
            let revision = group[0].revision;
            self.in_turn(revision, group[0], later)?;
            self.same(revision, group, later)?;
            for event in group {
                self.prev(message, event)?;
            }
            self.due = Some(revision.next());
            self.last = Some(revision);
        }
        let last = events.last().map_or(message.header, |event| event.revision);
        if message.header < last {
            let detail = format!("the header has {}, the events go to {last}", message.header);
            return Err(fault(Rule::WatchProgress, last, detail));
        }
        if self.case.settings.event_headers_claim {
            self.claim(message.header)?;
        }
        Ok(())
    }

    /// A group comes neither again nor before something that is due.
    fn in_turn(&self, revision: Revision, first: &WatchEvent, later: &[Told]) -> Result<(), Fault> {
        // Events before the watch is made: there is nothing to compare them with.
        let due = self.due.ok_or_else(|| {
            fault(Rule::WatchForeign, revision, format!("{first}, before the watch was made"))
        })?;
        if revision < due {
            let rule = if self.last.is_some() { Rule::WatchTwice } else { Rule::WatchForeign };
            return Err(fault(rule, revision, format!("{first}; due was {due}")));
        }
        let Some(missing) = self.missing(due, revision.before()) else { return Ok(()) };
        let rule = if comes_later(missing, later) { Rule::WatchOrder } else { Rule::WatchMissing };
        Err(fault(rule, missing, format!("{missing} was due, told was {first}")))
    }

    /// A group is what the history has for this watch at that revision.
    fn same(&self, revision: Revision, group: &[&WatchEvent], later: &[Told]) -> Result<(), Fault> {
        let wanted = self.wanted_at(revision);
        let is =
            |told: &WatchEvent, event: &Event| told.key == event.key && told.change == event.change;
        if group.len() == wanted.len() && group.iter().zip(&wanted).all(|(a, b)| is(a, b)) {
            return Ok(());
        }
        if let Some(foreign) = group.iter().find(|told| !wanted.iter().any(|event| is(told, event)))
        {
            return Err(fault(Rule::WatchForeign, revision, foreign.to_string()));
        }
        let (told, due) = (group.len(), wanted.len());
        let rule = if told > due {
            Rule::WatchTwice
        } else if told == due {
            Rule::WatchOrder
        } else if comes_later(revision, later) {
            Rule::WatchSplit
        } else {
            Rule::WatchMissing
        };
        Err(fault(rule, revision, format!("{told} events of {revision} were told, due are {due}")))
    }

    fn prev(&self, message: &Told, event: &WatchEvent) -> Result<(), Fault> {
        let due = if self.watch.prev_kv { self.before(event) } else { None };
        // What is compacted cannot be told.
        let gone = self.compactions.possible(message.at) > Some(event.revision.before());
        if event.prev == due || (event.prev.is_none() && gone) {
            return Ok(());
        }
        let words =
            |kv: &Option<KeyValue>| kv.as_ref().map_or("nothing".to_owned(), KeyValue::to_string);
        let detail = format!("{event}: before it {}, due {}", words(&event.prev), words(&due));
        Err(fault(Rule::WatchPrev, event.revision, detail))
    }

    /// The pair before a revision.
    fn before(&self, event: &WatchEvent) -> Option<KeyValue> {
        let commits = self.case.commits();
        let events = self.index.get(&event.key)?;
        let earlier =
            events.partition_point(|(position, _)| commits[*position].revision < event.revision);
        let (position, sub) = events[earlier.checked_sub(1)?];
        match &commits[position].events[sub].change {
            Change::Put { value, create, version, lease } => Some(KeyValue {
                key: event.key.clone(),
                value: value.clone(),
                create: *create,
                modified: commits[position].revision,
                version: *version,
                lease: *lease,
            }),
            Change::Delete => None,
        }
    }

    fn progress(&mut self, message: &Told) -> Result<(), Fault> {
        self.case.report.seen.watch_progress += 1;
        if Some(message.header) < self.last {
            let detail = format!("progress to {}, after more was told", message.header);
            return Err(fault(Rule::WatchProgress, message.header, detail));
        }
        self.claim(message.header)
    }

    /// A header says that everything up to a revision was told.
    fn claim(&mut self, header: Revision) -> Result<(), Fault> {
        let Some(due) = self.due else { return Ok(()) };
        if let Some(missing) = self.missing(due, header) {
            let detail = format!("a header has {header}, but {missing} was not told");
            return Err(fault(Rule::WatchProgress, missing, detail));
        }
        if header > self.case.last() {
            let detail = format!("a header has {header}, the history ends before");
            return Err(fault(Rule::WatchProgress, header, detail));
        }
        self.due = Some(due.max(header.next()));
        self.last = self.last.max(Some(header));
        Ok(())
    }

    /// A compaction cancels only what would have to read below it.
    fn canceled(&self, message: &Told, compacted: Revision) -> Result<(), Fault> {
        let possible = self.compactions.possible(message.at);
        let fair = Some(compacted) <= possible && self.due.is_none_or(|due| due < compacted);
        if fair {
            return Ok(());
        }
        let due = self.due.map_or("unknown".to_owned(), |due| due.to_string());
        let detail = format!("canceled with compact {compacted}; due was {due}");
        Err(fault(Rule::WatchCancel, compacted, detail))
    }

    fn wants(&self, event: &Event) -> bool {
        self.watch.span.contains(&event.key) && self.watch.filters.lets_through(&event.change)
    }

    fn wanted_at(&self, revision: Revision) -> Vec<&'a Event> {
        let position = self.case.position(revision);
        let events = position.map_or(&[][..], |position| &self.case.commits()[position].events);
        events.iter().filter(|event| self.wants(event)).collect()
    }

    /// The first revision from `from` to `to`, both included, that has something for this watch.
    fn missing(&self, from: Revision, to: Revision) -> Option<Revision> {
        let commits = self.case.commits();
        if let Some(key) = self.watch.span.single() {
            let events = self.index.get(key)?;
            let first = events.partition_point(|(position, _)| commits[*position].revision < from);
            return events[first..]
                .iter()
                .take_while(|(position, _)| commits[*position].revision <= to)
                .find(|(position, sub)| self.wants(&commits[*position].events[*sub]))
                .map(|(position, _)| commits[*position].revision);
        }
        let first = commits.partition_point(|commit| commit.revision < from);
        commits[first..]
            .iter()
            .take_while(|commit| commit.revision <= to)
            .find(|commit| commit.events.iter().any(|event| self.wants(event)))
            .map(|commit| commit.revision)
    }
}

fn comes_later(revision: Revision, later: &[Told]) -> bool {
    later.iter().any(|told| match &told.said {
        Said::Events { events, .. } => events.iter().any(|event| event.revision == revision),
        _ => false,
    })
}
