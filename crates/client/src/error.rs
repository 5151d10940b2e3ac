//! What went wrong, and what is known about the effect: the one table behind every retry.
//!
//! A server says that a call failed by a gRPC code and a message. etcd's clients tell its errors
//! apart by both, so the messages are part of the contract. For retries only three answers
//! matter, and [`judge`] gives them:
//!
//! | judgement | examples | a read | a write |
//! |---|---|---|---|
//! | refused for good | compacted, lease not found, duplicate key | fails | fails, not applied |
//! | refused for now, before proposing | no leader, too many requests, learner | retried | retried |
//! | anything may have happened | request timed out, leader changed, connection lost | retried | *unknown* |

use crate::config::ConfigError;

/// The gRPC status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are gRPC's, and so are their meanings")]
pub enum Code {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Ok, "OK"),
        (Self::Cancelled, "Canceled"),
        (Self::Unknown, "Unknown"),
        (Self::InvalidArgument, "InvalidArgument"),
        (Self::DeadlineExceeded, "DeadlineExceeded"),
        (Self::NotFound, "NotFound"),
        (Self::AlreadyExists, "AlreadyExists"),
        (Self::PermissionDenied, "PermissionDenied"),
        (Self::ResourceExhausted, "ResourceExhausted"),
        (Self::FailedPrecondition, "FailedPrecondition"),
        (Self::Aborted, "Aborted"),
        (Self::OutOfRange, "OutOfRange"),
        (Self::Unimplemented, "Unimplemented"),
        (Self::Internal, "Internal"),
        (Self::Unavailable, "Unavailable"),
        (Self::DataLoss, "DataLoss"),
        (Self::Unauthenticated, "Unauthenticated"),
    ];

    /// The code of this number on the wire; numbers without a name are [`Code::Unknown`].
    pub fn from_number(number: u32) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(index).map_or(Self::Unknown, |(code, _)| *code)
    }

    /// The name as Go's gRPC library prints it.
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// What a server said when it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The gRPC code.
    pub code: Code,
    /// The message, etcd's own words.
    pub message: String,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code.name())
    }
}

/// Why one attempt failed, before any policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request never left this process.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The connection broke after the request had been handed to it.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No answer within the time for this attempt; the request may have been sent.
    #[error("no answer in time")]
    TimedOut,
    /// The server answered, with an error.
    #[error("{0}")]
    Status(Status),
    /// The answer could not be understood.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

/// What a failed call did to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is certain that no part of it was or will be applied.
    NotApplied,
    /// It may have been applied, or may still be.
    Unknown,
}

/// Why a call failed, after everything that was safe to try has been tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used. Not applied; do not retry.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server refused the request for a reason that a retry would meet again. Not applied.
    #[error("{0}")]
    Rejected(Status),
    /// No member could serve it in time, and it is certain that nothing was applied. May be
    /// retried later.
    #[error("unavailable after {attempts} attempts: {last}")]
    Unavailable {
        /// Attempts made.
        attempts: u32,
        /// Why the last of them failed.
        last: Failure,
    },
    /// A write of which it cannot be said whether it was, or will be, applied. Retry only what is
    /// idempotent; otherwise read first.
    #[error("outcome unknown: {0}")]
    Unknown(Failure),
    /// What the server sent breaks the protocol, or fails its checksum.
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl Error {
    /// What is known about the effect.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Unknown(_) | Self::Malformed(_) => Effect::Unknown,
            Self::Config(_) | Self::Rejected(_) | Self::Unavailable { .. } => Effect::NotApplied,
        }
    }

    /// Whether the same call may be made again without thought: nothing was applied, and the
    /// reason may pass.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The server's status, if it was the server that spoke last.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Rejected(status)
            | Self::Unavailable { last: Failure::Status(status), .. }
            | Self::Unknown(Failure::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// The reason, where it is one that programs ask for.
    pub fn reason(&self) -> Reason {
        self.status().map_or(Reason::Other, |status| Reason::of(&status.message))
    }
}

/// The refusals that programs tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The revision asked for has been compacted.
    Compacted,
    /// The revision asked for lies in the future.
    FutureRevision,
    /// The lease is not known, or no longer.
    LeaseNotFound,
    /// The lease to be granted exists.
    LeaseExists,
    /// The member is not in the cluster.
    MemberNotFound,
    /// The learner is too far behind to be promoted.
    LearnerNotReady,
    /// The quota is used up.
    NoSpace,
    /// Any other.
    Other,
}

