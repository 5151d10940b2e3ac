//! The messages of the etcd v3 API.
//!
//! The `.proto` files in `proto/` state what goes on the wire: names, field numbers and types
//! are etcd's (3.8-alpha), the wording is ours. The Rust in `src/gen` is generated from them and
//! committed, so that a build needs no protocol compiler; a test generates it again and compares
//! (`QUORATE_UPDATE=1 cargo test -p quorate-proto` rewrites it).
//!
//! Modules carry the names of the packages. `bytes` fields are [`bytes::Bytes`]: a decoded
//! request shares the buffer it was read from.
//!
//! [`wire`] has twins of those answers that carry keys and values. Where the message has a
//! `KeyValue`, the twin has its encoding, which is how the store keeps it: a list is answered
//! without decoding anything.
//!
//! [`method`] names the calls. There is no gRPC here: transport belongs to `server` and `client`.

#[expect(clippy::doc_markdown, reason = "generated; the sentences are in the .proto files")]
mod generated {
    /// Keys and events.
    pub mod mvccpb {
        include!("gen/mvccpb.rs");
    }
    /// Users, roles, permissions.
    pub mod authpb {
        include!("gen/authpb.rs");
    }
    /// Requests and answers of etcd's own services.
    pub mod etcdserverpb {
        include!("gen/etcdserverpb.rs");
    }
    /// Requests and answers of the lock service.
    pub mod v3lockpb {
        include!("gen/v3lockpb.rs");
    }
    /// Requests and answers of the election service.
    pub mod v3electionpb {
        include!("gen/v3electionpb.rs");
    }
    /// Requests and answers of gRPC's health service.
    pub mod health {
        include!("gen/grpc.health.v1.rs");
    }
}

pub mod method;
pub mod wire;

pub use generated::{authpb, etcdserverpb, health, mvccpb, v3electionpb, v3lockpb};
