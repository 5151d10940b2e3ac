//! A leader: it appends, answers fetches, and counts what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::{Broker, Role};
use super::process::{Message, Output, Request, Server, Timer, names};
use crate::process::{NodeId, Out, RequestId};
use crate::protocols::kafka::{Content, Epoch, Record};

/// What a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    pub(super) epoch: Epoch,
    /// The end of its log when it began to lead. All that was ever committed is below.
    start: u64,
    followers: BTreeMap<NodeId, Progress>,
    /// The ISR that it has asked the controller for, until it is answered.
    proposed: Option<BTreeSet<NodeId>>,
    /// Producers that wait for the high watermark to pass an offset.
    waiting: Vec<(u64, RequestId)>,
}

/// How far a follower is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    /// The end of its log, as its fetches say; `None` if it has not fetched in this epoch.
    end: Option<u64>,
    /// When it last had all that the leader had.
    caught_up: Duration,
    /// When it last fetched, and where the leader's log ended then.
    fetched: (Duration, u64),
    /// The offset of a fetch that waits for something to answer.
    parked: Option<u64>,
    /// The high watermark that it was last told.
    told: u64,
}

impl Broker {
    pub(super) fn lead(&mut self, epoch: Epoch, now: Duration, out: &mut Out<'_, Server>) {
        self.stop_leading(out);
        let begins = Progress { caught_up: now, ..Progress::default() };
        let others = NodeId::all(self.settings.n).filter(|&id| id != self.id);
        self.role = Role::Leader(Leading {
            epoch,
            start: self.log.end(),
            followers: others.map(|id| (id, begins.clone())).collect(),
            proposed: None,
            waiting: Vec::new(),
        });
        out.cancel(Timer::Fetch);
        out.set(Timer::Lag, self.settings.lag / 2);
        self.count(out);
    }

    pub(super) fn stop_leading(&mut self, out: &mut Out<'_, Server>) {
        if let Role::Leader(leading) = &self.role {
            for &(_, id) in &leading.waiting {
                out.reply(id, Output::NotLeaderOrFollower);
            }
            out.cancel(Timer::Lag);
            self.role = Role::Waiting;
        }
    }

    /// The ISR that the controller has confirmed, as far as this leader knows.
    pub(super) fn in_sync(&self) -> BTreeSet<NodeId> {
        self.partition.as_ref().map(|it| it.isr.clone()).unwrap_or_default()
    }

    /// All that may be in the ISR just now, whatever has become of what was asked for: the next leader is one of
    /// these, so the high watermark waits for all of them (KIP-497's *maximal ISR*).
    fn maximal_isr(&self, leading: &Leading) -> BTreeSet<NodeId> {
        let mut isr = self.in_sync();
        let Some(proposed) = &leading.proposed else { return isr };
        if self.settings.shrink_before_confirmed && proposed.len() < isr.len() {
            return proposed.clone();
        }
        if !self.settings.expansion_not_counted {
            isr.extend(proposed);
        }
        isr
    }

    pub(super) fn serve(&mut self, id: RequestId, request: Request, out: &mut Out<'_, Server>) {
        let enough = self.in_sync().len() >= self.settings.min_insync;
        let Role::Leader(leading) = &mut self.role else { return };
        match request {
            Request::Latest => {
                let known = self.high_watermark >= leading.start;
                let latest = Output::Latest { offset: self.high_watermark, epoch: leading.epoch };
                let tells = known || self.settings.tell_lagging_watermark;
                out.reply(id, if tells { latest } else { Output::OffsetNotAvailable });
            }
            Request::Produce(_) if !enough && !self.settings.ignore_min_insync => {
                out.reply(id, Output::NotEnoughReplicas);
            }
            Request::Produce(value) => {
                let record = Record { epoch: leading.epoch, content: Content::Value(value) };
                let offset = self.log.end();
                self.log.append(&[record]);
                if self.settings.answer_at_append {
                    out.reply(id, Output::Acknowledged { offset, record });
                } else {
                    leading.waiting.push((offset, id));
                }
                self.save(out);
                self.count(out);
                self.answer_parked(out);
            }
        }
    }

    pub(super) fn on_fetch(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        offset: u64,
        now: Duration,
        out: &mut Out<'_, Server>,
    ) {
        let (end, any_epoch) = (self.log.end(), self.settings.fetches_of_any_epoch);
        let Role::Leader(leading) = &mut self.role else { return };
        if epoch != leading.epoch && !any_epoch {
            return; // Fenced: what it has may not be what this log has.
        }
        if offset > end {
            out.send(from, Message::OffsetOutOfRange { epoch: leading.epoch, end });
            return;
        }
        let Some(follower) = leading.followers.get_mut(&from) else { return };
        follower.end = follower.end.max(Some(offset));
        if offset >= end {
            follower.caught_up = now;
        } else if offset >= follower.fetched.1 {
            // It had all that there was when it last asked: new records do not make it lag.
            follower.caught_up = follower.caught_up.max(follower.fetched.0);
        }
        follower.fetched = (now, end);
        if follower.parked.replace(offset).is_some() {
            // It has waited long, perhaps because the last answer was lost: is told again.
            follower.told = 0;
        }
        self.expand(from, out);
        self.count(out);
        self.answer_parked(out);
    }

