//! A key as the ordered map compares it.
//!
//! A search through a skip list compares some thirty keys, and each is somewhere else in
//! memory. Keys of usual length are therefore kept inside the node they belong to, which saves
//! every second cache miss of a search.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// Keys up to this length are kept in place.
const INLINE_BYTES: usize = 62;

/// The key. Ordered bytewise.
pub(crate) enum Name {
    Inline(u8, [u8; INLINE_BYTES]),
    Shared(Bytes),
}

impl Name {
    pub(crate) fn new(key: &Bytes) -> Self {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= INLINE_BYTES => {
                let mut bytes = [0; INLINE_BYTES];
                bytes[..key.len()].copy_from_slice(key);
                Self::Inline(len, bytes)
            }
            _ => Self::Shared(key.clone()),
        }
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Self::Shared(key) => key,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Name {}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        Borrow::<[u8]>::borrow(self).cmp(other.borrow())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_as_their_keys_do() {
        let long = [7; INLINE_BYTES + 1];
        let keys: [&[u8]; 8] =
            [b"", b"\0", b"\0\0", &long[..5], &long[..62], &long, b"a", b"a\xff"];
        for left in keys {
            for right in keys {
                let name = |key| Name::new(&Bytes::copy_from_slice(key));
                assert_eq!(name(left).cmp(&name(right)), left.cmp(right), "{left:?} {right:?}");
            }
        }
    }
}
