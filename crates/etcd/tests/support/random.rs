//! Requests from a seed: few keys, so that they meet, and every edge now and then.

use bytes::Bytes;
use etcd::Request;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request as Op;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

const KEYS: [&[u8]; 9] = [b"a", b"ab", b"b", b"b\0", b"c", b"d", b"da", b"e", b"\xff"];
const VALUES: [&[u8]; 4] = [b"", b"1", b"2", b"10"];
pub const LEASES: [i64; 5] = [1, 2, 3, -5, i64::MAX];

fn key(random: &mut Random) -> Bytes {
    if random.one_in(60) { Bytes::new() } else { Bytes::from_static(random.pick(&KEYS)) }
}

fn end(random: &mut Random) -> Bytes {
    match random.below(5) {
        0 | 1 => Bytes::new(),
        2 => Bytes::from_static(b"\0"),
        _ => Bytes::from_static(random.pick(&KEYS)),
    }
}

fn revision(random: &mut Random, newest: i64) -> i64 {
    match random.below(12) {
        0 => -1,
        1 => -2,
        2 => newest,
        3 => newest + 1,
        4 => newest + 2,
        5 | 6 => 1 + i64::try_from(random.below(usize::try_from(newest).unwrap())).unwrap(),
        _ => 0,
    }
}

fn bound(random: &mut Random, newest: i64) -> i64 {
    if random.one_in(6) { revision(random, newest) } else { 0 }
}

pub fn range(random: &mut Random, newest: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key(random),
        range_end: end(random),
        limit: random.pick(&[0, 0, 0, 1, 2, 3, -1, i64::MAX]),
        revision: revision(random, newest),
        sort_order: if random.one_in(50) { 3 } else { random.pick(&[0, 0, 1, 2]) },
        sort_target: if random.one_in(50) { -1 } else { random.pick(&[0, 0, 1, 2, 3, 4]) },
        serializable: random.one_in(4),
        keys_only: random.one_in(5),
        count_only: random.one_in(6),
        min_mod_revision: bound(random, newest),
        max_mod_revision: bound(random, newest),
        min_create_revision: bound(random, newest),
        max_create_revision: bound(random, newest),
    }
}

pub fn put(random: &mut Random) -> pb::PutRequest {
    let ignore_value = random.one_in(8);
    let ignore_lease = random.one_in(8);
    let keep = |random: &mut Random, ignore: bool| !ignore || random.one_in(6);
    let value = if keep(random, ignore_value) { random.pick(&VALUES) } else { b"" };
    let lease = random.pick(&[0, 0, 0, 1, 2, -5, 99]);
    let lease = if keep(random, ignore_lease) { lease } else { 0 };
    pb::PutRequest {
        key: key(random),
        value: Bytes::from_static(value),
        lease,
        prev_kv: random.one_in(3),
        ignore_value,
        ignore_lease,
    }
}

pub fn delete(random: &mut Random) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: key(random), range_end: end(random), prev_kv: random.one_in(2) }
}

fn compare(random: &mut Random, newest: i64) -> pb::Compare {
    let number = i64::try_from(random.below(usize::try_from(newest).unwrap() + 2)).unwrap();
    let target_union = match random.below(7) {
        0 => None,
        1 => Some(TargetUnion::Version(random.pick(&[0, 1, 2]))),
        2 => Some(TargetUnion::CreateRevision(number)),
        3 => Some(TargetUnion::ModRevision(number)),
        4 | 5 => Some(TargetUnion::Value(Bytes::from_static(random.pick(&VALUES)))),
        _ => Some(TargetUnion::Lease(random.pick(&[0, 1, 2]))),
    };
    let matching = match target_union {
        None | Some(TargetUnion::Version(_)) => 0,
        Some(TargetUnion::CreateRevision(_)) => 1,
        Some(TargetUnion::ModRevision(_)) => 2,
        Some(TargetUnion::Value(_)) => 3,
        Some(TargetUnion::Lease(_)) => 4,
    };
    let target = if random.one_in(10) { random.pick(&[0, 1, 2, 3, 4, 5]) } else { matching };
    let result = if random.one_in(30) { 7 } else { random.pick(&[0, 1, 2, 3]) };
    let range_end = if random.one_in(3) { end(random) } else { Bytes::new() };
    pb::Compare { result, target, key: key(random), range_end, target_union }
}

fn ops(random: &mut Random, newest: i64, depth: usize) -> Vec<pb::RequestOp> {
    (0..random.below(4))
        .map(|_| {
            let request = match random.below(if depth == 0 { 6 } else { 9 }) {
                0 | 1 => Some(Op::RequestRange(range(random, newest))),
                2 | 3 => Some(Op::RequestPut(put(random))),
                4 => Some(Op::RequestDeleteRange(delete(random))),
                5 if random.one_in(20) => None,
                5 => Some(Op::RequestPut(put(random))),
                _ => Some(Op::RequestTxn(txn(random, newest, depth - 1))),
            };
            pb::RequestOp { request }
        })
        .collect()
}

pub fn txn(random: &mut Random, newest: i64, depth: usize) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: (0..random.below(3)).map(|_| compare(random, newest)).collect(),
        success: ops(random, newest, depth),
        failure: ops(random, newest, depth),
    }
}

pub fn request(random: &mut Random, newest: i64) -> Request {
    match random.below(40) {
        0..=9 => Request::Range(range(random, newest)),
        10..=19 => Request::Put(put(random)),
        20..=22 => Request::DeleteRange(delete(random)),
        23..=32 => Request::Txn(txn(random, newest, 3)),
        33 if random.one_in(3) => {
            let near = newest - i64::try_from(random.below(8)).unwrap();
            let revision = if random.one_in(4) { revision(random, newest) } else { near };
            Request::Compact(pb::CompactionRequest { revision, physical: random.one_in(2) })
        }
        33..=35 => Request::LeaseGrant(pb::LeaseGrantRequest {
            ttl: random.pick(&[-1, 0, 1, 60, 9_000_000_000, 9_000_000_001]),
            id: random.pick(&LEASES),
        }),
        36 => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: random.pick(&[0, 1, 2, 3, -5]) }),
        37 => Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: random.pick(&LEASES) }),
        38 => Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest {
            id: random.pick(&LEASES),
            keys: random.one_in(2),
        }),
        _ => Request::LeaseGrant(pb::LeaseGrantRequest { ttl: 100, id: random.pick(&[1, 2]) }),
    }
}
