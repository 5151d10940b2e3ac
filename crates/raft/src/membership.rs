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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ReplicaId;

    fn id(n: u64) -> ReplicaId {
        ReplicaId::new(n).expect("not zero")
    }

    fn change(transition: Transition, words: &str) -> MembershipChange {
        let step = |word: &str| {
            let n = id(word[1..].parse().expect("a number"));
            match &word[..1] {
                "+" => MembershipStep::AddVoter(n),
                "~" => MembershipStep::AddLearner(n),
                _ => MembershipStep::Remove(n),
            }
        };
        let steps = words.split_whitespace().map(step).collect();
        MembershipChange { transition, steps, ..MembershipChange::default() }
    }

    /// Applies changes one after the other and shows where that leads, or why it does not.
    fn path(voters: &[u64], changes: &[(Transition, &str)]) -> String {
        let mut membership = Membership::of_voters(voters.iter().map(|&n| id(n)));
        for &(transition, words) in changes {
            match after(&membership, &change(transition, words)) {
                Ok(next) => membership = next,
                Err(refused) => return refused.to_string(),
            }
        }
        membership.to_string()
    }

    /// Voters, the changes, and where they lead.
    type Case = (&'static [u64], &'static [(Transition, &'static str)], &'static str);

    #[test]
    fn changes_lead_where_they_should() {
        use Transition::{Auto, JointExplicit, JointImplicit};
        const LEAVE: (Transition, &str) = (Transition::LeaveJoint, "");
        let cases: &[Case] = &[
            (&[1], &[(Auto, "+2")], "voters=(1 2)"),
            (&[1], &[(Auto, "~2")], "voters=(1) learners=(2)"),
            (&[1], &[(Auto, "~2"), (Auto, "+2")], "voters=(1 2)"),
            (&[1, 2], &[(Auto, "~2")], "voters=(1) learners=(2)"),
            (&[1, 2], &[(Auto, "-2")], "voters=(1)"),
            (&[1], &[(Auto, "~2"), (Auto, "-2")], "voters=(1)"),
            // Nothing to do is nothing done.
            (&[1, 2], &[(Auto, "-3 +2")], "voters=(1 2)"),
            (&[1], &[(Auto, "~2"), (Auto, "~2")], "voters=(1) learners=(2)"),
            // The last step for a replica decides.
            (&[1], &[(Auto, "+2 -2 ~2")], "voters=(1) learners=(2)"),
            // Learners are no reason for a joint configuration, two voters are.
            (&[1], &[(Auto, "~2 ~3 +4")], "voters=(1 4) learners=(2 3)"),
            (&[1], &[(Auto, "+2 +3")], "voters=(1 2 3)&&(1) auto_leave"),
            (&[1], &[(Auto, "+2 +3"), LEAVE], "voters=(1 2 3)"),
            (&[1], &[(JointImplicit, "+2")], "voters=(1 2)&&(1) auto_leave"),
            (&[1], &[(JointExplicit, "+2")], "voters=(1 2)&&(1)"),
            // Who is demoted stays a voter of the old half until the joint state is left.
            (&[1, 2], &[(JointExplicit, "~2")], "voters=(1)&&(1 2) learners_next=(2)"),
            (&[1, 2], &[(JointExplicit, "~2"), LEAVE], "voters=(1) learners=(2)"),
            (&[1, 2], &[(JointExplicit, "~2 -2")], "voters=(1)&&(1 2)"),
            (&[1, 2], &[(JointExplicit, "~2 +2")], "voters=(1 2)&&(1 2)"),
            (&[1, 2, 3], &[(Auto, "-2 -3 +4"), LEAVE], "voters=(1 4)"),
            // What is refused.
            (&[1], &[(Auto, "-1")], "no voter would remain"),
            (&[1], &[(Auto, "~1")], "no voter would remain"),
            (&[1], &[LEAVE], "the configuration is not joint"),
            (
                &[1],
                &[(JointExplicit, "+2"), (Auto, "+3")],
                "the configuration is joint and has to be left first",
            ),
            (
                &[1],
                &[(JointExplicit, "+2"), (Transition::LeaveJoint, "+3")],
                "leaving a joint configuration carries no steps",
            ),
        ];
        for (voters, changes, expected) in cases {
            assert_eq!(*expected, path(voters, changes), "{voters:?} {changes:?}");
        }
    }

    /// Whether these replicas decide under this membership, counted by hand.
    fn is_quorum(membership: &Membership, members: u32) -> bool {
        let holds = |id: &&ReplicaId| members & (1 << id.get()) != 0;
        [&membership.voters, &membership.voters_outgoing]
            .into_iter()
            .all(|half| half.is_empty() || half.iter().filter(holds).count() * 2 > half.len())
    }

    fn quorums_overlap(one: &Membership, other: &Membership) -> bool {
        let all = 0..1u32 << 6;
        let of = |membership: &Membership| -> Vec<u32> {
            all.clone().filter(|&members| is_quorum(membership, members)).collect()
        };
        let others = of(other);
        of(one).iter().all(|a| others.iter().all(|b| a & b != 0))
    }

    /// What safety hangs on: however a membership is changed, any quorum of it shares a member
    /// with any quorum of the next. All memberships within two changes of (1 2 3), all changes
    /// of up to two steps over five replicas, all subsets as quorums.
    #[test]
    fn consecutive_memberships_have_overlapping_quorums() {
        let ids = (1..=5).map(id);
        let kinds = [MembershipStep::AddVoter, MembershipStep::AddLearner, MembershipStep::Remove];
        let single: Vec<MembershipStep> =
            ids.flat_map(|id| kinds.iter().map(move |kind| kind(id))).collect();
        let mut lists: Vec<Vec<MembershipStep>> = single.iter().map(|&step| vec![step]).collect();
        for &one in &single {
            lists.extend(single.iter().map(|&other| vec![one, other]));
        }
        let transitions = [Transition::Auto, Transition::JointImplicit, Transition::JointExplicit];
        let mut frontier = vec![Membership::of_voters((1..=3).map(id))];
        let mut pairs = 0;
        for _ in 0..2 {
            let mut reached: Vec<Membership> = Vec::new();
            for membership in &frontier {
                let mut changes = vec![MembershipChange::leave_joint()];
                for steps in &lists {
                    changes.extend(transitions.map(|transition| MembershipChange {
                        transition,
                        steps: steps.clone(),
                        ..MembershipChange::default()
                    }));
                }
                let next = changes.iter().filter_map(|change| after(membership, change).ok());
                for next in next {
                    if !reached.contains(&next) {
                        assert!(quorums_overlap(membership, &next), "{membership} to {next}");
                        pairs += 1;
                        reached.push(next);
                    }
                }
            }
            frontier = reached;
        }
        assert!(pairs > 300, "only {pairs} pairs were tried");
    }
}
