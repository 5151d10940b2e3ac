//! A run as a story that can be read.
//!
//! ```text
//!    12.345 ms  n2  from n1: Prepare 3.1   [writes]
//!                   -> n1  Promise 3.1
//!                   now: acceptor, promised 3.1
//!                   BREAKS keeps-promises (of the mechanism): n2 promises 3.1 though ...
//! ```
//!
//! What a traitor says in the place of something else is marked: `-> n1  [a lie] Promise 3.1`. `[writes]` is a write to
//! the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::engine::Lost;
use crate::facade::Outcome;
use crate::process::NodeId;
use crate::protocol::{Broken, BrokenAt, RuleKind};
use crate::trace::{Event, Status, Trace};

/// Columns of a story; only a word that is longer goes beyond.
pub const COLUMNS: usize = 80;
/// What happened begins here, and what is said of it.
const MARGIN: &str = "                   ";
/// And goes on here, on the next line.
const FURTHER: usize = MARGIN.len() + 4;

/// Which events a story has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Those of which something came; how many are left out is said in the end ([`crate::idle`]).
    Changes,
    /// All.
    Everything,
}

/// The story of a run, and the rules that broke in it, each where it first did. Its last line is the one that the run
/// ended with.
#[must_use]
pub fn of(outcome: &Outcome, tells: Tells) -> String {
    let Some(trace) = &outcome.trace else { return String::new() };
    let mut story = tell(trace, &outcome.all_broken, tells);
    if let Some(broken) = &outcome.broken {
        line(&mut story, &format!("BROKEN  {broken}"));
    }
    story
}

/// The story of a trace, in which these rules broke.
#[must_use]
pub fn tell(trace: &Trace, breaks: &[BrokenAt], tells: Tells) -> String {
    let mut story = String::new();
    let mut stands = BTreeMap::new();
    let (mut left_out, mut end_us) = (0_u64, 0);
    for (number, event) in (0..).zip(&trace.events) {
        end_us = event.at_us;
        if event.idle && tells == Tells::Changes {
            left_out += 1;
            continue;
        }
        happens(&mut story, trace, event, &mut stands);
        for first in breaks.iter().filter(|first| first.event == number) {
            broke(&mut story, first);
        }
    }
    if left_out > 0 {
        let kinds = idle_kinds(trace).join(", ");
        let kinds = if kinds.is_empty() { kinds } else { format!(": {kinds}") };
        let (events, are) = if left_out == 1 { ("event", "is") } else { ("events", "are") };
        line(
            &mut story,
            &format!("({left_out} {events} of which nothing came {are} left out{kinds})"),
        );
    }
    let after = |first: &&BrokenAt| first.event >= trace.events.len() as u64;
    let at_end: Vec<&BrokenAt> = breaks.iter().filter(after).collect();
    if let Some(first) = at_end.first() {
        let what = match first.kind {
            Some(_) => "the end: what must have happened by now is asked",
            None => "the code trips over an assertion of its own",
        };
        line(&mut story, &format!("{} --  {what}", time(end_us)));
        at_end.iter().for_each(|first| broke(&mut story, first));
    }
    story
}

fn time(at_us: u64) -> String {
    format!("{:>6}.{:03} ms ", at_us / 1000, at_us % 1000)
}

