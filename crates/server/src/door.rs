//! A door: one thread, one runtime, the connections dealt to it and the calls on them.
//!
//! Nothing of a door is shared with another, so nothing in it is locked: its tasks hold it by
//! [`Rc`], its watches live in a hub of its own, and what the member applies reaches it through
//! a feed of its own.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::ACCEPT;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mvcc::{Commit, Revision};
use proto::etcdserverpb::ResponseHeader;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::config::Config;
use crate::http as pages;
use crate::link::{Driver, Link};
use crate::metrics::Metrics;
use crate::read_points::ReadPoints;
use crate::watch::Watches;

/// Commits that a waiting lock or election may be behind before it reads the state again.
const CHANGES_QUEUE_LEN: usize = 1024;

/// Bytes of one read.
const READ_BYTES: usize = 64 << 10;

/// Bytes after which it is clear which protocol is spoken.
const PROTOCOL_BYTES: usize = 4;

/// How long, and for how many bytes, a client that was told that it is over is listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 1 << 20;

/// A time that is never reached.
const FAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
    /// What is applied from now on, for those who wait for a key. Nothing says that some of it was
    /// missed: it is in the state.
    pub(crate) changes: broadcast::Sender<Option<Arc<Commit>>>,
    pub(crate) watches: Watches,
    pub(crate) read_points: ReadPoints,
    /// What every read of a socket goes into first.
    pub(crate) read_buffer: RefCell<Vec<u8>>,
    http2: Arc<http2::Config>,
    began: Instant,
    drain: Drain,
    /// The connections of HTTP/2 that are open.
    links: RefCell<BTreeMap<u64, Rc<Link>>>,
    links_opened: Cell<u64>,
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
        let http2 = Arc::new(config.http2());
        let watches = Watches::new(watch_config, backend.view().revision(), standing.term);
        Rc::new(Door {
            backend,
            config,
            metrics,
            changes: broadcast::Sender::new(CHANGES_QUEUE_LEN),
            watches,
            read_points: ReadPoints::default(),
            read_buffer: RefCell::new(vec![0; READ_BYTES]),
            http2,
            began: Instant::now(),
            drain,
            links: RefCell::default(),
            links_opened: Cell::new(0),
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
        for link in self.links.borrow().values() {
            link.drain();
        }
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

    /// The time of the door's connections.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// When that time will have come.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        // What is too far away to be said is far enough away to be looked at again.
        self.began.checked_add(at).unwrap_or_else(|| Instant::now() + FAR)
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
        let mut io = TcpStream::from_std(socket)?;
        let mut input = BytesMut::new();
        let first = first_bytes(&mut io, &mut input);
        tokio::select! {
            read = tokio::time::timeout(self.config.header_timeout, first) => read??,
            () = self.draining() => return Ok(()),
        }
        if input.is_empty() {
            return Ok(());
        }
        let part = input.len().min(http2::PREFACE.len());
        if input[..part] != http2::PREFACE[..part] {
            return self.serve_http1(Rewound::new(io, input.freeze()), purpose).await;
        }
        self.serve_http2(io, input, peer, purpose).await
    }

    async fn serve_http1(
        self: Rc<Self>,
        io: Rewound,
        purpose: Purpose,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.config.header_timeout);
        let door = Rc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let door = Rc::clone(&door);
            async move {
                if purpose == Purpose::Grpc {
                    return Ok(pages::elsewhere().map(Full::new));
                }
                let target = request.uri().path_and_query().map_or("", |target| target.as_str());
                let accept = request.headers().get(ACCEPT).map(HeaderValue::as_bytes);
                let is_get = request.method() == Method::GET;
                let wanted = pages::Wanted::new(is_get, target.as_bytes(), accept);
                Ok::<_, Infallible>(pages::serve(&door, wanted).await.map(Full::new))
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            result = connection.as_mut() => return Ok(result?),
            () = self.draining() => connection.as_mut().graceful_shutdown(),
        }
        Ok(connection.await?)
    }

    async fn serve_http2(
        self: Rc<Self>,
        io: TcpStream,
        input: BytesMut,
        peer: SocketAddr,
        purpose: Purpose,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let link = Link::new(http2::Connection::new(self.now(), Arc::clone(&self.http2)));
        let number = self.links_opened.get();
        self.links_opened.set(number + 1);
        self.links.borrow_mut().insert(number, Rc::clone(&link));
        if *self.drain.borrow() {
            link.drain();
        }
        let driver = Driver::new(Rc::clone(&self), peer, purpose, io, link, input);
        // A connection bounds its turns itself.
        let outcome = tokio::task::unconstrained(driver.run()).await;
        self.links.borrow_mut().remove(&number);
        let mut io = outcome?;
        // A socket that is closed with something unread takes back what was written last.
        io.shutdown().await?;
        let rest = async {
            let mut left = LINGER_BYTES_MAX;
            let mut buffer = [0; 1024];
            while left > 0 {
                match io.read(&mut buffer).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => left = left.saturating_sub(bytes),
                }
            }
        };
        // Whether the client has heard it or not: it is over.
        let _ = tokio::time::timeout(LINGER, rest).await;
        Ok(())
    }

    /// Passes on what the member applies.
    async fn follow(self: Rc<Self>) {
        loop {
            let mut feed = self.backend.subscribe();
            Watches::missed(&self);
            // Nobody may be waiting, here and below.
            let _ = self.changes.send(None);
            while let Some(commit) = feed.recv().await {
                Watches::publish(&self, &commit);
                let _ = self.changes.send(Some(commit));
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
                for link in self.links.borrow().values() {
                    link.lost_leader();
                }
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

/// Reads until it is clear which protocol is spoken; nothing if the client leaves before.
async fn first_bytes(io: &mut TcpStream, input: &mut BytesMut) -> std::io::Result<()> {
    // No method of HTTP/1 begins like this.
    while input.len() < PROTOCOL_BYTES && http2::PREFACE.starts_with(input) {
        if io.read_buf(input).await? == 0 {
            input.clear();
            return Ok(());
        }
    }
    Ok(())
}

/// A socket of which something has been read already.
struct Rewound {
    first: Bytes,
    io: TcpStream,
}

impl Rewound {
    fn new(io: TcpStream, first: Bytes) -> Rewound {
        Rewound { first, io }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
