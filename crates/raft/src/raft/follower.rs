//! The follower's side of replication: appending, cutting, acknowledging (Raft §5.3).
//!
//! An acknowledgement says that everything up to an index is durable. It is remembered, not
//! sent: the next [`Ready`](crate::Ready) carries one for all the appends since the last, inside
//! the write that it has to wait for.

use crate::error::Stopped;
use crate::mutants::Mutant;
use crate::types::{Body, Entry, LogIndex, LogPosition, Payload, ReplicaId, Session};

use super::{Raft, Role};

/// What is to be acknowledged to the leader of this term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingAck {
    to: ReplicaId,
    session: Session,
    matched: LogIndex,
}

impl Raft {
    pub(super) fn on_append(
        &mut self,
        from: ReplicaId,
        session: Session,
        prev: LogPosition,
        entries: Vec<Entry>,
        commit: LogIndex,
    ) -> Result<(), Stopped> {
        let last = entries.last().map_or(prev.index, |entry| entry.index);
        let committed = self.log.committed();
        self.check_committed(prev)?;
        if prev.index > committed && !self.log.holds(prev) {
            let hint = self.log.latest_not_after(prev).unwrap_or(self.log.truncated());
            self.send(from, Body::AppendRejected { session, rejected: prev.index, hint });
            return Ok(());
        }
        for entry in entries.iter().take_while(|entry| entry.index <= committed) {
            self.check_committed(entry.position())?;
        }
        let fresh = entries
            .into_iter()
            .skip_while(|entry| entry.index <= committed || self.log.holds(entry.position()));
        // `fresh` borrows the log; what is left of it is what has to be appended.
        let fresh: Vec<Entry> = fresh.collect();
        if let Some(first) = fresh.first() {
            if first.index <= self.log.last_index() {
                self.cut_from(first.index);
            }
            for entry in fresh {
                self.append(entry);
            }
        } else if self.broken(Mutant::CutWithoutConflict)
            && last >= self.log.committed()
            && last < self.log.last_index()
        {
            self.cut_from(last.next());
        }
        // Everything up to `last` is the leader's; beyond it the log may still differ.
        let known = commit.min(last);
        if known > self.log.committed() {
            self.log.commit_to(known);
        }
        self.acknowledge(from, session, last.max(committed));
        Ok(())
    }

    /// Leader Completeness: what is committed here is in every later leader's log.
    pub(super) fn check_committed(&self, other: LogPosition) -> Result<(), Stopped> {
        if other.index > self.log.committed() {
            return Ok(());
        }
        match self.log.term(other.index) {
            Some(term) if term != other.term => {
                let committed = LogPosition { index: other.index, term };
                Err(Stopped::CommittedConflict { committed, other })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if let Payload::Membership(_) = entry.payload {
            self.membership_entries_to = self.membership_entries_to.max(entry.index);
        }
        self.log.append(entry);
    }

    fn cut_from(&mut self, first: LogIndex) {
        self.log.cut_from(first);
        if !self.broken(Mutant::OverwrittenCountsDurable) {
            self.writes.cut_from(first);
        }
        let last = self.log.last_index();
        self.membership_entries_to = self.membership_entries_to.min(last);
    }

    /// The leader says that this is committed. If this log holds it, then it agrees with the
    /// leader's up to there, whatever it was sent and in which stay; if not, the notice is ahead
    /// of the entries and another will come.
    pub(super) fn learn_commit(&mut self, commit: LogPosition) -> Result<(), Stopped> {
        self.check_committed(commit)?;
        if commit.index > self.log.committed() && self.log.holds(commit) {
            self.log.commit_to(commit.index);
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, to: ReplicaId, session: Session, matched: LogIndex) {
        let Role::Follower { ack, .. } = &mut self.role else {
            unreachable!("only followers take entries from a leader");
        };
        let earlier = ack.filter(|ack| ack.session == session).map(|ack| ack.matched);
        let matched = earlier.map_or(matched, |earlier| earlier.max(matched));
        *ack = Some(PendingAck { to, session, matched });
    }

    /// One acknowledgement for everything since the last.
    pub(super) fn flush_ack(&mut self) {
        let Role::Follower { ack, .. } = &mut self.role else { return };
        let Some(PendingAck { to, session, matched }) = ack.take() else { return };
        assert!(matched <= self.log.last_index(), "acknowledges what is not there");
        let body = Body::AppendAccepted { session, matched };
        let durable = matched <= self.log.durable() && self.writes.is_durable(self.term, self.vote);
        if durable || self.broken(Mutant::AckBeforeDurable) {
            self.send(to, body);
        } else {
            self.send_when_durable(to, body);
        }
    }
}
