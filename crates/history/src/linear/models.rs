//! Models: a register, a map with append, and the compare-and-swap register of Jepsen's etcd test.

use std::collections::BTreeMap;

use super::Model;

/// A register that is read and written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Register;

/// What is asked of a [`Register`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegisterInput {
    /// Its value, please.
    Read,
    /// A new value.
    Write(i64),
}

impl Model for Register {
    type Input = RegisterInput;
    /// What was read; 0 for a write.
    type Output = i64;
    type State = i64;
    type Part = ();

    fn init(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, input: &RegisterInput, output: Option<&i64>) -> Option<i64> {
        match input {
            RegisterInput::Read => output.is_none_or(|read| read == state).then_some(*state),
            RegisterInput::Write(value) => Some(*value),
        }
    }

    fn part(&self, _input: &RegisterInput) {}
}

/// A register with compare-and-swap that is absent at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct CasRegister;

/// What is asked of a [`CasRegister`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasInput {
    /// Its value.
    Read,
    /// A new value.
    Write(i64),
    /// A new value if it has the old one.
    Cas {
        /// The old one.
        from: i64,
        /// The new one.
        to: i64,
    },
}

/// What a [`CasRegister`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CasOutput {
    /// To a read.
    Read(Option<i64>),
    /// To a write.
    Written,
    /// To a compare-and-swap: whether it had the old value.
    Swapped(bool),
}

impl Model for CasRegister {
    type Input = CasInput;
    type Output = CasOutput;
    type State = Option<i64>;
    type Part = ();

    fn init(&self) -> Option<i64> {
        None
    }

    fn step(
        &self,
        state: &Option<i64>,
        input: &CasInput,
        output: Option<&CasOutput>,
    ) -> Option<Option<i64>> {
        match (input, output) {
            (CasInput::Read, None) => Some(*state),
            (CasInput::Read, Some(CasOutput::Read(read))) => (read == state).then_some(*state),
            (CasInput::Write(value), None | Some(CasOutput::Written)) => Some(Some(*value)),
            (CasInput::Cas { from, to }, None | Some(CasOutput::Swapped(_))) => {
                let swaps = *state == Some(*from);
                let fits = output.is_none_or(|output| *output == CasOutput::Swapped(swaps));
                fits.then_some(if swaps { Some(*to) } else { *state })
            }
            _ => None,
        }
    }

    fn part(&self, _input: &CasInput) {}
}

/// A map from keys to strings, in which each key is a part.
#[derive(Debug, Clone, Copy, Default)]
pub struct Map;

/// What is asked of a [`Map`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapInput {
    /// The key.
    pub key: String,
    /// What to do with it.
    pub action: MapAction,
}

/// What can be done with a key. Absent is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapAction {
    /// Read it.
    Get,
    /// Set it.
    Put(String),
    /// Put this behind it.
    Append(String),
}

impl Model for Map {
    type Input = MapInput;
    /// What was read; anything for the others.
    type Output = String;
    type State = String;
    type Part = String;

    fn init(&self) -> String {
        String::new()
    }

    fn step(&self, state: &String, input: &MapInput, output: Option<&String>) -> Option<String> {
        match &input.action {
            MapAction::Get => output.is_none_or(|read| read == state).then(|| state.clone()),
            MapAction::Put(value) => Some(value.clone()),
            MapAction::Append(value) => Some(format!("{state}{value}")),
        }
    }

    fn part(&self, input: &MapInput) -> String {
        input.key.clone()
    }

    fn heap_bytes(&self, state: &String) -> usize {
        state.capacity()
    }
}

/// The same map as one object: what [`Map`] would be without parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct WholeMap;

impl Model for WholeMap {
    type Input = MapInput;
    type Output = String;
    type State = BTreeMap<String, String>;
    type Part = ();

    fn init(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(
        &self,
        state: &Self::State,
        input: &MapInput,
        output: Option<&String>,
    ) -> Option<Self::State> {
        let empty = String::new();
        let old = state.get(&input.key).unwrap_or(&empty);
        let new = Map.step(old, input, output)?;
        let mut state = state.clone();
        if new != *old {
            state.insert(input.key.clone(), new);
        }
        Some(state)
    }

    fn part(&self, _input: &MapInput) {}

    fn heap_bytes(&self, state: &Self::State) -> usize {
        state.iter().map(|(key, value)| key.capacity() + value.capacity() + 64).sum()
    }
}
