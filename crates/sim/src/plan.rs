//! What is going to happen in a seed, written down before it does.
//!
//! A plan is data: it can be printed, kept, cut down and run again. What a run draws besides
//! (delays, losses, what a power cut leaves of a disk) comes from the plan's `seed` by streams of
//! its own for each pair of members and each disk, so that leaving an event out of the plan
//! disturbs the others as little as possible. That is what makes shrinking work.

use env::SplitMix64;
use serde::{Deserialize, Serialize};

use crate::climate::{Climate, FaultWeights, RequestWeights, Weight};

/// A member by the order in which members came to be, 0 first. Taken modulo those there are.
pub type Place = u64;

/// A seed's world and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Where everything drawn while it runs comes from.
    pub seed: u64,
    /// The world.
    pub climate: Climate,
    /// What happens, by time.
    pub events: Vec<Planned>,
}

/// Something that happens at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// When, in microseconds of true time since the beginning.
    pub at_us: u64,
    /// What.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A client asks a member for something.
    Ask {
        /// Which client.
        client: u64,
        /// Which member.
        at: Place,
        /// For what.
        ask: Ask,
    },
    /// A client begins to watch.
    Watch {
        /// At which member.
        at: Place,
        /// What.
        wish: Wish,
    },
    /// A fault, or an operation on the cluster.
    Fault(Fault),
}

/// What a client can ask for. Keys and leases are numbers; values are made unique when asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the requests and fields of etcd's API")]
pub enum Ask {
    Put {
        key: u64,
        lease: Option<u64>,
        prev: bool,
        bytes: u64,
    },
    Get {
        key: u64,
        serializable: bool,
    },
    /// At `back` revisions before the newest one the client knows of; negative is the future.
    GetOld {
        key: u64,
        back: i64,
    },
    List {
        from: u64,
        to: Option<u64>,
        limit: i64,
        serializable: bool,
        count: bool,
        back: Option<i64>,
    },
    Delete {
        key: u64,
        prev: bool,
    },
    DeleteRange {
        from: u64,
        to: Option<u64>,
        prev: bool,
    },
    /// Kubernetes' update: if the key is at the revision the client last saw, put, else get.
    Cas {
        key: u64,
        stale: bool,
    },
    /// Several operations in one transaction: compare `key`'s version with `version`, then put and
    /// delete, or else read.
    Txn {
        key: u64,
        other: u64,
        version: i64,
    },
    Compact {
        back: i64,
    },
    Grant {
        lease: u64,
        ttl_s: i64,
    },
    Revoke {
        lease: u64,
    },
    KeepAlive {
        lease: u64,
    },
    TimeToLive {
        lease: u64,
    },
}

/// What a client wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The key, or the first of them.
    pub from: u64,
    /// This key alone.
    pub single: bool,
    /// The first key beyond; nothing: to the end.
    pub to: Option<u64>,
    /// From so many revisions before the newest one that a client knows of; negative is the
    /// future, nothing is from now on.
    pub back: Option<i64>,
    /// With previous pairs.
    pub prev: bool,
    /// With progress.
    pub progress: bool,
    /// Without puts.
    pub no_put: bool,
    /// Without deletes.
    pub no_delete: bool,
    /// In parts, if it is much.
    pub fragment: bool,
}

/// What can befall a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in `FaultWeights`; `for_us` is how long")]
pub enum Fault {
    Kill {
        at: Place,
        for_us: u64,
    },
    PowerCut {
        at: Place,
        for_us: u64,
        after_changes: u64,
    },
    PowerCutAll {
        for_us: u64,
    },
    Pause {
        at: Place,
        for_us: u64,
    },
    /// Members whose bit is set on one side, the others on the other.
    Partition {
        side: u64,
    },
    /// Nothing gets from one to the other.
    OneWay {
        from: Place,
        to: Place,
    },
    /// Two sides that share one member.
    Bridge {
        at: Place,
        side: u64,
    },
    IsolateLeader,
    Heal,
    SlowDisk {
        at: Place,
        for_us: u64,
        sync_us: u64,
    },
    FullDisk {
        at: Place,
        for_us: u64,
        left_bytes: u64,
    },
    IoError {
        at: Place,
        after_changes: u64,
        for_us: u64,
    },
    /// A byte of the log rots while the member is down.
    Rot {
        at: Place,
        byte: u64,
        mask: u8,
        for_us: u64,
    },
    ClockJump {
        at: Place,
        wall_s: i64,
        monotonic_us: u64,
    },
    MoveLeader {
        to: Place,
    },
    AddLearner,
    Promote {
        at: Place,
    },
    AddVoter,
    Remove {
        at: Place,
    },
    Checkpoint {
        at: Place,
    },
    /// The disk is gone: its member never comes back, another takes its place.
    Wipe {
        at: Place,
    },
    /// Whoever watches at a member loses the connection.
    CutWatches {
        at: Place,
    },
    /// A member is ended and comes back with the next version.
    Upgrade {
        at: Place,
        for_us: u64,
    },
    /// One of the next reads of a member's disk gives other bytes than are there: those of before the
    /// last write, or those so many further on. With `for_us` the member is killed and started again
    /// before.
    Misread {
        at: Place,
        after_reads: u64,
        further: Option<u64>,
        for_us: Option<u64>,
    },
}

