//! What a seed's world is like: sizes, speeds, and how often each kind of fault strikes.
//!
//! Swarm testing (Groce et al., ISSTA 2012): a walk that can do everything at any time rarely does
//! one thing often enough to matter. So each seed draws a climate of its own, in which many kinds
//! of fault do not occur at all and the others are common.

use std::time::Duration;

use env::SplitMix64;
use serde::{Deserialize, Serialize};

/// One kind of event that a plan may hold, with its share of all events.
pub type Weight = u32;

/// How the world of a seed behaves. Times are in microseconds of true time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Climate {
    /// Members that found the cluster.
    pub members: u64,
    /// Clients, each with one request under way at most.
    pub clients: u64,
    /// Keys they use.
    pub keys: u64,
    /// How long faults strike and clients ask, in seconds.
    pub seconds: u64,
    /// Requests that the clients make in that time, in all.
    pub requests: u64,
    /// Fault events in that time.
    pub faults: u64,
    /// Shares of the kinds of request.
    pub request_weights: RequestWeights,
    /// Shares of the kinds of fault.
    pub fault_weights: FaultWeights,
    /// Messages take at least this long, and up to so much more.
    pub delay_us: (u64, u64),
    /// One message in so many is lost; 0 is none.
    pub loss_one_in: u64,
    /// One message in so many arrives twice; 0 is none.
    pub duplicate_one_in: u64,
    /// One message in so many comes seconds late; 0 is none.
    pub late_one_in: u64,
    /// Messages between two members keep their order.
    pub in_order: bool,
    /// A sync takes at least this long, and up to so much more.
    pub sync_us: (u64, u64),
    /// What happened to a member waits so long, at most, for more to be taken in with it.
    pub batch_us: u64,
    /// Clocks run fast or slow by up to so many millionths.
    pub drift_ppm: u64,
    /// Wall clocks are wrong by up to so many seconds, and jump.
    pub wall_error_s: u64,
    /// A checkpoint is begun about this often.
    pub checkpoint_us: u64,
    /// A checkpoint or a step of collection takes up to this long.
    pub checkpoint_takes_us: u64,
    /// Entries kept in the log behind a checkpoint.
    pub catchup_entries: u64,
    /// Bytes of a segment of the log.
    pub segment_bytes: u32,
    /// A checkpoint is written in pieces of about this size.
    pub checkpoint_write_bytes: usize,
    /// Changes that a step of collection looks at.
    pub collect_changes: usize,
    /// A snapshot takes up to this long from member to member.
    pub snapshot_us: u64,
    /// Raft's election timeout.
    pub election_us: u64,
    /// Raft's heartbeat interval.
    pub heartbeat_us: u64,
    /// A request waits so long for an answer, at most.
    pub request_timeout_us: u64,
    /// Bytes of entries in one append message.
    pub append_bytes_max: usize,
    /// The longest value written, in bytes.
    pub value_bytes_max: u64,
    /// Bytes of the effects of one entry, if they are fewer than usual. Requests are refused for it,
    /// and leases end in parts.
    #[serde(default)]
    pub effects_bytes_max: Option<usize>,
    /// Bytes of proposals under way: more are refused.
    #[serde(default = "uncommitted_bytes_max")]
    pub uncommitted_bytes_max: usize,
    /// What is done beside the core of a member, and how long that takes.
    #[serde(default)]
    pub aside: Aside,
    /// Who watches, and how they are served.
    #[serde(default)]
    pub doors: Doors,
    /// What strikes when it hurts most.
    #[serde(default)]
    pub ambush: Ambush,
    /// Messages that are late are so by hours: they come when all is over.
    #[serde(default)]
    pub late_by_hours: bool,
    /// How members stand by leaders, and how leaders know that they lead.
    #[serde(default)]
    pub support: Support,
    /// Which founders run another version of this program.
    #[serde(default)]
    pub versions: Versions,
}

/// What a member runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one before: it knows nothing of the liveness of stores, nor of leases, and tells no leader what
    /// it knows to be committed.
    Older,
    /// What is in this repository.
    #[default]
    Ours,
    /// One to come: it says more than ours understands.
    Later,
}

/// Members of several versions in one cluster, as while it is upgraded. Bit n stands for the founder in place n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Versions {
    /// They begin with the version before.
    pub older: u64,
    /// They begin with one to come.
    pub later: u64,
    /// How often somebody is upgraded.
    pub upgrades: u64,
}

