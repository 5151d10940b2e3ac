//! Raft (D. Ongaro and J. Ousterhout, *In Search of an Understandable Consensus Algorithm*, 2014): the store's.
//!
#![doc = include_str!("essay.md")]
//!
//! # How it is broken
//!
//! The crate `raft` has its known mistakes behind a feature of Cargo's, `mutants`, chosen by a field of its
//! `Config`. Features of one package are unified over a build: turned on for the lab, the mistakes would be
//! compiled into the store of the same binary as well. A Raft that is broken by hand here would not be the
//! store's. So the package `raft-mutants` is the same sources under another name, with the feature on, and the
//! adapter is compiled twice, once over each. A run without variants is a run of the crate that ships; the
//! tests show that the other one, unbroken, makes the same run.

pub mod broken;
mod lessons;
pub mod shipped;

use crate::facade::{Of, Outcome, Run, RunError, Subject, Tell};
use crate::protocol::{About, Bears, Knob, Lesson, Nodes, Operation, Rule, Setup, Variant};

use raft_mutants::Mutant;

/// The variants and the mistakes of the core that they are. One at a time.
const MUTANTS: &[(&str, Mutant)] = &[
    ("commit-old-term", Mutant::CommitOldTermByCounting),
    ("ack-before-durable", Mutant::AckBeforeDurable),
    ("forget-vote", Mutant::VoteForgotten),
    ("forget-vote-at-step-down", Mutant::VoteErasedAtStepDown),
    ("vote-without-log-check", Mutant::VoteWithoutLogCheck),
    ("vote-by-length", Mutant::VoteByLengthFirst),
    ("vote-twice", Mutant::VoteGivenTwice),
    ("count-refusals", Mutant::RefusalTakenForVote),
    ("count-pre-votes", Mutant::PreVoteTakenForVote),
    ("commit-without-quorum", Mutant::CommitWithoutQuorum),
    ("lead-into-next-term", Mutant::TermTakenInPassing),
    ("cut-without-conflict", Mutant::CutWithoutConflict),
    ("two-changes", Mutant::MembershipUnguarded),
    ("change-too-soon", Mutant::MembershipBeforeTermCommitted),
    ("read-without-asking", Mutant::ReadUnconfirmed),
    ("read-before-own-term", Mutant::ReadBeforeTermCommitted),
    ("overwritten-is-durable", Mutant::OverwrittenCountsDurable),
];

/// Raft: without variants the crate that ships, with one the same sources with that mistake in.
#[derive(Debug)]
pub struct Raft;

impl Raft {
    const SHIPPED: Of<shipped::observer::Raft> = Of::new();
    const BROKEN: Of<broken::observer::Raft> = Of::new();
}

impl Subject for Raft {
    fn about(&self) -> &'static About {
        Self::SHIPPED.about()
    }

    fn setup(&self, setup: &Setup) -> Result<Setup, RunError> {
        if setup.variants.len() > 1 {
            return Err(RunError::TooMuch("variants: the core is broken in one way at a time"));
        }
        Self::SHIPPED.setup(setup)
    }

    fn generate(&self, setup: &Setup) -> Result<Run, RunError> {
        Self::SHIPPED.generate(&self.setup(setup)?)
    }

    fn run(&self, run: &Run, tell: Tell) -> Result<Outcome, RunError> {
        self.setup(&run.setup)?;
        if run.setup.variants.is_empty() {
            Self::SHIPPED.run(run, tell)
        } else {
            Self::BROKEN.run(run, tell)
        }
    }
}

/// What it is, in words.
const ABOUT: About = About {
    name: "raft",
    title: "Raft, the store's",
    paper: "D. Ongaro and J. Ousterhout, In Search of an Understandable Consensus Algorithm, USENIX ATC 2014",
    essay: include_str!("essay.md"),
    rules: RULES,
    variants: VARIANTS,
    knobs: KNOBS,
    operations: OPERATIONS,
    nodes: Nodes { min: 1, default: 3, max: 9 },
    bears: Bears { length_us: 2_000_000, wishes: 30, ..Bears::CRASHES },
    lessons: LESSONS,
};

