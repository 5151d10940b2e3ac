//! The rules, checked from outside after every event.
//!
//! Nothing here trusts the members: what is durable is read from mirrors of their logs, quorums
//! are counted by hand, and what was ever committed or published is remembered for all of them
//! together.
//!
//! - Raft, figure 3: one leader a term; log matching; leader completeness; state machine safety.
//! - A commit is backed by a quorum of disks. Term and vote never regress, over restarts too.
//! - A log that is opened again holds what was durable, and of what was under way the oldest
//!   writes, whole ([`world`](crate::world)).
//! - Two members that applied the same revision did the same; revisions have no gap.
//! - After everything is healed the cluster serves within a bound, and all members have the same
//!   state.

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
    /// What each revision did, as the first member that applied it says.
    pub(crate) commits: BTreeMap<i64, Arc<Commit>>,
    pub(crate) elections: u64,
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
    pub(crate) fn published(&mut self, id: NodeId, commit: &Arc<Commit>) -> Result<(), Fault> {
        let revision = commit.revision.0;
        let known = self.commits.entry(revision).or_insert_with(|| Arc::clone(commit));
        if known == commit {
            return Ok(());
        }
        let what = format!("{revision} is {commit:?} at member {}, elsewhere {known:?}", id.0);
        Err(("same state", what))
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
