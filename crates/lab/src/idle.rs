//! Which events of a run nobody needs to read.
//!
//! Who has nothing to say says so again and again: pings, heartbeats, and the answers to them. An event is *idle* if
//! nothing came of it: a timer ran out, or a message arrived or did not; nothing was written, decided, answered
//! or said; nothing that is shown of the process changed; and of every message that left in it nothing came either.
//!
//! # Caveats
//!
//! - What is shown of a process is not all of it: a ping that arrives puts off a suspicion, and is idle for all that.
//!   That it did not arrive is seen by the suspicion.
//! - A message that was lost is idle if the same was said before, or was heard by another without effect.

use std::collections::BTreeSet;

use crate::trace::{Event, Message, Trace};

/// Marks the idle events; `broke` are those in which a rule broke, and something came of them.
pub(crate) fn mark(trace: &mut Trace, broke: &BTreeSet<u64>) {
    let mut said: BTreeSet<(usize, usize, &str)> = BTreeSet::new();
    let repeated = trace.messages.iter().map(|it| !said.insert((it.from.0, it.to.0, &it.text)));
    let mut idle: Vec<bool> = repeated.collect();
    // What was lost is judged by what came of the same words elsewhere: that is known after the first time.
    for again in [false, true] {
        if again {
            let messages = || trace.messages.iter().zip(idle.clone());
            let in_vain: BTreeSet<&str> = messages()
                .filter(|(message, idle)| *idle && arrived(message))
                .map(|(message, _)| message.text.as_str())
                .collect();
            idle = messages()
                .map(|(message, idle)| idle || in_vain.contains(message.text.as_str()))
                .collect();
        }
        for (message, idle) in trace.messages.iter().zip(&mut idle) {
            *idle |= message.end.is_none();
        }
        for (number, event) in trace.events.iter_mut().enumerate().rev() {
            let of = |id: &u64| usize::try_from(*id).ok().and_then(|id| idle.get(id).copied());
            let in_vain = |id: &u64| of(id).unwrap_or(true);
            event.idle =
                is_quiet(event) && event.sent.iter().all(in_vain) && event.lost.iter().all(in_vain);
            event.idle &= !broke.contains(&(number as u64));
            if let Some(place) = event.message.and_then(|id| usize::try_from(id).ok())
                && let Some(idle) = idle.get_mut(place)
            {
                *idle = event.idle;
            }
        }
    }
}

fn arrived(message: &Message) -> bool {
    message.end.is_some_and(|end| end.lost.is_none())
}

/// Whether nothing is seen of it but that messages left.
fn is_quiet(event: &Event) -> bool {
    let by_itself = ["expired", "arrived", "missed", "waits"].contains(&event.sort.as_str());
    by_itself
        && !event.persisted
        && event.said.is_empty()
        && event.now.is_none()
        && event.cut.is_none()
}
