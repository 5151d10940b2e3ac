//! A disk in memory that forgets what a disk may forget.
//!
//! Every file has two sides: what its readers see (the page cache) and what would be left after
//! a crash (the platter), with the unsynced writes between them, sector by sector. A crash
//! decides for each sector separately how many of the writes that touched it arrived: none, all,
//! or those up to a point, so writes are lost, torn and reordered. Directory changes are kept
//! apart in the same way, as a journal of which a crash keeps a prefix.
//!
//! Faults come in two kinds. *Planned* ones name their moment: [`SimDisk::power_off_after`] cuts
//! the power before the n-th operation that changes anything (so a test can enumerate every
//! point), [`SimDisk::fail_after`] fails one operation. *Drawn* ones have a chance per operation
//! ([`SimDisk::set_fault_rate`]). Both are counted ([`SimDisk::faults`]), so that a run can prove
//! that it met what it claims to survive.
//!
//! Caveats: directories themselves are durable at once; a rename stays within a directory.

mod inode;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, SECTOR_BYTES};
use crate::SplitMix64;
use inode::Inode;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// A simulated disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

/// How often each kind of fault was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Crashes taken.
    pub crashes: u64,
    /// Sectors that a crash set back to an earlier content.
    pub sectors_lost: u64,
    /// Files of which a crash kept some unsynced sectors and lost others.
    pub files_torn: u64,
    /// Directory changes that a crash undid.
    pub names_lost: u64,
    /// Writes that failed with an I/O error.
    pub writes_failed: u64,
    /// Syncs that failed with an I/O error.
    pub syncs_failed: u64,
    /// Reads that failed with an I/O error.
    pub reads_failed: u64,
    /// Requests refused because the disk was full.
    pub full: u64,
    /// Bits flipped.
    pub bits_flipped: u64,
    /// Writes that went to another place of the same file than they were meant for.
    pub misdirected: u64,
    /// Reads that gave other bytes than were there.
    pub misread: u64,
}

/// How a read may go wrong without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misread {
    /// It gives what was there before the last write, sector by sector.
    Stale,
    /// It gives what is so many bytes further on in the same file.
    Elsewhere(u64),
}

/// One open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    /// The crash it belongs to: a handle from before a crash is dead.
    epoch: u64,
}

/// A lock on a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

#[derive(Debug)]
struct State {
    random: SplitMix64,
    inodes: BTreeMap<u64, Inode>,
    inode_next: u64,
    /// What is seen.
    names: BTreeMap<PathBuf, u64>,
    /// What would be left.
    names_durable: BTreeMap<PathBuf, u64>,
    /// What lies between, oldest first.
    names_pending: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    epoch: u64,
    capacity_bytes: Option<u64>,
    /// Operations that changed something, since the beginning.
    changes: u64,
    power_off_at: Option<u64>,
    powered_off: bool,
    fail_at: Option<u64>,
    /// Reads that still succeed before one fails.
    fail_read_in: Option<u64>,
    fault_rate: (u64, u64),
    misdirect_next_by: Option<u64>,
    /// Reads that are right before one is not.
    misread_in: Option<(u64, Misread)>,
    faults: FaultCounts,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Link(path, _) | Self::Unlink(path) | Self::Rename(path, _, _) => path.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Link(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Unlink(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits in memory")
}

fn off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

impl State {
    fn powered(&self) -> io::Result<()> {
        if self.powered_off { Err(off()) } else { Ok(()) }
    }

    /// Counts an operation that changes something, and fails it if its time has come.
    fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        if self.power_off_at.is_some_and(|at| self.changes >= at) {
            self.powered_off = true;
            return Err(off());
        }
        let planned = self.fail_at == Some(self.changes);
        self.changes += 1;
        let (numerator, denominator) = self.fault_rate;
        if planned || (numerator > 0 && self.random.chance(numerator, denominator)) {
            self.fail_at = self.fail_at.filter(|_| !planned);
            return Err(io::Error::other("simulated I/O error"));
        }
        Ok(())
    }

    /// Puts into `buffer` what a read from `offset` gives that goes wrong.
    fn misread(&mut self, inode: u64, how: Misread, buffer: &mut [u8], offset: u64) {
        let file = self.inode(inode);
        let mut read = match how {
            Misread::Stale => file.stale(offset, buffer.len()),
            Misread::Elsewhere(bytes) => {
                let start = index(offset.saturating_add(bytes)).min(file.seen.len());
                file.seen[start..(start + buffer.len()).min(file.seen.len())].to_vec()
            }
        };
        read.resize(buffer.len(), 0);
        if read != buffer {
            buffer.copy_from_slice(&read);
            self.faults.misread += 1;
        }
    }

    fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        named.iter().filter_map(|inode| self.inodes.get(inode)).map(Inode::used_bytes).sum()
    }

