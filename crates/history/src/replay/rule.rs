//! The rules, each with its name, and the evidence that one was broken.

use std::fmt::{Display, Formatter};

use crate::record::Revision;

/// What must hold of every history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Commits follow each other without a gap.
    RevisionGap,
    /// No revision comes twice, or after a higher one.
    RevisionRepeated,
    /// Every revision changes something.
    CommitEmpty,
    /// Create revisions and versions count on from the state before.
    EventNumbers,
    /// Only what is there can be deleted.
    DeletedNothing,
    /// The recorder never uses a value twice. Broken, the record cannot be judged.
    ValueReused,
    /// Two acknowledged writes have two revisions.
    RevisionShared,
    /// An acknowledged write is in the history.
    WriteLost,
    /// An acknowledged write is at its header's revision.
    WriteElsewhere,
    /// A commit has exactly the effects of its operation.
    WriteEffects,
    /// An operation takes effect once.
    WriteTwice,
    /// What was refused, or answered as without effect, has none.
    RefusedApplied,
    /// Every commit comes from an operation or from a lease's end.
    CommitUnexplained,
    /// A read's pairs, count and `more` are those of its revision.
    ReadWrong,
    /// A previous pair is the one that was there before.
    PrevWrong,
    /// The number of deleted keys is right.
    CountWrong,
    /// A transaction takes the branch that its compares choose.
    BranchWrong,
    /// An answer has the form that its request asks for.
    AnswerShape,
    /// No header is beyond the history, and no answer from beyond its header.
    ReadFuture,
    /// What was acknowledged before an operation began is seen by it.
    ReadStale,
    /// A write has a higher revision than all that was acknowledged before it began.
    WriteOrder,
    /// Serializable reads from one life of a member do not go back.
    SessionBack,
    /// "compacted" is only said of what is.
    CompactedUntrue,
    /// What is compacted cannot be read by a linearizable read.
    CompactedRead,
    /// "future revision" is only said of what is.
    FutureUntrue,
    /// The compact revision rises, and stays within the history.
    CompactOrder,
    /// A watcher is told events in order.
    WatchOrder,
    /// A watcher is told an event once.
    WatchTwice,
    /// A watcher is told a revision's events in one message.
    WatchSplit,
    /// A watcher is told every event of its keys from its start on.
    WatchMissing,
    /// A watcher is told nothing but events that happened, that it asked for.
    WatchForeign,
    /// A watcher resumes where it stopped.
    WatchResume,
    /// A watcher is told the right previous pair.
    WatchPrev,
    /// A header never claims more than was told.
    WatchProgress,
    /// A watch is only canceled for a compaction if its next revision is compacted.
    WatchCancel,
    /// A lease does not end before the time that was last promised.
    LeaseEarly,
    /// A revoked lease leaves no key behind.
    LeaseSurvivor,
    /// Nothing is attached to a lease that has ended, and no keepalive finds it.
    LeaseDead,
}

impl Rule {
    /// What was violated, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::RevisionGap => "a revision is missing from the history",
            Self::RevisionRepeated => "a revision comes again, or too late",
            Self::CommitEmpty => "a revision changes nothing",
            Self::EventNumbers => {
                "a create revision or version does not follow from the state before"
            }
            Self::DeletedNothing => "a key is deleted that is not there",
            Self::ValueReused => "two operations carry one value: this record cannot be judged",
            Self::RevisionShared => "two writes are acknowledged with one revision",
            Self::WriteLost => "an acknowledged write is not in the history",
            Self::WriteElsewhere => {
                "an acknowledged write is at another revision than its answer says"
            }
            Self::WriteEffects => "a commit has other effects than its operation",
            Self::WriteTwice => "one operation took effect twice",
            Self::RefusedApplied => "an operation that should have had no effect had one",
            Self::CommitUnexplained => "a commit comes from no operation and from no lease's end",
            Self::ReadWrong => "a read's answer is not the state at its revision",
            Self::PrevWrong => "a previous pair is not what was there before",
            Self::CountWrong => "the number of deleted keys is wrong",
            Self::BranchWrong => "a transaction took the wrong branch",
            Self::AnswerShape => "an answer does not have the form of its request",
            Self::ReadFuture => "an answer is from beyond the history or beyond its own header",
            Self::ReadStale => "an operation does not see what was acknowledged before it began",
            Self::WriteOrder => "a write is not after what was acknowledged before it began",
            Self::SessionBack => "serializable reads from one member's life went back",
            Self::CompactedUntrue => "\"compacted\" was said of what was not",
            Self::CompactedRead => "a linearizable read found what had been compacted",
            Self::FutureUntrue => "\"future revision\" was said of what was not",
            Self::CompactOrder => {
                "a compaction was granted that is not above the last, or beyond the history"
            }
            Self::WatchOrder => "a watcher was told events out of order",
            Self::WatchTwice => "a watcher was told an event twice",
            Self::WatchSplit => "a watcher was told one revision in two messages",
            Self::WatchMissing => "a watcher was not told an event",
            Self::WatchForeign => {
                "a watcher was told what did not happen, or what it did not ask for"
            }
            Self::WatchResume => "a watcher did not resume where it stopped",
            Self::WatchPrev => "a watcher was told a wrong previous pair",
            Self::WatchProgress => "a watch's header claims more than was told, or went back",
            Self::WatchCancel => "a watch was canceled for a compaction that does not concern it",
            Self::LeaseEarly => "a lease ended before its time",
            Self::LeaseSurvivor => "a key outlived the revoke of its lease",
            Self::LeaseDead => "a lease that had ended was used",
        }
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// A broken rule, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// The particulars.
    pub detail: String,
    /// The revision that it is about, if it is about one.
    pub revision: Option<Revision>,
    /// The offending operations: where they are in the history, and as text.
    pub operations: Vec<(usize, String)>,
    /// The offending watch and its connection: where they are in the history.
    pub watch: Option<(usize, usize)>,
}

impl Violation {
    pub(crate) fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into(), revision: None, operations: Vec::new(), watch: None }
    }

    pub(crate) fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.rule)?;
        if let Some(revision) = self.revision {
            write!(f, " ({revision})")?;
        }
        if let Some((watch, connection)) = self.watch {
            write!(f, " (watch {watch}, connection {connection})")?;
        }
        write!(f, "\n  {}", self.detail)?;
        for (index, operation) in &self.operations {
            write!(f, "\n  operation {index}: {operation}")?;
        }
        Ok(())
    }
}
