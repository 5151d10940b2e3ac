//! What the driver puts in and what it gets out.

use super::entry::Entry;
use super::ids::{Epoch, LogIndex, LogPosition, ReplicaId, Session, Term};
use super::membership::Membership;
use super::message::{Message, SnapshotMeta};
use crate::error::Refused;

/// A replica's promise to stand by the leader of its term: it votes for nobody else and does not
/// campaign, until its store has withdrawn the support of that epoch from the leader's store, or
/// the leader has ended its leadership. It binds in the term it was given in, and in no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The leader of the term.
    pub leader: ReplicaId,
    /// Under which this replica's store supports the leader's.
    pub epoch: Epoch,
}

/// What must survive a crash besides the log (Raft, figure 2). Term, vote and binding are one
/// record: storing them apart loses votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The latest term the replica has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<ReplicaId>,
    /// What it knew to be committed. A hint: written along with other things, never alone.
    pub commit: LogIndex,
    /// Whom it is bound to in that term.
    pub binding: Option<Binding>,
}

/// What a replica starts from.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// As last persisted.
    pub hard_state: HardState,
    /// The membership as of `applied`, stored by the application with its state.
    pub membership: Membership,
    /// The position before the first entry of the retained log.
    pub truncated: LogPosition,
    /// Where each term begins in the retained log: (first index, term), ascending in both,
    /// the first run beginning at `truncated.index + 1`. Empty for an empty log.
    pub terms: Vec<(LogIndex, Term)>,
    /// The last entry in the log; `truncated.index` for an empty log.
    pub last_index: LogIndex,
    /// The last entry whose effects the application's durable state holds. Delivery of
    /// committed entries resumes after it.
    pub applied: LogIndex,
    /// Recent entries that end with `last_index`, to spare reads of the log; may be empty.
    pub entries: Vec<Entry>,
}

impl Restored {
    /// Where every founding member's log starts: as if a first entry had founded the group.
    /// Since the position is not the origin, a replica that is added later, with an empty log,
    /// is given a snapshot, and the founding membership with it.
    pub const FOUNDED_AT: LogPosition = LogPosition::new(1, 1);

    /// A founding member of a new group. All founding members are given the same membership
    /// and the same application state. The driver persists this (a log reset to
    /// [`Restored::FOUNDED_AT`], the hard state, the membership at applied index 1) before it
    /// starts the replica.
    pub fn founding(membership: Membership) -> Self {
        Self {
            hard_state: HardState {
                term: Self::FOUNDED_AT.term,
                vote: None,
                commit: Self::FOUNDED_AT.index,
                binding: None,
            },
            membership,
            truncated: Self::FOUNDED_AT,
            terms: Vec::new(),
            last_index: Self::FOUNDED_AT.index,
            applied: Self::FOUNDED_AT.index,
            entries: Vec::new(),
        }
    }

    /// A replica that knows nothing yet and waits for a leader to bring it a snapshot.
    pub fn blank() -> Self {
        Self::default()
    }
}

/// Names one write to the log; later writes have greater tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteToken(pub u64);

/// Names one read of the log; never reused in the life of a [`Raft`](crate::Raft).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// Everything that can happen to a replica, besides proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// [`next_deadline`](crate::Raft::next_deadline) has come. Harmless when it has not.
    Timeout,
    /// A message arrived. Foreign data: what makes no sense is ignored, never asserted.
    Receive(Message),
    /// This write, and every earlier one, is durable.
    LogWritten(WriteToken),
    /// The answer to a [`FetchRequest`].
    Fetched {
        /// Of the request.
        id: FetchId,
        /// Entries from `first` on, as many as fit `max_bytes` and at least one; none if they
        /// are no longer in the log.
        entries: Vec<Entry>,
    },
    /// Everything up to here is applied (in memory is enough).
    Applied(LogIndex),
    /// What became of a [`SendSnapshot`].
    SnapshotSent {
        /// Of the request.
        to: ReplicaId,
        /// What became of it.
        outcome: SnapshotOutcome,
    },
    /// Campaign without waiting for the election timeout (PreVote still applies): at once, or as
    /// soon as the membership changes that are known to be committed are delivered. A driver does
    /// this at the start of a sole voter, which has nobody to wait for. Nothing happens on a
    /// leader, and on one that has no vote.
    Campaign,
    /// Hand leadership over (thesis §3.10). See [`Event::TransferEnded`].
    TransferLeadership {
        /// The voter to lead.
        to: ReplicaId,
    },
    /// Confirm that reads may be served at the commit index of now (thesis §6.4). Answered in
    /// [`Ready::reads`] or [`Ready::failed_reads`] under the same number.
    ReadIndex(u64),
    /// The log may be cut up to and including this applied and durable position: forget it.
    /// The driver cuts the stored log itself, before or after.
    Truncate(LogPosition),
    /// The transport could not deliver to this replica: probe it instead of streaming to it.
    PeerUnreachable(ReplicaId),
    /// The answer to [`Event::SupportWanted`]: this replica's store supports the leader's store
    /// under this epoch, durably. If that leader still leads this replica's term, then the replica
    /// binds itself to it.
    Supported {
        /// Of the event.
        term: Term,
        /// Of the event.
        leader: ReplicaId,
        /// The epoch.
        epoch: Epoch,
    },
    /// This replica's store has withdrawn what support it gave to the store of the leader that
    /// this replica is bound to, under this epoch and every earlier one, durably. A replica that
    /// is not bound, or under a later epoch, does nothing.
    SupportWithdrawn {
        /// The epoch.
        epoch: Epoch,
    },
    /// The support of the store of this peer has run out, and so the peer is taken to be gone: a
    /// leader sends it nothing by timer before it is there again, or is heard of.
    PeerAbsent(ReplicaId),
    /// The store of this peer supports this replica's store, under this epoch.
    PeerPresent {
        /// The peer.
        id: ReplicaId,
        /// The epoch.
        epoch: Epoch,
    },
}

