//! The words of the protocol: plain data, no behaviour beyond checks.

mod entry;
mod ids;
mod io;
mod membership;
mod message;

pub use entry::{Entry, Payload};
pub use ids::{Epoch, GroupId, LogIndex, LogPosition, ReplicaId, Session, Term};
pub use io::{
    Binding, Event, FetchId, FetchRequest, HardState, Input, Persist, ReadFailed, ReadReady, Ready,
    Restored, RoleKind, SendSnapshot, SnapshotOutcome, TransferOutcome, WriteToken,
};
pub use membership::{Membership, MembershipChange, MembershipStep, Transition};
pub use message::{Body, Message, SnapshotMeta};
