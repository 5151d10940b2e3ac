//! A log whose records carry the epoch of the leader that appended them.

use std::fmt;

use crate::view::{Cell, CellState};

/// A leader's epoch: in KRaft's words the same as Raft's term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// A client's value.
    Value(u64),
    /// A leader of KRaft begins its epoch.
    LeaderChange,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(f, "v{value}"),
            Self::LeaderChange => f.write_str("leader"),
        }
    }
}

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The epoch of the leader that appended it.
    pub epoch: Epoch,
    /// What it says.
    pub content: Content,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.content, self.epoch)
    }
}

impl Record {
    /// What it is, and where, in a sentence.
    pub(super) fn at(&self, offset: u64) -> String {
        let what = match self.content {
            Content::Value(value) => format!("v{value}"),
            Content::LeaderChange => "the leader change".to_owned(),
        };
        format!("{what} of epoch {} at offset {offset}", self.epoch)
    }
}

/// The last epoch of a log that is not above one asked for, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochEnd {
    /// The epoch; `None` if the log has only later ones.
    pub epoch: Option<Epoch>,
    /// The offset after its last record.
    pub end: u64,
}

impl fmt::Display for EpochEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "epoch {epoch} ends at {}", self.end),
            None => f.write_str("no such epoch"),
        }
    }
}

/// A log. The first offset is 0; epochs never fall.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log(Vec<Record>);

impl Log {
    /// The offset after the last record: Kafka's *log end offset*.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.len() as u64
    }

    /// The record at an offset.
    #[must_use]
    pub fn get(&self, offset: u64) -> Option<Record> {
        self.0.get(place(offset)).copied()
    }

    /// The records from an offset on.
    #[must_use]
    pub fn from(&self, offset: u64) -> &[Record] {
        self.0.get(place(offset)..).unwrap_or_default()
    }

    /// The epoch of the last record.
    #[must_use]
    pub fn last_epoch(&self) -> Option<Epoch> {
        self.0.last().map(|record| record.epoch)
    }

    /// The epoch of the record before an offset.
    #[must_use]
    pub fn epoch_before(&self, offset: u64) -> Option<Epoch> {
        self.get(offset.checked_sub(1)?).map(|record| record.epoch)
    }

    /// The last epoch that is not above this one, and where it ends.
    #[must_use]
    pub fn end_of(&self, epoch: Epoch) -> EpochEnd {
        let end = self.0.partition_point(|record| record.epoch <= epoch) as u64;
        EpochEnd { epoch: self.epoch_before(end), end }
    }

    /// Where this log and one of which only `other` is known part at the latest: records from there on are not
    /// in the other one, or are not known to be.
    ///
    /// An epoch has one leader, so two logs that both have records of it have the same ones, as far as the
    /// shorter goes; what is of an epoch that the other does not have is not in the other.
    #[must_use]
    pub fn parts_from(&self, other: EpochEnd) -> u64 {
        let own = other.epoch.map_or(0, |epoch| self.end_of(epoch).end);
        own.min(other.end)
    }

    /// Appends.
    pub fn append(&mut self, records: &[Record]) {
        self.0.extend_from_slice(records);
    }

    /// What is shown of it. What is on the disk and not below the high watermark may still vanish.
    pub(super) fn cells(&self, high_watermark: u64, disk: &Self) -> Vec<Cell> {
        let state = |offset| {
            if offset < high_watermark {
                CellState::Committed
            } else if disk.get(offset) == self.get(offset) {
                CellState::Durable
            } else {
                CellState::Tentative
            }
        };
        let records = (0..).zip(&self.0);
        let cell =
            |(at, record): (u64, &Record)| Cell { at, text: record.to_string(), state: state(at) };
        records.map(cell).collect()
    }

    /// Cuts off what is at this offset and after it.
    pub fn truncate(&mut self, end: u64) {
        self.0.truncate(place(end));
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(epochs: &[u64]) -> Log {
        let record = |&epoch| Record { epoch: Epoch(epoch), content: Content::Value(0) };
        Log(epochs.iter().map(record).collect())
    }

    fn end(epoch: u64, end: u64) -> EpochEnd {
        EpochEnd { epoch: Some(Epoch(epoch)), end }
    }

    #[test]
    fn an_epoch_that_the_log_has_not_is_answered_with_the_one_before() {
        let log = log(&[1, 1, 3, 5]);
        assert_eq!(end(1, 2), log.end_of(Epoch(2)));
        assert_eq!(end(3, 3), log.end_of(Epoch(3)));
        assert_eq!(end(5, 4), log.end_of(Epoch(9)));
        assert_eq!(EpochEnd { epoch: None, end: 0 }, log.end_of(Epoch(0)));
    }

    #[test]
    fn logs_part_where_the_shorter_one_ends_the_last_common_epoch() {
        assert_eq!(2, log(&[1, 1, 1]).parts_from(end(1, 2)));
        assert_eq!(3, log(&[1, 1, 1]).parts_from(end(1, 9)));
        // KIP-279: what is of epoch 2 goes, although the other log is as long.
        assert_eq!(2, log(&[1, 1, 2]).parts_from(end(1, 3)));
        assert_eq!(0, log(&[2, 2]).parts_from(EpochEnd { epoch: None, end: 0 }));
    }
}
