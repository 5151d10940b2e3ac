//! A broker: what it does whether it leads or follows.

use std::rc::Rc;
use std::time::Duration;

use super::follower::Following;
use super::leader::Leading;
use super::process::{Disk, Message, Output, Partition, Request, Server, Settings, Timer};
use crate::process::{Input, InputOf, NodeId, Now, Out, RequestId};
use crate::protocols::kafka::{Epoch, Log};
use crate::view::View;

/// How often a broker tells the controller that it is alive.
const HEARTBEAT: Duration = Duration::from_millis(20);
/// How often a log is flushed, if crashes are power failures.
const FLUSH: Duration = Duration::from_millis(50);

/// What a broker is for the partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// It has not been told, or nobody leads.
    Waiting,
    /// It leads.
    Leader(Leading),
    /// It follows.
    Follower(Following),
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    pub(super) settings: Rc<Settings>,
    pub(super) id: NodeId,
    pub(super) log: Log,
    pub(super) high_watermark: u64,
    pub(super) role: Role,
    pub(super) broker_epoch: u64,
    /// The newest state that it was told.
    pub(super) partition: Option<Partition>,
}

impl Broker {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            log: disk.log.clone(),
            high_watermark: disk.high_watermark.min(disk.log.end()),
            role: Role::Waiting,
            broker_epoch: disk.broker_epoch,
            partition: None,
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Up to where its consumers may read.
    #[must_use]
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark
    }

    /// The epoch that it leads, if it leads.
    #[must_use]
    pub fn leads(&self) -> Option<Epoch> {
        match &self.role {
            Role::Leader(leading) => Some(leading.epoch),
            _ => None,
        }
    }

    pub(super) fn step(&mut self, now: Now, input: InputOf<Server>, out: &mut Out<'_, Server>) {
        match input {
            Input::Start | Input::Restart => self.begin(out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Timer(Timer::Heartbeat) => self.heartbeat(out),
            Input::Timer(Timer::Fetch) => self.fetch(out),
            Input::Timer(Timer::Lag) => self.look_who_lags(now.local, out),
            Input::Timer(Timer::Flush) => self.flush(out),
            Input::Timer(Timer::Sessions) => {}
            Input::Message { from, message } => self.on_message(from, message, now.local, out),
        }
    }

    fn on_message(
        &mut self,
        from: NodeId,
        message: Message,
        now: Duration,
        out: &mut Out<'_, Server>,
    ) {
        match message {
            Message::LeaderAndIsr { broker_epoch, partition } => {
                self.on_leader_and_isr(broker_epoch, partition, now, out);
            }
            Message::OffsetsForLeaderEpoch { current, epoch, broker_epoch }
                if self.leads() == Some(current) =>
            {
                let end = self.log.end_of(epoch);
                out.send(from, Message::EpochEndOffset { broker_epoch, current, end });
            }
            Message::EpochEndOffset { broker_epoch, current, end } => {
                // Else an answer to an earlier life: its connection is gone. Meanwhile the log may have grown.
                if broker_epoch == self.broker_epoch || self.settings.believe_late_answers {
                    self.on_epoch_end(current, end, out);
                }
            }
            Message::Fetch { epoch, offset } => self.on_fetch(from, epoch, offset, now, out),
            Message::Fetched { epoch, offset, records, high_watermark } => {
                self.on_fetched(epoch, offset, &records, high_watermark, out);
            }
            Message::OffsetOutOfRange { epoch, end } => self.on_out_of_range(epoch, end, out),
            Message::Forward { id, request } => match self.role {
                Role::Leader(_) => self.serve(id, request, out),
                _ => out.reply(id, Output::NotLeaderOrFollower),
            },
            Message::OffsetsForLeaderEpoch { .. } => {} // Fenced.
            Message::Heartbeat { .. } | Message::AlterPartition { .. } => {} // The controller's.
        }
    }

    fn begin(&mut self, out: &mut Out<'_, Server>) {
        self.broker_epoch += 1;
        let broker_epoch = self.broker_epoch;
        out.persist(|disk| disk.broker_epoch = broker_epoch);
        if self.settings.power_failure {
            out.set(Timer::Flush, FLUSH);
        }
        self.heartbeat(out);
    }

    fn heartbeat(&mut self, out: &mut Out<'_, Server>) {
        let partition_epoch = self.partition.as_ref().map(|it| it.partition_epoch);
        let heartbeat = Message::Heartbeat { broker_epoch: self.broker_epoch, partition_epoch };
        out.send(self.settings.controller(), heartbeat);
        out.set(Timer::Heartbeat, HEARTBEAT);
    }

    /// A client's library asks the leader; here the broker that was asked hands it on.
    fn on_request(&mut self, id: RequestId, request: Request, out: &mut Out<'_, Server>) {
        match &self.role {
            Role::Leader(_) => self.serve(id, request, out),
            Role::Follower(following) => {
                out.send(following.leader, Message::Forward { id, request })
            }
            Role::Waiting => out.reply(id, Output::NotLeaderOrFollower),
        }
    }

    fn on_leader_and_isr(
        &mut self,
        broker_epoch: u64,
        partition: Partition,
        now: Duration,
        out: &mut Out<'_, Server>,
    ) {
        let known = self.partition.as_ref().map(|it| it.partition_epoch);
        if broker_epoch != self.broker_epoch || known >= Some(partition.partition_epoch) {
            return; // To a life before this one, or old news.
        }
        let (leader, epoch) = (partition.leader, partition.leader_epoch);
        self.partition = Some(partition);
        match (&self.role, leader) {
            (Role::Leader(leading), Some(leader))
                if leader == self.id && leading.epoch == epoch =>
            {
                self.isr_changed(out);
            }
            (Role::Follower(it), Some(leader)) if it.leader == leader && it.epoch == epoch => {}
            (_, Some(leader)) if leader == self.id => self.lead(epoch, now, out),
            (_, Some(leader)) => {
                self.stop_leading(out);
                self.follow(leader, epoch, out);
            }
            (_, None) => {
                self.stop_leading(out);
                self.role = Role::Waiting;
                out.cancel(Timer::Fetch);
            }
        }
    }

    /// What is below the high watermark may be read.
    pub(super) fn advance(&mut self, high_watermark: u64, out: &mut Out<'_, Server>) {
        for offset in self.high_watermark..high_watermark {
            if let Some(record) = self.log.get(offset) {
                out.decide(Output::Readable { offset, record });
            }
        }
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    pub(super) fn truncate(&mut self, end: u64, out: &mut Out<'_, Server>) {
        if end < self.log.end() {
            out.note(|| format!("truncates its log from {} to {end}", self.log.end()));
            self.log.truncate(end);
            self.high_watermark = self.high_watermark.min(end);
            self.save(out);
        }
    }

    /// To the page cache, which a crash of the process leaves as it is.
    pub(super) fn save(&self, out: &mut Out<'_, Server>) {
        if !self.settings.power_failure {
            self.write(out);
        }
    }

    fn flush(&mut self, out: &mut Out<'_, Server>) {
        self.write(out);
        out.set(Timer::Flush, FLUSH);
    }

    /// Kafka writes its checkpoint of the high watermark every five seconds only.
    fn write(&self, out: &mut Out<'_, Server>) {
        let (log, high_watermark) = (self.log.clone(), self.high_watermark);
        out.persist(|disk| {
            disk.log = log;
            disk.high_watermark = high_watermark;
        });
    }

    pub(super) fn view(&self) -> View {
        let (role, epoch) = match &self.role {
            Role::Waiting => ("waits".to_owned(), None),
            Role::Leader(leading) => ("leader".to_owned(), Some(leading.epoch)),
            Role::Follower(following) => {
                let does = if following.truncating { "truncates to" } else { "fetches from" };
                (format!("{does} {}", following.leader), Some(following.epoch))
            }
        };
        let term = epoch.map(|epoch| format!("epoch {epoch}")).unwrap_or_default();
        let view =
            View { role, term, ..View::default() }.with("high watermark", self.high_watermark);
        match &self.role {
            Role::Leader(_) => view.with("ISR", super::process::names(&self.in_sync())),
            _ => view,
        }
    }
}
