//! Ways to break the core on purpose.
//!
//! A check that has never caught anything proves nothing. Each variant is a known mistake, and a
//! test proves that it is noticed. Compiled in only for this crate's own tests and with the feature
//! `mutants`, which nothing but tests may turn on; elsewhere [`on`] is `false` at compile time.
//! A mistake is switched on for a thread, because a core lives on one.

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
    /// Reads are given as soon as leadership is confirmed, whatever is applied by then.
    ReadUnapplied,
    /// A proposal is answered although another leader's entry stands where its own should.
    AnswerWhateverStands,
    /// Answers that rest on proposals in flight outlive the leadership that they were lost with.
    SpeculationKept,
    /// A request that was passed on to a leader is passed on again when the connection is lost.
    ForwardedAgain,
    /// The leader's answer is given before this member has applied what it speaks of.
    AnswerUnapplied,
    /// A leader serves before an entry of its own term is applied.
    ServeEarly,
    /// An answer to a question for a read point counts whoever gives it, and for whatever process.
    PointFromAnybody,
    /// A change of members is evaluated before what was evaluated before it is proposed.
    MembersEvaluatedEarly,
    /// What takes long to evaluate does not wait for what is in flight.
    LongTooEarly,
    /// Requests are evaluated beside one that takes long.
    EvaluatedBesideLong,
    /// Entries are applied before the one that a thread puts into memory.
    AppliedOutOfTurn,
    /// Leases that an earlier leader has granted do not end.
    LeasesOutliveLeaders,
    /// A message that a member does not understand takes with it what else is in the frame.
    UnknownSinksFrame,
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
