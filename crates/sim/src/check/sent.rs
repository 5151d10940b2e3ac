//! What a member says to another, against what its disk holds.
//!
//! A promise that leaves before it is durable is broken by the next power cut, but only if that
//! comes in time and somebody has relied on it. So promises are looked at when they are made:
//!
//! - a vote given, and one asked for, is on disk with its term (Raft, figure 2: "updated on stable
//!   storage before responding");
//! - a vote is given only to a log that is not behind the giver's (§5.4.1);
//! - entries acknowledged are on disk, and so is the term of who acknowledges them (§5.3);
//! - a replica that says that it stands by a leader is bound to it on disk, in the term and under
//!   the epoch that it says;
//! - a store that supports another has written down under which epoch, and for how long; and one
//!   that asks for support, under which: one that no process before it has asked under.

use raft::{Body, LogPosition, Message, Term};
use store::NodeId;
use store::liveness;

use super::{Fault, Rules};
use crate::world::host::Host;

impl Rules {
    /// A member gives a message to the network.
    pub(crate) fn sent(&mut self, host: &Host, message: &Message) -> Result<(), Fault> {
        let (id, term) = (host.id, message.term);
        let to = NodeId(message.to.get());
        let stored = host.mirror.hard_state;
        match &message.body {
            Body::Vote { last, .. } => {
                let asked = self.asked.entry((id, term)).or_insert(*last);
                *asked = (*asked).max(*last);
                let own = stored.vote.is_some_and(|vote| vote.get() == id.0);
                let stands = stored.term > term || (stored.term == term && own);
                promised(stands, || format!("{} asks for votes of term {term}", id.0), host)
            }
            Body::VoteResponse { granted: true, .. } => {
                let given = stored.vote.is_some_and(|vote| vote.get() == to.0);
                let stands = stored.term > term || (stored.term == term && given);
                promised(stands, || format!("{} votes for {} in {term}", id.0, to.0), host)?;
                self.up_to_date(host, to, term)
            }
            Body::AppendAccepted { matched, .. } => {
                let last = host.mirror.last();
                let stands = stored.term > term || (stored.term == term && last.index >= *matched);
                promised(stands, || format!("{} has all up to {matched} in {term}", id.0), host)
            }
            Body::Fortified { epoch } => {
                // It may have let go of it in the next write, before this leaves.
                let bound = host.mirror.bound.is_some_and(|(bound_in, binding)| {
                    bound_in == term && binding.leader == message.to && binding.epoch >= *epoch
                });
                let stands = stored.term > term || bound;
                let what = || format!("{} stands by {} in {term}, {epoch:?}", id.0, to.0);
                promised(stands, what, host)
            }
            _ => Ok(()),
        }
    }

    /// A store gives a message to another.
    pub(crate) fn sent_liveness(
        host: &Host,
        to: NodeId,
        message: &liveness::Message,
    ) -> Result<(), Fault> {
        let record = &host.record;
        let stands = match message {
            liveness::Message::Heartbeat { epoch, .. } => {
                record.asked >= *epoch && *epoch > host.asked_before
            }
            liveness::Message::Support { epoch, .. } => {
                record.supported.get(&to).is_some_and(|supported| {
                    supported.epoch > *epoch
                        || (supported.epoch == *epoch && supported.promise.is_some())
                })
            }
            liveness::Message::Refusal { epoch } => {
                record.supported.get(&to).is_some_and(|supported| supported.epoch >= *epoch)
            }
        };
        if stands {
            return Ok(());
        }
        let what = format!("{} says {message:?} to {}; on its disk is {record:?}", host.id.0, to.0);
        Err(("what is promised is durable", what))
    }

    /// A member stores a vote and nothing else, so this is the end of its log as it gives it. (What
    /// it has when the vote leaves may have come since, from the next leader.)
    pub(crate) fn stores_vote(&mut self, id: NodeId, to: NodeId, term: Term, last: LogPosition) {
        self.voted_at.entry((id, to, term)).or_insert(last);
    }

    fn up_to_date(&self, host: &Host, to: NodeId, term: Term) -> Result<(), Fault> {
        let Some(&last) = self.voted_at.get(&(host.id, to, term)) else { return Ok(()) };
        let Some(&asked) = self.asked.get(&(to, term)) else { return Ok(()) };
        if (asked.term, asked.index) >= (last.term, last.index) {
            return Ok(());
        }
        let what = format!("{} has {last} and votes for {}, who has {asked}", host.id.0, to.0);
        Err(("a vote goes to a log that is not behind", what))
    }
}

fn promised(stands: bool, what: impl FnOnce() -> String, host: &Host) -> Result<(), Fault> {
    if stands {
        return Ok(());
    }
    let (stored, last): (_, LogPosition) = (host.mirror.hard_state, host.mirror.last());
    let what = format!("{}; on its disk are {stored:?} and a log up to {last}", what());
    Err(("what is promised is durable", what))
}
