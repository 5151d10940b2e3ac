//! A byte proxy between peers: delay, jitter, swallowing, cutting; each direction of each pair by itself.
//!
//! Member I's advertised peer URL is its proxy. Who connects is known by its address, and the proxy goes on as that
//! member's proxy, so that the other side knows it too. The proxy looks at no byte.
//!
//! Caveat: within one connection nothing can be reordered, because TCP would not. Between connections everything is:
//! each chunk is late by a time of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::net::{PEER_PORT, Slot, address, proxy_address};
use crate::differential::generate::Dice;

const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on their way in one direction: what is late is held here.
const CHUNKS_MAX: usize = 1_024;
/// How soon an idle connection notices that it is to be cut.
const LOOK: Duration = Duration::from_millis(100);
const CONNECT_BOUND: Duration = Duration::from_secs(3);

/// What is done to the bytes from one member to another.
#[derive(Debug, Default)]
pub struct Link {
    /// Each chunk is late by up to so much, and by a quarter of it at least.
    pub delay_ms: AtomicU64,
    /// Bytes vanish. A connection that lost some is closed afterwards: its rest makes no sense.
    pub swallow: AtomicBool,
    /// Chunks that were late.
    pub delayed: AtomicU64,
    /// Chunks that vanished.
    pub swallowed: AtomicU64,
}

/// The proxies of all members.
#[derive(Debug)]
pub struct Proxies {
    members: usize,
    links: Vec<Link>,
    epoch: AtomicU64,
    /// Connections that were cut.
    pub cut: AtomicU64,
    seed: u64,
}

impl Proxies {
    /// Starts them.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(members: usize, seed: u64) -> Result<Arc<Self>> {
        let links = (0..members * members).map(|_| Link::default()).collect();
        let (epoch, cut) = (AtomicU64::new(0), AtomicU64::new(0));
        let proxies = Arc::new(Self { members, links, epoch, cut, seed });
        for slot in 1..=members {
            let at = format!("{}:{PEER_PORT}", proxy_address(slot));
            let listener = TcpListener::bind(&at).await.with_context(|| at.clone())?;
            tokio::spawn(listen(Arc::clone(&proxies), listener, slot));
        }
        Ok(proxies)
    }

    /// The link from one member to another.
    #[must_use]
    pub fn link(&self, from: Slot, to: Slot) -> &Link {
        &self.links[(from - 1) * self.members + (to - 1)]
    }

    /// Closes every connection that is there now.
    pub fn cut_all(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends delays and swallowing.
    pub fn heal(&self) {
        for link in &self.links {
            link.delay_ms.store(0, Ordering::SeqCst);
            link.swallow.store(false, Ordering::SeqCst);
        }
    }
}

async fn listen(proxies: Arc<Proxies>, listener: TcpListener, to: Slot) {
    for number in 0_u64.. {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let Some(from) = slot_of(peer.ip(), proxies.members) else { continue };
        tokio::spawn(carry(Arc::clone(&proxies), stream, from, to, number));
    }
}

fn slot_of(ip: IpAddr, members: usize) -> Option<Slot> {
    (1..=members).find(|slot| ip.to_string() == address(*slot))
}

async fn connect(from: Slot, to: Slot) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let own: IpAddr = proxy_address(from).parse()?;
    socket.bind(SocketAddr::new(own, 0))?;
    let there: IpAddr = address(to).parse()?;
    let there = SocketAddr::new(there, PEER_PORT);
    Ok(tokio::time::timeout(CONNECT_BOUND, socket.connect(there)).await??)
}

/// One connection, until one of its four ends ends.
async fn carry(proxies: Arc<Proxies>, near: TcpStream, from: Slot, to: Slot, number: u64) {
    let Ok(far) = connect(from, to).await else { return };
    let _best_effort = (near.set_nodelay(true), far.set_nodelay(true));
    let epoch = proxies.epoch.load(Ordering::SeqCst);
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let there = pump(&proxies, near_in, far_out, (from, to), (epoch, number));
    let back = pump(&proxies, far_in, near_out, (to, from), (epoch, number));
    let _ended_or_broken = tokio::try_join!(there, back);
}

/// A connection that is to be closed in both directions at once.
struct Broken;

/// One direction. Its end is passed on once everything before it has arrived, however late that is.
async fn pump(
    proxies: &Proxies,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    (source, sink): (Slot, Slot),
    (epoch, number): (u64, u64),
) -> Result<(), Broken> {
    let link = proxies.link(source, sink);
    let stream = number ^ ((source as u64) << 40) ^ ((sink as u64) << 48);
    let dice = Dice::new(proxies.seed, stream);
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let take = take(proxies, link, from, sender, dice, epoch);
    tokio::try_join!(take, give(to, receiver)).map(|_| ())
}

type Late = (Instant, Vec<u8>);

async fn take(
    proxies: &Proxies,
    link: &Link,
    mut from: OwnedReadHalf,
    sender: mpsc::Sender<Late>,
    mut dice: Dice,
    epoch: u64,
) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut torn = false;
    loop {
        let read = tokio::time::timeout(LOOK, from.read(&mut buffer)).await;
        if proxies.epoch.load(Ordering::SeqCst) != epoch {
            proxies.cut.fetch_add(1, Ordering::Relaxed);
            return Err(Broken);
        }
        let swallow = link.swallow.load(Ordering::SeqCst);
        if torn && !swallow {
            return Err(Broken);
        }
        let length = match read {
            Err(_) => continue,
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(length)) => length,
            Ok(Err(_)) => return Err(Broken),
        };
        if swallow {
            torn = true;
            link.swallowed.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let late_ms = match link.delay_ms.load(Ordering::SeqCst) {
            0 => 0,
            most => {
                link.delayed.fetch_add(1, Ordering::Relaxed);
                most / 4 + dice.below(most - most / 4 + 1)
            }
        };
        let due = Instant::now() + Duration::from_millis(late_ms);
        sender.send((due, buffer[..length].to_vec())).await.map_err(|_| Broken)?;
    }
}

async fn give(mut to: OwnedWriteHalf, mut receiver: mpsc::Receiver<Late>) -> Result<(), Broken> {
    while let Some((due, bytes)) = receiver.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        to.write_all(&bytes).await.map_err(|_| Broken)?;
    }
    to.shutdown().await.map_err(|_| Broken)
}
