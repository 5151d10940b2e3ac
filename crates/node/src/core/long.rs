//! What takes long, done beside the core: only its own range waits for it.
//!
//! A request may look at a million keys, and its entry may delete as many. A member has one core
//! for all of its ranges, and stores promise each other to be heard from: so what would hold the
//! core up is *work*, which the driver has done by a thread and brings back
//! ([`Input::Worked`](super::Input::Worked)).
//!
//! - **To evaluate.** The range stops evaluating. When nothing of it is in flight, the request is
//!   evaluated from the state as it is then; what comes of it is proposed, and when that is
//!   applied (or refused) the requests that waited have their turn. Reads go on meanwhile. If
//!   leadership is lost first, nothing has come of it, and the request goes to the next leader.
//! - **To apply.** An entry of many changes is put into memory by the thread, and published by the
//!   core. The entries behind it wait. Short entries are applied by the core, so many at a time
//!   ([`CoreConfig::apply_at_once`](super::CoreConfig::apply_at_once)).
//!
//! INVARIANT: of a range at most one evaluation and one insertion is out; what comes back of
//! another is dropped.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use etcd::{
    Error, Evaluated, Insertion, InsertionDone, Long, LongDone, LongWork, MalformedEffects, Request,
};
use mvcc::engine::Engine;
use raft::{Entry, LogPosition, Membership};
use store::RangeId;

use super::group::Turn;
use super::route::{Evaluation, grows};
use super::{Fatal, Origin};
use crate::mutants::{self, Mutant};

/// Something that takes long, to be done in a thread of its own.
pub struct Work {
    range: RangeId,
    id: u64,
    what: What,
}

enum What {
    Evaluate(LongWork),
    Apply(Insertion),
}

/// What came of [`Work`].
pub struct Worked {
    pub(super) range: RangeId,
    id: u64,
    done: Done,
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match self.done {
            Done::Evaluated(_) => "evaluated",
            Done::Inserted(_) => "inserted",
        };
        write!(f, "work {} of range {} {done}", self.id, self.range.0)
    }
}

enum Done {
    Evaluated(LongDone),
    Inserted(InsertionDone),
}

impl Work {
    /// Of which range.
    #[must_use]
    pub fn range(&self) -> RangeId {
        self.range
    }

    /// Whether a request is evaluated, and not an entry applied.
    #[must_use]
    pub fn evaluates(&self) -> bool {
        matches!(self.what, What::Evaluate(_))
    }

    /// Does it: as long as it takes to look at so many keys, or to write so many.
    #[must_use]
    pub fn run(self) -> Worked {
        let done = match self.what {
            What::Evaluate(work) => Done::Evaluated(work.run()),
            What::Apply(insertion) => Done::Inserted(insertion.run()),
        };
        Worked { range: self.range, id: self.id, done }
    }
}

/// The evaluation that a range is busy with.
pub(super) struct Busy {
    /// Who asked; nobody once they were told that it took too long.
    origin: Origin,
    /// What they asked; nothing is the end of a lease.
    request: Option<Box<Request>>,
    deadline: Option<Duration>,
    stage: Stage,
}

enum Stage {
    /// For what is in flight.
    Waits(Long),
    /// In a thread, under this number.
    Out(u64),
    /// What came of it is in flight.
    Proposed,
}

impl Busy {
    /// When whoever asked is told that it takes too long.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Whether it waits for nothing but that nothing is in flight.
    pub(super) fn awaits_the_end_of_flights(&self) -> bool {
        !matches!(self.stage, Stage::Out(_))
    }
}

/// Committed entries on their way into the state, in order.
#[derive(Default)]
pub(super) struct Applying {
    queue: VecDeque<(Entry, Option<Membership>)>,
    /// The one that a thread puts into memory: the number of that, its place, and whether it changes
    /// the members.
    out: Option<(u64, LogPosition, bool)>,
    /// What may still be applied in this turn of the core.
    pub(super) turn: u64,
    pub(super) left: usize,
}

impl Applying {
    pub(super) fn push(&mut self, entry: Entry, membership: Option<Membership>) {
        self.queue.push_back((entry, membership));
    }

    /// The next one, if it may be applied now.
    pub(super) fn next(&mut self) -> Option<(Entry, Option<Membership>)> {
        match self.out {
            None => self.queue.pop_front(),
            Some(_) if mutants::on(Mutant::AppliedOutOfTurn) => self.queue.pop_front(),
            Some(_) => None,
        }
    }

    /// No more is applied in this turn of the core.
    fn rest(&mut self, turn: u64) {
        (self.turn, self.left) = (turn, 0);
    }

    /// Whether there is one that may be applied now.
    pub(super) fn goes_on(&self) -> bool {
        self.out.is_none() && !self.queue.is_empty()
    }
}

