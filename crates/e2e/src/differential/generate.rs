//! Random steps, and the edge cases that a client can send.
//!
//! Few keys, leases and values, so that steps meet; every field at its edges; and now and then what the API must
//! refuse: empty keys, duplicate keys, too many operations, unknown leases, revisions of the past and the future.
//!
//! Left out on purpose, because etcd up to 3.7.3 ends its process over it: a put that ignores value or lease of a key
//! that the same transaction deletes (`survivable`). Left out too: lease ids that the server would draw.

use bytes::Bytes;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;

use super::{COMPACTED, CURRENT, Step};

/// Randomness from a seed and a stream number (splitmix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The dice of one stream of a seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut dice = Self { state: seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95) };
        dice.roll();
        dice
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, for a `bound` above 0.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing is below 0");
        self.roll() % bound
    }

    /// An index into something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or_default()
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())].clone()
    }
}

const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"a/1",
    b"a/2",
    b"a/3",
    b"a/10",
    b"b/1",
    b"a\x00",
    b"\x00",
    b"\x00\x01",
    b"\xff",
    b"\xff\xff",
    b"z",
    b"a/\xff",
];
const LEASES: &[i64] = &[1, 2, 3, 4, 7, i64::MAX, -5];
const OPS_MAX: usize = 128;

/// The step of this number.
#[must_use]
pub fn step(seed: u64, number: u64) -> Step {
    let dice = &mut Dice::new(seed, number);
    match dice.below(1_000) {
        0..300 => Step::Put(put(dice)),
        300..560 => Step::Range(range(dice)),
        560..650 => Step::DeleteRange(delete(dice)),
        650..900 => Step::Txn(survivable(txn(dice, 0))),
        900..915 => Step::Compact(compact(dice)),
        915..945 => Step::Grant(grant(dice)),
        945..950 => Step::BriefGrant(pb::LeaseGrantRequest {
            ttl: dice.pick(&[0, -1, 1, i64::MIN]),
            id: 99,
        }),
        950..965 => Step::Revoke(pb::LeaseRevokeRequest { id: lease(dice) }),
        965..980 => {
            Step::TimeToLive(pb::LeaseTimeToLiveRequest { id: lease(dice), keys: dice.one_in(2) })
        }
        980..990 => Step::Leases(pb::LeaseLeasesRequest {}),
        _ => Step::KeepAlive(pb::LeaseKeepAliveRequest { id: lease(dice) }),
    }
}

/// One of `odd`, which are refused, now and then; else one of `usual`.
fn rarely(dice: &mut Dice, odd: &[i32], usual: &[i32]) -> i32 {
    let from = if dice.one_in(50) { odd } else { usual };
    dice.pick(from)
}

fn key(dice: &mut Dice) -> Bytes {
    match dice.below(200) {
        0 => Bytes::new(),
        1 => Bytes::from(vec![b'k'; 3_000]),
        _ => Bytes::from_static(dice.pick(KEYS)),
    }
}

/// A first key and an end, in every relation that they can have.
fn span(dice: &mut Dice) -> (Bytes, Bytes) {
    let first = key(dice);
    let end = match dice.below(12) {
        0..4 => Bytes::new(),
        4 => Bytes::from_static(b"\x00"),
        5 => return (Bytes::from_static(b"\x00"), Bytes::from_static(b"\x00")),
        6 => first.clone(),
        7 => [&first[..], b"\x00"].concat().into(),
        8 | 9 => prefix_end(&first),
        _ => key(dice),
    };
    (first, end)
}

fn prefix_end(key: &Bytes) -> Bytes {
    let mut end = key.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\x00")
}

fn value(dice: &mut Dice) -> Bytes {
    match dice.below(100) {
        0..10 => Bytes::new(),
        10..85 => Bytes::from(format!("{}", dice.below(5))),
        85..97 => Bytes::from(format!("{:016x}", dice.roll()).repeat(10)),
        97 | 98 => Bytes::from(vec![0x80; 10_000]),
        _ => match dice.below(40) {
            0 => Bytes::from(vec![b'L'; 1 << 20]),
            // At, and just above, what a request may have in all (1.5 MiB).
            1 => Bytes::from(vec![b'M'; (3 << 19) - 20]),
            2 => Bytes::from(vec![b'N'; (3 << 19) + 1]),
            3 => Bytes::from(vec![b'O'; (2 << 20) + 1]),
            _ => Bytes::from_static(b"\x00\xff\x00"),
        },
    }
}

