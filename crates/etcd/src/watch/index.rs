//! From a key to the topics that want it.

use std::collections::BTreeMap;

use bytes::Bytes;
use mvcc::KeySpan;

use super::interval::IntervalMap;

/// Which keys a watcher wants. One key has a variant of its own because most watchers want one,
/// and a map finds them sooner than a tree of spans does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    One(Bytes),
    Span(KeySpan),
}

impl Keys {
    /// As `key` and `range_end` of a request say: an empty `range_end` is one key, `\0` is every
    /// key from `key` on. An empty `key` is the lowest there is. `None` for a span that cannot
    /// hold a key.
    pub(super) fn parse(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key.clone() };
        match &range_end[..] {
            [] => Some(Self::One(key)),
            [0] => Some(Self::Span(KeySpan { start: key, end: None })),
            end if *end <= key[..] => None,
            _ => Some(Self::Span(KeySpan { start: key, end: Some(range_end.clone()) })),
        }
    }
}

/// Values under [`Keys`], several under the same.
pub(super) struct Index<V> {
    one: BTreeMap<Bytes, Vec<V>>,
    spans: IntervalMap<Vec<V>>,
}

impl<V: Copy + PartialEq> Index<V> {
    pub(super) fn new(seed: u64) -> Self {
        Self { one: BTreeMap::new(), spans: IntervalMap::new(seed) }
    }

    /// What was inserted under exactly these keys.
    pub(super) fn at(&mut self, keys: &Keys) -> &[V] {
        let found = match keys {
            Keys::One(key) => self.one.get(key),
            Keys::Span(span) => self.spans.get_mut(span).map(|values| &*values),
        };
        found.map_or(&[], |values| values)
    }

    pub(super) fn insert(&mut self, keys: &Keys, value: V) {
        match keys {
            Keys::One(key) => self.one.entry(key.clone()).or_default().push(value),
            Keys::Span(span) => match self.spans.get_mut(span) {
                Some(values) => values.push(value),
                None => self.spans.insert(span.clone(), vec![value]),
            },
        }
    }

    /// # Panics
    /// If it is not there.
    pub(super) fn remove(&mut self, keys: &Keys, value: V) {
        let values = match keys {
            Keys::One(key) => self.one.get_mut(key),
            Keys::Span(span) => self.spans.get_mut(span),
        };
        let values = values.expect("what is removed was inserted");
        let at = values.iter().position(|there| *there == value);
        values.swap_remove(at.expect("what is removed was inserted"));
        if values.is_empty() {
            match keys {
                Keys::One(key) => drop(self.one.remove(key)),
                Keys::Span(span) => drop(self.spans.remove(span)),
            }
        }
    }

    /// Calls `found` for every value whose keys contain `key`.
    pub(super) fn containing(&self, key: &[u8], mut found: impl FnMut(V)) {
        if let Some(values) = self.one.get(key) {
            values.iter().copied().for_each(&mut found);
        }
        if !self.spans.is_empty() {
            self.spans.containing(key, &mut |values: &Vec<V>| {
                values.iter().copied().for_each(&mut found);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_etcd_reads_them() {
        let parse = |key: &'static [u8], end: &'static [u8]| {
            Keys::parse(&Bytes::from_static(key), &Bytes::from_static(end))
        };
        let span = |start: &'static [u8], end: Option<&'static [u8]>| {
            let (start, end) = (Bytes::from_static(start), end.map(Bytes::from_static));
            Some(Keys::Span(KeySpan { start, end }))
        };
        assert_eq!(parse(b"a", b""), Some(Keys::One(Bytes::from_static(b"a"))));
        assert_eq!(parse(b"", b""), Some(Keys::One(Bytes::from_static(b"\0"))));
        assert_eq!(parse(b"", b"\0"), span(b"\0", None));
        assert_eq!(parse(b"a", b"\0"), span(b"a", None));
        assert_eq!(parse(b"a", b"c"), span(b"a", Some(b"c")));
        assert_eq!(parse(b"", b"c"), span(b"\0", Some(b"c")));
        assert_eq!((parse(b"b", b"b"), parse(b"b", b"a")), (None, None));
    }
}
