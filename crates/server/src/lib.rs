//! The door: gRPC, health, metrics.
