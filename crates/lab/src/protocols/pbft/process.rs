//! The processes: the replicas, and after them the clients.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::client::Client;
use super::message::{Message, Phase, Request, Seq, ViewNumber, Written};
use super::replica::{Log, Replica};
use crate::process::{InputOf, NodeId, Now, Out, Process};
use crate::protocol::Setup;

/// What processes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The end of a replica's patience: with a request that is not executed, or a view that does not begin.
    Patience,
    /// Says again what may have been lost.
    Again,
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// A replica executed the request with this sequence number.
    Executed {
        /// The sequence number.
        seq: Seq,
        /// The request, if it is not the null request.
        request: Option<Request>,
        /// The result, unless it was a request that had been executed before.
        result: Option<Written>,
        /// The digest of the state after it.
        state: u64,
    },
    /// A replica took the state from others.
    Installed {
        /// The last request in it.
        seq: Seq,
        /// Its digest.
        state: u64,
    },
    /// A client believes this result.
    Accepted {
        /// Of the request with this timestamp.
        timestamp: u64,
        /// The result.
        result: Written,
    },
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed { seq, request: None, .. } => write!(f, "the null request as {seq}"),
            Self::Executed { seq, request: Some(request), result: Some(result), .. } => {
                write!(f, "{request} as {seq}: {result}")
            }
            Self::Executed { seq, request: Some(request), .. } => {
                write!(f, "{request} as {seq}: nothing, it has been executed before")
            }
            Self::Installed { seq, .. } => write!(f, "the state at {seq}"),
            Self::Accepted { result, .. } => write!(f, "{result}"),
        }
    }
}

/// What survives a crash; each process uses its part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    /// A client's last timestamp.
    pub timestamp: u64,
    /// A replica's state and log.
    pub log: Log,
}

/// How the processes of a run are set up, and how they are broken.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each is a way to be broken")]
pub(super) struct Settings {
    pub(super) n: usize,
    /// How many traitors there may be.
    pub(super) f: usize,
    /// How many replicas are a quorum: any two of them share a loyal replica.
    pub(super) quorum: usize,
    /// How many votes make a replica prepared.
    pub(super) prepare_quorum: usize,
    clients: usize,
    /// A checkpoint is taken after so many requests.
    pub(super) checkpoint: u64,
    pub(super) timeout: Duration,
    pub(super) no_commit_phase: bool,
    pub(super) mixed_views: bool,
    pub(super) accept_twice: bool,
    pub(super) forget_certificates: bool,
    pub(super) lowest_view: bool,
    pub(super) unchecked_o: bool,
    pub(super) unsigned_certificates: bool,
    pub(super) stay_in_view: bool,
    pub(super) no_view_change: bool,
    pub(super) forget_on_restart: bool,
    pub(super) unproved_state: bool,
    pub(super) unsigned_requests: bool,
    pub(super) no_timestamps: bool,
    pub(super) first_reply: bool,
}

impl Settings {
    pub(super) fn of(setup: &Setup) -> Self {
        let f = setup.n.saturating_sub(1) / 3;
        // 2f+1 of 3f+1; in general so many that two quorums share more than f.
        let quorum = usize::midpoint(setup.n, f) + 1;
        let quorum = quorum - usize::from(setup.broken("small-quorum"));
        Self {
            n: setup.n,
            f,
            quorum,
            prepare_quorum: quorum - usize::from(setup.broken("small-prepare-quorum")),
            clients: usize::try_from(setup.knob("clients")).unwrap_or(1),
            checkpoint: setup.knob("checkpoint"),
            timeout: Duration::from_millis(setup.knob("timeout_ms")),
            no_commit_phase: setup.broken("no-commit-phase"),
            mixed_views: setup.broken("mixed-views"),
            accept_twice: setup.broken("accept-twice"),
            forget_certificates: setup.broken("forget-certificates"),
            lowest_view: setup.broken("lowest-view"),
            unchecked_o: setup.broken("unchecked-o"),
            unsigned_certificates: setup.broken("unsigned-certificates"),
            stay_in_view: setup.broken("stay-in-view"),
            no_view_change: setup.broken("no-view-change"),
            forget_on_restart: setup.broken("forget-on-restart"),
            unproved_state: setup.broken("unproved-state"),
            unsigned_requests: setup.broken("unsigned-requests"),
            no_timestamps: setup.broken("no-timestamps"),
            first_reply: setup.broken("first-reply"),
        }
    }

