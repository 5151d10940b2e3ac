//! A door: one thread, one runtime, the connections dealt to it and the calls on them.
//!
//! Nothing of a door is shared with another, so nothing in it is locked: its tasks hold it by
//! [`Rc`], its watches live in a hub of its own, and what the member applies reaches it through
//! a feed of its own.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mvcc::{Commit, Revision};
use proto::etcdserverpb::ResponseHeader;
use tokio::net::TcpStream;
use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::backend::Backend;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::read_points::ReadPoints;
use crate::route;
use crate::watch::Watches;

/// Commits that a waiting lock or election may be behind before it reads the state again.
const CHANGES_QUEUE_LEN: usize = 1024;

/// HTTP/2 streams that clients may have opened and reset before they are looked at.
const PENDING_RESETS_MAX: usize = 1024;

/// Leaderless election timeouts after which streams that require a leader are ended.
const LEADERLESS_MAX: u32 = 3;

/// What is answered on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything.
    Clients,
    /// gRPC only.
    Grpc,
    /// Plain HTTP only, for clients.
    Http,
    /// Health and metrics only.
    Metrics,
}

/// A connection on its way to a door.
pub(crate) struct Accepted {
    pub(crate) socket: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) purpose: Purpose,
}

/// How many connections a door has, for whoever deals them.
pub(crate) type Load = Arc<AtomicUsize>;

/// The server is to stop.
pub(crate) type Drain = watch::Receiver<bool>;

/// A door, as its tasks see it.
pub(crate) struct Door<B> {
    pub(crate) backend: B,
    pub(crate) config: Arc<Config>,
    pub(crate) metrics: Arc<Metrics>,
    /// What is applied from now on, for those who wait for a key.
    pub(crate) changes: broadcast::Sender<Arc<Commit>>,
    pub(crate) watches: Watches,
    pub(crate) read_points: ReadPoints,
    drain: Drain,
    leaderless: Notify,
    connections: Cell<usize>,
    idle: Notify,
    load: Load,
}

impl<B: Backend> Door<B> {
    pub(crate) fn new(
        backend: B,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
        drain: Drain,
        load: Load,
        seed: u64,
    ) -> Rc<Door<B>> {
        let standing = backend.standing();
        let watch_config = etcd::watch::Config {
            cluster_id: standing.cluster_id,
            member_id: standing.member_id,
            limits: config.watch_limits,
            seed,
        };
        let watches = Watches::new(watch_config, backend.view().revision(), standing.term);
        Rc::new(Door {
            backend,
            config,
            metrics,
            changes: broadcast::Sender::new(CHANGES_QUEUE_LEN),
            watches,
            read_points: ReadPoints::default(),
            drain,
            leaderless: Notify::new(),
            connections: Cell::new(0),
            idle: Notify::new(),
            load,
        })
    }

    /// Serves what comes until the server is to stop, and then what still runs, for as long as
    /// the settings allow.
    pub(crate) async fn run(self: Rc<Self>, mut incoming: mpsc::Receiver<Accepted>) {
        tokio::task::spawn_local(Rc::clone(&self).follow());
        tokio::task::spawn_local(Rc::clone(&self).look_for_leader());
        tokio::task::spawn_local(crate::watch::drive(Rc::clone(&self)));
        loop {
            tokio::select! {
                accepted = incoming.recv() => match accepted {
                    Some(accepted) => self.open(accepted),
                    None => break,
                },
                () = self.draining() => break,
            }
        }
        drop(incoming);
        let idle = async {
            while self.connections.get() > 0 {
                self.idle.notified().await;
            }
        };
        if tokio::time::timeout(self.config.drain_timeout, idle).await.is_err() {
            let connections = self.connections.get();
            tracing::warn!(connections, "calls still running when the time to finish was over");
        }
    }

    /// Waits until the server is to stop.
    pub(crate) async fn draining(&self) {
        // An error means that the server is gone without a word.
        let _ = self.drain.clone().wait_for(|drain| *drain).await;
    }

    /// Waits until streams that require a leader are to end.
    pub(crate) async fn leaderless(&self) {
        self.leaderless.notified().await;
    }

    /// Says in an answer's header who answers.
    pub(crate) fn stamp(&self, header: &mut ResponseHeader) {
        let standing = self.backend.standing();
        header.cluster_id = standing.cluster_id;
        header.member_id = standing.member_id;
        header.raft_term = standing.term;
    }

    /// The header of an answer as of `revision`.
    pub(crate) fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        let mut header = ResponseHeader { revision: revision.0, ..Default::default() };
        self.stamp(&mut header);
        Some(header)
    }

    fn open(self: &Rc<Self>, accepted: Accepted) {
        self.connections.set(self.connections.get() + 1);
        self.metrics.connections.inc();
        let door = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let closing = Closing(Rc::clone(&door));
            let peer = accepted.peer;
            if let Err(error) = door.serve(accepted).await {
                tracing::debug!(%peer, %error, "connection closed");
            }
            drop(closing);
        });
    }

    async fn serve(
        self: Rc<Self>,
        accepted: Accepted,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let Accepted { socket, peer, purpose } = accepted;
        socket.set_nodelay(true)?;
        let io = TokioIo::new(TcpStream::from_std(socket)?);
        let builder = self.protocol();
        let door = Rc::clone(&self);
        let service =
            service_fn(move |request| route::serve(Rc::clone(&door), peer, purpose, request));
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            result = connection.as_mut() => return result,
            () = self.draining() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    fn protocol(&self) -> auto::Builder<LocalExecutor> {
        let config = &self.config;
        let mut builder = auto::Builder::new(LocalExecutor);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(config.header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(config.http2_window_bytes)
            .initial_connection_window_size(config.http2_window_bytes)
            .max_concurrent_streams(config.max_concurrent_streams)
            .max_send_buf_size(config.send_buffer_bytes)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .keep_alive_interval(config.keepalive_interval)
            .keep_alive_timeout(config.keepalive_timeout);
        builder
    }

    /// Passes on what the member applies.
    async fn follow(self: Rc<Self>) {
        loop {
            let mut feed = self.backend.subscribe();
            Watches::missed(&self);
            while let Some(commit) = feed.recv().await {
                Watches::publish(&self, &commit);
                // Nobody may be waiting.
                let _ = self.changes.send(commit);
            }
            if *self.drain.borrow() {
                return;
            }
            tracing::warn!("the feed of changes ended: watches catch up from the state");
            // A member that is gone ends feeds at once: it must not be asked in a circle.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn look_for_leader(self: Rc<Self>) {
        let mut interval = tokio::time::interval(self.config.election_timeout);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leaderless = 0;
        loop {
            interval.tick().await;
            if self.backend.standing().leader.is_some() {
                leaderless = 0;
                continue;
            }
            leaderless += 1;
            if leaderless >= LEADERLESS_MAX {
                self.leaderless.notify_waiters();
            }
        }
    }
}

/// Counts a connection out, however its task ends.
struct Closing<B>(Rc<Door<B>>);

impl<B> Drop for Closing<B> {
    fn drop(&mut self) {
        let door = &self.0;
        door.connections.set(door.connections.get() - 1);
        door.metrics.connections.dec();
        door.load.fetch_sub(1, Ordering::Relaxed);
        if door.connections.get() == 0 {
            door.idle.notify_one();
        }
    }
}

/// Runs hyper's tasks where they are started.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