impl Versions {
    /// From dice of its own, so that the rest of a seed's world stays what it was.
    fn draw(seed: u64) -> Self {
        let dice = &mut SplitMix64::new(seed ^ 0x7e45_1045);
        match dice.below(4) {
            0 => Self {
                older: dice.below(128),
                later: dice.below(128) & dice.below(128),
                upgrades: one_of(dice, &[0, 2, 6]),
            },
            _ => Self::default(),
        }
    }

    /// What the founder in a place begins with.
    pub(crate) fn of_founder(self, place: u64) -> Version {
        let has = |mask: u64| place < 64 && mask >> place & 1 == 1;
        match (has(self.older), has(self.later)) {
            (true, _) => Version::Older,
            (false, true) => Version::Later,
            (false, false) => Version::Ours,
        }
    }
}

impl Version {
    /// What it is upgraded to.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Older => Self::Ours,
            Self::Ours | Self::Later => Self::Later,
        }
    }
}

/// How members stand by leaders, and how leaders know that they lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Support {
    /// By Raft's timers alone.
    #[default]
    Timers,
    /// By the liveness of stores; reads are confirmed by a quorum.
    Fortified,
    /// The same, and reads are confirmed by the range lease. Monotonic clocks run wrong by no more than
    /// they may, and never jump.
    Leased,
}

impl Support {
    fn draw(dice: &mut SplitMix64) -> Self {
        one_of(dice, &[Self::Timers, Self::Fortified, Self::Leased, Self::Leased, Self::Leased])
    }
}

/// What takes long, and is done beside the core of a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aside {
    /// Rows that a request may look at, and changes that an entry may hold, to be done at once.
    pub rows_at_once: usize,
    /// Entries and changes that are applied at once.
    pub apply_at_once: usize,
    /// What is done aside takes up to this long.
    pub takes_us: u64,
}

impl Default for Aside {
    fn default() -> Self {
        Self { rows_at_once: 256, apply_at_once: 4_096, takes_us: 1_000 }
    }
}

impl Aside {
    /// From dice of its own, so that the rest of a seed's world stays what it was.
    fn draw(seed: u64) -> Self {
        let dice = &mut SplitMix64::new(seed ^ 0xa51d_e4ed);
        match dice.below(3) {
            0 => Self {
                rows_at_once: one_of(dice, &[0, 0, 1, 3]),
                apply_at_once: one_of(dice, &[1, 5, 4_096]),
                takes_us: one_of(dice, &[100, 20_000, 300_000]),
            },
            _ => Self::default(),
        }
    }
}

/// Watches, and the doors that serve them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// Clients that watch.
    pub watches: u64,
    /// Bytes that wait for one of them, at most; then it is served from history.
    pub stream_bytes: usize,
    /// Commits read from history at a time.
    pub window_commits: usize,
    /// Messages are cut into parts of about this size for those who allow it.
    pub fragment_bytes: usize,
    /// How often progress is told to those who want it.
    pub progress_us: u64,
    /// A watcher takes up to this long for a message.
    pub read_us: u64,
    /// What was applied waits up to this long for its door.
    pub lag_us: u64,
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            watches: 0,
            stream_bytes: 4 << 20,
            window_commits: 1_000,
            fragment_bytes: 2 << 20,
            progress_us: 600_000_000,
            read_us: 0,
            lag_us: 0,
        }
    }
}

impl Doors {
    fn draw(dice: &mut SplitMix64) -> Self {
        Self {
            watches: one_of(dice, &[0, 1, 4, 12]),
            stream_bytes: one_of(dice, &[300, 3_000, 4 << 20]),
            window_commits: one_of(dice, &[1, 3, 1_000]),
            fragment_bytes: one_of(dice, &[150, 1_000, 2 << 20]),
            progress_us: one_of(dice, &[100_000, 3_000_000, 600_000_000]),
            read_us: one_of(dice, &[0, 5_000, 300_000, 3_000_000]),
            lag_us: one_of(dice, &[0, 1_000, 200_000]),
        }
    }
}

/// Faults that wait for their moment: one time in so many, 0 is never.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ambush {
    /// Power is cut right after a vote was given.
    pub vote_one_in: u64,
    /// Power is cut right after entries were appended.
    pub append_one_in: u64,
    /// A leader is cut off right after it has committed something.
    pub commit_one_in: u64,
    /// A leader is cut off right after it was elected.
    pub election_one_in: u64,
    /// A leader that hands leadership over hears nothing any more: it goes on believing that it
    /// leads for as long as it can.
    pub transfer_one_in: u64,
}

