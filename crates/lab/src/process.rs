//! What every protocol is made of: a process that takes one step at a time.
//!
//! A process is sans-io. It is told what happened and answers with effects; it has no clock, no socket, no
//! disk and no chance but what it is handed. In FLP's words a step is a function of a state and an input; in
//! this house's words it is `step(now, input)`.
//!
//! # What survives
//!
//! A crash drops the process. What it wrote with [`Out::persist`] is what it finds when it comes again, and
//! nothing else: there is no other way from one life to the next. A write is durable when the call returns,
//! and nothing that was sent in the same step leaves before it, so a protocol that persists before it sends
//! is right and one that forgets to persist is wrong; there is no third. (A protocol that means to write
//! asynchronously sets itself a timer and persists when it fires: see the Raft adapter.)

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// A process by its place, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub usize);

impl NodeId {
    /// The first `n`.
    pub fn all(n: usize) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..n).map(Self)
    }
}

impl Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A client's request, numbered in the order in which clients asked.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// What a process may know of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Now {
    /// Its own monotonic clock. It never goes back, and goes on over a crash; it may run fast or slow.
    pub local: Duration,
    /// What the clock on its wall says: `local`, and how far that clock was set wrong. It may jump.
    pub wall: Duration,
}

/// What happens to a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<M, T, R> {
    /// Its first step ever.
    Start,
    /// Its first step after a crash. Whether its disk was kept it sees from the disk.
    Restart,
    /// A message arrived.
    Message {
        /// Who sent it; the network does not lie about that.
        from: NodeId,
        /// What it says.
        message: M,
    },
    /// A timer that it set has run out.
    Timer(T),
    /// A client asks for something.
    Request {
        /// For the reply.
        id: RequestId,
        /// For what.
        request: R,
    },
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<M, T, O> {
    /// Sends a message. To itself is allowed: it arrives next, and is never lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: M,
    },
    /// Sets a timer, in the place of one of that name that may be running.
    Set {
        /// Its name.
        timer: T,
        /// How long it runs by the process's own clock.
        after: Duration,
    },
    /// Stops a timer, if it runs.
    Cancel(T),
    /// Wrote to its disk.
    Persist,
    /// Came to a result that cannot be taken back: a value decided or learned, an entry applied.
    Decide(O),
    /// Answers a client.
    Reply {
        /// Whose request.
        id: RequestId,
        /// The answer.
        output: O,
    },
    /// Says why, for whoever reads the story.
    Note(String),
}

/// A protocol's process.
pub trait Process: Debug {
    /// What processes say to each other. Shown in the paper's words.
    type Message: Clone + Debug + Display + Eq + Hash;
    /// Names of timers.
    type Timer: Copy + Debug + Ord + Hash;
    /// What clients ask for.
    type Request: Clone + Debug + Display + Eq + Hash;
    /// What it decides, and what it answers.
    type Output: Clone + Debug + Display + Eq + Hash;
    /// What survives a crash.
    type Disk: Clone + Debug;

    /// Takes one step. The effects of a step happen all or not at all.
    fn step(&mut self, now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>);

    /// What a timer is for, in the protocol's words: `election timeout`.
    fn timer(timer: &Self::Timer) -> String;

    /// What it has come to, as a sentence of which it is the subject.
    fn decides(output: &Self::Output) -> String {
        format!("decides {output}")
    }

    /// What sort of message it is, for counting.
    fn kind(message: &Self::Message) -> &'static str;
}

/// The input of a process.
pub type InputOf<P> =
    Input<<P as Process>::Message, <P as Process>::Timer, <P as Process>::Request>;

/// The effect of a process.
pub type EffectOf<P> =
    Effect<<P as Process>::Message, <P as Process>::Timer, <P as Process>::Output>;

/// Where a step puts its effects.
#[derive(Debug)]
pub struct Out<'a, P: Process + ?Sized> {
    disk: &'a mut P::Disk,
    dice: &'a mut Dice,
    effects: Vec<EffectOf<P>>,
    telling: bool,
}

impl<'a, P: Process + ?Sized> Out<'a, P> {
    /// For whoever drives a process by hand. With `telling`, notes are kept.
    pub fn new(disk: &'a mut P::Disk, dice: &'a mut Dice, telling: bool) -> Self {
        Self { disk, dice, effects: Vec::new(), telling }
    }

    /// The effects, in order.
    #[must_use]
    pub fn into_effects(self) -> Vec<EffectOf<P>> {
        self.effects
    }

    /// Sends a message.
    pub fn send(&mut self, to: NodeId, message: P::Message) {
        self.effects.push(Effect::Send { to, message });
    }

    /// Sends the same message to each of these.
    pub fn send_all(&mut self, to: impl IntoIterator<Item = NodeId>, message: &P::Message) {
        for to in to {
            self.send(to, message.clone());
        }
    }

    /// Sets a timer, in the place of one of that name that may be running.
    pub fn set(&mut self, timer: P::Timer, after: Duration) {
        self.effects.push(Effect::Set { timer, after });
    }

    /// Stops a timer, if it runs.
    pub fn cancel(&mut self, timer: P::Timer) {
        self.effects.push(Effect::Cancel(timer));
    }

    /// Writes to the disk. Durable when the call returns.
    pub fn persist(&mut self, write: impl FnOnce(&mut P::Disk)) {
        write(self.disk);
        self.effects.push(Effect::Persist);
    }

    /// What is on the disk.
    #[must_use]
    pub fn disk(&self) -> &P::Disk {
        self.disk
    }

    /// Comes to a result that cannot be taken back.
    pub fn decide(&mut self, output: P::Output) {
        self.effects.push(Effect::Decide(output));
    }

    /// Answers a client.
    pub fn reply(&mut self, id: RequestId, output: P::Output) {
        self.effects.push(Effect::Reply { id, output });
    }

    /// Says why. What is said changes nothing, so it is only put together if somebody listens.
    pub fn note(&mut self, note: impl FnOnce() -> String) {
        if self.telling {
            self.effects.push(Effect::Note(note()));
        }
    }

    /// The process's own chance: jitter, coins.
    pub fn dice(&mut self) -> &mut Dice {
        self.dice
    }
}
