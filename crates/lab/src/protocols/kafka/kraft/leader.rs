//! A leader: it appends, answers fetches, and resigns if they do not come.

use std::collections::BTreeMap;
use std::time::Duration;

use super::process::{Message, Output, Timer};
use super::voter::{Role, Voter};
use crate::process::{NodeId, Out, RequestId};
use crate::protocols::kafka::{Content, Epoch, Record};

/// How often a leader answers fetches that wait, and looks who still fetches.
const LEAD: Duration = Duration::from_millis(20);

/// What a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// Where its epoch begins: the offset of its leader-change record.
    start: u64,
    followers: BTreeMap<NodeId, Progress>,
    /// Clients that wait for the high watermark to pass an offset.
    waiting: Vec<(u64, RequestId)>,
}

/// How far a follower is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Progress {
    /// The end of its log, which is a beginning of the leader's; `None` before its first fetch in this epoch.
    end: Option<u64>,
    /// When it last fetched; at first, when the leader was elected.
    fetched: Duration,
    /// The offset of a fetch that waits for something to answer.
    parked: Option<u64>,
    /// The high watermark that it was last told.
    told: u64,
}

impl Voter {
    pub(super) fn lead(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        if self.settings.begin_at_watermark {
            self.log.truncate(self.high_watermark);
        }
        let start = self.log.end();
        let begins = Progress { fetched: now, ..Progress::default() };
        let followers = self.others().map(|id| (id, begins.clone())).collect();
        self.role = Role::Leader(Leading { start, followers, waiting: Vec::new() });
        // A record of its own epoch: without it nothing from before could be committed.
        self.append(&[Record { epoch: self.epoch, content: Content::LeaderChange }], out);
        out.send_all(self.others(), &Message::BeginQuorumEpoch(self.epoch));
        out.set(Timer::Lead, LEAD);
        self.count(now, out);
    }

    pub(super) fn stop_leading(&mut self, out: &mut Out<'_, Self>) {
        if let Role::Leader(leading) = &self.role {
            for &(_, id) in &leading.waiting {
                out.reply(id, Output::NotLeader);
            }
            out.cancel(Timer::Lead);
            self.role = Role::Unattached;
        }
    }

    pub(super) fn serve(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Self>) {
        let Role::Leader(leading) = &mut self.role else {
            out.reply(id, Output::NotLeader);
            return;
        };
        let record = Record { epoch: self.epoch, content: Content::Value(value) };
        let offset = self.log.end();
        if self.settings.answer_at_append {
            out.reply(id, Output::Acknowledged { offset, record });
        } else {
            leading.waiting.push((offset, id));
        }
        self.append(&[record], out);
        if self.settings.n == 1 {
            self.commit(self.log.end(), out);
        }
        self.answer_parked(false, out);
    }

    /// `older` is of an earlier epoch, and comes here only if this voter is broken.
    pub(super) fn on_fetch(
        &mut self,
        from: NodeId,
        (offset, last_epoch): (u64, Option<Epoch>),
        older: bool,
        now: Duration,
        out: &mut Out<'_, Self>,
    ) {
        let epoch = self.epoch;
        let Role::Leader(leading) = &mut self.role else {
            out.send(from, Message::Fenced { epoch, leader: None });
            return;
        };
        let Some(follower) = leading.followers.get_mut(&from) else { return };
        follower.fetched = now;
        let end = self.log.end_of(last_epoch.unwrap_or_default());
        if older {
            follower.end = follower.end.max(Some(offset.min(self.log.end())));
            self.count(now, out);
            return;
        }
        if offset > 0 && (end.epoch != last_epoch || offset > end.end) {
            out.send(from, Message::Diverging { epoch, asked: (offset, last_epoch), end });
            return;
        }
        follower.end = follower.end.max(Some(offset));
        follower.parked = Some(offset);
        self.count(now, out);
        self.answer_parked(false, out);
    }

    /// The high watermark: what a majority has fetched, once that has come to a record of the leader's own epoch.
    fn count(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        let Role::Leader(leading) = &self.role else { return };
        let majority = self.settings.majority();
        let ends = leading.followers.values().map(|follower| follower.end.unwrap_or(0));
        let mut ends: Vec<u64> = ends.chain([self.log.end()]).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let mut fetched = ends[majority - 1];
        if self.settings.count_connected && self.connected(leading, now) >= majority {
            fetched = self.log.end();
        }
        if fetched > leading.start || self.settings.count_old_epochs {
            self.commit(fetched, out);
        }
    }

    fn commit(&mut self, high_watermark: u64, out: &mut Out<'_, Self>) {
        self.advance(high_watermark, out);
        let Role::Leader(leading) = &mut self.role else { return };
        for (offset, id) in leading.waiting.extract_if(.., |(offset, _)| *offset < high_watermark) {
            if let Some(record) = self.log.get(offset) {
                out.reply(id, Output::Acknowledged { offset, record });
            }
        }
    }

    /// Answers fetches for which there is something, or all.
    fn answer_parked(&mut self, all: bool, out: &mut Out<'_, Self>) {
        let (epoch, high_watermark, end) = (self.epoch, self.high_watermark, self.log.end());
        let Role::Leader(leading) = &mut self.role else { return };
        for (&to, follower) in &mut leading.followers {
            let news =
                |&offset: &u64| all || offset < end || follower.told < high_watermark.min(offset);
            let Some(offset) = follower.parked.filter(news) else { continue };
            follower.parked = None;
            follower.told = high_watermark;
            let records = self.log.from(offset).iter().copied().take(self.settings.fetch_max);
            let records = records.collect();
            out.send(to, Message::Records { epoch, offset, records, high_watermark });
        }
    }

    /// How many voters have fetched of late; it is one of them.
    fn connected(&self, leading: &Leading, now: Duration) -> usize {
        let timeout = self.settings.fetch_timeout;
        let recent = leading.followers.values();
        1 + recent.filter(|it| now.saturating_sub(it.fetched) <= timeout).count()
    }

    /// Answers who waits, calls who has not come, and resigns if a majority stays away.
    pub(super) fn lead_on(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        let epoch = self.epoch;
        let Role::Leader(leading) = &self.role else { return };
        let connected = self.connected(leading, now);
        if connected < self.settings.majority() {
            out.note(|| format!("resigns: {connected} voters fetch"));
            out.send_all(self.others(), &Message::EndQuorumEpoch(epoch));
            self.stop_leading(out);
            self.wait_for_leader(out);
            return;
        }
        for (&to, follower) in &leading.followers {
            if follower.end.is_none() {
                out.send(to, Message::BeginQuorumEpoch(epoch));
            }
        }
        self.answer_parked(true, out);
        out.set(Timer::Lead, LEAD);
    }
}