    fn room_for(&mut self, inode: u64, bytes: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let has = self.inodes.get(&inode).map_or(0, Inode::used_bytes);
        if bytes > has && self.used_bytes() - has + bytes > capacity {
            self.faults.full += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an open handle's file is kept")
    }
}

impl SimDisk {
    /// An empty disk. Everything it will ever draw depends on `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: SplitMix64::new(seed),
            inodes: BTreeMap::new(),
            inode_next: 1,
            names: BTreeMap::new(),
            names_durable: BTreeMap::new(),
            names_pending: Vec::new(),
            dirs: BTreeSet::new(),
            locks: BTreeSet::new(),
            epoch: 0,
            capacity_bytes: None,
            changes: 0,
            power_off_at: None,
            powered_off: false,
            fail_at: None,
            fail_read_in: None,
            fault_rate: (0, 1),
            misdirect_next_by: None,
            misread_in: None,
            faults: FaultCounts::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the power away and gives it back: what was not synced may be lost, every handle and
    /// lock from before is dead, planned faults are forgotten.
    pub fn crash(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.faults.crashes += 1;
        state.epoch += 1;
        state.locks.clear();
        state.powered_off = false;
        state.power_off_at = None;
        state.fail_at = None;
        state.fail_read_in = None;
        state.misdirect_next_by = None;
        // Each directory keeps a prefix of its own changes.
        let mut keep: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for change in &state.names_pending {
            *keep.entry(change.dir().unwrap_or(Path::new("")).to_path_buf()).or_default() += 1;
        }
        for count in keep.values_mut() {
            let kept = state.random.below(*count + 1);
            state.faults.names_lost += *count - kept;
            *count = kept;
        }
        for change in std::mem::take(&mut state.names_pending) {
            let left = keep.entry(change.dir().unwrap_or(Path::new("")).to_path_buf()).or_default();
            if *left > 0 {
                *left -= 1;
                change.apply(&mut state.names_durable);
            }
        }
        state.names.clone_from(&state.names_durable);
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
        for inode in state.inodes.values_mut() {
            inode.settle(&mut state.random, &mut state.faults);
            inode.seen.clone_from(&inode.durable);
            // What the file system reserved it may have forgotten with the crash.
            inode.allocated_bytes = inode.seen.len() as u64;
        }
    }

    /// Ends the process, but not the machine: handles and locks die, nothing is lost.
    pub fn kill(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.locks.clear();
        state.powered_off = false;
        state.power_off_at = None;
        state.fail_at = None;
        state.fail_read_in = None;
        state.misdirect_next_by = None;
    }

    /// Operations so far that changed something: creations, writes, syncs, renames and so on.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Lets `changes` more operations through, and fails everything from then on until
    /// [`SimDisk::crash`] or [`SimDisk::kill`].
    pub fn power_off_after(&self, changes: u64) {
        let mut state = self.state();
        state.power_off_at = Some(state.changes + changes);
    }

    /// Fails one operation with an I/O error, after `changes` more that succeed.
    pub fn fail_after(&self, changes: u64) {
        let mut state = self.state();
        state.fail_at = Some(state.changes + changes);
    }

    /// Fails one read of a file with an I/O error, after `reads` more that succeed.
    pub fn fail_read_after(&self, reads: u64) {
        self.state().fail_read_in = Some(reads);
    }

    /// Fails each operation that changes something with this chance.
    ///
    /// # Panics
    /// If `denominator` is 0.
    pub fn set_fault_rate(&self, numerator: u64, denominator: u64) {
        assert!(denominator > 0, "a chance out of nothing");
        self.state().fault_rate = (numerator, denominator);
    }

    /// Limits the sum of all files; `None` is no limit.
    pub fn set_capacity_bytes(&self, capacity: Option<u64>) {
        self.state().capacity_bytes = capacity;
    }

    /// The bytes that all files take now.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Lets one read of a file go wrong, after `reads` more that are right.
    pub fn misread_after(&self, reads: u64, how: Misread) {
        self.state().misread_in = Some((reads, how));
    }

    /// Sends the next write of any file `bytes` further than it was meant for.
    pub fn misdirect_next_write(&self, bytes: u64) {
        self.state().misdirect_next_by = Some(bytes);
    }

    /// Flips bits of one byte of a file, in the cache and on the platter, as if it had rotted
    /// long ago. Returns false if there is no such byte.
    ///
    /// # Panics
    /// If `mask` is 0: nothing would be flipped.
    #[must_use]
    pub fn rot(&self, path: &Path, offset: u64, mask: u8) -> bool {
        assert!(mask != 0, "a mask of 0 flips nothing");
        let mut state = self.state();
        let Some(&inode) = state.names.get(path) else { return false };
        let file = state.inode(inode);
        let Some(byte) = file.seen.get_mut(index(offset)) else { return false };
        *byte ^= mask;
        if let Some(byte) = file.durable.get_mut(index(offset)) {
            *byte ^= mask;
        }
        for content in file.pending.get_mut(&(offset / SECTOR)).into_iter().flatten() {
            content[index(offset % SECTOR)] ^= mask;
        }
        state.faults.bits_flipped += u64::from(mask.count_ones());
        true
    }

