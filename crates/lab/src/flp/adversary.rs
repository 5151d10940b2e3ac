//! The scheduler that keeps everyone from deciding.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, Stage};
use super::configuration::{Configuration, Step, Subject};
use super::witness::{decides_without, witnesses};
use crate::process::NodeId;

/// How far the adversary looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Stages.
    pub stages: usize,
    /// Configurations that are looked at in one stage.
    pub configurations: usize,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// After all stages nobody has decided, and both decisions are possible still.
    Undecided,
    /// The others do not decide if this process crashes: the protocol does not do what it would be kept from.
    BlocksAfterCrash(NodeId),
    /// The first configuration was not found to be bivalent: the inputs settle it, or the search is too weak.
    NotBivalent,
    /// In this stage nothing was found within the bounds. That says nothing about the protocol.
    Exhausted {
        /// The stage.
        stage: usize,
        /// How many configurations were looked at.
        looked_at: usize,
    },
}

/// The scheduler.
#[derive(Debug)]
pub struct Adversary<P: Subject, V> {
    value: V,
    configuration: Configuration<P>,
    certificate: Certificate,
}

impl<P: Subject, V: Fn(&P::Output) -> u64> Adversary<P, V> {
    /// Against a protocol in its first configuration. `value` is 0 or 1 for what a process decides.
    pub fn new(initial: Configuration<P>, value: V) -> Self {
        Self { value, configuration: initial, certificate: Certificate::default() }
    }

    /// Keeps everyone from deciding, as long as it can.
    pub fn run(&mut self, bounds: Bounds) -> Ending {
        for id in NodeId::all(self.configuration.len()) {
            if !decides_without(&self.configuration, id) {
                return Ending::BlocksAfterCrash(id);
            }
        }
        let Some(first) = witnesses(&self.configuration, &self.value) else {
            return Ending::NotBivalent;
        };
        self.certificate.witnesses = first;
        for stage in 0..bounds.stages {
            let node = NodeId(stage % self.configuration.len());
            if let Err(looked_at) = self.stage(node, bounds.configurations) {
                return Ending::Exhausted { stage, looked_at };
            }
        }
        Ending::Undecided
    }

    /// The schedule so far, with its witnesses.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Where it has come to.
    pub fn configuration(&self) -> &Configuration<P> {
        &self.configuration
    }

    /// One stage: breadth first over the configurations that are reached without `event`.
    fn stage(&mut self, node: NodeId, configurations_max: usize) -> Result<(), usize> {
        let event = self.event(node);
        let mut queue = VecDeque::from([(self.configuration.clone(), Vec::new())]);
        let mut known = BTreeSet::from([self.configuration.digest()]);
        let mut looked_at = 0;
        while let Some((configuration, before)) = queue.pop_front() {
            looked_at += 1;
            let mut after = configuration.clone();
            if after.apply(event)
                && after.decided().is_empty()
                && let Some(witnesses) = witnesses(&after, &self.value)
            {
                self.configuration = after;
                self.certificate.stages.push(Stage { node, event, before, witnesses });
                return Ok(());
            }
            if looked_at >= configurations_max {
                break;
            }
            for step in steps(&configuration, node) {
                let mut next = configuration.clone();
                if step != event
                    && next.apply(step)
                    && next.decided().is_empty()
                    && known.insert(next.digest())
                {
                    let before = before.iter().copied().chain([step]).collect();
                    queue.push_back((next, before));
                }
            }
        }
        Err(looked_at)
    }

    /// The event that has to happen in this stage: the oldest message of the process. If there is none, it
    /// takes a step without one; and if there is no message at all, that is a timer running out.
    fn event(&self, node: NodeId) -> Step {
        let idle = || {
            let quiet = self.configuration.undelivered() == 0;
            let timer = quiet.then(|| self.configuration.timers(node).next()).flatten();
            timer.unwrap_or(Step::Idle { node })
        };
        self.configuration.oldest(node).unwrap_or_else(idle)
    }
}

/// What may happen, in the order in which it is tried: what the process itself may be given first, the newest
/// message before the older ones; then the timers of all; then the messages of the others.
fn steps<P: Subject>(configuration: &Configuration<P>, node: NodeId) -> Vec<Step> {
    let all = || NodeId::all(configuration.len());
    let own = configuration.inbox(node).rev();
    let timers = all().flat_map(|id| configuration.timers(id));
    let others = all().filter(|&id| id != node).flat_map(|id| configuration.inbox(id).rev());
    own.chain(timers).chain(others).collect()
}
