//! The observer of a run. Compiled twice, as `adapter.rs` is.

use std::rc::Rc;

use super::adapter::{Ask, Disk, Replica, Settings, disk_view, replica};
use super::core::{Membership, Restored};
use super::rules::{self, Memory};
use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{About, Protocol, Seen, Setup, Verdict};
use crate::script::{Script, What};
use crate::swarm;
use crate::view::View;

/// The observer of a run of Raft.
#[derive(Debug)]
pub struct Raft {
    settings: Rc<Settings>,
    n: usize,
    memory: Memory,
}

impl Protocol for Raft {
    type Process = Replica;

    const ABOUT: About = super::super::ABOUT;

    fn new(setup: &Setup) -> Self {
        let settings = Rc::new(Settings::of(setup, super::breaks));
        Self { settings, n: setup.n, memory: Memory::default() }
    }

    fn disk(&self, node: NodeId) -> Disk {
        if node.0 >= self.settings.founders {
            return Disk::new(Restored::blank());
        }
        let founders = NodeId::all(self.settings.founders).map(replica);
        Disk::new(Restored::founding(Membership::of_voters(founders)))
    }

    fn process(&self, node: NodeId, disk: &Disk) -> Replica {
        Replica::new(Rc::clone(&self.settings), node, disk)
    }

    fn request(&self, op: &str, args: &[u64]) -> Option<Ask> {
        let node =
            |place: u64| usize::try_from(place).ok().filter(|&place| place < self.n).map(NodeId);
        match (op, args) {
            ("write", &[value]) => Some(Ask::Write(value)),
            ("read", &[]) => Some(Ask::Read),
            ("add", &[place]) => node(place).map(Ask::Add),
            ("remove", &[place]) => node(place).map(Ask::Remove),
            ("transfer", &[place]) => node(place).map(Ask::Transfer),
            _ => None,
        }
    }

    fn check(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        self.memory.check(seen, verdict);
    }

    fn at_end(&mut self, seen: &Seen<'_, Self>, verdict: &mut Verdict) {
        if self.settings.undisturbed() {
            rules::at_end(seen, verdict);
        }
    }

    fn view(&self, _node: NodeId, process: Option<&Replica>, disk: &Disk) -> View {
        process.map_or_else(|| disk_view(disk), |process| process.view(disk))
    }

    fn script(setup: &Setup, dice: &mut Dice) -> Script {
        swarm::led::<Self>(setup, dice)
    }

    fn wish(setup: &Setup, dice: &mut Dice, nth: u64) -> What {
        let node = NodeId(dice.index(setup.n));
        let place = dice.index(setup.n) as u64;
        let changes = setup.knob("changes");
        let (op, args) = match dice.below(100) {
            draw if draw < changes / 2 => ("add", vec![place]),
            draw if draw < changes => ("remove", vec![place]),
            draw if draw < changes + 10 => ("read", vec![]),
            draw if draw < changes + 14 => ("transfer", vec![place]),
            _ => ("write", vec![nth + 1]),
        };
        What::Client { node, op: op.to_owned(), args }
    }
}
