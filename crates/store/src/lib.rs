//! Many Raft groups on one node: ranges, replicas, batching.