/// One event: what happened to whom, what came of it, and how it stands after it, if that reads otherwise than before.
fn happens(
    story: &mut String,
    trace: &Trace,
    event: &Event,
    stands: &mut BTreeMap<NodeId, String>,
) {
    let who = event.node.map_or_else(|| "--".to_owned(), |node| node.to_string());
    let kept = if event.persisted { "   [writes]" } else { "" };
    let text = event.text.strip_prefix(&format!("{who} ")).unwrap_or(&event.text);
    line(story, &format!("{} {who:<3} {text}{kept}", time(event.at_us)));
    for said in &event.said {
        line(story, &format!("{MARGIN}{said}"));
    }
    let message = |id: &u64| usize::try_from(*id).ok().and_then(|id| trace.messages.get(id));
    let sent = event.sent.iter().filter_map(message).map(|it| {
        let lie = if it.lie { "[a lie] " } else { "" };
        (it.to, format!("{lie}{}", it.text))
    });
    for (to, text) in together(sent) {
        line(story, &format!("{MARGIN}-> {to}  {text}"));
    }
    let kept_back = event.kept_back.iter().map(|(to, text)| (*to, text.clone()));
    for (to, text) in together(kept_back) {
        line(story, &format!("{MARGIN}-> {to}  [a lie] nothing, instead of: {text}"));
    }
    // Of one that did not arrive the event itself has said so.
    let lost = event.lost.iter().filter(|_| event.sort != "missed").filter_map(message).map(|it| {
        let why = it.end.and_then(|end| end.lost).unwrap_or(Lost::Chance);
        (it.to, format!("({}): {}", why.says(), it.text))
    });
    for (to, text) in together(lost) {
        line(story, &format!("{MARGIN}lost to {to} {text}"));
    }
    let (Some(node), Some(frame)) = (event.node, &event.now) else { return };
    let now = frame.view.line();
    if frame.status != Status::Up {
        stands.remove(&node);
    } else if stands.insert(node, now.clone()).as_ref() != Some(&now) && !now.is_empty() {
        line(story, &format!("{MARGIN}now: {now}"));
    }
}

/// A rule that broke.
fn broke(story: &mut String, first: &BrokenAt) {
    let Broken { rule, what } = &first.broken;
    let kind = if first.kind == Some(RuleKind::Mechanism) { " (of the mechanism)" } else { "" };
    line(story, &format!("{MARGIN}BREAKS {rule}{kind}: {what}"));
}

/// The kinds of the messages that arrived, and nothing came of it.
fn idle_kinds(trace: &Trace) -> Vec<&str> {
    let idle = trace.events.iter().filter(|event| event.idle).filter_map(|event| event.message);
    let messages = idle.filter_map(|id| trace.messages.get(usize::try_from(id).ok()?));
    let kinds: BTreeSet<&str> = messages.map(|message| message.kind.as_str()).collect();
    kinds.into_iter().collect()
}

/// A line, or as many as it takes.
fn line(story: &mut String, text: &str) {
    let mut rest = text.trim_end();
    let mut indent = 0;
    while let Some(at) = cut_at(rest, COLUMNS - indent) {
        let _infallible = writeln!(story, "{:indent$}{}", "", rest[..at].trim_end());
        rest = rest[at..].trim_start();
        indent = FURTHER;
    }
    let _infallible = writeln!(story, "{:indent$}{rest}", "");
}

/// The last blank at which so many columns are not exceeded, or the first there is; none if all of it fits.
fn cut_at(text: &str, columns: usize) -> Option<usize> {
    let begun = text.len() - text.trim_start().len();
    let (end, _) = text.char_indices().nth(columns)?;
    let blanks = || text.match_indices(' ').map(|(at, _)| at).filter(|&at| at > begun);
    blanks().take_while(|&at| at <= end).last().or_else(|| blanks().next())
}

/// To whom the same is said, in one line each: `n0 n1`, and `n2 (twice)` if it arrives twice.
fn together(said: impl Iterator<Item = (NodeId, String)>) -> Vec<(String, String)> {
    let mut lines: Vec<(Vec<(NodeId, u32)>, String)> = Vec::new();
    for (to, text) in said {
        match lines.last_mut().filter(|(_, last)| *last == text) {
            Some((all, _)) => match all.iter_mut().find(|(known, _)| *known == to) {
                Some((_, times)) => *times += 1,
                None => all.push((to, 1)),
            },
            None => lines.push((vec![(to, 1)], text)),
        }
    }
    let name = |(to, times): &(NodeId, u32)| match times {
        1 => to.to_string(),
        2 => format!("{to} (twice)"),
        many => format!("{to} ({many} times)"),
    };
    let names = |all: &[(NodeId, u32)]| all.iter().map(name).collect::<Vec<_>>().join(" ");
    lines.into_iter().map(|(all, text)| (names(&all), text)).collect()
}
