//! The walk through a file that nobody vouches for.
//!
//! Each page is checked whole when it is loaded, see [`crate::node`]; what is read from it after
//! that needs no further doubt.

use std::fs::File;
use std::io;

use bytes::Bytes;

use crate::node::{KeyRange, Node, NodeKind};
use crate::page::{BUCKET_BYTES, HEADER_BYTES, Header, Kind, META_BYTES, Meta, PageId, u64_at};

/// Deepest tree that is followed. Two children a branch, 2^64 pages: no file needs more.
const DEPTH_MAX: usize = 64;

/// Deepest nesting of buckets that is followed. etcd nests one deep.
const NESTING_MAX: usize = 32;

/// Smallest and largest page sizes looked for when the first meta is damaged, as powers of two.
const PAGE_SIZE_LOG2: std::ops::RangeInclusive<u32> = 10..=24;

/// A file, or anything else that can be read at an offset, from several places at once.
pub trait ReadAt {
    /// Fills `buffer` from the bytes at `offset`.
    ///
    /// # Errors
    /// Any; `UnexpectedEof` if there are fewer bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Any.
    fn length(&self) -> io::Result<u64>;
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|from| self.get(from..from.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

impl<R: ReadAt + ?Sized> ReadAt for &R {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        (**self).length()
    }
}

/// How much a reader puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest page that is loaded, overflow included, in bytes. A page holds a value and little
    /// else once the value is larger than a page, so this bounds the size of values.
    pub node_bytes_max: u64,
}

impl Default for Limits {
    /// 64 MiB, forty times what etcd takes in one request by default.
    fn default() -> Self {
        Self { node_bytes_max: 64 << 20 }
    }
}

/// Why a database cannot be read. No variant is worth a retry, except some of `Io`.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file failed.
    #[error("reading the database failed: {0}")]
    Io(#[from] io::Error),
    /// Neither of the two meta pages is valid.
    #[error("not a bbolt database of version 2, or both of its meta pages are damaged")]
    NoValidMeta,
    /// The file ends before its last page.
    #[error("the database is cut short: {bytes} bytes of {expected}")]
    Truncated {
        /// Length of the file.
        bytes: u64,
        /// The least its metas call for.
        expected: u64,
    },
    /// A page is damaged.
    #[error("page {} of the database is damaged: {problem}", page.0)]
    Page {
        /// The page; 0 for an inline bucket, which has none of its own.
        page: PageId,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What can be wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It, or its overflow, is a meta page or lies at or above the high water mark.
    #[error("outside of the file")]
    OutOfBounds,
    /// Its header carries another number.
    #[error("its header names another page")]
    WrongId,
    /// It is neither what was expected at its place nor anything that could be there.
    #[error("of the wrong kind")]
    WrongKind,
    /// It is larger than [`Limits::node_bytes_max`].
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// An element, or the table of elements, reaches beyond it.
    #[error("an element reaches beyond its end")]
    ElementOutOfBounds,
    /// A key is empty, not above the key before it, or outside of the range of its parent.
    #[error("keys are out of order")]
    KeyOrder,
    /// A branch has no children.
    #[error("a branch without children")]
    EmptyBranch,
    /// The tree is deeper than any tree can be.
    #[error("nested too deeply")]
    TooDeep,
    /// A bucket's value is too short for a bucket.
    #[error("a bucket's header is damaged")]
    BucketHeader,
    /// It is reachable twice, or reachable and free.
    #[error("in use twice")]
    UsedTwice,
    /// It is neither reachable nor free.
    #[error("neither reachable nor free")]
    Lost,
}

impl Problem {
    pub(crate) fn at(self, page: PageId) -> ReadError {
        ReadError::Page { page, problem: self }
    }
}

/// An open database.
#[derive(Debug)]
pub struct Reader<R> {
    pub(crate) source: R,
    pub(crate) meta: Meta,
    limits: Limits,
}

impl<R: ReadAt> Reader<R> {
    /// Validates the metas. Bytes behind the last page are ignored.
    ///
    /// # Errors
    /// [`ReadError::NoValidMeta`], [`ReadError::Truncated`], [`ReadError::Io`].
    pub fn open(source: R, limits: Limits) -> Result<Self, ReadError> {
        let bytes = source.length()?;
        let first = meta_at(&source, 0, bytes)?;
        let sizes = match first {
            Some(meta) => vec![u64::from(meta.page_size)],
            None => PAGE_SIZE_LOG2.map(|log2| 1 << log2).collect(),
        };
        let mut second = None;
        for size in sizes {
            let found = meta_at(&source, size, bytes)?;
            second = second.or(found.filter(|meta| u64::from(meta.page_size) == size));
        }
        let newest = [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction);
        let meta = newest.filter(is_plausible).ok_or(ReadError::NoValidMeta)?;
        let expected = meta.high_water.saturating_mul(u64::from(meta.page_size));
        if bytes < expected {
            return Err(ReadError::Truncated { bytes, expected });
        }
        Ok(Self { source, meta, limits })
    }

    /// The bucket that holds the top-level buckets.
    #[must_use]
    pub fn root(&self) -> Bucket<'_, R> {
        Bucket { reader: self, root: Root::Page(self.meta.root), nesting: 0 }
    }

    /// A top-level bucket, `None` if there is none of that name.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_, R>>, ReadError> {
        self.root().bucket(name)
    }

    /// Length of the database in bytes, without what may follow it in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_size)
    }

    /// Bytes of a page with its overflow, after checking that it is where it may be.
    pub(crate) fn load(&self, id: PageId) -> Result<(Header, Bytes), ReadError> {
        if id.0 < 2 || id.0 >= self.meta.high_water {
            return Err(Problem::OutOfBounds.at(id));
        }
        let page_size = u64::from(self.meta.page_size);
        let mut header = [0; HEADER_BYTES];
        self.source.read_exact_at(&mut header, id.0 * page_size)?;
        let header = Header::decode(&header).ok_or(Problem::WrongKind.at(id))?;
        if header.id != id {
            return Err(Problem::WrongId.at(id));
        }
        let spanned = u64::from(header.overflow) + 1;
        if id.0 + spanned > self.meta.high_water {
            return Err(Problem::OutOfBounds.at(id));
        }
        let limit = self.limits.node_bytes_max;
        let length = usize::try_from(spanned * page_size).ok();
        let length = length.filter(|length| *length as u64 <= limit);
        let mut bytes = vec![0; length.ok_or(Problem::TooLarge { limit }.at(id))?];
        self.source.read_exact_at(&mut bytes, id.0 * page_size)?;
        Ok((header, Bytes::from(bytes)))
    }

    pub(crate) fn load_node(&self, id: PageId, range: &KeyRange) -> Result<Node, ReadError> {
        let (header, bytes) = self.load(id)?;
        Node::parse(id, header, bytes, range)
    }
}

