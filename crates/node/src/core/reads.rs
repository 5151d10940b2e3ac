//! Linearizable reads: one confirmation of leadership for all that came between two flushes.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd::{Error, Limits, Request, Response, Route};
use mvcc::View;
use mvcc::engine::Engine;
use prost::Message as _;
use raft::{LogIndex, ReadReady, Term};
use store::{NodeId, RangeId};

use super::group::Turn;
use super::{Fatal, Origin};
use crate::mutants::{self, Mutant};
use crate::wire::pb;

/// A question that the leader has not answered, or not to the point, is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Something that may happen once leadership is confirmed.
enum Read {
    /// Tell that the state may be read.
    Point {
        origin: Origin,
        /// It does not move, however often the question has to be asked.
        deadline: Duration,
    },
    /// Have a request that changes nothing and may take long evaluated from the state, in a thread of
    /// its own ([`Scan`]).
    Scan { origin: Origin, request: Box<Request>, deadline: Duration },
    /// Give an answer once `index` is applied.
    Answer {
        origin: Origin,
        answer: Box<Result<Response, Error>>,
        index: LogIndex,
        /// If it was computed here, from proposals in flight as well (those end at `index`): in
        /// which term. It is worthless once the leadership of that term is lost: they may be lost
        /// with it.
        speculative: Option<Term>,
    },
}

/// A read of many keys of a range, confirmed, to be evaluated in a thread that may take its time.
pub struct Scan {
    range: RangeId,
    origin: Origin,
    request: Box<Request>,
    view: View,
    limits: Limits,
}

/// What came of a [`Scan`].
pub struct Scanned {
    pub(super) range: RangeId,
    pub(super) origin: Origin,
    pub(super) answer: Result<Response, Error>,
}

impl Scan {
    /// Of which range.
    #[must_use]
    pub fn range(&self) -> RangeId {
        self.range
    }

    /// Evaluates it: as long as it takes to read so many keys.
    #[must_use]
    pub fn run(self) -> Scanned {
        let answer = etcd::read(&self.view, &self.request, &self.limits);
        Scanned { range: self.range, origin: self.origin, answer }
    }
}

/// Whether a request of a range beside the dense one only reads, and may read many keys.
pub(super) fn is_scan(request: &Request) -> bool {
    match request {
        Request::Range(range) => !range.range_end.is_empty(),
        Request::Txn(_) => request.route() != Route::Leader,
        _ => false,
    }
}

/// A confirmed read that waits for its index.
struct Confirmed {
    deadline: Duration,
    read: Read,
}

/// Reads that wait for one confirmation.
struct Round {
    deadline: Duration,
    reads: Vec<Read>,
}

/// Reads on their way.
#[derive(Default)]
pub(super) struct Reads {
    /// Since the last flush.
    gathered: Vec<Read>,
    /// By the number under which confirmation was asked for, here or of the leader.
    rounds: BTreeMap<u64, Round>,
    /// No round ends before this.
    rounds_deadline: Option<Duration>,
    /// Asked of the leader, by number: whom.
    asked: BTreeMap<u64, NodeId>,
    /// Confirmed; to be given when the index is applied.
    confirmed: BTreeMap<LogIndex, Vec<Confirmed>>,
    /// When to look for confirmed reads that have waited too long.
    confirmed_deadline: Option<Duration>,
    /// Being evaluated.
    scans: usize,
    /// When reads that failed with the leader that is still known are tried again.
    again: Option<Duration>,
}

impl Reads {
    /// Reads that wait or are being evaluated; linear in the rounds and indices that they wait for.
    pub(super) fn under_way(&self) -> usize {
        let rounds: usize = self.rounds.values().map(|round| round.reads.len()).sum();
        let confirmed: usize = self.confirmed.values().map(Vec::len).sum();
        self.gathered.len() + rounds + confirmed + self.scans
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        [self.rounds_deadline, self.confirmed_deadline, self.again].into_iter().flatten().min()
    }

    /// Reads that are to end by `latest`, and those that were tried before by what they say.
    fn begin(&mut self, ctx: u64, latest: Duration, reads: Vec<Read>) {
        let deadlines = reads.iter().filter_map(|read| match read {
            Read::Point { deadline, .. } | Read::Scan { deadline, .. } => Some(*deadline),
            Read::Answer { .. } => None,
        });
        let deadline = deadlines.fold(latest, Duration::min);
        self.rounds_deadline = Some(self.rounds_deadline.map_or(deadline, |d| d.min(deadline)));
        self.rounds.insert(ctx, Round { deadline, reads });
    }

