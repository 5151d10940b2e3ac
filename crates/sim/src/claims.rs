//! What a run of many seeds claims to have survived. Each must have happened in it.
//!
//! How many seeds it takes for a kind to happen at all is chance, so a short run owes less than a long one.

/// A run of so many seeds owes what is not [`RARE`].
pub const SEEDS_FOR_MOST: u64 = 1_000;

/// A run of so many seeds owes everything.
pub const SEEDS_FOR_ALL: u64 = 10_000;

/// Kinds that may be missing from a run of fewer than [`SEEDS_FOR_ALL`]: each of them happens in one
/// seed of a few hundred, so that of 2,000 seeds some would have none.
pub const RARE: &[&str] = &["log full", "log has room again", "ok: member promote"];

/// What a run of so many seeds must have seen.
#[must_use]
pub fn owed(seeds: u64) -> Vec<&'static str> {
    let due = |what: &&str| match RARE.contains(what) {
        true => seeds >= SEEDS_FOR_ALL,
        false => seeds >= SEEDS_FOR_MOST,
    };
    CLAIMS.iter().copied().filter(due).collect()
}

/// Kinds of faults, operations and events, as a [`Tally`](crate::Tally) names them.
pub const CLAIMS: &[&str] = &[
    "a later version leads an older",
    "ambush: after a vote",
    "ambush: after an append",
    "ambush: leader cut off at commit",
    "ambush: leader cut off at election",
    "ambush: leader deaf at transfer",
    "an older version leads a newer",
    "applied beside the core",
    "bits rotten",
    "bridge",
    "checkpoint",
    "checkpoint cut off",
    "clock jump",
    "collection",
    "connection lost",
    "converged",
    "damage refused",
    "disk wiped",
    "election",
    "entry overwritten",
    "evaluated beside the core",
    "files torn",
    "full disk",
    "given up",
    "heal",
    "i/o error",
    "judged: answer",
    "judged: lease's end",
    "judged: unknown, had its effect",
    "judged: unknown, had none",
    "judged: watch event",
    "judged: watch progress",
    "judged: watch resumed",
    "judged: window of a key",
    "judged: write acknowledged",
    "kill",
    "leader isolated",
    "leadership moved",
    "leases looked at after an event",
    "leases looked at when somebody was elected",
    "log full",
    "log has room again",
    "log read",
    "log truncated",
    "member joined",
    "member removed",
    "member replaced",
    "member upgraded",
    "message hours late",
    "message late",
    "message lost",
    "message twice",
    "ok: compact",
    "ok: delete",
    "ok: get",
    "ok: lease grant",
    "ok: lease keep-alive",
    "ok: lease revoke",
    "ok: lease time-to-live",
    "ok: member add",
    "ok: member promote",
    "ok: member remove",
    "ok: publish",
    "ok: put",
    "ok: txn",
    "one-way cut",
    "our version leads a later",
    "our version leads an older",
    "partition",
    "pause",
    "power cut",
    "power cut of all",
    "promises of stores looked at",
    "refused",
    "refused by a full disk",
    "refused: too large",
    "refused: too many",
    "rot",
    "read that gave other bytes",
    "misread at start",
    "sectors lost",
    "slow disk",
    "reads confirmed by lease",
    "reads confirmed by quorum",
    "snapshot cut off",
    "snapshot installed",
    "snapshot sent",
    "snapshot without a pin",
    "state compared at one index",
    "unknown",
    "watch begun",
    "watch resumed",
    "watch: commits missed",
    "watch: ended by compaction",
    "watch: events",
    "watch: fragment",
    "watch: history read",
    "watch: progress",
    "watchers cut off",
    "written behind a snapshot",
];