impl Fault {
    /// Whom it is about, if it is about somebody by place.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        match *self {
            Self::OneWay { from, to } => vec![from, to],
            Self::MoveLeader { to } => vec![to],
            Self::Kill { at, .. }
            | Self::PowerCut { at, .. }
            | Self::Pause { at, .. }
            | Self::Bridge { at, .. }
            | Self::SlowDisk { at, .. }
            | Self::FullDisk { at, .. }
            | Self::IoError { at, .. }
            | Self::Rot { at, .. }
            | Self::ClockJump { at, .. }
            | Self::Promote { at }
            | Self::Remove { at }
            | Self::Checkpoint { at }
            | Self::Wipe { at }
            | Self::CutWatches { at }
            | Self::Upgrade { at, .. }
            | Self::Misread { at, .. } => vec![at],
            Self::PowerCutAll { .. }
            | Self::Partition { .. }
            | Self::IsolateLeader
            | Self::Heal
            | Self::AddLearner
            | Self::AddVoter => Vec::new(),
        }
    }
}

/// Draws one of several by weight.
fn pick(dice: &mut SplitMix64, weights: &[Weight]) -> usize {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if total == 0 {
        return 0;
    }
    let mut left = dice.below(total);
    for (at, &weight) in weights.iter().enumerate() {
        if left < u64::from(weight) {
            return at;
        }
        left -= u64::from(weight);
    }
    0
}

fn signed(dice: &mut SplitMix64, low: i64, high: i64) -> i64 {
    let span = high.abs_diff(low) + 1;
    low + i64::try_from(dice.below(span)).unwrap_or(0)
}

/// How long a fault lasts: short against an election, or long.
fn while_us(dice: &mut SplitMix64) -> u64 {
    let most = [20_000, 300_000, 3_000_000, 15_000_000];
    let at = usize::try_from(dice.below(4)).unwrap_or(0);
    1_000 + dice.below(most[at])
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        Self::draw_in(seed, Climate::draw(seed))
    }

    /// The plan of a seed in a climate of the caller's.
    #[must_use]
    pub fn draw_in(seed: u64, climate: Climate) -> Self {
        let dice = &mut SplitMix64::new(seed ^ 0x91a4);
        let span_us = climate.seconds * 1_000_000;
        let mut events = Vec::new();
        for _ in 0..climate.requests {
            let at_us = dice.below(span_us);
            let client = dice.below(climate.clients);
            let at = dice.below(climate.members + 2);
            let ask = Ask::draw(dice, &climate);
            events.push(Planned { at_us, event: Event::Ask { client, at, ask } });
        }
        for _ in 0..climate.faults {
            let at_us = dice.below(span_us);
            if let Some(fault) = Fault::draw(dice, &climate.fault_weights) {
                events.push(Planned { at_us, event: Event::Fault(fault) });
            }
        }
        for _ in 0..climate.doors.watches {
            let at_us = dice.below(span_us);
            let at = dice.below(climate.members + 2);
            events.push(Planned {
                at_us,
                event: Event::Watch { at, wish: Wish::draw(dice, &climate) },
            });
        }
        // From dice of their own, so that the rest of a seed's plan stays what it was.
        let dice = &mut SplitMix64::new(seed ^ 0x7e45_1046);
        for _ in 0..climate.versions.upgrades {
            let at_us = dice.below(span_us);
            let fault = Fault::Upgrade { at: dice.below(climate.members), for_us: while_us(dice) };
            events.push(Planned { at_us, event: Event::Fault(fault) });
        }
        events.sort_by_key(|planned| planned.at_us);
        Self { seed, climate, events }
    }
}

impl Wish {
    fn draw(dice: &mut SplitMix64, climate: &Climate) -> Self {
        let from = dice.below(climate.keys);
        let mut one_in = |chance: u64| dice.below(chance) == 0;
        let (single, prev, progress) = (one_in(3), one_in(2), one_in(2));
        let (no_put, no_delete, fragment) = (one_in(8), one_in(8), one_in(2));
        let (bounded, past) = (one_in(2), one_in(2));
        Self {
            from: if single || bounded { from } else { 0 },
            single,
            to: bounded.then(|| from + 1 + dice.below(climate.keys)),
            back: past.then(|| signed(dice, -5, 60)),
            prev,
            progress,
            no_put,
            no_delete,
            fragment,
        }
    }
}

