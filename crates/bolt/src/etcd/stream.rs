//! The database with its digest: as a stream for the wire, and as a file that is checked.

use std::io;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::read::ReadAt;

/// Length of the digest behind a database, in bytes.
pub const DIGEST_BYTES: usize = 32;

/// The length of a database is a multiple of this; that is how the tools of etcd tell whether a
/// digest follows.
const SECTOR_BYTES: u64 = 512;

/// What is read at a time to compute a digest, in bytes.
const READ_BYTES: usize = 256 << 10;

/// One message of a snapshot stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The next bytes of the file. The last chunk is the digest.
    pub blob: Bytes,
    /// Bytes of the database after this chunk, the digest not counted.
    pub remaining_bytes: u64,
}

/// A database as a stream: its bytes in order, then the digest in a chunk of its own. After an
/// error there is no more.
#[derive(Debug)]
pub struct Chunks<R> {
    source: R,
    chunk_bytes: usize,
    offset: u64,
    length: u64,
    digest: Option<Sha256>,
}

impl<R: ReadAt> Chunks<R> {
    /// Streams the whole of `source`, a database without a digest, in chunks of `chunk_bytes`.
    ///
    /// # Errors
    /// Those of the source; `InvalidData` if its length is no multiple of 512.
    ///
    /// # Panics
    /// If `chunk_bytes` is 0.
    pub fn new(source: R, chunk_bytes: usize) -> io::Result<Self> {
        assert!(chunk_bytes > 0, "a chunk holds something");
        let length = source.length()?;
        if length % SECTOR_BYTES != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { source, chunk_bytes, offset: 0, length, digest: Some(Sha256::new()) })
    }

    /// The length of the database in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl<R: ReadAt> Iterator for Chunks<R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let digest = self.digest.as_mut()?;
        let left = self.length - self.offset;
        if left == 0 {
            let blob = Bytes::copy_from_slice(&self.digest.take()?.finalize());
            return Some(Ok(Chunk { blob, remaining_bytes: 0 }));
        }
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes);
        let mut blob = vec![0; size];
        if let Err(error) = self.source.read_exact_at(&mut blob, self.offset) {
            self.digest = None;
            return Some(Err(error));
        }
        digest.update(&blob);
        self.offset += size as u64;
        Some(Ok(Chunk { blob: blob.into(), remaining_bytes: self.length - self.offset }))
    }
}

/// What a file says of its own integrity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// A digest follows the database, and it is right.
    Verified,
    /// None follows: a database that was copied rather than downloaded.
    Absent,
}

/// Why a file is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file failed.
    #[error("reading the snapshot failed: {0}")]
    Io(#[from] io::Error),
    /// Its length is neither that of a database nor that of one with a digest: it was cut.
    #[error("the snapshot is cut short: {bytes} bytes are no whole database")]
    Length {
        /// Length of the file.
        bytes: u64,
    },
    /// The digest is not that of the database before it.
    #[error("the snapshot is damaged: its SHA-256 does not match")]
    Mismatch,
}

/// Checks the digest of a file, if it has one. Reads the whole file then.
///
/// # Errors
/// [`VerifyError`].
pub fn verify(source: &impl ReadAt) -> Result<Digest, VerifyError> {
    let bytes = source.length()?;
    let database = match bytes % SECTOR_BYTES {
        0 => return Ok(Digest::Absent),
        over if over == DIGEST_BYTES as u64 => bytes - over,
        _ => return Err(VerifyError::Length { bytes }),
    };
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < database {
        let size = usize::try_from(database - offset).unwrap_or(usize::MAX).min(READ_BYTES);
        source.read_exact_at(&mut buffer[..size], offset)?;
        digest.update(&buffer[..size]);
        offset += size as u64;
    }
    let mut expected = [0; DIGEST_BYTES];
    source.read_exact_at(&mut expected, database)?;
    if digest.finalize()[..] != expected {
        return Err(VerifyError::Mismatch);
    }
    Ok(Digest::Verified)
}
