//! What does more than an entry holds, and entries of just what they may hold.

use env::SimDisk;
use raft::{LogPosition, Payload};
use storage::Log;
use storage::log::{GroupWrite, Options};

use super::*;

/// Bytes of the names of large keys: a put of one is a request of the longest, nearly.
const NAME_BYTES: usize = 1_500_000;

fn large_key(number: u8) -> Bytes {
    Bytes::from(vec![b'a' + number; NAME_BYTES])
}

fn delete(from: Bytes, to: Bytes) -> Request {
    Request::DeleteRange(ep::DeleteRangeRequest { key: from, range_end: to, prev_kv: false })
}

fn delete_all() -> Request {
    delete(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"))
}

impl Table {
    pub(super) fn with_limits(limits: &etcd::Limits, entry_bytes_max: usize) -> Table {
        let core = |node| (node, core_with(node, limits.clone(), entry_bytes_max));
        Table::with(NODES.map(core).into())
    }

    fn put_large(&mut self, node: u64, count: u8, lease: i64) {
        for number in 0..count {
            let put = ep::PutRequest { key: large_key(number), lease, ..Default::default() };
            let token = u64::from(number);
            self.does(node, Input::Client(Token(token), Request::Put(put)));
            self.settle(&NODES);
            assert!(is_put(self.replies.get(&token)), "{:?}", self.replies.get(&token));
        }
    }

    fn grant(&mut self, node: u64, ttl: i64) {
        let grant = Request::LeaseGrant(ep::LeaseGrantRequest { ttl, id: 7 });
        self.does(node, Input::Client(Token(1000), grant));
        self.settle(&NODES);
        assert!(matches!(self.replies.get(&1000), Some(Ok(_))));
    }

    /// The next write of a node and what a log on a disk says to it: bytes of its longest entry.
    fn written(&mut self, node: u64) -> usize {
        let now = self.now;
        let effects = self.cores.get_mut(&node).unwrap().flush(now).unwrap();
        self.replies.extend(effects.replies.into_iter().map(|(token, reply)| (token.0, reply)));
        let mut longest = 0;
        let mut written = None;
        for write in effects.writes {
            for group in &write.groups {
                let Some(first) = group.entries.first() else { continue };
                let lengths = group.entries.iter().map(|entry| match &entry.payload {
                    Payload::Data(data) => data.len(),
                    _ => 0,
                });
                longest = longest.max(lengths.max().unwrap_or(0));
                let before = LogPosition { index: first.index.prev().unwrap(), term: first.term };
                let append = GroupWrite {
                    reset: Some(before),
                    entries: group.entries.clone(),
                    ..GroupWrite::new(group.range.group())
                };
                let log = Log::open(SimDisk::new(1), "/log".as_ref(), Options::default());
                log.unwrap().0.append(&[append]).unwrap();
            }
            written = Some(write.id);
            self.frames.extend(write.then.into_iter().map(|out| (node, out.to.0, out.bytes)));
        }
        self.frames.extend(effects.send.into_iter().map(|out| (node, out.to.0, out.bytes)));
        if let Some(id) = written {
            self.does(node, Input::LogWritten(id));
        }
        longest
    }

    /// Time goes by, and everybody hears from everybody.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now += Duration::from_millis(50);
            for node in NODES {
                if self.cores[&node].next_deadline().is_some_and(|due| due <= self.now) {
                    self.does(node, Input::Tick);
                }
            }
            self.settle(&NODES);
        }
    }

    fn keys(&self, node: u64) -> u64 {
        self.cores[&node].machine().state().live_keys()
    }
}

#[test]
fn a_deletion_of_more_keys_than_an_entry_holds_is_refused() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    table.put_large(1, 24, 0);
    table.step(1, Input::Client(Token(99), delete_all()));
    assert_eq!(table.written(1), 0);
    table.settle(&NODES);
    // A read, so that it is told once the member knows that it leads.
    assert_eq!(table.replies.get(&99), Some(&Err(Error::RequestTooLarge)));
    assert_eq!(table.keys(2), 24);
    for (token, from, to) in [(100, "a", "i"), (101, "i", "q"), (102, "q", "z")] {
        let some = delete(from.into(), to.into());
        table.step(1, Input::Client(Token(token), some));
        let longest = table.written(1);
        assert!(longest > 8 * NAME_BYTES, "{longest} bytes: {:?}", table.replies.get(&token));
        table.settle(&NODES);
        assert!(matches!(table.replies.get(&token), Some(Ok(Response::DeleteRange(_)))));
    }
    assert!(NODES.iter().all(|&node| table.keys(node) == 0));
}

