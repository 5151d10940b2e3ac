//! The observer of a run. Compiled twice, as `adapter.rs` is.

use std::rc::Rc;

use super::adapter::{Ask, Disk, Output, Replica, Settings, Wire, data, disk_view, replica, value};
use super::core::{Body, LogIndex, Membership, Restored};
use super::rules::{self, Memory};
use crate::dice::Dice;
use crate::process::NodeId;
use crate::protocol::{About, Acknowledged, Node, Protocol, Seen, Setup, Verdict};
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

    /// It votes for everybody, has appended what it refused, and tells every other replica of other values.
    fn forge(&self, _: NodeId, to: NodeId, wire: &Wire, _choice: u64) -> Vec<Wire> {
        let Wire::Core(message, state) = wire else { return vec![wire.clone()] };
        let mut lie = message.clone();
        match &mut lie.body {
            Body::VoteResponse { granted, .. } | Body::PreVoteResponse { granted, .. } => {
                *granted = true;
            }
            &mut Body::AppendRejected { session, rejected, .. } => {
                lie.body = Body::AppendAccepted { session, matched: rejected };
            }
            Body::Append { entries, .. } if to.0 % 2 == 1 => {
                for entry in entries {
                    if let Some(value) = value(entry) {
                        entry.payload = data(value + 1_000);
                    }
                }
            }
            _ => {}
        }
        vec![Wire::Core(lie, state.clone())]
    }

    /// What is not in the log that the group goes on from: of those on disks, the one whose last entry is of the
    /// latest term, and of those the longest (§5.4.1). Whoever is elected has at least that.
    fn lost(&self, acknowledged: &[Acknowledged<Self>], nodes: &[Node<Self>]) -> Option<u64> {
        let disks = nodes.iter().filter(|node| !node.traitor).map(|node| &node.disk);
        let newest = disks.max_by_key(|disk| disk.ends_at())?;
        let lost = acknowledged.iter().filter(|told| {
            let (&Ask::Write(wanted), &Output::Done(index)) = (&told.request, &told.output) else {
                return false;
            };
            let index = LogIndex(index);
            let in_snapshot = index <= newest.base.at.index && newest.base.values.contains(&wanted);
            let entry = newest.entries.get(&index);
            !in_snapshot && entry.and_then(value) != Some(wanted)
        });
        Some(lost.count() as u64)
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
