//! A run as a story that can be read.
//!
//! ```text
//!    12.345 ms  n2  Prepare 3.1 from n1
//!                   promises 3.1; before it 2.0
//!                   -> n1  Promise 3.1, accepted nothing
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::engine::Lost;
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

/// The story of a run, its last line the rule that broke, if any.
#[must_use]
pub fn tell(trace: &Trace, broken: Option<&str>, tells: Tells) -> String {
    let mut story = String::new();
    let is_told = |event: &&Event| tells == Tells::Everything || !event.idle;
    for event in trace.events.iter().filter(is_told) {
        let (ms, us) = (event.at_us / 1000, event.at_us % 1000);
        let who = event.node.map_or_else(|| "--".to_owned(), |node| node.to_string());
        let kept = if event.persisted { "   [writes]" } else { "" };
        line(&mut story, &format!("{ms:>6}.{us:03} ms  {who:<3} {}{kept}", event.text));
        for said in &event.said {
            line(&mut story, &format!("{MARGIN}{said}"));
        }
        for (to, text) in addressees(trace, &event.sent) {
            line(&mut story, &format!("{MARGIN}-> {to}  {text}"));
        }
        for &id in &event.lost {
            let message = usize::try_from(id).ok().and_then(|id| trace.messages.get(id));
            if let Some(message) = message.filter(|_| event.sort != "missed") {
                let why = match message.end.and_then(|end| end.lost) {
                    Some(Lost::Cut) => "the link is cut",
                    Some(Lost::Down) => "nobody is there",
                    Some(Lost::Act) => "taken away",
                    Some(Lost::Chance) | None => "by chance",
                };
                let text = format!("{MARGIN}lost ({why}): {} to {}", message.text, message.to);
                line(&mut story, &text);
            }
        }
        if let Some(frame) = event.now.as_ref().filter(|frame| frame.status == Status::Up) {
            line(&mut story, &format!("{MARGIN}now: {}", frame.view.line()));
        }
    }
    let left_out = trace.events.len() - trace.events.iter().filter(is_told).count();
    if left_out > 0 {
        let kinds = idle_kinds(trace).join(", ");
        let kinds = if kinds.is_empty() { kinds } else { format!(": {kinds}") };
        let (events, are) = if left_out == 1 { ("event", "is") } else { ("events", "are") };
        line(
            &mut story,
            &format!("({left_out} {events} of which nothing came {are} left out{kinds})"),
        );
    }
    if let Some(broken) = broken {
        line(&mut story, &format!("BROKEN  {broken}"));
    }
    story
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

/// Messages that left, those that say the same together.
fn addressees(trace: &Trace, sent: &[u64]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for &id in sent {
        let Some(message) = usize::try_from(id).ok().and_then(|id| trace.messages.get(id)) else {
            continue;
        };
        match lines.last_mut().filter(|(_, text)| *text == message.text) {
            Some((to, _)) => {
                let _infallible = write!(to, " {}", message.to);
            }
            None => lines.push((message.to.to_string(), message.text.clone())),
        }
    }
    lines
}
