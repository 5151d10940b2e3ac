//! The runtime of a member.

mod config;
pub mod core;
mod transport;
mod wire;

pub use config::{Config, InitialState};
pub use store::NodeId;