const RULES: &[Rule] = &[
    Rule::mechanism("election-safety", "At most one leader can be elected in a given term."),
    Rule::mechanism(
        "leader-append-only",
        "A leader never overwrites or deletes entries in its log; it only appends new entries.",
    ),
    Rule::mechanism(
        "log-matching",
        "If two logs contain an entry with the same index and term, then the logs are identical in all \
               entries up through the given index.",
    ),
    Rule::promise(
        "leader-completeness",
        "If a log entry is committed in a given term, then that entry will be present in the logs of \
               the leaders for all higher-numbered terms.",
    ),
    Rule::promise(
        "state-machine-safety",
        "If a server has applied a log entry at a given index to its state machine, no other server \
               will ever apply a different log entry for the same index.",
    ),
    Rule::mechanism("one-vote", "Each server will vote for at most one candidate in a given term."),
    Rule::mechanism(
        "durable-before-sent",
        "Votes, requests for votes and acknowledgements leave when what they promise is on disk.",
    ),
    Rule::mechanism("durable-is-on-disk", "What a replica takes to be durable is on its disk."),
    Rule::mechanism(
        "commit-own-term",
        "Only log entries from the leader's current term are committed by counting replicas.",
    ),
    Rule::promise("commit-is-final", "What is committed stays: no two entries of one index are."),
    Rule::mechanism(
        "commit-is-backed",
        "What is committed is on the disks of a majority of the voters.",
    ),
    Rule::mechanism(
        "one-change",
        "No log has two membership changes that are not known to be committed.",
    ),
    Rule::promise("fresh-reads", "A read sees all that was committed when it was asked for."),
    Rule::mechanism("no-evidence", "No replica stops because it saw that safety is broken."),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm there is a leader, and all apply what is committed.",
    ),
];

const fn with(
    name: &'static str,
    says: &'static str,
    seeds_max: u64,
    with: &'static [(&'static str, u64)],
    n: usize,
) -> Variant {
    Variant { name, says, seeds_max, with, n: Some(n) }
}

/// No pre-vote, no check of the quorum, entries one by one: what a textbook Raft does, and where leaders come
/// and go.
const PLAIN: &[(&str, u64)] =
    &[("pre_vote", 0), ("check_quorum", 0), ("one_by_one", 1), ("write_us", 2_000), ("changes", 0)];

const VARIANTS: &[Variant] = &[
    with(
        "commit-old-term",
        "A leader commits entries of earlier terms by counting replicas (§5.4.2, figure 8).",
        10_000,
        PLAIN,
        5,
    ),
    Variant::new(
        "ack-before-durable",
        "A follower acknowledges entries before they are durable.",
        1_000,
    ),
    Variant::new("forget-vote", "The vote is not stored along with the term.", 1_000),
    with(
        "forget-vote-at-step-down",
        "Who steps down within a term forgets whom it voted for. Harmless alone: as long as leaders do not \
         step down within a term (check_quorum), who does had voted for itself, and no vote counts for two \
         who are elected: searches end at the mechanism.",
        2_000,
        PLAIN,
        5,
    ),
    Variant::new(
        "vote-without-log-check",
        "Votes are granted whatever the candidate's log.",
        1_000,
    ),
    with(
        "vote-by-length",
        "The length of the log is compared before its last term.",
        5_000,
        PLAIN,
        5,
    ),
    Variant::new("vote-twice", "Every candidate of a term gets the vote.", 1_000),
    Variant::new("count-refusals", "A refusal is counted as a vote.", 1_000),
    Variant::new("count-pre-votes", "Who would be elected is elected.", 1_000),
    Variant::new("commit-without-quorum", "One acknowledgement less than a majority commits.", 100),
    Variant::new(
        "lead-into-next-term",
        "A leader that hears of a later term goes on leading in it.",
        2_000,
    ),
    with(
        "cut-without-conflict",
        "A late append cuts off the entries after it, although nothing conflicts.",
        2_000,
        PLAIN,
        3,
    ),
    with(
        "two-changes",
        "A membership change is proposed while another is not committed.",
        1_000,
        &[("changes", 60)],
        5,
    ),
    with(
        "change-too-soon",
        "A new leader proposes a membership change before an entry of its own term is committed. The lesson \
         of this name has what comes of it; searches end at the mechanism.",
        5_000,
        &[("changes", 60), ("write_us", 5_000)],
        5,
    ),
    with(
        "read-without-asking",
        "Reads are confirmed without asking anybody.",
        2_000,
        &[("check_quorum", 0)],
        3,
    ),
    Variant::new(
        "read-before-own-term",
        "Reads are served before the leader's own term is committed.",
        2_000,
    ),
    with(
        "overwritten-is-durable",
        "A write that is done counts even for entries that were overwritten in the meantime. To lose one it \
         takes a crash before the write that overwrites is done: searches end at the mechanism.",
        10_000,
        PLAIN,
        5,
    ),
];