    /// The primary of view v is replica v modulo n.
    pub(super) fn primary(&self, view: ViewNumber) -> NodeId {
        let n = u64::try_from(self.n).unwrap_or(u64::MAX);
        NodeId(usize::try_from(view.0 % n).unwrap_or(0))
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = NodeId> + use<> {
        NodeId::all(self.n)
    }

    pub(super) fn is_replica(&self, node: NodeId) -> bool {
        node.0 < self.n
    }

    /// The client that a replica sends a user to.
    pub(super) fn client(&self, choice: u64) -> NodeId {
        let clients = u64::try_from(self.clients).unwrap_or(1);
        NodeId(self.n + usize::try_from(choice % clients).unwrap_or(0))
    }

    /// The high watermark: nothing above is accepted while this is the last stable checkpoint. The log never
    /// has more than that, and a primary cannot use up the sequence numbers.
    pub(super) fn high(&self, stable: Seq) -> Seq {
        Seq(stable.0.saturating_add(self.checkpoint.saturating_mul(2)))
    }
}

/// A process: a replica or a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Party(Part);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Replica(Box<Replica>),
    Client(Client),
}

impl Party {
    pub(super) fn new(settings: Rc<Settings>, id: NodeId, disk: &Disk) -> Self {
        Self(if settings.is_replica(id) {
            Part::Replica(Box::new(Replica::new(settings, id, &disk.log)))
        } else {
            Part::Client(Client::new(settings, id))
        })
    }

    /// How many of a client's requests are not answered.
    #[must_use]
    pub fn wants(&self) -> usize {
        match &self.0 {
            Part::Client(client) => client.wants(),
            Part::Replica(_) => 0,
        }
    }

    /// What a client waits for, and how many replicas have answered.
    pub(super) fn asked(&self) -> Option<(Request, usize)> {
        match &self.0 {
            Part::Client(client) => client.asked(),
            Part::Replica(_) => None,
        }
    }
}

impl Process for Party {
    type Message = Message;
    type Timer = Timer;
    type Request = u64;
    type Output = Output;
    type Disk = Disk;

    fn step(&mut self, _now: Now, input: InputOf<Self>, out: &mut Out<'_, Self>) {
        match &mut self.0 {
            Part::Replica(replica) => replica.step(input, out),
            Part::Client(client) => client.step(input, out),
        }
    }

    fn timer(timer: &Timer) -> String {
        let name = match timer {
            Timer::Patience => "the end of its patience",
            Timer::Again => "time to say it again",
        };
        name.to_owned()
    }

    fn decides(output: &Output) -> String {
        match output {
            Output::Executed { .. } => format!("executes {output}"),
            Output::Installed { .. } => format!("takes over {output}"),
            Output::Accepted { .. } => format!("believes {output}"),
        }
    }

    fn kind(message: &Message) -> &'static str {
        match message {
            Message::Ask { .. } => "ask",
            Message::Request(_) => "request",
            Message::Vote(vote) => match vote.phase {
                Phase::PrePrepare => "pre-prepare",
                Phase::Prepare => "prepare",
                Phase::Commit => "commit",
            },
            Message::Reply { .. } => "reply",
            Message::Checkpoint(_) => "checkpoint",
            Message::ViewChange(_) => "view-change",
            Message::NewView(_) => "new-view",
            Message::Fetch(_) => "fetch",
            Message::State { .. } => "state",
        }
    }
}
