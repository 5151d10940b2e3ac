//! A follower: it truncates to its leader's log, and then fetches.

use std::time::Duration;

use super::broker::{Broker, Role};
use super::process::{Message, Server, Timer};
use crate::process::{NodeId, Out};
use crate::protocols::kafka::{Epoch, EpochEnd, Record};

/// How long a follower waits for an answer before it asks again.
const FETCH_WAIT: Duration = Duration::from_millis(25);

/// What a follower knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Following {
    pub(super) leader: NodeId,
    pub(super) epoch: Epoch,
    /// It does not know yet up to where its log is the leader's.
    pub(super) truncating: bool,
}

impl Broker {
    pub(super) fn follow(&mut self, leader: NodeId, epoch: Epoch, out: &mut Out<'_, Server>) {
        let by_epoch = !self.settings.truncate_by_high_watermark;
        if !by_epoch {
            // Before KIP-101. What is above is taken to be what may go.
            self.truncate(self.high_watermark, out);
        }
        self.role = Role::Follower(Following { leader, epoch, truncating: by_epoch });
        self.fetch(out);
    }

    fn following(&self, epoch: Epoch) -> Option<&Following> {
        match &self.role {
            Role::Follower(following) if following.epoch == epoch => Some(following),
            _ => None, // Of another epoch: fenced.
        }
    }

    /// Asks the leader for what comes next, or first for where to truncate.
    pub(super) fn fetch(&mut self, out: &mut Out<'_, Server>) {
        let Role::Follower(following) = &mut self.role else { return };
        let Following { leader, epoch, .. } = *following;
        match self.log.last_epoch().filter(|_| following.truncating) {
            Some(last) => {
                let broker_epoch = self.broker_epoch;
                let ask =
                    Message::OffsetsForLeaderEpoch { current: epoch, epoch: last, broker_epoch };
                out.send(leader, ask);
            }
            None => {
                following.truncating = false;
                out.send(leader, Message::Fetch { epoch, offset: self.log.end() });
            }
        }
        out.set(Timer::Fetch, FETCH_WAIT);
    }

    pub(super) fn on_epoch_end(
        &mut self,
        current: Epoch,
        theirs: EpochEnd,
        out: &mut Out<'_, Server>,
    ) {
        if !self.following(current).is_some_and(|it| it.truncating) {
            return;
        }
        let once = self.settings.truncate_once;
        let end = if once { theirs.end } else { self.log.parts_from(theirs) };
        self.truncate(end, out);
        // Unless both have the epoch, what is left may part earlier still: asks again, of the epoch that is now last.
        let last = self.log.last_epoch();
        let found = once || last.is_none() || last == theirs.epoch;
        if let Role::Follower(following) = &mut self.role {
            following.truncating = !found;
        }
        self.fetch(out);
    }

    pub(super) fn on_fetched(
        &mut self,
        epoch: Epoch,
        offset: u64,
        records: &[Record],
        high_watermark: u64,
        out: &mut Out<'_, Server>,
    ) {
        let fetching = self.following(epoch).is_some_and(|it| !it.truncating);
        if !fetching || offset != self.log.end() {
            return; // An answer to an earlier fetch.
        }
        self.log.append(records);
        let before = self.high_watermark;
        self.advance(high_watermark.min(self.log.end()), out);
        if !records.is_empty() || self.high_watermark > before {
            self.save(out);
        }
        self.fetch(out);
    }

    /// Happens only to followers that did not truncate to where the logs part.
    pub(super) fn on_out_of_range(&mut self, epoch: Epoch, end: u64, out: &mut Out<'_, Server>) {
        if self.following(epoch).is_some() {
            self.truncate(end, out);
            self.fetch(out);
        }
    }
}
