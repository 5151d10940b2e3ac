//! The door: gRPC, health, metrics.
//!
//! Decodes what clients send, bounds it, asks the member behind the [`Backend`] trait, and
//! encodes the answers. It decides nothing about data.
//!
//! ```text
//! clients ---> acceptor --deals--> door 0   one thread, one runtime each:
//!                          \-----> door 1   connections (link) -> calls (gRPC) -> services
//!                                                                        |
//!                    reads: a View, on the door       writes: Backend::execute
//! ```
//!
//! - [`Server`]: sockets, threads, start and stop
//! - [`Config`]: the settings, each with its limit
//! - [`Backend`]: the member, as the door needs it
//! - `door`: what a thread has; `link`: a connection of HTTP/2 and its calls; `route`: from a path to a service; `grpc`: the protocol;
//!   `service`: the services; `http`: health, version, metrics; `metrics`: what is counted
//!
//! # Architecture invariants
//!
//! - A door shares nothing with another but counters.
//! - What may take long (large reads, snapshots) runs on a thread of its own; whatever waits for
//!   a client waits in a queue with a bound.
//! - No call can end without a status, and no message of a client can make a door panic.
//!
//! # Caveats
//!
//! - No TLS yet, and no authentication.
//! - etcd's JSON gateway (`/v3/...`) is not there yet.

mod backend;
mod call;
mod config;
mod door;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod http;
mod link;
mod listen;
mod member;
mod metrics;
mod process;
mod read_points;
mod route;
mod scratch;
mod server;
mod service;
mod snapshot;
mod watch;

pub use backend::{Backend, Feed, MemberStatus, Standing};
pub use config::{Config, OVERHEAD_BYTES};
pub use listen::ListenError;
pub use member::{API_VERSION, CLUSTER_VERSION};
pub use server::{Server, StartError};
