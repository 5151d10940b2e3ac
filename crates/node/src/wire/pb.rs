//! The shapes on the wire. Field numbers are for ever; a new field is optional.

use bytes::Bytes;

/// One frame on a peer connection.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Frame {
    /// Consensus messages, of any number of groups.
    #[prost(message, repeated, tag = "1")]
    pub(crate) messages: Vec<GroupMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) forwards: Vec<Forward>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) forward_replies: Vec<ForwardReply>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) read_points: Vec<ReadPoint>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) read_point_replies: Vec<ReadPointReply>,
    /// Between the two stores.
    #[prost(message, repeated, tag = "6")]
    pub(crate) liveness: Vec<Liveness>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Liveness {
    #[prost(oneof = "LivenessBody", tags = "1, 2, 3")]
    pub(crate) body: Option<LivenessBody>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(crate) enum LivenessBody {
    #[prost(message, tag = "1")]
    Heartbeat(Asked),
    #[prost(message, tag = "2")]
    Support(Asked),
    /// The least epoch under which support may be given.
    #[prost(uint64, tag = "3")]
    Refusal(u64),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Asked {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// On the clock of the one who asks.
    #[prost(uint64, tag = "2")]
    pub(crate) stamp_ns: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) duration_ns: u64,
}

/// A client's request, passed on to the leader.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Forward {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) request: Bytes,
    /// Of which range; absent for the dense one.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) range: Option<u64>,
}

/// What came of it: exactly one of `response` and `error`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ForwardReply {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) response: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub(crate) error: Option<RemoteError>,
    #[prost(uint32, tag = "4")]
    pub(crate) kind: u32,
    /// Wait until this is applied before the answer is given, so that the client's next
    /// serializable read here sees what it was told.
    #[prost(uint64, tag = "5")]
    pub(crate) applied: u64,
    /// Of which range; absent for the dense one.
    #[prost(uint64, optional, tag = "6")]
    pub(crate) range: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RemoteError {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// "From which index on may I serve a linearizable read?"
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ReadPoint {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
}

/// The index; absent if this node cannot tell (any more).
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ReadPointReply {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, optional, tag = "2")]
    pub(crate) index: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupMessage {
    #[prost(uint64, tag = "1")]
    pub(crate) range: u64,
    #[prost(fixed64, tag = "2")]
    pub(crate) from: u64,
    #[prost(fixed64, tag = "3")]
    pub(crate) to: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) term: u64,
    #[prost(
        oneof = "Body",
        tags = "5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22"
    )]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "5")]
    PreVote(PreVote),
    #[prost(message, tag = "6")]
    PreVoteResponse(PreVoteResponse),
    #[prost(message, tag = "7")]
    Vote(Vote),
    #[prost(message, tag = "8")]
    VoteResponse(VoteResponse),
    #[prost(message, tag = "9")]
    Append(Append),
    #[prost(message, tag = "10")]
    AppendAccepted(AppendAccepted),
    #[prost(message, tag = "11")]
    AppendRejected(AppendRejected),
    #[prost(message, tag = "12")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "13")]
    HeartbeatResponse(HeartbeatResponse),
    #[prost(message, tag = "14")]
    Commit(Commit),
    #[prost(message, tag = "15")]
    InstallSnapshot(InstallSnapshot),
    #[prost(message, tag = "16")]
    TimeoutNow(Nothing),
    #[prost(message, tag = "17")]
    StaleTerm(Nothing),
    #[prost(message, tag = "18")]
    Fortify(Nothing),
    #[prost(message, tag = "19")]
    Fortified(Fortified),
    #[prost(message, tag = "20")]
    Counted(Counted),
    #[prost(message, tag = "21")]
    Release(Nothing),
    #[prost(message, tag = "22")]
    Released(Nothing),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Fortified {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Counted {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) commit: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Position {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) term: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PreVote {
    #[prost(uint64, tag = "1")]
    pub(crate) campaign_term: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) last: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct PreVoteResponse {
    #[prost(uint64, tag = "1")]
    pub(crate) campaign_term: u64,
    #[prost(bool, tag = "2")]
    pub(crate) granted: bool,
    #[prost(message, optional, tag = "3")]
    pub(crate) commit: Option<Position>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Vote {
    #[prost(message, optional, tag = "1")]
    pub(crate) last: Option<Position>,
    #[prost(bool, tag = "2")]
    pub(crate) transfer: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct VoteResponse {
    #[prost(bool, tag = "1")]
    pub(crate) granted: bool,
    #[prost(message, optional, tag = "2")]
    pub(crate) commit: Option<Position>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) prev: Option<Position>,
    /// Consecutive from `prev.index + 1`: an entry does not repeat its index.
    #[prost(message, repeated, tag = "3")]
    pub(crate) entries: Vec<Entry>,
    #[prost(uint64, tag = "4")]
    pub(crate) commit: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(uint64, tag = "1")]
    pub(crate) term: u64,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) data: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub(crate) membership: Option<MembershipChange>,
    /// It is empty on purpose. Without, an entry with neither is of a kind that this version does not know.
    #[prost(bool, tag = "4")]
    pub(crate) empty: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembershipChange {
    #[prost(uint32, tag = "1")]
    pub(crate) transition: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) steps: Vec<MembershipStep>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) context: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct MembershipStep {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(fixed64, tag = "2")]
    pub(crate) replica: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Membership {
    #[prost(fixed64, repeated, tag = "1")]
    pub(crate) voters: Vec<u64>,
    #[prost(fixed64, repeated, tag = "2")]
    pub(crate) voters_outgoing: Vec<u64>,
    #[prost(fixed64, repeated, tag = "3")]
    pub(crate) learners: Vec<u64>,
    #[prost(fixed64, repeated, tag = "4")]
    pub(crate) learners_next: Vec<u64>,
    #[prost(bool, tag = "5")]
    pub(crate) auto_leave: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct AppendAccepted {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) matched: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendRejected {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) rejected: u64,
    #[prost(message, optional, tag = "3")]
    pub(crate) hint: Option<Position>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Heartbeat {
    #[prost(message, optional, tag = "1")]
    pub(crate) commit: Option<Position>,
    #[prost(uint64, tag = "2")]
    pub(crate) round: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct HeartbeatResponse {
    #[prost(uint64, tag = "1")]
    pub(crate) round: u64,
    /// What its sender knows to be committed; 0 if it is of a version that does not tell.
    #[prost(uint64, tag = "2")]
    pub(crate) commit: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Commit {
    #[prost(message, optional, tag = "1")]
    pub(crate) commit: Option<Position>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct InstallSnapshot {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) position: Option<Position>,
    #[prost(message, optional, tag = "3")]
    pub(crate) membership: Option<Membership>,
}

/// The ranges beside the dense one, as they are founded. Not on the wire, but on disk.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ranges {
    #[prost(uint64, tag = "1")]
    pub(crate) count: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) membership: Option<Membership>,
}
