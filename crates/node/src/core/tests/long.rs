//! Requests that look at many keys, and entries that change many: only their own range waits.

use super::*;

const RANGE: RangeId = RangeId(RANGES[0]);
/// Keys that a request looks at before it takes long.
const ROWS: usize = 4;
const KEYS: u64 = 10;

fn key(number: u64) -> Bytes {
    format!("k{number:02}").into()
}

fn delete_all() -> Request {
    let range_end = Bytes::from_static(b"\0");
    Request::DeleteRange(ep::DeleteRangeRequest {
        key: range_end.clone(),
        range_end,
        prev_kv: true,
    })
}

fn put_request(key: Bytes) -> Request {
    Request::Put(ep::PutRequest { key, ..Default::default() })
}

fn ask(token: u64, request: Request) -> Input<MemEngine> {
    Input::Client(Token(token), request)
}

fn deleted(reply: Option<&Result<Response, Error>>) -> i64 {
    let Some(Ok(Response::DeleteRange(response))) = reply else { panic!("{reply:?}") };
    assert_eq!(usize::try_from(response.deleted), Ok(response.prev_kvs.len()));
    response.deleted
}

impl Table {
    /// A table on which node 1 leads and the dense range has some keys.
    fn with_keys() -> Table {
        let mut table = Table::with_rows_at_once(ROWS);
        table.elect(1, &NODES);
        for number in 0..KEYS {
            table.does(1, ask(number, put_request(key(number))));
            table.settle(&NODES);
        }
        assert!(table.work.is_empty(), "one key is not many");
        table
    }

    /// Everything, until nothing is left to be done or to arrive.
    fn settle_with_work(&mut self) {
        loop {
            self.settle(&NODES);
            for node in NODES {
                if self.cores[&node].next_deadline() == Some(Duration::ZERO) {
                    self.does(node, Input::Tick);
                }
            }
            let worked = NODES.map(|node| self.work(node));
            if !worked.contains(&true) && self.frames.is_empty() {
                break;
            }
        }
    }

    fn live_keys(&self, node: u64) -> u64 {
        self.cores[&node].machine().state().live_keys()
    }
}

/// While one range is busy, others are served, and so are its own reads; its own writes have their turn
/// afterwards, in their order.
#[test]
fn a_long_request_delays_its_own_range_only() {
    let mut table = Table::with_rows_at_once(ROWS).and_ranges();
    table.elect(1, &NODES);
    let in_range = |token, request| Input::ClientOf(RANGE, Token(token), request);
    for number in 0..KEYS {
        table.does(1, in_range(number, put_request(key(number))));
        table.settle(&NODES);
    }
    table.does(1, in_range(100, delete_all()));
    table.does(2, in_range(101, put_request(key(3))));
    table.does(1, in_range(102, put_request(key(4))));
    table.put_in(2, RANGES[1], 103);
    table.put(3, 104, "k");
    table.settle(&NODES);
    assert_eq!(table.work.len(), 1);
    for token in [103, 104] {
        assert!(is_put(table.replies.get(&token)), "another range waits for it: {token}");
    }
    for token in [100, 101, 102] {
        assert!(!table.replies.contains_key(&token), "{token}");
    }
    assert!(table.work(1), "it is evaluated");
    table.settle(&NODES);
    assert_eq!(table.work.len(), 3, "and each member has to apply it");
    assert!(!table.replies.contains_key(&100));
    table.put_in(2, RANGES[1], 105);
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&105)), "another range waits while it is applied");
    table.settle_with_work();
    assert_eq!(deleted(table.replies.get(&100)), KEYS.cast_signed());
    assert!(is_put(table.replies.get(&101)) && is_put(table.replies.get(&102)));
    for node in NODES {
        assert_eq!(table.cores[&node].machine_of(RANGE).unwrap().state().live_keys(), 2);
    }
}

