//! An ordered map that keeps every version of its keys, for one writer and any number of
//! readers that never wait.
//!
//! Each key has one entry, found by its order (a skip list) or by its hash ([`crate::index`]),
//! and the entry has a chain of versions, newest first, each with the stamp at which it came
//! into being. A reader brings the stamp it has seen published and looks at nothing newer, so a
//! write needs no lock: it puts a version at the head of a chain, and is invisible until its
//! stamp is published. Nothing is ever removed; the whole map goes when its last reader is done
//! with it.
//!
//! A key that is overwritten all day has a long chain, which is in nobody's way: a list meets
//! one entry for the key, its newest version is at the head, and an older one is found by jump
//! pointers in a number of steps logarithmic in the length of the chain (Myers, "An applicative
//! random-access stack", 1983).
//!
//! Two stamps are in use: revisions for users' keys, batch numbers for the rest.

use std::borrow::Borrow;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use crate::index::{Added, Index, Keyed, Place};
use crate::mutant::{self, Mutant};
use crate::name::Name;
use crate::types::KeySpan;

/// One version of a key.
pub(crate) struct Version<V> {
    stamp: u64,
    value: V,
    /// Number of versions before it.
    depth: u64,
    older: Option<Arc<Version<V>>>,
    /// Some version before it, further away the deeper the chain.
    jump: Option<Arc<Version<V>>>,
}

impl<V> Version<V> {
    fn first(stamp: u64, value: V) -> Arc<Self> {
        Arc::new(Self { stamp, value, depth: 0, older: None, jump: None })
    }

    fn after(older: Arc<Self>, stamp: u64, value: V) -> Arc<Self> {
        debug_assert!(older.stamp <= stamp, "stamps only rise");
        let two_jumps = older.jump.as_ref().and_then(|one| Some((one, one.jump.as_ref()?)));
        let jump = match two_jumps {
            // Two jumps of the same length are followed by one of both together.
            Some((one, two)) if older.depth - one.depth == one.depth - two.depth => two,
            _ => &older,
        };
        let (depth, jump) = (older.depth + 1, Some(Arc::clone(jump)));
        Arc::new(Self { stamp, value, depth, older: Some(older), jump })
    }

    /// The newest version not newer than `at`.
    fn at(self: &Arc<Self>, at: u64) -> Option<&Arc<Self>> {
        let mut here = self;
        while here.stamp > at {
            here = match &here.jump {
                Some(jump) if jump.stamp > at || mutant::on(Mutant::JumpTooFar) => jump,
                _ => here.older.as_ref()?,
            };
        }
        Some(here)
    }

    pub(crate) fn value(&self) -> &V {
        &self.value
    }
}

impl<V> Drop for Version<V> {
    /// A chain may be too long to be dropped by recursion. Whatever points to a version is
    /// newer than it, so going backwards each one is free when its turn comes, unless a reader
    /// has it; then the reader goes on from there.
    fn drop(&mut self) {
        self.jump = None;
        let mut next = self.older.take();
        while let Some(mut version) = next.and_then(Arc::into_inner) {
            version.jump = None;
            next = version.older.take();
        }
    }
}

/// A key and its versions.
struct Chain<V> {
    key: Bytes,
    newest: ArcSwap<Version<V>>,
}

impl<V> Chain<V> {
    fn new(key: Bytes, first: Arc<Version<V>>) -> Arc<Self> {
        Arc::new(Self { key, newest: ArcSwap::new(first) })
    }

    fn read<T>(&self, at: u64, read: impl FnOnce(&V) -> T) -> Option<T> {
        self.newest.load().at(at).map(|version| read(&version.value))
    }
}

impl<V> Keyed for Chain<V> {
    fn key(&self) -> &Bytes {
        &self.key
    }
}

type Node<'a, V> = Entry<'a, Name, Arc<Chain<V>>>;

/// The map. See the module.
pub(crate) struct ChainMap<V> {
    order: SkipMap<Name, Arc<Chain<V>>>,
    index: Index<Chain<V>>,
}

