//! The code broken on purpose, one line at a time: a rule that has never caught anything proves
//! nothing.

use std::fmt;

use crate::climate::Support;
use crate::{Mutants, Plan, Tell, live_broken};

/// What is broken, by the crate that it is broken in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The consensus core.
    Raft(raft::Mutant),
    /// The log.
    Storage(storage::Mutant),
    /// The core of a member.
    Node(node::Mutant),
    /// The store.
    Store(store::Mutant),
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raft(mutant) => write!(f, "raft::{mutant:?}"),
            Self::Storage(mutant) => write!(f, "storage::{mutant:?}"),
            Self::Node(mutant) => write!(f, "node::{mutant:?}"),
            Self::Store(mutant) => write!(f, "store::{mutant:?}"),
        }
    }
}

impl From<Option<Mutant>> for Mutants {
    fn from(mutant: Option<Mutant>) -> Self {
        let none = Self::default();
        match mutant {
            Some(Mutant::Raft(mutant)) => Self { raft: Some(mutant), ..none },
            Some(Mutant::Storage(mutant)) => Self { storage: Some(mutant), ..none },
            Some(Mutant::Node(mutant)) => Self { node: Some(mutant), ..none },
            Some(Mutant::Store(mutant)) => Self { store: Some(mutant), ..none },
            None => none,
        }
    }
}

/// All that whole clusters can be asked to notice.
#[must_use]
pub fn all() -> Vec<Mutant> {
    let raft = raft::Mutant::ALL.iter().copied().map(Mutant::Raft);
    let storage = storage::Mutant::ALL.iter().copied().map(Mutant::Storage);
    let node = node::Mutant::ALL.iter().copied().map(Mutant::Node);
    let store = store::Mutant::ALL.iter().copied().map(Mutant::Store);
    raft.chain(storage).chain(node).chain(store).collect()
}

/// How leaders must know that they lead for a mistake to show at all.
fn needs(mutant: Mutant) -> Option<Support> {
    use raft::Mutant as Raft;
    let mutant = match mutant {
        Mutant::Raft(mutant) => mutant,
        Mutant::Store(_) => return Some(Support::Leased),
        Mutant::Storage(_) | Mutant::Node(_) => return None,
    };
    match mutant {
        Raft::ReadUnconfirmed | Raft::ReadBeforeTermCommitted | Raft::ReadRoundReused => {
            Some(Support::Timers)
        }
        Raft::BindingNotPersisted
        | Raft::VoteThoughBound
        | Raft::LeaseCountsUnbound
        | Raft::LeaseUnderOldMembership
        | Raft::LeaseOfHalfAJoint
        | Raft::ReleasedBeforeServingEnds
        | Raft::ReleasedByCandidate
        | Raft::LeaseBeforeTermApplied => Some(Support::Leased),
        _ => None,
    }
}

/// Has leaders of a plan know that they lead in the way in which this mistake shows.
pub fn prepare(plan: &mut Plan, mutant: Mutant) {
    if let Some(support) = needs(mutant) {
        plan.climate.support = support;
    }
}

/// Lives through a seed with one of them, or with nothing broken, and says what was noticed.
///
/// # Errors
/// The rule that was broken, and how.
pub fn live(seed: u64, mutant: Option<Mutant>) -> Result<(), String> {
    let mut plan = Plan::draw(seed);
    if let Some(mutant) = mutant {
        prepare(&mut plan, mutant);
    }
    let outcome = live_broken(&plan, Tell::Nothing, mutant.into());
    outcome.broken.map_or(Ok(()), |broken| Err(broken.to_string()))
}
