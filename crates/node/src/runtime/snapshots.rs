//! The state, streamed from member to member beside everything else.
//!
//! On a connection of its own: the message that goes with the snapshot, then chunks, then an
//! empty frame; the receiver answers with one frame when it has all of it. The sender reads from
//! a view, chunk by chunk, at the speed of the connection: neither memory nor the log's readers
//! notice. The receiver writes into a new engine file, which takes the place of the old one when
//! consensus accepts the snapshot. A receiver takes one snapshot at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::partition::Partition;
use prost::Message as _;
use raft::{Body, LogPosition, SnapshotOutcome};
use store::{Envelope, NodeId, RangeId};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ranges::FRONT_ROOT_BITS;
use super::{Event, Inbox};
use crate::Engine;
use crate::core::{SnapshotOut, snapshot_message};
use crate::engines::Engines;
use crate::metrics::Metrics;
use crate::transport::{Transport, frame};
use crate::wire;

/// A stream of a snapshot that stands still for this long is given up.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The sending side, and the files of what was received.
pub(super) struct Snapshots {
    pub(super) runtime: Handle,
    pub(super) inbox: Inbox,
    pub(super) engines: Arc<Engines>,
    pub(super) receiving: Arc<Receiving>,
}

impl Snapshots {
    /// Streams `view` to a peer, in a thread of its own.
    pub(super) fn send(&self, out: SnapshotOut, view: mvcc::View, transport: Arc<Transport>) {
        let (inbox, runtime) = (self.inbox.clone(), self.runtime.clone());
        let (range, to, node) = (out.range, out.send.to, out.node);
        let failed = move |inbox: &Inbox| {
            inbox.send(Event::SnapshotSent(range, to, SnapshotOutcome::Failed));
        };
        let spawned = thread::Builder::new().name("snapshot-out".to_owned()).spawn({
            let inbox = inbox.clone();
            move || match runtime.block_on(stream(&out, &view, &transport)) {
                Ok(position) => {
                    let peer = format_args!("{:x}", node.0);
                    tracing::info!(peer, index = position.index.0, "sent a snapshot");
                    let outcome = SnapshotOutcome::Delivered(position.index);
                    inbox.send(Event::SnapshotSent(range, to, outcome));
                }
                Err(error) => {
                    let peer = format_args!("{:x}", node.0);
                    tracing::warn!(peer, %error, "could not send a snapshot");
                    failed(&inbox);
                }
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a snapshot");
            failed(&inbox);
        }
    }

    /// The staged snapshot is the state now: older files go.
    pub(super) fn installed(&self) {
        self.engines.install();
        self.receiving.busy.store(false, Ordering::Release);
    }

    /// What was received of a range beside the dense one is its state now, or is not wanted: then it
    /// lies where the next one will be received, and is emptied first.
    pub(super) fn range_decided(&self) {
        self.receiving.busy.store(false, Ordering::Release);
    }

    /// The staged snapshot is not wanted.
    pub(super) fn discard(&self) {
        self.engines.discard();
        self.receiving.busy.store(false, Ordering::Release);
    }
}

async fn stream(
    out: &SnapshotOut,
    view: &mvcc::View,
    transport: &Transport,
) -> Result<LogPosition, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (position, head) = snapshot_message(out, view)?;
    let head = wire::message::encode(head).encode_to_vec();
    let mut socket = transport.dial_snapshot(out.node).await.map_err(|error| text(&error))?;
    frame::write(&mut socket, &head).await.map_err(|error| text(&error))?;
    for chunk in view.export() {
        let chunk = chunk.map_err(|error| text(&error))?;
        let sent = timeout(STALL_MAX, frame::write(&mut socket, &chunk)).await;
        sent.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
    }
    frame::write(&mut socket, &[]).await.map_err(|error| text(&error))?;
    socket.flush().await.map_err(|error| text(&error))?;
    match timeout(STALL_MAX, frame::read(&mut socket)).await {
        Ok(Ok(Some(_))) => Ok(position),
        Ok(Ok(None)) => Err("the peer did not take it".to_owned()),
        Ok(Err(error)) => Err(text(&error)),
        Err(error) => Err(text(&error)),
    }
}

/// The receiving side.
pub(super) struct Receiving {
    pub(super) runtime: Handle,
    pub(super) inbox: Inbox,
    pub(super) engines: Arc<Engines>,
    pub(super) limits: mvcc::Limits,
    pub(super) metrics: Arc<Metrics>,
    /// A snapshot is on its way, or waits for the core's decision.
    pub(super) busy: AtomicBool,
}

impl Receiving {
    /// Receives one snapshot in a thread of its own, unless one is on its way already.
    pub(super) fn receive(self: &Arc<Self>, from: NodeId, stream: TcpStream) {
        if self.busy.swap(true, Ordering::AcqRel) {
            tracing::info!(peer = format_args!("{:x}", from.0), "a snapshot is on its way already");
            return;
        }
        let receiving = Arc::clone(self);
        let spawned = thread::Builder::new().name("snapshot-in".to_owned()).spawn(move || {
            let peer = format_args!("{:x}", from.0);
            match receiving.runtime.block_on(receiving.take(stream)) {
                Ok((envelope, staged)) => {
                    receiving.metrics.snapshots_received.inc();
                    let range = envelope.range.0;
                    let event = match staged {
                        Staged::Dense(state) => Event::SnapshotStaged(from, envelope, state),
                        Staged::Other(state) => Event::RangeSnapshotStaged(from, envelope, state),
                    };
                    tracing::info!(peer, range, "received a snapshot");
                    receiving.inbox.send(event);
                }
                Err(error) => {
                    tracing::warn!(peer, error, "could not receive a snapshot");
                    receiving.engines.discard();
                    receiving.busy.store(false, Ordering::Release);
                }
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a snapshot");
            self.busy.store(false, Ordering::Release);
        }
    }

    async fn take(&self, mut socket: TcpStream) -> Result<(Envelope, Staged), String> {
        let head = next(&mut socket).await.map_err(text)?;
        let head = wire::pb::GroupMessage::decode(head).map_err(text)?;
        let envelope = wire::message::decode(head).map_err(text)?;
        let Body::InstallSnapshot { snapshot, .. } = &envelope.message.body else {
            return Err("the stream begins with another message".to_owned());
        };
        let position = snapshot.position;
        let staged = if envelope.range == RangeId::DENSE {
            let engine = Arc::new(self.engines.stage().map_err(text)?);
            Staged::Dense(import(&mut socket, engine, self.limits, position).await?)
        } else {
            let (reply, target) = oneshot::channel();
            self.inbox.send(Event::RangeTarget(envelope.range, reply));
            let target = target.await.ok().flatten().ok_or("there is no place for it now")?;
            let limits = mvcc::Limits { front_root_bits: FRONT_ROOT_BITS, ..self.limits };
            Staged::Other(import(&mut socket, Arc::new(target), limits, position).await?)
        };
        frame::write(&mut socket, b"taken").await.map_err(text)?;
        socket.flush().await.map_err(text)?;
        Ok((envelope, staged))
    }
}

/// A state that was received.
enum Staged {
    Dense(Box<mvcc::State<Engine>>),
    Other(Box<mvcc::State<Partition<Engine>>>),
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Takes chunks until the empty one, into an engine or a part of one.
async fn import<E: mvcc::engine::Engine>(
    socket: &mut TcpStream,
    engine: Arc<E>,
    limits: mvcc::Limits,
    position: LogPosition,
) -> Result<Box<mvcc::State<E>>, String> {
    let mut import = mvcc::Import::begin(engine, limits).map_err(text)?;
    loop {
        let chunk = next(socket).await.map_err(text)?;
        if chunk.is_empty() {
            break;
        }
        import.push(&chunk).map_err(text)?;
    }
    let state = import.finish().map_err(text)?;
    let applied = state.applied();
    if LogPosition::new(applied.index, applied.term) != position {
        return Err(format!("the message says {position}, the state {applied:?}"));
    }
    Ok(Box::new(state))
}

async fn next(socket: &mut TcpStream) -> io::Result<Bytes> {
    let frame = timeout(STALL_MAX, frame::read(socket)).await??;
    frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
