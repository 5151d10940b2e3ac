//! Two tasks for each peer, one a lane: dial, say hello, write frames until the connection breaks, again.
//!
//! Entries may fill a slow link for seconds. Stores that do not hear of each other for less withdraw the support that
//! leaders rest on, so what they say to each other has a connection of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::hello::{self, Hello, HelloError, Purpose, Welcome};
use super::{
    Identity, Inbound, KEEPALIVE_INTERVAL, OUTBOUND_BYTES_MAX, OUTBOUND_FRAMES_MAX, frame,
};
use crate::NodeId;
use crate::core::Lane;
use crate::metrics::Sent;

const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Frames up to this many bytes are gathered into one write.
const GATHER_BYTES: usize = 256 << 10;

/// The sending end of one peer's tasks; dropping it ends them.
pub(super) struct Peer {
    pub(super) addresses: Vec<String>,
    first: Way,
    bulk: Way,
}

/// A lane, and its task.
struct Way {
    queue: mpsc::Sender<Bytes>,
    /// Of the frames in the queue.
    bytes: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub(super) fn spawn(
        runtime: &Handle,
        identity: Identity,
        id: NodeId,
        addresses: Vec<String>,
        inbound: Arc<dyn Inbound>,
        sent: Sent,
    ) -> Peer {
        let hello = identity.hello(id, Purpose::Messages);
        let way = || {
            let (queue, frames) = mpsc::channel(OUTBOUND_FRAMES_MAX);
            let bytes = Arc::new(AtomicUsize::new(0));
            let frames = Queue { frames, bytes: Arc::clone(&bytes) };
            let (addresses, hello) = (addresses.clone(), hello.clone());
            let (inbound, sent) = (Arc::clone(&inbound), sent.clone());
            let task = runtime.spawn(run(id, addresses, hello, frames, inbound, sent));
            Way { queue, bytes, task }
        };
        let (first, bulk) = (way(), way());
        Peer { addresses, first, bulk }
    }

    pub(super) fn send(&self, lane: Lane, payload: Bytes) -> bool {
        match lane {
            Lane::First => self.first.send(payload),
            Lane::Bulk => self.bulk.send(payload),
        }
    }
}

impl Way {
    fn send(&self, payload: Bytes) -> bool {
        let length = payload.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        // One frame is taken whatever its length.
        let has_room = before == 0 || before + length <= OUTBOUND_BYTES_MAX;
        let sent = has_room && self.queue.try_send(payload).is_ok();
        if !sent {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
        }
        sent
    }
}

/// The receiving end.
struct Queue {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn taken(&self, frame: Option<Bytes>) -> Option<Bytes> {
        frame.inspect(|frame| {
            self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        })
    }

    async fn recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await;
        self.taken(frame)
    }

    fn try_recv(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok();
        self.taken(frame)
    }
}

async fn run(
    id: NodeId,
    addresses: Vec<String>,
    hello: Hello,
    mut frames: Queue,
    inbound: Arc<dyn Inbound>,
    sent: Sent,
) {
    let mut backoff = BACKOFF_MIN;
    let mut complained = false;
    loop {
        // Whether anything that was sent may not have arrived.
        let mut lost = false;
        match dial(&addresses, &hello).await {
            Ok(stream) => {
                tracing::info!(peer = format_args!("{:x}", id.0), "connected to peer");
                backoff = BACKOFF_MIN;
                complained = false;
                lost = true;
                if let Err(error) = pump(stream, &mut frames, &sent).await {
                    tracing::warn!(peer = format_args!("{:x}", id.0), %error, "lost peer");
                }
                if frames.frames.is_closed() {
                    return;
                }
            }
            Err(HelloError::Removed) => inbound.removed(id),
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(peer = format_args!("{:x}", id.0), %error, "cannot reach peer");
            }
            Err(_) => {}
        }
        // What waited is stale by the time there is a connection again.
        while frames.try_recv().is_some() {
            lost = true;
        }
        if lost {
            inbound.unreachable(id);
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Writes frames until the connection breaks or the peer is dropped. The peer never sends on
/// this connection, so a read that returns tells that it has gone.
async fn pump(stream: TcpStream, frames: &mut Queue, sent: &Sent) -> io::Result<()> {
    let (mut gone, mut out) = stream.into_split();
    let mut gather = BytesMut::with_capacity(GATHER_BYTES);
    let mut probe = [0; 1];
    loop {
        let payload = tokio::select! {
            payload = frames.recv() => payload,
            _ = gone.read(&mut probe) => return Err(io::ErrorKind::ConnectionReset.into()),
            () = sleep(KEEPALIVE_INTERVAL) => Some(Bytes::new()),
        };
        let Some(mut payload) = payload else { return Ok(()) };
        loop {
            gather.put_slice(&frame::header(&payload)?);
            sent.frames.inc();
            sent.bytes.inc_by((frame::HEADER_BYTES + payload.len()) as u64);
            if payload.len() > GATHER_BYTES {
                out.write_all(&gather).await?;
                gather.clear();
                out.write_all(&payload).await?;
            } else {
                gather.put_slice(&payload);
            }
            if gather.len() > GATHER_BYTES {
                break;
            }
            match frames.try_recv() {
                Some(next) => payload = next,
                None => break,
            }
        }
        out.write_all(&gather).await?;
        gather.clear();
    }
}

/// A peer that has heard nothing for so long lets the connection go, and may be unable to say so. What is sent again
/// and again in vain, at ever longer intervals, would be so for as long as the link was cut once it is there again: a
/// new connection is made instead.
#[cfg(target_os = "linux")]
fn give_up_when_unheard(stream: &TcpStream, hello: &Hello) -> io::Result<()> {
    let messages = hello.purpose == Purpose::Messages as i32;
    let unheard_max = if messages { super::SILENCE_MAX } else { super::STALL_MAX };
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(unheard_max))
}

#[cfg(not(target_os = "linux"))]
fn give_up_when_unheard(_: &TcpStream, _: &Hello) -> io::Result<()> {
    Ok(())
}

/// Connects to the first of `addresses` that answers, and says hello.
pub(super) async fn dial(addresses: &[String], hello: &Hello) -> Result<TcpStream, HelloError> {
    dial_for_welcome(addresses, hello).await.map(|(stream, _)| stream)
}

pub(super) async fn dial_for_welcome(
    addresses: &[String],
    hello: &Hello,
) -> Result<(TcpStream, Welcome), HelloError> {
    let mut last = HelloError::Io(io::Error::new(
        io::ErrorKind::NotFound,
        "the peer has no address that can be dialed",
    ));
    for address in addresses {
        let attempt = async {
            let mut stream = TcpStream::connect(address.as_str()).await?;
            stream.set_nodelay(true)?;
            give_up_when_unheard(&stream, hello)?;
            let welcome = hello::call(&mut stream, hello).await?;
            Ok::<_, HelloError>((stream, welcome))
        };
        match timeout(DIAL_TIMEOUT, attempt).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = error,
            Err(_) => last = HelloError::Io(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}