    fn confirm(&mut self, index: LogIndex, confirmed: Confirmed) {
        let deadline = self.confirmed_deadline.get_or_insert(confirmed.deadline);
        *deadline = confirmed.deadline.min(*deadline);
        self.confirmed.entry(index).or_default().push(confirmed);
    }

    /// Takes out all that `wanted` names.
    fn extract(&mut self, wanted: impl Fn(&Confirmed) -> bool) -> Vec<Read> {
        let mut taken = Vec::new();
        self.confirmed.retain(|_, waiting| {
            taken.extend(waiting.extract_if(.., |confirmed| wanted(confirmed)).map(|c| c.read));
            !waiting.is_empty()
        });
        taken
    }
}

impl<E: Engine> Turn<'_, E> {
    /// Somebody wants to read the newest state.
    pub(super) fn read_point(&mut self, now: Duration, origin: Origin) {
        self.read_point_until(origin, now + self.shared.config.request_timeout);
    }

    /// As [`Self::read_point`], for one that may have been tried before.
    pub(super) fn read_point_until(&mut self, origin: Origin, deadline: Duration) {
        match (origin, self.group.leader) {
            (_, Some(leader)) if leader == self.shared.config.node && self.group.serving => {
                self.group.reads.gathered.push(Read::Point { origin, deadline });
            }
            (Origin::Local(_), Some(leader)) if leader != self.shared.config.node => {
                self.group.reads.gathered.push(Read::Point { origin, deadline });
            }
            (Origin::Peer(..), Some(leader)) if leader != self.shared.config.node => {
                self.point(origin, Err(Error::NotLeader));
            }
            _ => self.read_point_waits(origin, deadline),
        }
    }

    /// An answer that changes nothing, computed from the newest state and the proposals in
    /// flight: it is right if this member still leads, and once those proposals are applied.
    pub(super) fn answer_when_confirmed(
        &mut self,
        origin: Origin,
        answer: Result<Response, Error>,
    ) {
        // What was evaluated before it is proposed before the next confirmation is asked for.
        let index = LogIndex(self.raft().last().index.0 + self.evaluated_count());
        let answer = Box::new(answer);
        self.group.reads.gathered.push(Read::Answer {
            origin,
            answer,
            index,
            speculative: Some(self.group.term),
        });
    }

    /// The newest evaluations were taken back: answers that were computed from them are void.
    pub(super) fn void_gathered(&mut self, error: &Error) {
        let void = |read: &mut Read| matches!(read, Read::Answer { .. });
        for read in self.group.reads.gathered.extract_if(.., void).collect::<Vec<_>>() {
            self.give_up(read, error);
        }
    }

    /// Leadership is lost: answers that rest on proposals in flight are void.
    pub(super) fn void_speculative(&mut self) {
        self.void_gathered(&Error::LeaderChanged);
        let is_void = |c: &Confirmed| matches!(c.read, Read::Answer { speculative: Some(_), .. });
        let void = self.group.reads.extract(is_void);
        for read in void {
            self.give_up(read, &Error::LeaderChanged);
        }
    }

    fn give_up(&mut self, read: Read, error: &Error) {
        match read {
            Read::Point { origin, .. } => self.point(origin, Err(error.clone())),
            Read::Scan { origin, .. } | Read::Answer { origin, .. } => {
                self.answer(origin, Err(error.clone()));
            }
        }
    }

    /// A request that changes nothing and may take long: it waits for nothing that is in flight.
    pub(super) fn scan(&mut self, now: Duration, origin: Origin, request: Request) {
        let deadline = now + self.shared.config.request_timeout;
        let request = Box::new(request);
        self.group.reads.gathered.push(Read::Scan { origin, request, deadline });
    }

    /// An answer that the leader gave, held until this member has applied what it speaks of.
    pub(super) fn answer_when_applied(
        &mut self,
        now: Duration,
        origin: Origin,
        answer: Result<Response, Error>,
        index: LogIndex,
    ) {
        let applied = index.0 <= self.group.machine.applied().index;
        if applied || mutants::on(Mutant::AnswerUnapplied) {
            return self.answer(origin, answer);
        }
        let answer = Box::new(answer);
        let read = Read::Answer { origin, answer, index, speculative: None };
        let deadline = now + self.shared.config.request_timeout;
        self.group.reads.confirm(index, Confirmed { deadline, read });
    }

    /// Asks for one confirmation for all that gathered.
    pub(super) fn begin_reads(&mut self, now: Duration) -> Result<(), Fatal> {
        if self.group.reads.gathered.is_empty() {
            return Ok(());
        }
        let reads = std::mem::take(&mut self.group.reads.gathered);
        let ctx = self.shared.id();
        self.group.reads.begin(ctx, now + self.shared.config.request_timeout, reads);
        let leader = self.group.leader;
        match leader {
            Some(leader) if leader != self.shared.config.node => {
                self.group.reads.asked.insert(ctx, leader);
                let point = pb::ReadPoint { id: ctx };
                let bytes = point.encoded_len();
                self.shared.frames.first(leader, bytes).read_points.push(point);
            }
            _ if self.holds_lease(now) => {
                self.shared.confirmed_by_lease += 1;
                let index = self.raft().committed();
                self.read_confirmed(now, ReadReady { ctx, index });
            }
            _ => {
                self.shared.confirmed_by_quorum += 1;
                self.raft_mut().step(now, raft::Input::ReadIndex(ctx))?;
            }
        }
        Ok(())
    }

    /// Whether nobody else can lead at `now`, and so nobody else has committed anything. The reads
    /// that wait came before `now`, so what is committed here contains all that was acknowledged
    /// before they came.
    fn holds_lease(&mut self, now: Duration) -> bool {
        self.shared.config.reads == super::Reads::Lease
            && self.shared.store.lease(self.group.range, now).is_some()
    }

    /// Leadership was confirmed.
    pub(super) fn read_confirmed(&mut self, now: Duration, ready: ReadReady) {
        let Some(round) = self.group.reads.rounds.remove(&ready.ctx) else { return };
        self.group.reads.asked.remove(&ready.ctx);
        for read in round.reads {
            let latest = now + self.shared.config.request_timeout;
            let (index, deadline) = match &read {
                Read::Point { deadline, .. } | Read::Scan { deadline, .. } => {
                    (ready.index, *deadline)
                }
                // Confirmed and lost again before anyone looked: what it rests on may be lost.
                Read::Answer { speculative: Some(term), .. }
                    if !(mutants::on(Mutant::SpeculationKept)
                        || self.group.serving && self.group.term == *term) =>
                {
                    self.give_up(read, &Error::LeaderChanged);
                    continue;
                }
                Read::Answer { index, .. } => (ready.index.max(*index), latest),
            };
            self.group.reads.confirm(index, Confirmed { deadline, read });
        }
        self.give_confirmed();
    }

    /// Leadership was not confirmed: a read can wait for the next leader, an answer is worthless.
    pub(super) fn read_failed(&mut self, now: Duration, ctx: u64) {
        let Some(round) = self.group.reads.rounds.remove(&ctx) else { return };
        let asked = self.group.reads.asked.remove(&ctx).unwrap_or(self.shared.config.node);
        for read in round.reads {
            match read {
                Read::Point { origin: origin @ Origin::Local(_), deadline } => {
                    self.read_point_waits(origin, deadline);
                }
                Read::Point { origin, .. } => self.point(origin, Err(Error::NotLeader)),
                Read::Scan { origin: origin @ Origin::Local(_), request, deadline } => {
                    self.request_waits(origin, *request, deadline);
                }
                Read::Scan { origin, .. } => self.answer(origin, Err(Error::NotLeader)),
                Read::Answer { origin, .. } => self.answer(origin, Err(Error::LeaderChanged)),
            }
        }
        // The next leader may have been heard of before: nobody else would say so. If it is still
        // the same, its answer or the way to it may be better in a moment.
        match self.group.leader {
            Some(leader) if leader != asked => self.read_waiting(now),
            Some(_) => {
                self.group.reads.again.get_or_insert(now + ASK_AGAIN);
            }
            None => {}
        }
    }

    /// The leader's answer to a question for a read index.
    pub(super) fn read_point_answered(
        &mut self,
        now: Duration,
        from: NodeId,
        reply: pb::ReadPointReply,
    ) {
        let asked = self.group.reads.asked.get(&reply.id) == Some(&from);
        if !asked && !mutants::on(Mutant::PointFromAnybody) {
            return;
        }
        match reply.index {
            Some(index) => {
                let ready = ReadReady { ctx: reply.id, index: LogIndex(index) };
                self.read_confirmed(now, ready);
            }
            None => self.read_failed(now, reply.id),
        }
    }

    /// Questions to `node` will not be answered.
    pub(super) fn read_points_lost(&mut self, now: Duration, node: NodeId) {
        let lost: Vec<u64> = self
            .group
            .reads
            .asked
            .iter()
            .filter(|&(_, &asked)| asked == node)
            .map(|(&id, _)| id)
            .collect();
        for id in lost {
            self.read_failed(now, id);
        }
    }

    /// More has been applied: gives what waited for it.
    pub(super) fn give_confirmed(&mut self) {
        let applied = self.group.machine.applied().index;
        while let Some(first) = self.group.reads.confirmed.first_entry() {
            if first.key().0 > applied && !mutants::on(Mutant::ReadUnapplied) {
                break;
            }
            for Confirmed { read, .. } in first.remove() {
                match read {
                    Read::Point { origin, .. } => self.point(origin, Ok(())),
                    Read::Scan { origin, request, .. } => self.start_scan(origin, request),
                    Read::Answer { origin, answer, .. } => self.answer(origin, *answer),
                }
            }
        }
    }

    fn start_scan(&mut self, origin: Origin, request: Box<Request>) {
        self.group.reads.scans += 1;
        let limits = self.group.machine.config().limits.clone();
        let view = self.group.machine.view();
        let range = self.group.range;
        self.shared.effects.scans.push(Scan { range, origin, request, view, limits });
    }

    /// Leadership is lost: scans that have not been confirmed go to whoever leads next.
    pub(super) fn scans_wait(&mut self) {
        let gathered = std::mem::take(&mut self.group.reads.gathered);
        for read in gathered {
            match read {
                Read::Scan { origin: origin @ Origin::Local(_), request, deadline } => {
                    self.request_waits(origin, *request, deadline);
                }
                Read::Scan { origin, .. } => self.answer(origin, Err(Error::NotLeader)),
                other => self.group.reads.gathered.push(other),
            }
        }
    }

    /// A scan has its answer.
    pub(super) fn scanned(&mut self, origin: Origin, answer: Result<Response, Error>) {
        self.group.reads.scans -= 1;
        self.answer(origin, answer);
    }

    /// Tells whoever asked that the state may be read now, or that it may not.
    pub(super) fn point(&mut self, origin: Origin, result: Result<(), Error>) {
        match origin {
            Origin::Local(token) => self.shared.effects.points.push((token, result)),
            Origin::Peer(node, id) => {
                let index = result.is_ok().then(|| self.group.machine.applied().index);
                let reply = pb::ReadPointReply { id, index };
                let bytes = reply.encoded_len();
                self.shared.frames.first(node, bytes).read_point_replies.push(reply);
            }
            Origin::None => {}
        }
    }

    pub(super) fn reads_timeout(&mut self, now: Duration) {
        if self.group.reads.again.is_some_and(|again| again <= now) {
            self.group.reads.again = None;
            if self.group.leader.is_some() {
                self.read_waiting(now);
            }
        }
        if self.group.reads.rounds_deadline.is_some_and(|deadline| deadline <= now) {
            self.rounds_timeout(now);
        }
        if self.group.reads.confirmed_deadline.is_some_and(|deadline| deadline <= now) {
            for read in self.group.reads.extract(|confirmed| confirmed.deadline <= now) {
                // What the leader has answered may be done: only of what changes nothing may be said
                // that it has had no effect.
                let error = match read {
                    Read::Answer { speculative: None, .. } => Error::Timeout,
                    _ => Error::TimeoutWaitAppliedIndex,
                };
                self.give_up(read, &error);
            }
            let left = self.group.reads.confirmed.values().flatten();
            self.group.reads.confirmed_deadline = left.map(|confirmed| confirmed.deadline).min();
        }
    }

    fn rounds_timeout(&mut self, now: Duration) {
        let reads = &mut self.group.reads;
        let (late, left) = std::mem::take(&mut reads.rounds)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, round)| round.deadline <= now);
        reads.rounds_deadline = left.values().map(|round| round.deadline).min();
        reads.rounds = left;
        for (ctx, round) in late {
            self.group.reads.asked.remove(&ctx);
            for read in round.reads {
                self.give_up(read, &Error::Timeout);
            }
        }
    }
}
