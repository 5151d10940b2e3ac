//! The rules, checked from outside after every event.
//!
//! Nothing here trusts the members: what is durable is read from mirrors of their logs, quorums
//! are counted by hand, and what was ever committed or published is remembered for all of them
//! together.
//!
//! - Raft, figure 3: one leader a term; log matching; leader completeness; state machine safety.
//! - A commit is backed by a quorum of disks, and by an entry of the leader's own term. Term and
//!   vote never regress, over restarts too. At most one membership change is under way.
//! - What a member promises is on its disk (`check/sent.rs`).
//! - A log that is opened again holds what was durable, and of what was under way the oldest
//!   writes, whole ([`world`](crate::world)).
//! - What clients and watchers were told can be true of one strictly serializable store
//!   ([`judge`](crate::judge)).
//! - Two members that applied the same revision did the same, and at the same applied index have
//!   the same state, to the byte; revisions have no gap.
//! - After everything is healed the cluster serves within a bound, and all members have the same
//!   state.

mod sent;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mvcc::Commit;
use raft::{Entry, HardState, LogIndex, LogPosition, Membership, Payload, RoleKind, Term};
use store::NodeId;

use crate::world::host::Host;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule, in a few words: what shrinking holds on to.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in true time.
    pub at: Duration,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.6} s: {}", self.rule, self.at.as_secs_f64(), self.what)
    }
}

