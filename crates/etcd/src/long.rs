//! What takes long, done in a thread where it may take its time.
//!
//! A request may look at a million keys, and an entry may delete as many. Whoever drives a
//! machine drives others too, and none of them has to wait:
//!
//! ```text
//!     evaluate ---> Long ---> begin_long ---> LongWork::run ---> end_long ---> Propose, Read, ..
//!     is_long  -------------> begin_apply --> Insertion::run --> end_apply ---> Applied
//! ```
//!
//! A long evaluation sees the applied state and nothing above it. So it begins when nothing is in
//! flight, and until what it proposes is applied nothing else is evaluated: requests of this
//! machine wait for it, and those of others do not. What it proposes is not in the overlay, for
//! nobody looks there meanwhile.
//!
//! A long entry is put into memory beside its readers, and published in one step
//! ([`mvcc::Inserter`]). Until then no other entry is applied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::Engine;
use mvcc::{Commit, Inserted, Inserter, LeaseId, Revision, View};
use proto::etcdserverpb as pb;

use crate::draft::{Draft, Written};
use crate::effects::{self, Effects, MalformedEffects};
use crate::error::Error;
use crate::evaluate::Evaluated;
use crate::lease::{self, Ends};
use crate::limits::Limits;
use crate::machine::{Applied, Machine, batch_of};
use crate::read;
use crate::request::{Request, Response, header};
use crate::txn;

/// What looks at more than [`Limits::rows_at_once`]. Nothing has come of it yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Long {
    /// A request. It was found to be well-formed, and no alarm is against it.
    Request(Box<Request>),
    /// The end of a lease whose time is up.
    End(LeaseId),
}

/// An evaluation that takes long, to be run in any thread.
pub struct LongWork {
    long: Long,
    term: u64,
    view: View,
    limits: Limits,
    /// What the leader knows of the time that the lease asked about has left.
    left: Option<Duration>,
    /// The leases in the order in which they end, if all are asked for.
    running: Vec<LeaseId>,
}

/// What came of it.
pub struct LongDone {
    long: Long,
    term: u64,
    what: Result<Outcome, Error>,
}

enum Outcome {
    Read(Response),
    Propose {
        effects: Bytes,
        /// The revision it takes.
        revision: Option<Revision>,
        /// The lease that it ends.
        ends: Option<(LeaseId, Ends)>,
        response: Response,
    },
}

impl LongDone {
    /// Whether it is the end of a lease whose time is up.
    #[must_use]
    pub fn ends_lease(&self) -> bool {
        matches!(self.long, Long::End(_))
    }
}

impl<E: Engine> Machine<E> {
    /// Takes up what takes long. Nothing may be in flight, and nothing else may be evaluated until
    /// [`Machine::end_long`], and, if that proposes something, until its entry is applied.
    ///
    /// # Panics
    /// If the machine does not lead.
    #[must_use]
    pub fn begin_long(&self, now: Duration, long: Long) -> LongWork {
        let leading = self.leading.as_ref().expect("only a leader evaluates");
        let deadlines = &leading.deadlines;
        let mut running = Vec::new();
        let mut left = None;
        if let Long::Request(request) = &long {
            match **request {
                Request::LeaseLeases(_) => running = deadlines.in_order().collect(),
                Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, .. }) => {
                    left = deadlines.left(LeaseId(id), now);
                }
                _ => {}
            }
        }
        let limits = self.config.limits.clone();
        LongWork { long, term: leading.term, view: self.state.view(), limits, left, running }
    }

    /// What came of it counts from now on. [`Evaluated::Long`] if the machine does not lead in the
    /// same term any more: then nothing has come of it, as before.
    ///
    /// # Panics
    /// If anything else was evaluated meanwhile and is in flight.
    pub fn end_long(&mut self, now: Duration, done: LongDone) -> Evaluated {
        let Some(leading) = self.leading.as_mut().filter(|leading| leading.term == done.term)
        else {
            return Evaluated::Long(done.long);
        };
        if let (Long::End(id), Err(_)) = (&done.long, &done.what) {
            // As where the end is short: it is looked at again, and not at once.
            leading.deadlines.set(*id, now + lease::AGAIN);
        }
        match done.what {
            Err(error) => Evaluated::Read(Box::new(Err(error))),
            Ok(Outcome::Read(response)) => Evaluated::Read(Box::new(Ok(response))),
            Ok(Outcome::Propose { effects, revision, ends, response }) => {
                leading.propose_alone(revision, ends);
                Evaluated::Propose { effects, outcome: Box::new(Ok(response)) }
            }
        }
    }

    /// Whether effects change so much that to apply them takes long.
    #[must_use]
    pub fn is_long(&self, effects: &Bytes) -> bool {
        effects::is_longer(effects, self.config.limits.rows_at_once)
    }

    /// Begins to apply an entry, as [`Machine::apply_with`] does it at once. What this returns may
    /// be run in any thread; until [`Machine::end_apply`] no other entry is applied.
    ///
    /// # Panics
    /// If an entry is being applied already.
    pub fn begin_apply(
        &mut self,
        index: u64,
        term: u64,
        effects: Bytes,
        row: Option<(Bytes, Option<Bytes>)>,
    ) -> Insertion {
        Insertion { inserter: self.state.inserter(), index, term, effects, row }
    }

    /// The entry is applied. `None` if it was for a state that this machine has no more.
    ///
    /// # Errors
    /// See [`Machine::apply`].
    ///
    /// # Panics
    /// See [`Machine::apply`].
    pub fn end_apply(
        &mut self,
        now: Duration,
        done: InsertionDone,
    ) -> Result<Option<Applied>, MalformedEffects> {
        let (inserted, term, applied, counts) = done.0?;
        if !self.state.inserted(inserted) {
            return Ok(None);
        }
        if counts {
            self.leader_applied(now, term, &applied);
        }
        Ok(Some(applied))
    }
}

