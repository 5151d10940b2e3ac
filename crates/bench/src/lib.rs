//! Load generation and measurement against any etcd endpoint.
