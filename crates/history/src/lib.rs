//! Recorded histories of an etcd-like store, and their checkers.
//!
//! Whoever tests a store writes down what clients asked and when, what they were told and when, what watchers saw,
//! and which commits the store made. Whether all of that can be true of one strictly serializable store is decided
//! here, by nothing but the record: this crate knows no line of the code under test. It has a small model of etcd's
//! semantics of its own, written from the contract, so that one mistake is not made twice.
//!
//! ```text
//!     Operation*   what clients asked and were told  --.
//!     Watch*       what watchers asked and were told --+--> replay::check   every rule of the contract,
//!     Commits      revision -> events                --'                    in n log n
//!
//!     Operation*   of one key, or of anything        -----> linear::check   linearizability alone,
//!                  that has a linear::Model                                 without believing any revision
//! ```
//!
//! - [`record`]: the types. An outcome has three sorts: answered, definitely without effect, and *unknown*. What
//!   timed out is unknown for ever, never failed.
//! - [`replay`]: etcd numbers its commits, so the order that must explain everything is known, and no search is
//!   needed: the model walks it once, and every answer must be the model's at its revision.
//! - [`linear`]: the search of Wing & Gong with Lowe's and Porcupine's improvements, for small histories of any
//!   model; and [`linear::keys`], which cuts a big history into small ones, key by key.
//! - [`model`]: the semantics.
//!
//! # Promises of the recorder
//!
//! - Times are one clock's: virtual in a simulation, monotonic of one machine otherwise. `invoked` is taken before
//!   the request leaves, `returned` after the answer has come.
//! - Every value put is new: no other operation of the history carries it. (Checked: [`replay::Rule::ValueReused`].)
//! - `Failed` only for what an answer says had no effect; everything else without an answer is `Unknown`.
//! - The commits are complete from the first to the last.
//!
//! # Caveats
//!
//! - The replay trusts the list of commits to be the store's. A store that shows a wrong list consistently to
//!   everyone, and answers accordingly, has a consistent history: that is what strict serializability means.
//! - A lease can end without a commit, when it has no keys. Nothing of that is seen here.
//! - Not recorded, and so not checked: authentication, membership, sort orders, filters by revision.
//!
//! Sources: Herlihy & Wing 1990 (the condition), Wing & Gong 1993 and Lowe 2017 (the search), Porcupine (partitions,
//! and labelled histories that the search is tried on), the etcd API's documented guarantees (the rules).

pub mod linear;
pub mod model;
pub mod record;
pub mod replay;
