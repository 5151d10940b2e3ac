//! Snapshots of ranges beside the dense one: where they are received, and what is taken for one.

use std::sync::Arc;

use mvcc::engine::partition::Partition;

use super::*;

/// What a member makes of a snapshot's data.
pub(super) fn import(
    view: &mvcc::View,
    target: Partition<MemEngine>,
) -> Box<mvcc::State<Partition<MemEngine>>> {
    let mut import = mvcc::Import::begin(Arc::new(target), mvcc::Limits::default()).unwrap();
    for chunk in view.export() {
        import.push(&chunk.unwrap()).unwrap();
    }
    Box::new(import.finish().unwrap())
}

/// A snapshot of a range as node 1 would send it to node 2.
pub(super) fn snapshot(table: &Table, range: u64) -> (mvcc::View, store::Envelope) {
    let core = &table.cores[&1];
    let view = core.machine_of(RangeId(range)).unwrap().view();
    let term = core.store().replica(RangeId(range)).unwrap().raft().term();
    let send = raft::SendSnapshot {
        to: replica(2),
        term,
        session: raft::Session(raft::LogIndex(2)),
        at_least: raft::LogIndex(1),
    };
    let out = SnapshotOut { range: RangeId(range), node: NodeId(2), send, from: replica(1) };
    let (_, envelope) = snapshot_message(&out, &view).unwrap();
    (view, envelope)
}

impl Table {
    /// Writes that node 2 does not hear of.
    fn leave_behind(&mut self, range: u64, ids: std::ops::Range<u64>) {
        for id in ids {
            self.put_in(1, range, id);
            self.settle(&[1, 3]);
            self.frames.clear();
        }
    }

    fn target(&mut self, range: u64) -> Option<Partition<MemEngine>> {
        let now = self.now;
        self.cores.get_mut(&2).unwrap().free_partition(now, RangeId(range)).unwrap()
    }

    /// Node 2 is given a snapshot by node 1; false if it has no place for it.
    fn receive(&mut self, range: u64) -> bool {
        let (view, envelope) = snapshot(self, range);
        let Some(target) = self.target(range) else { return false };
        let state = import(&view, target);
        self.does(2, Input::RangeSnapshotStaged(NodeId(1), envelope, state));
        self.frames.clear();
        assert_eq!(self.applied(2, range), view.applied());
        true
    }

    fn applied(&self, node: u64, range: u64) -> mvcc::AppliedMark {
        self.cores[&node].machine_of(RangeId(range)).unwrap().applied()
    }
}

/// A checkpoint may take long, and two snapshots come meanwhile: the second would go where the checkpoint writes the
/// state that the first has replaced.
#[test]
fn a_snapshot_is_not_received_where_a_checkpoint_is_being_written() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    let range = RANGES[0];
    table.put_in(1, range, 1);
    table.settle(&NODES);
    let job = table.cores.get_mut(&2).unwrap().freeze_ranges(true).unwrap();
    table.leave_behind(range, 10..15);
    assert!(table.receive(range), "the other partition is free");
    table.leave_behind(range, 15..20);
    assert!(table.target(range).is_none(), "the checkpoint is out");
    let done = job.run().unwrap();
    table.does(2, Input::RangesWritten(done));
    assert!(table.receive(range));
    let view = |node: u64| table.cores[&node].machine_of(RangeId(range)).unwrap().view();
    assert_eq!(view(1).hash().unwrap(), view(2).hash().unwrap());
    // What a crash would find is what the second snapshot brought.
    let engine = table.cores[&2].machine_of(RangeId(range)).unwrap().state().engine();
    let limits = mvcc::Limits::default();
    let found = crate::boot::open_range(engine.inner(), RangeId(range), limits).unwrap();
    assert_eq!(found.applied(), table.applied(2, range));
    // And what it has replaced is emptied.
    let held = |table: &Table| {
        let engine = table.cores[&2].machine_of(RangeId(range)).unwrap().state().engine();
        crate::boot::partitions_held(engine.inner()).unwrap()
    };
    assert_eq!(held(&table).len(), 2);
    let checkpoints = table.cores.get_mut(&2).unwrap().freeze_ranges(true);
    if let Some(jobs) = checkpoints.filter(|jobs| jobs.clears.is_empty()) {
        table.does(2, Input::RangesWritten(jobs.run().unwrap()));
    }
    let jobs = table.cores.get_mut(&2).unwrap().freeze_ranges(false).unwrap();
    assert_eq!(jobs.clears.len(), 1);
    assert!(table.target(range).is_none(), "it is being emptied");
    table.does(2, Input::RangesWritten(jobs.run().unwrap()));
    assert_eq!(held(&table).len(), 1);
    assert!(table.target(range).is_some());
}

/// The message alone would have a member claim to have applied what it has nothing of.
#[test]
fn a_snapshot_without_its_data_is_no_snapshot() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    for range in [RANGES[0], RANGES[1]] {
        table.put_in(1, range, 1);
        table.settle(&[1, 3]);
        table.frames.clear();
        table.leave_behind(range, 10..15);
        // One of the two is asleep at node 2, the other awake.
        if range == RANGES[1] {
            table.target(range).unwrap();
        }
        let before = table.cores[&2].store().replica(RangeId(range)).unwrap().raft().applied();
        let (_, envelope) = snapshot(&table, range);
        let messages = vec![crate::wire::message::encode(envelope)];
        let frame = pb::Frame { messages, ..pb::Frame::default() };
        table.does(2, Input::Frame(NodeId(1), frame.encode_to_vec().into()));
        let after = table.cores[&2].store().replica(RangeId(range)).unwrap().raft().applied();
        assert_eq!(after, before);
    }
}
