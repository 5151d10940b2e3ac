//! The smallest run that still breaks the same rule.
//!
//! Delta debugging (Zeller and Hildebrandt 2002): leave out halves of the acts, then quarters, down to single
//! ones, for as long as the rule still breaks. Then calm the weather, part by part; take fewer processes; leave
//! out the time between acts in which nothing but timers happen;
//! and, since chance is half of what a run is, try other seeds for the same script and keep the one that
//! breaks the rule in the fewest events. A run that is long still is given up for that of another seed of the
//! search, if that gets shorter.
//!
//! # What is judged at the end
//!
//! A rule that says what happens in the end can be broken by ending too early, and then its breaking says nothing.
//! So the calm at the end of a run is cut down only as far as the protocol without its mistakes keeps the rule in the
//! same script, with the run's own seed and with [`WITNESSES`] others.

use crate::check::Found;
use crate::facade::{ASSERTION, Outcome, Run, RunError, Subject, Tell};
use crate::process::NodeId;
use crate::protocol::{Broken, BrokenAt, Setup};
use crate::script::{Act, Script, Weather, What, When};

/// Other seeds that are tried for a shrunk script.
const SEEDS: u64 = 32;
/// Seeds beside its own with which a script must be long enough for the protocol without its mistakes.
pub const WITNESSES: u64 = 8;
/// A story of more events than this, the idle ones left out, is too long to be read...
pub const READABLE_EVENTS: usize = 150;
/// ...and this many more seeds of the search are looked at for a shorter one.
const ELSEWHERE: u64 = 400;
/// The shortest calm that is tried.
const CALM_US_MIN: u64 = 1_000;
/// Less time than this between two acts is not worth another run.
const GAP_US_MIN: u64 = 1_000;

/// Leaves out of a run what is not needed to break its rule. Runs it `runs_max` times at most.
///
/// # Errors
/// Why the run cannot be made.
pub fn shrink(subject: &dyn Subject, found: &Found, runs_max: u64) -> Result<Found, RunError> {
    subject.setup(&found.run.setup)?;
    let mut shrinking = Shrinking { subject, best: found.clone(), left: runs_max };
    shrinking.all();
    let mut best = shrinking.best;
    let mut is_long = told(subject, &best)? > READABLE_EVENTS;
    let seeds = (1..=ELSEWHERE).map_while(|nth| found.run.setup.seed.checked_add(nth));
    for seed in seeds {
        if !is_long || shrinking.left == 0 {
            break;
        }
        shrinking.left -= 1;
        let run = subject.generate(&Setup { seed, ..found.run.setup.clone() })?;
        let outcome = subject.run(&run, Tell::End)?;
        let same = |broken: &Broken| broken.rule == found.broken.rule;
        let Some(broken) = outcome.broken.filter(same) else { continue };
        let other = Found { run, broken, events: outcome.events, beyond: found.beyond.clone() };
        shrinking = Shrinking { subject, best: other, left: shrinking.left };
        shrinking.all();
        if found_size(&shrinking.best) < found_size(&best) {
            best = shrinking.best.clone();
            is_long = told(subject, &best)? > READABLE_EVENTS;
        }
    }
    Ok(best)
}

/// Events in the story of a run.
fn told(subject: &dyn Subject, found: &Found) -> Result<usize, RunError> {
    let trace = subject.run(&found.run, Tell::All)?.trace;
    Ok(trace.map_or(0, |trace| trace.events.iter().filter(|event| !event.idle).count()))
}

/// How large a counterexample is to a reader: acts weigh more than events.
fn found_size(found: &Found) -> usize {
    let weather = &found.run.script.weather;
    let rates = [weather.slow_per_mille, weather.drop_per_mille, weather.duplicate_per_mille];
    let bad = rates.iter().filter(|&&rate| rate > 0).count();
    let events = usize::try_from(found.events).unwrap_or(usize::MAX / 2);
    found.run.script.acts.len() * 40 + bad * 40 + found.run.setup.n * 20 + events
}

/// When the first act is done by time.
fn first_us(found: &Found) -> u64 {
    found.run.script.acts.iter().filter_map(act_us).min().unwrap_or(0)
}

fn act_us(act: &Act) -> Option<u64> {
    match act.when {
        When::Us(us) => Some(us),
        When::Event(_) => None,
    }
}

/// The first act by time that is done then or later, but for the very first, and how long after the one before it.
fn next_gap(acts: &[Act], from: u64) -> Option<(u64, u64)> {
    let times = || acts.iter().filter_map(act_us);
    let first = times().min()?;
    let at = times().filter(|&us| us > first && us >= from).min()?;
    let before = times().filter(|&us| us < at).max()?;
    Some((at, at - before))
}