fn meta_at(source: &impl ReadAt, page: u64, bytes: u64) -> Result<Option<Meta>, ReadError> {
    let at = page + HEADER_BYTES as u64;
    if at + META_BYTES as u64 > bytes {
        return Ok(None);
    }
    let mut buffer = [0; META_BYTES];
    source.read_exact_at(&mut buffer, at)?;
    Ok(Meta::decode(&buffer))
}

fn is_plausible(meta: &Meta) -> bool {
    let size = meta.page_size;
    size.is_power_of_two()
        && PAGE_SIZE_LOG2.contains(&size.ilog2())
        && meta.high_water.checked_mul(u64::from(size)).is_some()
}

/// One B+ tree of a database.
///
/// A damaged file may name one bucket at several places. A walk that follows every bucket it
/// meets should therefore be preceded by [`Reader::check`].
#[derive(Debug)]
pub struct Bucket<'a, R> {
    pub(crate) reader: &'a Reader<R>,
    pub(crate) root: Root,
    nesting: usize,
}

impl<R> Clone for Bucket<'_, R> {
    fn clone(&self) -> Self {
        Self { reader: self.reader, root: self.root.clone(), nesting: self.nesting }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Root {
    Page(PageId),
    /// The bytes of the one page of an inline bucket.
    Inline(Bytes),
}

impl<'a, R: ReadAt> Bucket<'a, R> {
    /// All entries in ascending order of their keys. After an error there is none more.
    #[must_use]
    pub fn entries(&self) -> Entries<'a, R> {
        self.entries_from(&[])
    }

    /// The entries from the first key at or above `from`.
    #[must_use]
    pub fn entries_from(&self, from: &[u8]) -> Entries<'a, R> {
        let from = Bytes::copy_from_slice(from);
        Entries { bucket: self.clone(), start: Some(from), stack: Vec::new() }
    }

    /// The value of a key; `None` if there is none, or if it is the name of a bucket.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        match self.entries_from(key).next().transpose()? {
            Some(Entry::Value { key: found, value }) if found == key => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// A bucket within this one; `None` if there is none, or if the name is that of a value.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'a, R>>, ReadError> {
        match self.entries_from(name).next().transpose()? {
            Some(Entry::Bucket { name: found, bucket }) if found == name => Ok(Some(bucket)),
            _ => Ok(None),
        }
    }

    /// The entry with the highest key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn last(&self) -> Result<Option<Entry<'a, R>>, ReadError> {
        let mut range = KeyRange::default();
        let mut node = self.root_node()?;
        for _ in 0..DEPTH_MAX {
            let Some(last) = node.elements.len().checked_sub(1) else { return Ok(None) };
            match node.kind {
                NodeKind::Leaf => return self.entry(&node, last).map(Some),
                NodeKind::Branch => {
                    range = node.child_range(last, &range);
                    node = self.reader.load_node(node.elements[last].child, &range)?;
                }
            }
        }
        Err(Problem::TooDeep.at(node.id))
    }

    pub(crate) fn root_node(&self) -> Result<Node, ReadError> {
        match &self.root {
            Root::Page(id) => self.reader.load_node(*id, &KeyRange::default()),
            Root::Inline(bytes) => {
                let id = PageId(0);
                let header = Header::decode(bytes).ok_or(Problem::BucketHeader.at(id))?;
                if header.kind != Some(Kind::Leaf) {
                    return Err(Problem::WrongKind.at(id));
                }
                Node::parse(id, header, bytes.clone(), &KeyRange::default())
            }
        }
    }

    pub(crate) fn entry(&self, node: &Node, index: usize) -> Result<Entry<'a, R>, ReadError> {
        let element = &node.elements[index];
        let (key, value) = (element.key.clone(), element.value.clone());
        if !element.is_bucket {
            return Ok(Entry::Value { key, value });
        }
        let root = u64_at(&value, 0).ok_or(Problem::BucketHeader.at(node.id))?;
        if value.len() < BUCKET_BYTES {
            return Err(Problem::BucketHeader.at(node.id));
        }
        let root = match root {
            0 => Root::Inline(value.slice(BUCKET_BYTES..)),
            root => Root::Page(PageId(root)),
        };
        if self.nesting == NESTING_MAX {
            return Err(Problem::TooDeep.at(node.id));
        }
        let bucket = Bucket { reader: self.reader, root, nesting: self.nesting + 1 };
        Ok(Entry::Bucket { name: key, bucket })
    }
}