impl Ask {
    fn draw(dice: &mut SplitMix64, climate: &Climate) -> Self {
        let RequestWeights {
            put,
            get,
            get_old,
            list,
            delete,
            delete_range,
            cas,
            txn,
            compact,
            grant,
            revoke,
            keep_alive,
            time_to_live,
        } = climate.request_weights;
        let kind = pick(
            dice,
            &[
                put,
                get,
                get_old,
                list,
                delete,
                delete_range,
                cas,
                txn,
                compact,
                grant,
                revoke,
                keep_alive,
                time_to_live,
            ],
        );
        let key = dice.below(climate.keys);
        let other = dice.below(climate.keys);
        let coin = dice.below(2) == 0;
        let lease = dice.below(5);
        let span = |dice: &mut SplitMix64| {
            (dice.below(4) > 0).then_some(key + dice.below(climate.keys + 1))
        };
        match kind {
            0 => {
                let lease = (dice.below(4) == 0).then_some(lease);
                Self::Put { key, lease, prev: coin, bytes: dice.below(climate.value_bytes_max + 1) }
            }
            1 => Self::Get { key, serializable: dice.below(3) == 0 },
            2 => Self::GetOld { key, back: signed(dice, -2, 30) },
            3 => Self::List {
                from: key,
                to: span(dice),
                limit: if coin { 0 } else { signed(dice, 1, 5) },
                serializable: dice.below(3) == 0,
                count: dice.below(4) == 0,
                back: (dice.below(3) == 0).then(|| signed(dice, 0, 20)),
            },
            4 => Self::Delete { key, prev: coin },
            5 => Self::DeleteRange { from: key, to: span(dice), prev: coin },
            6 => Self::Cas { key, stale: dice.below(4) == 0 },
            7 => Self::Txn { key, other, version: signed(dice, 0, 3) },
            8 => Self::Compact { back: signed(dice, -1, 20) },
            9 => Self::Grant { lease, ttl_s: signed(dice, 1, 8) },
            10 => Self::Revoke { lease },
            11 => Self::KeepAlive { lease },
            _ => Self::TimeToLive { lease },
        }
    }
}

/// The shares of the kinds of fault, in the order in which `Fault::draw` knows them.
fn shares(weights: &FaultWeights) -> [Weight; 23] {
    let FaultWeights {
        kill,
        power_cut,
        power_cut_all,
        pause,
        partition,
        one_way,
        bridge,
        isolate_leader,
        heal,
        slow_disk,
        full_disk,
        io_error,
        rot,
        clock_jump,
        move_leader,
        add_learner,
        promote,
        add_voter,
        remove,
        checkpoint,
        wipe,
        cut_watches,
        misread,
    } = *weights;
    [
        kill,
        power_cut,
        power_cut_all,
        pause,
        partition,
        one_way,
        bridge,
        isolate_leader,
        heal,
        slow_disk,
        full_disk,
        io_error,
        rot,
        clock_jump,
        move_leader,
        add_learner,
        promote,
        add_voter,
        remove,
        checkpoint,
        wipe,
        cut_watches,
        misread,
    ]
}

impl Fault {
    fn draw(dice: &mut SplitMix64, weights: &FaultWeights) -> Option<Self> {
        let at = dice.below(8);
        let for_us = while_us(dice);
        Some(match pick(dice, &shares(weights)) {
            0 => Self::Kill { at, for_us },
            1 => Self::PowerCut { at, for_us, after_changes: dice.below(12) },
            2 => Self::PowerCutAll { for_us },
            3 => Self::Pause { at, for_us },
            4 => Self::Partition { side: 1 + dice.below(126) },
            5 => Self::OneWay { from: at, to: dice.below(8) },
            6 => Self::Bridge { at, side: 1 + dice.below(126) },
            7 => Self::IsolateLeader,
            8 => Self::Heal,
            9 => Self::SlowDisk { at, for_us, sync_us: while_us(dice) },
            10 => Self::FullDisk { at, for_us, left_bytes: dice.below(10_000) },
            11 => Self::IoError { at, after_changes: dice.below(30), for_us },
            12 => {
                let mask = u8::try_from(1 + dice.below(255)).unwrap_or(1);
                Self::Rot { at, byte: dice.next_u64(), mask, for_us }
            }
            13 => Self::ClockJump {
                at,
                wall_s: signed(dice, -100_000, 100_000),
                monotonic_us: if dice.below(2) == 0 { 0 } else { while_us(dice) },
            },
            14 => Self::MoveLeader { to: at },
            15 => Self::AddLearner,
            16 => Self::Promote { at },
            17 => Self::AddVoter,
            18 => Self::Remove { at },
            19 => Self::Checkpoint { at },
            20 => Self::Wipe { at },
            21 => Self::CutWatches { at },
            _ => Self::Misread {
                at,
                after_reads: dice.below(16),
                further: (dice.below(2) == 0).then(|| 64 * (1 + dice.below(64))),
                for_us: (dice.below(4) > 0).then_some(for_us),
            },
        })
    }
}
