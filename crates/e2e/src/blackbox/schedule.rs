//! What is done to the cluster, in which order: from the seed alone.

use std::fmt::{Display, Formatter};

use crate::differential::generate::Dice;

/// A fault, or an operation on the cluster itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Members do not hear each other: iptables, both ways.
    Partition,
    /// Some hear others who do not hear them: iptables, one way.
    OneWay,
    /// The bytes of one direction vanish in the proxies, and their connections live on.
    Swallow,
    /// Everything between peers is late, each chunk by a time of its own.
    Delay,
    /// Connections between peers are cut, again and again.
    Cut,
    /// kill -9.
    Kill,
    /// SIGSTOP, for longer than an election takes, and SIGCONT.
    Pause,
    /// The file system is shut down without flushing, the process is killed.
    PowerLoss,
    /// There is no room on the disk.
    FullDisk,
    /// The disk takes no writes, and no sync ends, for longer than an election takes. Another must lead.
    HungDisk,
    /// fsync and fdatasync fail. The member must end; then the power is lost, because nothing was synced.
    SyncError,
    /// Bits turn in the files of a stopped member; later it is replaced.
    BitRot,
    /// The wall clock jumps, to and fro.
    ClockJump,
    /// Leadership is moved.
    MoveLeader,
    /// A member is removed, and another added in its place, as a learner or at once as a voter.
    Replace,
    /// A snapshot is taken.
    Snapshot,
    /// The history is compacted.
    Compact,
}

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Partition,
        Self::OneWay,
        Self::Swallow,
        Self::Delay,
        Self::Cut,
        Self::Kill,
        Self::Pause,
        Self::PowerLoss,
        Self::FullDisk,
        Self::HungDisk,
        Self::SyncError,
        Self::BitRot,
        Self::ClockJump,
        Self::MoveLeader,
        Self::Replace,
        Self::Snapshot,
        Self::Compact,
    ];

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.words().0 == name)
    }

    /// Its name, and how it is known to have happened.
    #[must_use]
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Partition => ("partition", "packets dropped both ways"),
            Self::OneWay => ("one-way loss", "packets dropped one way"),
            Self::Swallow => ("swallowed bytes", "chunks swallowed"),
            Self::Delay => ("delay", "chunks late"),
            Self::Cut => ("cut connections", "connections cut"),
            Self::Kill => ("kill -9", "processes ended by signal 9"),
            Self::Pause => ("pause", "ms that processes stood still (state T)"),
            Self::PowerLoss => ("power loss", "disks that lost what was not synced"),
            Self::FullDisk => ("full disk", "disks without room"),
            Self::HungDisk => ("hung disk", "ms that a sync took"),
            Self::SyncError => ("sync error", "syncs refused with EIO"),
            Self::BitRot => ("bit rot", "bits turned on disk"),
            Self::ClockJump => ("clock jump", "reads of a moved clock"),
            Self::MoveLeader => ("leader moved", "times that the target led"),
            Self::Replace => ("member replaced", "members with a new id"),
            Self::Snapshot => ("snapshot", "bytes of whole snapshots"),
            Self::Compact => ("compaction", "compactions acknowledged"),
        }
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.pad(self.words().0)
    }
}

/// Seconds that a step takes on the average, recovery included: for how many of them a run has time.
const STEP_SECONDS: f64 = 6.0;

/// The steps that a run of so many minutes must show. Each of the kinds comes once before any comes again.
#[must_use]
pub fn demanded(seed: u64, minutes: f64, kinds: &[Kind]) -> Vec<Kind> {
    let count =
        (1..).take_while(|count| f64::from(*count) * STEP_SECONDS <= minutes * 60.0).count();
    let mut dice = Dice::new(seed, 1);
    let mut steps = Vec::new();
    while steps.len() < count.max(1) && !kinds.is_empty() {
        let mut deck = kinds.to_vec();
        while !deck.is_empty() {
            steps.push(deck.swap_remove(dice.index(deck.len())));
        }
    }
    steps.truncate(count.max(1));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_every_kind_in_turn() {
        let steps = demanded(7, 10.0, Kind::ALL);
        assert_eq!(steps, demanded(7, 10.0, Kind::ALL));
        assert_ne!(steps, demanded(8, 10.0, Kind::ALL));
        assert_eq!(steps.len(), 100);
        for round in steps.chunks_exact(Kind::ALL.len()) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, Kind::ALL);
        }
        assert_eq!(Kind::named("bit rot"), Some(Kind::BitRot));
        assert_eq!(demanded(7, 0.01, &[Kind::Kill]).len(), 1);
    }
}
