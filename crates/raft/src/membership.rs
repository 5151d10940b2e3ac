//! How one membership becomes another.
//!
//! Pure functions from a membership and a change to the next membership. Two kinds of steps are
//! safe (Raft §6, thesis §4.1): adding or removing one voter, since then any two majorities of
//! the old and the new set share a member; and passing through a joint configuration, which
//! needs majorities of both. Learners have no vote, so they come and go freely.
//!
//! A voter of the old half that is to become a learner stays a voter until the joint
//! configuration is left, and is kept in `learners_next` until then; otherwise it would have to
//! be both.
//!
//! The semantics are those of etcd's `ConfChangeV2`, with one difference: `Auto` looks at how
//! many voters change rather than at how many steps there are, so that several learners can be
//! added at once without a joint configuration.

use crate::error::MembershipRefused;
use crate::types::{Membership, MembershipChange, MembershipStep, Transition};

/// The membership after `change`.
pub(crate) fn after(
    membership: &Membership,
    change: &MembershipChange,
) -> Result<Membership, MembershipRefused> {
    debug_assert_eq!(Ok(()), membership.check());
    let next = if change.transition == Transition::LeaveJoint {
        leave_joint(membership, change)?
    } else {
        if membership.is_joint() {
            return Err(MembershipRefused::Joint);
        }
        let at_once = with_steps(membership.clone(), &change.steps)?;
        let changed = membership.voters.symmetric_difference(&at_once.voters).count();
        if change.transition == Transition::Auto && changed <= 1 {
            at_once
        } else {
            enter_joint(membership, change)?
        }
    };
    assert_eq!(Ok(()), next.check(), "a change keeps the invariant");
    Ok(next)
}

fn leave_joint(
    membership: &Membership,
    change: &MembershipChange,
) -> Result<Membership, MembershipRefused> {
    if !membership.is_joint() {
        return Err(MembershipRefused::NotJoint);
    }
    if !change.steps.is_empty() {
        return Err(MembershipRefused::StepsInLeave);
    }
    let mut learners = membership.learners.clone();
    learners.extend(&membership.learners_next);
    Ok(Membership { voters: membership.voters.clone(), learners, ..Membership::default() })
}

fn enter_joint(
    membership: &Membership,
    change: &MembershipChange,
) -> Result<Membership, MembershipRefused> {
    if membership.voters.is_empty() {
        return Err(MembershipRefused::NoVoters);
    }
    let mut joint = membership.clone();
    joint.voters_outgoing = membership.voters.clone();
    joint.auto_leave = change.transition != Transition::JointExplicit;
    with_steps(joint, &change.steps)
}

fn with_steps(
    mut next: Membership,
    steps: &[MembershipStep],
) -> Result<Membership, MembershipRefused> {
    for &step in steps {
        match step {
            MembershipStep::AddVoter(id) => {
                next.learners.remove(&id);
                next.learners_next.remove(&id);
                next.voters.insert(id);
            }
            MembershipStep::AddLearner(id) => {
                next.voters.remove(&id);
                if next.voters_outgoing.contains(&id) {
                    next.learners_next.insert(id);
                } else {
                    next.learners.insert(id);
                }
            }
            MembershipStep::Remove(id) => {
                next.voters.remove(&id);
                next.learners.remove(&id);
                next.learners_next.remove(&id);
            }
        }
    }
    if next.voters.is_empty() {
        return Err(MembershipRefused::NoVoters);
    }
    Ok(next)
}
