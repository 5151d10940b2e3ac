//! One page of a tree, checked.
//!
//! A page is checked whole when it is loaded: its kind, that every element lies inside it, that
//! keys ascend and stay within the bounds its parent gave. The last two are also what makes every
//! walk end: a page that is reached twice, or a cycle, needs a key that is in two disjoint
//! ranges, and a branch without children is refused.

use bytes::Bytes;

use crate::page::{
    ELEMENT_BYTES, ELEMENT_IS_BUCKET, HEADER_BYTES, Header, Kind, PageId, u32_at, u64_at,
};
use crate::read::{Problem, ReadError};

/// The keys a page may hold: from `low` (included) up to `high` (excluded).
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyRange {
    low: Option<Bytes>,
    high: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Branch,
    Leaf,
}

/// A page of a tree whose every element has been checked.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: PageId,
    pub(crate) kind: NodeKind,
    pub(crate) elements: Vec<Element>,
}

#[derive(Debug)]
pub(crate) struct Element {
    pub(crate) key: Bytes,
    /// Empty in a branch.
    pub(crate) value: Bytes,
    pub(crate) is_bucket: bool,
    /// Meaningful in a branch only.
    pub(crate) child: PageId,
}

impl Node {
    pub(crate) fn parse(
        id: PageId,
        header: Header,
        bytes: Bytes,
        range: &KeyRange,
    ) -> Result<Self, ReadError> {
        let kind = match header.kind {
            Some(Kind::Branch) if header.count == 0 => return Err(Problem::EmptyBranch.at(id)),
            Some(Kind::Branch) => NodeKind::Branch,
            Some(Kind::Leaf) => NodeKind::Leaf,
            _ => return Err(Problem::WrongKind.at(id)),
        };
        let mut elements: Vec<Element> = Vec::with_capacity(header.count.into());
        for index in 0..usize::from(header.count) {
            let element = parse_element(kind, &bytes, HEADER_BYTES + index * ELEMENT_BYTES)
                .ok_or(Problem::ElementOutOfBounds.at(id))?;
            let ascends = match elements.last() {
                Some(before) => before.key < element.key,
                None => range.low.as_ref().is_none_or(|low| *low <= element.key),
            };
            let below = range.high.as_ref().is_none_or(|high| element.key < *high);
            if element.key.is_empty() || !ascends || !below {
                return Err(Problem::KeyOrder.at(id));
            }
            elements.push(element);
        }
        Ok(Self { id, kind, elements })
    }

    pub(crate) fn child_range(&self, index: usize, own: &KeyRange) -> KeyRange {
        let next = self.elements.get(index + 1).map(|next| next.key.clone());
        KeyRange {
            low: Some(self.elements[index].key.clone()),
            high: next.or_else(|| own.high.clone()),
        }
    }
}

/// `None` if any part of the element is outside of `bytes`.
fn parse_element(kind: NodeKind, bytes: &Bytes, at: usize) -> Option<Element> {
    let part = |from: usize, length: usize| {
        let end = from.checked_add(length)?;
        (end <= bytes.len()).then(|| bytes.slice(from..end))
    };
    let word = |index: usize| u32_at(bytes, at + index * 4).map(|word| word as usize);
    match kind {
        NodeKind::Branch => {
            let (pos, key_bytes) = (word(0)?, word(1)?);
            Some(Element {
                key: part(at.checked_add(pos)?, key_bytes)?,
                value: Bytes::new(),
                is_bucket: false,
                child: PageId(u64_at(bytes, at + 8)?),
            })
        }
        NodeKind::Leaf => {
            let (flags, pos, key_bytes, value_bytes) = (word(0)?, word(1)?, word(2)?, word(3)?);
            let key_at = at.checked_add(pos)?;
            Some(Element {
                key: part(key_at, key_bytes)?,
                value: part(key_at.checked_add(key_bytes)?, value_bytes)?,
                is_bucket: flags & (ELEMENT_IS_BUCKET as usize) != 0,
                child: PageId(0),
            })
        }
    }
}