/// A rule and what was seen, before anyone says when.
pub(crate) type Fault = (&'static str, String);

/// What has ever been seen, over all members and all their processes.
#[derive(Default)]
pub(crate) struct Rules {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry ever appended anywhere: what it carries, and what stands before it.
    written: BTreeMap<LogPosition, (Payload, LogPosition)>,
    /// The term of each committed entry, and the term in which it was first seen to be.
    committed: BTreeMap<LogIndex, (Term, Term)>,
    /// What each revision did, as the first member that applied it says, and when it said so.
    pub(crate) commits: BTreeMap<i64, (Arc<Commit>, Duration)>,
    pub(crate) elections: u64,
    /// The end of the log of whoever asked for votes of a term.
    asked: BTreeMap<(NodeId, Term), LogPosition>,
    /// The end of a member's log when it stored its vote for another, in a term.
    voted_at: BTreeMap<(NodeId, NodeId, Term), LogPosition>,
    /// Where entries stand that change the membership, in any log.
    changes: BTreeSet<LogPosition>,
    /// The state at an applied index, and whose it was.
    hashes: BTreeMap<u64, (u32, NodeId)>,
    pub(crate) states_compared: u64,
    /// Entries written over others.
    pub(crate) overwritten: u64,
    /// Times that a log was cut behind what nobody needs.
    pub(crate) truncated: u64,
}

impl Rules {
    pub(crate) fn max_committed(&self) -> u64 {
        self.committed.last_key_value().map_or(0, |(index, _)| index.0)
    }

    /// Log Matching: a position determines what the entry carries and what stands before it.
    pub(crate) fn appended(
        &mut self,
        id: NodeId,
        mut before: LogPosition,
        entries: &[Entry],
    ) -> Result<(), Fault> {
        for entry in entries {
            if matches!(entry.payload, Payload::Membership(_)) {
                self.changes.insert(entry.position());
            }
            let mine = (entry.payload.clone(), before);
            let known = self.written.entry(entry.position()).or_insert_with(|| mine.clone());
            if *known != mine {
                let what = format!(
                    "member {} has {} after {before}, elsewhere it is another, after {}",
                    id.0,
                    entry.position(),
                    known.1
                );
                return Err(("log matching", what));
            }
            before = entry.position();
        }
        Ok(())
    }

    /// A member applied a commit: the same as everyone who applied this revision.
    pub(crate) fn published(
        &mut self,
        id: NodeId,
        commit: &Arc<Commit>,
        now: Duration,
    ) -> Result<(), Fault> {
        let revision = commit.revision.0;
        let (known, _) = self.commits.entry(revision).or_insert_with(|| (Arc::clone(commit), now));
        if known == commit {
            return Ok(());
        }
        let what = format!("{revision} is {commit:?} at member {}, elsewhere {known:?}", id.0);
        Err(("same state", what))
    }

    /// Members that have applied the same entries have the same state, to the byte.
    pub(crate) fn state(&mut self, id: NodeId, view: &mvcc::View) -> Result<(), Fault> {
        let applied = view.applied().index;
        let hash = view.hash().map_err(|error| ("a state can be read", error.to_string()))?;
        match self.hashes.insert(applied, (hash, id)) {
            Some((other, whose)) if other != hash => {
                let what = format!("{} and {} differ at applied index {applied}", id.0, whose.0);
                Err(("same state", what))
            }
            known => {
                self.states_compared += u64::from(known.is_some_and(|(_, whose)| whose != id));
                Ok(())
            }
        }
    }

    /// At most one membership change is under way in any log.
    fn one_change(&self, host: &Host) -> Result<(), Fault> {
        let Some(raft) = host.raft() else { return Ok(()) };
        let beyond = LogPosition::new(raft.committed().0 + 1, 0);
        let open = self.changes.range(beyond..);
        let open: Vec<_> = open.filter(|at| raft.term_at(at.index) == Some(at.term)).collect();
        if open.len() < 2 {
            return Ok(());
        }
        let what = format!("member {} has {open:?}, committed is {}", host.id.0, raft.committed());
        Err(("one membership change at a time", what))
    }

    /// Revisions have no gap: the list begins after the founding one.
    pub(crate) fn no_gap(&self) -> Result<(), Fault> {
        for (expected, &revision) in (2..).zip(self.commits.keys()) {
            if revision != expected {
                let what = format!("after revision {} comes {revision}", expected - 1);
                return Err(("no gap", what));
            }
        }
        Ok(())
    }

    /// What can be asked of a member's Raft after anything happened to it. Says how far its log
    /// is checked now, and what term and vote it was seen with.
    pub(crate) fn after_event(
        &mut self,
        hosts: &BTreeMap<NodeId, Host>,
        id: NodeId,
        membership_before: &Membership,
    ) -> Result<(u64, HardState), Fault> {
        let host = &hosts[&id];
        let before = host.hard_state_seen;
        let Some(raft) = host.raft() else { return Ok((host.commit_checked, before)) };
        let (term, vote, commit) = (raft.term(), raft.vote(), raft.committed());
        let seen = HardState { term, vote, commit, binding: raft.binding() };
        let revoted = seen.term == before.term && before.vote.is_some() && seen.vote != before.vote;
        if seen.term < before.term || revoted {
            return Err(("term and vote", format!("member {}: {before:?}, then {seen:?}", id.0)));
        }
        if raft.role() == RoleKind::Leader {
            self.leads(host, raft.term())?;
        }
        self.one_change(host)?;
        self.commits_are_backed(hosts, host, membership_before)?;
        Ok((raft.committed().0.max(host.commit_checked), seen))
    }

    fn leads(&mut self, host: &Host, term: Term) -> Result<(), Fault> {
        match self.leaders.get(&term) {
            Some(&leader) if leader == host.id => return Ok(()),
            Some(other) => {
                let what = format!("members {} and {} lead term {term}", other.0, host.id.0);
                return Err(("one leader a term", what));
            }
            None => {}
        }
        self.leaders.insert(term, host.id);
        self.elections += 1;
        let Some(raft) = host.raft() else { return Ok(()) };
        for (&index, &(committed, seen_in)) in self.committed.range(raft.truncated().index..) {
            if seen_in < term && raft.term_at(index) != Some(committed) {
                let what = format!(
                    "member {} leads term {term} without {index}@{committed}, committed by term {seen_in}",
                    host.id.0
                );
                return Err(("leader completeness", what));
            }
        }
        Ok(())
    }

    /// Committed entries never change, and are backed by a quorum of disks.
    fn commits_are_backed(
        &mut self,
        hosts: &BTreeMap<NodeId, Host>,
        host: &Host,
        membership_before: &Membership,
    ) -> Result<(), Fault> {
        let Some(raft) = host.raft() else { return Ok(()) };
        let (commit, known) = (raft.committed(), self.max_committed());
        for index in (host.commit_checked + 1).max(raft.truncated().index.0)..=commit.0 {
            let index = LogIndex(index);
            let Some(term) = raft.term_at(index) else {
                return Err(("committed entries stay", format!("{index} is not in the log")));
            };
            let (first, _) = *self.committed.entry(index).or_insert((term, raft.term()));
            if first != term {
                let id = host.id.0;
                let what = format!("{index} was of term {first}, at member {id} it is of {term}");
                return Err(("committed entries stay", what));
            }
        }
        let Some(term) = raft.term_at(commit) else { return Ok(()) };
        if commit.0 <= known || commit == raft.truncated().index {
            return Ok(());
        }
        if raft.role() == RoleKind::Leader && term != raft.term() {
            let what =
                format!("member {} leads {} and commits {commit}@{term}", host.id.0, raft.term());
            return Err(("only entries of the own term are committed by counting", what));
        }
        let at = LogPosition { index: commit, term };
        let holders: BTreeSet<u64> =
            hosts.values().filter(|host| host.mirror.holds(at)).map(|host| host.id.0).collect();
        let backed = |membership: &Membership| {
            [&membership.voters, &membership.voters_outgoing].into_iter().all(|half| {
                let held = half.iter().filter(|voter| holders.contains(&voter.get())).count();
                half.is_empty() || held * 2 > half.len()
            })
        };
        if backed(membership_before) || backed(raft.membership()) {
            return Ok(());
        }
        let what = format!(
            "member {} has committed {at}, which only {holders:?} of {} hold on disk",
            host.id.0,
            raft.membership()
        );
        Err(("durable quorum", what))
    }
}
