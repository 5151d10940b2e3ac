//! The runtime of a member: threads, peer transport, the deterministic core.
