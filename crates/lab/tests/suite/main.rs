//! The lab's tests: the engine's promises, and for each protocol the points that it is there to make.

#![cfg(test)]

mod benor;
mod commit_wait;
mod engine;
mod faults;
mod flp;
mod generals;
mod gossip;
mod isr;
mod kraft;
mod lock;
mod lost;
mod multi_paxos;
mod paxos;
mod pbft;
mod promises;
mod raft;
mod readable;
mod stories;
mod support;
mod tax;
mod tour;
mod traitors;
mod words;
mod zab;
