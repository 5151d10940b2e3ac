//! What clients and replicas say, and what their signatures are worth.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hash;

use super::process::Settings;
use crate::digest::Digest;
use crate::process::{NodeId, RequestId};

/// A view, by its number: a configuration in which one replica is the primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewNumber(pub u64);

impl ViewNumber {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for ViewNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}", self.0)
    }
}

/// A sequence number: the place of a request in the order in which all are executed, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Those above this one, up to the other.
    pub(super) fn up_to(self, last: Self) -> impl Iterator<Item = Self> {
        (self.next().0..=last.0).map(Self)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A signature: what only the signer can make of these words. Stands for a digital signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    /// Whose it is said to be.
    pub signer: NodeId,
    seal: u64,
}

impl Signature {
    pub(super) fn of(signer: NodeId, words: &impl Hash) -> Self {
        Self { signer, seal: Digest::of(&("the secret of", signer, words)) }
    }

    /// What somebody writes who does not know the signer's secret.
    pub(super) fn forged(signer: NodeId) -> Self {
        Self { signer, seal: 0 }
    }

    fn is_of(self, words: &impl Hash) -> bool {
        self == Self::of(self.signer, words)
    }
}

/// What a client asks for: to write a value. The timestamp tells its requests apart and puts them in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Counts the client's requests.
    pub timestamp: u64,
    /// Whose request it is.
    pub client: NodeId,
    /// What is to be written.
    pub value: u64,
    signature: Signature,
}

impl Request {
    pub(super) fn signed(client: NodeId, timestamp: u64, value: u64) -> Self {
        let signature = Signature::of(client, &("request", client, timestamp, value));
        Self { timestamp, client, value, signature }
    }

    /// As if the client had asked for it.
    pub(super) fn forged(client: NodeId, timestamp: u64, value: u64) -> Self {
        Self { timestamp, client, value, signature: Signature::forged(client) }
    }

    /// Whether the client asked for it.
    pub(super) fn is_genuine(&self, settings: &Settings) -> bool {
        let words = ("request", self.client, self.timestamp, self.value);
        let signed = self.signature.signer == self.client && self.signature.is_of(&words);
        self.client.0 >= settings.n && (signed || settings.unsigned_requests)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {}", self.value)
    }
}

/// What the three phases are about: in this view, this request has this sequence number. The paper's messages
/// have the request's digest in its place. No request is the null request, which does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assignment {
    /// The view.
    pub view: ViewNumber,
    /// The sequence number.
    pub seq: Seq,
    /// The request, if it is not the null request.
    pub request: Option<Request>,
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Some(request) => request.fmt(f)?,
            None => f.write_str("the null request")?,
        }
        write!(f, " as {} in {}", self.seq, self.view)
    }
}

/// The three phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The primary assigns a sequence number.
    PrePrepare,
    /// A backup agrees.
    Prepare,
    /// A replica knows that a quorum agrees.
    Commit,
}

/// A signed message of one of the three phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vote {
    /// The phase.
    pub phase: Phase,
    /// What it is about.
    pub assignment: Assignment,
    /// Who says so.
    pub signature: Signature,
}

impl Vote {
    pub(super) fn signed(signer: NodeId, phase: Phase, assignment: Assignment) -> Self {
        Self { phase, assignment, signature: Signature::of(signer, &(phase, assignment)) }
    }

    pub(super) fn is_genuine(&self) -> bool {
        self.signature.is_of(&(self.phase, self.assignment))
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::PrePrepare => "pre-prepare",
            Phase::Prepare => "prepare",
            Phase::Commit => "commit",
        };
        write!(f, "{phase} {}", self.assignment)
    }
}

/// A prepared certificate, the paper's P_m: the primary's pre-prepare and matching prepares of other replicas,
/// a quorum together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Certificate {
    /// What is prepared.
    pub assignment: Assignment,
    /// The primary's signature under its pre-prepare.
    pub pre_prepare: Signature,
    /// The signatures of backups under their prepares.
    pub prepares: Vec<Signature>,
}

