//! Every error a client can see, in one table.
//!
//! etcd's clients recognise an error by the text of the gRPC status, and act on its code; both
//! are therefore part of the contract, to the letter. The table below has all of them, whether
//! this crate raises them or the layers above it do, so that there is one place to look and one
//! place to test. Two more facts go with each, for those who decide about a retry: whether the
//! same request may succeed later, and whether it may have taken effect.
//!
//! Caveat: etcd itself sends [`Error::MemberNotEnoughStarted`] and [`Error::TooManyRequests`]
//! with the code `Unknown`, because it passes on the client's form of the error. Its clients
//! look at the text alone there, so the code of the table is sent here.
//!
//! Source: `api/v3rpc/rpctypes` of etcd 3.7 (texts and codes).

/// A status code of gRPC, by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Code {
    /// The caller gave up.
    Canceled = 1,
    /// Nothing more is known.
    Unknown = 2,
    /// The request can never succeed.
    InvalidArgument = 3,
    /// The caller's time is over.
    DeadlineExceeded = 4,
    /// What is named does not exist.
    NotFound = 5,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// The system is not in the state that the request needs.
    FailedPrecondition = 9,
    /// A number is outside of what can be asked for now.
    OutOfRange = 11,
    /// There is no such call, or not with these options.
    Unimplemented = 12,
    /// A fault of the server.
    Internal = 13,
    /// Not now; another member, or this one later.
    Unavailable = 14,
    /// Data is lost or damaged.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

/// Whether sending the same request again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No: the request or the state it needs must change first.
    Never,
    /// Yes: the cause passes, or another member may do better.
    Later,
}

/// What a failed request may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing, and it never will.
    NotApplied,
    /// It may have been done, or may yet be: only reading tells.
    Unknown,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $code:ident, $retry:ident, $effect:ident, $text:literal;)*) => {
        /// An error as a client sees it.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Error {
            $($(#[$doc])* #[error($text)] $name,)*
            /// The state could not be read. The member stops; another may answer.
            #[error("etcdserver: state engine: {0}")]
            Storage(String),
        }

        impl Error {
            /// All errors with a fixed text, in the order of the table.
            pub const TABLE: &[Self] = &[$(Self::$name,)*];

            /// The code that goes with the text.
            #[must_use]
            pub fn code(&self) -> Code {
                match self {
                    $(Self::$name => Code::$code,)*
                    Self::Storage(_) => Code::Internal,
                }
            }

            /// Whether sending the same request again can help.
            #[must_use]
            pub fn retry(&self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                    Self::Storage(_) => Retry::Later,
                }
            }

            /// What the failed request may have done.
            #[must_use]
            pub fn effect(&self) -> Effect {
                match self {
                    $(Self::$name => Effect::$effect,)*
                    Self::Storage(_) => Effect::NotApplied,
                }
            }
        }
    };
}

