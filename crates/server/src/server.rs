//! The server: its sockets, its doors, its end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::backend::Backend;
use crate::config::Config;
use crate::door::{Accepted, Door, Drain, Load, Purpose};
use crate::listen::{ListenError, listen};
use crate::metrics::Metrics;
use crate::scratch;

/// Connections on their way to a door.
const HANDOVER_LEN: usize = 128;

/// How long accepting rests when the system has no file descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Threads of one door that read large ranges and snapshots.
const BLOCKING_THREADS_MAX: usize = 8;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A URL cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The directory for snapshots cannot be made or cleared.
    #[error("the directory for snapshots, {}: {source}", .path.display())]
    SnapshotDir {
        /// Which.
        path: std::path::PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The system has no thread, or no event queue, for it.
    #[error("cannot start a thread of the server: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running server. Dropping it stops it without waiting; see [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    client_addresses: Vec<SocketAddr>,
    http_addresses: Vec<SocketAddr>,
    metrics_addresses: Vec<SocketAddr>,
    drain: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens, and serves what comes with `backend`.
    ///
    /// # Errors
    /// If a URL cannot be listened on or a thread cannot be started; nothing is left behind
    /// then.
    pub fn start<B: Backend>(config: Config, backend: B) -> Result<Server, StartError> {
        let path = config.snapshot_dir.clone();
        scratch::clear(&path).map_err(|source| StartError::SnapshotDir { path, source })?;
        let clients = match config.listen_http_urls.is_empty() {
            true => Purpose::Clients,
            false => Purpose::Grpc,
        };
        let mut listeners = Vec::new();
        for (urls, purpose) in [
            (&config.listen_client_urls, clients),
            (&config.listen_http_urls, Purpose::Http),
            (&config.listen_metrics_urls, Purpose::Metrics),
        ] {
            for url in urls {
                listeners.push((listen(url)?, purpose));
            }
        }
        let addresses = |wanted| -> Result<Vec<SocketAddr>, std::io::Error> {
            let of_purpose = listeners.iter().filter(|(_, purpose)| *purpose == wanted);
            of_purpose.map(|(listener, _)| listener.local_addr()).collect()
        };
        let client_addresses = addresses(clients)?;
        let http_addresses = addresses(Purpose::Http)?;
        let metrics_addresses = addresses(Purpose::Metrics)?;

        let mut registry = Registry::default();
        Metrics::describe(&mut registry, &backend.status(), backend.standing());
        backend.register_metrics(&mut registry);
        let metrics = Arc::new(Metrics::new(registry, config.extensive_metrics));

        let config = Arc::new(config);
        let (drain, draining) = watch::channel(false);
        let threads = Vec::new();
        let mut server =
            Server { client_addresses, http_addresses, metrics_addresses, drain, threads };
        let mut doors = Vec::new();
        for number in 0..config.doors.get() {
            let (sender, incoming) = mpsc::channel(HANDOVER_LEN);
            let load = Load::default();
            doors.push((sender, Arc::clone(&load)));
            let door = Setup {
                number,
                backend: backend.clone(),
                config: Arc::clone(&config),
                metrics: Arc::clone(&metrics),
                drain: draining.clone(),
                load,
                incoming,
            };
            server.threads.push(door.start()?);
        }
        server.threads.push(Acceptor { listeners, doors, drain: draining }.start()?);
        Ok(server)
    }

    /// Where clients are listened to, in the order of the URLs; with the real port where a URL
    /// has 0.
    #[must_use]
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Where plain HTTP alone is listened to, in the order of the settings.
    #[must_use]
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http_addresses
    }

    /// Where metrics are listened to.
    #[must_use]
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// Stops accepting, ends the streams, lets running calls finish for as long as the settings
    /// allow, and returns when it is done.
    pub fn shutdown(mut self) {
        self.drain.send_replace(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the server panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.send_replace(true);
    }
}

/// What a door's thread starts with.
struct Setup<B> {
    number: usize,
    backend: B,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    drain: Drain,
    load: Load,
    incoming: mpsc::Receiver<Accepted>,
}

impl<B: Backend> Setup<B> {
    fn start(self) -> std::io::Result<JoinHandle<()>> {
        let runtime = || {
            Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .build_local(LocalOptions::default())
        };
        in_thread(format!("door-{}", self.number), runtime, move || async move {
            let Setup { number, backend, config, metrics, drain, load, incoming } = self;
            let seed = seed(number);
            Door::new(backend, config, metrics, drain, load, seed).run(incoming).await;
        })
    }
}

/// Different for every door and at every start.
fn seed(number: usize) -> u64 {
    use std::hash::BuildHasher as _;
    std::hash::RandomState::new().hash_one(number)
}

/// Runs `work` in a runtime of its own in a thread of its own. What still runs in the runtime
/// when `work` is done is dropped.
fn in_thread<W, F>(
    name: String,
    runtime: impl FnOnce() -> std::io::Result<tokio::runtime::LocalRuntime> + Send + 'static,
    work: W,
) -> std::io::Result<JoinHandle<()>>
where
    W: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    std::thread::Builder::new().name(name).spawn(move || match runtime() {
        Ok(runtime) => {
            runtime.block_on(work());
            runtime.shutdown_background();
        }
        Err(error) => tracing::error!(%error, "cannot start a runtime of the server"),
    })
}

/// Accepts for all doors and deals the connections out.
struct Acceptor {
    listeners: Vec<(TcpListener, Purpose)>,
    doors: Vec<(mpsc::Sender<Accepted>, Load)>,
    drain: Drain,
}

impl Acceptor {
    fn start(self) -> std::io::Result<JoinHandle<()>> {
        let runtime =
            || Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        in_thread("acceptor".to_owned(), runtime, move || async move {
            let Acceptor { listeners, doors, mut drain } = self;
            for (listener, purpose) in listeners {
                tokio::task::spawn_local(accept(listener, purpose, doors.clone()));
            }
            drop(doors);
            // An error means that the server is gone without a word.
            let _ = drain.wait_for(|drain| *drain).await;
        })
    }
}

async fn accept(
    listener: TcpListener,
    purpose: Purpose,
    doors: Vec<(mpsc::Sender<Accepted>, Load)>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "cannot accept connections");
            return;
        }
    };
    loop {
        let accepted = match listener.accept().await {
            Ok((socket, peer)) => {
                socket.into_std().map(|socket| Accepted { socket, peer, purpose })
            }
            Err(error) => Err(error),
        };
        match accepted {
            Ok(accepted) => deal(&doors, accepted).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Gives a connection to the door with the fewest; the first of those that have equally few.
async fn deal(doors: &[(mpsc::Sender<Accepted>, Load)], accepted: Accepted) {
    let Some((door, load)) = doors.iter().min_by_key(|(_, load)| load.load(Ordering::Relaxed))
    else {
        return;
    };
    load.fetch_add(1, Ordering::Relaxed);
    if door.send(accepted).await.is_err() {
        // The door has closed: the server stops.
        load.fetch_sub(1, Ordering::Relaxed);
    }
}