/// What is in flight when a long request comes is seen by it.
#[test]
fn a_long_request_waits_for_what_is_in_flight() {
    let mut table = Table::with_keys();
    table.does(1, ask(100, put_request(key(50))));
    table.does(1, ask(101, delete_all()));
    assert!(table.work.is_empty(), "a put is in flight");
    table.settle(&NODES);
    assert_eq!(table.work.len(), 1);
    table.settle_with_work();
    assert!(is_put(table.replies.get(&100)));
    assert_eq!(deleted(table.replies.get(&101)), KEYS.cast_signed() + 1);
    assert_eq!(NODES.map(|node| table.live_keys(node)), [0; 3]);
}

/// With the leadership goes what was not proposed: the next leader is asked, once.
#[test]
fn a_long_request_goes_to_the_next_leader() {
    let mut table = Table::with_keys();
    table.does(1, ask(100, delete_all()));
    assert_eq!(table.work.len(), 1);
    let (_, early) = table.work.remove(0);
    table.elect(2, &[2, 3]);
    table.settle(&NODES);
    assert_eq!(table.cores[&1].standing().leader, Some(NodeId(2)));
    table.does(1, Input::Worked(early.run()));
    table.settle_with_work();
    assert_eq!(deleted(table.replies.get(&100)), KEYS.cast_signed());
    assert_eq!(NODES.map(|node| table.live_keys(node)), [0; 3]);
}

/// Who has waited too long is told so, and nothing comes of the request any more.
#[test]
fn a_long_request_may_take_too_long() {
    let mut table = Table::with_keys();
    table.does(1, ask(100, delete_all()));
    table.does(1, ask(101, put_request(key(60))));
    for _ in 0..80 {
        table.now += Duration::from_millis(100);
        table.does(1, Input::Tick);
        table.settle(&NODES);
    }
    assert_eq!(table.replies.get(&100), Some(&Err(Error::Timeout)));
    assert_eq!(table.replies.get(&101), Some(&Err(Error::Timeout)));
    table.does(1, ask(102, put_request(key(61))));
    assert!(!table.replies.contains_key(&102), "the thread has not come back");
    table.settle_with_work();
    assert!(is_put(table.replies.get(&102)));
    assert_eq!(NODES.map(|node| table.live_keys(node)), [KEYS + 1; 3]);
}

/// A snapshot that takes the place of a state forgets the entry that was being put there.
#[test]
fn a_snapshot_goes_over_a_long_entry() {
    let mut table = Table::with_keys();
    table.does(1, ask(100, delete_all()));
    table.work(1);
    table.settle(&NODES);
    let at = table.work.iter().position(|(node, _)| *node == 3).unwrap();
    let (_, late) = table.work.remove(at);
    while table.work(1) || table.work(2) {
        table.settle(&[1, 2]);
    }
    assert_eq!((table.live_keys(1), table.live_keys(3)), (0, KEYS));
    for number in 0..2 * CATCHUP {
        table.does(1, ask(200 + number, put_request(key(number % 3))));
        table.settle(&[1, 2]);
    }
    table.frames.clear();
    let send = raft::SendSnapshot {
        to: replica(3),
        term: table.cores[&1].standing().term,
        session: raft::Session(raft::LogIndex(2)),
        at_least: raft::LogIndex(1),
    };
    let out = SnapshotOut { range: RangeId::DENSE, node: NodeId(3), send, from: replica(1) };
    let view = table.cores[&1].machine().view();
    let (_, envelope) = snapshot_message(&out, &view).unwrap();
    let state = pins::import_whole(&view);
    table.does(3, Input::SnapshotStaged(NodeId(1), envelope, state));
    assert_eq!(table.live_keys(3), 3);
    table.does(3, Input::Worked(late.run()));
    table.settle_with_work();
    table.does(1, ask(500, put_request(key(9))));
    table.settle_with_work();
    assert_eq!(NODES.map(|node| table.live_keys(node)), [4; 3]);
}

