//! The protocols, each in one module, from its paper and in its paper's words.

pub mod benor;
pub mod generals;
pub mod paxos;
pub mod raft;
