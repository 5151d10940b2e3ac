//! A voter: epochs, votes, and fetching from the leader.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::leader::Leading;
use super::process::{Disk, Message, Output, Settings, Timer};
use crate::process::{Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocols::kafka::{Epoch, EpochEnd, Log, Record};
use crate::view::View;
use crate::words::count;

/// How long a follower waits for an answer before it asks again.
const FETCH_WAIT: Duration = Duration::from_millis(40);

/// What a voter is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// It knows of no leader in its epoch; it may have voted.
    Unattached,
    /// It wants to lead: who votes for it.
    Candidate(BTreeSet<NodeId>),
    /// It fetches from the leader.
    Follower(NodeId),
    /// It leads.
    Leader(Leading),
}

/// A voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    pub(super) settings: Rc<Settings>,
    pub(super) id: NodeId,
    /// In memory what is on the disk, unless it is broken.
    pub(super) epoch: Epoch,
    voted: Option<NodeId>,
    pub(super) log: Log,
    /// Not on the disk: whoever leads says it again.
    pub(super) high_watermark: u64,
    pub(super) role: Role,
    /// Broken: what it says instead of the epoch of its last record.
    pretends: Option<Epoch>,
}

impl Process for Voter {
    type Message = Message;
    type Timer = Timer;
    type Request = u64;
    type Output = Output;
    type Disk = Disk;

    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match input {
            Input::Start | Input::Restart => self.wait_for_leader(out),
            Input::Request { id, request } => self.on_request(id, request, out),
            Input::Timer(Timer::Election) => self.stand(now.local, out),
            Input::Timer(Timer::Fetch) => self.fetch(out),
            Input::Timer(Timer::Lead) => self.lead_on(now.local, out),
            Input::Message { from, message } => {
                if let Some(epoch) = message.epoch()
                    && !self.settle_epoch(from, epoch, &message, out)
                {
                    return;
                }
                self.on_message(from, message, now.local, out);
            }
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Election => "election timeout",
            Timer::Fetch => "time to fetch again",
            Timer::Lead => "look at the followers",
        };
        name.to_owned()
    }

    fn decides(output: &Output) -> String {
        format!("applies {output}")
    }

    fn kind(message: &Message) -> &'static str {
        message.kind()
    }
}