fn lease(dice: &mut Dice) -> i64 {
    if dice.one_in(8) { dice.pick(&[0, 1_000, -1]) } else { dice.pick(LEASES) }
}

fn near(dice: &mut Dice, base: i64, below: u64, above: i64) -> i64 {
    let down = i64::try_from(dice.below(below)).unwrap_or_default();
    base + above - down
}

/// A revision to read at or to filter by.
fn revision(dice: &mut Dice) -> i64 {
    match dice.below(20) {
        0..6 => 0,
        6 => -1,
        7 => 1,
        8..14 => near(dice, CURRENT, 12, 0),
        14 => near(dice, CURRENT, 200, 0),
        15..18 => near(dice, COMPACTED, 4, 2),
        18 => CURRENT + 1,
        _ => dice.pick(&[i64::MAX, i64::MIN, 2, 1 << 33]),
    }
}

fn filter(dice: &mut Dice) -> i64 {
    if dice.one_in(6) { revision(dice) } else { 0 }
}

fn range(dice: &mut Dice) -> pb::RangeRequest {
    let (key, range_end) = span(dice);
    pb::RangeRequest {
        key,
        range_end,
        limit: dice.pick(&[0, 0, 0, 0, 1, 2, 3, 1_000, -1, i64::MAX]),
        revision: if dice.one_in(2) { 0 } else { revision(dice) },
        sort_order: rarely(dice, &[-1, 3], &[0, 0, 1, 2]),
        sort_target: rarely(dice, &[-1, 5], &[0, 0, 1, 2, 3, 4]),
        serializable: dice.one_in(4),
        keys_only: dice.one_in(5),
        count_only: dice.one_in(8),
        min_mod_revision: filter(dice),
        max_mod_revision: filter(dice),
        min_create_revision: filter(dice),
        max_create_revision: filter(dice),
    }
}

fn put(dice: &mut Dice) -> pb::PutRequest {
    let ignore_value = dice.one_in(12);
    let ignore_lease = dice.one_in(12);
    pb::PutRequest {
        key: key(dice),
        // Mostly as the API wants it: nothing given where it is to be ignored.
        value: if ignore_value && !dice.one_in(5) { Bytes::new() } else { value(dice) },
        lease: if dice.one_in(4) && (!ignore_lease || dice.one_in(5)) { lease(dice) } else { 0 },
        prev_kv: dice.one_in(4),
        ignore_value,
        ignore_lease,
    }
}

fn delete(dice: &mut Dice) -> pb::DeleteRangeRequest {
    let (key, range_end) = span(dice);
    pb::DeleteRangeRequest { key, range_end, prev_kv: dice.one_in(2) }
}

fn compact(dice: &mut Dice) -> pb::CompactionRequest {
    let revision = match dice.below(10) {
        0..5 => near(dice, CURRENT, 60, -5),
        5 => CURRENT,
        6 => CURRENT + 1,
        7 => COMPACTED,
        _ => revision(dice),
    };
    pb::CompactionRequest { revision, physical: dice.one_in(2) }
}

fn grant(dice: &mut Dice) -> pb::LeaseGrantRequest {
    let ttl = dice.pick(&[100, 500, 1_000, 100_000, 9_000_000_000, 9_000_000_001, i64::MAX]);
    pb::LeaseGrantRequest { ttl, id: dice.pick(LEASES) }
}

