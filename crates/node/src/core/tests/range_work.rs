//! What ranges beside the dense one do besides agreeing: long reads, collection, emptied partitions, full disks.

use super::*;

const RANGE: RangeId = RangeId(RANGES[0]);

fn in_range(token: u64, request: Request) -> Input<MemEngine> {
    Input::ClientOf(RANGE, Token(token), request)
}

fn all_keys() -> Request {
    let range_end = Bytes::from_static(b"\0");
    Request::Range(ep::RangeRequest { key: range_end.clone(), range_end, ..Default::default() })
}

fn kvs(reply: Option<Result<Response, Error>>) -> Vec<(Bytes, i64)> {
    let Some(Ok(Response::Range(range))) = reply else { panic!("{reply:?}") };
    let decode = |kv: Bytes| proto::mvccpb::KeyValue::decode(kv).unwrap();
    range.kvs.into_iter().map(decode).map(|kv| (kv.key, kv.mod_revision)).collect()
}

/// A long read is evaluated beside the core, from the state as it was when leadership was confirmed, and goes to
/// whoever asked, at another member, too.
#[test]
fn a_long_read_delays_nobody() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    table.put_in(1, RANGE.0, 1);
    table.settle(&NODES);
    table.does(1, in_range(2, all_keys()));
    table.does(2, in_range(3, all_keys()));
    table.settle(&NODES);
    assert_eq!(table.scans.len(), 2, "confirmed, and to be evaluated");
    table.put_in(1, RANGE.0, 4);
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&4)), "meanwhile others are answered");
    assert!(!table.replies.contains_key(&2) && !table.replies.contains_key(&3));
    for (node, scan) in std::mem::take(&mut table.scans) {
        assert_eq!(node, 1, "the leader evaluates");
        table.does(1, Input::Scanned(scan.run()));
    }
    table.settle(&NODES);
    let [here, there] = [2, 3].map(|token| kvs(table.replies.remove(&token)));
    assert_eq!(here, [(Bytes::from_static(b"k"), 2)], "not what was written afterwards");
    assert_eq!(there, here);
}

/// A leader that cannot confirm that it leads does not answer.
#[test]
fn a_long_read_waits_for_a_quorum() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    table.put_in(1, RANGE.0, 1);
    table.settle(&NODES);
    table.does(1, in_range(2, all_keys()));
    assert!(table.scans.is_empty(), "nobody has confirmed it");
    table.frames.clear();
    table.now += Duration::from_secs(8);
    table.does(1, Input::Tick);
    assert!(table.scans.is_empty());
    assert!(matches!(table.replies.get(&2), Some(Err(_))), "{:?}", table.replies.get(&2));
}

/// Reads count among the requests that a range may have under way.
#[test]
fn a_range_takes_no_more_reads_than_it_may() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    table.put_in(1, RANGE.0, 1);
    table.settle(&NODES);
    let tokens = 100..100 + RANGE_REQUESTS_MAX as u64 + 1;
    for token in tokens.clone() {
        table.step(1, in_range(token, all_keys()));
    }
    table.flush(1);
    let last = table.replies.get(&(tokens.end - 1));
    assert!(matches!(last, Some(Err(Error::TooManyRequests))), "{last:?}");
    table.settle(&NODES);
    assert_eq!(table.scans.len(), RANGE_REQUESTS_MAX);
    for (_, scan) in std::mem::take(&mut table.scans) {
        table.does(1, Input::Scanned(scan.run()));
    }
    table.does(1, in_range(1000, all_keys()));
    assert!(!table.replies.contains_key(&1000), "there is a place again");
}

impl Table {
    /// Writes what the ranges of a member have to write, until nothing is left.
    fn write_ranges(&mut self, node: u64) -> usize {
        let mut parts = 0;
        for looks in 0.. {
            assert!(looks < 100, "it does not end");
            let core = self.cores.get_mut(&node).unwrap();
            if let Some(jobs) = core.freeze_ranges(looks == 0) {
                let written = jobs.run().unwrap();
                self.does(node, Input::RangesWritten(written));
                parts += 1;
            } else if !core.ranges_go_on() {
                break;
            }
        }
        parts
    }
}

/// A pass looks at many ranges though few have anything to write: one part of it is one turn of the core.
#[test]
fn a_part_of_a_pass_is_one_turn() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    table.put_in(1, RANGE.0, 1);
    table.settle(&NODES);
    for _ in 0..5 {
        table.write_ranges(1);
    }
    let core = table.cores.get_mut(&1).unwrap();
    assert!(!core.ranges_go_on());
    assert!(core.freeze_ranges(true).is_none(), "nothing is new");
    assert!(core.ranges_go_on(), "what may be collected is looked at in a turn of its own");
    assert!(core.freeze_ranges(false).is_none());
    assert!(!core.ranges_go_on());
}

