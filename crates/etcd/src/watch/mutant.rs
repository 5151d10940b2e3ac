//! Lines broken on purpose, one at a time, to see that the tests notice.
//!
//! Outside the crate's own tests [`on`] is `false` at compile time and costs nothing.

/// One broken line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A watcher joins one commit before it has read all.
    JoinEarly,
    /// A watcher that has read a window reads its last commit again.
    ReadTwice,
    /// An answer in the middle of catching up carries the newest revision.
    HeaderTooFar,
    /// The answer to a creation carries the newest revision.
    CreatedTooFar,
    /// Filters are ignored.
    ForgetFilter,
    /// A window ends between two changes of one commit.
    SplitCommit,
    /// What does not fit into a stream is lost.
    DropWhenFull,
    /// A watcher whose stream is full goes on after the commit that did not fit.
    StallTooFar,
    /// A watcher is told of what happens before its start.
    IgnoreStart,
    /// Progress is told of a stream with watchers that are behind.
    ProgressBehind,
    /// Progress is told of a stream with watchers that have not started.
    ProgressFuture,
    /// A watcher that is behind is told of progress when its time has come.
    TickBehind,
    /// The version before a change is that of the change itself.
    PreviousTooNew,
    /// A watcher whose start was compacted starts at what is left.
    SkipCompacted,
    /// The watcher that takes over a place in a list does not learn of it.
    ForgetMoved,
    /// Every fragment but the first says that it is the last.
    FragmentEnds,
    /// Nobody falls behind when commits were left out.
    ForgetJump,
    /// Stalled watchers are left alone when their stream has room again.
    ForgetStalled,
    /// Two cohorts that meet read the commit they meet at as one, and one of them again.
    MeetTooLate,
    /// Watchers that came to an end stay in the index.
    TellRemoved,
}

#[cfg(test)]
impl Mutant {
    pub(super) const ALL: [Self; 20] = [
        Self::JoinEarly,
        Self::ReadTwice,
        Self::HeaderTooFar,
        Self::CreatedTooFar,
        Self::ForgetFilter,
        Self::SplitCommit,
        Self::DropWhenFull,
        Self::StallTooFar,
        Self::IgnoreStart,
        Self::ProgressBehind,
        Self::ProgressFuture,
        Self::TickBehind,
        Self::PreviousTooNew,
        Self::SkipCompacted,
        Self::ForgetMoved,
        Self::FragmentEnds,
        Self::ForgetJump,
        Self::ForgetStalled,
        Self::MeetTooLate,
        Self::TellRemoved,
    ];
}

#[cfg(not(test))]
#[inline(always)]
pub(super) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Switches a mutant on for this thread, until the guard is dropped.
#[cfg(test)]
pub(super) fn switch_on(mutant: Mutant) -> impl Drop {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    ON.set(Some(mutant));
    Off
}
