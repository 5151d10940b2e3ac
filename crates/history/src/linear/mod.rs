//! Linearizability, by search: is there an order of the operations that respects real time and that a model accepts?
//!
//! An operation takes effect at one point between its invocation and its return (Herlihy & Wing 1990). The search
//! goes through the history and linearizes, one after the other, operations that were invoked before the next return;
//! at a dead end it takes the last one back (Wing & Gong 1993). Two things make that bearable: what does not share
//! state is searched apart ([`Model::part`], Horn & Kroening's P-compositionality as in Porcupine), and a pair of (set
//! of operations linearized, state) that was tried once is not tried again (Lowe 2017).
//!
//! An operation whose outcome is unknown has no return. It may be linearized at any point after its invocation, or
//! never; the search is done when all that returned are linearized.
//!
//! # Bounds
//!
//! The problem is NP-complete, so there is a bound on steps and on memory; beyond it the verdict is
//! [`Verdict::Unknown`], which is not a pass.
//!
//! # When it is not linearizable
//!
//! Linearizability is prefix-closed: there is a shortest prefix of the history that already has no order, and what
//! returned last in it is what nothing explains. [`Failure`] has that prefix's last operations, and the longest
//! explanation of what came before.
//!
//! Sources: Wing & Gong 1993; Lowe 2017 (§4, memoization on configurations); Horn & Kroening 2015; Porcupine.

pub mod keys;
pub mod models;
mod search;

use std::fmt::{Debug, Display, Formatter};

use crate::record::Time;
pub use search::check_part;

/// A sequential object.
pub trait Model {
    /// What is asked.
    type Input: Debug;
    /// What is answered.
    type Output: Debug;
    /// The object's state.
    type State: Clone + Eq + std::hash::Hash + Debug;
    /// Which part of the object a request is about; parts share no state. `()` if it has none.
    type Part: Ord + Debug;

    /// The state at the beginning.
    fn init(&self) -> Self::State;

    /// The state after a request, if it can have this answer in this state. Without an answer the outcome is unknown,
    /// and what is asked for is the state if the request took effect.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// The part that a request is about.
    fn part(&self, input: &Self::Input) -> Self::Part;

    /// Bytes that a state holds on the heap, for the bound on memory.
    fn heap_bytes(&self, _state: &Self::State) -> usize {
        0
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op<I, O> {
    /// Before it was asked.
    pub invoked: Time,
    /// What was asked.
    pub input: I,
    /// When it was answered, and what; `None` if nobody knows.
    pub answered: Option<(Time, O)>,
}

/// How long to search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Steps of the model in all.
    pub steps_max: u64,
    /// Bytes for configurations that were tried, in all parts, one part at a time.
    pub memory_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { steps_max: 50_000_000, memory_bytes_max: 1 << 30 }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    NotLinearizable(Failure),
    /// The search was given up.
    Unknown(Exhausted),
}

/// Why a search was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// [`Bounds::steps_max`].
    #[error("{0} steps were not enough")]
    Steps(u64),
    /// [`Bounds::memory_bytes_max`].
    #[error("{0} bytes of configurations were not enough")]
    Memory(usize),
    /// [`keys::Settings::configurations_max`].
    #[error("a window can end in more than {0} ways")]
    Configurations(usize),
}

/// The shortest prefix that has no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which part of the object, as text.
    pub part: String,
    /// How many operations were invoked in the prefix.
    pub invoked: usize,
    /// The operation whose return ends the prefix: what nothing explains. Its place in what was given.
    pub culprit: usize,
    /// The operations of the prefix that are not in the longest explanation, or among its last; by invocation.
    pub window: Vec<(usize, String)>,
    /// The longest explanation's last operations, in its order, and the state after each.
    pub explained: Vec<(usize, String)>,
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "part {}: after {} invocations nothing explains", self.part, self.invoked)?;
        for (index, words) in &self.window {
            let mark = if *index == self.culprit { "-> " } else { "   " };
            writeln!(f, "{mark}operation {index}: {words}")?;
        }
        writeln!(f, "the longest explanation ends with")?;
        for (index, words) in &self.explained {
            writeln!(f, "   operation {index}: {words}")?;
        }
        Ok(())
    }
}

/// Checks a history against a model. The order of `ops` does not matter.
///
/// # Panics
/// If an operation is answered before it was invoked: that is no history.
pub fn check<M: Model>(model: &M, ops: &[Op<M::Input, M::Output>], bounds: &Bounds) -> Verdict {
    let mut parts: std::collections::BTreeMap<M::Part, Vec<usize>> = Default::default();
    for (index, op) in ops.iter().enumerate() {
        parts.entry(model.part(&op.input)).or_default().push(index);
    }
    let mut left = bounds.clone();
    let mut unknown = None;
    for (part, members) in parts {
        match check_part(model, ops, &members, &mut left) {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable(mut failure) => {
                failure.part = format!("{part:?}");
                return Verdict::NotLinearizable(failure);
            }
            Verdict::Unknown(why) => unknown = Some(why),
        }
    }
    unknown.map_or(Verdict::Linearizable, Verdict::Unknown)
}
