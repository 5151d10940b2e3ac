//! The adversary of Fischer, Lynch and Paterson (*Impossibility of Distributed Consensus with One Faulty
//! Process*, JACM 1985), as a program.
//!
#![doc = include_str!("essay.md")]

mod adversary;
mod certificate;
mod configuration;
mod wait_for_all;
mod witness;

pub use adversary::{Adversary, Bounds, Ending};
pub use certificate::{Certificate, Fault, Stage, Verified, verify};
pub use configuration::{Configuration, Step, Subject};
pub use wait_for_all::{Bit, Everyone, WaitForAll};
pub use witness::{decides_without, fair, witnesses};
