//! The state, streamed from member to member beside everything else.
//!
//! On a connection of its own: the message that goes with the snapshot, then chunks, then an
//! empty frame; the receiver answers with one frame when it has all of it. The sender reads from
//! a view, chunk by chunk, at the speed of the connection: neither memory nor the log's readers
//! notice. The receiver writes into a new engine file, which takes the place of the old one when
//! consensus accepts the snapshot.
//!
//! A member that was away for long may need a snapshot of each of thousands of ranges. So there are
//! two lanes to each peer, one for the range that holds all user data and one for the others, and in
//! each one stream at a time ([`Outgoing`]); what waits holds no view. A receiver takes one of each
//! kind at a time, whoever sends it, in the order in which they came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use mvcc::engine::partition::Partition;
use prost::Message as _;
use raft::{Body, LogPosition, SnapshotOutcome};
use store::{NodeId, RangeId};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

use super::ranges::FRONT_ROOT_BITS;
use super::{Event, Inbox, Limit, guard};
use crate::Engine;
use crate::core::{SnapshotOut, snapshot_message};
use crate::engines::Engines;
use crate::metrics::Metrics;
use crate::transport::{STALL_MAX, Transport, frame};
use crate::wire;

/// A stream that a receiver has no place for yet waits for so long at most.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(20);

/// Streams that may wait at a receiver: two from each of its peers, and some.
const STREAMS_MAX: usize = 32;

/// One after the other: a peer, and whether it is the range that holds all user data.
pub(super) type Lane = (NodeId, bool);

/// The lane of a snapshot.
pub(super) fn lane(out: &SnapshotOut) -> Lane {
    (out.node, out.range == RangeId::DENSE)
}

/// Snapshots that wait for their lane. There is no more than one for each replica of a peer:
/// consensus asks for no other before it was told what became of the last.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: BTreeMap<Lane, VecDeque<SnapshotOut>>,
    busy: BTreeSet<Lane>,
}

impl Outgoing {
    pub(super) fn push(&mut self, out: SnapshotOut) {
        self.waiting.entry(lane(&out)).or_default().push_back(out);
    }

    /// The next one of this lane, if it is free; it is not from now on.
    pub(super) fn next(&mut self, lane: Lane) -> Option<SnapshotOut> {
        if self.busy.contains(&lane) {
            return None;
        }
        let waiting = self.waiting.get_mut(&lane)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&lane);
        }
        self.busy.extend(next.is_some().then_some(lane));
        next
    }

    /// What was sent there is over.
    pub(super) fn free(&mut self, lane: Lane) {
        self.busy.remove(&lane);
    }
}

/// The sending side, and the files of what was received.
pub(super) struct Snapshots {
    pub(super) runtime: Handle,
    pub(super) inbox: Inbox,
    pub(super) engines: Arc<Engines>,
    pub(super) receiving: Arc<Receiving>,
}

