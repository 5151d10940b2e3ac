//! The black box: real processes under real faults, judged by what clients were told.
//!
//! Three to five members run in network namespaces, each on a disk of its own. Clients put, get, list, delete,
//! compare and swap, use leases, compact and watch, at all members. Meanwhile the seed's schedule does to the cluster
//! what [`schedule::Kind`] lists. Then everything is healed: all members must come to one revision with one hash, and
//! the record of all that clients were told must be one that a strictly serializable store can have given.
//!
//! ```text
//!     [m1 ns: 10.77.0.1] --.                       clients, proxies, faults: in the run's own namespace
//!     [m2 ns: 10.77.0.2] ---+-- bridge 10.77.0.200
//!     [m3 ns: 10.77.0.3] --'    proxies 10.77.0.101 ..: all that peers say to each other goes through them
//! ```
//!
//! - [`host`]: namespaces of the run's own, the tools, the helpers in C.
//! - [`net`], [`proxy`], [`volume`], [`member`]: what faults are made of.
//! - [`schedule`], [`faults`], [`operations`]: which, when, and the evidence that each really happened.
//! - [`load`], [`watchers`], [`record`], [`convert`]: the clients and what they write down.
//! - [`judge`]: the verdict.
//!
//! What the seed gives: the steps, their victims and times, the calls. The interleaving is the machine's, so a seed does
//! not replay a failure; the history does, and is kept.
//!
//! # Caveats
//!
//! - Clocks jump, they do not drift: the monotonic clock is the real one.
//! - The power is lost between two writes to the loop device, never inside of one: sectors are not torn. The
//!   simulated disk tears them.
//! - Nothing below TCP is reordered or duplicated for the members to see.

pub mod convert;
pub mod faults;
pub mod field;
pub mod host;
pub mod judge;
pub mod load;
pub mod member;
pub mod net;
pub mod operations;
pub mod proxy;
pub mod record;
pub mod run;
pub mod schedule;
pub mod volume;
pub mod watchers;

pub use run::{Options, run};
