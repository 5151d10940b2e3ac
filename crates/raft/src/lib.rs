//! The Raft consensus core: sans-io, deterministic, asynchronous storage.
