//! Peers: one connection to each for everything that is small, one beside it for each snapshot.
//!
//! A member dials its peers at their advertised peer URLs and sends on the connections it dialed;
//! it receives on those it accepted. So a proxy in front of a member sees all that the member is
//! sent, and a link can fail in one direction alone, as links do.
//!
//! Consensus tolerates loss, so nothing here retries: what is queued for a peer that cannot be
//! reached is dropped, and the core is told ([`Inbound::unreachable`]). Queues are bounded
//! ([`OUTBOUND_FRAMES_MAX`], [`OUTBOUND_BYTES_MAX`]); a full one drops the newest.
//!
//! *Caveat*: frames are checksummed, not authenticated. Peer ports belong on a private network.

pub(crate) mod frame;
pub(crate) mod hello;
mod inbound;
mod outbound;

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::NodeId;
use crate::core::FrameOut;
use crate::metrics::Sent;

/// Frames that may wait for one peer.
pub(crate) const OUTBOUND_FRAMES_MAX: usize = 4096;

/// And their bytes. What is dropped beyond is sent again when the peer says what it has.
pub(crate) const OUTBOUND_BYTES_MAX: usize = 64 << 20;

/// An idle connection carries an empty frame this often...
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// ...so that one that is silent for this long is known to be dead: its peer's machine went away
/// without a word, and a new process of that peer must be let in.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A stream of a snapshot that stands still for this long is given up.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(30);

/// Where what peers send goes. Called on the peer runtime; must not block.
pub(crate) trait Inbound: Send + Sync + 'static {
    /// A frame from `from`. `Err` gives it back when the core's queue is full: the transport
    /// waits and tries again, which holds the sender's TCP window.
    fn deliver(&self, from: NodeId, payload: Bytes) -> Result<(), Bytes>;

    /// `peer` could not be dialed, or its connection broke with frames under way.
    fn unreachable(&self, peer: NodeId);

    /// `peer` says that this member was removed from the cluster.
    fn removed(&self, peer: NodeId);

    /// The members, for a newcomer's question. `None` while this member has not yet applied what it knew to be
    /// committed when it started.
    fn describe(&self) -> Option<Vec<hello::DescribedMember>>;

    /// Whether `node` was a member once and is none any more.
    fn was_removed(&self, node: NodeId) -> bool;

    /// A connection on which `from` is about to stream a snapshot.
    fn snapshot(&self, from: NodeId, stream: TcpStream);
}

/// Who we are on every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) node: NodeId,
    /// Drawn at each start of the process.
    pub(crate) instance: u64,
}

/// The sending side, shared by every thread that has something for a peer.
pub(crate) struct Transport {
    identity: Identity,
    runtime: Handle,
    inbound: Arc<dyn Inbound>,
    sent: Sent,
    peers: Mutex<BTreeMap<NodeId, outbound::Peer>>,
}

impl Transport {
    /// Starts to listen; connections out are made as [`Transport::set_peers`] names them.
    pub(crate) fn start(
        identity: Identity,
        listeners: Vec<TcpListener>,
        inbound: Arc<dyn Inbound>,
        runtime: Handle,
        sent: Sent,
    ) -> io::Result<Arc<Transport>> {
        let door = Arc::new(inbound::Door::new(identity, Arc::clone(&inbound)));
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let _entered = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(Arc::clone(&door).listen(listener));
        }
        let peers = Mutex::new(BTreeMap::new());
        Ok(Arc::new(Transport { identity, runtime, inbound, sent, peers }))
    }

    /// Makes `peers` (id -> `host:port` addresses, tried in turn) the peers: connections to others
    /// are closed, changed addresses are dialed anew.
    pub(crate) fn set_peers(&self, peers: &BTreeMap<NodeId, Vec<String>>) {
        let mut current = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        current.retain(|&id, peer| {
            let stays = peers.get(&id).is_some_and(|urls| *urls == peer.addresses);
            if !stays {
                // What was on its way there may not arrive.
                self.inbound.unreachable(id);
            }
            stays
        });
        for (&id, addresses) in peers {
            if id != self.identity.node && !current.contains_key(&id) {
                let peer = outbound::Peer::spawn(
                    &self.runtime,
                    self.identity,
                    id,
                    addresses.clone(),
                    Arc::clone(&self.inbound),
                    self.sent.clone(),
                );
                current.insert(id, peer);
            }
        }
    }

    /// Queues one frame. `false`: the peer is unknown or its queue is full, and the
    /// frame is gone.
    pub(crate) fn send(&self, frame: FrameOut) -> bool {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.get(&frame.to).is_some_and(|peer| peer.send(frame.lane, frame.bytes))
    }

    /// Opens a connection of its own to `to` for a snapshot.
    pub(crate) async fn dial_snapshot(&self, to: NodeId) -> Result<TcpStream, hello::HelloError> {
        let addresses = {
            let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            peers.get(&to).map(|peer| peer.addresses.clone()).unwrap_or_default()
        };
        outbound::dial(&addresses, &self.identity.hello(to, hello::Purpose::Snapshot)).await
    }
}

impl Identity {
    fn hello(&self, to: NodeId, purpose: hello::Purpose) -> hello::Hello {
        hello::Hello {
            cluster_id: self.cluster_id,
            from: self.node.0,
            to: to.0,
            purpose: purpose as i32,
            version: hello::PROTOCOL_VERSION,
            instance: self.instance,
        }
    }
}

/// Asks whoever answers at `addresses` who is in the cluster: (cluster id, members).
pub(crate) async fn describe(
    addresses: &[String],
) -> Result<(u64, Vec<hello::DescribedMember>), hello::HelloError> {
    let hello = hello::Hello {
        purpose: hello::Purpose::Describe as i32,
        version: hello::PROTOCOL_VERSION,
        ..Default::default()
    };
    let (_, welcome) = outbound::dial_for_welcome(addresses, &hello).await?;
    Ok((welcome.cluster_id, welcome.members))
}

/// The `host:port` of a peer URL.
///
/// # Errors
/// If the URL has no host or port, or a scheme other than `http`.
pub fn address_of(url: &str) -> Result<String, String> {
    let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(format!("{url}: TLS between peers is not supported yet")),
        _ => return Err(format!("{url}: URL scheme must be http")),
    }
    let authority = uri.authority().ok_or_else(|| format!("{url}: no host"))?;
    let port = authority.port_u16().ok_or_else(|| format!("{url}: URL must have a port"))?;
    Ok(format!("{}:{port}", authority.host()))
}

/// Binds every address that `urls` name.
///
/// # Errors
/// The first that cannot be bound, with what to do about it.
pub fn bind(urls: &[String]) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for url in urls {
        let address = address_of(url)?;
        let resolved = address.to_socket_addrs().map_err(|error| format!("{url}: {error}"))?;
        let mut bound = Vec::new();
        let mut failure = None;
        for socket in resolved {
            match TcpListener::bind(socket) {
                Ok(listener) => bound.push(listener),
                Err(error) => failure = Some((socket, error)),
            }
        }
        match failure {
            Some((socket, error))
                if bound.is_empty() || error.kind() == io::ErrorKind::AddrInUse =>
            {
                return Err(format!("cannot listen on {url} ({socket}): {error}"));
            }
            _ => listeners.append(&mut bound),
        }
    }
    Ok(listeners)
}
