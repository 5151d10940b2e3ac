//! Finding one key among those of a memtable, without a search through their order.
//!
//! A tree over the bits of the key's hash, for one writer that only adds and any number of
//! readers that never wait. Each slot takes one entry, the first that comes its way; those that
//! come later go on to the slot's children, which are made when they are needed. So nothing is
//! ever moved: there is no moment at which a table grows, and a reader meets either an entry or
//! an empty place.
//!
//! The hash is SipHash with a fixed key: the same on every member and in every run. Whoever
//! finds keys that collide in all its bits makes them end up in the ordered map alone
//! ([`Place::Unknown`]), where a search takes its usual time.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// Children of a slot, as a power of 2.
const CHILD_BITS: u32 = 2;

/// What the tree holds: it asks for nothing but the key.
pub(crate) trait Keyed {
    fn key(&self) -> &Bytes;
}

struct Slot<T> {
    entry: OnceLock<(u64, Arc<T>)>,
    children: OnceLock<Box<[Slot<T>]>>,
}

fn slots<T>(bits: u32) -> Box<[Slot<T>]> {
    let empty = || Slot { entry: OnceLock::new(), children: OnceLock::new() };
    std::iter::repeat_with(empty).take(1 << bits).collect()
}

/// Where a key is, or would be.
pub(crate) enum Place<'a, T> {
    /// Here.
    Found(&'a Arc<T>),
    /// Not in the tree, and nowhere else.
    Absent,
    /// The tree has no place for it: the bits of the hash are used up.
    Unknown,
}

/// What became of a key that was to be there.
pub(crate) enum Added<'a, T> {
    /// It was there.
    Found(&'a Arc<T>),
    /// It is there now.
    New(&'a Arc<T>),
    /// As [`Place::Unknown`].
    Unknown,
}

/// The tree. See the module.
pub(crate) struct Index<T> {
    root: Box<[Slot<T>]>,
    root_bits: u32,
}

impl<T: Keyed> Index<T> {
    /// `root_bits`: the power of 2 of slots that it begins with.
    pub(crate) fn new(root_bits: u32) -> Self {
        Self { root: slots(root_bits), root_bits }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Place<'_, T> {
        let hash = hash(key);
        let (mut slots, mut bits, mut used) = (&self.root, self.root_bits, 0);
        while used + bits <= u64::BITS {
            let slot = &slots[part(hash, used, bits)];
            match slot.entry.get() {
                None => return Place::Absent,
                Some((other, entry)) if *other == hash && entry.key() == key => {
                    return Place::Found(entry);
                }
                Some(_) => {}
            }
            let Some(children) = slot.children.get() else { return Place::Absent };
            slots = children;
            used += bits;
            bits = CHILD_BITS;
        }
        Place::Unknown
    }

    /// The place of `key`; an entry made by `make` is there if none was. One writer at a time.
    pub(crate) fn find_or_add(&self, key: &[u8], make: impl FnOnce() -> Arc<T>) -> Added<'_, T> {
        let hash = hash(key);
        let (mut slots, mut bits, mut used) = (&self.root, self.root_bits, 0);
        while used + bits <= u64::BITS {
            let slot = &slots[part(hash, used, bits)];
            match slot.entry.get() {
                None => {
                    let (_, entry) = slot.entry.get_or_init(|| (hash, make()));
                    return Added::New(entry);
                }
                Some((other, entry)) if *other == hash && entry.key() == key => {
                    return Added::Found(entry);
                }
                Some(_) => {}
            }
            slots = slot.children.get_or_init(|| self::slots(CHILD_BITS));
            used += bits;
            bits = CHILD_BITS;
        }
        Added::Unknown
    }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

#[expect(clippy::cast_possible_truncation, reason = "masked to a few bits")]
fn part(hash: u64, used: u32, bits: u32) -> usize {
    (hash >> used) as usize & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for Bytes {
        fn key(&self) -> &Bytes {
            self
        }
    }

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        for root_bits in [0, 3, 13] {
            add_and_find(&Index::new(root_bits));
        }
    }

    fn add_and_find(index: &Index<Bytes>) {
        let key = |number: u32| Arc::new(Bytes::from(number.to_string()));
        for number in 0..20_000 {
            assert!(matches!(index.find(key(number).key()), Place::Absent));
            let added = index.find_or_add(key(number).key(), || key(number));
            assert!(matches!(added, Added::New(_)));
        }
        for number in 0..20_000 {
            let Place::Found(found) = index.find(key(number).key()) else { panic!("{number}") };
            assert_eq!(**found, number.to_string());
            let added = index.find_or_add(found, || panic!("it is there"));
            assert!(matches!(added, Added::Found(_)));
        }
        assert!(matches!(index.find(b"20000"), Place::Absent));
    }
}