impl<E: Engine> Turn<'_, E> {
    /// Something takes long to evaluate: the range is busy from now on.
    pub(super) fn takes_long(
        &mut self,
        now: Duration,
        origin: Origin,
        long: Long,
        deadline: Option<Duration>,
    ) {
        let request = match &long {
            Long::Request(request) => Some(request.clone()),
            Long::End(_) => None,
        };
        let stage = Stage::Waits(long);
        self.group.busy = Some(Busy { origin, request, deadline, stage });
        self.go_on(now);
    }

    /// Something of this range may have left the flight: what waits for that goes on.
    pub(super) fn go_on(&mut self, now: Duration) {
        let alone = self.group.machine.in_flight() == 0 || mutants::on(Mutant::LongTooEarly);
        match self.group.busy.as_ref().filter(|_| alone).map(|busy| &busy.stage) {
            Some(Stage::Waits(long)) => {
                let work = self.group.machine.begin_long(now, long.clone());
                let id = self.send_work(What::Evaluate(work));
                if let Some(busy) = &mut self.group.busy {
                    busy.stage = Stage::Out(id);
                }
            }
            Some(Stage::Proposed) => self.is_free(now),
            Some(Stage::Out(_)) | None => {}
        }
    }

    fn send_work(&mut self, what: What) -> u64 {
        let (range, id) = (self.group.range, self.shared.id());
        self.shared.effects.work.push(Work { range, id, what });
        id
    }

    /// The range is busy no more: what waited has its turn.
    fn is_free(&mut self, now: Duration) {
        self.group.busy = None;
        self.route_waiting(now);
    }

    /// What the range is busy with comes to nothing here: unless it is proposed, whoever leads next is
    /// asked.
    pub(super) fn put_off(&mut self) {
        let Some(busy) = self.group.busy.take() else { return };
        if let (Some(request), Some(deadline)) = (busy.request, busy.deadline) {
            self.request_waits(busy.origin, *request, deadline);
        }
    }

    /// Whoever asked has waited long enough.
    pub(super) fn long_timeout(&mut self, now: Duration) {
        let Some(busy) = &mut self.group.busy else { return };
        if busy.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        (busy.deadline, busy.request) = (None, None);
        let origin = std::mem::replace(&mut busy.origin, Origin::None);
        let waits = matches!(busy.stage, Stage::Waits(_));
        self.answer(origin, Err(Error::Timeout));
        if waits {
            self.is_free(now);
        }
    }

    /// A thread has done its work.
    ///
    /// # Errors
    /// [`Fatal::State`] if an entry makes no sense.
    pub(super) fn worked(&mut self, now: Duration, worked: Worked) -> Result<(), Fatal> {
        match worked.done {
            Done::Evaluated(done) => self.long_evaluated(now, worked.id, done),
            Done::Inserted(done) => self.inserted(now, worked.id, done),
        }
    }

    fn long_evaluated(&mut self, now: Duration, id: u64, done: LongDone) -> Result<(), Fatal> {
        let is_it = |busy: &&mut Busy| matches!(busy.stage, Stage::Out(out) if out == id);
        let Some(busy) = self.group.busy.as_mut().filter(is_it) else { return Ok(()) };
        // A lease's end is in the name of nobody, too: it has no request from the beginning.
        let ends_lease = done.ends_lease();
        if busy.request.is_none() && !ends_lease {
            self.is_free(now);
            return Ok(());
        }
        if !self.group.transfers.is_empty() {
            self.put_off();
            return Ok(());
        }
        let origin = busy.origin;
        if self.shared.disk_full && busy.request.as_ref().is_some_and(|request| grows(request)) {
            self.answer(origin, Err(Error::NoSpace));
            self.is_free(now);
            return Ok(());
        }
        match self.group.machine.end_long(now, done) {
            Evaluated::Propose { effects, outcome } => {
                busy.stage = Stage::Proposed;
                (busy.deadline, busy.request) = (None, None);
                let payload = raft::Payload::Data(effects);
                self.evaluated(Evaluation { payload, origin, outcome });
            }
            // As where it is short: a state that cannot be read ends the member.
            Evaluated::Read(result) if ends_lease => match *result {
                Err(error @ Error::Storage(_)) => return Err(Fatal::State(error.to_string())),
                _ => self.is_free(now),
            },
            Evaluated::Read(result) => {
                self.answer_when_confirmed(origin, *result);
                self.is_free(now);
            }
            Evaluated::Refused(error) => {
                self.answer(origin, Err(error));
                self.is_free(now);
            }
            Evaluated::Long(_) | Evaluated::Membership { .. } => self.put_off(),
        }
        Ok(())
    }

    /// Has an entry of many changes put into memory beside the core.
    pub(super) fn insert(&mut self, entry: LogPosition, insertion: Insertion, members: bool) {
        let id = self.send_work(What::Apply(insertion));
        self.group.applying.out = Some((id, entry, members));
    }

    fn inserted(&mut self, now: Duration, id: u64, done: InsertionDone) -> Result<(), Fatal> {
        let Some((_, position, members)) = self.group.applying.out.take_if(|(out, ..)| *out == id)
        else {
            return Ok(());
        };
        let malformed =
            |error: MalformedEffects| Fatal::State(format!("entry {}: {error}", position.index));
        let applied = self.group.machine.end_apply(now, done).map_err(malformed)?;
        // A snapshot that takes the state's place forgets what was out.
        let lost = || Fatal::State(format!("entry {} was put elsewhere", position.index));
        self.entry_applied(now, position, members, applied.ok_or_else(lost)?);
        // What is next has its turn after the driver's: a checkpoint waits for a moment in which nothing is
        // being inserted. That concerns what Raft hands out only now, too.
        self.group.applying.rest(self.shared.turn);
        self.applied_up_to(now, position.index)
    }
}
