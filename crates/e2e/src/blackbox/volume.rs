//! A member's disk: an ext4 in a file, on a loop device; it can lose its power, be full, and rot.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate};

use super::host::{Helpers, call};
use crate::differential::generate::Dice;
use crate::server::wait_for;

/// Room of each; the file is sparse.
pub const MEBIBYTES: u64 = 768;
const BIG_BYTES: u64 = 4 << 10;
const CANARY: &str = "canary";
/// What is written while the disk hangs.
const STUCK: &str = "stuck";
const BALLAST: &str = "ballast";
const DATA: &str = "data";

/// See the module. It is unmounted when the run's mount namespace ends.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    at: PathBuf,
    power_off: PathBuf,
}

impl Volume {
    /// Makes and mounts one.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make(directory: &Path, name: &str, helpers: &Helpers) -> Result<Self> {
        let image = directory.join(format!("{name}.ext4"));
        let at = directory.join(format!("{name}.disk"));
        std::fs::create_dir(&at)?;
        let volume = Self { image, at, power_off: helpers.power_off.clone() };
        volume.format()?;
        volume.mount()?;
        Ok(volume)
    }

    fn format(&self) -> Result<()> {
        let file = File::create(&self.image)?;
        file.set_len(MEBIBYTES << 20)?;
        let flags = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"];
        let image = self.image.as_os_str();
        call("mkfs.ext4", flags.iter().map(AsRef::as_ref).chain([image])).map(drop)
    }

    fn mount(&self) -> Result<()> {
        let (image, at) = (self.image.as_os_str(), self.at.as_os_str());
        call("mount", ["-o", "loop"].iter().map(AsRef::as_ref).chain([image, at])).map(drop)
    }

    fn unmount(&self) -> Result<()> {
        let mut said = None;
        let gone = wait_for("umount", Duration::from_secs(10), || {
            call("umount", [&self.at]).map_err(|error| said = Some(error)).ok()
        });
        gone.map(drop).with_context(|| format!("{said:?}"))
    }

    /// Where the member keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.at.join(DATA)
    }

    /// Cuts the power: nothing is written from now on. Writes a file first that was not synced, for
    /// [`Volume::power_on`] to look for.
    ///
    /// # Errors
    /// When the system refuses, or something can still be written.
    pub fn power_off(&self) -> Result<()> {
        let canary = self.at.join(CANARY);
        std::fs::write(&canary, [b'x'; 64 << 10]).with_context(|| canary.display().to_string())?;
        call(&self.power_off.display().to_string(), [&self.at])?;
        let refused = File::create(self.at.join("after")).is_err();
        ensure!(refused, "{} still takes writes after it was shut down", self.at.display());
        Ok(())
    }

    /// Mounts it again, when no process uses it any more. What was not synced must be gone.
    ///
    /// # Errors
    /// When the system refuses, or nothing was lost: then there was no power cut.
    pub fn power_on(&self) -> Result<()> {
        self.unmount()?;
        self.mount()?;
        let canary = std::fs::read(self.at.join(CANARY)).unwrap_or_default();
        ensure!(canary != [b'x'; 64 << 10], "what was not synced has outlived a power cut");
        if self.at.join(CANARY).exists() {
            std::fs::remove_file(self.at.join(CANARY))?;
        }
        Ok(())
    }

    /// Free room, in bytes.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn free_bytes(&self) -> Result<u64> {
        let stat = rustix::fs::statvfs(&self.at)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Takes all room but `left_bytes`, whoever writes meanwhile.
    ///
    /// # Errors
    /// When the room is still there afterwards.
    pub fn fill(&self, left_bytes: u64) -> Result<()> {
        let file = File::create(self.at.join(BALLAST))?;
        let mut taken = 0;
        for piece in [64 << 20, 4 << 20, 256 << 10, 4 << 10] {
            while self.free_bytes()? > left_bytes + piece
                && fallocate(&file, FallocateFlags::empty(), taken, piece).is_ok()
            {
                taken += piece;
            }
        }
        let free = self.free_bytes()?;
        ensure!(free <= left_bytes + (1 << 20), "{free} bytes are still free");
        Ok(())
    }

    /// Gives back what [`Volume::fill`] took.
    ///
    /// # Errors
    /// When it took nothing.
    pub fn relieve(&self) -> Result<()> {
        std::fs::remove_file(self.at.join(BALLAST)).context("the ballast")?;
        // Or it would be back after a power loss.
        Ok(File::open(&self.at)?.sync_all()?)
    }

    /// Has it take no writes; those that are begun wait.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn freeze(&self) -> Result<Frozen> {
        call("fsfreeze", ["-f".as_ref(), self.at.as_os_str()])?;
        let path = self.at.join(STUCK);
        let stuck = Some(std::thread::spawn(move || write_and_sync(&path)));
        Ok(Frozen { at: self.at.clone(), stuck })
    }

    /// Unmounts it for good and removes the file; nothing uses it any more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self) -> Result<()> {
        self.unmount()?;
        Ok(std::fs::remove_file(&self.image)?)
    }

    /// Removes the member's data.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn wipe(&self) -> Result<()> {
        match std::fs::remove_dir_all(self.data_dir()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    /// Turns some bits in the files of a member that does not run. Returns what was changed, in words.
    ///
    /// # Errors
    /// When there is nothing to change, or the change does not read back.
    pub fn rot(&self, dice: &mut Dice) -> Result<Vec<String>> {
        let mut files = Vec::new();
        collect(&self.data_dir(), &mut files)?;
        ensure!(!files.is_empty(), "no file with data in {}", self.data_dir().display());
        // One file, or each bit in one of its own: what is found in one must not hide what is not found in another.
        // Small files are few bytes of many, and yet as many as the big ones.
        let is_big = |path: &PathBuf| path.metadata().is_ok_and(|data| data.len() >= BIG_BYTES);
        let big: Vec<PathBuf> = files.iter().filter(|path| is_big(path)).cloned().collect();
        let small_too = big.is_empty() || dice.one_in(8);
        let choices = if small_too { &files } else { &big };
        let one = dice.one_in(2).then(|| dice.pick(choices));
        let mut done = Vec::new();
        for _ in 0..1 + dice.below(5) {
            let path = one.clone().unwrap_or_else(|| dice.pick(choices));
            done.push(rot_one(&path, dice).with_context(|| path.display().to_string())?);
        }
        Ok(done)
    }
}

