//! The bulk load: ascending pairs in, pages out, each written once.
//!
//! A tree is built from its leaves up. Each level holds the one page that is being filled; when
//! the next element does not fit, the page goes to the file and its first key and number become
//! an element of the level above. So the memory in use is one page per level plus the pair at
//! hand, whatever the size of the bucket, and the file is written from front to back. Only the
//! metas (pages 0 and 1) come last, since they say where the root is: a file whose writer died
//! is no bbolt file rather than a shorter one.
//!
//! A branch page leaves one element behind when it is written, so that the page after it begins
//! with two: bbolt expects no branch with a single child.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

use crate::page::{
    BUCKET_BYTES, ELEMENT_BYTES, ELEMENT_IS_BUCKET, HEADER_BYTES, Header, Kind, Meta, PAGE_SIZE,
    PageId,
};

/// Longest key bbolt takes, in bytes.
pub const KEY_BYTES_MAX: usize = 32_768;

/// Longest value bbolt takes, in bytes.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// A branch page is not written before it has this many elements, so that two can be on every
/// page: one is left behind for the next.
const BRANCH_ELEMENTS_MIN: usize = 3;

/// Why a database could not be written. What is in the file by then is not a database.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file failed.
    #[error("writing the database failed: {0}")]
    Io(#[from] io::Error),
    /// A key is not above the one before it in its bucket, or a bucket's name was used twice.
    #[error("keys must ascend: {key:02x?} does not come after the key before it")]
    OutOfOrder {
        /// The later key.
        key: Vec<u8>,
    },
    /// bbolt has no empty keys and no empty bucket names.
    #[error("a key must not be empty")]
    EmptyKey,
    /// The key is longer than [`KEY_BYTES_MAX`].
    #[error("a key of {bytes} bytes is longer than {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value is longer than [`VALUE_BYTES_MAX`].
    #[error("a value of {bytes} bytes is longer than {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        bytes: usize,
    },
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Pages of the file, metas and freelist included.
    pub pages: u64,
    /// Length of the file in bytes; a multiple of [`PAGE_SIZE`].
    pub bytes: u64,
}

/// Writes one database into an empty file.
///
/// ```
/// let mut writer = bolt::Writer::create(std::io::Cursor::new(Vec::new()))?;
/// writer.bucket(b"fruit", |fruit| {
///     fruit.put(b"apple", b"1")?;
///     fruit.put(b"pear", b"2")
/// })?;
/// let (file, summary) = writer.finish()?;
/// assert_eq!(file.into_inner().len() as u64, summary.bytes);
/// # Ok::<(), bolt::WriteError>(())
/// ```
#[derive(Debug)]
pub struct Writer<F: Write + Seek> {
    pages: Pages<F>,
    roots: BTreeMap<Vec<u8>, PageId>,
}

impl<F: Write + Seek> Writer<F> {
    /// Begins a database at the start of `file`, which should be empty: what lies beyond the end
    /// of the database stays there.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn create(file: F) -> Result<Self, WriteError> {
        let mut file = BufWriter::with_capacity(64 * PAGE_SIZE, file);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; 2 * PAGE_SIZE])?;
        Ok(Self { pages: Pages { file, next: 2 }, roots: BTreeMap::new() })
    }

    /// Writes one top-level bucket. Buckets may come in any order; the pairs in each ascend.
    ///
    /// # Errors
    /// What `fill` returns; [`WriteError::OutOfOrder`] if there is a bucket of that name.
    pub fn bucket(
        &mut self,
        name: &[u8],
        fill: impl FnOnce(&mut BucketWriter<'_, F>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        check_key(name)?;
        if self.roots.contains_key(name) {
            return Err(WriteError::OutOfOrder { key: name.to_vec() });
        }
        let root = write_bucket(&mut self.pages, fill)?;
        self.roots.insert(name.to_vec(), root);
        Ok(())
    }

    /// Writes the root, an empty freelist and the metas, and hands the file back, flushed but
    /// not synced.
    ///
    /// # Errors
    /// [`WriteError::Io`].
    pub fn finish(mut self) -> Result<(F, Summary), WriteError> {
        let roots = std::mem::take(&mut self.roots);
        let root = write_bucket(&mut self.pages, |bucket| {
            roots.iter().try_for_each(|(name, root)| bucket.put_bucket(name, *root))
        })?;
        let freelist = self.pages.write(Kind::Freelist, 0, &[], &[])?;
        let pages = self.pages.next;
        let mut file = self.pages.file;
        for transaction in [0, 1] {
            let meta = Meta {
                page_size: u32::try_from(PAGE_SIZE).expect("pages are small"),
                root,
                freelist,
                high_water: pages,
                transaction,
            };
            file.seek(SeekFrom::Start(transaction * PAGE_SIZE as u64))?;
            file.write_all(&Header::encode(PageId(transaction), Kind::Meta, 0, 0))?;
            file.write_all(&meta.encode())?;
        }
        file.flush()?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, Summary { pages, bytes: pages * PAGE_SIZE as u64 }))
    }
}