impl Certificate {
    pub(super) fn is_genuine(&self, settings: &Settings) -> bool {
        let assignment = self.assignment;
        let primary = settings.primary(assignment.view);
        let request = assignment.request.is_none_or(|request| request.is_genuine(settings));
        let signers: BTreeSet<NodeId> = self.prepares.iter().map(|it| it.signer).collect();
        let quorum = signers.len() == self.prepares.len()
            && signers.len() + 1 >= settings.prepare_quorum
            && signers.iter().all(|&signer| settings.is_replica(signer) && signer != primary)
            && self.pre_prepare.signer == primary;
        let signed = self.pre_prepare.is_of(&(Phase::PrePrepare, assignment))
            && self.prepares.iter().all(|it| it.is_of(&(Phase::Prepare, assignment)));
        quorum && request && (signed || settings.unsigned_certificates)
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Written {
    /// How many writes there have been, with this one.
    pub nth: u64,
    /// The value that it replaced.
    pub over: u64,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write number {}, over {}", self.nth, self.over)
    }
}

/// The state of the service: one register, and for each client what it was last answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    /// What was last written.
    pub value: u64,
    /// How many writes there were.
    pub writes: u64,
    /// A digest of all of them, in order.
    pub history: u64,
    /// The timestamp of each client's last request, and the result.
    pub replies: BTreeMap<NodeId, (u64, Written)>,
}

impl State {
    /// Executes a request. `None` if nothing came of it: the client has already asked for this or something
    /// later.
    pub(super) fn execute(&mut self, request: Request, settings: &Settings) -> Option<Written> {
        let last = self.replies.get(&request.client).map_or(0, |&(timestamp, _)| timestamp);
        if request.timestamp <= last && !settings.no_timestamps {
            return None;
        }
        self.writes += 1;
        let written = Written { nth: self.writes, over: self.value };
        self.value = request.value;
        self.history = Digest::of(&(self.history, request.client, request.timestamp));
        self.replies.insert(request.client, (request.timestamp, written));
        Some(written)
    }

    pub(super) fn digest(&self) -> u64 {
        Digest::of(self)
    }
}

/// A signed checkpoint: after this sequence number, the state has this digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// The last request that is in it.
    pub seq: Seq,
    /// The state's digest.
    pub state: u64,
    /// Who says so.
    pub signature: Signature,
}

impl Checkpoint {
    pub(super) fn signed(signer: NodeId, seq: Seq, state: u64) -> Self {
        Self { seq, state, signature: Signature::of(signer, &("checkpoint", seq, state)) }
    }

    pub(super) fn is_genuine(&self) -> bool {
        self.signature.is_of(&("checkpoint", self.seq, self.state))
    }
}

/// The proof that a checkpoint is stable, the paper's C: a quorum of checkpoint messages. The beginning is
/// stable without one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proof {
    /// The last request that is in the checkpoint.
    pub seq: Seq,
    /// The digest of the state.
    pub state: u64,
    /// The signatures under the checkpoint messages.
    pub signatures: Vec<Signature>,
}

impl Default for Proof {
    fn default() -> Self {
        Self { seq: Seq(0), state: State::default().digest(), signatures: Vec::new() }
    }
}

impl Proof {
    pub(super) fn is_genuine(&self, settings: &Settings) -> bool {
        let signers: BTreeSet<NodeId> = self.signatures.iter().map(|it| it.signer).collect();
        let words = ("checkpoint", self.seq, self.state);
        let quorum = signers.len() >= settings.quorum
            && signers.iter().all(|&signer| settings.is_replica(signer))
            && self.signatures.iter().all(|it| it.is_of(&words));
        quorum || *self == Self::default()
    }
}

/// A replica leaves all views before this one, and says what it has prepared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewChange {
    /// The view that it wants to move to.
    pub view: ViewNumber,
    /// Its last stable checkpoint: the paper's n and C.
    pub stable: Proof,
    /// For each sequence number above, the certificate of the highest view, if it has one: the paper's P.
    pub prepared: Vec<Certificate>,
    /// Who says so.
    pub signature: Signature,
}

impl ViewChange {
    pub(super) fn signed(
        signer: NodeId,
        view: ViewNumber,
        stable: Proof,
        prepared: Vec<Certificate>,
    ) -> Self {
        let signature = Signature::of(signer, &("view-change", view, &stable, &prepared));
        Self { view, stable, prepared, signature }
    }