fn compare(dice: &mut Dice) -> pb::Compare {
    let target = dice.pick(&[
        CompareTarget::Version,
        CompareTarget::Create,
        CompareTarget::Mod,
        CompareTarget::Value,
        CompareTarget::Lease,
    ]);
    let of = if dice.one_in(15) {
        dice.pick(&[CompareTarget::Version, CompareTarget::Mod])
    } else {
        target
    };
    let union = match of {
        CompareTarget::Version => TargetUnion::Version(dice.pick(&[0, 1, 2, 3, -1])),
        CompareTarget::Create => TargetUnion::CreateRevision(compared_revision(dice)),
        CompareTarget::Mod => TargetUnion::ModRevision(compared_revision(dice)),
        CompareTarget::Value => TargetUnion::Value(value(dice)),
        CompareTarget::Lease => TargetUnion::Lease(dice.pick(&[0, 0, 1, 2, 3])),
    };
    let (first, end) = if dice.one_in(5) { span(dice) } else { (key(dice), Bytes::new()) };
    pb::Compare {
        result: dice.pick(&[0, 0, 1, 2, 3]),
        target: target as i32,
        key: first,
        range_end: end,
        target_union: if dice.one_in(25) { None } else { Some(union) },
    }
}

fn compared_revision(dice: &mut Dice) -> i64 {
    if dice.one_in(3) { dice.pick(&[0, 1, 2, -1]) } else { near(dice, CURRENT, 10, 0) }
}

fn txn(dice: &mut Dice, depth: u32) -> pb::TxnRequest {
    let compares = dice.pick(&[0, 0, 1, 1, 1, 2, 3]);
    pb::TxnRequest {
        compare: (0..compares).map(|_| compare(dice)).collect(),
        success: ops(dice, depth),
        failure: ops(dice, depth),
    }
}

/// Takes from a transaction what would end a real etcd: a delete without an upper end is not seen by its check for
/// overlaps, so that a put may find the key gone whose value or lease it was told to keep.
fn survivable(mut txn: pb::TxnRequest) -> pb::TxnRequest {
    if deletes_without_end(&txn) {
        keep_nothing(&mut txn);
    }
    txn
}

fn deletes_without_end(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(delete)) => delete.range_end[..] == *b"\x00",
        Some(Request::RequestTxn(inner)) => deletes_without_end(inner),
        _ => false,
    })
}

fn keep_nothing(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
            Some(Request::RequestTxn(inner)) => keep_nothing(inner),
            _ => {}
        }
    }
}

fn ops(dice: &mut Dice, depth: u32) -> Vec<pb::RequestOp> {
    let count = match dice.below(60) {
        // Around the bound on operations; reads, so that no duplicate is met first.
        0 if depth < 2 => {
            let count = OPS_MAX - 1 + dice.index(3);
            let get = pb::RangeRequest { key: Bytes::from_static(b"a"), ..Default::default() };
            return vec![pb::RequestOp { request: Some(Request::RequestRange(get)) }; count];
        }
        0..15 => 0,
        15..40 => 1,
        40..50 => 2,
        50..56 => 3,
        _ => 5,
    };
    (0..count).map(|_| op(dice, depth)).collect()
}

fn op(dice: &mut Dice, depth: u32) -> pb::RequestOp {
    let request = match dice.below(20) {
        0..8 => Some(Request::RequestPut(put(dice))),
        8..13 => Some(Request::RequestRange(range(dice))),
        13..16 => Some(Request::RequestDeleteRange(delete(dice))),
        16..19 if depth < 3 => Some(Request::RequestTxn(txn(dice, depth + 1))),
        _ if dice.one_in(4) => None,
        _ => Some(Request::RequestPut(put(dice))),
    };
    pb::RequestOp { request }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_function_of_seed_and_number() {
        for number in 0..200 {
            assert_eq!(step(7, number), step(7, number));
        }
        assert!((0..200).any(|number| step(7, number) != step(8, number)));
    }

    #[test]
    fn every_kind_of_step_comes_up() {
        let mut kinds = std::collections::BTreeSet::new();
        for number in 0..5_000 {
            let text = format!("{:?}", step(1, number));
            kinds.insert(text.split('(').next().unwrap().to_owned());
        }
        assert_eq!(kinds.len(), 11, "{kinds:?}");
    }

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(&Bytes::from_static(b"a/")), Bytes::from_static(b"a0"));
        assert_eq!(prefix_end(&Bytes::from_static(b"a\xff")), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(&Bytes::from_static(b"\xff")), Bytes::from_static(b"\x00"));
    }
}