/// What became of a snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// Delivered in full; it holds everything up to this index.
    Delivered(LogIndex),
    /// Not delivered. It will be asked for again after the next heartbeat is answered.
    Failed,
}

/// Work for the driver. Parts may be carried out in any order and at the same time, except that
/// writes are made in the order of their tokens, `committed` is applied in order, and a
/// `persist.snapshot` replaces the application's state before any later `committed` is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// A write to the log. Several may be under way at once.
    pub persist: Option<Persist>,
    /// Messages that are free to go.
    pub messages: Vec<Message>,
    /// Committed entries to apply, in order, each exactly once in the life of this replica.
    /// Possibly not durable here yet, only on a quorum elsewhere.
    pub committed: Vec<Entry>,
    /// Confirmed reads.
    pub reads: Vec<ReadReady>,
    /// Reads that were not and will not be confirmed.
    pub failed_reads: Vec<ReadFailed>,
    /// Reads of the stored log, to be answered by [`Input::Fetched`].
    pub fetch: Vec<FetchRequest>,
    /// Snapshots to be streamed.
    pub snapshots: Vec<SendSnapshot>,
    /// What the driver may want to know, in order.
    pub events: Vec<Event>,
}

/// One write to the log: all of it or nothing, after every earlier one. Confirmed by
/// [`Input::LogWritten`].
///
/// It may be a mere barrier, with nothing to write but messages to release after the writes
/// before it; that needs no sync of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its name.
    pub token: WriteToken,
    /// The hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Reset the log to this snapshot's position (drop all entries, start after it) and install
    /// the staged application state. Comes before `entries`.
    pub snapshot: Option<SnapshotMeta>,
    /// Entries to append; the first one's index overwrites whatever the log holds from there on.
    pub entries: Vec<Entry>,
    /// Messages that may leave once the write is durable, not before.
    pub then: Vec<Message>,
}

/// A read that may be served from state applied up to `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadReady {
    /// The number given with [`Input::ReadIndex`].
    pub ctx: u64,
    /// Wait until this index is applied, then read.
    pub index: LogIndex,
}

/// A read that will not be confirmed. It may be retried (under a new number), here or at the
/// leader named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFailed {
    /// The number given with [`Input::ReadIndex`].
    pub ctx: u64,
    /// Why.
    pub reason: Refused,
}

/// Entries that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// To be given back.
    pub id: FetchId,
    /// For a peer that lags, or `None` for delivery to the application.
    pub peer: Option<ReplicaId>,
    /// The first entry wanted.
    pub first: LogIndex,
    /// The last entry wanted, inclusive.
    pub last: LogIndex,
    /// Stop before this many bytes ([`Entry::size_bytes`]) are exceeded, but give at least one.
    pub bytes_max: usize,
}

/// A peer needs more than the log still holds. The driver streams a snapshot of its applied
/// state and accompanies it by
/// `Message { from: self, to, term, body: InstallSnapshot { session, snapshot } }`; then it
/// reports [`Input::SnapshotSent`]. One at a time for each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSnapshot {
    /// Who needs it.
    pub to: ReplicaId,
    /// For the message.
    pub term: Term,
    /// For the message.
    pub session: Session,
    /// The snapshot must include this index.
    pub at_least: LogIndex,
}

/// The role a replica plays, without what it knows in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Follows a leader, or waits for one. Learners stay in this role.
    #[default]
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What the driver may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Role, term or the known leader changed; one event for every change.
    Role {
        /// The role from now on.
        role: RoleKind,
        /// The term from now on.
        term: Term,
        /// The leader of that term, if known.
        leader: Option<ReplicaId>,
    },
    /// An entry of the leader's own term is committed: reads and membership changes are open.
    TermCommitted {
        /// The term.
        term: Term,
    },
    /// A committed membership change took effect with the delivery of the entry at `index`, or
    /// came with a snapshot. To be stored by the application with that applied index.
    Membership {
        /// The entry.
        index: LogIndex,
        /// The membership from there on.
        membership: Membership,
    },
    /// A leadership transfer is over at the replica that led.
    TransferEnded {
        /// Who was to lead.
        to: ReplicaId,
        /// How it ended.
        outcome: TransferOutcome,
    },
    /// A follower that had acknowledged everything up to `acknowledged` says to this leader, its
    /// peer, that it has no such entry: its disk lost what was synced, or was replaced by an older
    /// copy. It cannot be helped by appending, and what it voted for may be lost with it: it is to
    /// be removed, and added again empty under another id. Told once for each peer and leadership.
    ///
    /// An old rejection that a network delivers twice can look like it.
    EntriesLost {
        /// The follower.
        peer: ReplicaId,
        /// The last entry that it acknowledged.
        acknowledged: LogIndex,
    },
    /// The leader of the term asks this replica to bind itself to it. Whether it may is for its
    /// store to say: [`Input::Supported`] if it supports the leader's store, and nothing if not;
    /// the leader asks again.
    SupportWanted {
        /// For the answer.
        term: Term,
        /// The leader.
        leader: ReplicaId,
    },
}

/// How a leadership transfer ended, as far as the old leader can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferOutcome {
    /// This replica no longer leads: a newer term was seen, or, with [`Config::fortify`], the
    /// addressee was told to take over.
    ///
    /// [`Config::fortify`]: crate::Config::fortify
    Yielded,
    /// This replica goes on leading: time ran out, another transfer took its place, or the
    /// addressee is not a voter any more.
    Aborted,
    /// Refused at once: this replica does not lead or the addressee is not another voter.
    Refused,
}