/// What a compaction leaves behind is removed from the engine, and the log is not kept for long.
#[test]
fn a_range_is_collected() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    for token in 1..=20 {
        table.put_in(1, RANGE.0, token);
        table.settle(&NODES);
    }
    table.write_ranges(1);
    let compact = ep::CompactionRequest { revision: 15, physical: false };
    table.does(1, in_range(30, Request::Compact(compact)));
    table.settle(&NODES);
    assert!(matches!(table.replies.get(&30), Some(Ok(_))), "{:?}", table.replies.get(&30));
    let state = |table: &Table| {
        let state = table.cores[&1].machine_of(RANGE).unwrap().state();
        (state.collected(), state.durable() == state.applied())
    };
    assert!(table.write_ranges(1) > 1, "a checkpoint, then collection");
    assert_eq!(state(&table), (mvcc::Revision(15), true));
    assert!(table.write_ranges(1) <= 1, "at most the others let go of old views");
    assert_eq!(table.write_ranges(1), 0);
    let raft = table.cores[&1].store().replica(RANGE).unwrap().raft();
    assert_eq!(raft.last().index.0 - raft.truncated().index.0, RANGE_CATCHUP);
}

/// Without room, the ranges' leaders give way to those who may have some, and keep no log for others.
#[test]
fn a_member_without_room_leads_no_range_that_is_written_to() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    table.put_in(1, RANGE.0, 1);
    table.settle(&NODES);
    table.write_ranges(1);
    table.does(1, Input::DiskFull(true));
    table.settle(&NODES);
    let raft = |table: &Table, node: u64| {
        let raft = table.cores[&node].store().replica(RANGE).unwrap().raft();
        (raft.role() == raft::RoleKind::Leader, raft.truncated())
    };
    assert!(!raft(&table, 1).0, "it leads no more");
    assert_eq!(NODES.iter().filter(|&&node| raft(&table, node).0).count(), 1);
    assert!(raft(&table, 1).1 > raft(&table, 2).1, "its log is cut");
    table.put_in(1, RANGE.0, 2);
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&2)), "{:?}", table.replies.get(&2));
}

/// A range with a snapshot on its way does not take in what concerns another behind its back: what was evaluated there
/// is proposed before leadership is seen to be lost.
#[test]
fn a_snapshot_of_one_range_leaves_the_proposals_of_another_alone() {
    let mut table = Table::with_ranges();
    table.elect(1, &NODES);
    let other = RangeId(RANGES[1]);
    for range in [RANGE, other] {
        table.put_in(1, range.0, 1);
        table.settle(&NODES);
    }
    // Node 1 is told of a later term of one range, evaluates a write of it, and gets a snapshot of another, all at once.
    let raft = table.cores[&1].store().replica(RANGE).unwrap().raft();
    let (term, commit) = (raft.term().next(), raft.last());
    let message = raft::Message {
        from: replica(2),
        to: replica(1),
        term,
        body: raft::Body::Heartbeat { commit, round: 1 },
    };
    let envelope = store::Envelope { range: RANGE, message };
    let messages = vec![crate::wire::message::encode(envelope)];
    let frame = pb::Frame { messages, ..pb::Frame::default() }.encode_to_vec();
    table.step(1, Input::Frame(NodeId(2), frame.into()));
    let put = ep::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
    table.step(1, in_range(7, Request::Put(put)));
    table.step(1, in_range(8, all_keys()));
    let (view, envelope) = range_snapshots::snapshot(&table, other.0);
    let now = table.now;
    let target = table.cores.get_mut(&1).unwrap().free_partition(now, other).unwrap().unwrap();
    let number = target.number();
    let state = range_snapshots::import(&view, target);
    table.does(1, Input::RangeSnapshotStaged(NodeId(1), envelope, state));
    assert!(matches!(table.replies.get(&7), Some(Err(_))), "{:?}", table.replies.get(&7));
    assert!(!matches!(table.replies.get(&8), Some(Ok(_))), "{:?}", table.replies.get(&8));
    // What consensus did not want is emptied.
    let engine = table.cores[&1].machine_of(other).unwrap().state().engine();
    let engine = Arc::clone(engine.inner());
    assert!(crate::boot::partitions_held(&engine).unwrap().contains(&number));
    table.write_ranges(1);
    assert!(!crate::boot::partitions_held(&engine).unwrap().contains(&number));
}
