//! One file of the simulated disk, sector by sector.

use std::collections::BTreeMap;

use super::{FaultCounts, SECTOR, SECTOR_BYTES, index};
use crate::SplitMix64;

type Sector = [u8; SECTOR_BYTES];

/// A file: what its readers see, what a crash would leave, and what lies between.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// For each sector touched since the last sync: its content after each write, oldest first.
    pub(super) pending: BTreeMap<u64, Vec<Sector>>,
    /// What each sector held before the last write that changed it.
    older: BTreeMap<u64, Sector>,
    /// Lengths the file had since the last sync, oldest first.
    lengths: Vec<usize>,
    pub(super) allocated_bytes: u64,
}

impl Inode {
    pub(super) fn used_bytes(&self) -> u64 {
        self.allocated_bytes.max(self.seen.len() as u64)
    }

    fn sector_of(bytes: &[u8], sector: u64) -> Sector {
        let mut content = [0; SECTOR_BYTES];
        let start = index(sector * SECTOR).min(bytes.len());
        let end = (start + SECTOR_BYTES).min(bytes.len());
        content[..end - start].copy_from_slice(&bytes[start..end]);
        content
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        let end = index(offset) + data.len();
        if end > self.seen.len() {
            self.resize(end);
        }
        let sectors = offset / SECTOR..=(end as u64 - 1) / SECTOR;
        let before: Vec<Sector> =
            sectors.clone().map(|sector| Self::sector_of(&self.seen, sector)).collect();
        self.seen[index(offset)..end].copy_from_slice(data);
        for (sector, before) in sectors.zip(before) {
            let content = Self::sector_of(&self.seen, sector);
            if content != before {
                self.older.insert(sector, before);
            }
            self.pending.entry(sector).or_default().push(content);
        }
    }

    /// What a read of `bytes` from `offset` on gives if each sector has what it had before it was
    /// last changed.
    pub(super) fn stale(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let start = index(offset).min(self.seen.len());
        let end = (start + bytes).min(self.seen.len());
        let mut read = Vec::new();
        let first = start as u64 / SECTOR;
        for sector in first..(end as u64).div_ceil(SECTOR) {
            let now = || Self::sector_of(&self.seen, sector);
            read.extend(self.older.get(&sector).copied().unwrap_or_else(now));
        }
        let skip = start - index(first * SECTOR);
        read.drain(..skip.min(read.len()));
        read.truncate(end - start);
        read
    }

    pub(super) fn resize(&mut self, bytes: usize) {
        self.seen.resize(bytes, 0);
        self.lengths.push(bytes);
    }

    pub(super) fn set_len(&mut self, bytes: usize) {
        let old = self.seen.len();
        self.resize(bytes);
        self.allocated_bytes = self.allocated_bytes.min(bytes as u64);
        // What is cut off reads as zeros should the file grow again.
        for sector in bytes as u64 / SECTOR..(old as u64).div_ceil(SECTOR) {
            let content = Self::sector_of(&self.seen, sector);
            self.pending.entry(sector).or_default().push(content);
        }
    }

    /// Brings what is pending, and nothing else, to the platter: what a failed sync dropped
    /// stays lost.
    pub(super) fn sync_pending(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        self.lengths.clear();
        for (sector, contents) in std::mem::take(&mut self.pending) {
            let newest = contents.last().expect("a touched sector has a content");
            // Behind the end lies what was cut off.
            let start = index(sector * SECTOR).min(self.durable.len());
            let end = (start + SECTOR_BYTES).min(self.durable.len());
            self.durable[start..end].copy_from_slice(&newest[..end - start]);
        }
    }

    /// Brings a part of what is pending to the platter, and forgets the rest.
    pub(super) fn settle(&mut self, random: &mut SplitMix64, faults: &mut FaultCounts) {
        // All, nothing and a mixture are each common: a mixture alone would hardly ever lose
        // or keep a whole large write.
        let mood = random.below(4);
        // Lengths are journaled: some one that the file had, in order, not in between.
        let lengths = std::mem::take(&mut self.lengths);
        let length = match mood {
            0 => None,
            1 => lengths.last(),
            _ => random.below(lengths.len() as u64 + 1).checked_sub(1).map(|n| &lengths[index(n)]),
        };
        let length = length.copied().unwrap_or(self.durable.len());
        self.durable.resize(length, 0);
        let (mut kept_any, mut lost_any) = (false, false);
        for (sector, contents) in std::mem::take(&mut self.pending) {
            let kept = match mood {
                0 => 0,
                1 => contents.len(),
                _ => index(random.below(contents.len() as u64 + 1)),
            };
            if kept < contents.len() {
                faults.sectors_lost += 1;
                lost_any = true;
            }
            let start = index(sector * SECTOR);
            if kept > 0 && start < self.durable.len() {
                kept_any = true;
                let end = (start + SECTOR_BYTES).min(self.durable.len());
                self.durable[start..end].copy_from_slice(&contents[kept - 1][..end - start]);
            }
        }
        faults.files_torn += u64::from(kept_any && lost_any);
    }
}
