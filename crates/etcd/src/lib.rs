//! KV, Txn, Lease, Watch and Cluster of etcd as one deterministic state machine.

mod alarm;
mod check;
mod draft;
mod effects;
mod error;
mod evaluate;
mod lease;
mod limits;
mod machine;
mod member;
mod meta;
mod overlay;
mod quota;
mod range;
mod read;
mod request;
mod stream;
mod txn;
pub mod watch;

pub use effects::MalformedEffects;
pub use error::{Code, Effect, Error, Retry};
pub use evaluate::Evaluated;
pub use lease::leases;
pub use limits::Limits;
pub use machine::{Applied, Config, Machine};
pub use member::{
    ClusterFacts, FoundingMember, MemberChange, cluster_id, member_id, members, parse_urls,
    was_removed,
};
pub use read::{Route, read};
pub use request::{Publish, Request, Response};
pub use stream::RangeStream;
pub use txn::{is_read_only, is_serializable};
