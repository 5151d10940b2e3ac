//! Leases under random requests, times and changes of leadership, beside a model that knows when
//! each may end: never before the time that its client was promised, and at that time at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use etcd::{Error, Limits};
use proto::etcdserverpb as pb;

use super::random::Random;
use super::{Solo, put};

const SECOND: Duration = Duration::from_secs(1);

/// A lease as its client knows it.
struct Promise {
    ttl: Duration,
    until: Duration,
}

/// Keys of a lease, and bytes of effects that hold the deletions of some of them.
const KEYS: u64 = 5;
const SMALL_BYTES: usize = 220;

/// Lives through a seed. With some, no entry holds all keys of a lease.
pub fn go(seed: u64) {
    let mut random = Random(seed);
    let in_parts = seed % 2 == 1;
    let effects_bytes_max = if in_parts { SMALL_BYTES } else { usize::MAX };
    // A new leader's promise is exactly the TTL.
    let limits = Limits { lease_extension: Duration::ZERO, effects_bytes_max, ..Limits::default() };
    // In some seeds nearly everything takes long.
    let rows_at_once = if seed % 3 == 2 { 3 } else { limits.rows_at_once };
    let limits = Limits { rows_at_once, ..limits };
    let mut solo = Solo::with(limits);
    let mut promises: BTreeMap<i64, Promise> = BTreeMap::new();
    for _ in 0..200 {
        let id = 1 + i64::try_from(random.below(6)).unwrap();
        match random.below(10) {
            0..3 => {
                let ttl_s = 2 + u32::try_from(random.below(8)).unwrap();
                let granted = solo.grant(id, i64::from(ttl_s));
                if let Entry::Vacant(vacant) = promises.entry(id) {
                    let ttl = SECOND * ttl_s;
                    assert_eq!(granted.unwrap().ttl, i64::from(ttl_s), "seed {seed}");
                    vacant.insert(Promise { ttl, until: solo.now + ttl });
                    for key in 0..KEYS {
                        solo.put(leased(id, key)).unwrap();
                    }
                } else {
                    assert_eq!(granted, Err(Error::LeaseExist), "seed {seed}");
                }
            }
            3..5 => {
                let answered = solo.keep_alive(id);
                let promise = promises.get_mut(&id);
                let ttl_s = promise.as_ref().map_or(0, |promise| promise.ttl.as_secs());
                assert_eq!(answered, i64::try_from(ttl_s).unwrap(), "seed {seed}");
                if let Some(promise) = promise {
                    promise.until = solo.now + promise.ttl;
                }
            }
            5 => {
                next_leader(&mut solo, &mut promises);
            }
            6 => {
                let revoked = solo.revoke(id);
                if in_parts && promises.contains_key(&id) {
                    assert_eq!(revoked, Err(Error::RequestTooLarge), "seed {seed}");
                } else {
                    assert_eq!(revoked.is_ok(), promises.remove(&id).is_some(), "seed {seed}");
                }
            }
            _ => {
                let passed = u32::try_from(1 + random.below(1500)).unwrap();
                solo.now += Duration::from_millis(1) * passed;
            }
        }
        while solo.expire() > 0 {
            if in_parts && random.one_in(10) {
                // Those whose end has begun have no promise any more; the others due have a new one.
                let listed = solo.leases_in_order();
                promises.retain(|id, _| listed.contains(id));
                next_leader(&mut solo, &mut promises);
            }
        }
        promises.retain(|_, promise| promise.until > solo.now);
        let alive: Vec<i64> = promises.keys().copied().collect();
        assert_eq!(
            solo.leases_in_order(),
            alive,
            "seed {seed} at {:?}: the leases alive",
            solo.now
        );
        let keys = solo.machine.state().live_keys();
        assert_eq!(keys, alive.len() as u64 * KEYS, "seed {seed}: the keys of each");
    }
}

/// Leadership changes, and every lease has its whole time again.
fn next_leader(solo: &mut Solo, promises: &mut BTreeMap<i64, Promise>) {
    solo.machine.follow();
    solo.index += 1;
    solo.term += 1;
    solo.machine.skip(solo.index, solo.term);
    solo.machine.lead(solo.now, solo.term).unwrap();
    for promise in promises.values_mut() {
        promise.until = solo.now + promise.ttl;
    }
}

/// The put of one of a lease's keys.
fn leased(id: i64, key: u64) -> pb::PutRequest {
    pb::PutRequest { lease: id, ..put(&format!("of {id}, {key}"), "v") }
}
