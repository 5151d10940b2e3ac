//! The smallest plan that still breaks the same rule.
//!
//! Delta debugging (Zeller and Hildebrandt 2002): leave out halves of the events, then quarters,
//! and so on down to single ones, for as long as the rule still breaks; then try fewer members.
//! What is drawn while a plan runs comes from streams of its own, so most of it stays as it was.

use crate::plan::Plan;
use crate::trace::Tell;
use crate::{Mutants, live_broken};

/// Leaves out of a plan what is not needed to break `rule`. Runs it `runs_max` times at most, and
/// says how often it did.
#[must_use]
pub fn shrink(plan: &Plan, rule: &str, mutants: Mutants, runs_max: usize) -> (Plan, usize) {
    let mut runs = 0;
    let mut breaks = |plan: &Plan| {
        runs += 1;
        let outcome = live_broken(plan, Tell::Nothing, mutants);
        outcome.broken.is_some_and(|broken| broken.rule == rule)
    };
    let mut best = plan.clone();
    let mut piece = best.events.len().div_ceil(2);
    let mut left = runs_max;
    while piece > 0 && left > 0 {
        let mut at = 0;
        let mut found = false;
        while at < best.events.len() && left > 0 {
            let mut fewer = best.clone();
            fewer.events.drain(at..(at + piece).min(best.events.len()));
            left -= 1;
            if breaks(&fewer) {
                best = fewer;
                found = true;
            } else {
                at += piece;
            }
        }
        // Single events are tried again for as long as one could be left out.
        piece = match (piece, found) {
            (1, true) => 1,
            (piece, _) => piece / 2,
        };
    }
    for members in [1, 3, 5] {
        if members < best.climate.members && left > 0 {
            let mut fewer = best.clone();
            fewer.climate.members = members;
            left -= 1;
            if breaks(&fewer) {
                best = fewer;
                break;
            }
        }
    }
    (best, runs)
}