impl Voter {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self {
            settings,
            id,
            epoch: disk.epoch,
            voted: disk.voted,
            log: disk.log.clone(),
            high_watermark: 0,
            role: Role::Unattached,
            pretends: None,
        }
    }

    /// Its epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The end of what it knows to be committed.
    #[must_use]
    pub fn high_watermark(&self) -> u64 {
        self.high_watermark
    }

    /// Whether it leads its epoch.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + use<> {
        let id = self.id;
        NodeId::all(self.settings.n).filter(move |&other| other != id)
    }

    /// Settles epochs once for every message. Whether the message is of this voter's epoch.
    fn settle_epoch(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        message: &Message,
        out: &mut Out<'_, Self>,
    ) -> bool {
        if epoch > self.epoch {
            let leads = self.is_leader() && self.settings.lead_into_next_epoch;
            self.enter(epoch, None, out);
            if !leads {
                self.stop_leading(out);
                self.wait_for_leader(out);
            }
            return true;
        }
        let asks = matches!(
            message,
            Message::Vote { .. } | Message::BeginQuorumEpoch(_) | Message::Fetch { .. }
        );
        let counts = self.settings.count_older_fetches && matches!(message, Message::Fetch { .. });
        if epoch < self.epoch && asks && !counts {
            let leader = self.leader();
            out.send(from, Message::Fenced { epoch: self.epoch, leader });
        }
        epoch == self.epoch || counts
    }

    fn on_message(
        &mut self,
        from: NodeId,
        message: Message,
        now: Duration,
        out: &mut Out<'_, Self>,
    ) {
        match message {
            Message::Vote { last_epoch, end, .. } => self.on_vote(from, (last_epoch, end), out),
            Message::Voted { granted, .. } => self.on_voted(from, granted, now, out),
            Message::BeginQuorumEpoch(_) => self.follow(from, out),
            Message::EndQuorumEpoch(_) => self.on_end_quorum_epoch(from, out),
            Message::Fetch { epoch, offset, last_epoch } => {
                let log = (offset, last_epoch);
                self.on_fetch(from, log, epoch < self.epoch, now, out);
            }
            // An answer to a fetch from before it forgot whom it follows: the next one will do.
            Message::Records { .. } | Message::Diverging { .. } if self.leader().is_none() => {
                self.follow(from, out);
            }
            Message::Records { offset, records, high_watermark, .. } => {
                self.on_records(offset, &records, high_watermark, out);
            }
            Message::Diverging { asked, end, .. } => self.on_diverging(asked, end, out),
            Message::Fenced { leader: Some(leader), .. } => self.follow(leader, out),
            Message::Fenced { leader: None, .. } => {}
            Message::Forward { id, value } => self.serve(id, value, out),
        }
    }

    fn leader(&self) -> Option<NodeId> {
        match self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower(leader) => Some(leader),
            _ => None,
        }
    }

    fn on_request(&mut self, id: RequestId, value: u64, out: &mut Out<'_, Self>) {
        match self.role {
            Role::Follower(leader) => out.send(leader, Message::Forward { id, value }),
            _ => self.serve(id, value, out),
        }
    }

    // Elections.

    /// Goes to an epoch, or votes in it.
    fn enter(&mut self, epoch: Epoch, voted: Option<NodeId>, out: &mut Out<'_, Self>) {
        self.epoch = epoch;
        self.voted = voted;
        let kept = voted.filter(|_| !self.settings.forget_vote);
        out.persist(|disk| {
            disk.epoch = epoch;
            disk.voted = kept;
        });
    }

    pub(super) fn wait_for_leader(&mut self, out: &mut Out<'_, Self>) {
        self.role = Role::Unattached;
        out.cancel(Timer::Fetch);
        self.set_election_timer(out);
    }

    fn set_election_timer(&mut self, out: &mut Out<'_, Self>) {
        let least = self.settings.election_timeout_ms;
        let after = least + out.dice().below(least + 1);
        out.set(Timer::Election, Duration::from_millis(after));
    }

    fn stand(&mut self, now: Duration, out: &mut Out<'_, Self>) {
        if self.is_leader() {
            return;
        }
        self.enter(self.epoch.next(), Some(self.id), out);
        self.role = Role::Candidate([self.id].into());
        out.cancel(Timer::Fetch);
        let (last_epoch, end) = (self.log.last_epoch(), self.log.end());
        out.send_all(self.others(), &Message::Vote { epoch: self.epoch, last_epoch, end });
        self.set_election_timer(out);
        self.on_voted(self.id, true, now, out);
    }

    fn on_vote(&mut self, from: NodeId, theirs: (Option<Epoch>, u64), out: &mut Out<'_, Self>) {
        let free = match self.voted {
            Some(candidate) => candidate == from || self.settings.vote_twice,
            None => self.leader().is_none(),
        };
        // Later last epoch, or the same and no shorter.
        let up_to_date = theirs >= (self.log.last_epoch(), self.log.end());
        let granted = free && (up_to_date || self.settings.vote_without_log_check);
        if granted {
            self.enter(self.epoch, Some(from), out);
            if matches!(self.role, Role::Unattached) {
                self.set_election_timer(out);
            }
        }
        out.send(from, Message::Voted { epoch: self.epoch, granted });
    }

    fn on_voted(&mut self, from: NodeId, granted: bool, now: Duration, out: &mut Out<'_, Self>) {
        let Role::Candidate(votes) = &mut self.role else { return };
        if granted {
            votes.insert(from);
        }
        if votes.len() >= self.settings.majority() {
            out.cancel(Timer::Election);
            self.lead(now, out);
        }
    }

    /// The leader resigns: no need to wait until it is missed.
    fn on_end_quorum_epoch(&mut self, from: NodeId, out: &mut Out<'_, Self>) {
        if self.leader() == Some(from) && !self.is_leader() {
            self.role = Role::Unattached;
            out.cancel(Timer::Fetch);
            let soon = out.dice().below(self.settings.election_timeout_ms / 4 + 1);
            out.set(Timer::Election, Duration::from_millis(soon));
        }
    }

    // Following.

    fn follow(&mut self, leader: NodeId, out: &mut Out<'_, Self>) {
        if self.leader().is_none() && leader != self.id {
            self.role = Role::Follower(leader);
            self.pretends = None;
            out.set(Timer::Election, self.settings.fetch_timeout);
            self.fetch(out);
        }
    }

    fn fetch(&mut self, out: &mut Out<'_, Self>) {
        let Role::Follower(leader) = self.role else { return };
        let (epoch, offset) = (self.epoch, self.log.end());
        let last_epoch = self.pretends.or(self.log.last_epoch());
        out.send(leader, Message::Fetch { epoch, offset, last_epoch });
        out.set(Timer::Fetch, FETCH_WAIT);
    }

    /// The leader is there: the follower goes on fetching.
    fn heard(&mut self, out: &mut Out<'_, Self>) {
        out.set(Timer::Election, self.settings.fetch_timeout);
        self.fetch(out);
    }

    fn on_records(
        &mut self,
        offset: u64,
        records: &[Record],
        high_watermark: u64,
        out: &mut Out<'_, Self>,
    ) {
        if !matches!(self.role, Role::Follower(_)) || offset != self.log.end() {
            return; // An answer to an earlier fetch.
        }
        self.append(records, out);
        let early = self.settings.apply_at_fetch;
        let committed = if early { self.log.end() } else { high_watermark.min(self.log.end()) };
        self.advance(committed, out);
        self.heard(out);
    }

    fn on_diverging(
        &mut self,
        asked: (u64, Option<Epoch>),
        end: EpochEnd,
        out: &mut Out<'_, Self>,
    ) {
        // Of an earlier fetch: meanwhile the log may be the leader's, and longer.
        let late = asked != (self.log.end(), self.log.last_epoch());
        if !matches!(self.role, Role::Follower(_)) || late && !self.settings.believe_late_answers {
            return;
        }
        if self.settings.keep_diverging {
            self.pretends = end.epoch;
        } else {
            let parts_from = self.log.parts_from(end);
            out.note(|| format!("truncates its log from {} to {parts_from}", self.log.end()));
            self.log.truncate(parts_from);
            self.save(out);
        }
        self.heard(out);
    }

    pub(super) fn append(&mut self, records: &[Record], out: &mut Out<'_, Self>) {
        if !records.is_empty() {
            self.log.append(records);
            self.pretends = None;
            self.save(out);
        }
    }

    pub(super) fn save(&self, out: &mut Out<'_, Self>) {
        let log = self.log.clone();
        out.persist(|disk| disk.log = log);
    }

    pub(super) fn advance(&mut self, high_watermark: u64, out: &mut Out<'_, Self>) {
        for offset in self.high_watermark..high_watermark {
            if let Some(record) = self.log.get(offset) {
                out.decide(Output::Applied { offset, record });
            }
        }
        self.high_watermark = self.high_watermark.max(high_watermark);
    }

    pub(super) fn view(&self) -> View {
        let role = match &self.role {
            Role::Unattached => match self.voted {
                Some(candidate) => format!("voted for {candidate}"),
                None => "unattached".to_owned(),
            },
            Role::Candidate(votes) => format!("candidate, {}", count(votes.len(), "vote", "votes")),
            Role::Follower(leader) => format!("follower of {leader}"),
            Role::Leader(_) => "leader".to_owned(),
        };
        View { role, ..View::default() }.with("high watermark", self.high_watermark)
    }
}
