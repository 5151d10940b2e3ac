//! Reads and writes bbolt database files, the format of an etcd snapshot.