    pub(super) fn is_genuine(&self, settings: &Settings) -> bool {
        let words = ("view-change", self.view, &self.stable, &self.prepared);
        let within = |certificate: &Certificate| {
            let Assignment { view, seq, .. } = certificate.assignment;
            view < self.view && seq > self.stable.seq && seq <= settings.high(self.stable.seq)
        };
        let proper = |it: &Certificate| within(it) && it.is_genuine(settings);
        settings.is_replica(self.signature.signer)
            && (self.signature.is_of(&words) || settings.unsigned_certificates)
            && self.stable.is_genuine(settings)
            && self.prepared.iter().all(proper)
    }
}

/// The primary of a new view begins it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewView {
    /// The view.
    pub view: ViewNumber,
    /// What entitles it to: a quorum of view-changes, the paper's V.
    pub view_changes: Vec<ViewChange>,
    /// What follows from them: the paper's O.
    pub pre_prepares: Vec<Vote>,
    /// The primary's.
    pub signature: Signature,
}

impl NewView {
    pub(super) fn signed(
        signer: NodeId,
        view: ViewNumber,
        view_changes: Vec<ViewChange>,
        pre_prepares: Vec<Vote>,
    ) -> Self {
        let signature = Signature::of(signer, &("new-view", view, &view_changes, &pre_prepares));
        Self { view, view_changes, pre_prepares, signature }
    }

    pub(super) fn is_genuine(&self) -> bool {
        self.signature.is_of(&("new-view", self.view, &self.view_changes, &self.pre_prepares))
    }
}

/// What clients and replicas say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    /// To a client, from whom its user came to by mistake: ask for this.
    Ask {
        /// Whom to answer.
        id: RequestId,
        /// What is to be written.
        value: u64,
    },
    /// A client's request.
    Request(Request),
    /// Pre-prepare, prepare, commit.
    Vote(Vote),
    /// To a client: the result of its request.
    Reply {
        /// The view in which the replica is: from it the client knows the primary.
        view: ViewNumber,
        /// The request's.
        timestamp: u64,
        /// The result.
        result: Written,
    },
    /// A checkpoint was taken.
    Checkpoint(Checkpoint),
    /// A view change begins.
    ViewChange(ViewChange),
    /// A view begins.
    NewView(NewView),
    /// This checkpoint is stable, and I have not got that far: what is the state?
    Fetch(Proof),
    /// This.
    State {
        /// That it is.
        proof: Proof,
        /// The state.
        state: State,
    },
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { value, .. } => write!(f, "ask for write {value}"),
            Self::Request(request) => {
                write!(f, "request {request}, timestamp {}", request.timestamp)
            }
            Self::Vote(vote) => vote.fmt(f),
            Self::Reply { view, timestamp, result } => {
                write!(f, "reply in {view} to timestamp {timestamp}: {result}")
            }
            Self::Checkpoint(checkpoint) => {
                write!(f, "checkpoint {}, state {:04x}", checkpoint.seq, checkpoint.state >> 48)
            }
            Self::ViewChange(it) => {
                write!(f, "view-change to {}, stable checkpoint {}, P ", it.view, it.stable.seq)?;
                listed(f, it.prepared.iter().map(|certificate| certificate.assignment))
            }
            Self::NewView(it) => {
                let from: Vec<String> =
                    it.view_changes.iter().map(|it| it.signature.signer.to_string()).collect();
                write!(f, "new-view for {}, V {{{}}}, O ", it.view, from.join(" "))?;
                listed(f, it.pre_prepares.iter().map(|vote| vote.assignment))
            }
            Self::Fetch(proof) => write!(f, "fetch the state at {}", proof.seq),
            Self::State { proof, state } => {
                write!(
                    f,
                    "state at {}: {} after write number {}",
                    proof.seq, state.value, state.writes
                )
            }
        }
    }
}

fn listed(
    f: &mut fmt::Formatter<'_>,
    assignments: impl Iterator<Item = Assignment>,
) -> fmt::Result {
    let all: Vec<String> = assignments.map(|it| it.to_string()).collect();
    write!(f, "{{{}}}", all.join(", "))
}
