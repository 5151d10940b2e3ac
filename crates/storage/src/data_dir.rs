//! The data directory: whose it is, and that only one process works in it.
//!
//! Two processes on one directory would each overwrite what the other believes durable; a lock
//! of the operating system on the file `lock` keeps the second one out and ends with its holder,
//! however that ends. The file `identity` says to which cluster and member the data belong, and in
//! which format the directory is laid out; it is text, for operators:
//!
//! ```text
//! quorate data directory
//! format 1
//! cluster 00c0ffee00c0ffee
//! member 0000000000000001
//! checksum 5d1f9a77
//! ```
//!
//! It is written once, before anything else is stored, under another name and then renamed: it
//! is there whole or not at all. The checksum is the CRC-32C of all that precedes its line.

use std::io;
use std::path::{Path, PathBuf};

use env::{Disk, DiskFile};

/// The format of the directory that this program writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Name of the file that is locked while the directory is in use.
pub const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const TITLE: &str = "quorate data directory";

/// No identity is longer, in bytes.
const IDENTITY_BYTES_MAX: usize = 4096;

/// To whom data belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster_id: u64,
    /// The member of it.
    pub member_id: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process, or this one, works in it. May be tried again.
    #[error("the data directory {} is in use by another process", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to someone else.
    #[error(
        "the data directory {} belongs to member {:x} of cluster {:x}, not to member {:x} of \
         cluster {:x}",
        .path.display(), .found.member_id, .found.cluster_id,
        .expected.member_id, .expected.cluster_id
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Identity,
        /// Whose it should be.
        expected: Identity,
    },
    /// A newer version of this program wrote it.
    #[error("the data directory {} has format {found}, this program reads up to {FORMAT}", .path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The identity file is not what was written.
    #[error("{}: not the identity of a data directory: {what}", .path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The file system refused.
    #[error("data directory {}: {source}", .path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub struct DataDir<D: Disk> {
    disk: D,
    path: PathBuf,
    identity: Option<Identity>,
    _lock: D::Lock,
}

