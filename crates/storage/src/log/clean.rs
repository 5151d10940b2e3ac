//! Carrying the living out of the oldest segment, so that it can be reused.
//!
//! Segments are freed oldest first; one entry of a group that lags would hold all the space
//! behind it. So once there are more than [`Options::segments_min`](super::Options) segments,
//! the oldest is cleaned when little of it lives (an eighth) or when less than half of the whole
//! log does. In the second case what is carried is paid for by at least as much that was freed:
//! the log is never more than about twice what is needed, and never written more than about twice.
//!
//! INVARIANT: cleaning oldest-first is what makes replay simple. A record that ends the life of
//! others (an overwriting entry, a truncation, a farewell) lies behind all of them, so it is
//! still there as long as any of them is.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use env::{Disk, DiskFile};
use raft::{GroupId, LogIndex};

use super::Log;
use super::error::{AppendError, Failed};
use super::format::Record;
use super::index::Place;

/// What is still to be carried out of one segment.
#[derive(Debug, Default)]
pub(super) struct Cleaning {
    segment: u64,
    groups: VecDeque<GroupId>,
}

impl<D: Disk> Log<D> {
    /// Carries up to `step_bytes` out of the oldest segment, if it is worth it. What is carried
    /// becomes durable with the sync that follows. `pressed` says that the disk is full.
    pub(super) fn clean_step(&mut self, pressed: bool) -> Result<(), Failed> {
        let first = self.first_needed();
        if !self.worth_cleaning(first, pressed) {
            return Ok(());
        }
        if self.cleaning.segment != first || self.cleaning.groups.is_empty() {
            self.plan_cleaning(first);
        }
        self.begin_unit();
        let mut left = u64::from(self.options.step_bytes);
        while let Some(&group) = self.cleaning.groups.front() {
            let (used, done) = self.carry_group(group, first, left)?;
            left = left.saturating_sub(used);
            if done {
                self.cleaning.groups.pop_front();
            }
            if left == 0 {
                break;
            }
        }
        match self.make_room(false) {
            Ok(()) => {
                self.stats.carried_bytes += self.unit.bytes();
                self.write_unit()
            }
            // Another time: truncations may come first.
            Err(AppendError::Full { .. } | AppendError::TooLarge { .. }) => {
                self.cleaning.groups.clear();
                Ok(())
            }
            Err(AppendError::Failed(failed)) => Err(failed),
        }
    }

    fn worth_cleaning(&self, first: u64, pressed: bool) -> bool {
        let full = self.tail.segment - first;
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        if pressed {
            // Half, because a carried record may not fit the rest of a segment.
            let fits = state.index.live_bytes_of(first) < self.segments.left_bytes(self.tail) / 2;
            return full > 0 && fits;
        }
        if full < self.options.segments_min as u64 {
            return false;
        }
        let segment_bytes = u64::from(self.options.segment_bytes);
        state.index.live_bytes_of(first) <= segment_bytes / 8
            || state.index.live_bytes() < full * segment_bytes / 2
    }

    fn plan_cleaning(&mut self, segment: u64) {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let lives_here = |place: &Place| place.at.segment == segment;
        let concerned = state.index.groups.iter().filter(|(_, group)| {
            group.state.iter().any(lives_here) || group.places.iter().any(lives_here)
        });
        self.cleaning = Cleaning { segment, groups: concerned.map(|(id, _)| *id).collect() };
    }

    /// Adds what lives of `id` in `segment` to the unit, up to `bytes_max` and at least one
    /// record. Returns the bytes and whether that was all.
    fn carry_group(
        &mut self,
        id: GroupId,
        segment: u64,
        bytes_max: u64,
    ) -> Result<(u64, bool), Failed> {
        let shared = Arc::clone(&self.shared);
        let state = shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = state.index.groups.get(&id) else { return Ok((0, true)) };
        let mut used = 0;
        if let Some(place) = group.state.filter(|place| place.at.segment == segment) {
            self.unit.carry_state(id, group.hard_state, group.truncated);
            used += u64::from(place.bytes);
        }
        let mut buffer = Vec::new();
        for (index, place) in (group.truncated.index.0 + 1..).zip(&group.places) {
            if place.at.segment != segment {
                continue;
            }
            if used >= bytes_max {
                return Ok((used, false));
            }
            buffer.resize(place.bytes as usize, 0);
            let read = self.segments.file(segment).read_at(&mut buffer, place.at.offset.into());
            if let Err(error) = read {
                return Err(self.fail("an entry to be carried could not be read", &error));
            }
            let record = Record::parse(self.options.log_id, place.at, &buffer).filter(|record| {
                record.header.group == id && record.header.position.index == LogIndex(index)
            });
            let Some(record) = record else {
                let error = std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("{id:?} entry {index}, segment {segment}, byte {}", place.at.offset),
                );
                return Err(self.fail("an entry to be carried is corrupted", &error));
            };
            self.unit.carry_entry(&record);
            used += u64::from(place.bytes);
        }
        Ok((used, true))
    }
}
