//! How a traitor lies. It may say what it likes in its own name, differently to each; it may use whatever others
//! have signed; it may sign for its fellows, since they may share their secrets; and it cannot sign for the loyal.

use std::collections::BTreeSet;

use super::message::{
    Assignment, Certificate, Checkpoint, Message, NewView, Phase, Proof, Request, Seq, Signature,
    State, ViewChange, ViewNumber, Vote, Written,
};
use super::process::Settings;
use super::view_change::follows_from;
use crate::process::{Effect, NodeId};
use crate::protocol::Seen;
use crate::script::What;

/// What a traitor may have heard: clients' requests and prepared certificates go around. And who its fellows are.
#[derive(Debug, Default)]
pub(super) struct Overheard {
    traitors: BTreeSet<NodeId>,
    requests: Vec<Request>,
    certificates: BTreeSet<Certificate>,
}

impl Overheard {
    pub(super) fn hear(&mut self, seen: &Seen<'_, super::Pbft>) {
        if let Some(What::Traitor { node, .. }) = seen.act
            && seen.nodes[node.0].traitor
        {
            self.traitors.insert(*node);
        }
        for effect in seen.stepped.into_iter().flat_map(|step| step.effects) {
            match effect {
                Effect::Send { message: Message::Request(request), .. }
                    if !self.requests.contains(request) =>
                {
                    self.requests.push(*request);
                }
                Effect::Send { message: Message::ViewChange(view_change), .. } => {
                    self.certificates.extend(view_change.prepared.iter().cloned());
                }
                _ => {}
            }
        }
    }

    /// Another request than this one: always the same, so that several lies make one story.
    fn twin(&self, request: Option<Request>) -> Option<Request> {
        self.requests.iter().copied().find(|&other| Some(other) != request)
    }

    /// The certificates of the lowest view.
    fn lowest(&self) -> Vec<Certificate> {
        let lowest = |it: &&Certificate| {
            let Assignment { seq, view, .. } = it.assignment;
            let same = self.certificates.iter().map(|other| other.assignment);
            same.filter(|other| other.seq == seq).all(|other| other.view >= view)
        };
        let mut all: Vec<Certificate> = self.certificates.iter().filter(lowest).cloned().collect();
        all.dedup_by_key(|it| it.assignment.seq);
        all
    }
}

/// A traitor that speaks to somebody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traitor<'a> {
    pub(super) settings: &'a Settings,
    pub(super) overheard: &'a Overheard,
    pub(super) me: NodeId,
    pub(super) to: NodeId,
}

