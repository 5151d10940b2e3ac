//! Kafka's two ways to replicate a log: in-sync replicas for its partitions, and a Raft that pulls for its metadata.

pub mod isr;
pub mod kraft;
mod lineage;
mod log;

pub use log::{Content, Epoch, EpochEnd, Log, Record};
