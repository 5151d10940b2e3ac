//! An ordered map that keeps every version of its keys, for one writer and any number of
//! readers that never wait.
//!
//! A key's versions lie side by side, newest first, each with the stamp at which it came into
//! being. A reader brings the stamp it has seen published and looks at nothing newer, so a
//! write needs no lock: it inserts, and is invisible until its stamp is published. Nothing is
//! ever removed; the whole map goes when its last reader is done with it.
//!
//! Two stamps are in use: revisions for users' keys, batch numbers for the rest.
//!
//! A key that is overwritten all day has many versions here, so the cursors do not walk over
//! them: after a few steps they search ([`STEPS_MAX`]).

use std::cmp::Ordering;
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use crossbeam_skiplist::map::Entry;

use crate::types::KeySpan;

/// Steps to a neighbour a cursor takes over versions it does not want before it searches: a
/// search costs about as much as this many steps.
const STEPS_MAX: usize = 4;

/// A version's place: keys ascending, stamps descending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) key: Bytes,
    pub(crate) stamp: u64,
}

impl Place {
    /// Before every version of `key`.
    fn newest(key: Bytes) -> Self {
        Self { key, stamp: u64::MAX }
    }

    /// After every version of `key`: stamps begin with 1.
    fn oldest(key: Bytes) -> Self {
        Self { key, stamp: 0 }
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key).then_with(|| other.stamp.cmp(&self.stamp))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

type Node<'a, V> = Entry<'a, Place, V>;

/// The map. See the module.
pub(crate) struct ChainMap<V> {
    map: SkipMap<Place, V>,
}

impl<V: Send + 'static> ChainMap<V> {
    pub(crate) fn new() -> Self {
        Self { map: SkipMap::new() }
    }

    /// Adds a version. One writer at a time.
    pub(crate) fn insert(&self, key: Bytes, stamp: u64, value: V) {
        debug_assert!(stamp > 0 && stamp < u64::MAX);
        self.map.insert(Place { key, stamp }, value);
    }

    /// The newest version of `key` that is not newer than `at`.
    pub(crate) fn get<T>(&self, key: &[u8], at: u64, read: impl FnOnce(&V) -> T) -> Option<T> {
        if self.map.is_empty() {
            return None;
        }
        let place = Place { key: Bytes::copy_from_slice(key), stamp: at };
        let found = self.map.lower_bound(Included(&place))?;
        (found.key().key == place.key).then(|| read(found.value()))
    }

    /// Every version of every key, in order, none newer than `at`.
    pub(crate) fn versions(&self, span: &KeySpan, at: u64) -> Versions<'_, V> {
        let first = self.first_of(span);
        let mut cursor = Versions { next: first, end: span.end.clone(), at };
        cursor.settle();
        cursor
    }

    fn first_of(&self, span: &KeySpan) -> Option<Node<'_, V>> {
        if span.is_empty() {
            return None;
        }
        self.map.lower_bound(Included(&Place::newest(span.start.clone())))
    }
}

/// The keys of a span that have a version not newer than `at`, each with the newest of those.
pub(crate) struct Newest<'a, V> {
    chain: &'a ChainMap<V>,
    /// The version the cursor stands on: the one to be seen of its key.
    here: Option<Node<'a, V>>,
    span: KeySpan,
    at: u64,
    back: bool,
}

