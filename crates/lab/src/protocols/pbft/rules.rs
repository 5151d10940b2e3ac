//! The rules, checked from outside: by what loyal replicas sent and executed, and what clients believed. No
//! process's own word is taken, and nothing is asked of traitors.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{
    Assignment, Message, Phase, Request, Seq, ViewChange, ViewNumber, Vote, Written,
};
use super::process::{Output, Settings};
use super::{Party, Pbft};
use crate::process::{Effect, NodeId};
use crate::protocol::{Seen, Verdict};
use crate::script::What;
use crate::words::count;

/// What was ever seen of loyal processes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    n: usize,
    /// In a quorum there are at least so many loyal replicas.
    loyal_of_quorum: usize,
    /// What clients asked for.
    asked: BTreeSet<Request>,
    /// What each replica voted for in the first two phases.
    voted: BTreeMap<(NodeId, ViewNumber, Seq), Option<Request>>,
    /// The same, without who and how often.
    proposed: BTreeSet<(Seq, Assignment)>,
    /// The first that was prepared under each view and sequence number.
    prepared: BTreeMap<(ViewNumber, Seq), Option<Request>>,
    /// Who has prepared what.
    commits: BTreeMap<(Seq, Assignment), BTreeSet<NodeId>>,
    /// The last thing that each replica has prepared under each sequence number.
    latest: BTreeMap<NodeId, BTreeMap<Seq, Assignment>>,
    /// The view that each replica last wanted to move to.
    left: BTreeMap<NodeId, ViewNumber>,
    /// What was executed, and the state after it.
    order: BTreeMap<Seq, (Option<Request>, u64, NodeId)>,
    /// Where each request took effect.
    effects: BTreeMap<(NodeId, u64), Seq>,
    /// The results that replicas computed for clients' requests.
    results: BTreeSet<(NodeId, u64, Written)>,
}

impl Memory {
    pub(super) fn new(n: usize) -> Self {
        let f = n.saturating_sub(1) / 3;
        // Of a quorum as it should be, whatever is broken.
        Self { n, loyal_of_quorum: usize::midpoint(n, f) + 1 - f, ..Self::default() }
    }

    pub(super) fn check(&mut self, seen: &Seen<'_, Pbft>, verdict: &mut Verdict) {
        if let Some(What::Traitor { node, .. }) = seen.act
            && seen.nodes[node.0].traitor
        {
            // What it said while it was loyal binds it no more.
            for loyal in self.commits.values_mut() {
                loyal.remove(node);
            }
        }
        let mut last = None;
        for (node, _, message) in seen.sent() {
            if last.replace(message) == Some(message) {
                continue;
            }
            match message {
                Message::Request(request) if request.client == node => {
                    self.asked.insert(*request);
                }
                Message::Vote(vote) => self.votes(node, *vote, verdict),
                Message::ViewChange(view_change) => self.leaves(node, view_change, verdict),
                // Others pass it on.
                Message::NewView(new_view) if node == self.primary(new_view.view) => {
                    for vote in &new_view.pre_prepares {
                        self.votes(node, *vote, verdict);
                    }
                }
                _ => {}
            }
        }
        let Some(step) = seen.stepped else { return };
        if seen.nodes[step.node.0].traitor {
            return;
        }
        for effect in step.effects {
            match effect {
                Effect::Decide(output) => self.decides(seen, step.node, *output, verdict),
                Effect::Reply { output: Output::Accepted { timestamp, result }, .. } => {
                    let computed = self.results.contains(&(step.node, *timestamp, *result));
                    verdict.require("believed-is-computed", computed, || {
                        format!("{} believes {result}, which no loyal replica says", step.node)
                    });
                }
                _ => {}
            }
        }
    }

    fn primary(&self, view: ViewNumber) -> NodeId {
        NodeId(usize::try_from(view.0 % self.n as u64).unwrap_or(0))
    }

    fn votes(&mut self, node: NodeId, vote: Vote, verdict: &mut Verdict) {
        let assignment = vote.assignment;
        let Assignment { view, seq, request } = assignment;
        let left = self.left.get(&node).copied().unwrap_or_default();
        verdict.require("leaves-view", view >= left, || {
            format!("{node} has left for {left}, and says: {vote}")
        });
        if vote.phase == Phase::Commit {
            return self.prepares(node, assignment, verdict);
        }
        let first = *self.voted.entry((node, view, seq)).or_insert(request);
        verdict.require("one-vote", first == request, || {
            let first = Assignment { request: first, ..assignment };
            format!("{node} accepts {assignment}, and has accepted {first}")
        });
        if self.proposed.insert((seq, assignment)) {
            let committed = self.committed(seq).find(|it| it.view < view && it.request != request);
            verdict.require("survives", committed.is_none(), || {
                let committed = committed.map(|it| it.to_string()).unwrap_or_default();
                format!("{node} accepts {assignment} though {committed} is committed")
            });
        }
    }