impl<V: Send + Sync + 'static> ChainMap<V> {
    /// As [`Index::new`].
    pub(crate) fn new(root_bits: u32) -> Self {
        Self { order: SkipMap::new(), index: Index::new(root_bits) }
    }

    /// Adds a version, in the place of one with the same stamp. One writer at a time, and no stamp
    /// lower than those before. Returns whether the key is new.
    pub(crate) fn insert(&self, key: &Bytes, stamp: u64, value: V) -> bool {
        let mut value = Some(value);
        let mut make = || {
            let value = value.take().expect("made once");
            Chain::new(key.clone(), Version::first(stamp, value))
        };
        let (chain, new) = match self.index.find_or_add(key, &mut make) {
            Added::Found(chain) => (Arc::clone(chain), false),
            Added::New(chain) => (Arc::clone(chain), true),
            Added::Unknown => match self.order.get(&key[..]) {
                Some(node) => (Arc::clone(node.value()), false),
                None => (make(), true),
            },
        };
        if new {
            self.order.insert(Name::new(key), chain);
        } else if let Some(value) = value {
            let newest = chain.newest.load_full();
            // A second version under one stamp takes the place of the first.
            let before = if newest.stamp == stamp { newest.older.clone() } else { Some(newest) };
            chain.newest.store(match before {
                Some(older) => Version::after(older, stamp, value),
                None => Version::first(stamp, value),
            });
        }
        new
    }

    /// The newest version of `key` that is not newer than `at`.
    pub(crate) fn get<T>(&self, key: &[u8], at: u64, read: impl FnOnce(&V) -> T) -> Option<T> {
        match self.index.find(key) {
            Place::Found(chain) => chain.read(at, read),
            Place::Absent => None,
            Place::Unknown => self.order.get(key).and_then(|node| node.value().read(at, read)),
        }
    }

    /// Every version of every key, in order, none newer than `at`.
    pub(crate) fn versions(&self, at: u64) -> Versions<'_, V> {
        let keys = Newest::new(self, &KeySpan::all(), at, false);
        let version = keys.version().cloned();
        Versions { keys, version }
    }
}

/// The keys of a span that have a version not newer than `at`, each with the newest of those.
pub(crate) struct Newest<'a, V> {
    /// The key the cursor stands on, and the version to be seen of it.
    here: Option<(Node<'a, V>, Arc<Version<V>>)>,
    span: KeySpan,
    at: u64,
    back: bool,
}

impl<'a, V: Send + Sync + 'static> Newest<'a, V> {
    pub(crate) fn new(map: &'a ChainMap<V>, span: &KeySpan, at: u64, back: bool) -> Self {
        let mut cursor = Self { here: None, span: span.clone(), at, back };
        if span.is_empty() {
            return cursor;
        }
        let first = match (back, &span.end) {
            (false, _) => map.order.lower_bound(Included(&span.start[..])),
            (true, Some(end)) => map.order.upper_bound(Excluded(&end[..])),
            (true, None) => map.order.upper_bound::<[u8]>(Unbounded),
        };
        cursor.settle(first);
        cursor
    }

    /// The key and the value the cursor stands on; `None` at the end.
    pub(crate) fn head(&self) -> Option<(&Bytes, &V)> {
        self.here.as_ref().map(|(node, version)| (&node.value().key, &version.value))
    }

    fn version(&self) -> Option<&Arc<Version<V>>> {
        self.here.as_ref().map(|(_, version)| version)
    }

    /// To the next key.
    pub(crate) fn advance(&mut self) {
        if let Some((node, _)) = self.here.take() {
            let next = if self.back { node.prev() } else { node.next() };
            self.settle(next);
        }
    }

    /// On the first key from `node` on of which there is something to be seen.
    fn settle(&mut self, mut node: Option<Node<'a, V>>) {
        while let Some(here) = node.filter(|here| self.span.contains(here.key().borrow())) {
            let newest = here.value().newest.load();
            if let Some(version) = newest.at(self.at) {
                self.here = Some((here, Arc::clone(version)));
                return;
            }
            node = if self.back { here.prev() } else { here.next() };
        }
    }
}

/// All versions not newer than a stamp, of all keys: keys ascending, each key's newest first.
pub(crate) struct Versions<'a, V> {
    keys: Newest<'a, V>,
    version: Option<Arc<Version<V>>>,
}

impl<V: Send + Sync + 'static> Versions<'_, V> {
    /// The version the cursor stands on; `None` at the end.
    pub(crate) fn head(&self) -> Option<(&Bytes, &Version<V>)> {
        Some((self.keys.head()?.0, self.version.as_deref()?))
    }