/// Whether the rule was found broken when all was over, and not by an event.
fn judged_at_end(outcome: &Outcome, rule: &str) -> bool {
    let first = outcome.all_broken.iter().find(|first| first.broken.rule == rule);
    rule != ASSERTION && first.is_some_and(|first| first.event == outcome.events)
}

/// Whether nothing is done to a run, and no message lost, doubled or slow, from when it says so.
fn is_calm(script: &Script) -> bool {
    let Some(from_us) = script.calm_from_us else { return false };
    let by_time = script.acts.iter().all(|act| act_us(act).is_some_and(|us| us <= from_us));
    let changes = script.acts.iter().filter_map(|act| match &act.what {
        What::Weather(weather) => Some((act_us(act), weather)),
        _ => None,
    });
    let last = changes.max_by_key(|&(us, _)| us).map_or(&script.weather, |(_, weather)| weather);
    let rates = [last.slow_per_mille, last.drop_per_mille, last.duplicate_per_mille];
    by_time && rates == [0; 3]
}

struct Shrinking<'a> {
    subject: &'a dyn Subject,
    best: Found,
    left: u64,
}

impl Shrinking<'_> {
    /// Runs a changed run, and keeps it if the same rule breaks in it and it is not larger than the best.
    fn try_with(&mut self, change: impl FnOnce(&mut Found)) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut found = self.best.clone();
        change(&mut found);
        // What cannot be run is no smaller run.
        let Ok(outcome) = self.subject.run(&found.run, Tell::End) else { return false };
        found.events = outcome.events;
        let same = |broken: &Broken| broken.rule == self.best.broken.rule;
        let Some(broken) = outcome.broken.clone().filter(same) else { return false };
        // Where something worse breaks on the way, it is a counterexample of that.
        let about = self.subject.about();
        let worse = |first: &BrokenAt| about.is_safety(&first.broken.rule);
        if about.is_eventual(&broken.rule) && outcome.all_broken.iter().any(worse) {
            return false;
        }
        found.broken = broken;
        let smaller =
            (found_size(&found), first_us(&found)) < (found_size(&self.best), first_us(&self.best));
        if !smaller {
            return false;
        }
        if judged_at_end(&outcome, &found.broken.rule) && !self.is_long_enough(&found.run) {
            return false;
        }
        self.best = found;
        true
    }

    /// Whether a run whose rule is judged at its end leaves the protocol the time that it needs: without its
    /// mistakes it keeps all rules.
    fn is_long_enough(&mut self, run: &Run) -> bool {
        let mut whole = run.clone();
        if std::mem::take(&mut whole.setup.variants).is_empty() {
            return true;
        }
        let seeds = [run.setup.seed].into_iter().chain(0..WITNESSES);
        is_calm(&run.script)
            && seeds.into_iter().all(|seed| {
                self.left = self.left.saturating_sub(1);
                whole.setup.seed = seed;
                let outcome = self.subject.run(&whole, Tell::End);
                outcome.is_ok_and(|outcome| {
                    outcome.broken.is_none() && outcome.events < whole.script.end.events
                })
            })
    }

    /// The calm begins with the last act, and is no longer than it must be, in halves.
    fn calm(&mut self) {
        let best = &self.best;
        if best.run.script.calm_from_us.is_none() || best.run.setup.variants.is_empty() {
            return;
        }
        let last_us = best.run.script.acts.iter().filter_map(act_us).max().unwrap_or(0);
        let to_us = |calm_us: u64| {
            move |found: &mut Found| {
                found.run.script.calm_from_us = Some(last_us);
                found.run.script.end.at_us = last_us + calm_us;
            }
        };
        let end_us = best.run.script.end.at_us;
        let mut calm_us = end_us.saturating_sub(last_us);
        let mut step_us = calm_us / 2;
        while step_us > CALM_US_MIN {
            if self.try_with(to_us(calm_us - step_us)) {
                calm_us -= step_us;
            }
            step_us = (step_us / 2).min(calm_us / 2);
        }
    }

    /// Everything, until nothing gets smaller.
    fn all(&mut self) {
        let mut size = usize::MAX;
        while self.left > 0 && found_size(&self.best) < size {
            size = found_size(&self.best);
            self.acts();
            self.weather();
            self.calm();
            self.nodes();
            self.seeds();
            self.sooner();
            self.tighter();
            self.calm();
        }
    }

    fn acts(&mut self) {
        let mut piece = self.best.run.script.acts.len().div_ceil(2);
        while piece > 0 && self.left > 0 {
            let mut at = 0;
            let mut any = false;
            while at < self.best.run.script.acts.len() && self.left > 0 {
                let without = |found: &mut Found| {
                    let acts = &mut found.run.script.acts;
                    acts.drain(at..(at + piece).min(acts.len()));
                };
                if self.try_with(without) {
                    any = true;
                } else {
                    at += piece;
                }
            }
            // Single acts are tried again for as long as one could be left out.
            piece = if piece == 1 && any { 1 } else { piece / 2 };
        }
    }

    fn weather(&mut self) {
        let calmer: [fn(&mut Weather); 4] = [
            |weather| weather.slow_per_mille = 0,
            |weather| weather.duplicate_per_mille = 0,
            |weather| weather.drop_per_mille = 0,
            |weather| weather.in_order = true,
        ];
        for calm in calmer {
            self.try_with(|found| calm(&mut found.run.script.weather));
        }
    }

    /// Fewer processes: what is done to those that are gone is left out. Another size is another run, so
    /// other seeds are tried with it.
    fn nodes(&mut self) {
        loop {
            let n = self.best.run.setup.n.saturating_sub(1);
            let own = self.best.run.setup.seed;
            let fewer = |found: &mut Found, seed| {
                found.run.setup.n = n;
                found.run.setup.seed = seed;
                found.run.script.acts.retain(|act| named(&act.what).iter().all(|node| node.0 < n));
            };
            if ![own].into_iter().chain(0..SEEDS).any(|seed| self.try_with(|it| fewer(it, seed))) {
                return;
            }
        }
    }

    /// The first act at once: nobody wants to wait for it.
    fn sooner(&mut self) {
        let first_us = first_us(&self.best);
        self.try_with(|found| {
            for act in &mut found.run.script.acts {
                if let When::Us(us) = &mut act.when {
                    *us -= first_us;
                }
            }
        });
    }

    /// No more time between one act and the next than is needed, in halves.
    fn tighter(&mut self) {
        let mut from = 0;
        while let Some((at, gap)) = next_gap(&self.best.run.script.acts, from) {
            let without = |cut: u64| {
                move |found: &mut Found| {
                    for act in &mut found.run.script.acts {
                        if let When::Us(us) = &mut act.when
                            && *us >= at
                        {
                            *us -= cut;
                        }
                    }
                }
            };
            let cuts = [gap, gap / 2, gap / 4];
            let cut = cuts.into_iter().find(|&cut| cut > 0 && self.try_with(without(cut)));
            // What went is tried for more, as long as there is enough of it to see.
            from = match cut {
                Some(cut) if cut < gap && gap - cut > GAP_US_MIN => at - cut,
                Some(cut) => at - cut + 1,
                None => at + 1,
            };
        }
    }

    fn seeds(&mut self) {
        for seed in 0..SEEDS {
            self.try_with(|found| found.run.setup.seed = seed);
        }
    }
}

