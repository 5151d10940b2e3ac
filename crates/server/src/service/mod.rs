//! The services, as far as they are more than a request to the state machine.

pub(crate) mod ask;
pub(crate) mod auth;
pub(crate) mod election;
pub(crate) mod health;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
pub(crate) mod range_stream;
mod session;
pub(crate) mod watch;