    /// The high watermark: the least end of a log among those in sync.
    fn count(&mut self, out: &mut Out<'_, Server>) {
        let Role::Leader(leading) = &self.role else { return };
        let isr = self.maximal_isr(leading);
        let end = |id: &NodeId| match leading.followers.get(id) {
            Some(follower) => follower.end.unwrap_or(0),
            None => self.log.end(),
        };
        let least = if self.settings.watermark_by_majority {
            let mut ends: Vec<u64> = NodeId::all(self.settings.n).map(|id| end(&id)).collect();
            ends.sort_unstable();
            ends[(ends.len() - 1) / 2]
        } else {
            isr.iter().map(end).min().unwrap_or(0)
        };
        if least <= self.high_watermark {
            return;
        }
        self.advance(least, out);
        self.save(out);
        self.acknowledge(isr.len(), out);
    }

    fn acknowledge(&mut self, in_sync: usize, out: &mut Out<'_, Server>) {
        let enough = in_sync >= self.settings.min_insync || self.settings.ignore_min_insync;
        let high_watermark = self.high_watermark;
        let Role::Leader(leading) = &mut self.role else { return };
        for (offset, id) in leading.waiting.extract_if(.., |(offset, _)| *offset < high_watermark) {
            let record = self.log.get(offset).filter(|_| enough);
            let written = record.map(|record| Output::Acknowledged { offset, record });
            out.reply(id, written.unwrap_or(Output::NotEnoughReplicasAfterAppend));
        }
    }

    /// Answers fetches for which there is something: records, or a high watermark.
    fn answer_parked(&mut self, out: &mut Out<'_, Server>) {
        let Role::Leader(leading) = &mut self.role else { return };
        for (&to, follower) in &mut leading.followers {
            let news = |&offset: &u64| {
                offset < self.log.end() || follower.told < self.high_watermark.min(offset)
            };
            if let Some(offset) = follower.parked.filter(news) {
                follower.parked = None;
                follower.told = self.high_watermark;
                out.send(
                    to,
                    Message::Fetched {
                        epoch: leading.epoch,
                        offset,
                        records: self.log.from(offset).to_vec(),
                        high_watermark: self.high_watermark,
                    },
                );
            }
        }
    }

    /// A follower that has caught up comes into the ISR.
    fn expand(&mut self, id: NodeId, out: &mut Out<'_, Server>) {
        let isr = self.in_sync();
        let Role::Leader(leading) = &self.role else { return };
        // What the leader has from before its epoch may be committed, whatever its high watermark says.
        let lagging = self.settings.expand_by_lagging_watermark;
        let bar = self.high_watermark.max(if lagging { 0 } else { leading.start });
        let end = leading.followers.get(&id).and_then(|follower| follower.end);
        if !isr.contains(&id) && leading.proposed.is_none() && end >= Some(bar) {
            self.propose(isr.into_iter().chain([id]).collect(), out);
        }
    }

    /// Followers that have not caught up for too long go out of the ISR.
    pub(super) fn look_who_lags(&mut self, now: Duration, out: &mut Out<'_, Server>) {
        let isr = self.in_sync();
        let Role::Leader(leading) = &self.role else { return };
        out.set(Timer::Lag, self.settings.lag / 2);
        if let Some(proposed) = leading.proposed.clone() {
            self.propose(proposed, out); // It was not answered: asks again.
            return;
        }
        let follows = |id: &NodeId| {
            let follower = leading.followers.get(id);
            follower.is_none_or(|it| now.saturating_sub(it.caught_up) <= self.settings.lag)
        };
        let kept: BTreeSet<NodeId> = isr.iter().copied().filter(follows).collect();
        if kept.len() < isr.len() {
            self.propose(kept, out);
        }
    }

    fn propose(&mut self, isr: BTreeSet<NodeId>, out: &mut Out<'_, Server>) {
        let partition_epoch = self.partition.as_ref().map_or(0, |it| it.partition_epoch);
        let Role::Leader(leading) = &mut self.role else { return };
        out.note(|| format!("wants the ISR to be {}", names(&isr)));
        leading.proposed = Some(isr.clone());
        let leader_epoch = leading.epoch;
        let alter = Message::AlterPartition { leader_epoch, partition_epoch, isr };
        out.send(self.settings.controller(), alter);
        self.count(out);
    }

    /// The controller has decided, as asked or otherwise.
    pub(super) fn isr_changed(&mut self, out: &mut Out<'_, Server>) {
        if let Role::Leader(leading) = &mut self.role {
            leading.proposed = None;
        }
        self.count(out);
        self.answer_parked(out);
    }
}
