//! Raft's log matching, for all logs that were ever seen.

use std::collections::BTreeMap;

use super::{Content, Epoch, Log};

/// Every record that was ever in a log: by its offset and epoch, what it says, and the epoch before it.
#[derive(Debug, Default)]
pub(super) struct Lineage(BTreeMap<(u64, Epoch), (Content, Option<Epoch>)>);

impl Lineage {
    /// Where a log has another past than some log had; `None` if it matches all that were seen. By induction it is
    /// enough that an offset and an epoch determine the content and the epoch before.
    pub(super) fn differs(&mut self, log: &Log) -> Option<String> {
        let mut before = None;
        let mut found = None;
        for (offset, record) in (0..).zip(log.from(0)) {
            let has = (record.content, before);
            let first = *self.0.entry((offset, record.epoch)).or_insert(has);
            if first != has && found.is_none() {
                let show = |(content, before): (Content, Option<Epoch>)| {
                    let before = before.map_or("the start".to_owned(), |it| format!("epoch {it}"));
                    format!("{content} after {before}")
                };
                let at = format!("at offset {offset} of epoch {}", record.epoch);
                found = Some(format!("{at} is {}, elsewhere {}", show(has), show(first)));
            }
            before = Some(record.epoch);
        }
        found
    }
}
