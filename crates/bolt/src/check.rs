//! The account of all pages: each reachable once or free, none both, none neither.

use crate::node::{KeyRange, Node, NodeKind};
use crate::page::{HEADER_BYTES, Kind, NO_FREELIST, PageId, u64_at};
use crate::read::{Bucket, Entry, Problem, ReadAt, ReadError, Reader, Root};

/// In a freelist of this count the number of pages is in its first word.
const COUNT_IN_BODY: u16 = 0xFFFF;

impl<R: ReadAt> Reader<R> {
    /// Reads the whole database and checks that every page below the high water mark is used
    /// exactly once, or free. Needs one bit of memory per page.
    ///
    /// # Errors
    /// The first thing wrong with it, as a [`ReadError`].
    pub fn check(&self) -> Result<(), ReadError> {
        // The source has `high_water` pages (checked when opened), so this is not a wild size.
        let words = usize::try_from(self.meta.high_water.div_ceil(64)).unwrap_or(usize::MAX);
        let mut pages = Pages { seen: vec![0; words] };
        pages.mark(PageId(0), 2)?;
        self.check_bucket(&self.root(), &mut pages)?;
        // Without a freelist, what is not reachable is free.
        if self.meta.freelist != NO_FREELIST {
            self.check_freelist(&mut pages)?;
            if let Some(lost) = (0..self.meta.high_water).find(|page| !pages.has(*page)) {
                return Err(Problem::Lost.at(PageId(lost)));
            }
        }
        Ok(())
    }

    fn check_bucket(&self, bucket: &Bucket<'_, R>, pages: &mut Pages) -> Result<(), ReadError> {
        let mut stack = Vec::new();
        match &bucket.root {
            Root::Page(id) => stack.push((*id, KeyRange::default())),
            Root::Inline(_) => {
                let node = bucket.root_node()?;
                for index in 0..node.elements.len() {
                    self.check_entry(bucket, &node, index, pages)?;
                }
            }
        }
        while let Some((id, range)) = stack.pop() {
            let (header, bytes) = self.load(id)?;
            pages.mark(id, u64::from(header.overflow) + 1)?;
            let node = Node::parse(id, header, bytes, &range)?;
            for index in 0..node.elements.len() {
                match node.kind {
                    NodeKind::Leaf => self.check_entry(bucket, &node, index, pages)?,
                    NodeKind::Branch => {
                        stack.push((node.elements[index].child, node.child_range(index, &range)));
                    }
                }
            }
        }
        Ok(())
    }

    fn check_entry(
        &self,
        bucket: &Bucket<'_, R>,
        node: &Node,
        index: usize,
        pages: &mut Pages,
    ) -> Result<(), ReadError> {
        match bucket.entry(node, index)? {
            Entry::Value { .. } => Ok(()),
            Entry::Bucket { bucket, .. } => self.check_bucket(&bucket, pages),
        }
    }

    fn check_freelist(&self, pages: &mut Pages) -> Result<(), ReadError> {
        let id = self.meta.freelist;
        let (header, bytes) = self.load(id)?;
        if header.kind != Some(Kind::Freelist) {
            return Err(Problem::WrongKind.at(id));
        }
        pages.mark(id, u64::from(header.overflow) + 1)?;
        let word = |index: usize| {
            u64_at(&bytes, HEADER_BYTES + index * 8).ok_or(Problem::ElementOutOfBounds.at(id))
        };
        let (first, count) = match header.count {
            COUNT_IN_BODY => (1, word(0)?),
            count => (0, u64::from(count)),
        };
        for index in 0..count {
            let index = usize::try_from(index).map_err(|_| Problem::ElementOutOfBounds.at(id))?;
            pages.mark(PageId(word(first + index)?), 1)?;
        }
        Ok(())
    }
}

struct Pages {
    seen: Vec<u64>,
}

impl Pages {
    fn mark(&mut self, id: PageId, count: u64) -> Result<(), ReadError> {
        for page in id.0..id.0.saturating_add(count) {
            let word = usize::try_from(page / 64).ok().and_then(|word| self.seen.get_mut(word));
            let word = word.ok_or(Problem::OutOfBounds.at(PageId(page)))?;
            let bit = 1 << (page % 64);
            if *word & bit != 0 {
                return Err(Problem::UsedTwice.at(PageId(page)));
            }
            *word |= bit;
        }
        Ok(())
    }

    fn has(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|word| self.seen.get(word));
        word.is_some_and(|word| word & (1 << (page % 64)) != 0)
    }
}