impl<'a, V: Send + 'static> Newest<'a, V> {
    pub(crate) fn new(chain: &'a ChainMap<V>, span: &KeySpan, at: u64, back: bool) -> Self {
        let mut cursor = Self { chain, here: None, span: span.clone(), at, back };
        if back {
            cursor.here = cursor.visible_back(cursor.last());
        } else {
            cursor.here = cursor.visible(chain.first_of(span));
        }
        cursor
    }

    /// The key and the version the cursor stands on; `None` at the end.
    pub(crate) fn head(&self) -> Option<(&Bytes, &V)> {
        self.here.as_ref().map(|node| (&node.key().key, node.value()))
    }

    /// To the next key.
    pub(crate) fn advance(&mut self) {
        let Some(here) = self.here.take() else { return };
        self.here = if self.back {
            let newest = Place::newest(here.key().key.clone());
            self.visible_back(self.chain.map.upper_bound(Excluded(&newest)))
        } else {
            self.visible(self.after_key(&here))
        };
    }

    fn last(&self) -> Option<Node<'a, V>> {
        if self.span.is_empty() {
            return None;
        }
        match &self.span.end {
            Some(end) => self.chain.map.upper_bound(Excluded(&Place::newest(end.clone()))),
            None => self.chain.map.upper_bound::<Place>(Unbounded),
        }
    }

    /// The first version of the key after `here`'s.
    fn after_key(&self, here: &Node<'a, V>) -> Option<Node<'a, V>> {
        let mut node = here.next()?;
        for _ in 0..STEPS_MAX {
            if node.key().key != here.key().key {
                return Some(node);
            }
            node = node.next()?;
        }
        let oldest = Place::oldest(here.key().key.clone());
        self.chain.map.lower_bound(Excluded(&oldest))
    }

    /// From the newest version of some key on: the first that may be seen.
    fn visible(&self, mut node: Option<Node<'a, V>>) -> Option<Node<'a, V>> {
        let mut steps = 0;
        loop {
            let here = node?;
            if !self.span.is_before_end(&here.key().key) {
                return None;
            }
            if here.key().stamp <= self.at {
                return Some(here);
            }
            steps += 1;
            node = if steps % STEPS_MAX == 0 {
                let wanted = Place { key: here.key().key.clone(), stamp: self.at };
                self.chain.map.lower_bound(Included(&wanted))
            } else {
                here.next()
            };
        }
    }

    /// From the oldest version of some key backwards: the first key with a version to be seen.
    fn visible_back(&self, mut node: Option<Node<'a, V>>) -> Option<Node<'a, V>> {
        loop {
            let here = node?;
            if here.key().key < self.span.start {
                return None;
            }
            let key = here.key().key.clone();
            if here.key().stamp <= self.at {
                return self.chain.map.lower_bound(Included(&Place { key, stamp: self.at }));
            }
            node = self.chain.map.upper_bound(Excluded(&Place::newest(key)));
        }
    }
}

/// All versions not newer than `at`, of all keys of a span, in their order.
pub(crate) struct Versions<'a, V> {
    next: Option<Node<'a, V>>,
    end: Option<Bytes>,
    at: u64,
}

impl<V: Send + 'static> Versions<'_, V> {
    /// The version the cursor stands on; `None` at the end.
    pub(crate) fn head(&self) -> Option<(&Place, &V)> {
        self.next.as_ref().map(|node| (node.key(), node.value()))
    }

    pub(crate) fn advance(&mut self) {
        self.next = self.next.take().and_then(|node| node.next());
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(node) = &self.next {
            if self.end.as_ref().is_some_and(|end| node.key().key >= *end) {
                self.next = None;
            } else if node.key().stamp > self.at {
                self.next = node.next();
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> ChainMap<u64> {
        let chain = ChainMap::new();
        for stamp in 1..=100 {
            chain.insert(Bytes::from_static(b"hot"), stamp, stamp);
        }
        chain.insert(Bytes::from_static(b"a"), 3, 3);
        chain.insert(Bytes::from_static(b"z"), 50, 50);
        chain.insert(Bytes::from_static(b"z"), 60, 60);
        chain
    }

    fn newest(span: &KeySpan, at: u64, back: bool) -> Vec<(Bytes, u64)> {
        let chain = chain();
        let mut cursor = Newest::new(&chain, span, at, back);
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
        let chain = chain();
        assert_eq!(chain.get(b"z", 49, |v| *v), None);
        assert_eq!(chain.get(b"z", 55, |v| *v), Some(50));
        assert_eq!(chain.get(b"y", 1000, |v| *v), None);
        let mut versions = chain.versions(&KeySpan::prefix(b"z"), 59);
        assert_eq!(versions.head().map(|(place, value)| (place.stamp, *value)), Some((50, 50)));
        versions.advance();
        assert!(versions.head().is_none());
    }
}
