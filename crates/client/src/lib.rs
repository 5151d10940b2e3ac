//! The Rust client: finds the leader, retries only what is safe.
//!
//! # What it promises
//!
//! - A read is retried on another endpoint until its deadline: reading twice harms nobody.
//! - A write is retried only when it is *proven* that the first attempt changed nothing: the
//!   connection could not be made, the request never left this process, or the server answered
//!   with an error that it gives before proposing. Everything else is [`Error::Unknown`], a type
//!   of its own, because "it failed" and "I do not know" ask for different code in the caller.
//! - A watch reconnects by revision: no event is missing and none is delivered twice, whatever
//!   member the stream runs over ([`watch`]).
//! - A lease that is kept alive says when it may have ended, counted from the moment the last
//!   acknowledged renewal was *sent* ([`lease`]).
//!
//! # How it is built
//!
//! gRPC over HTTP/2 is five bytes of framing and a trailer, so [`grpc`] speaks it on `hyper`
//! directly. That is less code in the path of a request than a general stack, and it knows
//! something that a general stack hides and that the second promise needs: whether a request that
//! failed had been handed to the connection or not.
//!
//! [`Client`] is a handle: cheap to clone, safe to share, one HTTP/2 connection to each endpoint
//! it has had reason to talk to, all requests multiplexed over it. It must be used inside a tokio
//! runtime, of either flavour; a single thread is enough for 50,000 requests a second.
//!
//! # Caveats
//!
//! - Plain HTTP/2 only: an `https://` endpoint is refused when the configuration is read.
//! - Deadlines are enforced here and announced to the server (`grpc-timeout`), but a server may go
//!   on with a write whose client has given up. This is why such a write is *unknown*.
//! - `RESOURCE_EXHAUSTED: database space exceeded` counts as unknown for a put: etcd checks its
//!   quota a second time while applying, and then answers with the error although the put has
//!   been applied (etcd's `quotaApplierV3`).

pub mod cluster;
pub mod config;
pub mod election;
pub mod error;
pub mod grpc;
pub mod kv;
pub mod lease;
pub mod lock;
pub mod maintenance;
mod pool;
pub mod watch;

pub use config::{Config, ConfigError, Endpoint, Prefer};
pub use error::{Code, Effect, Error, Reason};
pub use kv::{Delete, Get, Put, Txn};
pub use pool::Client;
pub use watch::{Batch, Watch, WatchError, Watcher};

/// What a client call gives: the server's own message, or an [`Error`] that says what is known.
pub type Result<T> = std::result::Result<T, Error>;
