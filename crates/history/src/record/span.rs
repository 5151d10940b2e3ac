//! Which keys a request is about.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Key;

/// A set of keys, as `key` and `range_end` describe it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Span {
    /// This key.
    One(Key),
    /// The keys `from <= key < to`. Empty if `to <= from`.
    Range {
        /// The first key.
        from: Key,
        /// The first key beyond.
        to: Key,
    },
    /// Every key that is not less.
    From(Key),
}

impl Default for Span {
    fn default() -> Self {
        Self::From(Key::new())
    }
}

impl Span {
    /// Reads etcd's pair: an empty `range_end` is one key, a single zero byte is every key from `key` on.
    #[must_use]
    pub fn decode(key: impl Into<Key>, range_end: impl Into<Key>) -> Self {
        let (from, to) = (key.into(), range_end.into());
        match to.as_ref() {
            [] => Self::One(from),
            [0] => Self::From(from),
            _ => Self::Range { from, to },
        }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// One key.
    #[must_use]
    pub fn one(key: impl Into<Key>) -> Self {
        Self::One(key.into())
    }

    /// The keys that begin so.
    #[must_use]
    pub fn prefix(prefix: impl Into<Key>) -> Self {
        let from = prefix.into();
        let mut to = from.to_vec();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                return Self::Range { from, to: to.into() };
            }
        }
        Self::From(from)
    }

    /// The key, if it is a single one by its form.
    #[must_use]
    pub fn single(&self) -> Option<&Key> {
        match self {
            Self::One(key) => Some(key),
            Self::Range { .. } | Self::From(_) => None,
        }
    }

    /// Whether `key` is one of them.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Range { from, to } => from.as_ref() <= key && key < to.as_ref(),
            Self::From(from) => from.as_ref() <= key,
        }
    }

    /// Bounds for an ordered map; `None` if no key can be in it.
    #[must_use]
    pub fn bounds(&self) -> Option<(Bound<&Bytes>, Bound<&Bytes>)> {
        match self {
            Self::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            Self::Range { from, to } if from < to => {
                Some((Bound::Included(from), Bound::Excluded(to)))
            }
            Self::Range { .. } => None,
            Self::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_of_a_range_end() {
        assert_eq!(Span::decode("a", ""), Span::one("a"));
        assert_eq!(Span::decode("a", "\0"), Span::From("a".into()));
        assert_eq!(Span::decode("a", "b"), Span::Range { from: "a".into(), to: "b".into() });
        assert!(Span::decode("b", "a").bounds().is_none());
        assert!(!Span::decode("b", "a").contains(b"a"));
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert!(Span::prefix("ab").contains(b"ab\xff\xff"));
        assert!(!Span::prefix("ab").contains(b"ac"));
        let high = Span::prefix(vec![b'a', 0xff]);
        assert!(high.contains(&[b'a', 0xff, 7]) && !high.contains(b"b"));
        assert_eq!(Span::prefix(vec![0xff]), Span::From(vec![0xff].into()));
        assert_eq!(Span::prefix(""), Span::all());
    }
}
