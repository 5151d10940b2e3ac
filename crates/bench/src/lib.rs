//! Load generation and measurement against any etcd endpoint.
//!
//! # What is measured
//!
//! A *closed loop* has M clients, each of which sends its next request when the last one is
//! answered: it finds the ceiling, and its latencies are those of a system at its limit. An *open
//! loop* sends at a fixed rate whatever the answers do: its latencies are what users would see. A
//! client of an open loop that has fallen behind counts a request's latency from when it *should*
//! have been sent, so a stall is charged to every request that it delayed and not only to the one
//! that met it ("coordinated omission", G. Tene).
//!
//! # How it stays cheap
//!
//! On a small machine the load itself is soon the limit, so everything is done once: keys are
//! written into one buffer, values are slices of one random pool, each load thread has a runtime
//! of its own and one histogram for all of its clients, without locks. [`report::Report`] says
//! how much CPU a request cost *here*; if that is not well below the server's, use more threads.
//!
//! # Caveats
//!
//! - Timers have a resolution of a millisecond. A client that slept counts from when it woke.
//! - The CPU time is that of the whole process, its watchers and its progress bar included.

pub mod load;
pub mod progress;
pub mod report;
pub mod watch;
pub mod workload;

pub use load::{LoadConfig, Until, run};
pub use report::Report;
pub use workload::{Distribution, Keys, Operation};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Preparing failed, or nothing at all succeeded.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// A thread or a runtime could not be made.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