impl Ambush {
    fn draw(dice: &mut SplitMix64) -> Self {
        if dice.below(3) > 0 {
            return Self::default();
        }
        Self {
            vote_one_in: one_of(dice, &[0, 1, 2, 5]),
            append_one_in: one_of(dice, &[0, 20, 100]),
            commit_one_in: one_of(dice, &[0, 5, 30]),
            election_one_in: one_of(dice, &[0, 1, 2, 4]),
            transfer_one_in: one_of(dice, &[0, 1, 2]),
        }
    }
}

/// Shares of the kinds of request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the share of the request of its name")]
pub struct RequestWeights {
    pub put: Weight,
    pub get: Weight,
    pub get_old: Weight,
    pub list: Weight,
    pub delete: Weight,
    pub delete_range: Weight,
    pub cas: Weight,
    pub txn: Weight,
    pub compact: Weight,
    pub grant: Weight,
    pub revoke: Weight,
    pub keep_alive: Weight,
    pub time_to_live: Weight,
}

/// Shares of the kinds of fault and of operations on the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the share of the fault of its name")]
pub struct FaultWeights {
    pub kill: Weight,
    pub power_cut: Weight,
    pub power_cut_all: Weight,
    pub pause: Weight,
    pub partition: Weight,
    pub one_way: Weight,
    pub bridge: Weight,
    pub isolate_leader: Weight,
    pub heal: Weight,
    pub slow_disk: Weight,
    pub full_disk: Weight,
    pub io_error: Weight,
    pub rot: Weight,
    pub clock_jump: Weight,
    pub move_leader: Weight,
    pub add_learner: Weight,
    pub promote: Weight,
    pub add_voter: Weight,
    pub remove: Weight,
    pub checkpoint: Weight,
    pub wipe: Weight,
    pub cut_watches: Weight,
    pub misread: Weight,
}

/// Mostly nothing, sometimes a little, sometimes much.
fn weight(dice: &mut SplitMix64) -> Weight {
    match dice.below(10) {
        0..=4 => 0,
        5..=7 => 1 + draw32(dice, 4),
        _ => 10 + draw32(dice, 20),
    }
}

fn draw32(dice: &mut SplitMix64, below: u64) -> Weight {
    Weight::try_from(dice.below(below)).unwrap_or(0)
}

/// Something that always occurs, rarely or often.
fn some(dice: &mut SplitMix64) -> Weight {
    1 + draw32(dice, 20)
}

fn one_of<T: Copy>(dice: &mut SplitMix64, choices: &[T]) -> T {
    let at = dice.below(choices.len() as u64);
    choices[usize::try_from(at).unwrap_or(0)]
}

/// As many as nobody here proposes.
fn uncommitted_bytes_max() -> usize {
    64 << 20
}

/// From dice of its own, so that the rest of a seed's world stays what it was.
fn draw_uncommitted_bytes_max(seed: u64) -> usize {
    let dice = &mut SplitMix64::new(seed ^ 0x0bac_7106);
    match dice.below(6) {
        0 => one_of(dice, &[400, 1_000, 3_000]),
        _ => uncommitted_bytes_max(),
    }
}

/// From dice of its own, so that the rest of a seed's world stays what it was.
fn effects_bytes_max(seed: u64) -> Option<usize> {
    let dice = &mut SplitMix64::new(seed ^ 0xeffe_c750);
    one_of(dice, &[None, None, None, None, None, Some(200), Some(400), Some(1_000)])
}

impl RequestWeights {
    fn draw(dice: &mut SplitMix64) -> Self {
        Self {
            put: 5 + some(dice),
            get: some(dice),
            get_old: weight(dice),
            list: weight(dice),
            delete: weight(dice),
            delete_range: weight(dice) / 4,
            cas: weight(dice),
            txn: weight(dice),
            compact: weight(dice) / 4,
            grant: weight(dice) / 3,
            revoke: weight(dice) / 6,
            keep_alive: weight(dice) / 2,
            time_to_live: weight(dice) / 4,
        }
    }
}

impl FaultWeights {
    fn draw(dice: &mut SplitMix64) -> Self {
        Self {
            kill: weight(dice),
            power_cut: weight(dice),
            power_cut_all: weight(dice) / 6,
            pause: weight(dice),
            partition: weight(dice),
            one_way: weight(dice),
            bridge: weight(dice) / 2,
            isolate_leader: weight(dice),
            heal: 2 + weight(dice),
            slow_disk: weight(dice),
            full_disk: weight(dice) / 2,
            io_error: weight(dice) / 2,
            rot: weight(dice) / 6,
            clock_jump: weight(dice),
            move_leader: weight(dice),
            add_learner: weight(dice) / 2,
            promote: weight(dice),
            add_voter: weight(dice) / 2,
            remove: weight(dice) / 2,
            checkpoint: weight(dice),
            wipe: weight(dice) / 4,
            cut_watches: weight(dice) / 2,
            misread: weight(dice) / 2,
        }
    }
}

