//! What must survive a crash of what a store has promised and asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Epoch;
use crate::types::NodeId;

/// What a supporter remembers of one node it has ever supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// The least epoch under which support is or may be given. Never falls.
    pub epoch: Epoch,
    /// The longest promise given under this epoch; `None` if none is held. When it ends is not
    /// stored: clocks do not survive a restart, lengths do.
    pub promise: Option<Duration>,
}

/// The liveness record of a store. Each write replaces the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The highest epoch this store has asked under.
    pub asked: Epoch,
    /// What it has promised, by the node it promised it to: an entry for each it has ever met.
    pub supported: BTreeMap<NodeId, Supported>,
}

/// The record as stored cannot be read: it was damaged, or written by a later version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the liveness record is damaged or of a later version: {0}")]
pub struct RecordError(&'static str);

const VERSION: u8 = 1;

impl Record {
    /// The record as bytes: a version (1), the epoch asked under, and for each node its number,
    /// the epoch, and the promise in nanoseconds (0 for none); little-endian numbers of 8 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(9 + 24 * self.supported.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.asked.0.to_le_bytes());
        for (node, supported) in &self.supported {
            let promise = supported.promise.map_or(0, |promise| promise.as_nanos());
            let promise = u64::try_from(promise).unwrap_or(u64::MAX);
            for number in [node.0, supported.epoch.0, promise] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// The record from its bytes.
    ///
    /// # Errors
    /// [`RecordError`]: a store must not start without what it has promised.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let (&version, rest) = bytes.split_first().ok_or(RecordError("it is empty"))?;
        if version != VERSION {
            return Err(RecordError("its version is unknown"));
        }
        let (numbers, []) = rest.as_chunks::<8>() else {
            return Err(RecordError("its length is wrong"));
        };
        let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let asked = Epoch(numbers.next().ok_or(RecordError("its length is wrong"))?);
        let mut supported = BTreeMap::new();
        while let Some(node) = numbers.next() {
            let (Some(epoch), Some(promise)) = (numbers.next(), numbers.next()) else {
                return Err(RecordError("its length is wrong"));
            };
            let promise = (promise > 0).then(|| Duration::from_nanos(promise));
            if supported.insert(NodeId(node), Supported { epoch: Epoch(epoch), promise }).is_some()
            {
                return Err(RecordError("a node is in it twice"));
            }
        }
        Ok(Record { asked, supported })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(nodes: u64) -> Record {
        let supported = |node| {
            let promise = (node % 3 != 0).then(|| Duration::from_micros(node * 997 + 1));
            (NodeId(node << 40), Supported { epoch: Epoch(node * 7), promise })
        };
        Record { asked: Epoch(nodes * 3), supported: (0..nodes).map(supported).collect() }
    }

    #[test]
    fn what_is_stored_can_be_read() {
        for nodes in [0, 1, 2, 17] {
            assert_eq!(Ok(record(nodes)), Record::decode(&record(nodes).encode()));
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let bytes = record(2).encode();
        for length in 0..bytes.len() {
            let cut = Record::decode(&bytes[..length]);
            assert!(cut.is_err() || (length - 9).is_multiple_of(24), "{length} bytes are a record");
        }
        let twice = [&bytes[..], &bytes[9..]].concat();
        assert!(Record::decode(&twice).is_err(), "a node is in it twice");
        let mut later = bytes;
        later[0] = 2;
        assert!(Record::decode(&later).is_err(), "a later version");
    }
}
