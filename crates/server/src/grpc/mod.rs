//! gRPC over HTTP/2, as much of it as a server needs.
//!
//! The protocol is small: a call is a POST whose path names the method; each message is five
//! bytes of prefix and its encoding; the outcome is in the trailers, or in the headers if there
//! is nothing else to say. HTTP/2 itself is the crate `http2`, driven by `link`. What a framework
//! would add between the two (boxed services, extension maps, layers) costs more CPU than the
//! calls this server answers from memory, and hides what etcd's clients look at: exact codes and
//! texts.
//!
//! - [`frame`]: messages out of a request's body, messages into an answer's
//! - [`status`]: codes and texts, and the table of etcd's errors as seen from here
//! - [`metadata`]: the request's headers that mean something
//!
//! Caveats: answers are not compressed (a client that asks for it may still be answered plainly);
//! requests may be gzip.
//!
//! Source: "gRPC over HTTP2" of the gRPC project, and the texts of grpc-go, which etcd is built
//! on, for the faults of the protocol itself.

pub(crate) mod frame;
pub(crate) mod metadata;
pub(crate) mod status;

pub(crate) use frame::{Messages, encode};
pub(crate) use metadata::Metadata;
pub(crate) use status::Status;
