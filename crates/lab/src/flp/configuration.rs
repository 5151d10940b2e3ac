//! Configurations: the state of all processes, and what was sent and not delivered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hash;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::digest::Digest;
use crate::process::{Effect, Input, InputOf, NodeId, Now, Out, Process, RequestId};
use crate::protocol::Protocol;

/// A process that the adversary can have: it can be copied, and told apart from others.
pub trait Subject: Process<Disk: Clone + Eq + Hash> + Clone + Eq + Hash {}

impl<P: Process<Disk: Clone + Eq + Hash> + Clone + Eq + Hash> Subject for P {}

/// An event: one process takes one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A process takes its first step, with its input.
    Begin {
        /// Which.
        node: NodeId,
    },
    /// A message is delivered. Its name does not depend on what others did meanwhile.
    Deliver {
        /// To whom.
        to: NodeId,
        /// From whom.
        from: NodeId,
        /// Which of the sender's messages, from 0.
        nth: u64,
    },
    /// A timer runs out.
    Expire {
        /// Whose.
        node: NodeId,
        /// Which of those that it has set, in their order.
        timer: usize,
    },
    /// A process takes a step without a message: nothing comes of it.
    Idle {
        /// Which.
        node: NodeId,
    },
}

impl Step {
    /// Who takes the step.
    #[must_use]
    pub fn node(self) -> NodeId {
        match self {
            Self::Deliver { to, .. } => to,
            Self::Begin { node } | Self::Expire { node, .. } | Self::Idle { node } => node,
        }
    }
}

/// A message that was sent and not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending<M> {
    pub(super) from: NodeId,
    pub(super) nth: u64,
    message: M,
}

/// One process and what is its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place<P: Process> {
    process: P,
    disk: P::Disk,
    /// Its input, until its first step.
    input: Option<Option<P::Request>>,
    timers: BTreeSet<P::Timer>,
    /// What it will be given, the oldest first.
    inbox: VecDeque<Pending<P::Message>>,
    sent: u64,
    steps: u64,
    decided: Option<P::Output>,
}

/// The state of all processes and messages. Places are shared between copies: a step changes few.
#[derive(Clone, Debug)]
pub struct Configuration<P: Process> {
    places: Vec<Rc<Place<P>>>,
}

impl<P: Subject> Configuration<P> {
    /// No process has taken a step yet. Each has its input, or none.
    #[must_use]
    pub fn initial<O: Protocol<Process = P>>(protocol: &O, inputs: &[Option<P::Request>]) -> Self {
        let place = |(id, input): (usize, &Option<P::Request>)| {
            let disk = protocol.disk(NodeId(id));
            Rc::new(Place {
                process: protocol.process(NodeId(id), &disk),
                disk,
                input: Some(input.clone()),
                timers: BTreeSet::new(),
                inbox: VecDeque::new(),
                sent: 0,
                steps: 0,
                decided: None,
            })
        };
        Self { places: inputs.iter().enumerate().map(place).collect() }
    }

    /// Lets a step happen. Whether it could: a message that is not there cannot be delivered.
    #[must_use]
    pub fn apply(&mut self, step: Step) -> bool {
        let id = step.node();
        let Some(place) = self.places.get_mut(id.0) else { return false };
        if place.input.is_some() != matches!(step, Step::Begin { .. }) {
            return false; // The first step, and only it, is the beginning.
        }
        let input = match step {
            Step::Begin { .. } => {
                let input = Rc::make_mut(place).input.take().flatten();
                self.take(id, Input::Start);
                if let Some(request) = input {
                    self.take(id, Input::Request { id: RequestId(id.0 as u64), request });
                }
                return true;
            }
            Step::Idle { .. } => {
                Rc::make_mut(place).steps += 1;
                return true;
            }
            Step::Expire { timer, .. } => {
                let Some(timer) = place.timers.iter().nth(timer).copied() else { return false };
                Rc::make_mut(place).timers.remove(&timer);
                Input::Timer(timer)
            }
            Step::Deliver { from, nth, .. } => {
                let named = |it: &Pending<P::Message>| (it.from, it.nth) == (from, nth);
                let Some(at) = place.inbox.iter().position(named) else { return false };
                let Some(pending) = Rc::make_mut(place).inbox.remove(at) else { return false };
                Input::Message { from, message: pending.message }
            }
        };
        self.take(id, input);
        true
    }

    /// Lets steps happen, as long as they can; whether all could.
    #[must_use]
    pub fn apply_all(&mut self, steps: &[Step]) -> bool {
        steps.iter().all(|&step| self.apply(step))
    }

    fn take(&mut self, id: NodeId, input: InputOf<P>) {
        let place = Rc::make_mut(&mut self.places[id.0]);
        // Coins do not depend on what others did meanwhile; clocks stand still.
        let mut dice = Dice::stream(0, &[id.0 as u64, place.steps]);
        place.steps += 1;
        let mut out = Out::new(&mut place.disk, &mut dice, false);
        place.process.step(Now::default(), input, &mut out);
        for effect in out.into_effects() {
            let place = Rc::make_mut(&mut self.places[id.0]);
            match effect {
                Effect::Send { to, message } => {
                    let nth = place.sent;
                    place.sent += 1;
                    if let Some(to) = self.places.get_mut(to.0) {
                        Rc::make_mut(to).inbox.push_back(Pending { from: id, nth, message });
                    }
                }
                Effect::Set { timer, .. } => {
                    place.timers.insert(timer);
                }
                Effect::Cancel(timer) => {
                    place.timers.remove(&timer);
                }
                Effect::Decide(output) => {
                    place.decided.get_or_insert(output);
                }
                Effect::Persist | Effect::Reply { .. } | Effect::Note(_) => {}
            }
        }
    }

    /// How many processes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// What was decided, by whom.
    #[must_use]
    pub fn decided(&self) -> BTreeMap<NodeId, &P::Output> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(id, place)| Some((NodeId(id), place.decided.as_ref()?))).collect()
    }

    /// What has waited for a process for longest: its beginning, or its oldest message.
    #[must_use]
    pub fn oldest(&self, to: NodeId) -> Option<Step> {
        self.inbox(to).next()
    }

    /// What waits for a process, the oldest first: its beginning, or else its messages.
    pub fn inbox(&self, to: NodeId) -> impl DoubleEndedIterator<Item = Step> + '_ {
        let place = &self.places[to.0];
        let begun = place.input.is_none();
        let begin = (!begun).then_some(Step::Begin { node: to });
        let messages = place.inbox.iter().filter(move |_| begun);
        let messages = messages.map(move |it| Step::Deliver { to, from: it.from, nth: it.nth });
        begin.into_iter().chain(messages)
    }

    /// The timers of a process that may run out.
    pub fn timers(&self, node: NodeId) -> impl Iterator<Item = Step> + '_ {
        (0..self.places[node.0].timers.len()).map(move |timer| Step::Expire { node, timer })
    }

    /// How many messages were sent and not delivered.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        self.places.iter().map(|place| place.inbox.len()).sum()
    }

    /// How many messages were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.places.iter().map(|place| place.sent).sum()
    }

    /// How many steps each process has taken.
    #[must_use]
    pub fn steps(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.steps).collect()
    }

    /// For telling configurations apart.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for place in &self.places {
            digest.absorb(&**place);
        }
        std::hash::Hasher::finish(&digest)
    }
}