/// Takes the pairs of one bucket, in ascending order of their keys.
#[derive(Debug)]
pub struct BucketWriter<'a, F: Write + Seek> {
    pages: &'a mut Pages<F>,
    tree: Tree,
}

impl<F: Write + Seek> BucketWriter<'_, F> {
    /// Adds a pair behind all others.
    ///
    /// # Errors
    /// Every [`WriteError`].
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.put_element(0, key, value)
    }

    /// Writes a bucket within this one. Its name takes its place in the order of the keys.
    ///
    /// # Errors
    /// Every [`WriteError`], and what `fill` returns.
    pub fn bucket(
        &mut self,
        name: &[u8],
        fill: impl FnOnce(&mut BucketWriter<'_, F>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let root = write_bucket(self.pages, fill)?;
        self.put_bucket(name, root)
    }

    fn put_bucket(&mut self, name: &[u8], root: PageId) -> Result<(), WriteError> {
        let mut value = [0; BUCKET_BYTES];
        value[..8].copy_from_slice(&root.0.to_le_bytes());
        self.put_element(ELEMENT_IS_BUCKET, name, &value)
    }

    fn put_element(&mut self, flags: u32, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(WriteError::ValueTooLong { bytes: value.len() });
        }
        if self.tree.last_key.as_slice() >= key {
            return Err(WriteError::OutOfOrder { key: key.to_vec() });
        }
        self.tree.last_key.clear();
        self.tree.last_key.extend_from_slice(key);
        self.tree.push_leaf(self.pages, flags, key, value)
    }
}

fn check_key(key: &[u8]) -> Result<(), WriteError> {
    match key.len() {
        0 => Err(WriteError::EmptyKey),
        bytes if bytes > KEY_BYTES_MAX => Err(WriteError::KeyTooLong { bytes }),
        _ => Ok(()),
    }
}

fn write_bucket<F: Write + Seek>(
    pages: &mut Pages<F>,
    fill: impl FnOnce(&mut BucketWriter<'_, F>) -> Result<(), WriteError>,
) -> Result<PageId, WriteError> {
    let mut writer = BucketWriter { pages, tree: Tree::default() };
    fill(&mut writer)?;
    let BucketWriter { pages, tree } = writer;
    tree.finish(pages)
}

/// The file, as pages that are given out in order.
#[derive(Debug)]
struct Pages<F: Write + Seek> {
    file: BufWriter<F>,
    next: u64,
}

impl<F: Write + Seek> Pages<F> {
    /// Appends a page, with as many overflow pages as its body needs.
    fn write(&mut self, kind: Kind, count: u16, table: &[u8], data: &[u8]) -> io::Result<PageId> {
        let bytes = HEADER_BYTES + table.len() + data.len();
        let spanned = bytes.div_ceil(PAGE_SIZE);
        let overflow = u32::try_from(spanned - 1).expect("a node is below 16 TiB");
        let id = PageId(self.next);
        self.file.write_all(&Header::encode(id, kind, count, overflow))?;
        self.file.write_all(table)?;
        self.file.write_all(data)?;
        let padding = spanned * PAGE_SIZE - bytes;
        assert!(padding < PAGE_SIZE, "padding ends within the page");
        self.file.write_all(&[0; PAGE_SIZE][..padding])?;
        self.next += spanned as u64;
        Ok(id)
    }
}

/// A tree under construction: the page being filled at each level, leaves first.
#[derive(Debug, Default)]
struct Tree {
    leaf: Page<LeafElement>,
    branches: Vec<Page<BranchElement>>,
    last_key: Vec<u8>,
}

impl Tree {
    fn push_leaf<F: Write + Seek>(
        &mut self,
        pages: &mut Pages<F>,
        flags: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), WriteError> {
        if !self.leaf.fits(key.len() + value.len()) && !self.leaf.elements.is_empty() {
            let (first, id) = self.leaf.write(pages)?;
            self.push_branch(pages, 0, first, id)?;
        }
        let (key_bytes, value_bytes) = (size(key), size(value));
        self.leaf.elements.push(LeafElement { flags, key_bytes, value_bytes });
        self.leaf.data.extend_from_slice(key);
        self.leaf.data.extend_from_slice(value);
        Ok(())
    }

    /// Adds a child to the branch page `height` levels above the leaves' parents.
    fn push_branch<F: Write + Seek>(
        &mut self,
        pages: &mut Pages<F>,
        height: usize,
        mut first: Vec<u8>,
        mut child: PageId,
    ) -> Result<(), WriteError> {
        for height in height.. {
            if height == self.branches.len() {
                self.branches.push(Page::default());
            }
            let page = &mut self.branches[height];
            if page.fits(first.len()) || page.elements.len() < BRANCH_ELEMENTS_MIN {
                page.push(&first, child);
                return Ok(());
            }
            let (held_key, held_child) = page.pop();
            let written = page.write(pages)?;
            page.push(&held_key, held_child);
            page.push(&first, child);
            (first, child) = written;
        }
        Ok(())
    }

    /// Writes what is left and returns the root.
    fn finish<F: Write + Seek>(mut self, pages: &mut Pages<F>) -> Result<PageId, WriteError> {
        if self.branches.is_empty() {
            return Ok(self.leaf.write(pages)?.1);
        }
        let (mut first, mut child) = self.leaf.write(pages)?;
        let mut height = 0;
        while height < self.branches.len() {
            self.push_branch(pages, height, first, child)?;
            let page = &mut self.branches[height];
            assert!(page.elements.len() >= 2, "a branch has two children at least");
            (first, child) = page.write(pages)?;
            height += 1;
        }
        Ok(child)
    }
}

fn size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("lengths are checked at the entrance")
}

