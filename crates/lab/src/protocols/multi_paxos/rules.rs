//! The rules, checked from outside: what was ever sent is remembered, and no replica's own word is taken.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Message, Output, Proposal, Slot, State, Value};
use super::{Multi, Timer};
use crate::process::{Effect, Input, NodeId, RequestId};
use crate::protocol::{Seen, Stepped, Verdict};
use crate::protocols::paxos::Ballot;
use crate::words::{count, listed};

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Memory {
    majority: usize,
    /// What clients asked for.
    wanted: BTreeMap<RequestId, u64>,
    /// Ballots that were begun.
    begun: BTreeSet<Ballot>,
    /// What was proposed in a ballot, by slots.
    proposed: BTreeMap<Ballot, BTreeMap<Slot, Value>>,
    /// The promises that made the proposer of a ballot its leader: the first majority to reach it.
    promises: BTreeMap<Ballot, BTreeMap<NodeId, BTreeMap<Slot, Proposal>>>,
    /// The highest ballot that each acceptor has promised, if only by accepting in it.
    promised: BTreeMap<NodeId, Ballot>,
    /// The proposal of the highest ballot that each acceptor has accepted in each slot.
    accepted: BTreeMap<NodeId, BTreeMap<Slot, Proposal>>,
    /// Who has ever accepted each proposal.
    acceptors: BTreeMap<(Slot, Proposal), BTreeSet<NodeId>>,
    /// What is chosen.
    chosen: BTreeMap<Slot, Value>,
    /// What must come of the first slots, as far as they are chosen: at 0 of none, at 1 of the first.
    states: Vec<State>,
    /// The first slot that each replica has not applied.
    next: BTreeMap<NodeId, Slot>,
    /// What clients were told to be written.
    acknowledged: BTreeMap<RequestId, Slot>,
}