/// What a bucket holds under one key.
#[derive(Debug)]
pub enum Entry<'a, R> {
    /// A pair. Both are views into the page, which lives as long as they do.
    Value {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// A bucket within the bucket.
    Bucket {
        /// Its name.
        name: Bytes,
        /// The bucket.
        bucket: Bucket<'a, R>,
    },
}

/// Walks a bucket. Holds one page per level of the tree.
#[derive(Debug)]
pub struct Entries<'a, R> {
    bucket: Bucket<'a, R>,
    /// Where to begin, until begun.
    start: Option<Bytes>,
    stack: Vec<Frame>,
}

#[derive(Debug)]
struct Frame {
    node: Node,
    range: KeyRange,
    next: usize,
}

impl<'a, R: ReadAt> Entries<'a, R> {
    fn step(&mut self) -> Result<Option<Entry<'a, R>>, ReadError> {
        if let Some(from) = self.start.take() {
            let node = self.bucket.root_node()?;
            self.push(node, KeyRange::default(), &from);
            self.seek(&from)?;
        }
        loop {
            let Some(frame) = self.stack.last_mut() else { return Ok(None) };
            let index = frame.next;
            if index == frame.node.elements.len() {
                self.stack.pop();
                continue;
            }
            frame.next += 1;
            match frame.node.kind {
                NodeKind::Leaf => return self.bucket.entry(&frame.node, index).map(Some),
                NodeKind::Branch => self.descend(index, &[])?,
            }
        }
    }

    /// Goes down to the leaf where `from` is or would be.
    fn seek(&mut self, from: &[u8]) -> Result<(), ReadError> {
        while let Some(frame) = self.stack.last_mut() {
            if frame.node.kind == NodeKind::Leaf {
                break;
            }
            let index = frame.next;
            frame.next += 1;
            self.descend(index, from)?;
        }
        Ok(())
    }

    fn descend(&mut self, index: usize, from: &[u8]) -> Result<(), ReadError> {
        let frame = self.stack.last().expect("a parent");
        let child = frame.node.elements[index].child;
        if self.stack.len() == DEPTH_MAX {
            return Err(Problem::TooDeep.at(child));
        }
        let range = frame.node.child_range(index, &frame.range);
        let node = self.bucket.reader.load_node(child, &range)?;
        self.push(node, range, from);
        Ok(())
    }

    fn push(&mut self, node: Node, range: KeyRange, from: &[u8]) {
        let below = node.elements.partition_point(|element| match node.kind {
            NodeKind::Leaf => element.key < from,
            NodeKind::Branch => element.key <= from,
        });
        let next = match node.kind {
            NodeKind::Leaf => below,
            // The child that begins at or before `from`, or the first.
            NodeKind::Branch => below.saturating_sub(1),
        };
        self.stack.push(Frame { node, range, next });
    }
}

impl<'a, R: ReadAt> Iterator for Entries<'a, R> {
    type Item = Result<Entry<'a, R>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.step().transpose();
        if matches!(item, Some(Err(_))) {
            self.stack.clear();
        }
        item
    }
}