impl<D: Disk> DataDir<D> {
    /// Makes the directory if need be, locks it and reads whose it is.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(disk: D, path: &Path) -> Result<Self, DataDirError> {
        let io = |source| DataDirError::Io { path: path.to_path_buf(), source };
        disk.create_dir_all(path).map_err(io)?;
        let lock = disk.lock(&path.join(LOCK)).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => DataDirError::InUse { path: path.to_path_buf() },
            _ => io(source),
        })?;
        let identity = read_identity(&disk, path)?;
        Ok(Self { disk, path: path.to_path_buf(), identity, _lock: lock })
    }

    /// Whose data they are; `None` for a directory that is new.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Claims a new directory, durably, or checks that one that exists is `identity`'s.
    ///
    /// # Errors
    /// `Foreign` if it belongs to someone else; `Io`.
    pub fn claim(&mut self, identity: Identity) -> Result<(), DataDirError> {
        match self.identity {
            Some(found) if found == identity => Ok(()),
            Some(found) => {
                Err(DataDirError::Foreign { path: self.path.clone(), found, expected: identity })
            }
            None => {
                self.write_identity(identity)
                    .map_err(|source| DataDirError::Io { path: self.path.clone(), source })?;
                self.identity = Some(identity);
                Ok(())
            }
        }
    }

    fn write_identity(&self, identity: Identity) -> io::Result<()> {
        let new = self.path.join(IDENTITY_NEW);
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.create(&new)?;
        file.write_at(encode(identity).as_bytes(), 0)?;
        file.sync()?;
        self.disk.rename(&new, &self.path.join(IDENTITY))?;
        self.disk.sync_dir(&self.path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    pub fn log_dir(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state engine is.
    pub fn engine_dir(&self) -> PathBuf {
        self.path.join("state")
    }
}

fn encode(identity: Identity) -> String {
    let Identity { cluster_id, member_id } = identity;
    let text =
        format!("{TITLE}\nformat {FORMAT}\ncluster {cluster_id:016x}\nmember {member_id:016x}\n");
    let checksum = crc32c::crc32c(text.as_bytes());
    format!("{text}checksum {checksum:08x}\n")
}

fn read_identity<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Identity>, DataDirError> {
    let path = dir.join(IDENTITY);
    let io = |source| DataDirError::Io { path: path.clone(), source };
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io)?,
    };
    let mut bytes = vec![0; IDENTITY_BYTES_MAX];
    let filled = file.read_at(&mut bytes, 0).map_err(io)?;
    decode(&bytes[..filled]).map(Some).map_err(|wrong| match wrong {
        Wrong::Newer(found) => DataDirError::Format { path: dir.to_path_buf(), found },
        Wrong::Damaged(what) => DataDirError::Corrupted { path: path.clone(), what },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Newer(u32),
    Damaged(&'static str),
}

fn decode(bytes: &[u8]) -> Result<Identity, Wrong> {
    let text = str::from_utf8(bytes).map_err(|_| Wrong::Damaged("it is not text"))?;
    let (summed, checksum) = text
        .rsplit_once("checksum ")
        .filter(|(_, sum)| sum.len() == 9 && sum.ends_with('\n'))
        .ok_or(Wrong::Damaged("it has no checksum"))?;
    let expected = format!("{:08x}\n", crc32c::crc32c(summed.as_bytes()));
    if checksum != expected {
        return Err(Wrong::Damaged("its checksum is wrong"));
    }
    let mut lines = summed.lines();
    if lines.next() != Some(TITLE) {
        return Err(Wrong::Damaged("it has another title"));
    }
    let mut field = |name: &str, radix: u32, missing: &'static str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .and_then(|value| u64::from_str_radix(value, radix).ok())
            .ok_or(Wrong::Damaged(missing))
    };
    let format = field("format", 10, "it names no format")?;
    let format = u32::try_from(format).map_err(|_| Wrong::Damaged("it names no format"))?;
    if format > FORMAT {
        return Err(Wrong::Newer(format));
    }
    Ok(Identity {
        cluster_id: field("cluster", 16, "it names no cluster")?,
        member_id: field("member", 16, "it names no member")?,
    })
}

#[cfg(test)]
mod tests {
    use env::{RealDisk, SimDisk};

    use super::*;

    const OURS: Identity = Identity { cluster_id: 0xc0ff_ee00_c0ff_ee00, member_id: 1 };
    const DIR: &str = "/data";

    fn open(disk: &SimDisk) -> Result<DataDir<SimDisk>, DataDirError> {
        DataDir::open(disk.clone(), Path::new(DIR))
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = DataDir::open(RealDisk, root.path()).unwrap();
        let second = DataDir::open(RealDisk, root.path());
        let Err(error @ DataDirError::InUse { .. }) = second else { panic!("{second:?}") };
        assert!(error.to_string().contains("in use"), "{error}");
        drop(first);
        DataDir::open(RealDisk, root.path()).unwrap();
    }

    #[test]
    fn a_directory_keeps_its_owner() {
        let disk = SimDisk::new(1);
        let mut dir = open(&disk).unwrap();
        assert_eq!(dir.identity(), None);
        dir.claim(OURS).unwrap();
        disk.crash();
        let mut dir = open(&disk).unwrap();
        assert_eq!(dir.identity(), Some(OURS));
        dir.claim(OURS).unwrap();
        let other = Identity { member_id: 2, ..OURS };
        assert!(matches!(dir.claim(other), Err(DataDirError::Foreign { found: OURS, .. })));
    }

    #[test]
    fn an_interrupted_claim_is_no_claim_or_a_whole_one() {
        for cut in 0..8 {
            let disk = SimDisk::new(cut);
            let mut dir = open(&disk).unwrap();
            disk.power_off_after(cut);
            let claimed = dir.claim(OURS).is_ok();
            disk.crash();
            let mut dir = open(&disk).unwrap();
            assert!(dir.identity() == Some(OURS) || !claimed && dir.identity().is_none());
            dir.claim(OURS).unwrap();
        }
    }

    #[test]
    fn every_flipped_bit_of_the_identity_is_told() {
        let text = encode(OURS);
        assert_eq!(decode(text.as_bytes()), Ok(OURS));
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone().into_bytes();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&damaged), Err(Wrong::Damaged(_))), "bit {bit}");
        }
        for end in 0..text.len() {
            assert!(decode(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let text = format!("{TITLE}\nformat 7\nsomething new\n");
        let text = format!("{text}checksum {:08x}\n", crc32c::crc32c(text.as_bytes()));
        assert_eq!(decode(text.as_bytes()), Err(Wrong::Newer(7)));
    }
}
