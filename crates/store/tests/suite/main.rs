//! The tests of the store from outside.
//!
//! - `pairs`: store liveness alone, many stores from a seed: what a store counts on, its supporter
//!   stands by, in true time.
//! - `groups`: many groups on several stores: range leases, waves, rest.
//! - `links`: three stores and one range by the message: links that break one way or both.
//! - `clock`, `dice`, `tally`: what the worlds are made of.

mod clock;
mod dice;
mod groups;
mod links;
mod pairs;
mod tally;
