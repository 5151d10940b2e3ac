//! Snapshots on their way and the log behind them: what is kept, and until when.

use raft::{LogIndex, PeerFlow, SnapshotOutcome};

use super::range_snapshots::import;
use super::*;

/// More than is kept for followers that lag, and some.
const MANY: u64 = 10;

pub(super) fn import_whole(view: &mvcc::View) -> Box<mvcc::State<MemEngine>> {
    let engine = Arc::new(MemEngine::new());
    let mut import = mvcc::Import::begin(engine, mvcc::Limits::default()).unwrap();
    for chunk in view.export() {
        import.push(&chunk.unwrap()).unwrap();
    }
    Box::new(import.finish().unwrap())
}

/// What node 1 leads, and node 2 is left behind in.
struct Behind {
    table: Table,
    range: RangeId,
    token: u64,
}

impl Behind {
    fn new(range: u64) -> Behind {
        let mut table = Table::with_ranges();
        table.elect(1, &NODES);
        let mut behind = Behind { table, range: RangeId(range), token: 0 };
        behind.put();
        behind.table.settle(&NODES);
        behind.writes();
        behind.beat();
        assert_eq!(behind.flow(), PeerFlow::Snapshot, "what node 2 needs is gone");
        behind
    }

    fn put(&mut self) {
        self.token += 1;
        match self.range {
            RangeId::DENSE => self.table.put(1, self.token, "k"),
            range => self.table.put_in(1, range.0, self.token),
        }
    }

    /// Writes more than is kept, and a checkpoint of them, none of which node 2 hears of.
    fn writes(&mut self) {
        let kept = if self.range == RangeId::DENSE { CATCHUP } else { RANGE_CATCHUP };
        for _ in 0..kept + MANY {
            self.put();
            self.without_2();
        }
        self.checkpoint();
    }

    fn checkpoint(&mut self) {
        let core = self.table.cores.get_mut(&1).unwrap();
        if self.range == RangeId::DENSE {
            let job = core.machine_mut().state_mut().freeze().unwrap();
            self.table.does(1, Input::Checkpointed(job.run().unwrap()));
            return self.without_2();
        }
        let mut due = true;
        while let Some(jobs) = self.table.cores.get_mut(&1).unwrap().freeze_ranges(due) {
            due = false;
            self.table.does(1, Input::RangesWritten(jobs.run().unwrap()));
            self.without_2();
        }
    }

    fn without_2(&mut self) {
        self.table.settle(&[1, 3]);
        self.table.frames.clear();
    }

    fn beat(&mut self) {
        for _ in 0..3 {
            self.table.now += Duration::from_millis(100);
            self.table.does(1, Input::Tick);
            self.table.settle(&NODES);
        }
    }

    fn raft(&self) -> &Raft {
        self.table.cores[&1].store().replica(self.range).unwrap().raft()
    }

    fn flow(&self) -> PeerFlow {
        self.raft().peers().find(|peer| peer.id == replica(2)).unwrap().flow
    }

    fn truncated(&self) -> LogIndex {
        self.raft().truncated().index
    }

    /// The log is cut as it is without a snapshot on its way.
    fn is_cut(&self) -> bool {
        let kept = if self.range == RangeId::DENSE { CATCHUP } else { RANGE_CATCHUP };
        let core = &self.table.cores[&1];
        let durable = match self.range {
            RangeId::DENSE => core.machine().state().durable(),
            range => core.machine_of(range).unwrap().state().durable(),
        };
        self.truncated().0 + kept >= durable.index
    }

    fn pinned(&self) -> Option<LogIndex> {
        self.table.cores[&1].pinned(self.range, replica(2))
    }

    /// A snapshot begins its way to node 2.
    fn send(&mut self) -> (SnapshotOut, mvcc::View) {
        let send = raft::SendSnapshot {
            to: replica(2),
            term: self.raft().term(),
            session: raft::Session(LogIndex(2)),
            at_least: self.truncated(),
        };
        let out = SnapshotOut { range: self.range, node: NodeId(2), send, from: replica(1) };
        let view = self.table.cores.get_mut(&1).unwrap().snapshot_view(&out).unwrap();
        assert_eq!(self.pinned(), Some(LogIndex(view.applied().index)));
        (out, view)
    }

    /// It arrives.
    fn deliver(&mut self, (out, view): (SnapshotOut, mvcc::View)) -> LogIndex {
        let (position, envelope) = snapshot_message(&out, &view).unwrap();
        let input = if self.range == RangeId::DENSE {
            Input::SnapshotStaged(NodeId(1), envelope, import_whole(&view))
        } else {
            let now = self.table.now;
            let core = self.table.cores.get_mut(&2).unwrap();
            let target = core.free_partition(now, self.range).unwrap().unwrap();
            Input::RangeSnapshotStaged(NodeId(1), envelope, import(&view, target))
        };
        self.table.does(2, input);
        self.ended(SnapshotOutcome::Delivered(position.index));
        position.index
    }

