//! Lines broken on purpose, one at a time, to see that the tests notice.
//!
//! Outside the crate's own tests [`on`] is `false` at compile time and costs nothing.

/// One broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A checkpoint writes only the newest version of a key.
    ForgetSuperseded,
    /// A checkpoint overwrites `Latest` without keeping what was there.
    ForgetOldLatest,
    /// A checkpoint removes a deleted key from `Latest` and leaves no tombstone.
    ForgetTombstone,
    /// A checkpoint leaves out a version that is still needed at the compacted revision.
    CoverTooMuch,
    /// A checkpoint of several writes leaves out what its own, later mark will compact.
    CoverInPieces,
    /// The mark goes with the first of several writes.
    MarkTooEarly,
    /// The mark is written by itself, before what it speaks of.
    MarkBefore,
    /// The mark is written by itself, after what it speaks of.
    MarkAfter,
    /// Several writes begin without saying so.
    ForgetPending,
    /// Collection removes the version that is to be seen at the compacted revision.
    CollectTooMuch,
    /// Collection removes tombstones and leaves what they hide.
    CollectTombstoneOnly,
    /// Collection removes the events of the compacted revision itself.
    CollectEventsTooFar,
    /// Reads below the checkpoint look at `Latest` alone.
    SkipVersions,
    /// Reads take a version in `Latest` that is newer than they may see.
    ReadTooNew,
    /// Frozen memtables are not read.
    LoseFrozen,
    /// A tombstone in a memtable does not hide the key in the engine.
    ScanPastTombstone,
    /// Counting does not notice that memtable and engine have the same key.
    CountTwice,
    /// Meta keys are read as of now, not as of the view.
    MetaTooNew,
    /// The hash covers versions that collection has not removed yet.
    HashUncollected,
    /// An export leaves superseded versions behind.
    ExportLatestOnly,
    /// An import begins without saying so.
    ImportUnmarked,
    /// An import leaves in the engine what was there before.
    ImportOverOld,
    /// A remembered count is taken for that of any revision.
    CountAtAnyRevision,
    /// A search in a chain jumps over the version it is for.
    JumpTooFar,
    /// A version that a crash left in two tables is hashed twice.
    HashDoubled,
    /// Deleting a key twice in a commit counts twice.
    CountDeletesTwice,
    /// A load takes versions that are covered at the compacted revision.
    LoadCovered,
    /// A load takes for live a key that was deleted at or below the compacted revision.
    LoadDeleted,
    /// A load begins the events after the compacted revision.
    LoadEventsTooLate,
    /// A checkpoint takes in the half of a batch that is still being inserted.
    FreezeHalfInserted,
}

#[cfg(test)]
impl Mutant {
    pub(crate) const ALL: [Self; 30] = [
        Self::ForgetSuperseded,
        Self::ForgetOldLatest,
        Self::ForgetTombstone,
        Self::CoverTooMuch,
        Self::CoverInPieces,
        Self::MarkTooEarly,
        Self::MarkBefore,
        Self::MarkAfter,
        Self::ForgetPending,
        Self::CollectTooMuch,
        Self::CollectTombstoneOnly,
        Self::CollectEventsTooFar,
        Self::SkipVersions,
        Self::ReadTooNew,
        Self::LoseFrozen,
        Self::ScanPastTombstone,
        Self::CountTwice,
        Self::MetaTooNew,
        Self::HashUncollected,
        Self::ExportLatestOnly,
        Self::ImportUnmarked,
        Self::ImportOverOld,
        Self::CountAtAnyRevision,
        Self::JumpTooFar,
        Self::HashDoubled,
        Self::CountDeletesTwice,
        Self::LoadCovered,
        Self::LoadDeleted,
        Self::LoadEventsTooLate,
        Self::FreezeHalfInserted,
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

/// Switches a mutant on for this thread, until the guard is dropped.
#[cfg(test)]
pub(crate) fn switch_on(mutant: Mutant) -> impl Drop {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    ON.set(Some(mutant));
    Off
}