/// Elements of one page and, in the same order, their bytes.
#[derive(Debug)]
struct Page<E> {
    elements: Vec<E>,
    data: Vec<u8>,
}

impl<E> Default for Page<E> {
    fn default() -> Self {
        Self { elements: Vec::new(), data: Vec::new() }
    }
}

#[derive(Debug)]
struct LeafElement {
    flags: u32,
    key_bytes: u32,
    value_bytes: u32,
}

#[derive(Debug)]
struct BranchElement {
    key_bytes: u32,
    child: PageId,
}

trait Element {
    const KIND: Kind;
    fn key_bytes(&self) -> usize;
    fn data_bytes(&self) -> usize;
    fn encode(&self, pos: u32) -> [u8; ELEMENT_BYTES];
}

impl Element for LeafElement {
    const KIND: Kind = Kind::Leaf;

    fn key_bytes(&self) -> usize {
        self.key_bytes as usize
    }

    fn data_bytes(&self) -> usize {
        self.key_bytes as usize + self.value_bytes as usize
    }

    fn encode(&self, pos: u32) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        bytes[0..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[4..8].copy_from_slice(&pos.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.key_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.value_bytes.to_le_bytes());
        bytes
    }
}

impl Element for BranchElement {
    const KIND: Kind = Kind::Branch;

    fn key_bytes(&self) -> usize {
        self.key_bytes as usize
    }

    fn data_bytes(&self) -> usize {
        self.key_bytes as usize
    }

    fn encode(&self, pos: u32) -> [u8; ELEMENT_BYTES] {
        let mut bytes = [0; ELEMENT_BYTES];
        bytes[0..4].copy_from_slice(&pos.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.key_bytes.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.child.0.to_le_bytes());
        bytes
    }
}

impl<E: Element> Page<E> {
    /// Whether one more element with `data` bytes stays within one page.
    fn fits(&self, data: usize) -> bool {
        let table = (self.elements.len() + 1) * ELEMENT_BYTES;
        HEADER_BYTES + table + self.data.len() + data <= PAGE_SIZE
    }

    /// Writes the page and empties it. Returns its first key (empty if it has none) and number.
    fn write<F: Write + Seek>(&mut self, pages: &mut Pages<F>) -> io::Result<(Vec<u8>, PageId)> {
        let count = u16::try_from(self.elements.len()).expect("a page has few elements");
        let mut table = Vec::with_capacity(self.elements.len() * ELEMENT_BYTES);
        let mut offset = 0;
        for (index, element) in self.elements.iter().enumerate() {
            let pos = (self.elements.len() - index) * ELEMENT_BYTES + offset;
            let pos = u32::try_from(pos).expect("a page is below 4 GiB");
            table.extend_from_slice(&element.encode(pos));
            offset += element.data_bytes();
        }
        assert_eq!(offset, self.data.len(), "every byte belongs to an element");
        let id = pages.write(E::KIND, count, &table, &self.data)?;
        let first = self.elements.first().map_or(0, E::key_bytes);
        let first = self.data[..first].to_vec();
        self.elements.clear();
        self.data.clear();
        Ok((first, id))
    }
}

impl Page<BranchElement> {
    fn push(&mut self, key: &[u8], child: PageId) {
        self.elements.push(BranchElement { key_bytes: size(key), child });
        self.data.extend_from_slice(key);
    }

    fn pop(&mut self) -> (Vec<u8>, PageId) {
        let element = self.elements.pop().expect("a full page has elements");
        let key = self.data.split_off(self.data.len() - element.key_bytes());
        (key, element.child)
    }
}