/// An answer that is too long to be passed on does not say that nothing was done.
#[test]
fn a_done_deletion_with_a_long_answer_is_not_told_to_be_undone() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    for number in 0..190 {
        let value = Bytes::from(vec![b'v'; 1_450_000]);
        let put = ep::PutRequest { key: key(number), value, ..Default::default() };
        table.does(1, ask(number, Request::Put(put)));
        table.settle(&[1, 2]);
        table.frames.clear();
    }
    assert_eq!(table.live_keys(1), 190);
    table.does(2, ask(999, delete_all()));
    table.settle(&[1, 2]);
    assert_eq!(table.live_keys(1), 0);
    let Some(Err(error)) = table.replies.get(&999) else { panic!("it is not so long") };
    assert_eq!((error, error.effect()), (&Error::AnswerTooLong, etcd::Effect::Unknown));
}

/// A transaction that writes one key may read all of them: not at the cost of others.
#[test]
fn a_transaction_that_reads_much_takes_long() {
    use ep::request_op::Request as Op;
    let mut table = Table::with_keys();
    let op = |request| ep::RequestOp { request: Some(request) };
    let read = ep::RangeRequest { key: key(0), range_end: key(90), ..Default::default() };
    let put = ep::PutRequest { key: key(7), ..Default::default() };
    let compare = ep::Compare {
        key: key(0),
        range_end: key(90),
        result: ep::compare::CompareResult::Greater as i32,
        target: ep::compare::CompareTarget::Version as i32,
        target_union: Some(ep::compare::TargetUnion::Version(0)),
    };
    let reads = ep::TxnRequest {
        success: vec![op(Op::RequestPut(put.clone())), op(Op::RequestRange(read))],
        ..Default::default()
    };
    let compares = ep::TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put))],
        ..Default::default()
    };
    for (token, txn) in [(100, reads), (101, compares)] {
        table.does(1, ask(token, Request::Txn(txn)));
        assert_eq!(table.work.len(), 1);
        table.settle_with_work();
        let Some(Ok(Response::Txn(response))) = table.replies.get(&token) else {
            panic!("{token}")
        };
        assert!(response.succeeded);
    }
}

/// A sign of life that came in time is not late because its range was busy.
#[test]
fn a_sign_of_life_waits_and_is_in_time() {
    let mut table = Table::with_keys();
    let grant = ep::LeaseGrantRequest { ttl: 2, id: 7 };
    table.does(1, ask(50, Request::LeaseGrant(grant)));
    table.settle(&NODES);
    let beat = |table: &mut Table, times: u32| {
        for _ in 0..times {
            table.now += Duration::from_millis(100);
            table.does(1, Input::Tick);
            table.settle(&NODES);
        }
    };
    beat(&mut table, 10);
    table.does(1, ask(100, delete_all()));
    beat(&mut table, 5);
    let alive = || Request::LeaseKeepAlive(ep::LeaseKeepAliveRequest { id: 7 });
    table.does(1, ask(101, alive()));
    beat(&mut table, 10);
    table.does(1, ask(102, alive()));
    assert!(!table.replies.contains_key(&101), "the range is busy");
    table.settle_with_work();
    for (token, ttl) in [(101, 2), (102, 2)] {
        let Some(Ok(Response::LeaseKeepAlive(answer))) = table.replies.get(&token) else {
            panic!("{:?}", table.replies.get(&token))
        };
        assert_eq!(
            answer.ttl, ttl,
            "{token}: the first has moved the end, and the second finds it"
        );
    }
}

