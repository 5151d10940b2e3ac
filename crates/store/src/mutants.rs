//! Ways to break the store on purpose.
//!
//! A check that has never caught anything proves nothing. Each variant is a known mistake, and a
//! test proves that the simulation catches it. Compiled in only with the feature `mutants`, which
//! nothing but this crate's tests may turn on.

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

        #[cfg(feature = "mutants")]
        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mutant,)*];
        }
    };
}

mutants! {
    /// Support is counted from the receipt of the answer instead of from the sending of the
    /// request.
    CountedFromReceipt,
    /// Support is counted on for as long as it was asked for: clocks are taken to be equal.
    NoDriftMargin,
    /// Withdrawn support leaves the epoch as it is, so that it can be given again under it.
    ExpiryKeepsEpoch,
    /// A promise is not stored: after a restart nobody knows of it.
    PromiseNotPersisted,
    /// Promises of the life before are taken to have ended with it.
    RestartDoesNotSitOut,
    /// A withdrawal is acted upon before it is durable.
    WithdrawalNotPersisted,
    /// A restarted store asks under the epoch of its life before.
    RestartKeepsEpoch,
    /// An answer that refuses is taken for one that grants what it names.
    RefusalTakenForSupport,
    /// A lease counts support under whatever epoch a replica is bound.
    LeaseOfAnyEpoch,
    /// A lease is taken to last for ever once it was there.
    LeaseWithoutEnd,
    /// A withdrawal from one store frees replicas that are bound to leaders on another.
    WithdrawnFromTheWrongStore,
}
