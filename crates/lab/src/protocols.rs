//! The protocols, each in one module, from its paper and in its paper's words.

pub mod benor;
pub mod commit_wait;
pub mod generals;
pub mod gossip;
pub mod kafka;
pub mod lock;
pub mod multi_paxos;
pub mod paxos;
pub mod pbft;
pub mod raft;
pub mod zab;