/// A disk that takes no writes until this is gone.
#[derive(Debug)]
pub struct Frozen {
    at: PathBuf,
    /// A write and its sync: how long they took.
    stuck: Option<JoinHandle<std::io::Result<Duration>>>,
}

impl Frozen {
    /// Lets writes through again. Returns how many milliseconds one has waited.
    ///
    /// # Errors
    /// When the system refuses, or the write has failed.
    pub fn thaw(mut self) -> Result<u64> {
        call("fsfreeze", ["-u".as_ref(), self.at.as_os_str()])?;
        let stuck = self.stuck.take().context("the disk hangs once")?;
        let took = stuck.join().ok().context("the write has panicked")??;
        std::fs::remove_file(self.at.join(STUCK))?;
        Ok(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Drop for Frozen {
    /// Whatever happens, nobody hangs on it for ever: not even signal 9 would end it.
    fn drop(&mut self) {
        if self.stuck.is_some() {
            let _best_effort = call("fsfreeze", ["-u".as_ref(), self.at.as_os_str()]);
        }
    }
}

fn write_and_sync(path: &Path) -> std::io::Result<Duration> {
    let began = Instant::now();
    let file = File::create(path)?;
    file.write_all_at(b"x", 0)?;
    file.sync_all()?;
    Ok(began.elapsed())
}

/// Files that are not empty.
fn collect(directory: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), into)?;
        } else if kind.is_file() && entry.metadata()?.len() > 0 {
            into.push(entry.path());
        }
    }
    Ok(())
}

/// Files are preallocated, so that most places hold nothing: one that holds something is taken.
fn rot_one(path: &Path, dice: &mut Dice) -> Result<String> {
    let bytes = std::fs::read(path)?;
    let used: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    let offset = if used.is_empty() { dice.index(bytes.len()) } else { dice.pick(&used) };
    let flipped = [bytes[offset] ^ (1 << dice.below(8))];
    let file = File::options().read(true).write(true).open(path)?;
    file.write_all_at(&flipped, offset as u64)?;
    file.sync_all()?;
    let mut now = [0];
    file.read_exact_at(&mut now, offset as u64)?;
    ensure!(now == flipped && now[0] != bytes[offset], "the bit did not turn");
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(format!("{name}[{offset} of {}] {:02x} -> {:02x}", bytes.len(), bytes[offset], now[0]))
}
