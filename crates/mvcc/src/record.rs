//! The bytes of one version: a `mvccpb.KeyValue`, written and read by hand.
//!
//! A list of keys is answered by concatenating what is stored, so a version is kept exactly as
//! it goes on the wire: `key = 1`, `create_revision = 2`, `mod_revision = 3`, `version = 4`,
//! `value = 5`, `lease = 6`, in that order, zeros left out (proto3). The few lines of varint
//! code here are cheaper than a message type: nothing is copied, a key and a value are slices
//! of the encoding, and a version read from disk is validated once and trusted afterwards.
//!
//! The encoding is canonical: [`Record::decode`] refuses fields out of order, zeros spelled
//! out and unknown fields, because two members that hold the same version must hold the same
//! bytes, or their hashes would differ for no reason a user could see.

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{LeaseId, Record, Revision};

const TAG_KEY: u8 = 0x0a;
const TAG_CREATE_REVISION: u8 = 0x10;
const TAG_MOD_REVISION: u8 = 0x18;
const TAG_VERSION: u8 = 0x20;
const TAG_VALUE: u8 = 0x2a;
const TAG_LEASE: u8 = 0x30;

/// Why bytes are not a version of a key. Nothing was read; a retry reads the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The encoding ends inside a field.
    #[error("record cut short")]
    CutShort,
    /// A field that no version has, or one out of its place, or a zero spelled out.
    #[error("record is not canonical: unexpected tag {0:#04x}")]
    UnexpectedField(u8),
    /// A number that no version has: a revision or a version below 1, or a varint too long.
    #[error("record holds a number out of range")]
    OutOfRange,
}

impl Record {
    /// A version of `key`, encoded. `version` counts from 1.
    ///
    /// # Panics
    /// If `key` is empty, or a revision or the version is not positive: those are the caller's
    /// to refuse before a version comes into being.
    #[must_use]
    pub fn new(
        key: &[u8],
        create_revision: Revision,
        mod_revision: Revision,
        version: i64,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Self {
        assert!(!key.is_empty(), "a key is never empty");
        assert!(create_revision.0 > 0 && create_revision <= mod_revision);
        assert!(version > 0);
        let mut out = BytesMut::with_capacity(key.len() + value.len() + 6 + 5 * 10);
        out.put_u8(TAG_KEY);
        put_len(&mut out, key.len());
        out.put_slice(key);
        for (tag, number) in [
            (TAG_CREATE_REVISION, create_revision.0),
            (TAG_MOD_REVISION, mod_revision.0),
            (TAG_VERSION, version),
        ] {
            out.put_u8(tag);
            put_varint(&mut out, number.cast_unsigned());
        }
        if !value.is_empty() {
            out.put_u8(TAG_VALUE);
            put_len(&mut out, value.len());
            out.put_slice(value);
        }
        if let Some(LeaseId(lease)) = lease {
            assert!(lease != 0, "no lease is None");
            out.put_u8(TAG_LEASE);
            put_varint(&mut out, lease.cast_unsigned());
        }
        Self { create_revision, mod_revision, version, lease, encoded: out.freeze() }
    }

    /// Reads a version from its encoding, which is kept as it is.
    ///
    /// # Errors
    /// If the bytes are anything but the canonical encoding of a version.
    pub fn decode(encoded: Bytes) -> Result<Self, RecordError> {
        let fields = Fields::read(&encoded)?;
        Ok(Self {
            create_revision: Revision(fields.create_revision),
            mod_revision: Revision(fields.mod_revision),
            version: fields.version,
            lease: fields.lease.map(LeaseId),
            encoded,
        })
    }

    /// The key: a slice of the encoding, not a copy.
    #[must_use]
    pub fn key(&self) -> Bytes {
        let (start, end) = self.fields().key;
        self.encoded.slice(start..end)
    }

    /// The value: a slice of the encoding, not a copy.
    #[must_use]
    pub fn value(&self) -> Bytes {
        let (start, end) = self.fields().value;
        self.encoded.slice(start..end)
    }

    fn fields(&self) -> Fields {
        Fields::read(&self.encoded).expect("a Record was validated when it came into being")
    }
}

/// Where everything lies in an encoding.
struct Fields {
    key: (usize, usize),
    value: (usize, usize),
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: Option<i64>,
}

impl Fields {
    fn read(encoded: &[u8]) -> Result<Self, RecordError> {
        let mut at = 0;
        let key = read_slice(encoded, &mut at, TAG_KEY)?.ok_or(RecordError::OutOfRange)?;
        let create_revision = read_positive(encoded, &mut at, TAG_CREATE_REVISION)?;
        let mod_revision = read_positive(encoded, &mut at, TAG_MOD_REVISION)?;
        let version = read_positive(encoded, &mut at, TAG_VERSION)?;
        let value = read_slice(encoded, &mut at, TAG_VALUE)?.unwrap_or((at, at));
        let lease = read_number(encoded, &mut at, TAG_LEASE)?;
        if let Some(&tag) = encoded.get(at) {
            return Err(RecordError::UnexpectedField(tag));
        }
        if create_revision > mod_revision {
            return Err(RecordError::OutOfRange);
        }
        Ok(Self { key, value, create_revision, mod_revision, version, lease })
    }
}

/// A length-delimited field at `at`, if it is the one with `tag`; never empty when present.
fn read_slice(
    encoded: &[u8],
    at: &mut usize,
    tag: u8,
) -> Result<Option<(usize, usize)>, RecordError> {
    if encoded.get(*at) != Some(&tag) {
        return Ok(None);
    }
    *at += 1;
    let len = usize::try_from(get_varint(encoded, at)?).map_err(|_| RecordError::OutOfRange)?;
    let start = *at;
    let end = start.checked_add(len).ok_or(RecordError::OutOfRange)?;
    if end > encoded.len() {
        return Err(RecordError::CutShort);
    }
    if len == 0 {
        return Err(RecordError::UnexpectedField(tag));
    }
    *at = end;
    Ok(Some((start, end)))
}

fn read_number(encoded: &[u8], at: &mut usize, tag: u8) -> Result<Option<i64>, RecordError> {
    if encoded.get(*at) != Some(&tag) {
        return Ok(None);
    }
    *at += 1;
    match get_varint(encoded, at)?.cast_signed() {
        0 => Err(RecordError::UnexpectedField(tag)),
        number => Ok(Some(number)),
    }
}

fn read_positive(encoded: &[u8], at: &mut usize, tag: u8) -> Result<i64, RecordError> {
    match read_number(encoded, at, tag)? {
        Some(number) if number > 0 => Ok(number),
        Some(_) => Err(RecordError::OutOfRange),
        None => Err(match encoded.get(*at) {
            Some(&other) => RecordError::UnexpectedField(other),
            None => RecordError::CutShort,
        }),
    }
}

pub(crate) fn put_len(out: &mut BytesMut, len: usize) {
    put_varint(out, len as u64);
}

pub(crate) fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8((number & 0x7f) as u8);
}

