//! Ways to break the protocol on purpose.
//!
//! A check that has never caught anything proves nothing. Each variant is a known mistake; the
//! simulation must catch every one of them. Compiled in only with the feature `mutants`, which
//! nothing but this crate's tests may turn on.

use crate::types::LogIndex;

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
    /// A leader commits entries of earlier terms by counting replicas (Raft §5.4.2, figure 8).
    CommitOldTermByCounting,
    /// A follower acknowledges entries before they are durable.
    AckBeforeDurable,
    /// The vote is not stored along with the term.
    VoteForgotten,
    /// Who steps down within a term forgets whom it voted for.
    VoteErasedAtStepDown,
    /// Votes are granted whatever the candidate's log (Raft §5.4.1 left out).
    VoteWithoutLogCheck,
    /// Log length is compared before the last term.
    VoteByLengthFirst,
    /// Every candidate of a term gets the vote.
    VoteGivenTwice,
    /// A refusal, which comes with the candidate's own term, is counted as a vote.
    RefusalTakenForVote,
    /// Who would be elected is: pre-votes are promises.
    PreVoteTakenForVote,
    /// One acknowledgement less than a majority commits.
    CommitWithoutQuorum,
    /// What the middle one of the voters has reached, in ascending order, is committed: of an even
    /// number, that is one too few.
    QuorumBySortShortcut,
    /// A leader takes note of a higher term, and goes on leading in it.
    TermTakenInPassing,
    /// A stale append cuts off entries after it, although nothing conflicts.
    CutWithoutConflict,
    /// In a joint configuration only the new half decides.
    JointHalfIgnored,
    /// A membership change is proposed while another may be uncommitted.
    MembershipUnguarded,
    /// A new leader proposes a membership change before an entry of its own term is committed, so
    /// that one of an earlier leader's may still be under way.
    MembershipBeforeTermCommitted,
    /// A replica campaigns with committed membership changes that it has not delivered.
    CampaignUndelivered,
    /// A joint configuration is left although an earlier change may be uncommitted.
    JointLeftUnguarded,
    /// A joint configuration that is to be left by itself is not.
    JointNeverLeft,
    /// Reads are confirmed without asking anybody.
    ReadUnconfirmed,
    /// Reads are served before an entry of the leader's own term is committed.
    ReadBeforeTermCommitted,
    /// A later read is asked for under the number of an earlier one, and confirmed by its answers.
    ReadRoundReused,
    /// Acknowledgements of an earlier stay in the group count.
    SessionIgnored,
    /// A candidate asks for votes before its own vote is durable.
    VoteRequestBeforeDurable,
    /// A completed write counts even for entries overwritten in the meantime.
    OverwrittenCountsDurable,
    /// What binds a replica is not stored with its term and vote.
    BindingNotPersisted,
    /// A bound replica votes for others.
    VoteThoughBound,
    /// A range lease counts followers that are not bound.
    LeaseCountsUnbound,
    /// A range lease is computed under the membership of when the term began.
    LeaseUnderOldMembership,
    /// A range lease in a joint configuration counts one half.
    LeaseOfHalfAJoint,
    /// A leader that hands over goes on serving.
    ReleasedBeforeServingEnds,
    /// A candidate, which may lead in its term, releases followers in it.
    ReleasedByCandidate,
    /// The word of a leader whose store has lost all support keeps others from campaigning.
    WithdrawnHearsLeader,
    /// A leader waits for its disk for ever.
    LeaderWaitsForDisk,
    /// A range lease is taken before an entry of the own term is committed and applied.
    LeaseBeforeTermApplied,
}

/// What the middle one has reached.
pub(crate) fn middle(reached: impl Iterator<Item = Option<LogIndex>>) -> Option<LogIndex> {
    let mut reached: Vec<Option<LogIndex>> = reached.collect();
    reached.sort_unstable();
    reached.get(reached.len() / 2).copied().flatten()
}