    /// To the next older version of the key, or to the next key.
    pub(crate) fn advance(&mut self) {
        self.version = self.version.take().and_then(|version| version.older.clone());
        if self.version.is_none() {
            self.advance_key();
        }
    }

    /// To the next key.
    pub(crate) fn advance_key(&mut self) {
        self.keys.advance();
        self.version = self.keys.version().cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> ChainMap<u64> {
        let map = ChainMap::new(3);
        for stamp in 1..=100 {
            map.insert(&Bytes::from_static(b"hot"), stamp, stamp);
        }
        map.insert(&Bytes::from_static(b"a"), 3, 3);
        map.insert(&Bytes::from_static(b"z"), 50, 50);
        map.insert(&Bytes::from_static(b"z"), 60, 60);
        map
    }

    fn newest(span: &KeySpan, at: u64, back: bool) -> Vec<(Bytes, u64)> {
        let map = map();
        let mut cursor = Newest::new(&map, span, at, back);
        let mut seen = Vec::new();
        while let Some((key, value)) = cursor.head() {
            seen.push((key.clone(), *value));
            cursor.advance();
        }
        seen
    }

    #[test]
    fn each_key_shows_its_newest_version_not_after_the_reader() {
        for (at, expected) in [
            (0, vec![]),
            (1, vec![("hot", 1)]),
            (49, vec![("a", 3), ("hot", 49)]),
            (50, vec![("a", 3), ("hot", 50), ("z", 50)]),
            (1000, vec![("a", 3), ("hot", 100), ("z", 60)]),
        ] {
            let mut expected: Vec<_> =
                expected.into_iter().map(|(key, value)| (Bytes::from(key), value)).collect();
            assert_eq!(newest(&KeySpan::all(), at, false), expected);
            expected.reverse();
            assert_eq!(newest(&KeySpan::all(), at, true), expected);
        }
        let inner = KeySpan::new(Bytes::from_static(b"b"), Bytes::from_static(b"z"));
        assert_eq!(newest(&inner, 70, false), [(Bytes::from_static(b"hot"), 70)]);
        assert_eq!(newest(&inner, 70, true), [(Bytes::from_static(b"hot"), 70)]);
        let none = KeySpan::new(Bytes::from_static(b"z"), Bytes::from_static(b"b"));
        assert_eq!(newest(&none, 70, false), []);
        assert_eq!(newest(&none, 70, true), []);
    }

    #[test]
    fn a_get_sees_nothing_newer_than_its_reader() {
        let map = map();
        assert_eq!(map.get(b"z", 49, |v| *v), None);
        assert_eq!(map.get(b"z", 55, |v| *v), Some(50));
        assert_eq!(map.get(b"y", 1000, |v| *v), None);
        for at in 1..=100 {
            assert_eq!(map.get(b"hot", at, |v| *v), Some(at));
        }
    }

    #[test]
    fn all_versions_come_in_order() {
        let map = map();
        let mut versions = map.versions(55);
        let mut seen = Vec::new();
        while let Some((key, version)) = versions.head() {
            seen.push((key.clone(), version.stamp));
            versions.advance();
        }
        let hot = (1..=55).rev().map(|stamp| ("hot", stamp));
        let expected = [("a", 3)].into_iter().chain(hot).chain([("z", 50)]);
        assert!(expected.map(|(key, stamp)| (Bytes::from(key), stamp)).eq(seen));
    }

    #[test]
    fn a_long_chain_is_searched_in_few_steps_and_dropped_without_recursion() {
        let map = ChainMap::new(3);
        let key = Bytes::from_static(b"hot");
        for stamp in 1..=300_000 {
            map.insert(&key, stamp, stamp);
        }
        let newest = map.order.get(&key[..]).unwrap().value().newest.load_full();
        for at in [1, 2, 1000, 149_999, 150_000, 299_999] {
            let mut steps = 0;
            let mut here = &newest;
            while here.stamp > at {
                let jump = here.jump.as_ref().unwrap();
                here = if jump.stamp > at { jump } else { here.older.as_ref().unwrap() };
                steps += 1;
            }
            assert_eq!(newest.at(at).unwrap().stamp, at);
            assert!(steps < 3 * 18, "{steps} steps to {at}");
        }
        let middle = newest.at(150_000).cloned().unwrap();
        drop((map, newest));
        assert_eq!(middle.at(7).unwrap().stamp, 7);
    }
}
