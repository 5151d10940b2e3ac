//! What clients and watchers were told, held against what the store did.
//!
//! The crate `history` judges; it knows no line of the code under test. Two judges look at every
//! run: a replay along the revisions, for every rule of etcd's contract, and a search for an order
//! of each key's operations that believes no revision at all. The search has bounds; one that is
//! given up says nothing, and that is not a pass.
//!
//! # Caveats
//!
//! - A monotonic clock that jumps ahead ends leases ahead of true time, as it must: its machine was
//!   suspended. In a run with such jumps nothing is asked of the time at which leases end.
//! - What answers about members and about a lease's time to live say is not looked at.

pub(crate) mod record;

use history::linear::{Bounds, keys};
use history::model::TxnEvents;
use history::record::History;
use history::replay;

use crate::check::Fault;
use crate::plan::{self, Event, Plan};
use crate::tally::Tally;

/// How long the search for one key's order may take.
const SEARCH: Bounds = Bounds { steps_max: 2_000_000, memory_bytes_max: 64 << 20 };
/// In how many ways a window of one key's history may end.
const WAYS_MAX: usize = 4_096;
/// A key that more operations of unknown outcome may have changed is left to the replay. The tally
/// has how many are.
const UNKNOWN_MAX: usize = 8;

/// Whether one strictly serializable store can have said all of that.
pub(crate) fn judge(history: &History, plan: &Plan, tally: &mut Tally) -> Result<(), Fault> {
    let settings = replay::Settings {
        txn_events: TxnEvents::Outcome,
        lease_drift_ppm: lease_drift_ppm(plan),
        lease_ends_in_parts: plan.climate.effects_bytes_max.is_some(),
        ..replay::Settings::default()
    };
    let report = replay::check(history, &settings);
    if let Some(first) = report.violations.first() {
        return Err((first.rule.words(), report.to_string()));
    }
    let seen = report.seen;
    tally.add("judged: answer", seen.answers);
    tally.add("judged: write acknowledged", seen.writes_acknowledged);
    tally.add("judged: unknown, had its effect", seen.unknown_applied);
    tally.add("judged: unknown, had none", seen.unknown_unseen);
    tally.add("judged: lease's end", seen.lease_ends);
    tally.add("judged: part of a lease's end", seen.lease_parts);
    tally.add("judged: watch event", seen.watch_events);
    tally.add("judged: watch resumed", seen.watch_resumed);
    tally.add("judged: watch progress", seen.watch_progress);
    let settings =
        keys::Settings { bounds: SEARCH, configurations_max: WAYS_MAX, unknown_max: UNKNOWN_MAX };
    match keys::check(&history.operations, &settings) {
        Ok(passed) => {
            tally.add("judged: key searched", passed.keys as u64);
            tally.add("judged: window of a key", passed.windows as u64);
            tally.add("not searched: too much unknown of a key", passed.wide as u64);
            tally.add("not searched: key with leases", passed.skipped as u64);
            Ok(())
        }
        Err(fault @ keys::Fault::NotLinearizable { .. }) => {
            Err(("each key's operations have an order", fault.to_string()))
        }
        Err(fault @ keys::Fault::Unknown { .. }) => {
            Err(("the search for an order comes to an end", fault.to_string()))
        }
    }
}

/// By how much leases may end ahead of true time. Everything, if machines were suspended.
fn lease_drift_ppm(plan: &Plan) -> u32 {
    let jumps = |event: &plan::Planned| matches!(event.event, Event::Fault(plan::Fault::ClockJump { monotonic_us, .. }) if monotonic_us > 0);
    if plan.events.iter().any(jumps) {
        return 1_000_000;
    }
    u32::try_from(plan.climate.drift_ppm).unwrap_or(1_000_000)
}