errors! {
    /// A key is empty.
    EmptyKey: InvalidArgument, Never, NotApplied, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a key that does not exist; an operation that is empty.
    KeyNotFound: InvalidArgument, Never, NotApplied, "etcdserver: key not found";
    /// `ignore_value` with a value.
    ValueProvided: InvalidArgument, Never, NotApplied, "etcdserver: value is provided";
    /// `ignore_lease` with a lease.
    LeaseProvided: InvalidArgument, Never, NotApplied, "etcdserver: lease is provided";
    /// More operations than a transaction may have.
    TooManyOps: InvalidArgument, Never, NotApplied, "etcdserver: too many operations in txn request";
    /// A transaction would write a key twice.
    DuplicateKey: InvalidArgument, Never, NotApplied, "etcdserver: duplicate key given in txn request";
    /// The metadata `client-api-version` makes no sense.
    InvalidClientApiVersion: InvalidArgument, Never, NotApplied, "etcdserver: invalid client api version";
    /// An unknown sort order or target.
    InvalidSortOption: InvalidArgument, Never, NotApplied, "etcdserver: invalid sort option";
    /// The revision is below the compact revision.
    Compacted: OutOfRange, Never, NotApplied, "etcdserver: mvcc: required revision has been compacted";
    /// The revision has not been reached yet.
    FutureRev: OutOfRange, Never, NotApplied, "etcdserver: mvcc: required revision is a future revision";
    /// The quota is used up.
    NoSpace: ResourceExhausted, Never, NotApplied, "etcdserver: mvcc: database space exceeded";
    /// There is no such lease.
    LeaseNotFound: NotFound, Never, NotApplied, "etcdserver: requested lease not found";
    /// The lease to grant exists.
    LeaseExist: FailedPrecondition, Never, NotApplied, "etcdserver: lease already exists";
    /// Nobody lives that long.
    LeaseTtlTooLarge: OutOfRange, Never, NotApplied, "etcdserver: too large lease TTL";
    /// The server ended the watch.
    WatchCanceled: Canceled, Later, NotApplied, "etcdserver: watch canceled";
    /// The member to add exists.
    MemberExist: FailedPrecondition, Never, NotApplied, "etcdserver: member ID already exist";
    /// Another member has one of these addresses.
    PeerUrlExist: FailedPrecondition, Never, NotApplied, "etcdserver: Peer URLs already exists";
    /// The change would leave a quorum of members that have never started.
    MemberNotEnoughStarted: FailedPrecondition, Later, NotApplied, "etcdserver: re-configuration failed due to not enough started members";
    /// These are no addresses of a member.
    MemberBadUrls: InvalidArgument, Never, NotApplied, "etcdserver: given member URLs are invalid";
    /// There is no such member, or it was removed.
    MemberNotFound: NotFound, Never, NotApplied, "etcdserver: member not found";
    /// The member to promote votes already.
    MemberNotLearner: FailedPrecondition, Never, NotApplied, "etcdserver: can only promote a learner member";
    /// The learner to promote is too far behind.
    LearnerNotReady: FailedPrecondition, Later, NotApplied, "etcdserver: can only promote a learner member which is in sync with leader";
    /// The cluster has as many learners as it may have.
    TooManyLearners: FailedPrecondition, Never, NotApplied, "etcdserver: too many learner members in cluster";
    /// The caller means another cluster.
    ClusterIdMismatch: FailedPrecondition, Never, NotApplied, "etcdserver: cluster ID mismatch";
    /// The request is larger than a request may be.
    RequestTooLarge: InvalidArgument, Never, NotApplied, "etcdserver: request is too large";
    /// More proposals are in flight than may be.
    TooManyRequests: ResourceExhausted, Later, NotApplied, "etcdserver: too many requests";
    /// Authentication needs a user `root`.
    RootUserNotExist: FailedPrecondition, Never, NotApplied, "etcdserver: root user does not exist";
    /// Authentication needs `root` to have the role `root`.
    RootRoleNotExist: FailedPrecondition, Never, NotApplied, "etcdserver: root user does not have root role";
    /// The user to add exists.
    UserAlreadyExist: FailedPrecondition, Never, NotApplied, "etcdserver: user name already exists";
    /// No user is named.
    UserEmpty: InvalidArgument, Never, NotApplied, "etcdserver: user name is empty";
    /// There is no such user.
    UserNotFound: FailedPrecondition, Never, NotApplied, "etcdserver: user name not found";
    /// The role to add exists.
    RoleAlreadyExist: FailedPrecondition, Never, NotApplied, "etcdserver: role name already exists";
    /// There is no such role.
    RoleNotFound: FailedPrecondition, Never, NotApplied, "etcdserver: role name not found";
    /// No role is named.
    RoleEmpty: InvalidArgument, Never, NotApplied, "etcdserver: role name is empty";
    /// Wrong user or password.
    AuthFailed: InvalidArgument, Never, NotApplied, "etcdserver: authentication failed, invalid user ID or password";
    /// No permission is named.
    PermissionNotGiven: InvalidArgument, Never, NotApplied, "etcdserver: permission not given";
    /// The user may not.
    PermissionDenied: PermissionDenied, Never, NotApplied, "etcdserver: permission denied";
    /// The user does not have the role.
    RoleNotGranted: FailedPrecondition, Never, NotApplied, "etcdserver: role is not granted to the user";
    /// The role does not have the permission.
    PermissionNotGranted: FailedPrecondition, Never, NotApplied, "etcdserver: permission is not granted to the role";
    /// Authentication is off.
    AuthNotEnabled: FailedPrecondition, Never, NotApplied, "etcdserver: authentication is not enabled";
    /// The token is not, or no longer, known.
    InvalidAuthToken: Unauthenticated, Never, NotApplied, "etcdserver: invalid auth token";
    /// `root` cannot be taken away while authentication is on.
    InvalidAuthMgmt: InvalidArgument, Never, NotApplied, "etcdserver: invalid auth management";
    /// The token is older than the last change of users and roles.
    AuthOldRevision: InvalidArgument, Later, NotApplied, "etcdserver: revision of auth store is old";
    /// No leader is known.
    NoLeader: Unavailable, Later, NotApplied, "etcdserver: no leader";
    /// Only a leader can do this.
    NotLeader: FailedPrecondition, Later, NotApplied, "etcdserver: not leader";
    /// The leader changed while the request was on its way.
    LeaderChanged: Unavailable, Later, Unknown, "etcdserver: leader changed";
    /// The cluster's version does not have this.
    NotCapable: FailedPrecondition, Never, NotApplied, "etcdserver: not capable";
    /// The member stops.
    Stopped: Unavailable, Later, Unknown, "etcdserver: server stopped";
    /// No answer in time.
    Timeout: Unavailable, Later, Unknown, "etcdserver: request timed out";
    /// No answer in time, and a leader was lost meanwhile.
    TimeoutDueToLeaderFail: Unavailable, Later, Unknown, "etcdserver: request timed out, possibly due to previous leader failure";
    /// No answer in time, and peers could not be reached.
    TimeoutDueToConnectionLost: Unavailable, Later, Unknown, "etcdserver: request timed out, possibly due to connection lost";
    /// What a read has to wait for was not applied in time.
    TimeoutWaitAppliedIndex: Unavailable, Later, NotApplied, "etcdserver: request timed out, waiting for the applied index took too long";
    /// Too few members are connected for a change of membership.
    Unhealthy: Unavailable, Later, NotApplied, "etcdserver: unhealthy cluster";
    /// Members disagree about the data.
    Corrupt: DataLoss, Never, NotApplied, "etcdserver: corrupt cluster";
    /// A learner does not answer this.
    NotSupportedForLearner: FailedPrecondition, Later, NotApplied, "etcdserver: rpc not supported for learner";
    /// The member cannot become the leader.
    BadLeaderTransferee: FailedPrecondition, Never, NotApplied, "etcdserver: bad leader transferee";
    /// This is no version.
    WrongDowngradeVersionFormat: InvalidArgument, Never, NotApplied, "etcdserver: wrong downgrade target version format";
    /// The version is not one below.
    InvalidDowngradeTargetVersion: InvalidArgument, Never, NotApplied, "etcdserver: invalid downgrade target version";
    /// The cluster has no version yet.
    ClusterVersionUnavailable: FailedPrecondition, Later, NotApplied, "etcdserver: cluster version not found during downgrade";
    /// A downgrade is going on.
    DowngradeInProcess: FailedPrecondition, Never, NotApplied, "etcdserver: cluster has a downgrade job in progress";
    /// No downgrade is going on.
    NoInflightDowngrade: FailedPrecondition, Never, NotApplied, "etcdserver: no inflight downgrade job";
    /// The caller gave up.
    Canceled: Canceled, Never, Unknown, "etcdserver: request canceled";
    /// The caller's time is over.
    DeadlineExceeded: DeadlineExceeded, Later, Unknown, "etcdserver: context deadline exceeded";
    /// A streamed range with an order of its own.
    StreamSort: Unimplemented, Never, NotApplied, "RangeStream does not support custom sort orders";
    /// A streamed range with filters.
    StreamFilter: Unimplemented, Never, NotApplied, "RangeStream does not support revision filters";
    /// The range that is named does not live on this member.
    RangeNotHere: NotFound, Never, NotApplied, "quorate: this member hosts no such range";
    /// Members pass on answers up to a length. The request may be done.
    AnswerTooLong: ResourceExhausted, Never, Unknown, "quorate: the answer is too long to be passed on by the member that leads: ask that one, or for fewer keys";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_distinct_and_63_are_of_etcds_table() {
        let mut texts: Vec<String> = Error::TABLE.iter().map(ToString::to_string).collect();
        let of_etcd = texts.iter().filter(|text| text.starts_with("etcdserver: ")).count();
        assert_eq!(of_etcd, 63);
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), Error::TABLE.len());
    }

    #[test]
    fn an_unknown_effect_is_never_an_invalid_request() {
        for error in Error::TABLE {
            if error.effect() == Effect::Unknown {
                let passing = [
                    Code::Unavailable,
                    Code::Canceled,
                    Code::DeadlineExceeded,
                    Code::ResourceExhausted,
                ];
                assert!(passing.contains(&error.code()), "{error:?}");
            }
            if error.code() == Code::InvalidArgument && error != &Error::AuthOldRevision {
                assert_eq!(error.retry(), Retry::Never, "{error:?}");
            }
        }
    }

    #[test]
    fn codes_have_their_number_on_the_wire() {
        assert_eq!(Error::EmptyKey.code() as u8, 3);
        assert_eq!(Error::Compacted.code() as u8, 11);
        assert_eq!(Error::Corrupt.code() as u8, 15);
        assert_eq!(Error::InvalidAuthToken.code() as u8, 16);
    }
}
