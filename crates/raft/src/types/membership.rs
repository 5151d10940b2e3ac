//! Who belongs to a group, and how that is changed.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use super::ids::ReplicaId;

/// The members of a group as of some entry of its log.
///
/// While `voters_outgoing` is not empty the configuration is *joint* (Raft §6): every decision
/// needs a majority of `voters` and a majority of `voters_outgoing`.
///
/// INVARIANT: `learners` is disjoint from `voters` and `voters_outgoing`; `learners_next` is a
/// subset of `voters_outgoing` and disjoint from `voters`; when not joint, `learners_next` is
/// empty and `auto_leave` is false. [`Membership::check`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Voters; in a joint configuration, those of the new one.
    pub voters: BTreeSet<ReplicaId>,
    /// Voters of the old configuration while joint; empty otherwise.
    pub voters_outgoing: BTreeSet<ReplicaId>,
    /// Replicas that receive the log and have no vote.
    pub learners: BTreeSet<ReplicaId>,
    /// Voters of the old configuration that become learners when the joint one is left.
    pub learners_next: BTreeSet<ReplicaId>,
    /// Whether the leader leaves the joint configuration by itself as soon as it may.
    pub auto_leave: bool,
}

impl Membership {
    /// A plain configuration of voters.
    pub fn of_voters(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// Whether two majorities decide.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether the replica has a vote, in the new or the old configuration.
    pub fn is_voter(&self, id: ReplicaId) -> bool {
        self.voters.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// Whether the replica receives the log at all.
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.is_voter(id) || self.learners.contains(&id) || self.learners_next.contains(&id)
    }

    /// All members, voters or not, in order and once each.
    pub fn members(&self) -> BTreeSet<ReplicaId> {
        let mut members = self.voters.clone();
        members.extend(&self.voters_outgoing);
        members.extend(&self.learners);
        members.extend(&self.learners_next);
        members
    }

    /// Checks the invariant.
    ///
    /// # Errors
    /// A sentence that names the part that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.learners.is_disjoint(&self.voters)
            || !self.learners.is_disjoint(&self.voters_outgoing)
        {
            return Err("a learner is a voter as well");
        }
        if !self.learners_next.is_subset(&self.voters_outgoing) {
            return Err("a voter to be demoted is not an outgoing voter");
        }
        if !self.learners_next.is_disjoint(&self.voters) {
            return Err("a voter to be demoted is an incoming voter as well");
        }
        if !self.is_joint() && self.auto_leave {
            return Err("nothing to leave, yet it is to be left automatically");
        }
        if self.is_joint() && self.voters.is_empty() {
            return Err("a joint configuration without incoming voters");
        }
        Ok(())
    }
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "voters={}", Ids(&self.voters))?;
        if self.is_joint() {
            write!(f, "&&{}", Ids(&self.voters_outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, " learners={}", Ids(&self.learners))?;
        }
        if !self.learners_next.is_empty() {
            write!(f, " learners_next={}", Ids(&self.learners_next))?;
        }
        if self.auto_leave {
            write!(f, " auto_leave")?;
        }
        Ok(())
    }
}

struct Ids<'a>(&'a BTreeSet<ReplicaId>);

impl fmt::Display for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(")?;
        for (n, id) in self.0.iter().enumerate() {
            if n > 0 {
                write!(f, " ")?;
            }
            write!(f, "{id}")?;
        }
        write!(f, ")")
    }
}

/// One step of a membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MembershipStep {
    /// Make it a voter: a new member, or a learner that is promoted.
    AddVoter(ReplicaId),
    /// Make it a learner: a new member, or a voter that is demoted.
    AddLearner(ReplicaId),
    /// Remove it, voter or learner.
    Remove(ReplicaId),
}

/// How a list of steps becomes effective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transition {
    /// At once if no more than one voter is added or removed, else as `JointImplicit`.
    #[default]
    Auto,
    /// Through a joint configuration that the leader leaves by itself.
    JointImplicit,
    /// Through a joint configuration that is left by proposing [`Transition::LeaveJoint`].
    JointExplicit,
    /// Leave the joint configuration; carries no steps.
    LeaveJoint,
}

/// A change of the group's membership, as an entry carries it. Raft §6, thesis chapter 4; the
/// semantics of steps and transitions are those of etcd's `ConfChangeV2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipChange {
    /// How to get there.
    pub transition: Transition,
    /// The steps, taken in order; for one replica the last step decides.
    pub steps: Vec<MembershipStep>,
    /// Opaque to the core; the application finds it in the committed entry.
    pub context: Bytes,
}

impl MembershipChange {
    /// A change of these steps with [`Transition::Auto`] and no context.
    pub fn of(steps: impl IntoIterator<Item = MembershipStep>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// The change that leaves a joint configuration.
    pub fn leave_joint() -> Self {
        Self { transition: Transition::LeaveJoint, ..Self::default() }
    }

    /// What the change counts for against limits in bytes.
    pub fn size_bytes(&self) -> usize {
        16 * self.steps.len() + self.context.len()
    }
}