#[test]
fn a_lease_with_more_keys_than_an_entry_holds_ends_whoever_leads() {
    let mut table = Table::new();
    table.elect(1, &NODES);
    table.grant(1, 2);
    table.put_large(1, 24, 7);
    table.pass(1950);
    assert_eq!(table.keys(1), 24);
    table.now += Duration::from_millis(50);
    let mut left = vec![24];
    let mut leader = 1;
    while *left.last().unwrap() > 0 {
        if left.len() == 3 {
            leader = 2;
            table.frames.clear();
            table.elect(2, &[2, 3]);
        }
        table.step(leader, Input::Tick);
        let longest = table.written(leader);
        assert!(longest <= etcd::Limits::default().effects_bytes_max, "{longest}");
        table.settle(if leader == 1 { &NODES } else { &[2, 3] });
        left.push(table.keys(leader));
        assert!(left.len() < 100, "{left:?}");
    }
    left.dedup();
    assert!(left.len() > 3, "in parts: {left:?}");
    assert_eq!(leader, 2, "{left:?}");
    assert_eq!(table.keys(3), 0);
    assert_eq!(etcd::leases(&table.cores[&3].machine().view()), Ok(vec![]));
}

/// Deleted by a member that passes it on; so many keys that the effects are as long as they may be.
#[test]
fn an_entry_of_the_longest_passes_between_members() {
    let limits = etcd::Limits { max_request_bytes: 15 << 20, ..etcd::Limits::default() };
    let effects_bytes_max = limits.effects_bytes_max;
    let mut table = Table::with_limits(&limits, Options::default().entry_bytes_max());
    table.elect(1, &NODES);
    for (token, bytes) in [(0, 14 << 20), (1, (2 << 20) - 70)] {
        let key = Bytes::from(vec![b'a' + u8::try_from(token).unwrap(); bytes]);
        let put = Request::Put(ep::PutRequest { key, ..Default::default() });
        table.does(2, Input::Client(Token(token), put));
        table.settle(&NODES);
        assert!(is_put(table.replies.get(&token)), "{:?}", table.replies.get(&token));
    }
    table.does(2, Input::Client(Token(2), delete_all()));
    let forwards = table.take(2, 1);
    for frame in forwards {
        table.step(1, Input::Frame(NodeId(2), frame));
    }
    let longest = table.written(1);
    assert!((effects_bytes_max - 50..=effects_bytes_max).contains(&longest), "{longest}");
    table.settle(&NODES);
    assert!(matches!(table.replies.get(&2), Some(Ok(Response::DeleteRange(_)))));
    assert!(NODES.iter().all(|&node| table.keys(node) == 0));
}

#[test]
fn what_the_log_does_not_take_is_not_proposed() {
    let mut table = Table::with_limits(&etcd::Limits::default(), 1000);
    table.elect(1, &NODES);
    table.grant(1, 10);
    let put = |key: &str, bytes: usize| {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), vec![0; bytes].into());
        Request::Put(ep::PutRequest { key, value, lease: 7, ..Default::default() })
    };
    for (token, bytes) in [(0, 1), (1, 2000), (2, 1)] {
        table.step(1, Input::Client(Token(token), put("k", bytes)));
    }
    table.flush(1);
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&0)) && is_put(table.replies.get(&2)));
    assert_eq!(table.replies.get(&1), Some(&Err(Error::RequestTooLarge)));
    // An end that is too long is tried again after a while, and the member lives on.
    for token in 3..30 {
        table.does(1, Input::Client(Token(token), put(&format!("{token:040}"), 1)));
        table.settle(&NODES);
    }
    table.pass(11_000);
    assert_eq!(table.keys(1), 28);
    assert!(table.cores[&1].next_deadline().unwrap() > table.now);
    table.does(1, Input::Client(Token(40), put("other", 1)));
    table.settle(&NODES);
    assert!(is_put(table.replies.get(&40)));
}

/// The driver steps the core as soon as its deadline has come; one in the past would keep it busy.
#[test]
fn the_end_of_a_lease_waits_for_room_in_flight() {
    let limits = etcd::Limits { max_proposals_in_flight: 3, ..etcd::Limits::default() };
    let mut table = Table::with_limits(&limits, Options::default().entry_bytes_max());
    table.elect(1, &NODES);
    table.grant(1, 2);
    table.pass(1950);
    for token in 0..3 {
        table.put(1, token, "k");
    }
    table.now += Duration::from_millis(50);
    table.does(1, Input::Tick);
    let deadline = table.cores[&1].next_deadline().unwrap();
    assert!(deadline > table.now, "{deadline:?} at {:?}", table.now);
    table.settle(&NODES);
    assert_eq!(table.cores[&1].next_deadline(), Some(table.now), "there is room");
    table.does(1, Input::Tick);
    table.settle(&NODES);
    assert_eq!(etcd::leases(&table.cores[&2].machine().view()), Ok(vec![]));
}
