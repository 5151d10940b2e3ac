//! The Rust client: finds the leader, retries only what is safe.