/// A lease has its whole time from when somebody else leads, and ends then.
#[test]
pub(super) fn a_lease_ends_under_the_next_leader() {
    let mut table = Table::with_keys();
    let grant = ep::LeaseGrantRequest { ttl: 2, id: 7 };
    table.does(1, ask(50, Request::LeaseGrant(grant)));
    table.settle(&NODES);
    table.elect(2, &NODES);
    let leases = |table: &Table| etcd::leases(&table.cores[&2].machine().view()).unwrap().len();
    assert_eq!(leases(&table), 1);
    for _ in 0..60 {
        table.now += Duration::from_millis(100);
        table.does(2, Input::Tick);
        table.settle(&NODES);
    }
    assert_eq!(leases(&table), 0);
}

/// Many short entries are applied some at a time, however few of them are handed out at once.
#[test]
fn many_entries_are_applied_in_turns() {
    let mut table = Table::with_rows_at_once(ROWS);
    let limits = table.cores[&3].machine().config().limits.clone();
    let raft = raft::Config { committed_bytes_max: 1, ..raft::Config::new(replica(3), 33) };
    let (config, raft, machine) = parts(3, raft, limits);
    table.cores.insert(3, Core::new(CoreConfig { apply_at_once: 10, ..config }, raft, machine));
    table.elect(1, &NODES);
    table.settle_with_work();
    for number in 0..50 {
        table.step(1, ask(100 + number, put_request(key(number))));
    }
    table.flush(1);
    table.settle(&NODES);
    assert_eq!(table.live_keys(1), 50);
    let standing = table.cores[&3].standing();
    let behind = standing.committed.0 - standing.applied.0;
    assert!(behind > 0, "it had its turn, and others have theirs");
    assert_eq!(table.cores[&3].next_deadline(), Some(Duration::ZERO));
    let mut turns = 0;
    while table.cores[&3].next_deadline() == Some(Duration::ZERO) {
        table.does(3, Input::Tick);
        turns += 1;
    }
    assert_eq!(table.live_keys(3), 50);
    assert!((8..=10).contains(&turns), "an entry and a change each: {turns}");
}

/// A member that catches up with many long entries can write its state down between two of them: else what is
/// in memory grows with all that it lacks.
#[test]
fn a_checkpoint_finds_a_moment_between_long_entries() {
    use ep::request_op::Request as Op;
    let mut table = Table::with_rows_at_once(ROWS);
    let limits = table.cores[&3].machine().config().limits.clone();
    // As with entries of 4 MiB and more: each is a delivery of its own, and another is made for each that is applied.
    let raft = raft::Config {
        committed_bytes_max: 1,
        applying_bytes_max: 1,
        ..raft::Config::new(replica(3), 33)
    };
    let (config, raft, machine) = parts(3, raft, limits);
    table.cores.insert(3, Core::new(config, raft, machine));
    table.elect(1, &NODES);
    table.settle_with_work();
    const ENTRIES: u64 = 50;
    for number in 0..ENTRIES {
        let put =
            |at| ep::PutRequest { key: format!("k{number}-{at}").into(), ..Default::default() };
        let success =
            (0..2 * ROWS).map(|at| ep::RequestOp { request: Some(Op::RequestPut(put(at))) });
        let txn = ep::TxnRequest { success: success.collect(), ..Default::default() };
        table.step(1, ask(100 + number, Request::Txn(txn)));
    }
    table.flush(1);
    table.settle(&NODES);
    while table.work(1) || table.work(2) {
        table.settle(&NODES);
    }
    table.settle(&NODES);
    let (mut worked, mut moments) = (0, 0);
    loop {
        // The driver's turn: take in, flush, and then see whether a checkpoint may begin.
        let did = table.work(3);
        worked += u64::from(did);
        moments += u64::from(did && !table.cores[&3].machine().state().is_inserting());
        if !did && table.cores[&3].next_deadline() != Some(Duration::ZERO) {
            break;
        }
        if !did {
            table.does(3, Input::Tick);
        }
    }
    assert_eq!(table.live_keys(3), ENTRIES * 2 * ROWS as u64);
    assert!(moments > worked / 2, "{moments} moments in {worked} entries");
}
