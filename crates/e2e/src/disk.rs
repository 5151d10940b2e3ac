//! A small disk of its own: a tmpfs that is full when we want it to be.
//!
//! Mounting takes root. Where it is refused, that is an error: a suite that skips proves nothing.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::server::wait_for;

/// A mounted tmpfs. Dropping it unmounts; so drop what uses it first.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    /// Beside the mount point there is room for a server's log, which does not lie on the small disk.
    _parent: TempDir,
}

impl SmallDisk {
    /// Mounts one of `mebibytes`.
    ///
    /// # Errors
    /// When there is no directory for it, or the system refuses to mount.
    pub fn mount(mebibytes: u64) -> Result<Self> {
        let parent = tempfile::Builder::new().prefix("quorate-e2e-disk-").tempdir()?;
        let at = parent.path().join("disk");
        std::fs::create_dir(&at)?;
        let options = format!("size={mebibytes}m,mode=700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "quorate-e2e"]).arg(&at);
        let output = command.output().context("cannot run mount")?;
        ensure!(
            output.status.success(),
            "this suite needs a disk of its own, and mounting a tmpfs was refused (it takes root): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self { at, _parent: parent })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// How much room is left, in bytes.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.at)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes room until no more than `left_bytes` are free, whatever else is written meanwhile.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fill(&self, left_bytes: u64) -> Result<()> {
        let mut file = File::create(self.ballast())?;
        let zeros = vec![0; 256 << 10];
        while self.free_bytes()? > left_bytes {
            file.write_all(&zeros)?;
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    ///
    /// # Errors
    /// When there is none.
    pub fn relieve(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |lazily: &[&str]| {
            let status = Command::new("umount").args(lazily).arg(&self.at).status();
            status.is_ok_and(|status| status.success()).then_some(())
        };
        // A process that was killed may hold a file for a moment; after that it goes when the last user does.
        if wait_for("umount", Duration::from_secs(5), || unmount(&[])).is_err() {
            let _gone = unmount(&["--lazy"]);
        }
    }
}