    /// A copy of the disk as it is, sharing nothing with it and drawing from `seed`. Handles and
    /// locks do not carry over.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let fork = Self::new(seed);
        {
            let (from, mut to) = (self.state(), fork.state());
            to.inodes = from.inodes.iter().map(|(&number, file)| (number, file.clone())).collect();
            to.inode_next = from.inode_next;
            to.names.clone_from(&from.names);
            to.names_durable.clone_from(&from.names_durable);
            to.names_pending.clone_from(&from.names_pending);
            to.dirs.clone_from(&from.dirs);
            to.capacity_bytes = from.capacity_bytes;
        }
        fork
    }

    /// How often each kind of fault was met so far.
    #[must_use]
    pub fn faults(&self) -> FaultCounts {
        self.state().faults
    }

    fn handle(&self, inode: u64, epoch: u64) -> SimFile {
        SimFile { disk: self.clone(), inode, epoch }
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        state.change()?;
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.inode_next;
        state.inode_next += 1;
        state.inodes.insert(inode, Inode::default());
        let change = NameChange::Link(path.to_path_buf(), inode);
        change.apply(&mut state.names);
        state.names_pending.push(change);
        Ok(self.handle(inode, state.epoch))
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.state();
        state.powered()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(inode, state.epoch))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.powered()?;
        for dir in path.ancestors() {
            state.dirs.insert(dir.to_path_buf());
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        assert_eq!(from.parent(), to.parent(), "a rename stays in its directory");
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let change = NameChange::Rename(from.to_path_buf(), to.to_path_buf(), inode);
        change.apply(&mut state.names);
        state.names_pending.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Unlink(path.to_path_buf());
        change.apply(&mut state.names);
        state.names_pending.push(change);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.powered()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Err(error) = state.change() {
            state.faults.syncs_failed += u64::from(!state.powered_off);
            return Err(error);
        }
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for change in std::mem::take(&mut state.names_pending) {
            if change.dir() == Some(dir) {
                change.apply(&mut state.names_durable);
            } else {
                state.names_pending.push(change);
            }
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        state.powered()?;
        let capacity = state.capacity_bytes.unwrap_or(u64::MAX);
        Ok(capacity.saturating_sub(state.used_bytes()))
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let mut state = self.state();
        state.powered()?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path: path.to_path_buf(), epoch: state.epoch })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.powered()?;
        if state.epoch == self.epoch { Ok(state) } else { Err(off()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state()?;
        match state.fail_read_in {
            Some(0) => {
                state.fail_read_in = None;
                state.faults.reads_failed += 1;
                return Err(io::Error::other("simulated I/O error"));
            }
            Some(reads) => state.fail_read_in = Some(reads - 1),
            None => {}
        }
        let inode = state.inode(self.inode);
        let seen = &inode.seen;
        let start = index(offset).min(seen.len());
        let end = (start + buffer.len()).min(seen.len());
        buffer[..end - start].copy_from_slice(&seen[start..end]);
        let misread = match state.misread_in {
            Some((0, how)) => state.misread_in.take().map(|_| how),
            Some((reads, how)) => {
                state.misread_in = Some((reads - 1, how));
                None
            }
            None => None,
        };
        if let Some(how) = misread {
            state.misread(self.inode, how, &mut buffer[..end - start], offset);
        }
        Ok(end - start)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        state.room_for(self.inode, offset + data.len() as u64)?;
        if let Err(error) = state.change() {
            // A write that fails may have got some way, in whole sectors.
            state.faults.writes_failed += u64::from(!state.powered_off);
            let reached = offset + state.random.below(data.len() as u64 + 1);
            let part = (reached / SECTOR * SECTOR).saturating_sub(offset);
            state.inode(self.inode).write(&data[..index(part)], offset);
            return Err(error);
        }
        let mut offset = offset;
        if let Some(bytes) = state.misdirect_next_by.take() {
            state.faults.misdirected += 1;
            offset += bytes;
        }
        state.inode(self.inode).write(data, offset);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        if let Err(error) = state.change() {
            if !state.powered_off {
                // The pages count as clean from now on, whatever became of them: readers see
                // them, a later sync does not write them.
                state.faults.syncs_failed += 1;
                let file = state.inodes.get_mut(&self.inode).expect("kept while open");
                file.settle(&mut state.random, &mut state.faults);
            }
            return Err(error);
        }
        state.inode(self.inode).sync_pending();
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        state.room_for(self.inode, bytes)?;
        state.change()?;
        let file = state.inode(self.inode);
        file.allocated_bytes = file.allocated_bytes.max(bytes);
        if index(bytes) > file.seen.len() {
            file.resize(index(bytes));
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut guard = self.state()?;
        let state = &mut *guard;
        state.room_for(self.inode, bytes)?;
        state.change()?;
        state.inode(self.inode).set_len(index(bytes));
        Ok(())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode).used_bytes())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inode(self.inode).seen.len() as u64)
    }
}
