//! KV, Txn, Lease, Watch and Cluster of etcd as one deterministic state machine.