impl Memory {
    pub(super) fn new(n: usize) -> Self {
        Self {
            majority: n / 2 + 1,
            wanted: BTreeMap::new(),
            begun: BTreeSet::new(),
            proposed: BTreeMap::new(),
            promises: BTreeMap::new(),
            promised: BTreeMap::new(),
            accepted: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            chosen: BTreeMap::new(),
            states: vec![State::default()],
            next: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Multi>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        self.told(step);
        let mut begins = None;
        let mut proposes = None;
        for (_, _, message) in seen.sent() {
            match message {
                Message::Prepare { ballot, .. } => begins = Some(*ballot),
                Message::Promise { ballot, accepted, snapshot } => {
                    self.promises(step, *ballot, verdict);
                    self.tells_all(step, accepted, snapshot.as_ref(), verdict);
                }
                Message::Accept { slot, proposal, .. } => {
                    proposes = Some(proposal.ballot);
                    self.proposes(step.node, *slot, *proposal, verdict);
                }
                Message::Accepted { slot, proposal } => {
                    self.accepts(step.node, *slot, *proposal, verdict);
                }
                _ => {}
            }
        }
        if let Some(ballot) = begins {
            self.begins(step, ballot, verdict);
        }
        if let Some(ballot) = proposes {
            self.fills_gaps(step.node, ballot, verdict);
        }
        self.applies(seen, verdict);
        self.acknowledges(step, verdict);
        self.states_agree(seen, step.node, verdict);
        self.snapshot_is_applied(seen, step.node, verdict);
    }

    /// Takes in what the process was told.
    fn told(&mut self, step: Stepped<'_, Multi>) {
        match step.input {
            Input::Request { id, request } => {
                self.wanted.insert(*id, *request);
            }
            Input::Message { from, message: Message::Promise { ballot, accepted, .. } } => {
                let promises = self.promises.entry(*ballot).or_default();
                if promises.len() < self.majority {
                    promises.insert(*from, accepted.clone());
                }
            }
            _ => {}
        }
    }

    // The proposer.

    fn begins(&mut self, step: Stepped<'_, Multi>, ballot: Ballot, verdict: &mut Verdict) {
        let fresh = self.begun.insert(ballot);
        verdict.require("ballot-once", fresh, || {
            format!("{} begins ballot {ballot} again", step.node)
        });
        let unheard = matches!(step.input, Input::Timer(Timer::Election));
        verdict.require("one-prepare", unheard, || {
            let node = step.node;
            format!("{node} begins ballot {ballot} though it has not waited for a leader in vain")
        });
    }

    fn proposes(&mut self, node: NodeId, slot: Slot, proposal: Proposal, verdict: &mut Verdict) {
        let Proposal { ballot, value } = proposal;
        let first = *self.proposed.entry(ballot).or_default().entry(slot).or_insert(value);
        verdict.require("ballot-once", first == value, || {
            format!(
                "{node} proposes {value} in slot {slot} in ballot {ballot}, in which {first} was \
                 proposed there"
            )
        });
        let promises = self.promises.get(&ballot).into_iter().flat_map(BTreeMap::values);
        let highest = promises.filter_map(|accepted| accepted.get(&slot)).max();
        verdict.require("highest-ballot", highest.is_none_or(|it| it.value == value), || {
            let highest = show(highest);
            format!(
                "{node} proposes {proposal} in slot {slot} though the promises that it has tell of \
                 {highest} there"
            )
        });
    }

    fn fills_gaps(&self, node: NodeId, ballot: Ballot, verdict: &mut Verdict) {
        let proposed = &self.proposed[&ballot];
        let Some((&last, _)) = proposed.last_key_value() else { return };
        let open = |slot: &Slot| !proposed.contains_key(slot) && !self.chosen.contains_key(slot);
        let gap = Slot::FIRST.up_to(last).find(open);
        verdict.require("fills-gaps", gap.is_none(), || {
            let gap = show(gap);
            format!(
                "{node} proposes in slot {last} in ballot {ballot}, and nothing in slot {gap}, which \
                 is not chosen"
            )
        });
    }

    // The acceptor.

    fn promises(&mut self, step: Stepped<'_, Multi>, ballot: Ballot, verdict: &mut Verdict) {
        let before = self.promised.get(&step.node).copied();
        verdict.require("keeps-promises", before.is_none_or(|it| it <= ballot), || {
            let (node, before) = (step.node, show(before));
            format!("{node} promises ballot {ballot} though it has promised ballot {before}")
        });
        self.promised.insert(step.node, before.map_or(ballot, |before| before.max(ballot)));
    }

    /// A promise names whatever was accepted from the slot asked for on, unless its snapshot covers it.
    fn tells_all(
        &self,
        step: Stepped<'_, Multi>,
        accepted: &BTreeMap<Slot, Proposal>,
        snapshot: Option<&State>,
        verdict: &mut Verdict,
    ) {
        let Input::Message { message: Message::Prepare { from, .. }, .. } = step.input else {
            return;
        };
        let covered = snapshot.map_or(*from, |state| state.next.max(*from));
        let ever = self.accepted.get(&step.node).into_iter().flat_map(|it| it.range(covered..));
        for (slot, proposal) in ever {
            let told = accepted.get(slot);
            verdict.require("promise-tells-all", told == Some(proposal), || {
                let told = show(told);
                let node = step.node;
                format!(
                    "{node} has accepted {proposal} in slot {slot}, and its promise tells of {told}"
                )
            });
        }
    }

    fn accepts(&mut self, node: NodeId, slot: Slot, proposal: Proposal, verdict: &mut Verdict) {
        let ballot = proposal.ballot;
        let promised = self.promised.get(&node).copied();
        verdict.require("keeps-promises", promised.is_none_or(|it| it <= ballot), || {
            let promised = show(promised);
            format!(
                "{node} accepts {proposal} in slot {slot} though it has promised ballot {promised}"
            )
        });
        self.promised.insert(node, promised.map_or(ballot, |promised| promised.max(ballot)));
        let accepted = self.accepted.entry(node).or_default().entry(slot).or_insert(proposal);
        *accepted = (*accepted).max(proposal);
        let acceptors = self.acceptors.entry((slot, proposal)).or_default();
        acceptors.insert(node);
        if acceptors.len() >= self.majority {
            self.chooses(slot, proposal, verdict);
        }
    }

    fn chooses(&mut self, slot: Slot, proposal: Proposal, verdict: &mut Verdict) {
        let value = proposal.value;
        let wanted = match value {
            Value::Noop => true,
            Value::Write(command) => self.wanted.get(&command.id) == Some(&command.value),
        };
        verdict
            .require("proposed", wanted, || format!("{value} is chosen, which nobody asked for"));
        let first = *self.chosen.entry(slot).or_insert(value);
        verdict.require("chosen-once", first == value, || {
            let ballot = proposal.ballot;
            format!("in slot {slot} {first} was chosen, and {value} is, too, in ballot {ballot}")
        });
        while let Some(last) = self.states.last()
            && let Some(&value) = self.chosen.get(&last.next)
        {
            let mut state = last.clone();
            state.apply(value, true);
            self.states.push(state);
        }
    }

    // The learner, and the client.

    fn applies(&mut self, seen: &Seen<'_, Multi>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        let next = self.next.entry(step.node).or_insert(Slot::FIRST);
        if matches!(step.input, Input::Restart) {
            *next = seen.nodes[step.node.0].disk.snapshot.next;
        }
        for (node, output) in seen.decided() {
            match output {
                Output::Applied { slot, value } => {
                    let chosen = self.chosen.get(slot);
                    verdict.require("applied-is-chosen", chosen == Some(value), || {
                        format!(
                            "{node} applies {value} in slot {slot}, where {} is chosen",
                            show(chosen)
                        )
                    });
                    verdict.require("in-order", slot == next, || {
                        format!("{node} applies slot {slot}, and slot {next} would be next")
                    });
                    *next = slot.next();
                }
                Output::Installed { next: installed } => *next = *installed,
                Output::Written { .. } => {}
            }
        }
    }

    fn acknowledges(&mut self, step: Stepped<'_, Multi>, verdict: &mut Verdict) {
        for effect in step.effects {
            let Effect::Reply { id, output: Output::Written { slot } } = effect else { continue };
            self.acknowledged.insert(*id, *slot);
            let chosen = self.chosen.get(slot);
            let holds = matches!(chosen, Some(Value::Write(command)) if command.id == *id);
            verdict.require("acknowledged", holds, || {
                let chosen = show(chosen);
                format!(
                    "a client is told that its request {id} is written in slot {slot}, where \
                     {chosen} is chosen"
                )
            });
        }
    }

    /// What a replica has come to is what comes of the chosen values.
    fn states_agree(&self, seen: &Seen<'_, Multi>, node: NodeId, verdict: &mut Verdict) {
        let Some(state) = seen.process(node).map(super::MultiPaxos::state) else { return };
        let ids: BTreeSet<RequestId> = state.written.iter().map(|(_, it)| it.id).collect();
        verdict.require("applied-once", ids.len() == state.written.len(), || {
            let again = |place: &usize| {
                let earlier = &state.written[..*place];
                earlier.iter().any(|(_, it)| it.id == state.written[*place].1.id)
            };
            let twice = (0..state.written.len()).find(again).map(|place| state.written[place].1);
            format!("{node} has written {} twice", show(twice))
        });
        let expected = self.expected(state.next);
        verdict.require("same-prefix", expected.is_none_or(|it| it == state), || {
            format!("{node} {}", expected.map_or_else(String::new, |it| parts(state, it)))
        });
        let applied = self.acknowledged.iter().filter(|&(_, &slot)| slot < state.next);
        for (id, slot) in applied {
            verdict.require("acknowledged", ids.contains(id), || {
                format!(
                    "a client was told that its request {id} is written in slot {slot}, and {node}, \
                     which has applied that slot, has not got it"
                )
            });
        }
    }

    fn snapshot_is_applied(&self, seen: &Seen<'_, Multi>, node: NodeId, verdict: &mut Verdict) {
        let snapshot = &seen.nodes[node.0].disk.snapshot;
        verdict.require(
            "snapshot-is-applied",
            self.expected(snapshot.next) == Some(snapshot),
            || {
                let is = match self.expected(snapshot.next) {
                    Some(expected) => parts(snapshot, expected),
                    None => {
                        format!("has all below slot {}; not all of it is chosen", snapshot.next)
                    }
                };
                format!("the snapshot of {node} {is}")
            },
        );
    }

    /// What must come of the slots below this one; `None` if they are not all chosen.
    fn expected(&self, next: Slot) -> Option<&State> {
        let place = usize::try_from(next.0 - Slot::FIRST.0).ok()?;
        self.states.get(place)
    }

    /// Somebody leads, all have applied the same slots, and no client waits.
    pub(super) fn at_end(seen: &Seen<'_, Multi>, verdict: &mut Verdict) {
        let processes: Vec<_> = seen.nodes.iter().filter_map(|it| it.process.as_ref()).collect();
        verdict.require("ends-when-calm", processes.iter().any(|it| it.leads()), || {
            "nobody leads".to_owned()
        });
        let next: BTreeSet<Slot> = processes.iter().map(|it| it.state().next).collect();
        verdict.require("ends-when-calm", next.len() == 1, || {
            let next = next.iter().map(|slot| format!("below slot {slot}")).collect();
            format!("not all have applied the same: {}", listed(next).unwrap_or_default())
        });
        for (place, process) in processes.iter().enumerate() {
            let waiting = process.waiting();
            verdict.require("ends-when-calm", waiting == 0, || {
                format!("n{place} still owes an answer to {}", count(waiting, "client", "clients"))
            });
        }
    }
}

/// Where a state is another than what comes of the chosen values.
fn parts(state: &State, expected: &State) -> String {
    let values = |state: &State| -> Vec<String> {
        state.written.iter().map(|(_, it)| it.to_string()).collect()
    };
    let (has, must) = (values(state), values(expected));
    let same = has.iter().zip(&must).take_while(|(one, other)| one == other).count();
    let nth = |values: &[String]| match values.get(same) {
        Some(value) => format!("{value} as write number {}", same + 1),
        None => format!("no more than {}", count(same, "write", "writes")),
    };
    format!(
        "has {} of all below slot {}, and the chosen values give {}",
        nth(&has),
        state.next,
        nth(&must)
    )
}

fn show(what: Option<impl ToString>) -> String {
    what.map_or_else(|| "nothing".to_owned(), |what| what.to_string())
}
