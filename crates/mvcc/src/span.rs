//! Spans of keys and steps of revisions.

use bytes::Bytes;

use crate::types::{KeySpan, Revision};

impl Revision {
    /// Where a fresh store stands.
    pub const FIRST: Self = Self(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The revision before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0 - 1)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl KeySpan {
    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// `start <= key < end`.
    #[must_use]
    pub fn new(start: Bytes, end: Bytes) -> Self {
        Self { start, end: Some(end) }
    }

    /// Exactly one key.
    #[must_use]
    pub fn one(key: &[u8]) -> Self {
        let end = [key, &[0]].concat();
        Self { start: Bytes::copy_from_slice(key), end: Some(end.into()) }
    }

    /// Every key that begins with `prefix`.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        let end = prefix.iter().rposition(|&byte| byte != 0xff).map(|last| {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        Self { start: Bytes::copy_from_slice(prefix), end }
    }

    /// Whether `key` lies in the span.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start <= key && self.is_before_end(key)
    }

    /// Whether no key can lie in the span.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    pub(crate) fn is_before_end(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_key_does() {
        assert_eq!(KeySpan::prefix(b"ab").end, Some(Bytes::from_static(b"ac")));
        assert_eq!(KeySpan::prefix(b"a\xff\xff").end, Some(Bytes::from_static(b"b")));
        assert_eq!(KeySpan::prefix(b"\xff").end, None);
        assert_eq!(KeySpan::prefix(b""), KeySpan::all());
    }

    #[test]
    fn one_key_is_alone_in_its_span() {
        let span = KeySpan::one(b"k");
        assert!(span.contains(b"k") && !span.contains(b"k\0") && !span.contains(b"j\xff"));
        assert!(!span.is_empty());
        assert!(KeySpan::new(Bytes::from_static(b"b"), Bytes::from_static(b"b")).is_empty());
    }
}
