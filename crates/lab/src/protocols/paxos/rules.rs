//! The rules, checked from outside: what was ever sent is remembered, and no process's own word is taken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ballot, Message, Paxos, Proposal, Value};
use crate::process::{Input, NodeId};
use crate::protocol::{Seen, Verdict};
use crate::words::listed;

/// What was ever seen.
#[derive(Debug)]
pub(super) struct Memory {
    majority: usize,
    /// Values that clients asked for.
    wanted: BTreeSet<Value>,
    /// Ballots that were begun.
    begun: BTreeSet<Ballot>,
    /// The value of each ballot.
    values: BTreeMap<Ballot, Value>,
    /// The promises that have reached the proposer of a ballot.
    promises: BTreeMap<Ballot, BTreeMap<NodeId, Option<Proposal>>>,
    /// The highest ballot that each acceptor has promised.
    promised: BTreeMap<NodeId, Ballot>,
    /// The highest ballot in which each acceptor has accepted.
    accepted: BTreeMap<NodeId, Ballot>,
    /// Who has ever accepted each proposal.
    acceptors: BTreeMap<Proposal, BTreeSet<NodeId>>,
    /// Values that were chosen, and the ballot in which each first was.
    chosen: BTreeMap<Value, Ballot>,
}

impl Memory {
    pub(super) fn new(n: usize) -> Self {
        Self {
            majority: n / 2 + 1,
            wanted: BTreeSet::new(),
            begun: BTreeSet::new(),
            values: BTreeMap::new(),
            promises: BTreeMap::new(),
            promised: BTreeMap::new(),
            accepted: BTreeMap::new(),
            acceptors: BTreeMap::new(),
            chosen: BTreeMap::new(),
        }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Paxos>, verdict: &mut Verdict) {
        let Some(step) = seen.stepped else { return };
        match step.input {
            Input::Request { request, .. } => {
                self.wanted.insert(*request);
            }
            Input::Message { from, message: Message::Promise { ballot, accepted } } => {
                self.promises.entry(*ballot).or_default().insert(*from, *accepted);
            }
            _ => {}
        }
        let mut begins = None;
        let mut proposes = None;
        let mut accepts = None;
        for (_, _, message) in seen.sent() {
            match message {
                Message::Prepare(ballot) => begins = Some(*ballot),
                Message::Accept(proposal) => proposes = Some(*proposal),
                Message::Accepted(proposal) => accepts = Some(*proposal),
                Message::Promise { ballot, .. } => {
                    self.promises_ballot(step.node, *ballot, verdict)
                }
                _ => {}
            }
        }
        if let Some(ballot) = begins {
            let fresh = self.begun.insert(ballot);
            verdict.require("ballot-once", fresh, || {
                format!("{} begins ballot {ballot} again", step.node)
            });
        }
        if let Some(proposal) = proposes {
            self.proposes(step.node, proposal, verdict);
        }
        if let Some(proposal) = accepts {
            self.accepts(step.node, proposal, verdict);
        }
        for (node, value) in seen.decided() {
            verdict.require("learned-is-chosen", self.chosen.contains_key(value), || {
                format!("{node} learns {value}, which is not chosen")
            });
        }
    }

    fn promises_ballot(&mut self, node: NodeId, ballot: Ballot, verdict: &mut Verdict) {
        let accepted = self.accepted.get(&node).copied();
        verdict.require("accepting-promises", accepted.is_none_or(|it| it <= ballot), || {
            let accepted = show(accepted);
            format!("{node} promises ballot {ballot} though it has accepted in ballot {accepted}")
        });
        let promised = self.promised.entry(node).or_insert(ballot);
        *promised = (*promised).max(ballot);
    }

    fn proposes(&mut self, node: NodeId, proposal: Proposal, verdict: &mut Verdict) {
        let Proposal { ballot, value } = proposal;
        let first = *self.values.entry(ballot).or_insert(value);
        verdict.require("ballot-once", first == value, || {
            format!("{node} proposes {value} in ballot {ballot}, in which {first} was proposed")
        });
        let promises = self.promises.get(&ballot);
        let highest = promises.into_iter().flat_map(|promises| promises.values().flatten()).max();
        verdict.require("highest-ballot", highest.is_none_or(|it| it.value == value), || {
            let highest = show(highest.copied());
            format!("{node} proposes {proposal} though the promises that it has tell of {highest}")
        });
    }

    fn accepts(&mut self, node: NodeId, proposal: Proposal, verdict: &mut Verdict) {
        let Proposal { ballot, value } = proposal;
        let promised = self.promised.get(&node).copied();
        verdict.require("keeps-promises", promised.is_none_or(|it| it <= ballot), || {
            let promised = show(promised);
            format!("{node} accepts {proposal} though it has promised ballot {promised}")
        });
        let before = self.accepted.get(&node).copied();
        verdict.require("accepting-promises", before.is_none_or(|it| it <= ballot), || {
            let before = show(before);
            format!("{node} accepts {proposal} though it has accepted in ballot {before}")
        });
        self.accepted.insert(node, before.map_or(ballot, |before| before.max(ballot)));
        let acceptors = self.acceptors.entry(proposal).or_default();
        acceptors.insert(node);
        if acceptors.len() < self.majority {
            return;
        }
        self.chosen.entry(value).or_insert(ballot);
        verdict.require("proposed", self.wanted.contains(&value), || {
            format!("{value} is chosen, which nobody proposed")
        });
        verdict.require("chosen-once", self.chosen.len() == 1, || {
            let chosen: Vec<String> =
                self.chosen.iter().map(|(value, at)| format!("{value} in ballot {at}")).collect();
            format!("two values are chosen: {}", listed(chosen).unwrap_or_default())
        });
    }
}

fn show(what: Option<impl ToString>) -> String {
    what.map_or_else(|| "nothing".to_owned(), |what| what.to_string())
}

/// All proposers have learned what is chosen.
pub(super) fn at_end(seen: &Seen<'_, Paxos>, verdict: &mut Verdict) {
    for (place, node) in seen.nodes.iter().enumerate() {
        let wants = node.process.as_ref().and_then(super::PaxosProcess::wants);
        verdict.require("ends-when-calm", wants.is_none(), || {
            format!("n{place} still wants {}", show(wants))
        });
    }
}
