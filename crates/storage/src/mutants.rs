//! Ways to break the log on purpose.
//!
//! A check that has never caught anything proves nothing. Each variant is a known mistake, and a
//! test proves that it is noticed. Compiled in only for this crate's own tests and with the feature
//! `mutants`, which nothing but tests may turn on; elsewhere [`on`] is `false` at compile time.
//! A mistake is switched on for a thread, because a log is written by one.

macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident,)*) => {
        /// A known mistake.
        #[cfg_attr(
            not(feature = "mutants"),
            expect(unreachable_pub, reason = "public with the feature only")
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        #[cfg(any(test, feature = "mutants"))]
        impl Mutant {
            /// All of them.
            #[cfg_attr(
                not(feature = "mutants"),
                expect(unreachable_pub, reason = "public with the feature only")
            )]
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];
        }
    };
}

mutants! {
    /// What is appended counts as durable without a sync.
    AckBeforeSync,
    /// A sync that failed is tried again, and its success believed.
    SyncTriedAgain,
    /// The directory of a new segment is not synced.
    DirectoryNotSynced,
    /// What an opening finds is told without making it durable: it may be in the page cache alone.
    FoundNotSynced,
    /// A segment is reused as soon as it is not needed, before that is durable knowledge.
    ReleasedTooEarly,
    /// A frame testifies that everything before it is durable, itself included.
    WitnessTooFar,
    /// Every break of the chain is taken for a torn tail.
    CorruptionTakenForTear,
    /// The records of a unit that is not whole are replayed.
    UnitInPieces,
    /// An entry leaves those behind it that it overwrites.
    OverwrittenComesBack,
    /// What a truncation dropped comes back with a restart.
    TruncatedComesBack,
    /// A log that is opened again writes in the epoch of its life before.
    EpochKept,
    /// Checksums cover data alone: neither place nor group, index and term.
    ChecksumOfDataAlone,
    /// An error of reading while the log is opened is taken for its end.
    ReadErrorEndsLog,
    /// An error of reading entries is taken for the end of the log.
    ReadErrorEndsEntries,
    /// The end of the log is where one reading of it ends.
    EndReadOnce,
}

#[cfg(not(any(test, feature = "mutants")))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(any(test, feature = "mutants"))]
thread_local! {
    static ON: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

#[cfg(any(test, feature = "mutants"))]
pub(crate) fn on(mutant: Mutant) -> bool {
    ON.get() == Some(mutant)
}

/// Switches a mutant on for this thread, or all off, until what this returns is dropped.
#[cfg(any(test, feature = "mutants"))]
#[cfg_attr(not(feature = "mutants"), expect(unreachable_pub, reason = "public with the feature"))]
#[must_use]
pub fn switch(mutant: Option<Mutant>) -> impl Drop {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
    ON.set(mutant);
    Off
}
