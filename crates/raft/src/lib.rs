//! The Raft consensus core: sans-io, deterministic, asynchronous storage.
//!
//! A group of replicas agrees on one log; each applies it, in order, to a state machine of its
//! own, and so all go through the same states. This crate is what is hard about that and nothing
//! else: no socket, no file, no clock, no thread, no random source but a seed. One [`Raft`] is one
//! replica of one group. Whoever drives it feeds it what happened and carries out what it asks for:
//!
//! ```text
//!                 step(now, Input)            ready() -> Ready
//!   timer     --> Timeout              +------+   persist   --> log: write, sync, release `then`
//!   transport --> Receive(message)     |      |   messages  --> transport
//!   log       --> LogWritten, Fetched  | Raft |   committed --> state machine
//!   machine   --> Applied, Truncate    |      |   reads     --> whoever asked
//!   client    --> propose(), ReadIndex +------+   fetch, snapshots, events
//! ```
//!
//! After any number of inputs the driver calls [`Raft::ready`] until it returns `None`, and
//! [`Raft::next_deadline`] for when to step [`Input::Timeout`]. `examples/replicated_map.rs` is
//! a whole driver.
//!
//! # What is in it
//!
//! Elections with pre-vote and check-quorum; replication that is batched (one append to a peer
//! for all proposals between two calls of `ready`), pipelined and bounded by a window; hints by
//! term that skip a whole run of conflicting entries; snapshots; membership changes one by one
//! or through joint consensus, with learners; transfer of leadership; batched linearizable reads
//! without writing; followers that stand by a leader without heartbeats, and a lease by that; bounds on all that queues, each with a name in [`Config`].
//!
//! # Rules that the rest builds on
//!
//! *What must not leave before a write is durable is carried inside that write*
//! ([`Persist::then`]): votes, requests for votes, acknowledgements. Sending early cannot be
//! expressed. Several writes may be under way; a leader's appends leave in parallel with its own
//! write, and it may commit and apply before its own disk has the entry, if a quorum has.
//!
//! *Messages from peers are validated, never asserted.* What makes no sense is dropped. What
//! makes sense and proves that safety is broken (two leaders in a term, a committed entry
//! contradicted) stops the replica with a [`Stopped`]. The driver's own inputs are asserted.
//!
//! *Commit indexes are told as positions*, index and term. A replica whose log holds the position
//! may believe it from anyone: it cannot commit an entry that it does not share.
//!
//! *Proposals are not forwarded.* A replica that does not lead refuses ([`Refused`]) and names the
//! leader if it knows one. An accepted proposal is bound to the term it was accepted in.
//!
//! # Caveats
//!
//! - Membership takes effect with the *delivery* of a committed change, not with its append as in
//!   the paper. `raft/membership.rs` says why that is safe, and what it leans on: the commit index
//!   is stored in the same write as the entries it came with.
//! - A replica that has left the group may still be needed: members that do not know of its
//!   leaving count it. Keep it running until all members have applied the change.
//! - [`Restored::applied`] must not lie beyond the durable log: a driver whose state engine may
//!   overtake its log waits for [`Raft::durable`] before it checkpoints.
//! - Reads are confirmed by a quorum, and nothing here depends on clocks for safety: timeouts only
//!   decide when something is tried. Unless the driver asks for the range lease ([`Raft::lease`]):
//!   that is as good as the support between stores that the driver tells of.
//! - An id must not be reused lightly, see [`ReplicaId`].
//!
//! # Sources
//!
//! D. Ongaro and J. Ousterhout, *In Search of an Understandable Consensus Algorithm (extended
//! version)*, 2014, quoted as "Raft §"; D. Ongaro, *Consensus: Bridging Theory and Practice*,
//! 2014, quoted as "thesis §". Names of messages and states follow them. Progress states, the
//! `ConfChangeV2` semantics and the idea of messages that wait for storage are those of
//! etcd-io/raft.

mod config;
mod error;
mod log;
mod membership;
mod mutants;
mod pcg;
mod progress;
mod raft;
mod types;
mod writes;

pub use config::Config;
pub use error::{MembershipRefused, Refused, RestoreError, Stopped};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use raft::{PeerFlow, PeerStatus, Proposed, Raft};
pub use types::*;
