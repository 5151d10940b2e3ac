//! Schedules that decide.

use std::collections::BTreeMap;

use super::configuration::{Configuration, Step, Subject};
use crate::process::NodeId;

/// Steps of one attempt.
const STEPS_MAX: usize = 120;

/// Two schedules from a configuration, one deciding 0, one deciding 1: a certificate that it is bivalent.
/// `None` if they were not found, which proves nothing.
///
/// Each attempt lets some of the processes go on alone, as if the others were slow, one of them with its
/// timers running out, and messages between them in order; old messages first, or new ones only.
pub fn witnesses<P: Subject>(
    from: &Configuration<P>,
    value: &impl Fn(&P::Output) -> u64,
) -> Option<[Vec<Step>; 2]> {
    let mut found: BTreeMap<u64, Vec<Step>> = BTreeMap::new();
    let n = from.len();
    // Large groups first, and of those each process in turn: the ones that mostly decide.
    let mut groups: Vec<u32> = (1..1u32 << n).collect();
    groups.sort_by_key(|group| group.count_ones().abs_diff(u32::try_from(n / 2 + 1).unwrap_or(0)));
    for group in groups {
        let group: Vec<NodeId> = NodeId::all(n).filter(|id| group >> id.0 & 1 == 1).collect();
        for &champion in &group {
            for old in [false, true] {
                if let Some((decided, steps)) = attempt(from, &group, champion, old, value)
                    && decided <= 1
                {
                    found.entry(decided).or_insert(steps);
                }
                if found.len() == 2 {
                    return Some([found.remove(&0)?, found.remove(&1)?]);
                }
            }
        }
    }
    None
}

fn attempt<P: Subject>(
    from: &Configuration<P>,
    group: &[NodeId],
    champion: NodeId,
    old: bool,
    value: &impl Fn(&P::Output) -> u64,
) -> Option<(u64, Vec<Step>)> {
    let mut configuration = from.clone();
    // What was there before counts as lost in transit, if old messages are not wanted.
    let ignored: Vec<Step> = match old {
        true => Vec::new(),
        false => group.iter().flat_map(|&id| configuration.inbox(id)).collect(),
    };
    let within = |step: &Step| match step {
        Step::Deliver { from, .. } => group.contains(from) && !ignored.contains(step),
        _ => true,
    };
    let mut steps = Vec::new();
    while steps.len() < STEPS_MAX {
        let message = group.iter().find_map(|&id| configuration.inbox(id).find(within));
        let step = message.or_else(|| configuration.timers(champion).next())?;
        if !configuration.apply(step) {
            return None;
        }
        steps.push(step);
        if let Some(output) = configuration.decided().values().next() {
            return Some((value(output), steps));
        }
    }
    None
}

/// The fair schedule of bounded delays: processes in turn, the oldest message first, and timers only when no
/// message is under way. The steps to the first decision, if it comes within so many.
#[must_use]
pub fn fair<P: Subject>(
    from: &Configuration<P>,
    without: Option<NodeId>,
    steps_max: usize,
) -> Option<Vec<Step>> {
    let mut configuration = from.clone();
    let mut steps = Vec::new();
    let alive: Vec<NodeId> = NodeId::all(from.len()).filter(|&id| Some(id) != without).collect();
    let mut turn = 0;
    while steps.len() < steps_max {
        if !configuration.decided().is_empty() {
            return Some(steps);
        }
        let in_turn = (0..alive.len()).map(|offset| alive[(turn + offset) % alive.len()]);
        let message = in_turn.clone().find_map(|id| configuration.oldest(id));
        let step =
            message.or_else(|| in_turn.clone().find_map(|id| configuration.timers(id).next()))?;
        turn += 1;
        if !configuration.apply(step) {
            return None;
        }
        steps.push(step);
    }
    None
}

/// Whether the others decide if this process takes no step: the fair schedule, up to a bound.
#[must_use]
pub fn decides_without<P: Subject>(from: &Configuration<P>, crashed: NodeId) -> bool {
    fair(from, Some(crashed), 10_000).is_some()
}