    fn ended(&mut self, outcome: SnapshotOutcome) {
        self.table.does(1, Input::SnapshotSent(self.range, replica(2), outcome));
    }
}

/// The range that holds all user data, and another.
const BOTH: [u64; 2] = [1, RANGES[0]];

/// However much is written while it is on its way, a follower needs no second snapshot, and the log goes
/// when it has caught up.
#[test]
fn a_snapshot_on_its_way_pins_the_log_behind_it() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let snapshot = behind.send();
        behind.writes();
        let position = behind.deliver(snapshot);
        behind.table.frames.clear();
        assert!(behind.truncated() <= position);
        // Its word is lost, and more is written before it says more.
        behind.writes();
        assert!(behind.truncated() <= position, "{} of {position}", behind.truncated());
        behind.beat();
        assert_eq!(behind.flow(), PeerFlow::Replicate, "it needs another");
        let caught_up = behind.table.cores[&2].store().replica(behind.range).unwrap().raft();
        assert_eq!(caught_up.applied(), behind.raft().applied());
        assert_eq!(behind.pinned(), None);
        assert!(behind.is_cut(), "the log is kept for nobody");
    }
}

#[test]
fn a_snapshot_that_fails_releases_the_log() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let _lost = behind.send();
        behind.writes();
        assert!(!behind.is_cut());
        behind.ended(SnapshotOutcome::Failed);
        assert_eq!(behind.pinned(), None);
        assert!(behind.is_cut());
    }
}

/// A stream that is on its way has an end of its own; what has arrived is not waited for.
#[test]
fn a_peer_that_is_gone_releases_the_log() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let snapshot = behind.send();
        behind.writes();
        behind.table.does(1, Input::Unreachable(NodeId(2)));
        assert!(behind.pinned().is_some() && !behind.is_cut());
        behind.deliver(snapshot);
        behind.table.frames.clear();
        behind.table.does(1, Input::Unreachable(NodeId(3)));
        assert!(behind.pinned().is_some() && !behind.is_cut());
        behind.table.does(1, Input::Unreachable(NodeId(2)));
        assert_eq!(behind.pinned(), None);
        assert!(behind.is_cut());
    }
}

#[test]
fn a_follower_that_is_removed_releases_the_log() {
    let mut behind = Behind::new(RangeId::DENSE.0);
    let _lost = behind.send();
    behind.writes();
    assert!(!behind.is_cut());
    let now = behind.table.now;
    let change = raft::MembershipChange::of([raft::MembershipStep::Remove(replica(2))]);
    let core = behind.table.cores.get_mut(&1).unwrap();
    let raft = core.shared.store.raft_mut(RangeId::DENSE).unwrap();
    raft.propose(now, vec![raft::Payload::membership(change)]).unwrap();
    behind.table.flush(1);
    behind.without_2();
    assert_eq!(behind.pinned(), None);
    assert!(behind.is_cut());
}

#[test]
fn a_leader_no_more_releases_the_log() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let _lost = behind.send();
        behind.writes();
        assert!(!behind.is_cut());
        let now = behind.table.now;
        // Nobody answers it.
        behind.table.now = now + Duration::from_secs(10);
        behind.table.does(1, Input::Tick);
        behind.table.does(1, Input::Tick);
        behind.table.frames.clear();
        assert_ne!(behind.raft().role(), raft::RoleKind::Leader);
        assert_eq!(behind.pinned(), None);
        assert!(behind.is_cut());
    }
}

/// Nor does a full disk leave room for what a follower may need.
#[test]
fn a_full_disk_releases_the_log() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let _lost = behind.send();
        behind.writes();
        assert!(!behind.is_cut());
        behind.table.does(1, Input::DiskFull(true));
        assert_eq!(behind.pinned(), None);
        assert!(behind.is_cut());
    }
}

/// A follower that comes to nothing holds no more than its part, for all ranges together.
#[test]
fn a_log_that_has_grown_too_long_is_pinned_no_more() {
    for range in BOTH {
        let mut behind = Behind::new(range);
        let _lost = behind.send();
        let from = behind.truncated();
        let mut bytes = 0;
        while behind.pinned().is_some() {
            assert!(bytes <= 2 * PINNED_BYTES_MAX, "it is pinned still");
            assert!(behind.truncated() <= behind.pinned().unwrap());
            let before = behind.raft().last().index;
            behind.writes();
            // An entry takes no less than its overhead, and these take little more.
            bytes += usize::try_from(behind.raft().last().index.0 - before.0).unwrap() * 32;
        }
        assert!(behind.truncated() > from && behind.is_cut());
    }
}
