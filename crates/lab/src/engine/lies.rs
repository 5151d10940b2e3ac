//! How a traitor speaks: it runs the protocol's code, and what leaves may be something else.
//!
//! Where a protocol is made for traitors it says itself what they may say ([`Protocol::forge`]). Where it is not, a
//! traitor does what anybody could do to it: it says nothing, says a thing twice, or says what it has said before, to
//! whomever it was; and it says what the protocol's `forge` has for it, where there is any.
//!
//! A lie is what leaves and is not what the code would have said, or is that once more. What leaves not at all was
//! kept back. Both are written down ([`super::Happened`]), so that whoever looks can tell.

use std::collections::VecDeque;

use super::{Message, World};
use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{Protocol, Traitors};
use crate::script::Conduct;

/// What a traitor remembers of what it has said.
const TOLD_MAX: usize = 32;
/// The sorts of lies where a protocol is not made for traitors: silence, twice, something said before, and as often
/// as these together a lie in the protocol's words.
const SORTS: u64 = 6;

/// What a process says instead of what its code says.
#[derive(Debug)]
pub(super) struct Tongue<P: Protocol> {
    conduct: Conduct,
    dice: Dice,
    /// Messages sent since it turned traitor.
    said: usize,
    /// The last of what its code said since, to whomever.
    told: VecDeque<Message<P>>,
}

impl<P: Protocol> Tongue<P> {
    pub(super) fn new(dice: Dice) -> Self {
        Self { conduct: Conduct::Loyal, dice, said: 0, told: VecDeque::new() }
    }

    pub(super) fn set(&mut self, conduct: Conduct) {
        self.conduct = conduct;
        self.said = 0;
        self.told.clear();
    }

    pub(super) fn is_loyal(&self) -> bool {
        self.conduct == Conduct::Loyal
    }

    /// Which lie a message is to be, if any: 0 is the truth.
    fn lie(&mut self) -> Option<u64> {
        self.said += 1;
        match &self.conduct {
            Conduct::Loyal => Some(0),
            Conduct::Silent => None,
            Conduct::Lies { per_mille } => {
                let lies = self.dice.chance(*per_mille);
                let which = self.dice.within(1, u64::from(u32::MAX));
                Some(if lies { which } else { 0 })
            }
            Conduct::Script(lies) => Some(lies.get(self.said - 1).copied().unwrap_or(0)),
        }
    }

    fn remember(&mut self, message: &Message<P>) {
        if !self.is_loyal() {
            self.told.truncate(TOLD_MAX - 1);
            self.told.push_front(message.clone());
        }
    }

    /// Something that it has said before: which, by any number; nothing, if it has not said anything.
    fn before(&self, which: u64) -> Option<Message<P>> {
        let place = usize::try_from(which).ok()?.checked_rem(self.told.len())?;
        self.told.get(place).cloned()
    }
}

impl<P: Protocol> World<P> {
    /// A process speaks. If it is a traitor, something else may leave.
    pub(super) fn say(&mut self, from: NodeId, to: NodeId, message: &Message<P>, depth: u64) {
        let known = to.0 < self.nodes.len();
        assert!(known, "{from} speaks to {to}, who does not exist");
        let made_for = P::ABOUT.bears.traitors != Traitors::None;
        // It knows itself; only where it is the protocol's own business it may lie to itself.
        if from == to && !made_for {
            return self.post(from, to, message.clone(), depth, false);
        }
        match self.tongue(from).lie() {
            Some(0) => self.post(from, to, message.clone(), depth, false),
            Some(choice) => {
                let lies = if made_for {
                    self.protocol.forge(from, to, message, choice)
                } else {
                    self.instead(from, to, message, choice)
                };
                if lies.is_empty() {
                    self.note_kept_back(to, message);
                }
                let mut told = false;
                for words in lies {
                    let truth = words == *message && !told;
                    told |= truth;
                    self.post(from, to, words, depth, !truth);
                }
            }
            None => self.note_kept_back(to, message),
        }
        if !made_for {
            self.tongue(from).remember(message);
        }
    }

    /// Whether a process is a traitor now, and has not turned loyal again.
    #[must_use]
    pub fn lies(&self, node: NodeId) -> bool {
        !self.bodies[node.0].tongue.is_loyal()
    }

    fn note_kept_back(&mut self, to: NodeId, message: &Message<P>) {
        if self.telling
            && let Some(happened) = &mut self.happened
        {
            happened.kept_back.push((to, message.clone()));
        }
    }

    fn tongue(&mut self, node: NodeId) -> &mut Tongue<P> {
        &mut self.bodies[node.0].tongue
    }

    /// What a traitor says where nobody is prepared for one.
    fn instead(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &Message<P>,
        choice: u64,
    ) -> Vec<Message<P>> {
        let (sort, which) = (choice % SORTS, choice / SORTS);
        match sort {
            0 => Vec::new(),
            1 => vec![message.clone(), message.clone()],
            2 => self.tongue(from).before(which).into_iter().collect(),
            _ => {
                let own = self.protocol.forge(from, to, message, which.max(1));
                if own.is_empty() {
                    self.tongue(from).before(which).into_iter().collect()
                } else {
                    own
                }
            }
        }
    }
}
