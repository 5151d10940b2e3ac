//! The messages of the etcd v3 API.
