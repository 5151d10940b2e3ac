//! Raft's log matching, for all logs that were ever seen.

use std::collections::BTreeMap;

use super::{Content, Epoch, Log, Record};
use crate::process::NodeId;
use crate::words::names;

/// A record's content, and the epoch of the record before it.
type Written = (Content, Option<Epoch>);

/// Every record that was ever in a log: by its offset and epoch, what it says, and the epoch before it.
#[derive(Debug, Default)]
pub(super) struct Lineage(BTreeMap<(u64, Epoch), Written>);

/// Where a log has another past than some log had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    offset: u64,
    epoch: Epoch,
    /// What this log has there, and what was seen there first.
    both: [Written; 2],
}

impl Lineage {
    /// Where a log has another past than some log had; `None` if it matches all that were seen. By induction it is
    /// enough that an offset and an epoch determine the content and the epoch before.
    pub(super) fn differs(&mut self, log: &Log) -> Option<Parting> {
        let mut before = None;
        let mut found = None;
        for (offset, record) in (0..).zip(log.from(0)) {
            let has = (record.content, before);
            let first = *self.0.entry((offset, record.epoch)).or_insert(has);
            if first != has && found.is_none() {
                found = Some(Parting { offset, epoch: record.epoch, both: [has, first] });
            }
            before = Some(record.epoch);
        }
        found
    }
}

impl Parting {
    /// Both of what is there, and in whose logs.
    pub(super) fn says(&self, logs: &[(NodeId, &Log)]) -> String {
        let Self { offset, epoch, both } = *self;
        let after_others = both[0].1 != both[1].1;
        let [one, other] = both.map(|(content, before)| {
            let record = Record { epoch, content };
            let has =
                |log: &Log| log.get(offset) == Some(record) && log.epoch_before(offset) == before;
            let holders: Vec<NodeId> =
                logs.iter().filter(|(_, log)| has(log)).map(|&(node, _)| node).collect();
            let who = match holders.is_empty() {
                true => "in a log that has it no longer".to_owned(),
                false => format!("in the log of {}", names(holders)),
            };
            let after = match before {
                _ if !after_others => String::new(),
                Some(before) => format!(", after a record of epoch {before},"),
                None => ", as the first of all,".to_owned(),
            };
            format!("{}{after} is {who}", record.at(offset))
        });
        format!("{one}, and {other}")
    }
}