impl LongWork {
    /// Evaluates it: as long as it takes to look at so many keys.
    #[must_use]
    pub fn run(self) -> LongDone {
        let what = self.outcome();
        LongDone { long: self.long, term: self.term, what }
    }

    fn outcome(&self) -> Result<Outcome, Error> {
        let mut draft = Draft::new(&self.view, None).within(self.limits.effects_bytes_max);
        let (response, ends) = match &self.long {
            Long::End(id) => {
                let ends = lease::end(&mut draft, *id)?;
                (Response::Published, Some((*id, ends)))
            }
            Long::Request(request) => self.answer(&mut draft, request)?,
        };
        if draft.is_clean() {
            return Ok(Outcome::Read(response));
        }
        let written = draft.finish()?;
        let revision = written.revision;
        Ok(Outcome::Propose { effects: self.encode(written), revision, ends, response })
    }

    /// The answer, and the lease that is ended with it.
    fn answer(
        &self,
        draft: &mut Draft<'_>,
        request: &Request,
    ) -> Result<(Response, Option<(LeaseId, Ends)>), Error> {
        let response = match request {
            Request::DeleteRange(request) => {
                Response::DeleteRange(txn::delete_range(draft, request)?)
            }
            Request::Txn(request) => Response::Txn(txn::txn(draft, request)?),
            Request::LeaseRevoke(request) => {
                let id = txn::lease_id(request.id).ok_or(Error::LeaseNotFound)?;
                lease::revoke(draft, id)?;
                let response = pb::LeaseRevokeResponse { header: header(draft.revision()) };
                return Ok((Response::LeaseRevoke(response), Some((id, Ends::Whole))));
            }
            // A sign of life that came too late.
            Request::LeaseKeepAlive(request) => {
                let (id, header) = (LeaseId(request.id), header(draft.base()));
                let ends = lease::end(draft, id)?;
                let response = pb::LeaseKeepAliveResponse { header, id: id.0, ttl: 0 };
                return Ok((Response::LeaseKeepAlive(response), Some((id, ends))));
            }
            Request::LeaseTimeToLive(request) => lease::time_to_live(draft, *request, self.left)?,
            Request::LeaseLeases(_) => lease::list(draft, self.running.iter().copied())?,
            reads => read::answer(draft, reads)?,
        };
        Ok((response, None))
    }

    fn encode(&self, written: Written) -> Bytes {
        let Written { revision, changes, rows, bytes, .. } = written;
        let commit = revision.map(|revision| Commit { revision, changes });
        let rows = rows.into_iter().collect();
        let effects = Effects { term: self.term, commit, rows, compact: None }.encode();
        assert!(effects.len() <= bytes, "effects are as long as was counted");
        effects
    }
}

/// An entry of many changes on its way into memory, to be run in any thread.
pub struct Insertion {
    inserter: Inserter,
    index: u64,
    term: u64,
    effects: Bytes,
    row: Option<(Bytes, Option<Bytes>)>,
}

/// It is there, and nobody sees it yet; or it makes no sense. The last is whether it counts as one
/// of the leader's proposals.
pub struct InsertionDone(Result<(Inserted, u64, Applied, bool), MalformedEffects>);

impl Insertion {
    /// Puts it there: as long as it takes to write so many keys.
    #[must_use]
    pub fn run(self) -> InsertionDone {
        InsertionDone(self.insert())
    }

    fn insert(self) -> Result<(Inserted, u64, Applied, bool), MalformedEffects> {
        let Self { inserter, index, term, effects, row } = self;
        let (batch, applied) = batch_of((index, term), &effects, row, inserter.revision())?;
        let counts = applied.is_proposal();
        Ok((inserter.insert(batch), term, applied, counts))
    }
}

/// Shared between the threads of a driver.
const _: () = {
    const fn sent<T: Send>() {}
    sent::<LongWork>();
    sent::<LongDone>();
    sent::<Insertion>();
    sent::<InsertionDone>();
    sent::<Arc<Commit>>();
};
