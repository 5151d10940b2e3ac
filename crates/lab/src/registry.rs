//! Every protocol of the lab. To add one, add its line to [`PROTOCOLS`], and its module to
//! [`crate::protocols`].

use crate::facade::{Of, RunError, Subject};
use crate::protocols;

/// Every protocol, in the order in which they are best read. One line each.
#[rustfmt::skip]
pub static PROTOCOLS: &[&dyn Subject] = &[
    &Of::<protocols::generals::oral::Oral>::new(),
    &Of::<protocols::generals::signed::Signed>::new(),
    &Of::<protocols::pbft::Pbft>::new(),
    &Of::<protocols::paxos::Paxos>::new(),
    &Of::<protocols::multi_paxos::Multi>::new(),
    &protocols::raft::Raft,
    &Of::<protocols::zab::Zab>::new(),
    &Of::<protocols::kafka::isr::Isr>::new(),
    &Of::<protocols::kafka::kraft::KRaft>::new(),
    &Of::<protocols::benor::Observer>::new(),
    &Of::<crate::flp::Everyone>::new(),
    &Of::<protocols::gossip::Gossiping>::new(),
    &Of::<protocols::lock::Lock>::new(),
    &Of::<protocols::commit_wait::CommitWait>::new(),
];

/// The protocol of this name.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> Result<&'static dyn Subject, RunError> {
    let found = PROTOCOLS.iter().find(|subject| subject.about().name == name);
    found.copied().ok_or_else(|| {
        RunError::unknown("protocol", name, PROTOCOLS.iter().map(|one| one.about().name))
    })
}
