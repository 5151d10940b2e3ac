//! A connection seen by a client that may be rude.
//!
//! - `client`: writes frames, and reads ours
//! - `rules`: each way to misbehave, and what answers it
//! - `random`: cut streams, random bytes, and a model of flow control; and the broken lines that
//!   it must notice

mod client;
mod random;
mod rules;