impl Reason {
    fn of(message: &str) -> Self {
        match message {
            "etcdserver: mvcc: required revision has been compacted" => Self::Compacted,
            "etcdserver: mvcc: required revision is a future revision" => Self::FutureRevision,
            "etcdserver: requested lease not found" => Self::LeaseNotFound,
            "etcdserver: lease already exists" => Self::LeaseExists,
            "etcdserver: member not found" => Self::MemberNotFound,
            "etcdserver: can only promote a learner member which is in sync with leader" => {
                Self::LearnerNotReady
            }
            NO_SPACE => Self::NoSpace,
            _ => Self::Other,
        }
    }
}

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Refusals that come before anything is proposed and that pass: safe to retry elsewhere.
const PASSING_AND_NOT_APPLIED: [&str; 7] = [
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: too many requests",
    "etcdserver: not capable",
    "etcdserver: unhealthy cluster",
    "etcdserver: rpc not supported for learner",
    "raft proposal dropped",
];

/// Refusals that come from the middle of the work, or from who knows where.
const PASSING_AND_UNKNOWN: [&str; 8] = [
    "etcdserver: leader changed",
    "etcdserver: request timed out",
    "etcdserver: request timed out, waiting for the applied index took too long",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: server stopped",
    "etcdserver: request cancelled",
    "context deadline exceeded",
];

/// What one failed attempt tells about retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// A retry would meet the same refusal; nothing was applied.
    Final,
    /// Nothing was applied, and another attempt may succeed.
    NotApplied,
    /// It may have been applied; another attempt may succeed.
    Ambiguous,
    /// It may have been applied, and another attempt would fail the same way.
    AmbiguousFinal,
}

/// Reads a failure. See the table of this module.
pub fn judge(failure: &Failure) -> Judgement {
    match failure {
        Failure::NotSent(_) => Judgement::NotApplied,
        Failure::Lost(_) | Failure::TimedOut => Judgement::Ambiguous,
        Failure::Malformed(_) => Judgement::AmbiguousFinal,
        Failure::Status(status) => judge_status(status),
    }
}

fn judge_status(status: &Status) -> Judgement {
    let message = status.message.as_str();
    if PASSING_AND_NOT_APPLIED.contains(&message) {
        return Judgement::NotApplied;
    }
    if PASSING_AND_UNKNOWN.contains(&message) {
        return Judgement::Ambiguous;
    }
    match status.code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Judgement::Final,
        Code::ResourceExhausted if message == NO_SPACE => Judgement::AmbiguousFinal,
        // The message was larger than the server takes: it was never decoded.
        Code::ResourceExhausted => Judgement::Final,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
            Judgement::Ambiguous
        }
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Judgement::AmbiguousFinal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, message: &str) -> Failure {
        Failure::Status(Status { code, message: message.to_owned() })
    }

    #[test]
    fn a_code_survives_the_wire() {
        for (number, (code, _)) in (0u32..).zip(Code::ALL) {
            assert_eq!(Code::from_number(number), code);
            assert_eq!(code as u32, number);
        }
        assert_eq!(Code::from_number(99), Code::Unknown);
    }

    #[test]
    fn judgements_follow_the_table() {
        let cases = [
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Judgement::Final,
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
                Judgement::Final,
            ),
            (Code::Unavailable, "etcdserver: no leader", Judgement::NotApplied),
            (Code::ResourceExhausted, "etcdserver: too many requests", Judgement::NotApplied),
            (Code::Unavailable, "etcdserver: rpc not supported for learner", Judgement::NotApplied),
            (Code::Unavailable, "etcdserver: leader changed", Judgement::Ambiguous),
            (Code::Unavailable, "etcdserver: request timed out", Judgement::Ambiguous),
            (Code::Unavailable, "anything else", Judgement::Ambiguous),
            (Code::ResourceExhausted, NO_SPACE, Judgement::AmbiguousFinal),
            (Code::ResourceExhausted, "grpc: received message larger than max", Judgement::Final),
            (Code::Unknown, "panic", Judgement::AmbiguousFinal),
        ];
        for (code, message, expected) in cases {
            assert_eq!(judge(&status(code, message)), expected, "{message}");
        }
        assert_eq!(judge(&Failure::NotSent("refused".into())), Judgement::NotApplied);
        assert_eq!(judge(&Failure::Lost("reset".into())), Judgement::Ambiguous);
        assert_eq!(judge(&Failure::TimedOut), Judgement::Ambiguous);
    }

    #[test]
    fn only_what_was_not_applied_is_called_retryable() {
        let lost = Failure::Lost("reset".into());
        assert_eq!(Error::Unknown(lost.clone()).effect(), Effect::Unknown);
        assert!(!Error::Unknown(lost.clone()).is_retryable());
        let unavailable = Error::Unavailable { attempts: 3, last: Failure::NotSent("no".into()) };
        assert_eq!(unavailable.effect(), Effect::NotApplied);
        assert!(unavailable.is_retryable());
    }
}
