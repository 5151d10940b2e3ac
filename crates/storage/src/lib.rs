//! The shared log and the state engine.