const fn switch(name: &'static str, says: &'static str, default: u64) -> Knob {
    Knob { name, says, default, min: 0, max: 1 }
}

const KNOBS: &[Knob] = &[
    Knob {
        name: "founders",
        says: "How many of the replicas found the group, n0 the first; 0: all. The others may be added.",
        default: 0,
        min: 0,
        max: 9,
    },
    Knob {
        name: "write_us",
        says: "How long a write to disk takes, in us.",
        default: 300,
        min: 0,
        max: 100_000,
    },
    Knob {
        name: "election_ms",
        says: "How long a silent leader is waited for, at least, in ms; heartbeats come five times as often.",
        default: 100,
        min: 10,
        max: 10_000,
    },
    switch("pre_vote", "1: ask whether an election could be won before disturbing anyone.", 1),
    switch(
        "check_quorum",
        "1: leaders step down without a quorum, followers stand by a leader they hear.",
        1,
    ),
    switch("one_by_one", "1: one entry in an append, one append under way.", 0),
    Knob {
        name: "changes",
        says: "Of a hundred generated requests, how many change the membership.",
        default: 6,
        min: 0,
        max: 80,
    },
];

const OPERATIONS: &[Operation] = &[
    Operation { name: "write", args: &["value"], says: "Appends a value." },
    Operation { name: "read", args: &[], says: "Reads what is applied, linearizably." },
    Operation {
        name: "add",
        args: &["place"],
        says: "Makes a replica a voter: 0 is n0, 1 is n1, and so on.",
    },
    Operation { name: "remove", args: &["place"], says: "Takes a replica's vote: 0 is n0's." },
    Operation { name: "transfer", args: &["place"], says: "Hands leadership over: with 0 to n0." },
];

const LESSONS: &[Lesson] = &[
    Lesson {
        name: "election",
        says: "n0 leads, and dies. The others hear nothing for an election timeout, one of them asks whether it could win, \
               then asks for votes, and leads the next term with all that was committed. n0 comes back and follows.",
        run: lessons::election,
    },
    Lesson {
        name: "replication",
        says: "n2 is cut off. n0 and n1 are a majority and go on; an entry is committed when both have it. Healed, n2 \
               is given what it missed.",
        run: lessons::replication,
    },
    Lesson {
        name: "figure-8",
        says: "An entry of term 2 is on a majority, and is overwritten. With `commit-old-term` it had been \
               committed.",
        run: lessons::figure_8,
    },
    Lesson {
        name: "change-too-soon",
        says: "A new leader is asked for a change of membership while its predecessor's is still under way, and \
               refuses. With `change-too-soon` it does not; then two majorities that do not meet decide.",
        run: lessons::change_too_soon,
    },
];