    /// What is committed under this sequence number, in any view: enough loyal replicas have prepared it.
    fn committed(&self, seq: Seq) -> impl Iterator<Item = Assignment> {
        let all = self.commits.iter().filter(move |((at, _), _)| *at == seq);
        let enough = self.loyal_of_quorum;
        all.filter(move |(_, loyal)| loyal.len() >= enough).map(|(&(_, it), _)| it)
    }

    /// A replica is prepared: it sends a commit.
    fn prepares(&mut self, node: NodeId, assignment: Assignment, verdict: &mut Verdict) {
        let Assignment { view, seq, request } = assignment;
        let first = *self.prepared.entry((view, seq)).or_insert(request);
        verdict.require("prepared-once", first == request, || {
            let first = Assignment { request: first, ..assignment };
            format!("{assignment} is prepared at {node}, and {first} was at another replica")
        });
        self.latest.entry(node).or_default().insert(seq, assignment);
        let loyal = self.commits.entry((seq, assignment)).or_default();
        if !loyal.insert(node) || loyal.len() != self.loyal_of_quorum {
            return;
        }
        let same = |other: &Assignment| other.view <= view || other.request == request;
        let mut later = self.proposed.iter().filter(|(at, _)| *at == seq).map(|(_, other)| other);
        let other = later.find(|other| !same(other));
        verdict.require("survives", other.is_none(), || {
            let other = other.map(ToString::to_string).unwrap_or_default();
            format!("{assignment} is committed, and {other} was accepted in a later view")
        });
    }

    fn leaves(&mut self, node: NodeId, view_change: &ViewChange, verdict: &mut Verdict) {
        let left = self.left.entry(node).or_default();
        *left = (*left).max(view_change.view);
        let prepared = self.latest.get(&node).into_iter().flat_map(BTreeMap::values);
        let above = prepared.filter(|it| it.seq > view_change.stable.seq);
        let told = |it: &Assignment| {
            let mut all = view_change.prepared.iter().map(|other| other.assignment);
            all.any(|other| other.seq == it.seq && other.view >= it.view)
        };
        let mut untold = above.filter(|it| it.view < view_change.view && !told(it));
        let untold = untold.next();
        verdict.require("tells-prepared", untold.is_none(), || {
            let untold = untold.map(ToString::to_string).unwrap_or_default();
            format!("{node} wants {} and does not say that it prepared {untold}", view_change.view)
        });
    }

    fn decides(
        &mut self,
        seen: &Seen<'_, Pbft>,
        node: NodeId,
        output: Output,
        verdict: &mut Verdict,
    ) {
        match output {
            Output::Executed { seq, request, result, state } => {
                self.executes(node, (seq, request, state), verdict);
                let Some(request) = request else { return };
                let client = request.client;
                let loyal = seen.nodes.get(client.0).is_some_and(|client| !client.traitor);
                verdict.require("asked", !loyal || self.asked.contains(&request), || {
                    format!("{node} executes {request}, and {client} never asked for it")
                });
                let Some(result) = result else { return };
                self.results.insert((client, request.timestamp, result));
                let first = *self.effects.entry((client, request.timestamp)).or_insert(seq);
                verdict.require("exactly-once", first == seq, || {
                    format!(
                        "{node} executes {request} as {seq}, and it has been executed as {first}"
                    )
                });
            }
            Output::Installed { seq, state } => {
                let known = self.order.get(&seq).is_some_and(|&(_, known, _)| known == state);
                verdict.require("agreement", known, || {
                    format!("{node} takes over a state after {seq} that no loyal replica had")
                });
            }
            Output::Accepted { .. } => {}
        }
    }

    fn executes(
        &mut self,
        node: NodeId,
        (seq, request, state): (Seq, Option<Request>, u64),
        verdict: &mut Verdict,
    ) {
        let (first, known, who) = *self.order.entry(seq).or_insert((request, state, node));
        verdict.require("agreement", (first, known) == (request, state), || {
            let (this, other) = (show(request), show(first));
            if first == request {
                format!("{node} and {who} execute {this} as {seq}, and come to different states")
            } else {
                format!("{node} executes {this} as {seq}, and {who} has executed {other}")
            }
        });
        let committed = self.committed(seq).any(|it| it.request == request);
        verdict.require("executed-is-committed", committed, || {
            format!("{node} executes {} as {seq}, which is not committed", show(request))
        });
    }
}

fn show(request: Option<Request>) -> String {
    request.map_or_else(|| "the null request".to_owned(), |it| it.to_string())
}

/// All clients have been answered.
pub(super) fn at_end(seen: &Seen<'_, Pbft>, settings: &Settings, verdict: &mut Verdict) {
    for (place, node) in seen.nodes.iter().enumerate().skip(settings.n) {
        let wants = node.process.as_ref().map_or(0, Party::wants);
        verdict.require("answered", node.traitor || wants == 0, || {
            format!("n{place}, a client, still waits for {}", count(wants, "answer", "answers"))
        });
    }
}
