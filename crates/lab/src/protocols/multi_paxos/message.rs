//! What replicas say, and what they keep.

use std::collections::BTreeMap;
use std::fmt;

use crate::process::RequestId;
use crate::protocols::paxos::Ballot;

/// A place in the log: an instance of Paxos. From 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The one so many after it.
    #[must_use]
    pub fn plus(self, slots: u64) -> Self {
        Self(self.0 + slots)
    }

    /// From this one up to the other, without it.
    pub fn up_to(self, end: Self) -> impl Iterator<Item = Self> {
        (self.0..end.0).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a client wants written. The number tells a request that is sent again from another one for the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Command {
    /// Of the client's request.
    pub id: RequestId,
    /// What to write.
    pub value: u64,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.value)
    }
}

/// What is chosen in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Changes nothing: fills a gap.
    Noop,
    /// A client's.
    Write(Command),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noop => write!(f, "no-op"),
            Self::Write(command) => write!(f, "{command}"),
        }
    }
}

/// A proposal in some slot: a value under a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proposal {
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub value: Value,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.value, self.ballot)
    }
}

/// What a state machine has come to: also what a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// The first slot that is not applied.
    pub next: Slot,
    /// What was written, in order, and the slot in which it took effect.
    pub written: Vec<(Slot, Command)>,
}

impl Default for State {
    fn default() -> Self {
        Self { next: Slot::FIRST, written: Vec::new() }
    }
}

impl State {
    /// The slot in which a request took effect.
    #[must_use]
    pub fn slot_of(&self, id: RequestId) -> Option<Slot> {
        let mut written = self.written.iter();
        written.find(|(_, command)| command.id == id).map(|&(slot, _)| slot)
    }

    /// Applies what is chosen in the next slot. With `once`, a command that is there has no effect again: it
    /// may be chosen in two slots, if it was sent to two leaders.
    pub fn apply(&mut self, value: Value, once: bool) {
        if let Value::Write(command) = value
            && !(once && self.slot_of(command.id).is_some())
        {
            self.written.push((self.next, command));
        }
        self.next = self.next.next();
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "below slot {}: [", self.next)?;
        for (place, (_, command)) in self.written.iter().enumerate() {
            write!(f, "{}{command}", if place == 0 { "" } else { " " })?;
        }
        write!(f, "]")
    }
}

/// What replicas say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// Phase 1a, for all slots from this one on: will you promise this ballot?
    Prepare {
        /// The ballot.
        ballot: Ballot,
        /// The first slot that the proposer does not know to be chosen.
        from: Slot,
    },
    /// Phase 1b: I will accept nothing lower in any slot; so far I accepted these.
    Promise {
        /// The ballot promised.
        ballot: Ballot,
        /// In each slot from the one asked for on, the proposal of the highest ballot that it accepted.
        accepted: BTreeMap<Slot, Proposal>,
        /// In the place of slots that it has discarded.
        snapshot: Option<State>,
    },
    /// Phase 2a: accept this.
    Accept {
        /// Where.
        slot: Slot,
        /// What.
        proposal: Proposal,
        /// Every slot below is chosen.
        commit: Slot,
    },
    /// Phase 2b: I did. To the leader, who is the learner for all.
    Accepted {
        /// Where.
        slot: Slot,
        /// What.
        proposal: Proposal,
    },
    /// I have promised a higher one.
    Reject {
        /// The ballot promised.
        promised: Ballot,
    },
    /// I lead.
    Heartbeat {
        /// The leader's ballot.
        ballot: Ballot,
        /// Every slot below is chosen.
        commit: Slot,
    },
    /// What is chosen from this slot on? I missed it.
    Ask {
        /// The first slot missing.
        from: Slot,
    },
    /// This is what was chosen.
    Chosen {
        /// The slot of the first of them.
        from: Slot,
        /// One for each slot.
        values: Vec<Value>,
    },
    /// This is what came of slots that I have discarded.
    Snapshot(State),
    /// To the leader: propose this.
    Propose(Command),
    /// It is chosen and applied. To whoever handed it to the leader.
    Written {
        /// The request.
        id: RequestId,
        /// Where it took effect.
        slot: Slot,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prepare { ballot, from } => write!(f, "Prepare {ballot}, slots {from} on"),
            Self::Promise { ballot, accepted, snapshot } => {
                write!(f, "Promise {ballot}")?;
                if let Some(state) = snapshot {
                    write!(f, ", snapshot {state}")?;
                }
                for (place, (slot, proposal)) in accepted.iter().enumerate() {
                    let word = if place == 0 { ", accepted" } else { "," };
                    write!(f, "{word} {slot}: {proposal}")?;
                }
                Ok(())
            }
            Self::Accept { slot, proposal, commit } => {
                write!(f, "Accept {slot}: {proposal}, chosen below {commit}")
            }
            Self::Accepted { slot, proposal } => write!(f, "Accepted {slot}: {proposal}"),
            Self::Reject { promised } => write!(f, "Reject, promised {promised}"),
            Self::Heartbeat { ballot, commit } => {
                write!(f, "Heartbeat {ballot}, chosen below {commit}")
            }
            Self::Ask { from } => write!(f, "Ask, slots {from} on"),
            Self::Chosen { from, values } => {
                write!(f, "Chosen")?;
                for (place, (slot, value)) in (from.0..).zip(values).enumerate() {
                    write!(f, "{} {slot}: {value}", if place == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Snapshot(state) => write!(f, "Snapshot {state}"),
            Self::Propose(command) => write!(f, "Propose {command}"),
            Self::Written { slot, .. } => write!(f, "Written in {slot}"),
        }
    }
}

impl Message {
    /// What sort of message it is, for counting.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "Prepare",
            Self::Promise { .. } => "Promise",
            Self::Accept { .. } => "Accept",
            Self::Accepted { .. } => "Accepted",
            Self::Reject { .. } => "Reject",
            Self::Heartbeat { .. } => "Heartbeat",
            Self::Ask { .. } => "Ask",
            Self::Chosen { .. } => "Chosen",
            Self::Snapshot(_) => "Snapshot",
            Self::Propose(_) => "Propose",
            Self::Written { .. } => "Written",
        }
    }
}

/// What a replica comes to, and what it answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// It applied what is chosen in a slot.
    Applied {
        /// Where.
        slot: Slot,
        /// What.
        value: Value,
    },
    /// It took over a snapshot: everything below this slot is applied.
    Installed {
        /// The first slot that is not.
        next: Slot,
    },
    /// To a client: it is written.
    Written {
        /// Where it took effect.
        slot: Slot,
    },
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { slot, value } => write!(f, "{value} in slot {slot}"),
            Self::Installed { next } => write!(f, "a snapshot of all below slot {next}"),
            Self::Written { slot } => write!(f, "written in slot {slot}"),
        }
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// The highest round of an own ballot.
    pub round: u64,
    /// The highest ballot promised, for all slots.
    pub promised: Option<Ballot>,
    /// In each slot, the proposal of the highest ballot accepted; none below the snapshot.
    pub accepted: BTreeMap<Slot, Proposal>,
    /// What came of the slots that are discarded.
    pub snapshot: State,
}