/// A varint at `at`, in its shortest form.
pub(crate) fn get_varint(bytes: &[u8], at: &mut usize) -> Result<u64, RecordError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or(RecordError::CutShort)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return Err(RecordError::OutOfRange);
        }
        number |= part << shift;
        if byte < 0x80 {
            let padded = byte == 0 && shift > 0;
            return if padded { Err(RecordError::OutOfRange) } else { Ok(number) };
        }
    }
    Err(RecordError::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8], lease: Option<i64>) -> Record {
        Record::new(b"foo", Revision(2), Revision(300), 7, value, lease.map(LeaseId))
    }

    #[test]
    fn bytes_are_those_of_protobuf() {
        let encoded = record(b"bar", Some(-1)).encoded;
        let mut expected = b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x07\x2a\x03bar\x30".to_vec();
        expected.extend([0xff; 9]);
        expected.push(0x01);
        assert_eq!(encoded, expected);
        assert_eq!(record(b"", None).encoded, &b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x07"[..]);
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [&b""[..], b"x", &[0; 300]] {
            for lease in [None, Some(1), Some(-1), Some(i64::MIN), Some(i64::MAX)] {
                let written = record(value, lease);
                let read = Record::decode(written.encoded.clone()).unwrap();
                assert_eq!(read, written);
                assert_eq!(read.key(), &b"foo"[..]);
                assert_eq!(read.value(), value);
            }
        }
    }

    #[test]
    fn every_prefix_and_every_padding_is_refused() {
        let whole = record(b"bar", Some(5)).encoded;
        let may_end_at = [record(b"", None).encoded.len(), record(b"bar", None).encoded.len()];
        for end in 0..whole.len() {
            let read = Record::decode(whole.slice(..end));
            assert_eq!(read.is_ok(), may_end_at.contains(&end), "{end}");
        }
        for bad in [
            &b"\x0a\x00\x10\x02\x18\x02\x20\x01"[..],
            b"\x0a\x01k\x10\x02\x18\x01\x20\x01",
            b"\x0a\x01k\x10\x00\x18\x01\x20\x01",
            b"\x0a\x01k\x10\x82\x00\x18\x02\x20\x01",
            b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x2a\x00",
            b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x30\x00",
            b"\x0a\x01k\x10\x02\x18\x02\x20\x01\x38\x01",
            b"\x0a\x01k\x18\x02\x10\x02\x20\x01",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7fk",
        ] {
            assert!(Record::decode(Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
    }
}
