//! Reads and writes bbolt database files, the format of an etcd snapshot.
//!
//! etcd keeps its state in one [bbolt](https://github.com/etcd-io/bbolt) file, and what
//! `etcdctl snapshot save` downloads is that file with a SHA-256 behind it. A store that wants to
//! be backed up, moved and restored with etcd's own tools therefore has to speak the format in
//! both directions, and needs nothing else of bbolt: no transactions, no page reuse, no locks.
//!
//! # The format, version 2
//!
//! The file is an array of pages, 4096 bytes each as written here ([`Reader`] takes any size the
//! file claims). All integers are little-endian: bbolt writes in the order of its machine, and
//! every machine that etcd supports has this one.
//!
//! ```text
//! page          id u64 | flags u16 | count u16 | overflow u32 | body, over 1 + overflow pages
//! meta   0x04   magic u32 | version u32 | page size u32 | flags u32 | root u64 | sequence u64
//!               | freelist u64 | high water u64 | transaction u64 | FNV-64a of all before, u64
//! branch 0x01   count x { pos u32, key size u32, child u64 } | keys
//! leaf   0x02   count x { flags u32, pos u32, key size u32, value size u32 } | keys and values
//! free   0x10   count x page id u64 (if count is 0xFFFF, the first u64 is the count)
//! ```
//!
//! - `pos` counts from the start of its own element, not of the page.
//! - Pages 0 and 1 are metas; the valid one with the higher transaction number wins.
//! - A bucket is a B+ tree. It is named by a leaf element with flag 1, whose value is
//!   `root u64 | sequence u64`. A root of 0 marks an *inline* bucket: one leaf page without a
//!   page of its own follows in the value.
//! - The key in a branch element is at most the first key below it, and the first keys ascend.
//! - Every page below the high water mark is reachable exactly once or in the freelist.
//!
//! # What is here
//!
//! - [`Writer`]: a bulk load. Pairs come in ascending order, each page is written once, in one
//!   pass over the file; only the two metas are written at the end. It holds one page per level
//!   of the tree in memory, and the one pair at hand.
//! - [`Reader`]: walks buckets of a file it does not trust. [`Reader::check`] accounts for every
//!   page, as `bbolt check` does.
//! - [`sort::Sorter`]: brings pairs into ascending order in bounded memory, for a source that
//!   has them in another.
//! - [`etcd`]: what etcd keeps in which bucket.
//!
//! # Caveats
//!
//! - The writer fills pages whole, because a snapshot is read, restored and then mostly appended
//!   to. A store that goes on writing in the middle of it splits pages at first.
//! - The writer never makes an inline bucket; small buckets cost a page each.
//! - A big-endian machine's file is refused as not being a bbolt file.

mod check;
pub mod etcd;
mod node;
mod page;
mod read;
pub mod sort;
mod write;

pub use page::{PAGE_SIZE, PageId};
pub use read::{Bucket, Entries, Entry, Limits, Problem, ReadAt, ReadError, Reader};
pub use write::{BucketWriter, KEY_BYTES_MAX, Summary, VALUE_BYTES_MAX, WriteError, Writer};