impl Climate {
    /// The climate of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let dice = &mut SplitMix64::new(seed ^ 0xc11a_7e00);
        let rough = dice.below(4) > 0;
        let rarely =
            |dice: &mut SplitMix64, choices: &[u64]| if rough { one_of(dice, choices) } else { 0 };
        let election_us = one_of(dice, &[200_000, 500_000, 1_000_000]);
        let seconds = 10 + dice.below(30);
        Self {
            members: one_of(dice, &[3, 3, 3, 3, 5, 5, 7]),
            clients: one_of(dice, &[1, 2, 4, 8, 16, 32]),
            keys: one_of(dice, &[1, 2, 5, 20, 100]),
            seconds,
            requests: one_of(dice, &[50, 150, 300, 600]),
            faults: one_of(dice, &[0, 5, 15, 40]),
            request_weights: RequestWeights::draw(dice),
            fault_weights: FaultWeights::draw(dice),
            delay_us: one_of(dice, &[(50, 100), (200, 2_000), (1_000, 30_000), (20_000, 60_000)]),
            loss_one_in: rarely(dice, &[0, 0, 10, 100]),
            duplicate_one_in: rarely(dice, &[0, 0, 10, 100]),
            late_one_in: rarely(dice, &[0, 0, 100, 1_000]),
            in_order: dice.below(2) == 0,
            sync_us: one_of(dice, &[(0, 100), (200, 500), (1_000, 20_000), (5_000, 100_000)]),
            batch_us: one_of(dice, &[0, 50, 1_000, 10_000]),
            drift_ppm: one_of(dice, &[0, 200, 50_000]),
            wall_error_s: one_of(dice, &[0, 1, 100_000]),
            checkpoint_us: one_of(dice, &[50_000, 500_000, 5_000_000]),
            checkpoint_takes_us: one_of(dice, &[100, 20_000, 1_000_000]),
            catchup_entries: one_of(dice, &[0, 5, 50, 5_000]),
            segment_bytes: one_of(dice, &[8 << 10, 16 << 10, 64 << 10]),
            checkpoint_write_bytes: one_of(dice, &[1_000, 64 << 20]),
            collect_changes: one_of(dice, &[1, 10, 8 << 10]),
            snapshot_us: one_of(dice, &[1_000, 100_000, 3_000_000]),
            election_us,
            heartbeat_us: election_us / 10,
            request_timeout_us: one_of(dice, &[1_000_000, 5_000_000, 7_000_000]),
            append_bytes_max: one_of(dice, &[1, 200, 1 << 20]),
            value_bytes_max: one_of(dice, &[8, 40, 400, 2_000]),
            effects_bytes_max: effects_bytes_max(seed),
            uncommitted_bytes_max: draw_uncommitted_bytes_max(seed),
            aside: Aside::draw(seed),
            doors: Doors::draw(dice),
            ambush: Ambush::draw(dice),
            late_by_hours: dice.below(4) == 0,
            support: Support::draw(dice),
            versions: Versions::draw(seed),
        }
    }

    /// How a member of a version stands by leaders.
    pub(crate) fn support_of(&self, version: Version) -> Support {
        if version == Version::Older { Support::Timers } else { self.support }
    }

    /// The settings of a member's store.
    pub(crate) fn store(&self, version: Version) -> store::Config {
        let support_duration = self.election() * 7 / 10;
        // Two clocks that run wrong by d in opposite directions: 2 d / (1 + d) of the time, and some.
        let per_million = u32::try_from(2 * self.drift_ppm + 10_000).unwrap_or(u32::MAX);
        let liveness = store::liveness::Config {
            heartbeat_interval: Duration::from_micros(self.heartbeat_us),
            support_duration,
            drift_margin: support_duration * per_million / 1_000_000,
            ..store::liveness::Config::default()
        };
        let liveness = (self.support_of(version) != Support::Timers).then_some(liveness);
        store::Config { liveness, ..store::Config::default() }
    }

    /// Raft's election timeout.
    #[must_use]
    pub fn election(&self) -> Duration {
        Duration::from_micros(self.election_us)
    }
}
