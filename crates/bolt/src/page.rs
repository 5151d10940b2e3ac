//! The words on a page: headers, metas and elements, to and from bytes.

/// Size of the pages written here, in bytes. It is what bbolt takes on the machines etcd is
/// built for (the page size of the operating system).
pub const PAGE_SIZE: usize = 4096;

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ELEMENT_BYTES: usize = 16;
pub(crate) const META_BYTES: usize = 64;
pub(crate) const BUCKET_BYTES: usize = 16;

/// Flag of a leaf element whose value is a bucket.
pub(crate) const ELEMENT_IS_BUCKET: u32 = 0x01;

/// The freelist's page id in a file whose freelist was not written.
pub(crate) const NO_FREELIST: PageId = PageId(u64::MAX);

/// The number of a page; its bytes begin at `id * page size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
    Meta,
    Freelist,
}

impl Kind {
    pub(crate) fn flags(self) -> u16 {
        match self {
            Kind::Branch => 0x01,
            Kind::Leaf => 0x02,
            Kind::Meta => 0x04,
            Kind::Freelist => 0x10,
        }
    }

    fn from_flags(flags: u16) -> Option<Self> {
        [Kind::Branch, Kind::Leaf, Kind::Meta, Kind::Freelist]
            .into_iter()
            .find(|kind| kind.flags() == flags)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: PageId,
    /// `None` for flags that no version of bbolt writes.
    pub(crate) kind: Option<Kind>,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn encode(id: PageId, kind: Kind, count: u16, overflow: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&id.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&kind.flags().to_le_bytes());
        bytes[10..12].copy_from_slice(&count.to_le_bytes());
        bytes[12..16].copy_from_slice(&overflow.to_le_bytes());
        bytes
    }

    /// `None` if there are fewer bytes than a header has.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: PageId(u64_at(bytes, 0)?),
            kind: Kind::from_flags(u16_at(bytes, 8)?),
            count: u16_at(bytes, 10)?,
            overflow: u32_at(bytes, 12)?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    pub(crate) root: PageId,
    pub(crate) freelist: PageId,
    /// One past the last page in use.
    pub(crate) high_water: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    pub(crate) fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0; META_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.root.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.freelist.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let sum = fnv64a(&bytes[..56]);
        bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` unless magic, version and checksum are right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let valid = u32_at(bytes, 0)? == MAGIC
            && u32_at(bytes, 4)? == VERSION
            && u64_at(bytes, 56)? == fnv64a(&bytes[..56]);
        if !valid {
            return None;
        }
        Some(Self {
            page_size: u32_at(bytes, 8)?,
            root: PageId(u64_at(bytes, 16)?),
            freelist: PageId(u64_at(bytes, 32)?),
            high_water: u64_at(bytes, 40)?,
            transaction: u64_at(bytes, 48)?,
        })
    }
}

/// FNV-1a with 64 bits, as bbolt sums its metas.
pub(crate) fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from the FNV authors' reference vectors.
    #[test]
    fn fnv64a_matches_its_reference_vectors() {
        assert_eq!(fnv64a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv64a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn a_meta_survives_the_way_and_any_flipped_bit_is_noticed() {
        let meta = Meta {
            page_size: 4096,
            root: PageId(7),
            freelist: PageId(8),
            high_water: 9,
            transaction: 1,
        };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta));
        for bit in 0..META_BYTES * 8 {
            let mut torn = bytes;
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode(&torn), None, "bit {bit}");
        }
        assert_eq!(Meta::decode(&bytes[..63]), None);
    }
}
