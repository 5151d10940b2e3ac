//! Lines broken on purpose, one at a time, to see that the tests notice.
//!
//! Outside the crate's own tests [`on`] is `false` at compile time and costs nothing.

/// One broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Requests do not see proposals in flight.
    IgnoreOverlay,
    /// Historic reads see the newest version in flight.
    OverlayTooNew,
    /// Counting leaves out what is in flight.
    CountApplied,
    /// A deletion above does not hide the key below in a list.
    ScanPastDeletion,
    /// Operations of a transaction do not see the ones before.
    HideOwnWrites,
    /// A proposal taken back leaves its versions behind.
    KeepRetracted,
    /// A key stays attached to a lease that it has left.
    StayAttached,
    /// A key deleted stays attached.
    StayAttachedDeleted,
    /// The limit stops reading although filters leave keys out.
    LimitBeforeFilter,
    /// The compact revision itself cannot be read.
    CompactTooMuch,
    /// A transaction's operations are not checked before they run.
    RunUnchecked,
    /// Deletions of inner transactions are not held against later puts.
    ForgetInnerDeletes,
    /// Entries of another term are applied.
    ApplyStale,
    /// The second branch of a failed compare runs the first one's operations.
    WrongBranch,
    /// A compare of a span looks at its first key alone.
    CompareFirst,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

    use super::{Mutant, ON};
    use crate::support::run::{Habits, Run};

    const ALL: [Mutant; 15] = [
        Mutant::IgnoreOverlay,
        Mutant::OverlayTooNew,
        Mutant::CountApplied,
        Mutant::ScanPastDeletion,
        Mutant::HideOwnWrites,
        Mutant::KeepRetracted,
        Mutant::StayAttached,
        Mutant::StayAttachedDeleted,
        Mutant::LimitBeforeFilter,
        Mutant::CompactTooMuch,
        Mutant::RunUnchecked,
        Mutant::ForgetInnerDeletes,
        Mutant::ApplyStale,
        Mutant::WrongBranch,
        Mutant::CompareFirst,
    ];

    /// Seeds a mutant may live through.
    const SEEDS: u64 = 40;

    fn survives(seed: u64) -> bool {
        let habits = Habits { depth: 8, unlucky: true };
        catch_unwind(AssertUnwindSafe(|| Run::new().go(seed, 250, &habits))).is_ok()
    }

    #[test]
    fn every_mutant_is_caught() {
        assert!((0..3).all(survives), "without a mutant nothing fails");
        let report = take_hook();
        set_hook(Box::new(move |info| {
            if ON.get().is_none() {
                report(info);
            }
        }));
        let mut missed = Vec::new();
        for mutant in ALL {
            ON.set(Some(mutant));
            if (0..SEEDS).all(survives) {
                missed.push(mutant);
            }
            ON.set(None);
        }
        assert!(missed.is_empty(), "nobody noticed {missed:?}");
    }
}
