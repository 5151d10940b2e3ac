//! Reads without writing to the log (thesis §6.4), in batches.
//!
//! A read may be served at the commit index of a moment at which this replica surely leads. So:
//! wait until an entry of the own term is committed (before, the commit index may lag behind
//! what an earlier leader answered); note the commit index; then have a quorum confirm the term
//! by answering a heartbeat that was *sent after* that. Heartbeats carry a round number, which
//! rises within the term and is never reused; an answer confirms its round and every earlier
//! one. All reads that come while `read_rounds_max` rounds are out share the next round.

use std::collections::VecDeque;

use crate::error::Refused;
use crate::mutants::Mutant;
use crate::types::{LogIndex, ReadFailed, ReadReady};

use super::{Raft, Role};

#[derive(Debug)]
struct Round {
    number: u64,
    index: LogIndex,
    reads: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Not in a round yet.
    waiting: Vec<u64>,
    /// Waiting for confirmation; ascending.
    rounds: VecDeque<Round>,
    last_round: u64,
    /// In `waiting` and in `rounds`.
    pending: usize,
}

impl Reads {
    /// Whether a round is out that is later than this one.
    pub(super) fn wait_for(&self, round: u64) -> bool {
        self.rounds.back().is_some_and(|latest| latest.number > round)
    }

    /// The latest round begun in this term; 0 before the first.
    pub(super) fn last_round(&self) -> u64 {
        self.last_round
    }
}

impl Raft {
    pub(super) fn on_read_index(&mut self, ctx: u64) {
        let pending_max = self.config.reads_pending_max;
        let not_leader = self.not_leader();
        let reason = match &mut self.role {
            Role::Leader(leader) if leader.reads.pending < pending_max => {
                leader.reads.waiting.push(ctx);
                leader.reads.pending += 1;
                return;
            }
            Role::Leader(_) => Refused::TooManyReads,
            _ => not_leader,
        };
        self.out.failed_reads.push(ReadFailed { ctx, reason });
    }

    /// Puts the waiting reads into a round, if they may be and there is room for one.
    pub(super) fn start_read_round(&mut self) {
        let early = !self.is_term_committed() && !self.broken(Mutant::ReadBeforeTermCommitted);
        let reused = self.broken(Mutant::ReadRoundReused);
        let index = self.log.committed();
        let rounds_max = self.config.read_rounds_max;
        let Some(leader) = self.as_leader_mut() else { return };
        let reads = &mut leader.reads;
        if early || reads.waiting.is_empty() || reads.rounds.len() >= rounds_max {
            return;
        }
        if reads.last_round == 0 || !reused {
            reads.last_round += 1;
        }
        let waiting = std::mem::take(&mut reads.waiting);
        reads.rounds.push_back(Round { number: reads.last_round, index, reads: waiting });
        // A sole voter needs nobody's confirmation.
        if !self.confirm_reads() {
            let membership = self.membership.clone();
            self.send_heartbeats(|id| membership.is_voter(id));
        }
    }

    /// Answers the reads whose round a quorum has confirmed. Says whether none is left.
    pub(super) fn confirm_reads(&mut self) -> bool {
        let Role::Leader(leader) = &self.role else { return true };
        let latest = leader.reads.last_round;
        let unconfirmed = self.broken(Mutant::ReadUnconfirmed);
        let confirmed = self.quorums().reached(|id| match leader.peers.get(id) {
            Some(peer) if !unconfirmed => Some(peer.round),
            _ => Some(latest),
        });
        let confirmed = confirmed.definite().unwrap_or(0);
        let Role::Leader(leader) = &mut self.role else { return true };
        let reads = &mut leader.reads;
        while reads.rounds.front().is_some_and(|round| round.number <= confirmed) {
            let Some(round) = reads.rounds.pop_front() else { break };
            reads.pending -= round.reads.len();
            let index = round.index;
            self.out.reads.extend(round.reads.into_iter().map(|ctx| ReadReady { ctx, index }));
        }
        reads.rounds.is_empty()
    }

    /// Leadership is over: nobody will confirm them.
    pub(super) fn fail_reads(&mut self, reads: Reads) {
        let reason = self.not_leader();
        let in_rounds = reads.rounds.into_iter().flat_map(|round| round.reads);
        let failed = in_rounds.chain(reads.waiting).map(|ctx| ReadFailed { ctx, reason });
        self.out.failed_reads.extend(failed);
    }
}
