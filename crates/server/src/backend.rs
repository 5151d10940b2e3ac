//! What the door needs of the member behind it.
//!
//! The door decides nothing about data: it decodes, bounds, asks here, and encodes. The member
//! is a `node::Handle`; tests put a state machine without a log behind the same trait.

use std::sync::Arc;

use etcd::{Error, Request, Response};
use mvcc::{Commit, View};
use node::RangeId;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

/// Where the member stands, as of now. Asked for on every call: it must be cheap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// Its Raft term.
    pub term: u64,
    /// The member it takes for the leader.
    pub leader: Option<u64>,
    /// It has no vote.
    pub is_learner: bool,
}

/// What the member says of itself to operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Version of the API served.
    pub version: String,
    /// Version all members serve; `None` while it is not known.
    pub cluster_version: Option<String>,
    /// Version of what is stored; `None` while it is not known.
    pub storage_version: Option<String>,
    /// Newest log index known to be committed.
    pub committed: u64,
    /// Newest log index applied.
    pub applied: u64,
    /// Bytes of the state on disk.
    pub db_size_bytes: u64,
    /// Bytes of those in use.
    pub db_in_use_bytes: u64,
    /// Bytes the state may grow to; `None` for no quota.
    pub quota_bytes: Option<u64>,
}

/// Commits in the order they are applied on this member.
pub type Feed = mpsc::Receiver<Arc<Commit>>;

/// The member behind the door.
pub trait Backend: Clone + Send + 'static {
    /// Has the request done, wherever the leader is, and waits for its effect to be applied
    /// here, so that a view taken afterwards contains it.
    fn execute(&self, request: Request) -> impl Future<Output = Result<Response, Error>>;

    /// The same of one of the ranges beside the one that holds all keys; reads, too.
    fn execute_in(
        &self,
        range: RangeId,
        request: Request,
    ) -> impl Future<Output = Result<Response, Error>>;

    /// A view that contains everything acknowledged before this was called.
    fn read_point(&self) -> impl Future<Output = Result<View, Error>>;

    /// The view of this moment, which may be behind.
    fn view(&self) -> View;

    /// Where the member stands.
    fn standing(&self) -> Standing;

    /// What the member says of itself.
    fn status(&self) -> MemberStatus;

    /// Everything applied from now on: the view taken after this returned, and the commits of
    /// the feed that are newer, leave no gap. A subscriber that does not keep up is cut off (its
    /// feed ends) rather than waited for; it subscribes again and reads what it missed.
    fn subscribe(&self) -> Feed;

    /// Makes `target` the leader.
    fn move_leader(&self, target: u64) -> impl Future<Output = Result<(), Error>>;

    /// Gives unused space back to the file system.
    fn defragment(&self) -> impl Future<Output = Result<(), Error>>;

    /// Metrics of what is behind the door, registered once.
    fn register_metrics(&self, registry: &mut Registry) {
        let _ = registry;
    }
}