impl Snapshots {
    /// Streams `view` to a peer, in a thread of its own, and says what became of it.
    pub(super) fn send(&self, out: SnapshotOut, view: mvcc::View, transport: Arc<Transport>) {
        let (inbox, runtime) = (self.inbox.clone(), self.runtime.clone());
        let failed = Event::SnapshotSent(out.clone(), SnapshotOutcome::Failed);
        let spawned = thread::Builder::new().name("snapshot-out".to_owned()).spawn(move || {
            let sent = guard::caught(|| runtime.block_on(stream(&out, &view, &transport)));
            let (peer, range) = (format_args!("{:x}", out.node.0), out.range.0);
            let outcome = match sent.and_then(|sent| sent) {
                Ok(position) => {
                    tracing::info!(peer, range, index = position.index.0, "sent a snapshot");
                    SnapshotOutcome::Delivered(position.index)
                }
                Err(error) => {
                    tracing::warn!(peer, range, error, "could not send a snapshot");
                    SnapshotOutcome::Failed
                }
            };
            inbox.send(Event::SnapshotSent(out, outcome));
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a snapshot");
            self.inbox.send(failed);
        }
    }

    /// It waited for too long: nobody wants it any more.
    pub(super) fn unsent(&self, out: SnapshotOut) {
        self.inbox.send(Event::SnapshotSent(out, SnapshotOutcome::Failed));
    }

    /// The staged snapshot is the state now: older files go.
    pub(super) fn installed(&self) {
        self.engines.install();
        self.receiving.dense.add_permits(1);
    }

    /// What was received of a range beside the dense one is its state now, or is not wanted: then it
    /// lies where the next one will be received, and is emptied first.
    pub(super) fn range_decided(&self) {
        self.receiving.ranges.add_permits(1);
    }

    /// The staged snapshot is not wanted.
    pub(super) fn discard(&self) {
        self.engines.discard();
        self.receiving.dense.add_permits(1);
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
    let sent = timeout(STALL_MAX, frame::write(&mut socket, &head)).await;
    sent.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
    for chunk in view.export() {
        let chunk = chunk.map_err(|error| text(&error))?;
        let sent = timeout(STALL_MAX, frame::write(&mut socket, &chunk)).await;
        sent.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
    }
    let sent = timeout(STALL_MAX, async {
        frame::write(&mut socket, &[]).await?;
        socket.flush().await
    });
    sent.await.map_err(|error| text(&error))?.map_err(|error| text(&error))?;
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
    /// The one place for a snapshot of the range that holds all user data: taken from its first
    /// byte until the core has decided about it.
    pub(super) dense: Semaphore,
    /// The same for the ranges beside it.
    pub(super) ranges: Semaphore,
    pub(super) streams: Arc<Limit>,
}

impl Receiving {
    pub(super) fn new(
        (runtime, inbox): (Handle, Inbox),
        engines: Arc<Engines>,
        limits: mvcc::Limits,
        metrics: Arc<Metrics>,
    ) -> Receiving {
        Receiving {
            runtime,
            inbox,
            engines,
            limits,
            metrics,
            dense: Semaphore::new(1),
            ranges: Semaphore::new(1),
            streams: Limit::new(STREAMS_MAX),
        }
    }

    /// Receives one snapshot in a thread of its own.
    pub(super) fn receive(self: &Arc<Self>, from: NodeId, stream: TcpStream) {
        let peer = from.0;
        let Some(place) = self.streams.acquire() else {
            tracing::warn!(
                peer = format_args!("{peer:x}"),
                "too many snapshots are on their way already"
            );
            return;
        };
        let receiving = Arc::clone(self);
        let spawned = thread::Builder::new().name("snapshot-in".to_owned()).spawn(move || {
            let _place = place;
            let taken = guard::caught(|| receiving.runtime.block_on(receiving.take(from, stream)));
            if let Err(error) = taken.and_then(|taken| taken) {
                tracing::warn!(
                    peer = format_args!("{peer:x}"),
                    error,
                    "could not receive a snapshot"
                );
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread for a snapshot");
        }
    }

    async fn take(&self, from: NodeId, mut socket: TcpStream) -> Result<(), String> {
        let head = next(&mut socket).await.map_err(text)?;
        let head = wire::pb::GroupMessage::decode(head).map_err(text)?;
        let envelope = wire::message::decode(head).map_err(text)?;
        let Body::InstallSnapshot { snapshot, .. } = &envelope.message.body else {
            return Err("the stream begins with another message".to_owned());
        };
        let (range, position) = (envelope.range, snapshot.position);
        // The core gives the place back when it has decided.
        let (place, event) = if range == RangeId::DENSE {
            let place = place(&self.dense).await?;
            let state = self.take_dense(&mut socket, position).await;
            let state = state.inspect_err(|_| self.engines.discard())?;
            (place, Event::SnapshotStaged(from, envelope, state))
        } else {
            let place = place(&self.ranges).await?;
            let state = self.take_range(&mut socket, range, position).await?;
            (place, Event::RangeSnapshotStaged(from, envelope, state))
        };
        place.forget();
        self.metrics.snapshots_received.inc();
        tracing::info!(peer = format_args!("{:x}", from.0), range = range.0, "received a snapshot");
        self.inbox.send(event);
        Ok(())
    }

    async fn take_dense(
        &self,
        socket: &mut TcpStream,
        position: LogPosition,
    ) -> Result<Box<mvcc::State<Engine>>, String> {
        let engine = Arc::new(self.engines.stage().map_err(text)?);
        import(socket, engine, self.limits, position).await
    }

    async fn take_range(
        &self,
        socket: &mut TcpStream,
        range: RangeId,
        position: LogPosition,
    ) -> Result<Box<mvcc::State<Partition<Engine>>>, String> {
        let (reply, target) = oneshot::channel();
        self.inbox.send(Event::RangeTarget(range, reply));
        let target = target.await.ok().flatten().ok_or("there is no place for it now")?;
        let limits = mvcc::Limits { front_root_bits: FRONT_ROOT_BITS, ..self.limits };
        let number = target.number();
        let state = import(socket, Arc::new(target), limits, position).await;
        // Said before the place is given to the next one.
        state.inspect_err(|_| self.inbox.send(Event::RangeImportFailed(number)))
    }
}

/// The place for a snapshot, once it is free.
async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, String> {
    let place = timeout(PLACE_WAIT_MAX, places.acquire()).await;
    let place = place.map_err(|_| "other snapshots are on their way".to_owned())?;
    place.map_err(text)
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
    frame::write(socket, b"taken").await.map_err(text)?;
    socket.flush().await.map_err(text)?;
    Ok(Box::new(state))
}

async fn next(socket: &mut TcpStream) -> io::Result<Bytes> {
    let frame = timeout(STALL_MAX, frame::read(socket)).await??;
    frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use raft::{LogIndex, ReplicaId, SendSnapshot, Session, Term};

    use super::*;

    fn out(node: u64, range: RangeId) -> SnapshotOut {
        let replica = |id| ReplicaId::new(id).unwrap();
        let send = SendSnapshot {
            to: replica(node),
            term: Term(1),
            session: Session(LogIndex(1)),
            at_least: LogIndex(1),
        };
        SnapshotOut { range, node: NodeId(node), send, from: replica(9) }
    }

    /// One at a time to each peer, and what many ranges have to send does not keep the range with all
    /// user data waiting.
    #[test]
    fn snapshots_wait_for_their_lane() {
        let mut outgoing = Outgoing::default();
        let sent = [(1, 5), (1, 6), (1, 1), (2, 7), (1, 8)];
        let mut started = Vec::new();
        for (node, range) in sent.map(|(node, range)| (node, RangeId(range))) {
            let out = out(node, range);
            let lane = lane(&out);
            outgoing.push(out);
            started.extend(outgoing.next(lane).map(|out| (out.node.0, out.range.0)));
        }
        assert_eq!(RangeId::DENSE, RangeId(1));
        assert_eq!(started, [(1, 5), (1, 1), (2, 7)]);
        let ranges = (NodeId(1), false);
        for next in [Some(6), Some(8), None] {
            outgoing.free(ranges);
            assert_eq!(outgoing.next(ranges).map(|out| out.range.0), next);
        }
    }
}
