//! What is said about it: rules, variants, knobs.

use crate::protocol::{Knob, Rule, Variant};

pub(super) const RULES: &[Rule] = &[
    Rule::promise(
        "chosen-once",
        "In a slot only a single value is chosen: no two are ever accepted by a majority, each in one \
               ballot.",
    ),
    Rule::promise("proposed", "Only what a client asked for may be chosen, or a no-op."),
    Rule::promise(
        "applied-is-chosen",
        "A replica applies in a slot only what is chosen there: a majority accepted it in one ballot.",
    ),
    Rule::mechanism(
        "in-order",
        "A replica applies slot after slot, and leaves none out but for a snapshot of them.",
    ),
    Rule::promise(
        "same-prefix",
        "Replicas that have applied the same slots are in the same state: what comes of the chosen values.",
    ),
    Rule::promise(
        "applied-once",
        "A command takes effect once, though it may be chosen in two slots.",
    ),
    Rule::promise(
        "acknowledged",
        "What a client was told to be written is chosen, and every replica that has applied that slot has \
               it.",
    ),
    Rule::mechanism(
        "keeps-promises",
        "Who has promised ballot b, or accepted in it, promises nothing lower and accepts nothing lower in \
               any slot.",
    ),
    Rule::mechanism(
        "promise-tells-all",
        "A promise names, for every slot asked about, the proposal of the highest ballot accepted there, or \
               has a snapshot that covers the slot.",
    ),
    Rule::mechanism("ballot-once", "No ballot is begun twice, and none has two values in a slot."),
    Rule::mechanism(
        "highest-ballot",
        "The value proposed in a slot is that of the highest-numbered proposal there among the promises, \
               if there is one.",
    ),
    Rule::mechanism(
        "fills-gaps",
        "Who proposes in a slot has proposed in every lower slot that is not chosen, if only a no-op.",
    ),
    Rule::mechanism(
        "snapshot-is-applied",
        "A snapshot holds what comes of the chosen values of all slots below it, and of no other.",
    ),
    Rule::mechanism(
        "one-prepare",
        "Phase 1 is for all slots: a ballot is begun only by a replica that waited for a leader in vain.",
    ),
    Rule::eventual(
        "ends-when-calm",
        "Once all is calm somebody leads, all apply the same slots, and every client is answered.",
    ),
];

const fn with_three(name: &'static str, says: &'static str, seeds_max: u64) -> Variant {
    Variant { name, says, seeds_max, with: &[], n: Some(3) }
}

pub(super) const VARIANTS: &[Variant] = &[
    Variant::new(
        "commonest-value",
        "A new leader proposes again in a slot what most promises name, not what the highest ballot has.",
        2_000,
    ),
    Variant::new(
        "own-values",
        "A new leader proposes what its clients want, whatever the promises name.",
        100,
    ),
    Variant::new(
        "skip-gaps",
        "A new leader leaves slots below the highest named in the promises empty, if none names them.",
        200,
    ),
    with_three("forget-promise", "A promise is not on the disk: a restart forgets it.", 200),
    with_three("forget-accepted", "What was accepted is not on the disk.", 200),
    with_three(
        "reuse-ballot",
        "The last ballot begun is not on the disk. A value is lost by it only if a message of the \
             first use comes after the second has been answered: searches end at the mechanism.",
        200,
    ),
    Variant::new(
        "apply-out-of-order",
        "What is chosen is applied at once, though a lower slot is still open.",
        100,
    ),
    Variant::new("apply-when-accepted", "A replica applies what it has accepted by itself.", 100),
    Variant::new(
        "commit-any-ballot",
        "What was accepted in any ballot, below the slot up to which the leader says all is chosen, is taken \
         for chosen.",
        500,
    ),
    Variant::new("apply-twice", "A command that is chosen in two slots takes effect in both.", 200),
    Variant::new("answer-early", "The leader answers its client when it proposes.", 100),
    Variant::new(
        "snapshot-beyond",
        "A snapshot is taken for all slots up to the last accepted, applied or not.",
        100,
    ),
    Variant::new(
        "forget-below-snapshot",
        "A promise says nothing of slots that are discarded, as if nothing had been accepted there.",
        200,
    ),
    Variant::new(
        "prepare-each-slot",
        "Every write has a phase 1, as if each slot were Paxos by itself.",
        100,
    ),
];

pub(super) const KNOBS: &[Knob] = &[
    Knob {
        name: "alpha",
        says: "A leader proposes in a slot only if the one so many slots before it is chosen, and all below: so \
               many may be in flight.",
        default: 4,
        min: 1,
        max: 1_000,
    },
    Knob {
        name: "election_ms",
        says: "How long at least a replica waits for a leader to be heard; at most twice as long, drawn anew \
               each time. Far-away replicas need longer.",
        default: 60,
        min: 1,
        max: 60_000,
    },
    Knob {
        name: "heartbeat_ms",
        says: "How often a leader is heard at least.",
        default: 15,
        min: 1,
        max: 10_000,
    },
    Knob {
        name: "snapshot_slots",
        says: "After how many slots applied a replica takes a snapshot of them and discards them.",
        default: 4,
        min: 1,
        max: 1_000_000,
    },
];