impl Traitor<'_> {
    /// What it says in the place of a message. The choice modulo 8 is the sort of lie; what is above it chooses
    /// among lies of a sort. Modulo 8, 0 is silence; 1 and 2 are the lie to every other process, and the truth
    /// to the rest.
    pub(super) fn say(self, message: &Message, choice: u64) -> Vec<Message> {
        let (sort, which) = (choice % 8, choice / 8);
        let to = u64::try_from(self.to.0).unwrap_or(0);
        match sort {
            0 => return vec![],
            1 | 2 if to % 2 == sort % 2 => return vec![message.clone()],
            _ => {}
        }
        match message {
            Message::Request(request) => self.request(*request, sort),
            Message::Vote(vote) => self.vote(*vote, sort, which),
            Message::Reply { view, timestamp, result } => {
                let result = Written { nth: result.nth, over: result.over + 1 };
                vec![Message::Reply { view: *view, timestamp: *timestamp, result }]
            }
            Message::Checkpoint(Checkpoint { seq, state, .. }) => {
                let lie = Checkpoint::signed(self.me, *seq, state ^ 1);
                vec![Message::Checkpoint(lie)]
            }
            Message::ViewChange(truth) => vec![self.view_change(truth, sort)],
            Message::NewView(truth) => vec![self.new_view(truth, sort)],
            Message::State { proof, state } => vec![Self::state(proof, state, sort)],
            Message::Fetch(_) | Message::Ask { .. } => vec![message.clone()],
        }
    }

    /// A replica hands on a request that nobody made; a client that is a traitor makes two of one.
    fn request(self, truth: Request, sort: u64) -> Vec<Message> {
        let lie = if truth.client == self.me {
            Request::signed(self.me, truth.timestamp, truth.value + 1)
        } else {
            Request::forged(truth.client, truth.timestamp, truth.value + 1)
        };
        match sort {
            3 => vec![Message::Request(truth), Message::Request(lie)],
            _ => vec![Message::Request(lie)],
        }
    }

    fn invented(truth: Assignment) -> Option<Request> {
        truth.request.map(|it| Request::forged(it.client, it.timestamp + 1, it.value + 1_000))
    }

    fn vote(self, truth: Vote, sort: u64, which: u64) -> Vec<Message> {
        let assignment = truth.assignment;
        let phase = truth.phase;
        let lie = |assignment| Message::Vote(Vote::signed(self.me, phase, assignment));
        let about = |request| lie(Assignment { request, ..assignment });
        let twin = self.overheard.twin(assignment.request);
        match sort {
            3 => vec![Message::Vote(truth), about(twin)],
            4 => {
                let count = u64::try_from(self.overheard.requests.len()).unwrap_or(0);
                let place = usize::try_from(which % (count + 1)).unwrap_or(0);
                vec![about(self.overheard.requests.get(place).copied())]
            }
            5 => vec![about(Self::invented(assignment))],
            6 => {
                let seq = Seq((assignment.seq.0 + which % 3).saturating_sub(1));
                let n = u64::try_from(self.settings.n).unwrap_or(1);
                let view = ViewNumber(assignment.view.0 + n * (which / 3 % 2));
                vec![lie(Assignment { view, seq, ..assignment })]
            }
            // It claims to be prepared, too.
            7 => {
                let commit = Vote::signed(self.me, Phase::Commit, assignment);
                vec![Message::Vote(truth), Message::Vote(commit)]
            }
            _ => vec![about(twin)],
        }
    }

    fn view_change(self, truth: &ViewChange, sort: u64) -> Message {
        let (view, stable) = (truth.view, truth.stable.clone());
        let prepared = match sort {
            3 => self.overheard.lowest(),
            4 => truth.prepared.iter().map(|it| self.forged(it.assignment)).collect(),
            5 => return self.own_view_change(view.next(), stable, truth.prepared.clone()),
            6 => return self.own_view_change(view, Proof::default(), vec![]),
            7 => self.overheard.certificates.iter().cloned().collect(),
            _ => vec![],
        };
        self.own_view_change(view, stable, prepared)
    }

    fn own_view_change(
        self,
        view: ViewNumber,
        stable: Proof,
        mut prepared: Vec<Certificate>,
    ) -> Message {
        prepared.retain(|it| it.assignment.seq > stable.seq && it.assignment.view < view);
        Message::ViewChange(ViewChange::signed(self.me, view, stable, prepared))
    }

    /// A certificate for something else, with the signatures of others as it can make them.
    fn forged(self, truth: Assignment) -> Certificate {
        let assignment = Assignment { request: self.overheard.twin(truth.request), ..truth };
        let signed = |signer, phase| {
            if self.overheard.traitors.contains(&signer) {
                Vote::signed(signer, phase, assignment).signature
            } else {
                Signature::forged(signer)
            }
        };
        let primary = self.settings.primary(assignment.view);
        let backups = self.settings.replicas().filter(|&it| it != primary);
        let backups = backups.take(self.settings.quorum - 1);
        Certificate {
            assignment,
            pre_prepare: signed(primary, Phase::PrePrepare),
            prepares: backups.map(|it| signed(it, Phase::Prepare)).collect(),
        }
    }

    fn new_view(self, truth: &NewView, sort: u64) -> Message {
        let mut view_changes = truth.view_changes.clone();
        let mut follows: Vec<Assignment> =
            truth.pre_prepares.iter().map(|vote| vote.assignment).collect();
        match sort {
            // Something else is to have followed, or nothing.
            3 => {
                for assignment in &mut follows {
                    assignment.request = self.overheard.twin(assignment.request);
                }
            }
            4 => follows.iter_mut().for_each(|assignment| assignment.request = None),
            5 => follows.clear(),
            // It cuts what others said, and keeps their signatures.
            6 => {
                view_changes.iter_mut().for_each(|it| it.prepared.clear());
                follows = follows_from(self.settings, truth.view, &view_changes);
            }
            // It says to some that it and its fellows have prepared nothing, which is in their power.
            _ => {
                let traitors = &self.overheard.traitors;
                let traitor = |it: &&mut ViewChange| traitors.contains(&it.signature.signer);
                for it in view_changes.iter_mut().filter(traitor) {
                    let signer = it.signature.signer;
                    *it = ViewChange::signed(signer, it.view, it.stable.clone(), vec![]);
                }
                follows = follows_from(self.settings, truth.view, &view_changes);
            }
        }
        let sign = |assignment| Vote::signed(self.me, Phase::PrePrepare, assignment);
        let pre_prepares = follows.into_iter().map(sign).collect();
        Message::NewView(NewView::signed(self.me, truth.view, view_changes, pre_prepares))
    }

    /// Another state, with the old proof or with one that nobody signed.
    fn state(proof: &Proof, truth: &State, sort: u64) -> Message {
        let state = State { value: truth.value + 1, ..truth.clone() };
        let proof = match sort {
            3..=5 => Proof { state: state.digest(), ..proof.clone() },
            _ => proof.clone(),
        };
        Message::State { proof, state }
    }
}