/// Something else done from an event on: the acts up to there stay as they are, those after it are left out
/// unless they are to be kept, and `acts` come instead, none of them before the event.
///
/// `done` is how many events of the run are to stay as they were, `at_us` when the last of them was.
#[must_use]
pub fn fork(script: &Script, done: u64, at_us: u64, keep_rest: bool, acts: Vec<Act>) -> Script {
    let mut forked = script.clone();
    forked.calm_from_us = None;
    if !keep_rest {
        forked.acts.retain(|act| match act.when {
            When::Us(us) => us <= at_us,
            When::Event(events) => events < done,
        });
    }
    forked.acts.extend(acts.into_iter().map(|act| {
        let when = match act.when {
            When::Us(us) if us > at_us => act.when,
            When::Us(_) => When::Event(done),
            When::Event(events) => When::Event(events.max(done)),
        };
        Act { when, ..act }
    }));
    forked
}

/// Every process that an act names, for tools that draw.
#[must_use]
pub fn named(what: &What) -> Vec<NodeId> {
    match what {
        What::Client { node, .. }
        | What::Crash(node)
        | What::Restart(node)
        | What::RestartBlank(node)
        | What::Pause(node)
        | What::Resume(node)
        | What::Clock { node, .. }
        | What::Traitor { node, .. }
        | What::Expire(node) => vec![*node],
        What::Cut { from, to } | What::Mend { from, to } => vec![*from, *to],
        What::Split(some) => some.clone(),
        _ => Vec::new(),
    }
}
