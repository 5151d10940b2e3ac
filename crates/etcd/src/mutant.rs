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
    /// Compares of inner transactions see what operations before them wrote.
    CompareOwnWrites,
    /// What changes no key takes a revision all the same.
    EmptyTakesRevision,
    /// The version before a put is the one that it wrote.
    PreviousTooNew,
    /// A sign of life is answered, and the lease's end stays where it was.
    ForgetSignOfLife,
    /// A new leader ends the leases that it finds.
    NewLeaderEndsLeases,
    /// A lease ends a second before its time.
    EndEarly,
    /// A lease that ends in parts lives on until the last.
    EndUnmarked,
    /// A new leader gives a lease that is ending its time again.
    NewLeaderForgetsEnds,
    /// Effects may have any size.
    EffectsUnbounded,
}

#[cfg(test)]
impl Mutant {
    const ALL: [Self; 24] = [
        Self::IgnoreOverlay,
        Self::OverlayTooNew,
        Self::CountApplied,
        Self::ScanPastDeletion,
        Self::HideOwnWrites,
        Self::KeepRetracted,
        Self::StayAttached,
        Self::StayAttachedDeleted,
        Self::LimitBeforeFilter,
        Self::CompactTooMuch,
        Self::RunUnchecked,
        Self::ForgetInnerDeletes,
        Self::ApplyStale,
        Self::WrongBranch,
        Self::CompareFirst,
        Self::CompareOwnWrites,
        Self::EmptyTakesRevision,
        Self::PreviousTooNew,
        Self::ForgetSignOfLife,
        Self::NewLeaderEndsLeases,
        Self::EndEarly,
        Self::EndUnmarked,
        Self::NewLeaderForgetsEnds,
        Self::EffectsUnbounded,
    ];
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
    use hunt::Hunt;

    use super::{Mutant, ON};
    use crate::Limits;
    use crate::support::leases;
    use crate::support::run::{Habits, Run};

    /// Seeds a mutant may live through.
    const SEEDS: u64 = 400;

    /// The known way to get it wrong that a mutant stands for.
    fn way(mutant: Mutant) -> Option<u8> {
        match mutant {
            // What an old leader proposed, the end of a lease for one, is applied in a later term.
            Mutant::ApplyStale => Some(10),
            Mutant::ForgetSignOfLife | Mutant::NewLeaderEndsLeases | Mutant::EndEarly => Some(10),
            _ => None,
        }
    }

    #[test]
    fn every_mutant_is_caught() {
        let mut hunt = Hunt::new("etcd");
        for mutant in Mutant::ALL {
            hunt.mutant(mutant, way(mutant), 0..SEEDS, |seed, mutant| {
                ON.set(mutant);
                let _off = Off;
                leases::go(seed);
                let rows_at_once = if seed % 4 == 3 { 2 } else { Limits::default().rows_at_once };
                let limits = Limits { rows_at_once, ..Limits::default() };
                Run::with(limits).go(seed, 250, &Habits { depth: 8, unlucky: true });
                Ok(())
            });
        }
        hunt.end();
    }

    /// Nothing is broken any more.
    struct Off;

    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
}
