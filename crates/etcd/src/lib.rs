//! KV, Txn, Lease, Watch and Cluster of etcd as one deterministic state machine.
//!
//! A request becomes effects on the leader, effects become state on every member, and commits
//! become answers to watchers. Nothing here knows of a log, a network, a clock or a thread.
//!
//! ```text
//!     Request --- Machine::evaluate ---> effects ---> (the log) ---> Machine::apply ---> commits
//!                       |                                                                  |
//!                       '--> answer                                        watch::Hub <----'
//!     Request --- read(view) ---> answer, on any thread
//!     Request --- RangeStream(view) ---> answer in parts
//! ```
//!
//! # Where things are
//!
//! - [`Machine`]: who may call what when; its module has the rules.
//! - [`Request`], [`Response`], [`Error`]: the calls, and every error a client can see with its
//!   code, its exact text, whether a retry helps and whether the effect is known.
//! - [`Request::route`] says who may answer a request, [`read()`] answers those that need no
//!   leader.
//! - `check`, `draft`, `range`, `txn`, `lease`, `member`, `alarm`, `quota`: evaluation, by
//!   concept. A `draft` is the state as one request sees it: the applied state, the proposals in
//!   flight (`overlay`), its own writes.
//! - [`Long`]: what takes so long that it is done in a thread of its own, evaluating and applying.
//! - `effects`: what goes into the log. `meta`: what the state holds beside the users' keys.
//! - [`watch`]: who is told what. [`restore`]: the rows of a state that comes from elsewhere.
//!
//! # Invariants
//!
//! - The revision of a proposal is the last one in flight plus one; one proposal, one revision;
//!   none for what changes no key.
//! - What the leader evaluates with k proposals in flight is what it would evaluate after they
//!   are applied. A proposal that is taken back, or lost with the leadership, leaves no trace.
//! - Members that have applied the same entries have the same state, to the byte.
//! - An entry whose effects were evaluated in another term than it was appended in does nothing.
//! - No lease ends before the time that was last promised to its client.
//!
//! # Where this differs from etcd, and from which
//!
//! The contract is that of etcd 3.7. Against 3.5.1 there are two differences that a client can
//! see: `keys_only` leaves out the lease (3.5.1 sends it), and of several faults in the
//! operations of a transaction the first in their order is told (3.5.1 looks at all puts first).
//! Against 3.7 there are these:
//!
//! - A put that keeps the value or the lease of a key that the same transaction has just deleted
//!   finds them empty. etcd panics.
//! - Of a key that one transaction puts and deletes again, watchers are told the deletion alone,
//!   and nothing if there was no such key before. etcd tells both.
//! - Keys that compare equal in a sort come in key order; etcd's order of more than a dozen of
//!   them is an accident.
//! - A streamed range refuses a sort target even with the order NONE. etcd sorts each part.
//! - Authentication is off and cannot be switched on yet; the rows for it have their place.
//!
//! # Caveats
//!
//! - A request's answer is built before its entry is committed. Whoever drives the machine must
//!   hold it back until then, and drop it if the entry is lost.
//! - A compaction's `physical` flag is not looked at: what is compacted cannot be read from then
//!   on, and neither hash covers it, whether the bytes are gone or not.
//!
//! Sources: etcd-io/etcd `server/etcdserver` (3.5.1 and 3.7.3) and the answers of both to the
//! same 100,000 random requests.

#[cfg(test)]
extern crate self as etcd;

mod alarm;
mod check;
mod draft;
mod effects;
mod error;
mod evaluate;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod limits;
mod long;
mod machine;
mod member;
mod meta;
mod mutant;
mod overlay;
mod quota;
mod range;
mod read;
mod request;
pub mod restore;
mod stream;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod txn;
pub mod watch;

pub use effects::MalformedEffects;
pub use error::{Code, Effect, Error, Retry};
pub use evaluate::Evaluated;
pub use lease::leases;
pub use limits::Limits;
pub use long::{Insertion, InsertionDone, Long, LongDone, LongWork};
pub use machine::{Applied, Config, Expired, Machine};
pub use member::{
    ClusterFacts, FoundingMember, MemberChange, cluster_id, member_id, members, parse_urls,
    was_removed,
};
pub use read::{Route, read};
pub use request::{Publish, Request, Response};
pub use stream::RangeStream;
pub use txn::{is_read_only, is_serializable};
