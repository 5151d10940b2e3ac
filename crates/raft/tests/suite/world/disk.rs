//! What a replica has applied, and what of it survives a crash.

use super::*;

/// The application: everything applied, in a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) applied: LogPosition,
    pub(crate) digest: u64,
    pub(crate) membership: Membership,
}

impl App {
    pub(super) fn apply(&mut self, entry: &Entry) {
        let data: &[u8] = match &entry.payload {
            Payload::Data(data) => data,
            Payload::Empty | Payload::Membership(_) => b"",
        };
        for &byte in data.iter().chain(&entry.index.0.to_be_bytes()) {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.applied = entry.position();
    }
}

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) truncated: LogPosition,
    pub(crate) entries: BTreeMap<LogIndex, Entry>,
    pub(crate) app: App,
}

impl Disk {
    pub(super) fn new(founding: Membership) -> Self {
        let blank = founding.voters.is_empty();
        let restored = if blank { Restored::blank() } else { Restored::founding(founding.clone()) };
        let app = App { applied: restored.truncated, digest: 0, membership: founding };
        Self {
            hard_state: restored.hard_state,
            truncated: restored.truncated,
            entries: BTreeMap::new(),
            app,
        }
    }

    pub(crate) fn last(&self) -> LogIndex {
        self.entries.last_key_value().map_or(self.truncated.index, |(&index, _)| index)
    }

    /// Whether this entry, or a snapshot that includes its index, is on the disk.
    pub(crate) fn holds(&self, at: LogPosition) -> bool {
        at.index < self.truncated.index
            || at == self.truncated
            || self.entries.get(&at.index).is_some_and(|entry| entry.term == at.term)
    }

    pub(super) fn restored(&self, recent: usize) -> Restored {
        let mut terms: Vec<(LogIndex, Term)> = Vec::new();
        for entry in self.entries.values() {
            if terms.last().is_none_or(|&(_, term)| term != entry.term) {
                terms.push((entry.index, entry.term));
            }
        }
        let skip = self.entries.len().saturating_sub(recent);
        Restored {
            hard_state: self.hard_state,
            membership: self.app.membership.clone(),
            truncated: self.truncated,
            terms,
            last_index: self.last(),
            applied: self.app.applied.index,
            entries: self.entries.values().skip(skip).cloned().collect(),
        }
    }
}
