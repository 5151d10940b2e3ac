//! What the door holds of a member.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use etcd::{Error, Request, Response, Route};
use mvcc::engine::Engine as _;
use mvcc::{Commit, Reader, View};
use prometheus_client::registry::Registry;
use store::{NodeId, RangeId};
use tokio::sync::{mpsc, oneshot};

use crate::Engine;
use crate::core::Standing;
use crate::metrics::Metrics;
use crate::runtime::{Event, Inbox, Limit};

/// Commits that may wait for one subscriber; one that has not taken them by then is cut off.
pub const FEED_COMMITS_MAX: usize = 8192;

/// What all threads of a node share.
pub(crate) struct Shared {
    pub(crate) cluster_id: u64,
    pub(crate) node: NodeId,
    pub(crate) limits: etcd::Limits,
    pub(crate) election_timeout: Duration,
    pub(crate) reader: ArcSwap<Reader>,
    pub(crate) engine: ArcSwap<Engine>,
    pub(crate) standing: ArcSwap<Standing>,
    pub(crate) feeds: Mutex<Vec<mpsc::Sender<Arc<Commit>>>>,
    pub(crate) in_flight: Arc<Limit>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    /// Hands what was applied to those who watch. One that does not keep up is let go.
    pub(crate) fn publish(&self, commits: &[Arc<Commit>]) {
        if commits.is_empty() {
            return;
        }
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.retain(|feed| commits.iter().all(|commit| feed.try_send(Arc::clone(commit)).is_ok()));
    }

    /// The state was replaced: those who watch have to look at it anew.
    pub(crate) fn cut_feeds(&self) {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A member, as its door sees it. Cheap to clone, usable from any thread and any runtime.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: Inbox,
}

impl Handle {
    /// The cluster.
    #[must_use]
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster_id
    }

    /// The member.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        self.shared.node.0
    }

    /// The limits of requests.
    #[must_use]
    pub fn limits(&self) -> &etcd::Limits {
        &self.shared.limits
    }

    /// How long a silent leader is waited for, at least.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        self.shared.election_timeout
    }

    /// Has the request done, wherever the leader is. When this returns, its effect is applied
    /// here: a view taken afterwards contains it.
    ///
    /// # Errors
    /// The request's, or why it could not be done. [`Error::effect`] tells whether it may have
    /// been done all the same.
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        match request.route() {
            Route::Leader => self.ask(|reply| Event::Client(request, reply)).await,
            Route::ReadPoint => {
                let view = self.read_point().await?;
                etcd::read(&view, &request, &self.shared.limits)
            }
            Route::Here => etcd::read(&self.view(), &request, &self.shared.limits),
        }
    }

    /// Has the request done in a range beside the dense one, wherever its leader is. Reads are
    /// evaluated by the leader, too. Revisions in the answer are the range's own.
    ///
    /// # Errors
    /// As [`Handle::execute`]; [`Error::RangeNotHere`] if this member hosts no such range.
    pub async fn execute_in(&self, range: RangeId, request: Request) -> Result<Response, Error> {
        self.ask(|reply| Event::ClientOf(range, request, reply)).await
    }

    /// A view that contains everything acknowledged, by any member, before this was called.
    ///
    /// # Errors
    /// If no leader could be confirmed in time.
    pub async fn read_point(&self) -> Result<View, Error> {
        self.ask(Event::ReadPoint).await?;
        Ok(self.view())
    }

    /// This member's state as it is, which may be behind.
    #[must_use]
    pub fn view(&self) -> View {
        self.shared.reader.load().view()
    }

    /// Where this member stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        **self.shared.standing.load()
    }

    /// Bytes of the state on disk, and of those the bytes in use.
    ///
    /// # Errors
    /// If the file cannot be asked.
    pub fn state_bytes(&self) -> Result<(u64, u64), Error> {
        self.shared.engine.load().size_bytes().map_err(|error| Error::Storage(error.to_string()))
    }

    /// Everything applied from now on: the view taken after this returned, and the commits that
    /// are newer than it, leave no gap. The feed ends if it is not taken in time
    /// ([`FEED_COMMITS_MAX`]) or if the state was replaced by a snapshot: subscribe again then,
    /// and read what was missed.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::Receiver<Arc<Commit>> {
        let (sender, receiver) = mpsc::channel(FEED_COMMITS_MAX);
        self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Makes `to` the leader. Only the leader can.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::BadLeaderTransferee`], or a timeout.
    pub async fn move_leader(&self, to: u64) -> Result<(), Error> {
        self.ask(|reply| Event::MoveLeader(NodeId(to), reply)).await.map(drop)
    }

    /// Writes what is in memory to the state engine and gives unused space back to the file
    /// system. Neither readers nor writers wait for it.
    ///
    /// # Errors
    /// If the state engine cannot do it, or has no room for what is in memory.
    pub async fn defragment(&self) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.inbox.send(Event::Checkpoint(reply));
        done.await.unwrap_or(Err(Error::Stopped))?;
        let engine = self.shared.engine.load_full();
        let shrunk = tokio::task::spawn_blocking(move || engine.shrink());
        match shrunk.await {
            Ok(result) => result.map_err(|error| Error::Storage(error.to_string()))?,
            Err(_) => return Err(Error::Stopped),
        }
        self.inbox.send(Event::Reload);
        Ok(())
    }

    /// Makes the node's metrics known.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.metrics.register(registry);
    }

    async fn ask<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Event,
    ) -> Result<T, Error> {
        let Some(_permit) = self.shared.in_flight.acquire() else {
            return Err(Error::TooManyRequests);
        };
        let (reply, answer) = oneshot::channel();
        self.inbox.send(event(reply));
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}
